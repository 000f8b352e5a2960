"""A process that is one command. What is imported before signals are heard is little: Ctrl-C may come at once."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from foray.core.interrupt import leave


def entry() -> NoReturn:
    """Runs the command that was typed. Ctrl-C ends the process at once before the command begins and after its end."""
    # A shell's background command starts with Ctrl-C ignored, and stays so.
    heard = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, leave)
    from foray.cli import main

    code = main()
    for number in heard:  # libraries have work to do at the end of Python, and none of them expects a signal
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


if __name__ == "__main__":
    entry()
