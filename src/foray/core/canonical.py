"""Specs are frozen dataclasses: checks of their values, their canonical JSON and their content hash.

The hash of a spec covers every field, so two settings never share a result. A spec may add ``fingerprint()``: a short
string, such as the digest of a file that the spec reads. An empty fingerprint is left out. A field that only says
*where* something lies is marked ``metadata={"hash": False}``. A field that a spec gets after results exist is
``added(default)``.

The hash names a class of Foray by its name alone. It names any other class, and any function, by module and name; the
module of a study file is the name of the file, wherever the file lies. The hash does not cover the body of a class or
function: after an edit of the body, old results are reused. Rename the class then, or give it a field ``version``.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from types import ModuleType, NoneType
from typing import Any, TypeVar

_MOST = 1_000_000

S = TypeVar("S")


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_positive(spec: Any, *names: str) -> None:
    """Raises ValueError unless each of these attributes of ``spec`` is a finite number > 0, or None."""
    for name, value in _numbers(spec, names):
        require(value > 0, f"{name} must be positive, not {value}")


def require_not_negative(spec: Any, *names: str) -> None:
    """Raises ValueError unless each of these attributes of ``spec`` is a finite number >= 0, or None."""
    for name, value in _numbers(spec, names):
        require(value >= 0, f"{name} must be >= 0, not {value}")


def require_between(spec: Any, low: float, high: float, *names: str) -> None:
    """Raises ValueError unless each of these attributes of ``spec`` is a number in [low, high], or None."""
    for name, value in _numbers(spec, names):
        require(low <= value <= high, f"{name} must lie between {low} and {high}, not {value}")


def _numbers(spec: Any, names: Iterable[str]) -> Iterator[tuple[str, float]]:
    for name in names:
        if (value := getattr(spec, name)) is not None:
            require(isinstance(value, Real), f"{name} must be a number, not {value!r}")
            require(-math.inf < value < math.inf, f"{name} must be a finite number, not {value}")
            yield name, value


def check_count(name: str, value: int) -> None:
    """Raises ValueError for more rows, problems or samples than any batch, benchmark or budget has."""
    require(value <= _MOST, f"{name} must be at most {_MOST:,}, not {value}")


def check_vocabulary(vocab_size: int, whole_numbers: int = 0) -> None:
    """Raises ValueError unless a tokenizer can have this size: bytes, an end token, numbers to ``whole_numbers``."""
    least, most = 257, 1 << 24
    require(vocab_size >= least, f"vocab_size must be at least {least} (256 bytes and an end token), not {vocab_size}")
    require(vocab_size <= most, f"vocab_size must be at most {most:,}, not {vocab_size}")
    room = vocab_size - least
    require(whole_numbers <= room, f"whole_numbers must be at most {room}, not {whole_numbers}")


def check_name(name: Any, what: str) -> None:
    """Raises ValueError unless ``name`` can be the name of a file, of a column, and a word on a terminal."""
    ok = isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable() and name == name.strip()
    ok = ok and not any(c in name for c in "/\\") and name[0] not in ".=+-@~"
    rules = "up to 100 printable characters without slashes, the first none of .=+-@~"
    require(ok, f"{what} cannot be called {name!r}: a name is {rules}")


def added(default: Any) -> Any:
    """A field that a spec got later. The JSON leaves the default out, so earlier results keep their keys."""
    return dataclasses.field(default=default, metadata={"added": True})


def derived(method: str, later: bool = False) -> Any:
    """A field that is None until it is set. A setting below the field begins with what ``method`` of the spec gives.

    ``later``: the spec got the field later, as with ``added``.
    """
    return dataclasses.field(default=None, metadata={"derived": method, "added": later})


def to_json(value: Any, shown: bool = False) -> Any:
    """Plain JSON data for a spec. A dataclass carries the name of its class as ``type``.

    ``shown``: the data are for people and for no key, so a function may have the name of another one. Raises ValueError
    for a value that a spec cannot hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {"type": _class_name(type(value))}
        for f in dataclasses.fields(value):
            content = getattr(value, f.name)
            if f.metadata.get("hash", True) and not (f.metadata.get("added") and content == f.default):
                out[f.name] = to_json(content, shown)
        fingerprint = getattr(value, "fingerprint", None)
        if callable(fingerprint) and (found := fingerprint()):
            out["fingerprint"] = found
        return out
    if isinstance(value, tuple | list):
        return [to_json(v, shown) for v in value]
    if isinstance(value, dict):
        return {str(k): to_json(v, shown) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}" if shown else _function_name(value)
    raise ValueError(f"a spec cannot hold {value!r}: use numbers, strings, tuples, dicts or frozen dataclasses")


def _function_name(function: Any) -> str:
    """Raises ValueError where another function can have the same name: results of the two would share a key."""
    name = str(function.__qualname__)
    instead = "write a function with a name of its own, outside of others, or a frozen dataclass with a method __call__"
    require("<lambda>" not in name, f"a spec cannot hold a lambda, which has no name for its key: {instead}")
    inner = f"a spec cannot hold {name}: other functions made in the same place have that name too"
    require("<locals>" not in name, f"{inner}: {instead}")
    bound = f"a spec cannot hold the method {name} of an object: its name does not say of which"
    require(isinstance(getattr(function, "__self__", None), ModuleType | NoneType), f"{bound}: {instead}")
    return f"{function.__module__}:{name}"


def _class_name(cls: type) -> str:
    own = cls.__module__.partition(".")[0] == "foray"
    return cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"


def canonical(value: Any) -> str:
    """The JSON text of a spec. Equal specs have equal texts: keys are sorted."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def fill_root(spec: S, root: str) -> S:
    """The spec with every empty field ``root``, at any depth, set to ``root``. Relative paths begin there."""

    def filled(part: Any) -> Any:
        own = any(f.name == "root" and f.init for f in dataclasses.fields(part))
        return dataclasses.replace(part, root=root) if own and part.root == "" else part

    return everywhere(spec, filled) if root else spec


def everywhere(spec: S, change: Callable[[Any], Any]) -> S:
    """The spec with what ``change`` makes of every dataclass in it, the innermost first."""
    changed: S = _everywhere(spec, change)
    return changed


def _everywhere(value: Any, change: Callable[[Any], Any]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        changed = {k: new for k, v in names.items() if (new := _everywhere(v, change)) is not v}
        return change(dataclasses.replace(value, **changed) if changed else value)
    if isinstance(value, tuple):
        items = tuple(_everywhere(v, change) for v in value)
        return items if any(a is not b for a, b in zip(items, value)) else value
    return value


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause for error messages: the nearest valid name, and all valid names when there are at most 16."""
    options = list(valid)
    # Capitals do not matter; of options that differ in capitals alone the first is meant, hence the two reversals.
    spelled = {option.casefold(): option for option in reversed(options)}
    close = difflib.get_close_matches(name.casefold(), list(spelled)[::-1], n=1, cutoff=0.5)
    listed = f" (valid: {', '.join(options)})" if 0 < len(options) <= 16 else ""
    return (f"; did you mean {spelled[close[0]]!r}?" if close else "") + listed
