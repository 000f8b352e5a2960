"""One command line in a child of this process, with limits, and what is to be thought of how it ended."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10  # of processor time, which a busy machine does not change
WALL = 60.0  # by when a child that does nothing hangs
MEMORY = 4 << 30  # beyond what this process has
DISK = 1 << 30


@dataclass(frozen=True)
class End:
    """``code`` is negative for a signal; ``late`` says that a limit of time ended the child."""

    code: int
    out: str
    err: str
    late: bool
    seconds: float

    def wrong(self) -> str:
        """Why this is a finding; empty for an answer, or for one line that names a mistake."""
        said = self.out + self.err
        if self.late:
            return "hang"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        if "Traceback (most" in said or "panicked at" in said:
            return "traceback: " + next((line for line in reversed(said.splitlines()) if line.strip()), "")
        if self.code == 0:
            lost = [line for line in self.err.splitlines() if not line.startswith("left out: ")]  # a report's
            return f"words on stderr: {lost[0]}" if lost else ""
        if self.code not in (1, 2):
            return f"exit code {self.code}"
        line = self.err.removesuffix("\n")
        if not line.startswith("foray: ") or "\n" in line or not line.isprintable():
            return f"not one line: {self.err!r}"
        return ""

    def kind(self) -> str:
        """The same for findings with one cause."""
        return re.sub(r"0x[0-9a-f]+|[0-9a-f]{16}|\d+|/\S+|'[^']*'", "*", self.wrong())[:120]


def run(words: list[str], scratch: Path, before: Callable[[], None] = lambda: None) -> End:
    """Runs ``foray WORDS`` in a fork; ``before`` changes what is to be another way in it."""
    out, err, begun = scratch / "said.out", scratch / "said.err", time.monotonic()
    child = os.fork()
    if child == 0:
        _be(words, out, err, before)
    late = _wait(child, begun)
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    late = late or code == -signal.SIGXCPU or (code == -signal.SIGKILL and used.ru_utime + used.ru_stime > SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # workers of it
    said = [p.read_bytes().decode(errors="replace") if p.exists() else "" for p in (out, err)]
    return End(code, said[0], said[1], late, time.monotonic() - begun)


def _wait(child: int, begun: float) -> bool:
    """Until the child is a zombie, or has to be made one."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() - begun > WALL:
            os.killpg(child, signal.SIGKILL)
            return True
        time.sleep(0.01)
    return False


def _be(words: list[str], out: Path, err: Path, before: Callable[[], None]) -> None:
    code = 99
    try:
        os.setsid()
        here = out.parent / "a" / "b" / "c"  # so that ../../x is still below
        here.mkdir(parents=True, exist_ok=True)
        os.chdir(here)
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (
            os.fdopen(n, "w", closefd=False, encoding="utf-8", errors=how)
            for n, how in ((1, "strict"), (2, "backslashreplace"))
        )
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        for what, most in (
            (resource.RLIMIT_AS, size + MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, DISK),
        ):  # fmt: skip
            resource.setrlimit(what, (most, most + (what == resource.RLIMIT_CPU)))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        before()
        from foray.cli import main

        code = main(words)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 98
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
