"""Temporary folders. The next process that makes one removes those that killed processes left behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from foray.core.files import locked, replace_folder

_OWNER = ".owner"  # a file in a folder, locked by the process that owns the folder

_HELD: dict[Path, IO[str]] = {}  # locks of this process's folders; a lock ends with the process


def own_folder(prefix: str, where: Path | None = None) -> Path:
    """A new folder that only this user can read, in ``where`` or among the system's temporary files.

    Also removes folders of the same ``prefix`` whose processes are gone. ``let_go`` removes the new folder.
    """
    place = where or Path(tempfile.gettempdir())
    for folder in place.glob(f"{prefix}*"):
        if folder not in _HELD:
            _remove_left(folder)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    _HELD[folder] = open(folder / _OWNER, "a")  # noqa: SIM115
    locked(_HELD[folder])
    return folder


def let_go(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if held := _HELD.pop(folder, None):
        held.close()


def _remove_left(folder: Path) -> None:
    try:
        with open(folder / _OWNER, "r+") as f:  # a folder without this file is being made, or is not Foray's
            if locked(f):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # the folder is another user's, or gone


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Inside, a temporary folder among the system's."""
    folder = own_folder(prefix)
    try:
        yield folder
    finally:
        let_go(folder)


@contextmanager
def inside(folder: Path, name: str) -> Iterator[Path]:
    """Inside, an empty folder of that name in a node's folder. The node's next attempt removes what a kill leaves."""
    made = replace_folder(folder / name)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
