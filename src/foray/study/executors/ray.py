"""Nodes as tasks of a Ray cluster whose machines share the store's file system."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from foray.core.cores import cores
from foray.study.executors.remote import News, await_results, run_remotely
from foray.study.executors.schedule import Event, crowding, drive, outcome, threads_each
from foray.study.node import Node
from foray.study.progress import Show, say, shown
from foray.study.store import Store
from foray.study.study_command import StudyCommand

POLL_SECONDS = 0.5


class RayExecutor:
    """``jobs`` nodes at a time on every machine, each with its share of the cores.

    ``address`` is a cluster's; without one Ray looks for ``RAY_ADDRESS`` and else starts on this machine.
    """

    def __init__(self, command: StudyCommand, jobs: int, address: str | None = None) -> None:
        self.command, self.jobs, self.address = command, jobs, address

    def threads_here(self, store: Store) -> int:
        return 0

    def run(self, missing: Sequence[Node], store: Store, console: Console, cost: Mapping[str, float]) -> None:
        with _connected(self.address) as ray:
            alone = not (self.address or os.environ.get("RAY_ADDRESS"))
            pool = _Tasks(ray, self.command, store, self.jobs, alone)
            beside = max(1, min(self.jobs, pool.cores // pool.threads))
            say(console, crowding(beside, pool.threads, pool.cores, self.command.threads))
            try:
                with shown(console, missing, cost, pool.places()) as show:
                    drive(missing, cost, pool, show)
            finally:
                pool.stop()
        await_results(missing, store)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise ValueError("--executor ray needs Ray: pip install -e '.[ray]' in Foray's folder") from None
    mine = not ray.is_initialized()
    if mine:
        address = address or os.environ.get("RAY_ADDRESS")
        before = signal.getsignal(signal.SIGTERM)
        try:
            _reach(address or "")
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            signal.signal(signal.SIGTERM, before)  # Ray replaces the handler
        except (OSError, RuntimeError, ValueError) as e:
            raise ValueError(f"no Ray cluster can be joined at {address}: {_line(e)}") from None
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def _reach(address: str) -> None:
    """Raises OSError where nobody answers; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


class _Tasks:
    """The pool of tasks. Ray retries none itself: ``drive`` decides for all executors whether a node runs again."""

    def __init__(self, ray: Any, command: StudyCommand, store: Store, jobs: int, alone: bool = False) -> None:
        self.ray, self.command, self.news = ray, command, News(store)
        self.alone = alone  # Ray was started here, and may count cores that this process may not use
        self.cores = min(self._cores(), default=1)
        self.threads = threads_each(jobs, self.cores, command.threads)
        self.gpus = int(any(self._machines("GPU")))
        self.task = ray.remote(max_retries=0, scheduling_strategy="SPREAD")(_run)
        self.running: dict[Any, Node] = {}
        if not self.places():
            raise ValueError(f"no machine of the Ray cluster has {self.threads} cores: set --machine threads lower")

    def _machines(self, resource: str) -> list[float]:
        """The amount of a resource on each machine that takes tasks."""
        alive = [n["Resources"] for n in self.ray.nodes() if n["Alive"]]
        return [r.get(resource, 0.0) for r in alive if r.get("CPU")]

    def _cores(self) -> list[int]:
        """Of each machine."""
        counts = [int(count) for count in self._machines("CPU")]
        return [min(counts[0], cores())] if self.alone and len(counts) == 1 else counts

    def places(self) -> int:
        return sum(count // self.threads for count in self._cores())

    def room(self) -> bool:
        return len(self.running) < self.places()

    def start(self, node: Node, show: Show) -> None:
        self.news.forget(node)
        # A node that trains on several ranks would take a placement group here, with a bundle for each of them.
        gpus = self.gpus if node.on_card else 0
        task = self.task.options(num_cpus=self.threads, num_gpus=gpus, name=node.label())
        self.running[task.remote(self.command, node.key, self.threads)] = node

    def events(self) -> list[Event]:
        if not self.running:  # every machine is gone, and others may join
            time.sleep(POLL_SECONDS)
            return []
        ended, _ = self.ray.wait(list(self.running), timeout=POLL_SECONDS)
        told = [(node, self.news.of(node)) for node in self.running.values()]
        out = [Event(node, "progress", values) for node, values in told if values]
        for task in ended:
            node = self.running.pop(task)
            self.news.forget(node)
            out.append(Event(node, *self._outcome(task)))
        return out

    def _outcome(self, task: Any) -> Any:
        try:
            return self.ray.get(task)
        except self.ray.exceptions.NodeDiedError:
            return "lost", "its machine is gone"
        except self.ray.exceptions.RayError as e:  # the worker died, or ended with an error that no user can mend
            return "died", _line(e)

    def stop(self) -> None:
        """Ends the running tasks. Files of an unfinished node are whole, or are ignored."""
        for task in self.running:
            self.ray.cancel(task, force=True)


def _run(command: StudyCommand, key: str, threads: int) -> tuple[str, Any]:
    """Runs in a Ray worker; returns an event's kind and value."""
    return outcome(run_remotely, command, key, threads)


def _line(error: BaseException) -> str:
    """The last line of Ray's long message: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
