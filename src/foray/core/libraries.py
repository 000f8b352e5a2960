"""Which libraries a part of a study needs besides Foray's own, and whether they are there: asked before it begins.

A spec that needs some has a method ``libraries()`` that names them, as they are imported.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

EXTRAS = {  # of Foray, by the library that it brings
    "datasets": "foray[data]",
    "huggingface_hub": "foray[hub]",
    "lm_eval": "foray[evals]",
    "math_verify": "foray[math]",
    "pyarrow": "foray[data]",
    "zstandard": "foray[data]",
}


def installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def require_installed(libraries: Iterable[str], who: str) -> None:
    """Raises ValueError with what to install where one is missing."""
    for library in dict.fromkeys(libraries):
        if not installed(library):
            how = f"pip install '{EXTRAS.get(library, library)}'"
            raise ValueError(f"{who} needs {library}, which is not installed: {how}")


def wanted(spec: Any) -> Iterator[str]:
    """The libraries that a spec needs, and those within it."""
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        libraries = getattr(spec, "libraries", None)
        if callable(libraries):
            yield from libraries()
        for f in dataclasses.fields(spec):
            yield from wanted(getattr(spec, f.name))
    elif isinstance(spec, Mapping):
        for value in spec.values():
            yield from wanted(value)
    elif isinstance(spec, tuple | list):
        for value in spec:
            yield from wanted(value)
