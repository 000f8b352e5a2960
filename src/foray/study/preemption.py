"""Signals that ask a node to make room: it ends its step and saves what it has, or is cut short after a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 45.0  # Slurm's warning comes 90 s before the end: half to end a step, half to save


class Preempted(BaseException):
    """``args[0]`` is the signal. No Exception, so that nothing in a node's way takes it for an error of its own."""


@contextmanager
def preemptible(*signals: int, grace: float = GRACE_SECONDS) -> Iterator[Callable[[], None]]:
    """After a signal inside, calling what is yielded raises Preempted; without a call in ``grace`` seconds it is raised
    wherever the process is, as safely as a kill: what a node has on disk is whole or passed over.

    For the main thread, and for one signal: what follows the first finds the node on its way out.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if not asked:
            signal.setitimer(signal.ITIMER_REAL, grace)
        asked.append(number)

    def insist(*_: object) -> None:
        raise Preempted(asked[0])

    def check() -> None:
        if asked:
            signal.setitimer(signal.ITIMER_REAL, 0)  # now the node saves, for as long as it is let
            raise Preempted(asked[0])

    before = {number: signal.signal(number, ask) for number in signals} | {
        signal.SIGALRM: signal.signal(signal.SIGALRM, insist)
    }
    try:
        yield check
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
