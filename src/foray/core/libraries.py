"""Optional libraries: which ones a spec needs, and whether they are installed. Asked before anything runs.

A spec that needs libraries has a method ``libraries()`` that returns the names to import.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

EXTRAS = {  # library -> the extra of Foray that brings the library
    "datasets": "foray[data]",
    "huggingface_hub": "foray[hub]",
    "lm_eval": "foray[evals]",
    "mlflow": "foray[mlflow]",
    "math_verify": "foray[math]",
    "pyarrow": "foray[data]",
    "tensorboard": "foray[tensorboard]",
    "trackio": "foray[trackio]",
    "wandb": "foray[wandb]",
    "zstandard": "foray[data]",
}


def installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def require_installed(libraries: Iterable[str], who: str) -> None:
    """Raises ValueError naming what to install where a library is missing."""
    for library in dict.fromkeys(libraries):
        if not installed(library):
            how = f"pip install '{EXTRAS.get(library, library)}'"
            raise ValueError(f"{who} needs {library}, which is not installed: {how}")


def wanted(spec: Any) -> Iterator[str]:
    """The libraries that a spec and the specs inside it need."""
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
