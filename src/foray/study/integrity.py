"""A check of a store against its seals: every byte of every finished folder is read once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foray.core.files import (
    GONE,
    SEAL,
    SPEC,
    Damaged,
    check_identity,
    digest,
    read_json,
    sealed,
    sealed_files,
    verify,
    verify_file,
)
from foray.core.made_from import other_weights
from foray.data.prepared import linked
from foray.study.last_report import drawn_from, manifest_text, shown_results
from foray.study.store import ASIDE, MANIFEST, Store

Tell = Callable[[int], None]  # takes a number of bytes
_LABELS = 3  # dependent nodes that a line names


@dataclass(frozen=True)
class DamagedFolder:
    """A folder that is not as it was written, what is wrong, and the nodes that were made from it."""

    folder: Path
    what: str
    label: str = ""
    dependents: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        text = f"{self.what}{f' ({self.label})' if self.label else ''}"
        if not self.dependents:
            return text
        more = f" and {len(self.dependents) - _LABELS} more" if len(self.dependents) > _LABELS else ""
        return f"{text}; {len(self.dependents)} nodes are made from it: {', '.join(self.dependents[:_LABELS])}{more}"


@dataclass
class Examined:
    """The result of an examination."""

    folders: int = 0
    files: int = 0
    size: int = 0
    unfinished: int = 0
    findings: list[DamagedFolder] = field(default_factory=list)
    corpora: list[str] = field(default_factory=list)  # what is wrong with files outside the store that shards point to
    unseen: list[str] = field(default_factory=list)  # such files that are not to be found


def examine(store: Store, jobs: int, total: Tell = lambda _: None, read: Tell = lambda _: None) -> Examined:
    """Compares every file of every finished folder with its seal, ``jobs`` files at a time.

    ``total`` is told the bytes that will be read, ``read`` those of each file. Nothing is changed.
    """
    out = Examined()
    work: list[tuple[Path, str, str]] = []
    found: dict[Path, str] = {}
    for folder in _folders(store.root):
        if not sealed(folder):
            out.unfinished += folder.parent.name == "nodes"
            continue
        out.folders += 1
        try:
            work += [(folder, name, digest) for name, digest in sealed_files(folder).items()]
        except Damaged as e:
            found[folder] = e.what
    outside = _outside(store.root, out)
    out.files = len(work) + len(outside)
    out.size = sum(_size(folder / name) for folder, name, _ in work) + sum(map(_size, outside))
    total(out.size)

    def examined(item: tuple[Path, str, str]) -> None:
        folder, name, digest = item
        try:
            read(verify_file(folder, name, digest))
            if name == SPEC:
                check_identity(folder, {name: digest})
        except Damaged as e:
            found.setdefault(folder, e.what)

    def examined_outside(item: tuple[Path, str]) -> None:
        path, expected = item
        try:
            if digest(path) != expected:
                out.corpora.append(f"{path} is damaged (its checksum has changed)")
            read(_size(path))
        except OSError as e:
            out.corpora.append(f"{path} cannot be read ({e.strerror})")

    with ThreadPoolExecutor(max(1, jobs)) as pool:
        list(pool.map(examined, work))
        list(pool.map(examined_outside, outside.items()))
    out.corpora.sort()
    found = {folder: what for folder, what in found.items() if _is_still(folder)}
    drawn = drawn_from(store.root)
    if drawn and manifest_text(store.root) not in drawn.values():
        found.setdefault(next(iter(drawn)), f"{store.root / MANIFEST} is not as it was written")
    for folder in {store.root / name for name in shown_results(store.root)} - found.keys():
        if not sealed(folder):
            found[folder] = f"{folder} is gone or unfinished, which the last report showed"
    children, labels = _made_from(store.root)
    nodes = [f for f in _folders(store.root) if f.parent.name == "nodes" and sealed(f)]
    for folder, parent in other_weights(nodes).items():
        found.setdefault(folder, f"{folder} was made from other weights than {parent.name} has now")
    for folder, what in sorted(found.items()):
        key = folder.name.rpartition("-")[2]
        below = _below(key, children)
        out.findings.append(DamagedFolder(folder, what, labels.get(key, ""), tuple(labels.get(k, k) for k in below)))
    return out


def _is_still(folder: Path) -> bool:
    """Whether a folder found damaged is damaged still. A run at the same time removes folders and shortens seals."""
    try:
        verify(folder)
    except Damaged:
        return True
    except ValueError:  # not sealed any more
        pass
    return False


def _folders(root: Path) -> Iterator[Path]:
    """Every folder of a store that can be sealed: nodes, rolling checkpoints inside them, reports."""
    nodes = root / "nodes"
    for folder in sorted(nodes.iterdir()) if nodes.is_dir() else []:
        if folder.is_dir() and folder.suffix != GONE and not ASIDE.search(folder.name):
            yield folder
            yield from (slot for slot in sorted(folder.glob("resume-?")) if sealed(slot))
    yield from (p for p in sorted(root.glob("report*")) if p.is_dir())


def _outside(root: Path, out: Examined) -> dict[Path, str]:
    """SHA-256 of the files of prepared corpora that shards point to, each once; those not to be found are noted."""
    wanted: dict[Path, str] = {}
    for folder in sorted(root.glob("nodes/shard-*")):
        if not sealed(folder) or ASIDE.search(folder.name):
            continue
        try:
            place, digests = linked(folder)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            continue  # a damaged shard is found as such
        if digests and (place is None or not place.is_dir()):
            where = "whose place it does not say" if place is None else f"that is not at {place}"
            out.unseen.append(f"{folder.name} points to {len(digests)} files of a prepared corpus {where}")
        elif place is not None:
            wanted |= {place / name: expected for name, expected in digests.items()}
    return wanted


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _made_from(root: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Of every node by its key: the keys of the nodes that name it in their specs, and its label."""
    children: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    keys = {f.name.rpartition("-")[2]: f for f in sorted(root.glob("nodes/*-*")) if sealed(f)}
    for key, folder in keys.items():
        try:
            labels[key] = str(read_json(folder / SEAL).get("label", ""))
            named = set(_texts(read_json(folder / SPEC)))
        except (OSError, ValueError, AttributeError):
            continue
        for parent in sorted(named & keys.keys()):
            children.setdefault(parent, []).append(key)
    return children, labels


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


def _below(key: str, children: dict[str, list[str]]) -> list[str]:
    """All nodes that a node's content has gone into, the nearest first."""
    out = dict.fromkeys(children.get(key, []))
    todo = list(out)
    for one in todo:
        for child in children.get(one, []):
            if child not in out:
                out[child] = None
                todo.append(child)
    return list(out)
