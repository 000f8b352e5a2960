"""What the settings of a study mean: from the comments and docstrings of the classes that have them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from foray.core.override import children, derived_for, written


def settings_of(study: Any) -> Iterator[tuple[str, str, str]]:
    """(key, value, meaning) of every setting below a study, keys and values as ``--set`` takes them.

    The key of an object that a study file alone can put there has the name of its class for a value.
    """
    yield from _below(study, "")


def _below(node: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    kind: Any = type(node)
    known = meanings(kind)
    for name, value in children(node).items():
        if not prefix and name in ("notes", "parts", "report"):
            continue
        key, inner = f"{prefix}{name}", children(value)
        plain = isinstance(value, tuple) and not any(children(v) for v in value)
        if inner and not plain:
            of = type(value).__name__ if dataclasses.is_dataclass(value) else ""
            if of or known.get(name):
                yield key, of, known.get(name) or _first_line(value)
            yield from _below(value, f"{key}.")
        elif callable(value):
            yield key, getattr(value, "__name__", type(value).__name__), known.get(name, "")
        else:
            yield key, value if isinstance(value, str) else written(value), known.get(name, "")
        if value is None:  # keys below it work too, and begin with what would stand here
            yield from _below(derived_for(node, name), f"{key}.")


def _first_line(value: Any) -> str:
    """The first line of the docstring of an object's class, unless ``dataclass`` made the docstring."""
    words = (type(value).__doc__ or "").strip().partition("\n")[0].replace("``", "")
    return "" if words.startswith(f"{type(value).__name__}(") else words


@lru_cache(maxsize=256)
def meanings(kind: type) -> dict[str, str]:
    """What each field of a dataclass means: the comment on its line, else the sentences of a docstring that name it."""
    said = {}
    for cls in reversed(kind.__mro__):
        if "__dataclass_fields__" in vars(cls):
            sentences = re.split(r"(?<=[.;])\s+(?=[A-Z`])", " ".join((cls.__doc__ or "").split()))
            comments = _comments(cls)
            for name in vars(cls)["__dataclass_fields__"]:
                named = " ".join(s for s in sentences if f"``{name}``" in s)
                if words := comments.get(name) or named:
                    said[name] = words.replace("``", "")
    return said


def _comments(cls: type) -> dict[str, str]:
    """The comment at the end of each field's line; none where the source is not there."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
        body = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError):
        return {}
    lines, found = source.splitlines(), {}
    for statement in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            line = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset or 0 :]
            if "#" in line:
                found[statement.target.id] = line.partition("#")[2].strip()
    return found
