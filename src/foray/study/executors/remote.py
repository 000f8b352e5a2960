"""Nodes in processes of other machines: how a node runs there, and how it tells of its progress.

All messages go through the store, which lies where every machine sees it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foray.core.cores import cores, use_threads
from foray.core.files import read_json, write_json
from foray.core.machine import machine
from foray.core.process import keep_freed_memory
from foray.study.executors.run_node import run_node
from foray.study.node import Node
from foray.study.store import Store
from foray.study.study_command import StudyCommand

TELL_SECONDS = 1.0  # between two progress messages
SEE_SECONDS = 90.0  # until every machine sees a new file: NFS may answer from its cache for a minute


def run_remotely(command: StudyCommand, key: str, threads: int, check: Callable[[], None] = lambda: None) -> list[str]:
    """Runs a node whose parents are done, unless the node is done by now. Returns its flags.

    Reports progress and calls ``check`` at every step. Where another process still works on the node (its machine was
    taken for dead), waits for that process.
    """
    os.chdir(command.folder)
    keep_freed_memory()
    store, told = Store(Path(command.store), machine(list(command.machine))), -math.inf
    use_threads(store.machine.threads or min(threads, cores()))

    def report(**values: Any) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_SECONDS:
            tell(store, key, values)
            told = time.monotonic()
        check()

    node = command.node(key)
    run_node(node, store, report, patience=math.inf)
    return node.health(store)


def tell(store: Store, key: str, values: dict[str, Any]) -> None:
    """Writes a message about a node to the place where the driver reads it."""
    path = _place(store, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, values)


def _place(store: Store, key: str) -> Path:
    return store.root / "progress" / f"{key}.json"


class News:
    """The driver's end: the messages about nodes since the driver last read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.heard: dict[str, int] = {}

    def of(self, node: Node) -> dict[str, Any] | None:
        path = _place(self.store, node.key)
        try:
            changed = path.stat().st_mtime_ns
            if self.heard.get(node.key) == changed:
                return None
            self.heard[node.key] = changed
            return dict(read_json(path))
        except OSError:
            return None

    def forget(self, node: Node) -> None:
        """Deletes the message about a node that begins or has ended."""
        _place(self.store, node.key).unlink(missing_ok=True)


def await_results(nodes: Sequence[Node], store: Store) -> None:
    """Waits until this machine sees the results that other machines have finished."""
    deadline = time.monotonic() + SEE_SECONDS
    while unseen := [n for n in nodes if not n.done(store)]:
        if time.monotonic() > deadline:
            raise ValueError(
                f"{len(unseen)} nodes were finished elsewhere and are not in {store.root} here: the store must lie "
                "on a file system that all machines share"
            )
        time.sleep(0.5)
