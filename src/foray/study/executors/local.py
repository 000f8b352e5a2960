"""Nodes in worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from rich.console import Console

from foray.core.cores import cores, use_threads
from foray.core.machine import use_gpu
from foray.core.process import die_with_parent, keep_freed_memory
from foray.study.executors.run_node import run_node
from foray.study.executors.schedule import Event, crowding, drive, outcome, threads_each
from foray.study.node import Node
from foray.study.progress import Show, say, shown
from foray.study.store import Store

_LOOK_SECONDS = 5.0  # without an event, until the display may say what is at work
_LAST_SECONDS = 10.0  # for a worker to end by itself


class LocalExecutor:
    """``jobs`` worker processes, each with its share of the cores."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, missing: Sequence[Node], store: Store, console: Console, cost: Mapping[str, float]) -> None:
        # Threads are those of all jobs, also where few nodes are left: results depend on them.
        threads = self.threads_here(store)
        jobs = max(1, min(self.jobs, len(missing)))
        say(console, crowding(jobs, threads, cores(), store.machine.threads, store.machine.ranks))
        with _workers(missing, store, jobs, threads) as pool, shown(console, missing, cost, jobs) as show:
            drive(missing, cost, pool, show)

    def threads_here(self, store: Store) -> int:
        return threads_each(self.jobs, cores(), store.machine.threads)


class _Process:
    """A worker process and the driver's end of the pipe to it."""

    channel: Connection
    process: ForkProcess

    def __init__(self, nodes: Sequence[Node], store: Store, threads: int, number: int) -> None:
        self.work = (nodes, store, threads, number)
        self.node: Node | None = None

    def start(self, workers: Sequence[_Process]) -> None:
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

    def heard(self) -> Event:
        """The worker's message about its node, or how the worker ended."""
        node = self.node
        assert node is not None
        try:
            kind, value = self.channel.recv()
        except (EOFError, ConnectionResetError):
            kind, value = "died", self._how_it_ended()
        else:
            if kind == "died":  # its engine did, and the process is about to end too
                self._ended()
        if kind != "progress":
            self.node = None
        return Event(node, kind, value)

    def _ended(self) -> int | None:
        """Closes the channel and waits for the end of the process; returns the exit code."""
        self.channel.close()
        self.process.join(_LAST_SECONDS)
        self.process.kill()  # files of an unfinished node are whole, or are ignored
        self.process.join()
        return self.process.exitcode

    def _how_it_ended(self) -> str:
        code = self._ended()
        if code == -signal.SIGKILL:
            return "killed; if nobody did so by hand, memory ran out: try fewer --jobs"
        return signal.strsignal(-code) or str(code) if code is not None and code < 0 else f"exit code {code}"


class _Workers:
    """The pool of processes."""

    def __init__(self, workers: list[_Process]) -> None:
        self.workers = workers

    def room(self) -> bool:
        return any(w.node is None for w in self.workers)

    def start(self, node: Node, show: Show) -> None:
        worker = next(w for w in self.workers if w.node is None)
        if not worker.process.is_alive():  # its last node killed it, or it was killed at rest
            worker.channel.close()
            with show.paused():
                worker.start(self.workers)
        worker.node = node
        with suppress(BrokenPipeError, ConnectionResetError):  # died just now, as its end of the channel will say
            worker.channel.send(node.key)

    def events(self) -> list[Event]:
        ready = wait([w.channel for w in self.workers if w.node], _LOOK_SECONDS)
        return [w.heard() for w in self.workers if w.channel in ready]


@contextmanager
def _workers(nodes: Sequence[Node], store: Store, jobs: int, threads: int) -> Iterator[_Workers]:
    workers: list[_Process] = []
    for number in range(jobs):
        workers.append(_Process(nodes, store, threads, number))
        workers[-1].start(workers)
    try:
        yield _Workers(workers)
    finally:
        for w in workers:
            w.process.kill()  # files of an unfinished node are whole, or are ignored
            w.process.join()


def _work(
    channel: Connection,
    nodes: Sequence[Node],
    store: Store,
    threads: int,
    number: int,
    drivers_ends: Sequence[Connection],
) -> None:
    for end in drivers_ends:
        end.close()
    die_with_parent()  # a child keeps the store's lock open with the driver
    keep_freed_memory()
    use_threads(threads)
    if store.machine.device != "cpu":
        use_gpu(number, store.machine.ranks)
    by_key = {n.key: n for n in nodes}

    def run_here(node: Node) -> list[str]:
        run_node(node, store, lambda **values: channel.send(("progress", values)))
        return node.health(store)

    try:
        while True:
            kind, value = outcome(run_here, by_key[channel.recv()])
            channel.send((kind, value))
            if kind == "died":  # and this process with its engine
                return
    except KeyboardInterrupt:
        channel.send(("interrupted", None))
    except (EOFError, BrokenPipeError):
        return  # the driver is gone
