"""Signals that ask a node to end: it finishes its step and saves its state, or is cut short after a while."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 45.0  # Slurm's warning comes 90 s before the end: half to end a step, half to save


class Preempted(BaseException):
    """``args[0]`` is the signal. Not an Exception, so that no code of a node handles it as an error."""


@contextmanager
def preemptible(*signals: int, grace: float = GRACE_SECONDS) -> Iterator[Callable[[], None]]:
    """Yields a function that raises Preempted after a signal. Main thread only; signals after the first do nothing.

    Where the function is not called within ``grace`` seconds of the signal, Preempted is raised wherever the process
    is. That is as safe as a kill: files of an unfinished node are whole, or are ignored.
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
