"""Specs are frozen dataclasses: their canonical JSON, their content hash, and overrides typed by a user.

A spec's hash covers every field, so two settings never share a result. A spec may add ``fingerprint()`` (a short string
such as the digest of a file it reads; an empty one is left out) and mark fields ``metadata={"hash": False}`` that only
say *where* things are. A field that a spec gets when results are kept already is ``added(default)``.

Classes of Foray's own are known by their names; anybody else's, and functions, by their module and name, the module
of a study file being the file's own name, wherever it lies. What a class or function *does* is not in the hash: one
whose body is edited in place is given the results of the old one. Rename it, or give the class a field ``version``.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

S = TypeVar("S")


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds: how specs refuse impossible values."""
    if not condition:
        raise ValueError(message)


def check_name(name: Any, what: str) -> None:
    """Raises ValueError for a name that could not be a file's, a column's or a word on a terminal."""
    ok = isinstance(name, str) and 0 < len(name) <= 100 and name.isprintable() and name == name.strip()
    ok = ok and not any(c in name for c in "/\\") and name[0] not in ".=+-@~"
    rules = "up to 100 printable characters without slashes, the first none of .=+-@~"
    require(ok, f"{what} cannot be called {name!r}: a name is {rules}")


def added(default: Any) -> Any:
    """A field that a spec got later: left out of the JSON at its default, so that earlier results keep their keys."""
    return dataclasses.field(default=default, metadata={"added": True})


def to_json(value: Any) -> Any:
    """Plain JSON data for a spec; dataclasses carry their class as ``type``.

    Raises ValueError for a value that has no place in a spec.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {"type": _class_name(type(value))}
        for f in dataclasses.fields(value):
            content = getattr(value, f.name)
            if f.metadata.get("hash", True) and not (f.metadata.get("added") and content == f.default):
                out[f.name] = to_json(content)
        fingerprint = getattr(value, "fingerprint", None)
        if callable(fingerprint) and (found := fingerprint()):
            out["fingerprint"] = found
        return out
    if isinstance(value, tuple | list):
        return [to_json(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    raise ValueError(f"a spec cannot hold {value!r}: use numbers, strings, tuples, dicts or frozen dataclasses")


def _class_name(cls: type) -> str:
    own = cls.__module__.partition(".")[0] == "foray"
    return cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"


def canonical(value: Any) -> str:
    """One JSON text for equal specs, whatever the order of dict keys."""
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def fill_root(spec: S, root: str) -> S:
    """The spec with every empty field ``root`` in it, at any depth, set to ``root``: where relative paths begin."""
    filled: S = _filled(spec, root)
    return filled


def _filled(value: Any, root: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        changed = {k: new for k, v in names.items() if (new := _filled(v, root)) is not v}
        if names.get("root") == "" and root:
            changed["root"] = root
        return dataclasses.replace(value, **changed) if changed else value
    if isinstance(value, tuple):
        items = tuple(_filled(v, root) for v in value)
        return items if any(a is not b for a, b in zip(items, value)) else value
    return value


def nearest(name: str, valid: Iterable[str]) -> str:
    """A clause for error messages: the nearest valid name, and all of them when they are few."""
    options = list(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    listed = f" (valid: {', '.join(options)})" if len(options) <= 16 else ""
    return (f"; did you mean {close[0]!r}?" if close else "") + listed


def override(spec: S, *assignments: str) -> S:
    """A copy of ``spec`` with settings changed, each as in ``pretrain.lr=1e-3``; validity is judged when all are in.

    Levels may be left out where what remains is unambiguous: ``pretrain.lr`` finds ``pretrain.stream.optimizer.lr``.
    Raises ValueError with the nearest valid name, with what the setting expects, or with what is impossible about it.
    """
    for assignment in assignments:
        path, sep, text = assignment.partition("=")
        if not sep or not path:
            raise ValueError(f"--set {assignment}: write it as key=value, for example pretrain.lr=1e-3")
        spec = _set(spec, path.strip().split("."), text.strip(), path.strip())
    try:
        _validate(spec)
    except ValueError as e:
        raise ValueError(f"--set {' '.join(assignments)}: {e}") from None
    return spec


def _validate(node: Any) -> None:
    """Every spec's own check of its values, innermost first."""
    for child in _children(node).values():
        _validate(child)
    for name in ("__post_init__", "check_whole"):  # the latter of what is made with settings still to come
        check = getattr(node, name, None)
        if check is not None and not isinstance(node, type):
            check()


