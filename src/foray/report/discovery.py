"""Finds the modules of a package, so that a new file there needs no entry anywhere."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def modules_of(package: str) -> list[ModuleType]:
    """Every module of an imported package, by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(importlib.import_module(package).__path__))
    return [importlib.import_module(f"{package}.{name}") for name in names]
