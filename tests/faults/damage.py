"""What can happen to files, and which files to try it on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from foray.core.files import digest


class Victim(NamedTuple):
    """A file, and the same file of another node with other content, where there is one."""

    path: Path
    other: Path | None

    @property
    def folders(self) -> set[Path]:
        return {sealed_folder(p) for p in (self.path, self.other) if p is not None}


def flipped(victim: Victim) -> set[Path]:
    data = bytearray(victim.path.read_bytes())
    data[len(data) // 2] ^= 0x41
    victim.path.write_bytes(data)
    return {sealed_folder(victim.path)}


def cut(victim: Victim) -> set[Path]:
    os.truncate(victim.path, victim.path.stat().st_size // 2)
    return {sealed_folder(victim.path)}


def emptied(victim: Victim) -> set[Path]:
    os.truncate(victim.path, 0)
    return {sealed_folder(victim.path)}


def deleted(victim: Victim) -> set[Path]:
    victim.path.unlink()
    return {sealed_folder(victim.path)}


def swapped(victim: Victim) -> set[Path]:
    """The two change places; where there is one alone, it gets more than was written."""
    path, other = victim
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes() if other else mine + b"\n{}")
    if other:
        other.write_bytes(mine)
    return victim.folders


def sealed_folder(path: Path) -> Path:
    """The node's folder or the report's; of the manifest beside it the report's too."""
    node = next((p for p in path.parents if p.parent.name == "nodes"), None)
    return node or next(p for p in path.parents if (p / "nodes").is_dir()) / "report"


def kind_of_file(path: Path, store: Path) -> str:
    """The kind of node and the name; of figures and tables the format."""
    name = re.sub(r"-[0-9a-f]{16}", "", str(path.relative_to(store)))
    return re.sub(r"(report|figures)/[^/]*\.(csv|png|pdf)$", r"\1/*.\2", name)


def batches(store: Path) -> Iterator[dict[str, Victim]]:
    """A file of every kind in a finished store, as many together as lie in different folders."""
    left: dict[str, list[Path]] = {}
    for path in sorted(p for p in store.rglob("*") if p.is_file() and p.stat().st_size):
        if "claims" not in path.parts:
            left.setdefault(kind_of_file(path, store), []).append(path)
    while left:
        taken: set[Path] = set()
        batch: dict[str, Victim] = {}
        for kind, paths in left.items():
            free = [p for p in paths if sealed_folder(p) not in taken]
            if free:
                first, *others = free
                others = [p for p in others if sealed_folder(p) != sealed_folder(first) and digest(p) != digest(first)]
                batch[kind] = Victim(first, others[0] if others else None)
                taken |= batch[kind].folders
        left = {kind: paths for kind, paths in left.items() if kind not in batch}
        yield batch
