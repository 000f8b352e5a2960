"""The local executor: workers on one store run what is missing, parents before children; then the report is written."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from rich.console import Console

from foray import __version__
from foray.core.files import read_json, seal, write_atomic
from foray.core.machine import use_gpu
from foray.core.memory import keep_freed_memory
from foray.core.stage import Rollouts
from foray.rollout.engine import EngineDied
from foray.study.cost import node_cost
from foray.study.graph import Entry, Graph, expand
from foray.study.measures import ContaminationNode, PassKNode
from foray.study.nodes import ImportNode, Node, TrainNode
from foray.study.progress import Show, shown
from foray.study.settings import prompt_rows, recipe_rows, seed_rows
from foray.study.spec import Study
from foray.study.store import Store, provenance

_NOMINAL_RATE = 5e10  # FLOPs a second, to weigh nodes against each other
_DEATHS = 2  # of workers that one node may cost before the run gives up


def run_study(study: Study, store: Store, console: Console, jobs: int = 1, part: str | None = None) -> Path:
    """Computes every missing node with ``jobs`` worker processes and writes the report; returns its ``index.html``.

    Only the nodes of one ``part`` where it is named; the report is of all that is there.

    Raises ValueError with the node's own message when one fails; what is done stays done.
    """
    with store.lock():
        graph = expand(study, part)
        missing = [n for n in graph.nodes if not n.done(store)]
        console.print(f"{len(graph.nodes)} nodes, {len(graph.nodes) - len(missing)} done, {len(missing)} to run")
        for node in missing:
            node.check()
        if missing:
            _run_missing(missing, store, console, study.data.vocab_size, max(1, min(jobs, len(missing))))
        return report_study(study, store, redraw=bool(missing))


def run_node(node: Node, store: Store, report: Any = lambda **_: None) -> Path:
    """Runs one node whose parents are done, and seals its folder."""
    folder = store.open(node.kind, node.key, node.spec)
    begun = time.monotonic()
    node.run(folder, store, report)
    write_atomic(folder / "health.json", json.dumps(node.flags(folder)) + "\n")
    seal(folder, label=node.label(), seconds=round(time.monotonic() - begun, 3))
    return folder


def report_study(study: Study, store: Store, redraw: bool = True, axis: str = "tokens") -> Path:
    """Writes the manifest and the report of what is there; without ``redraw`` only if it would differ.

    Drawn against another ``axis`` (of ``foray.report.AXES``) it has a folder of its own.
    """
    from foray.report import write_report

    graph = expand(study)
    text = json.dumps(manifest_of(study, graph), indent=1) + "\n"
    present = sorted(n.key for n in graph.nodes if n.done(store))
    out = store.root / ("report" if axis == "tokens" else f"report-{axis}")
    drawn_from, state = out / "drawn_from.json", {"manifest": text, "present": present, "version": __version__}
    if not redraw and drawn_from.exists() and read_json(drawn_from) == state:
        return out / "index.html"
    write_atomic(store.root / "manifest.json", text)
    drawn_from.unlink(missing_ok=True)
    index = write_report(store.root / "manifest.json", out, axis)
    write_atomic(drawn_from, json.dumps(state) + "\n")
    return index


def manifest_of(study: Study, graph: Graph) -> dict[str, Any]:
    """What the report needs to know of a study: each result's folder and the study's name for it."""
    return {
        "study": study.name,
        "model_parameters": _parameters(study),
        "k": list(study.evaluation.k),
        "notes": list(study.notes),
        "provenance": provenance(),
        "settings": {"recipes": recipe_rows(study), "seeds": seed_rows(study), "prompts": prompt_rows(study)},
        # An imported checkpoint has no log of its training to report.
        "entries": [_entry(e, study) for e in graph.entries if not isinstance(e.node, ImportNode)],
    }


def _parameters(grid: Study) -> int:
    return replace(grid.model, vocab_size=grid.model.vocab_size or grid.data.vocab_size).parameters


def _entry(entry: Entry, study: Study) -> dict[str, Any]:
    node, grid = entry.node, entry.grid
    out: dict[str, Any] = {
        "kind": node.kind,
        "folder": f"nodes/{node.kind}-{node.key}",
        "part": entry.part,
        "pretrain_seed": entry.pretrain_seed,
        "tokens": entry.tokens,
        "recipe": entry.recipe,
        "stage_step": entry.stage_step,
        "final": entry.final,
        "seed": entry.seed,
    }
    if grid.pretrain.mix:
        out["mix"] = grid.pretrain.mix
    if _parameters(grid) != _parameters(study):
        out["model_parameters"] = _parameters(grid)
    if entry.recipe != "base":
        out["trained_on"] = grid.post.rl.source.task.name
    if grid.evaluation.split != study.evaluation.split:
        out["split"] = grid.evaluation.split
    if entry.variant:
        out |= {"variant": entry.variant, "own": entry.own, "against": entry.against}
    if isinstance(node, PassKNode):
        out |= {"task": node.task.name, "shots": node.shots} | _rollouts(node)
    if isinstance(node, ContaminationNode):
        out |= {"task": node.task.name, "trained_on": node.trained.name}
    if isinstance(node, TrainNode):
        out |= {"stage": entry.stage}
    return out


def _rollouts(node: PassKNode) -> dict[str, Any]:
    """Of a model inside or at the end of one stage of RL alone: rollouts a prompt and prompts so far."""
    made = node.checkpoint
    if not isinstance(made, TrainNode) or len(made.stage.streams) > 1:
        return {}
    source = getattr(made.stage.streams[0][1], "source", None)
    if not isinstance(source, Rollouts):
        return {}
    draws = -(-made.step // source.updates_per_draw)
    screen = {"screen": [source.screen.low, source.screen.high]} if source.screen else {}
    return {"rollouts": source.group_size, "examples": draws * source.prompts} | screen


def _run_missing(missing: list[Node], store: Store, console: Console, vocab_size: int, jobs: int) -> None:
    cost = {n.key: node_cost(n, vocab_size).seconds(_NOMINAL_RATE) for n in missing}
    waiting = _by_urgency(missing, cost)
    deaths: Counter[str] = Counter()
    with _workers(missing, store, jobs) as workers, shown(console, cost) as show:
        finished: set[str] = set()
        while waiting or any(w.node for w in workers):
            for worker in workers:
                if worker.node is None:
                    if waiting and not worker.process.is_alive():  # killed while it had nothing to do
                        worker.how_it_ended()
                        with show.paused():
                            worker.start(workers)
                    _hand_out(worker, waiting, {n.key for n in missing} - finished, show)
            for channel in wait([w.channel for w in workers if w.node]):
                worker = next(w for w in workers if w.channel is channel)
                node = worker.node
                assert node is not None
                try:
                    kind, value = worker.channel.recv()
                except (EOFError, ConnectionResetError):
                    kind, value = "died", ""
                if kind == "died":  # the worker, or, as it said before it went, the engine it sampled with
                    deaths[node.key] += 1
                    how = worker.how_it_ended()
                    how = value or how
                    if deaths[node.key] > _DEATHS:
                        raise ValueError(
                            f"{node.label()}: {deaths[node.key]} workers died of it ({how}); "
                            "the same command goes on from here"
                        )
                    show.lost(node, how)
                    with show.paused():
                        worker.start(workers)
                    waiting.insert(0, node)  # goes on from its last rolling checkpoint
                    continue
                if kind == "progress":
                    show.progress(node, value)
                elif kind == "failed":
                    raise ValueError(f"{node.label()}: {value}")
                elif kind == "interrupted":
                    raise KeyboardInterrupt
                else:
                    show.end(node, read_json(node.folder(store) / "health.json"))
                    finished.add(node.key)
                    worker.node = None


def _hand_out(worker: _Process, waiting: list[Node], unfinished: set[str], show: Show) -> None:
    """Gives the worker the most urgent node whose parents are done, if there is one."""
    for node in waiting:
        if not any(p.key in unfinished for p in node.parents()):
            waiting.remove(node)
            worker.node = node
            worker.channel.send(node.key)
            show.begin(node)
            return


def _by_urgency(missing: list[Node], cost: dict[str, float]) -> list[Node]:
    """Nodes on the costliest path to an end first: what others wait for must not wait."""
    urgency = {n.key: cost[n.key] for n in missing}
    for node in reversed(missing):  # children come after their parents
        for parent in node.parents():
            if parent.key in urgency:
                urgency[parent.key] = max(urgency[parent.key], cost[parent.key] + urgency[node.key])
    return sorted(missing, key=lambda n: -urgency[n.key])


class _Process:
    """A worker process and the driver's end of the pipe to it."""

    channel: Connection
    process: ForkProcess

    def __init__(self, nodes: list[Node], store: Store, threads: int, number: int) -> None:
        self.work = (nodes, store, threads, number)
        self.node: Node | None = None

    def start(self, workers: Iterable[_Process]) -> None:
        """Starts the process, anew where one has died; ``workers`` are all that run, this one or not."""
        # Forked, so that a worker starts at once, shares the memory of what is imported, and knows the nodes, also
        # those that a user's study file defines. No thread runs now.
        context = multiprocessing.get_context("fork")
        self.node = None
        self.channel, theirs = context.Pipe()
        # A child that held a driver's end of a pipe would never see the driver go.
        drivers_ends = [self.channel, *(w.channel for w in workers if w is not self)]
        self.process = context.Process(target=_work, args=(theirs, *self.work, drivers_ends), daemon=True)
        self.process.start()
        theirs.close()

    def how_it_ended(self) -> str:
        self.channel.close()
        self.process.join()
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return "killed; if nobody did so by hand, memory ran out: try fewer --jobs"
        return signal.strsignal(-code) or str(code) if code is not None and code < 0 else f"exit code {code}"


