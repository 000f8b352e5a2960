"""Modules beside a user's file: the file imports its own folder's, whatever other folder's files have run before."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

_folders: list[str] = []  # of the users' files that have run, the last of them at the end


class Uncached(SourceFileLoader):
    """Runs a file's text and not its bytecode.

    Bytecode goes by the file's size and second: a file that is rewritten within a second would run as it was before.
    """

    def path_stats(self, path: Any) -> Any:
        raise OSError  # the loader then neither reads bytecode nor writes any


class _Beside:
    """Finds modules in the folder of the user's file that runs, or that ran last, and else in the earlier ones.

    Libraries go first: a user's file hides none.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is not None:  # inside a package: of a user's, or of a library that may lie in a user's folder too
            package = sys.modules.get(name.rpartition(".")[0])
            places = list(path) if isinstance(getattr(package, "__loader__", None), Uncached) else []
        else:
            builtin = name in sys.builtin_module_names  # these have no path to be found on
            places = [] if builtin or PathFinder.find_spec(name, _of_libraries()) else _folders[::-1]
        for place in places:
            found = FileFinder(place, (Uncached, [".py"])).find_spec(name)
            if found is not None and found.loader is not None:
                return found
        return None


def _of_libraries() -> list[str]:
    """Where modules are looked up, without the folders of users' files and the one that Python was started in."""
    here = [""]
    with contextlib.suppress(FileNotFoundError):  # a folder that is gone
        here.append(os.getcwd())
    return [place for place in sys.path if place not in (*_folders, *here)]


def look_beside(folder: Path) -> None:
    """From now on, modules are looked up in ``folder`` before the folders of other users' files.

    Modules that another folder's file has imported under the names of this folder's make room.
    """
    place = str(folder)
    if _Beside not in sys.meta_path:
        sys.meta_path.insert(0, _Beside)
    if place in _folders:
        _folders.remove(place)
    _folders.append(place)
    if place not in sys.path:
        sys.path.append(place)  # for processes that are spawned, and for modules that are not written in Python
    for name in {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}:
        there: Any = sys.modules.get(name)
        ours = _Beside.find_spec(name) if there is not None and name != "__main__" else None
        file = getattr(there, "__file__", None)  # a module of no file has none
        if ours is not None and os.path.realpath(str(file)) != os.path.realpath(str(ours.origin)):
            for other in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[other]