def _set(node: Any, parts: list[str], text: str, full: str, kind: Any = Any) -> Any:
    """``node`` with a setting changed; ``kind`` is what its own place is annotated with."""
    head, rest = parts[0], parts[1:]
    children = _children(node)
    if head not in children:
        found = _descend(node, head)
        if len(found) > 1:
            ways = " or ".join(".".join([*way, head]) for way in found)
            raise ValueError(f"--set {full}: {head!r} is ambiguous, write {ways}")
        if not found:
            names = sorted({*children, *_all_names(node)}) if not children else list(children)
            deeper = difflib.get_close_matches(head, sorted(_all_names(node)), n=1, cutoff=0.75)
            hint = nearest(head, names) if not deeper else f"; did you mean {deeper[0]!r}?"
            raise ValueError(f"--set {full}: there is no setting {head!r} here{hint}")
        return _set(node, [*found[0], head, *rest], text, full, kind)
    value, inner = children[head], _annotation(node, head, kind)
    anything = Any in (inner, *typing.get_args(inner))
    if not rest and anything and dataclasses.is_dataclass(value) and not _left_out(node, head, text):
        raise ValueError(
            f"--set {full}={text}: a {type(value).__name__} stands here, with settings of its own "
            f"({', '.join(_children(value)) or 'none'}); set those, or put another in its place in a study file"
        )
    if rest:
        new = _set(value, rest, text, full, inner)
    else:
        new = None if _left_out(node, head, text) else _parse(text, inner, value, full)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        changed = copy.copy(node)  # not ``replace``: its checks would see one setting of several
        object.__setattr__(changed, head, new)
        return changed
    if isinstance(node, dict):
        return {**node, head: new}
    items = list(node)
    items[int(head)] = new
    return tuple(items)


def _children(node: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {f.name: getattr(node, f.name) for f in dataclasses.fields(node) if f.init}
    if isinstance(node, dict):
        return {str(k): v for k, v in node.items()}
    if isinstance(node, tuple | list):
        return {str(i): v for i, v in enumerate(node)}
    return {}


def _descend(node: Any, name: str) -> list[list[str]]:
    """The shallowest paths below ``node`` that lead to a child called ``name``."""
    level: list[tuple[list[str], Any]] = [([], node)]
    while level:
        found = [path for path, n in level if name in _children(n)]
        if found:
            return found
        level = [([*path, k], v) for path, n in level for k, v in _children(n).items() if _children(v)]
    return []


def _all_names(node: Any) -> set[str]:
    children = _children(node)
    return {k for k in children if not k.isdigit()}.union(*(_all_names(v) for v in children.values()))


def _annotation(node: Any, name: str, kind: Any) -> Any:
    """What a child is annotated with: by its dataclass, or within a tuple by the tuple's own annotation ``kind``."""
    if dataclasses.is_dataclass(node):
        cls = node if isinstance(node, type) else type(node)
        return typing.get_type_hints(cls).get(name, Any)
    args = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    inner = args[0 if args[1:] == (...,) else int(name)] if args else Any
    # A value written 1 where the annotation says float is a float; without an annotation it is what it was.
    return type(_children(node)[name]) if inner is Any else inner


def _left_out(node: Any, name: str, text: str) -> bool:
    """Whether ``text`` takes something away that its dataclass can do without."""
    fields = dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
    return text.lower() in ("none", "null") and any(f.name == name and f.default is None for f in fields)


def _parse(text: str, annotation: Any, current: Any, full: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, brackets without end
        value = text
    if text.lower() == "none":
        value = None
    if value is None and annotation is not Any and _coerce(None, annotation)[0]:
        return None
    if isinstance(current, tuple) and not isinstance(value, list):
        value = [_literal(part) for part in text.split(",")] if text else []
    ok, typed = _coerce(value, annotation)
    if not ok and not isinstance(value, str):
        ok, typed = _coerce(text, annotation)
    if not ok:
        want = (
            "a finite number"
            if annotation is float
            else str(annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")
        )
        raise ValueError(f"--set {full}={text}: expected {want}, for example {current!r}")
    return typed


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _coerce(value: Any, annotation: Any) -> tuple[bool, Any]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return True, value
    if origin in (typing.Union, types.UnionType):
        for option in args:
            ok, typed = _coerce(value, option)
            if ok:
                return True, typed
        return False, value
    if origin is typing.Literal:
        return value in args, value
    if origin is tuple or annotation is tuple:
        if not isinstance(value, list | tuple):
            return False, value
        kinds = (args[0],) * len(value) if len(args) == 2 and args[1] is Ellipsis else args or (Any,) * len(value)
        typed = [_coerce(v, k) for v, k in zip(value, kinds)]
        return len(kinds) == len(value) and all(ok for ok, _ in typed), tuple(v for _, v in typed)
    if annotation in (None, type(None)):
        return value is None, value
    if annotation is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        return number, float(value) if number else value
    if annotation is int:
        whole = isinstance(value, float) and value.is_integer()
        return (isinstance(value, int) and not isinstance(value, bool)) or whole, int(value) if whole else value
    if getattr(annotation, "_is_protocol", False):  # of which nothing is that could be written as text
        return False, value
    return isinstance(annotation, type) and isinstance(value, annotation), value
