"""How a process holds on to memory."""

from __future__ import annotations

import ctypes
import re
import sys

FULL = "main memory is full"
_SAID = re.compile(r"can't allocate memory|not enough memory|bad_alloc|cannot allocate memory", re.IGNORECASE)


def is_full(e: BaseException) -> bool:
    """Whether an exception is about main memory: torch's allocator raises RuntimeError, and other libraries theirs."""
    return isinstance(e, MemoryError) or (isinstance(e, Exception) and bool(_SAID.search(str(e)[:2000])))


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed.

    It gives large blocks back at once and gets them anew, page by page, for every tensor: a fifth to a quarter of a
    small model's training step. Blocks up to 1 GiB then come from, and stay in, the heap. Does nothing elsewhere.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
