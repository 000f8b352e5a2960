"""Whether what a node reads is still what its key says: a user may edit a file while a study runs."""

from __future__ import annotations

from typing import Any

from foray.data.rows import MissingFile
from foray.study.kinds.tokens import SealedText
from foray.study.node import Node


def changed_input(node: Node, over: bool = False) -> str:
    """One line where the node's spec, made anew from the files that the node reads as they are now, is another one.

    ``over``: the node has run. A file that is gone by then was read before, and counts as unchanged.
    """
    try:
        now = _as_read(node.spec, node.asked().spec)
    except (MissingFile, FileNotFoundError):
        if not over:
            raise
        return ""
    if now == node.spec:
        return ""
    return f"{_changed(node.spec, now) or 'its input'} changed while the study ran: run again"


def _as_read(before: Any, now: Any) -> Any:
    """``now``, with what was there ``before`` in the place of every ``SealedText``."""
    if isinstance(before, dict) and isinstance(now, dict):
        if now.get("type") == SealedText.__name__:
            return before
        return {name: _as_read(before.get(name), value) for name, value in now.items()}
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [_as_read(*pair) for pair in zip(before, now)]
    return now


def _changed(before: Any, now: Any) -> str:
    """What the innermost object with another fingerprint calls itself: its path, or its name, or its class."""
    if before == now:
        return ""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(value, now.get(name)) for name, value in before.items()]
    elif isinstance(before, list) and isinstance(now, list):
        pairs = list(zip(before, now))
    inside = next((words for pair in pairs if (words := _changed(*pair))), "")
    if inside or not isinstance(before, dict) or before.get("fingerprint") == now.get("fingerprint"):
        return inside
    return next((str(before[name]) for name in ("path", "name", "type") if before.get(name)), "")
