"""Asks a process of its own whether two LaTeX answers are equal: see ``judge_process``.

A library's alarm would need the main thread, and could not stop one long multiplication. Here a hostile expression
costs a fraction of a second and the life of another process, and nothing else: in any thread and in forked workers.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache

from foray.answers.judge_process import BROKE_OFF

_START_SECONDS = 120.0  # imports on a busy machine
_REPLY_SECONDS = 30.0  # the process itself kills a comparison long before

INSTALL = "math-verify compares MATH answers and is not installed: pip install -e '.[math]' in Foray's folder"


def require_math_verify() -> None:
    """Raises ValueError naming what to install: before hours of training, not in the midst of them."""
    if importlib.util.find_spec("math_verify") is None:
        raise ValueError(INSTALL)


def equal(gold: str, answer: str) -> tuple[bool, str]:
    """Whether math-verify finds the answer equal to the reference, and a reason. Bounded in time; never raises on text.

    Raises ValueError where math-verify is not installed.
    """
    try:
        reply = _reply(gold, answer)
    except _BrokeOff:
        reply = BROKE_OFF
    return reply == "equal", reply


class _BrokeOff(Exception):
    """The comparison was lost twice."""


@lru_cache(maxsize=1 << 16)
def _reply(gold: str, answer: str) -> str:
    """The reply on two answers. Raises _BrokeOff without one. An exception is not kept, so the next time asks again."""
    # Twice: the process may have been killed for the memory of another one. A comparison that is itself the cause is
    # not tried for ever.
    for _ in range(2):
        reply = _judge(os.getpid()).ask(gold, answer)
        if reply != BROKE_OFF:
            return reply
    raise _BrokeOff


class _Judge:
    """The process and the pipe to it. One question at a time: threads wait for each other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, answer: str) -> str:
        with self.lock:
            process = self.process or self._start()
            answered = False
            try:
                assert process.stdin is not None
                process.stdin.write(json.dumps([gold, answer], allow_nan=False).encode() + b"\n")
                reply = _line(process, _REPLY_SECONDS)
                answered = bool(reply)
            except BrokenPipeError:
                reply = ""
            finally:
                if not answered:  # dead, silent or interrupted: its next line could answer an earlier question
                    self.close()
            return reply or BROKE_OFF

    def _start(self) -> subprocess.Popen[bytes]:
        require_math_verify()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
        command = [sys.executable, "-m", "foray.answers.judge_process"]
        pipe = subprocess.PIPE
        # A session of its own: the driver alone handles an interrupt that is typed at the terminal.
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0, env=environment,
            start_new_session=True,
        )  # fmt: skip
        said = ""
        try:
            said = _line(self.process, _START_SECONDS)
        finally:
            if said != "ready":
                self.close()
        if self.process is None:
            raise ValueError(f"the process that compares MATH answers did not start ({said or 'no word from it'})")
        return self.process

    def close(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def forget(self) -> None:
        """In a forked child: the process is the parent's. Its pipes are closed, or it would outlive the parent."""
        if self.process is not None:
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()
            self.process.returncode = 0  # nobody here waits for it
            self.process = None


def _line(process: subprocess.Popen[bytes], seconds: float) -> str:
    """One line, or nothing when the process is gone or silent for so long."""
    assert process.stdout is not None
    said = b""
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        part = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        if not part:
            return ""
        said += part
    return said.decode().strip()


@lru_cache(maxsize=1)
def _judge(pid: int) -> _Judge:
    """The judge of this process."""
    judge = _Judge()
    atexit.register(judge.close)
    os.register_at_fork(after_in_child=judge.forget)
    return judge
