"""Nodes as Slurm jobs, through submitit: an array for every level of the graph, waiting for the jobs of its parents.

The command watches its jobs and writes the report. It may leave: the jobs go on without it, and the same command typed
again watches those that are left and submits what has no job.
"""

from __future__ import annotations

import getpass
import math
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from foray.core.canonical import nearest, require
from foray.core.files import read_json, write_json
from foray.study.executors.remote import SEE_SECONDS, News, run_remotely, tell
from foray.study.executors.schedule import Event, crowding, drive, outcome, threads_each
from foray.study.graph import levels
from foray.study.node import Node
from foray.study.preemption import Preempted, preemptible
from foray.study.progress import Show, say, shown
from foray.study.store import Store
from foray.study.study_command import StudyCommand

POLL_SECONDS = 2.0  # between two looks at the store
QUEUE_SECONDS = 15.0  # between two at the queue
WAIT_SECONDS = 600.0  # after SIGTERM, for Slurm to end the job

# A node whose job runs out of time goes on in the next job, so the time limit only matters to the queue.
DEFAULTS: dict[str, Any] = {"time": 240, "cpus_per_task": 1}
TIMES = 1000  # timeouts that a job may have
OURS = ("additional_parameters", "dependency", "job_name", "nodes", "ntasks_per_node", "num_gpus", "srun_args")


class SlurmExecutor:
    """``settings`` are KEY=VALUE by submitit's names: partition, account, time (minutes), cpus_per_task, mem, ...

    They hold for every job. ``jobs`` is how many of a level run at a time.
    """

    def __init__(self, command: StudyCommand, settings: Sequence[str] = (), jobs: int | None = None) -> None:
        parameters = DEFAULTS | ({"array_parallelism": jobs} if jobs else {}) | _parsed(settings)
        cores = parameters["cpus_per_task"]
        self.parameters = parameters | {
            "job_name": "foray",
            "srun_args": [f"--cpus-per-task={cores}"],  # srun does not inherit it from the job
            # No job waits for ever for a node that failed.
            "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes"},
        }
        self.job = NodeJob(command, threads_each(1, cores, command.threads))
        self.crowding = crowding(1, self.job.threads, cores, command.threads)
        self.folder = Path(command.store) / "slurm"  # of scripts and logs

    def threads_here(self, store: Store) -> int:
        return 0

    def run(self, missing: Sequence[Node], store: Store, console: Console, cost: Mapping[str, float]) -> None:
        say(console, self.crowding)
        news, queue = News(store), _Queue()
        record = self.folder / "jobs.json"
        known: dict[str, str] = read_json(record) if record.exists() else {}
        known = {key: job for key, job in known.items() if job in queue}  # of other commands in the store, too
        jobs = {n.key: known[n.key] for n in missing if known.get(n.key) in queue}  # asks Slurm in any case
        if jobs:
            console.print(f"{len(jobs)} nodes have jobs in the queue already", highlight=False)
        sizes = Counter[str]()  # of the arrays that this command submits
        for level in levels([n for n in missing if n.key not in jobs]):
            for node in level:
                news.forget(node)
            ids = self._submit(level, _of_parents(level, jobs, sizes))
            sizes[_array(ids[0])] = len(ids)
            jobs |= {n.key: job for n, job in zip(level, ids)}
            write_json(record, known | jobs, indent=1)  # at once: this command may be killed
            console.print(f"{len(level)} nodes submitted as job {_array(ids[0])}", highlight=False)
        with shown(console, missing, cost, workers=0, timed=False) as show:  # the queue decides
            drive(missing, cost, _Jobs(jobs, news, self.folder), show)

    def _submit(self, level: Sequence[Node], after: Sequence[str]) -> list[str]:
        """An array that starts when the jobs ``after`` have all done their work; the job of every node."""
        executor = _submitit().SlurmExecutor(self.folder, max_num_timeout=TIMES)
        executor.update_parameters(**self.parameters, **_dependency(after))
        try:
            return [job.job_id for job in executor.map_array(self.job, [n.key for n in level])]
        except _submitit().core.utils.FailedJobError as e:  # sbatch has refused
            raise ValueError(f"Slurm takes no such job: {str(e).strip().splitlines()[-1]}") from None

    def scripts(self, missing: Sequence[Node]) -> str:
        """The scripts that would be submitted."""
        slurm = _submitit().slurm.slurm
        out = []
        for number, level in enumerate(levels(missing), 1):
            parameters = self.parameters | _dependency([f"LEVEL_{number - 1}"] if number > 1 else [])
            count = {"map_count": len(level)} if len(level) > 1 else {}
            command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(self.folder)])
            out.append(f"# --- level {number}: {'; '.join(n.label() for n in level)}")
            out.append(slurm._make_sbatch_string(command, self.folder, **parameters, **count))
        return "\n".join(out)


