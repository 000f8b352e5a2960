"""What can happen to a file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from foray.core.files import digest


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at] ^= 0x41
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def deleted(path: Path) -> None:
    path.unlink()


def swapped(path: Path) -> None:
    """Changes places with the same file of another node of its kind, or gets more than was written."""
    kind = next((p.name for p in path.parents if p.parent.name == "nodes"), "").rpartition("-")[0]
    inside = Path(*path.parts[path.parts.index("nodes") + 2 :]) if kind else Path(path.name)
    others = [p / inside for p in sorted(path.parents[len(inside.parts)].glob(f"{kind}-*"))] if kind else []
    other = next((p for p in others if p != path and p.exists() and digest(p) != digest(path)), None)
    if other is None:
        path.write_bytes(path.read_bytes() + b"\n{}")
        return
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def kinds_of_file(store: Path) -> dict[str, Path]:
    """One file of each kind of a finished store, by the kind of node and the name; of figures one of each format."""
    out: dict[str, Path] = {}
    for path in sorted(p for p in store.rglob("*") if p.is_file() and "claims" not in p.parts and p.name != ".lock"):
        name = re.sub(r"-[0-9a-f]{16}", "", str(path.relative_to(store)))
        out.setdefault(re.sub(r"figures/.*\.", "figures/*.", name), path)
    return out
