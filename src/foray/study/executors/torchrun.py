"""A study by processes that torchrun starts, on one machine or several that share the store's file system.

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m foray run STUDY ...

Every process goes through the same graph. Nodes that train are trained by all together; the others are shared out, a
level of the graph at a time. Rank 0 alone locks the store, shows progress and seals what is trained together.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from rich.console import Console

from foray.core.canonical import require
from foray.core.cores import cores, use_threads
from foray.study.executors.compute import compute
from foray.study.executors.remote import await_results
from foray.study.executors.run_node import run_node
from foray.study.executors.schedule import crowding, outcome, threads_each
from foray.study.graph import expand, levels
from foray.study.manifest import manifest_of, report_study
from foray.study.node import Node, carry_out
from foray.study.progress import Show, say, shown
from foray.study.spec import Study
from foray.study.store import Store
from foray.study.study_command import StudyCommand, remember
from foray.study.to_run import check_before, to_run
from foray.train.ranks import all_gather, from_first, is_first, join, numbers_in_turn


def run_together(
    study: Study, store: Store, console: Console, part: str | None, command: StudyCommand | None = None
) -> Path:
    """Does what ``run_study`` does, by all processes. Every process but rank 0 ends here."""
    require(store.machine.ranks == 1, "under torchrun the ranks are its processes: leave ranks out of --machine")
    # At once: a rank that waits for another runs no handler.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    threads = threads_each(here, cores(), store.machine.threads)
    use_threads(threads)
    join(store.machine, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    with store.lock() if is_first() else nullcontext():
        if command is not None and is_first():
            remember(command, store.root)
        graph = expand(study, part)
        quiet = console if is_first() else Console(file=io.StringIO())
        say(quiet, crowding(here, threads, cores(), store.machine.threads))
        keys = from_first(lambda: {n.key for n in to_run(graph, store, quiet)})
        missing = [n for n in graph.nodes if n.key in keys]
        quiet.print(f"{len(graph.nodes)} nodes, {len(graph.nodes) - len(missing)} done, {len(missing)} to run")
        check_before(study, missing)
        # By the files as the nodes are asked for: a file may change once its tokens are sealed.
        content = manifest_of(study, graph if part is None else expand(study)) if is_first() else None
        compute(missing, graph, store, quiet, TorchrunExecutor(threads))
        all_gather(None)  # no rank leaves while another may still read from it
        dist.destroy_process_group()
        if os.environ["RANK"] != "0":
            leave(0)
        return report_study(study, store, redraw=bool(missing), content=content)


def leave(code: int) -> NoReturn:
    """Ends a process of torchrun's without Python's way out.

    Gloo's threads live as long as anything (a sharded model's mesh, say) refers to their group. One that lets go of
    its last message after Python's end has begun aborts the process, and torchrun then kills the others.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class TorchrunExecutor:
    """An executor for the processes of one group: each calls ``run`` with the same nodes and has ``threads``."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def threads_here(self, store: Store) -> int:
        return self.threads

    def run(self, missing: Sequence[Node], store: Store, console: Console, cost: Mapping[str, float]) -> None:
        workers = 1 if dist.get_world_size() == 1 else 0  # this rank hears nothing of the others' nodes
        with shown(console, missing, cost, workers) as show:
            for level in levels(missing):
                alone = sorted((n for n in level if not n.on_ranks), key=lambda n: -cost[n.key])
                self._share_out(alone, store, show)
                for node in level:
                    if node.on_ranks:
                        _train(node, store, show)
                all_gather(None)  # all ranks have done their part of the level
                await_results(level, store)

    def _share_out(self, nodes: Sequence[Node], store: Store, show: Show) -> None:
        """The costliest first, each to the rank that is free first."""
        failed = ""
        for number in numbers_in_turn(len(nodes)):
            if failed := _failure(_run, nodes[number], store, show):
                break
        failures = [text for text in all_gather(failed) if text]
        require(not failures, failures[0] if failures else "")


def _train(node: Node, store: Store, show: Show) -> None:
    failed = _failure(_run if is_first() else _help, node, store, show)
    require(not failed, failed)


def _failure(run: Callable[..., list[str]], node: Node, store: Store, show: Show) -> str:
    """Runs a node. Why it failed, for the user; empty where it is done."""
    kind, value = outcome(run, node, store, show)
    return "" if kind == "done" else f"{node.label()}: {value}"


def _run(node: Node, store: Store, show: Show) -> list[str]:
    def report(**values: Any) -> None:
        show.progress(node, values)

    show.begin(node)
    run_node(node, store, report)
    flags = node.health(store)
    show.end(node, flags)
    return flags


def _help(node: Node, store: Store, _: Show) -> list[str]:
    carry_out(node, node.folder(store), store, lambda **_: None)
    return []
