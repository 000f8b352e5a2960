"""Optional libraries: which ones a spec needs, and whether they are installed. Asked before anything runs.

A spec that needs libraries has a method ``libraries()`` that returns the names to import.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

EXTRAS = {  # library -> the extra of Foray that brings the library
    "datasets": "data",
    "huggingface_hub": "hub",
    "lm_eval": "evals",
    "mlflow": "mlflow",
    "math_verify": "math",
    "pyarrow": "data",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
    "zstandard": "data",
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
            extra = EXTRAS.get(library)
            how = f"pip install -e '.[{extra}]' in Foray's folder" if extra else f"pip install {library}"
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
