"""Folders for a while: one that a killed process leaves behind is removed by the next process that makes one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from foray.core.files import LOCK, locked, replace_folder

_HELD: dict[Path, IO[str]] = {}  # locks of this process's folders, which go with the process


def own_folder(prefix: str, where: Path | None = None) -> Path:
    """A new folder that only this user can read, in ``where`` or among the system's temporary files.

    Removes those of the same ``prefix`` whose processes are gone. ``let_go`` removes this one.
    """
    place = where or Path(tempfile.gettempdir())
    for folder in place.glob(f"{prefix}*"):
        if folder not in _HELD:
            _remove_left(folder)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    _HELD[folder] = open(folder / LOCK, "a")  # noqa: SIM115
    locked(_HELD[folder])
    return folder


def let_go(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if held := _HELD.pop(folder, None):
        held.close()


def _remove_left(folder: Path) -> None:
    try:
        with open(folder / LOCK, "r+") as f:  # a folder without one is being made, or is nobody's here
            if locked(f):
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # another user's, or gone by now


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Inside, a folder among the system's temporary files."""
    folder = own_folder(prefix)
    try:
        yield folder
    finally:
        let_go(folder)


@contextmanager
def inside(folder: Path, name: str) -> Iterator[Path]:
    """Inside, an empty folder of that name in a node's: what a kill leaves of it goes with the node's next attempt."""
    made = replace_folder(folder / name)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
