"""How a process ends."""

from __future__ import annotations

import ctypes
import signal
import sys


def die_with_parent() -> None:
    """This process ends the moment its parent does, however that ended. Does nothing elsewhere than on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
