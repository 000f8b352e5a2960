"""Whether the fields of a spec hold what they are annotated with: a value of a wrong type is refused where it is typed.

A field that takes an object of the user's own, such as a task, refuses plain values and classes only. What such an
object must be is the matter of ``study/contracts.py``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import numbers
import os
import types
import typing
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from foray.core.canonical import nearest
from foray.core.spelling import with_article

_PLAIN = (str, bytes, bool, int, float, complex, tuple, list, dict, set, frozenset, type(None))
_WORDS = {float: "a finite number", int: "a whole number", bool: "True or False", str: "a text", type(None): "None"}
# What other libraries' values are made into: a path, numpy's numbers.
_MADE: dict[str, tuple[type, type]] = {
    "str": (str, os.PathLike), "int": (int, numbers.Integral), "float": (float, numbers.Real)
}  # fmt: skip
_OBJECTS = {  # what a study file writes for an object
    "Task": "a task, such as GSM8K()",
    "Pretrain": "Pretrain(...)",
    "Published": "Published(...)",
    "Source": "a source, such as Rollouts(...)",
    "Objective": "a loss, such as PolicyGradient()",
    "ProbeSet": "probes, such as WorldProbes(...)",
    "OwnEngine": "an engine of your own",
    "OwnMeasure": "a measurement of your own",
    "TextSource": "a source of text, such as Text(...)",
    "Any": "an object",
}
SEVERAL = {float: "numbers", int: "whole numbers", str: "texts"}


class _Misfit(NamedTuple):
    """``value`` is not of the type ``kind``; ``path`` leads to it from the field, such as ``[0]``."""

    path: str
    value: Any
    kind: Any


def require_types(spec: Any) -> None:
    """Raises ValueError, in one line that says what to write, where a field of a dataclass has a value of another type
    than its annotation. A whole number is a float too. A list is no tuple: it has no hash.
    """
    for name, kind in _fields(spec.__class__).items():
        if found := _misfit(getattr(spec, name), kind):
            raise ValueError(f"{name}{found.path} is {_shown(found.value)}{_instead(found)}")


def is_protocol(annotation: Any) -> bool:
    return bool(getattr(annotation, "_is_protocol", False))


def words_of(annotation: Any) -> list[str]:
    """The words that an annotation names: those of a Literal, alone or among other types."""
    options = (annotation, *typing.get_args(annotation))
    return [
        str(word) or "''" for kind in options if typing.get_origin(kind) is Literal for word in typing.get_args(kind)
    ]


@lru_cache(maxsize=512)
def _fields(kind: type) -> dict[str, Any]:
    """The fields that Foray's own classes have annotated. A user's subclass may annotate its fields as it likes."""
    hints = dict[str, Any]()
    for base in reversed(kind.__mro__):
        ours = base.__module__.startswith("foray.")
        own = vars(base).get("__annotations__", {})
        hints = {name: hint for name, hint in hints.items() if ours or name not in own}
        hints |= typing.get_type_hints(base) if ours and dataclasses.is_dataclass(base) else {}
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.init and f.name in hints}


def _misfit(value: Any, kind: Any, path: str = "") -> _Misfit | None:
    """The first part of a value that is not of its kind."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    wrong = _Misfit(path, value, kind)
    if origin in (typing.Union, types.UnionType):
        tried = [_misfit(value, option, path) for option in args]
        inside = (m for m in tried if m is not None and m.path != path)  # of a tuple: the place in it says more
        return None if None in tried else next(inside, wrong)
    if origin is tuple:
        each = args[:1] * len(value) if args[1:] == (...,) and isinstance(value, tuple) else args
        if not isinstance(value, tuple) or len(each) != len(value):
            return wrong
        inner = (_misfit(v, k, f"{path}[{i}]") for i, (v, k) in enumerate(zip(value, each)))
        return next((m for m in inner if m), None)
    return None if _is_a(value, kind, origin, args) else wrong


def _is_a(value: Any, kind: Any, origin: Any, args: tuple[Any, ...]) -> bool:
    if kind is Any:
        return True
    if origin is Literal:
        return isinstance(value, str | int) and value in args and type(value) in map(type, args)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return number and -math.inf < value < math.inf
    if origin is collections.abc.Callable:
        return callable(value)
    if is_protocol(kind):
        return not isinstance(value, (*_PLAIN, type))
    return isinstance(value, origin or kind)


def _instead(found: _Misfit) -> str:
    """What to write in place of a value."""
    if isinstance(found.value, type):
        return f": a class stands there: write {found.value.__name__}(), an instance of it"
    words = words_of(found.kind)
    if words and (isinstance(found.value, str) or typing.get_origin(found.kind) is Literal):
        return nearest(str(found.value), words)
    if isinstance(found.value, list) and _misfit(tuple(found.value), found.kind) is None:
        return ": write a tuple, in round brackets"
    args = typing.get_args(found.kind)
    options = (found.kind, *args)
    if args[1:] == (...,) and _misfit(found.value, args[0]) is None:
        return f": write a tuple, ({_shown(found.value)},)"
    others = type(found.value) not in _PLAIN
    for maker, (wanted, like) in _MADE.items():
        if others and wanted in options and isinstance(found.value, like):
            return f": write {maker}() around it"
    return f": write {_wanted(found.kind)}"


def _wanted(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_wanted, args)))
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is tuple:
        if args[1:] == (...,):
            return f"a tuple of {SEVERAL[args[0]]}" if args[0] in SEVERAL else "a tuple"
        return f"a tuple of {len(args)} values ({', '.join(map(_wanted, args))})"
    if origin is collections.abc.Callable:
        return "a function"
    name = getattr(origin or kind, "__name__", str(kind))
    return _WORDS.get(kind) or _OBJECTS.get(name) or with_article(name)


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return with_article(type(value).__name__)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
