"""One node on several ranks of this machine: processes that are forked for the node and end with it.

The process that forks never computes: a process that has used a GPU or computed in threads cannot fork. On a machine
with several ranks every node therefore runs in children: one child, or as many as there are ranks.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

import torch

from foray.core.cores import use_threads
from foray.core.files import Damaged
from foray.core.machine import use_gpu
from foray.core.process import die_with_parent
from foray.core.scratch import inside
from foray.core.terminal import failure
from foray.rollout.engine import EngineDied
from foray.study.node import Node, Report, carry_out
from foray.study.preemption import Preempted
from foray.study.store import Store
from foray.train.ranks import join
from foray.train.sharding import preload

# What a rank raised, by the kind of its message; the parent raises it again with the same arguments.
_RAISED: dict[str, Callable[..., BaseException]] = {
    "preempted": Preempted,
    "damaged": Damaged,
    "failed": ValueError,
    "full": torch.OutOfMemoryError,
    "engine": EngineDied,
}
_LAST_WORDS = 1.0  # seconds after one rank's end in which the others may report


def run_on_ranks(node: Node, folder: Path, store: Store, report: Report) -> None:
    """Fills ``folder`` as ``node.run`` would, in children: one a rank where ranks can compute the node together.

    Raises what the first rank that fails raised: ValueError, Damaged, OutOfMemoryError, EngineDied. Where a rank dies,
    the others are stopped and this process dies in the same way, so that the parent sees its worker die.
    """
    ranks = store.machine.ranks if node.on_ranks else 1
    if ranks > 1:
        preload()
    with inside(folder, "meeting") as meeting:
        children: list[_Child] = []
        try:
            for rank in range(ranks):
                work = _work(node, folder, store, rank, ranks, meeting / "store")
                children.append(_Child(work, [c.channel for c in children]))
            code = _watch(children, report)
        finally:
            for child in children:
                child.stop()
    if code:
        _die_as(code)


class _Child:
    """A forked process and this end of its pipe. (Workers are daemons, and multiprocessing lets no daemon fork.)"""

    def __init__(self, work: Callable[[Connection], None], siblings: list[Connection]) -> None:
        self.channel, theirs = multiprocessing.Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.code: int | None = None  # as subprocess has it: minus the signal that ended it
        self.pid = os.fork()
        if self.pid == 0:
            for end in (self.channel, *siblings):  # an open end here would hide the end of the parent
                end.close()
            work(theirs)
        theirs.close()

    def stop(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()

    def ended(self) -> int:
        """Waits for the end; returns the exit code."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.channel.close()
        return self.code


def _watch(children: list[_Child], report: Report) -> int:
    """Passes on rank 0's reports until all are done. Returns 0, or the exit code of the first rank that died."""
    working = list(children)
    while working:
        for child in _heard(working, None):
            try:
                kind, value = child.channel.recv()
            except (EOFError, ConnectionResetError):
                return _how_one_died(child, working)
            if kind == "progress":
                try:
                    report(**value)
                except Preempted as e:
                    child.channel.send(e.args[0])  # the child reads this at its next step, and all ranks save
            elif kind == "done":
                working.remove(child)
            elif kind in _RAISED:
                raise _RAISED[kind](*value)
            else:
                return _how_one_died(child, working, value)
    return 0


def _heard(children: list[_Child], seconds: float | None) -> list[_Child]:
    ready = wait([c.channel for c in children], seconds)
    return [c for c in children if c.channel in ready]


def _how_one_died(child: _Child, working: list[_Child], broken: str = "") -> int:
    """The exit code of a rank that a signal ended, if there is one; the others broke only because that rank is gone."""
    deadline = time.monotonic() + _LAST_WORDS
    codes = [0 if broken else child.ended()]
    others = [c for c in working if c is not child]
    while others and min(codes) >= 0 and time.monotonic() < deadline:
        for other in _heard(others, _LAST_WORDS):
            others.remove(other)
            try:
                kind, value = other.channel.recv()
                if kind in _RAISED:
                    raise _RAISED[kind](*value)
            except (EOFError, ConnectionResetError):
                codes.append(other.ended())
    if min(codes) >= 0 and broken:
        sys.stderr.write(broken)
    return min(codes) or max(codes) or 1


def _die_as(code: int) -> NoReturn:
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(abs(code))


def _work(
    node: Node, folder: Path, store: Store, rank: int, ranks: int, meeting: Path
) -> Callable[[Connection], NoReturn]:
    """What a child does, from its birth to its end."""

    def work(channel: Connection) -> NoReturn:
        code = 1
        try:
            die_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and stops this process
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _join(store, rank, ranks, meeting)

            def report(**values: object) -> None:
                channel.send(("progress", values))
                if channel.poll():
                    raise Preempted(channel.recv())

            carry_out(node, folder, store, report)
            channel.send(("done", None))
            code = 0
        except Preempted as e:
            channel.send(("preempted", e.args))
        except Damaged as e:
            channel.send(("damaged", (e.folder, e.what)))
        except (ValueError, OSError) as e:
            channel.send(("failed", (failure(e),)))
        except torch.OutOfMemoryError as e:
            channel.send(("full", (str(e),)))
        except EngineDied as e:
            channel.send(("engine", (str(e),)))
        except Exception:  # any error; a peer's death looks like one too
            channel.send(("broke", traceback.format_exc()))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # without the parent's own clean-up

    return work


def _join(store: Store, rank: int, ranks: int, meeting: Path) -> None:
    use_threads(max(1, torch.get_num_threads() // ranks))
    if ranks > 1:
        join(store.machine, rank, ranks, meeting)
    elif store.machine.device == "cuda":
        use_gpu(0)
