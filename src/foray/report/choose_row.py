"""Which rows of a table of models a user means: what is named, and what stands for the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from foray.core.canonical import nearest, require

_WORDS = {"tokens": "M_t at tokens", "pretrain_seed": "pre-training seed", "model_parameters": "number of parameters"}
_FIRST = ("recipe", "task")
_LAST = ("tokens", "pretrain_seed", "seed", "shots", "step")  # what a variant has decides on them


def chosen(rows: pd.DataFrame, study: str, parameters: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The one row that ``asked`` names by its columns; None and what is not asked stand for the study's own.

    The study's own are its last M_t, its last step, its first seeds, its model of so many ``parameters``, no variant
    where a recipe was run without one, and otherwise what the first row has. Raises ValueError, naming what there is.
    """
    first = chosen_rows(rows, study, parameters, asked).iloc[0]
    return {str(name): value for name, value in first.items()}


def chosen_rows(
    rows: pd.DataFrame, study: str, parameters: int, asked: Mapping[str, Any], every: Collection[str] = ()
) -> pd.DataFrame:
    """The rows that ``asked`` names, as in ``chosen``. A field of ``every`` that is not asked may have any value."""
    fields = [str(name) for name in rows if name not in ("folder", "path", "final")]
    for name in asked:
        require(name in fields, f"there is no field {name!r}{nearest(name, fields)}")
    recipe = asked.get("recipe")
    between = [name for name in fields if name not in (*_FIRST, *_LAST)]
    for name in [name for name in (*_FIRST, *between, *_LAST) if name in fields]:
        there = list(dict.fromkeys(rows[name].tolist()))
        value = asked.get(name)
        if value is None and name in every:
            continue
        if value is None:
            value = _own(name, there, recipe, parameters)
        if value not in there and name == "recipe":
            raise ValueError(f"study {study} has no recipe {value!r}{nearest(str(value), there)}")
        if value not in there:
            what = _WORDS.get(name, name)
            raise ValueError(f"recipe {recipe!r} has no {what} {listed([value])}: there is {listed(sorted(there))}")
        rows = rows[rows[name] == value]
    return rows


def _own(name: str, there: Sequence[Any], recipe: Any, parameters: int) -> Any:
    """The value of a field that was not asked for."""
    if name in ("variant", "mix", "split"):
        several = "" not in there and len(there) > 1
        require(not several, f"recipe {recipe!r} has several: name one, {name}={' or '.join(map(repr, there))}")
        return "" if "" in there else there[0]
    if name == "model_parameters" and parameters in there:
        return parameters
    if name in ("tokens", "step"):
        return max(there)
    return min(there) if name.endswith("seed") else there[0]


def listed(values: Sequence[Any]) -> str:
    """The values in words: ``1,500,000 and 2,700,000``."""
    words = [f"{v:,}" if isinstance(v, int) else repr(v) for v in values]
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
