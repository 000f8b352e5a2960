"""The process that this program runs in: its end, its signals and its main memory."""

from __future__ import annotations

import ctypes
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FULL = "main memory is full"
_SAID = re.compile(r"can't allocate memory|not enough memory|bad_alloc|cannot allocate memory", re.IGNORECASE)


def die_with_parent() -> None:
    """Lets this process end the moment its parent ends, for whatever reason. Does nothing on systems but Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM wait until the end of the block. Main thread only.

    Made for forking: during a fork, Python would drop the exception or raise it in the child.
    """
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextmanager
def panics_named() -> Iterator[None]:
    """Inside, a panic of a library written in Rust becomes a ValueError. It is no Exception, and few expect it."""
    try:
        yield
    except BaseException as e:
        if type(e).__name__ != "PanicException":
            raise
        raise ValueError(f"a library broke off at what it was given: {' '.join(str(e).split())[:300]}") from None


def is_full(e: BaseException) -> bool:
    """Whether an exception says that main memory is full. torch raises RuntimeError, other libraries their own."""
    return isinstance(e, MemoryError) or (isinstance(e, Exception) and bool(_SAID.search(str(e)[:2000])))


def keep_freed_memory() -> None:
    """Lets glibc keep freed memory: blocks up to 1 GiB come from the heap and stay there. Does nothing elsewhere.

    Otherwise glibc returns large blocks to the system at once and gets new pages for every tensor, which takes a fifth
    to a quarter of a small model's training step.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
