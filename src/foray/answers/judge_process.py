"""The process that decides whether two LaTeX answers are equal: ``python -m foray.answers.judge_process``.

It imports math-verify once and forks a worker that answers one question at a time, a line of JSON each way. The text of
a question is untrusted, so the worker runs under limits that the kernel keeps: a timer of processor time whose signal
ends the worker even inside one long multiplication, a bound on memory, no files, no programs, no sockets, no compiling.
A dead worker is replaced in milliseconds by a fork of the process that has everything imported.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from foray.answers.algebra import Compare, comparison

CPU_SECONDS = 0.6  # of one comparison; with what a new worker costs, below a second
WALL_SECONDS = 10.0  # only for a worker that does not even get to use its processor time
MEMORY = 1 << 30  # bytes beyond what the libraries need
_LINE = 1 << 16

# The reply for a worker that somebody killed: it says nothing about the answers.
BROKE_OFF = "the comparison broke off"

# Trusted pairs whose parsing warms the grammar's tables, which every worker then starts with.
_WARM = (
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"), ("(1,2)", "(2,1)"), ("x^2+2x+1", "(x+1)^2"), ("[1,2)", "[1,2]"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"), ("1,2,3", r"\{3,2,1\}"),
    ("y=2x+1", "2x-y+1=0"), ("3\\pi", "9.4"), ("50\\%", "0.5"), ("1<x<2", "(1,2)"), (r"\cos x", r"\sin x"),
    ("5!", r"\binom{5}{2}"), ("1+2i", "2i+1"), (r"(-\infty,1)\cup(2,\infty)", "x>3"), ("a_{1}", r"\text{even}"),
    (r"6 \text{ cm}^2", r"10^{-3} \cdot 4"), (r"\log_2 8", r"\ln 3"), ("|x|", r"\pm 3"), ("90^\\circ", "3\\frac{1}{2}"),
)  # fmt: skip

_REFUSED = (
    "subprocess.", "socket.", "shutil.", "ctypes.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork",
    "os.kill", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod",
)  # fmt: skip


# Modules that compile code of their own. No text of an answer stands in that code.
_WRITES_ITS_OWN_CODE = ("sympy.polys.monomials", "dataclasses", "collections", "typing")


def warmed_comparison() -> Compare:
    """The comparison, after a few trusted pairs."""
    compare = comparison()
    for gold, answer in _WARM:
        compare(gold, answer)
    return compare


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: raises PermissionError for anything that the comparison of two formulas does not need."""
    compiled = event == "compile" and arguments[0] is not None and not _own_code(sys._getframe(1))
    written = event == "open" and isinstance(arguments[1], str) and arguments[1].strip("rbt") != ""
    if compiled or written or event.startswith(_REFUSED):
        raise PermissionError(f"{event} is refused here")


def _own_code(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _WRITES_ITS_OWN_CODE


def _bound_memory() -> None:
    try:
        with open("/proc/self/statm", encoding="ascii") as f:
            used = int(f.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    except (OSError, ValueError):
        pass  # no such file, or a lower limit holds already; the timer bounds what can be asked for in its time
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _work(compare: Compare, requests: int, replies: int) -> NoReturn:
    """Answers until its parent is gone."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the timer ends the process: nothing in it can stand in the way
    _bound_memory()
    sys.addaudithook(_refuse)
    with open(requests, "rb") as lines:
        for line in lines:
            gold, answer = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            try:
                reply = "equal" if compare(gold, answer) else "different"
            except Exception as e:  # whatever a library makes of hostile text, MemoryError and RecursionError included
                reply = f"not comparable ({type(e).__name__})"
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            os.write(replies, reply.encode() + b"\n")
    os._exit(0)


class _Worker:
    def __init__(self, compare: Compare) -> None:
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.requests)
            os.close(self.replies)
            os.close(0)  # else nobody would see that the driver is gone
            os.close(1)
            _work(compare, requests, replies)
        os.close(requests)
        os.close(replies)

    def ask(self, line: bytes) -> tuple[str, bool]:
        """The worker's reply, and whether it lives on."""
        try:
            os.write(self.requests, line)
            ready, _, _ = select.select([self.replies], [], [], WALL_SECONDS)
            said = os.read(self.replies, _LINE) if ready else b""
        except BrokenPipeError:
            said = b""
        if said.endswith(b"\n"):
            return said.decode().strip(), True
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.requests)
        os.close(self.replies)
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if ended in (signal.SIGKILL, signal.SIGTERM):  # sent above, or by whoever needs the memory
            return BROKE_OFF, False
        slow = ended == signal.SIGPROF
        return "takes too long to compare" if slow else f"crashes the comparison (signal {ended})", False


def main() -> None:
    """Says ``ready`` when all is imported; then one reply a line until its standard input is closed."""
    try:
        compare = warmed_comparison()
    except ImportError as e:
        print(f"missing {e.name}", flush=True)
        return
    print("ready", flush=True)
    worker: _Worker | None = None
    for line in sys.stdin.buffer:
        worker = worker or _Worker(compare)
        reply, alive = worker.ask(line)
        worker = worker if alive else _Worker(compare)
        print(reply, flush=True)


if __name__ == "__main__":
    main()