class NodeJob:
    """A job: it runs one node. On a signal it saves the node's state and is queued again."""

    def __init__(self, command: StudyCommand, threads: int) -> None:
        self.command, self.threads = command, threads

    def __call__(self, key: str) -> None:
        try:
            with preemptible(signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2) as check:
                kind, value = outcome(run_remotely, self.command, key, self.threads, check)
        except Preempted as e:
            (asked,) = e.args
        else:
            if kind != "done":
                tell(Store(Path(self.command.store)), key, {"failed": value})
                raise ValueError(value)  # ends the jobs that wait for this one
            return
        if asked == signal.SIGTERM:
            # Slurm is about to end the job: for good (scancel), or to start it again elsewhere.
            time.sleep(WAIT_SECONDS)
        # All is saved and submitit's own handler is back: it queues the job again.
        signal.raise_signal(_submitit().JobEnvironment()._usr_sig())

    def checkpoint(self, key: str) -> Any:
        """submitit asks here what the requeued job runs: the same node, which goes on from the store."""
        return _submitit().helpers.DelayedSubmission(self, key)


class _Queue:
    """The user's jobs that wait or run, read from squeue every QUEUE_SECONDS."""

    def __init__(self) -> None:
        self.jobs: set[str] = set()
        self.seen = -math.inf

    def __contains__(self, job: object) -> bool:
        if time.monotonic() - self.seen > QUEUE_SECONDS:
            command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]
            try:
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            except FileNotFoundError:
                raise ValueError("there is no Slurm here (no squeue): use a machine that submits jobs") from None
            except subprocess.CalledProcessError as e:
                raise ValueError(f"Slurm does not answer: {e.stderr.strip()}") from None
            self.jobs, self.seen = set(said.split()), time.monotonic()
        return job in self.jobs


class _Jobs:
    """The pool of jobs. Slurm has all of them from the start and starts them; this pool watches."""

    def __init__(self, jobs: Mapping[str, str], news: News, logs: Path) -> None:
        self.jobs, self.queue, self.news, self.logs = jobs, _Queue(), news, logs
        self.running: list[Node] = []
        self.gone: dict[str, float] = {}

    def room(self) -> bool:
        return True

    def start(self, node: Node, show: Show) -> None:
        self.running.append(node)

    def events(self) -> list[Event]:
        out = [event for node in self.running if (event := self._event(node)) is not None]
        for event in out:
            if event.kind == "done":
                self.running.remove(event.node)
        if not out:
            time.sleep(POLL_SECONDS)
        return out

    def _event(self, node: Node) -> Event | None:
        if node.done(self.news.store):
            self.news.forget(node)
            return Event(node, "done", node.health(self.news.store))
        told, job = self.news.of(node), self.jobs[node.key]
        if told and "failed" in told:
            return Event(node, "failed", told["failed"])
        if told:
            return Event(node, "progress", told)
        if job in self.queue:
            self.gone.pop(node.key, None)
        elif time.monotonic() - self.gone.setdefault(node.key, time.monotonic()) > SEE_SECONDS:
            log = self.logs / f"{job}_0_log.err"
            return Event(node, "failed", f"its job {job} has ended without a result: see {log}, or `sacct -j {job}`")
        return None


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise ValueError("--executor slurm needs submitit: pip install -e '.[slurm]' in Foray's folder") from None
    return submitit


def _array(job: str) -> str:
    """The array of a job 12_3: 12."""
    return job.partition("_")[0]


def _of_parents(level: Sequence[Node], jobs: Mapping[str, str], sizes: Mapping[str, int]) -> list[str]:
    """The jobs that hold parents of a level's nodes.

    An array stands for its tasks where it is new and all of them hold parents. Of an older array some tasks may have
    failed, and what waits for all of it would never start.
    """
    tasks: dict[str, set[str]] = {}
    for job in (jobs[p.key] for node in level for p in node.parents() if p.key in jobs):
        tasks.setdefault(_array(job), set()).add(job)
    whole = {array for array, of in tasks.items() if sizes.get(array) == len(of)}
    return sorted(whole.union(*(of for array, of in tasks.items() if array not in whole)))


def _dependency(after: Sequence[str]) -> dict[str, str]:
    return {"dependency": f"afterok:{':'.join(after)}"} if after else {}


def _parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Settings of a job by name. Raises ValueError for a name or value that Slurm would not understand."""
    known = [key for key in _submitit().SlurmExecutor._valid_parameters() if key not in OURS]
    out: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        require(bool(equals and value), f"--slurm {text}: write KEY=VALUE, such as partition=gpu")
        require(key in known, f"--slurm {text}: submitit knows no setting {key!r}{nearest(key, known)}")
        whole = value.isdecimal()
        require(whole or key not in ("time", "cpus_per_task"), f"--slurm {text}: write a whole number")
        out[key] = int(value) if whole else [value] if key in ("setup", "teardown") else value
    return out
