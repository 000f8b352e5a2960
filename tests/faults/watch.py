"""Waiting for processes that must not hang. What goes on uses a core now and then, however busy the machine is."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

STILL = 10.0  # seconds in which a session that goes on has used a core
LEAST = 0.05  # seconds of a core in that time; what only waits uses less
LIMIT = 900.0  # seconds that nothing takes: a loop without end uses a core too
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Hang(AssertionError):
    """A session of processes that are there and do nothing."""


def used(session: int) -> dict[int, float]:
    """Seconds of a core that the living processes of a session have used, with their children that have ended."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found[int(file.parent.name)] = sum(map(int, fields[11:15])) * _TICK
    return found


def await_session(leader: int, code: Callable[[], int | None]) -> int:
    """Waits until the leader of a session has ended and no process is left of it; the leader's exit ``code``.

    Raises Hang, and ends them all, where nothing happens for ``STILL`` seconds.
    """
    begun = seen = time.monotonic()
    last: dict[int, float] = {}
    while True:
        for _ in range(10):  # to look through all processes takes its time
            if (ended := code()) is not None:
                break
            time.sleep(0.05)
        now = used(leader)
        if ended is not None and not now:
            return ended
        if now.keys() != last.keys() or sum(now.values()) - sum(last.values()) > LEAST:
            seen, last = time.monotonic(), now
        if time.monotonic() - seen > STILL or time.monotonic() - begun > LIMIT:
            named = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in now]
            for pid in now:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise Hang(f"{len(now)} processes do nothing: {named}, {now}")
        time.sleep(0.05)
