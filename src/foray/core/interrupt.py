"""How Ctrl-C and SIGTERM end a process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any


def interrupt(*_: object) -> None:
    """A signal handler: SIGTERM acts as Ctrl-C. A second signal ends the process at once, the files stay whole."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    raise KeyboardInterrupt


def leave(*_: object) -> None:
    """A signal handler. Says so in the command's own process; its children leave without a word."""
    forked = sys.modules.get("multiprocessing")
    if forked is None or forked.parent_process() is None:
        os.write(2, b"foray: interrupted\n")
    os._exit(130)


def interrupt_again(dropped: Any) -> None:
    """A ``sys.unraisablehook``. Python drops what is raised in its callbacks, such as those of a fork and ``__del__``.

    Where that is an interrupt, it is asked for once more, a moment later. All else is shown as usual.
    """
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    main = threading.main_thread().ident
    later = threading.Timer(0.02, lambda: signal.pthread_kill(main or 0, signal.SIGTERM))
    later.daemon = True
    try:
        later.start()
    except RuntimeError:  # Python ends
        leave()