@contextmanager
def _workers(nodes: list[Node], store: Store, jobs: int) -> Iterator[list[_Process]]:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = int(asked) if asked.isdecimal() else max(1, (os.cpu_count() or 1) // jobs)
    workers: list[_Process] = []
    for number in range(jobs):
        workers.append(_Process(nodes, store, threads, number))
        workers[-1].start(workers)
    try:
        yield workers
    finally:
        for w in workers:
            w.process.kill()  # at rest or abandoned: what a node has on disk is whole or passed over
            w.process.join()


def _die_with_driver() -> None:
    """A worker ends the moment its driver does, however that ended: it holds the store's lock with it."""
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _work(
    channel: Connection, nodes: list[Node], store: Store, threads: int, number: int, drivers_ends: list[Connection]
) -> None:
    for end in drivers_ends:
        end.close()
    _die_with_driver()
    keep_freed_memory()
    import torch

    torch.set_num_threads(threads)
    if store.machine.device != "cpu":
        use_gpu(number)
    by_key = {n.key: n for n in nodes}
    try:
        while True:
            node = by_key[channel.recv()]
            try:
                run_node(node, store, lambda **values: channel.send(("progress", values)))
                channel.send(("done", None))
            except EngineDied as e:
                channel.send(("died", str(e)))
                return
            except (ValueError, OSError) as e:
                channel.send(("failed", str(e)))
    except KeyboardInterrupt:
        channel.send(("interrupted", None))
    except (EOFError, BrokenPipeError):
        return  # the driver is gone
