"""Figures and sections of the user's own: one file each, named by the study and loaded by its path."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import ModuleType

from foray.core.canonical import check_name, require
from foray.core.userfile import own_module

_FIGURE = ("NAME", "TITLE", "data", "draw", "caption")
_SECTION = ("NAME", "TITLE", "PLACE", "section")


def own_report_module(file: Path, taken: Collection[str]) -> ModuleType:
    """A module as ``report/figures`` and ``report/sections`` describe them; one with ``section`` is a section.

    Raises ValueError, in one line, where the file is not there, fails, lacks a name, or takes one of the names
    ``taken``.
    """
    module = own_module(str(file), "figure")
    kind, names = ("section", _SECTION) if is_section(module) else ("figure", _FIGURE)
    lacks = [name for name in names if not hasattr(module, name)]
    require(not lacks, f"{file.name}: a {kind} has {', '.join(names)}; this one has no {' and no '.join(lacks)}")
    check_name(module.NAME, f"{file.name}: a {kind}")
    require(module.NAME not in taken, f"{file.name}: there is a figure or section {module.NAME!r} already; rename it")
    number = kind == "figure" or type(module.PLACE) in (int, float)
    require(number, f"{file.name}: PLACE is {getattr(module, 'PLACE', None)!r}: write a number, figures stand at 110")
    return module


def is_section(module: ModuleType) -> bool:
    return hasattr(module, "section")
