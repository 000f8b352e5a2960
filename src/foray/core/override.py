"""Settings that a user types: ``pretrain.lr=1e-3`` becomes a changed copy of a spec."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import types
import typing
from typing import Any, TypeVar

from foray.core.canonical import nearest
from foray.core.field_types import SEVERAL, is_protocol, words_of
from foray.core.spelling import with_article

S = TypeVar("S")
# What other programs call a setting or a value.
_ALSO = {
    "learning_rate": "lr", "warmup_ratio": "warmup", "beta": "kl", "kl_coef": "kl", "num_generations": "group_size",
    "gpu": "cuda", "rollouts": "group_size", "n": "group_size",
    "max_tokens": "max_new_tokens", "max_length": "max_new_tokens",
}  # fmt: skip
_WANTED: dict[Any, str] = {
    float: "a finite number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
    float | None: "a finite number or none",
    int | None: "a whole number or none",
    tuple[int, ...]: "whole numbers separated by commas",
    tuple[float, ...]: "numbers separated by commas",
    tuple[str, ...]: "words separated by commas",
}


def override(spec: S, *assignments: str) -> S:
    """A copy of ``spec`` with settings changed, each written as in ``pretrain.lr=1e-3``.

    Levels may be left out where the rest is unambiguous: ``pretrain.lr`` finds ``pretrain.stream.optimizer.lr``. The
    spec is checked after all changes. Raises ValueError for an unknown name (with the nearest valid name), for a value
    of the wrong type, and for a value that the spec refuses. What was wrong before any change is not laid to one.
    """
    before = spec
    for assignment in assignments:
        path, sep, text = assignment.partition("=")
        if not sep or not path:
            raise ValueError(f"--set {assignment}: write it as key=value, for example pretrain.lr=1e-3")
        spec = _set(spec, path.strip().split("."), text.strip(), path.strip())
    try:
        _validate(spec)
    except ValueError as e:
        where = "" if str(e) == _complaint(before) else f"--set {' '.join(assignments)}: "
        raise ValueError(f"{where}{e}") from None
    return spec


def _complaint(spec: Any) -> str:
    """What the checks of a spec say against it."""
    try:
        _validate(spec)
    except ValueError as e:
        return str(e)
    return ""


def _validate(node: Any) -> None:
    """Runs the checks of every spec, innermost first."""
    for child in children(node).values():
        _validate(child)
    for name in ("__post_init__", "check_whole"):  # check_whole: of a spec that is incomplete when it is made
        check = getattr(node, name, None)
        if check is not None and not isinstance(node, type):
            check()


def _set(node: Any, parts: list[str], text: str, full: str, kind: Any = Any) -> Any:
    """``node`` with one setting changed. ``kind``: the annotation of the place where ``node`` stands."""
    head, rest = parts[0], parts[1:]
    below = children(node)
    if head not in below:
        found = _descend(node, head)
        if len(found) > 1:
            ways = " or ".join(".".join([*way, head]) for way in found)
            raise ValueError(f"--set {full}: {head!r} is ambiguous, write {ways}")
        if not found:
            names = list(below) or sorted(_all_names(node))
            deeper = difflib.get_close_matches(head, sorted(_all_names(node)), n=1, cutoff=0.75)
            meant = deeper or [word for word in (_ALSO.get(head),) if word in _all_names(node)]
            hint = nearest(head, names) if not meant else f"; did you mean {meant[0]!r}?"
            raise ValueError(f"--set {full}: there is no setting {head!r} here{hint}")
        return _set(node, [*found[0], head, *rest], text, full, kind)
    value, inner = below[head], _annotation(node, head, kind)
    if rest and value is None:
        value = derived_for(node, head)
    made = derived_for(node, head) if value is None else value
    if not rest and dataclasses.is_dataclass(made) and _objects(inner) and not _left_out(node, head, text):
        raise ValueError(
            f"--set {full}={text}: {with_article(type(made).__name__)} stands here, with settings of its own "
            f"({', '.join(f'{full}.{k}' for k in children(made)) or 'none'}); set those, or put another in its place "
            "in a study file"
        )
    if rest:
        if value is None:
            place = full.removesuffix("." + ".".join(rest))
            raise ValueError(f"--set {full}: {place} is none here, without settings: put a value there in a study file")
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


def children(node: Any) -> dict[str, Any]:
    """What a setting can name below a spec, a dict or a tuple; empty for a plain value."""
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
        found = [path for path, n in level if name in children(n)]
        if found:
            return found
        level = [([*path, k], v) for path, n in level for k, v in children(n).items() if children(v)]
    return []


def _all_names(node: Any) -> set[str]:
    below = children(node)
    return {k for k in below if not k.isdigit()}.union(*(_all_names(v) for v in below.values()))


def _annotation(node: Any, name: str, kind: Any) -> Any:
    """The annotation of a child: from its dataclass, or, in a tuple, from the annotation ``kind`` of the tuple."""
    if dataclasses.is_dataclass(node):
        cls = node if isinstance(node, type) else type(node)
        return typing.get_type_hints(cls).get(name, Any)
    args = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    inner = args[0 if args[1:] == (...,) else int(name)] if args else Any
    # Where nothing is annotated, a setting keeps the type of its old value.
    return type(children(node)[name]) if inner is Any else inner


def _objects(annotation: Any) -> bool:
    """Whether an annotation means objects, which no text can write."""
    kinds = [kind for kind in typing.get_args(annotation) or (annotation,) if kind is not type(None)]
    return any(k is Any or is_protocol(k) for k in kinds) or all(dataclasses.is_dataclass(k) for k in kinds)


def derived_for(node: Any, name: str) -> Any:
    """What stands for a field that is None and that a setting reaches into; None where nothing does."""
    fields = dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
    found = [f.metadata["derived"] for f in fields if f.name == name and "derived" in f.metadata]
    return getattr(node, found[0])() if found else None


def _left_out(node: Any, name: str, text: str) -> bool:
    """Whether ``text`` says none, and None is the default of the field."""
    fields = dataclasses.fields(node) if dataclasses.is_dataclass(node) else ()
    return text.lower() in ("none", "null") and any(f.name == name and f.default is None for f in fields)


def _parse(text: str, annotation: Any, current: Any, full: str) -> Any:
    try:
        value = json.loads(text.lower() if text in ("True", "False") else text)
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
        if words := words_of(annotation):
            meant = _ALSO.get(text.lower(), "")
            hint = f"; did you mean {meant!r}?" if meant in words else nearest(text, words)
            raise ValueError(f"--set {full}={text}: there is no such value{hint}")
        values = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
        kinds = {SEVERAL.get(kind, "") for kind in values}
        several = f"{len(values)} {kinds.pop()} separated by commas" if len(kinds) == 1 and "" not in kinds else ""
        want = _WANTED.get(annotation) or several or "what a study file puts there"
        example = f", for example {written(current)}" if current not in ((), "") else ""
        raise ValueError(f"--set {full}={text}: expected {want}{example}")
    return typed


def written(value: Any) -> str:
    """The value as ``--set`` takes it."""
    simple = isinstance(value, tuple) and value and not any(children(v) for v in value)
    return ",".join(map(str, value)) if simple else repr(value)


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
    if is_protocol(annotation):  # an object of a protocol cannot be written as text
        return False, value
    return isinstance(annotation, type) and isinstance(value, annotation), value
