"""The order in which nodes start, the most urgent first, and the response to each event: local, Ray and Slurm.

Under torchrun the processes go through the graph level by level instead (``torchrun.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from rich.console import Console

from foray.core.cores import asked_threads
from foray.core.process import FULL
from foray.core.terminal import failure
from foray.rollout.engine import EngineDied
from foray.study.graph import by_urgency
from foray.study.node import Node
from foray.study.progress import Show
from foray.study.store import Store

_DEATHS = 2  # workers that may die of one node before the run gives up


class Executor(Protocol):
    """A way of running nodes. Results do not depend on the executor."""

    def run(self, missing: Sequence[Node], store: Store, console: Console, cost: Mapping[str, float]) -> None:
        """Runs all nodes, parents (which come first) before children. ``cost`` weighs nodes by key.

        Raises ValueError with the node's own message when one fails.
        """

    def threads_here(self, store: Store) -> int:
        """Threads that a node has on this machine; 0 where nodes run elsewhere."""


Kind = Literal["progress", "done", "failed", "died", "lost", "interrupted"]


class Event(NamedTuple):
    """What happened to a node at work. ``value``: its report's values, its flags, or the reason in words."""

    node: Node
    kind: Kind
    value: Any = None


def outcome(run: Callable[..., list[str]], *arguments: Any) -> tuple[Kind, Any]:
    """Runs a node in this process; returns the kind and the value of the event that ends it."""
    try:
        return "done", run(*arguments)
    except EngineDied as e:
        return "died", str(e)
    except (ValueError, OSError) as e:
        return "failed", failure(e)
    except MemoryError:
        return "failed", f"{FULL}: try fewer --jobs"


class Pool(Protocol):
    """Where nodes run: processes of this machine, tasks or jobs of a cluster."""

    def room(self) -> bool:
        """Whether another node can start."""

    def start(self, node: Node, show: Show) -> None:
        """Starts a node whose parents are done. ``show`` is there to be paused."""

    def events(self) -> list[Event]:
        """The events since the last call. Waits a while where there are none."""


def drive(missing: Sequence[Node], cost: Mapping[str, float], pool: Pool, show: Show) -> None:
    """Runs all nodes in the pool, side by side where their parents are done."""
    waiting = by_urgency(missing, cost)
    unfinished = {n.key for n in missing}
    deaths: Counter[str] = Counter()
    while unfinished:
        while pool.room() and (node := _next(waiting, unfinished)) is not None:
            pool.start(node, show)
            show.begin(node)
        show.beat()
        for node, kind, value in pool.events():
            if kind == "progress":
                show.progress(node, value)
            elif kind == "done":
                show.end(node, value)
                unfinished.remove(node.key)
            elif kind == "failed":
                raise ValueError(f"{node.label()}: {value}")
            elif kind == "interrupted":
                raise KeyboardInterrupt
            else:
                deaths[node.key] += kind == "died"  # "lost" is the machine's fault and does not count
                if deaths[node.key] > _DEATHS:
                    raise ValueError(
                        f"{node.label()}: {deaths[node.key]} workers died of it ({value}); "
                        "the same command goes on from here"
                    )
                show.lost(node, value)
                waiting.insert(0, node)  # goes on from its last rolling checkpoint


def _next(waiting: list[Node], unfinished: set[str]) -> Node | None:
    """Takes the most urgent node whose parents are done, if there is one."""
    for node in waiting:
        if not any(p.key in unfinished for p in node.parents()):
            waiting.remove(node)
            return node
    return None


def threads_each(jobs: int, cores: int, asked: int = 0) -> int:
    """Threads of a node where ``jobs`` share ``cores``. Results are equal to the bit at the same number.

    As many as were ``asked`` for; else the node's share of the cores, or fewer where ``OMP_NUM_THREADS`` says so.
    """
    share = max(1, cores // jobs)
    return asked or min(asked_threads() or share, share)


def crowding(jobs: int, threads: int, cores: int, asked: int, ranks: int = 1) -> str:
    """A line where more threads were asked for than there are cores; else nothing."""
    of_node, omp = max(threads, ranks), asked_threads()
    if jobs * of_node > cores:
        return (
            f"{jobs * of_node} threads ({jobs} at a time of {of_node}) share the {cores} cores that may be used here "
            "and wait for each other: --jobs, --machine threads and ranks set them"
        )
    if omp > threads and not asked:
        return (
            f"OMP_NUM_THREADS={omp} is taken as {threads}, a node's share of the {cores} cores that may be used here; "
            f"--machine threads={omp} gives every node {omp}"
        )
    return ""
