"""Text for a terminal. Names from data or files cannot move the cursor and are no markup."""

from __future__ import annotations

import select
import shutil
from typing import IO


def plain(text: str) -> str:
    """The text with every control character spelled out."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """``plain`` text in one line."""
    return plain(" ".join(text.splitlines()))


def tell(text: str) -> None:
    """Prints untrusted text."""
    print(plain(text), flush=True)


def nobody_reads(output: IO[str]) -> bool:
    """Whether ``output`` is a pipe whose reader has gone."""
    try:
        poll = select.poll()
        poll.register(output.fileno(), 0)  # errors are always told
        return bool(poll.poll(0))
    except (OSError, ValueError):  # no file of the system's
        return False


def failure(e: Exception) -> str:
    """The message of an exception in one line. An OSError gives the file and the reason."""
    if isinstance(e, shutil.Error) and isinstance(e.args[0], list) and e.args[0]:  # one entry a file
        _, target, why = e.args[0][0]
        return one_line(f"{target}: {why}")
    if isinstance(e, OSError) and e.strerror and e.filename is not None:
        return one_line(f"{e.filename2 or e.filename}: {e.strerror}")
    return one_line(str(e))
