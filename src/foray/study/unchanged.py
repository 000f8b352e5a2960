"""Whether what a node reads is still what its key says: a user may edit a file while a study runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from foray.study.node import Node


def changed_input(node: Node) -> str:
    """One line where the node's key, made anew from the files as they are now, is another one; else nothing.

    A node's own key and spec are made once and kept. A copy of the node has neither.
    """
    now = replace(node)
    if now.key == node.key:
        return ""
    return f"{_changed(node.spec, now.spec) or 'its input'} changed while the study ran: run again"


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
