"""The library ``datasets``, imported only where it is needed, with every failure in one line."""

from __future__ import annotations

import importlib.util
from typing import Any


def datasets_library() -> Any:
    """Raises ValueError naming the extra that has it."""
    if importlib.util.find_spec("datasets") is None:
        raise ValueError("reading this needs the library datasets: pip install 'foray[data]'")
    import datasets

    datasets.disable_progress_bars()  # they would run across Foray's own
    return datasets


def loaded(source: str, load: Any, *arguments: Any, **settings: Any) -> Any:
    """What the library returns; whatever can be wrong with an id, the network, a token or a file is one line."""
    try:
        return load(*arguments, **settings)
    except Exception as e:  # the library and those below it raise many kinds, most of them not their own
        words = " ".join(str(e).split())[:200] or type(e).__name__
        raise ValueError(
            f"{source}: the data set could not be loaded ({type(e).__name__}: {words}); check the name, the network "
            "and, for gated data, `hf auth login`, or give the path of a local copy"
        ) from None
