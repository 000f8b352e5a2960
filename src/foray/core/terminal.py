"""Words for a terminal: what a user's data or files are called can move no cursor and is no markup."""

from __future__ import annotations

import shutil


def plain(text: str) -> str:
    """The text with every character spelled out that a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """The same, in one line."""
    return plain(" ".join(text.splitlines()))


def tell(text: str) -> None:
    """Prints words that may come from anybody's files, each line as it is."""
    print(plain(text), flush=True)


def failure(e: Exception) -> str:
    """What went wrong, in one line: of the file system the file and what it said."""
    if isinstance(e, shutil.Error) and isinstance(e.args[0], list) and e.args[0]:  # of a folder: a list of files
        _, target, why = e.args[0][0]
        return one_line(f"{target}: {why}")
    if isinstance(e, OSError) and e.strerror and e.filename is not None:
        return one_line(f"{e.filename2 or e.filename}: {e.strerror}")
    return one_line(str(e))
