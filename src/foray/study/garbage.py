"""What may be deleted from a store, and why.

Always kept: every evaluation, log, shard and weights file of the named studies, the state from which an unfinished node
or a later M_t goes on, and every file that Foray does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from foray.core.canonical import content_hash, require
from foray.core.files import GONE, NODE, SEAL, SLOTS, SPEC, prune, read_json, read_object, remove, sealed, sealed_files
from foray.study.graph import expand
from foray.study.kinds.training import TrainNode
from foray.study.last_report import nodes_in
from foray.study.node import Node
from foray.study.spec import Study
from foray.study.store import ASIDE as SET_ASIDE
from foray.study.store import ASKED, MANIFEST, Store

UNASKED = "no study named here, with these settings, asks for it"
SHOWN = "no study named here, with these settings, asks for it; the last report showed it, or a result made from it"
CRASHED = "left by a process that was killed"
ASIDE = "a damaged node, set aside"
ROLLING = "rolling checkpoint of a finished node"
STATE = "optimizer state; every later step of its stage is there"

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")  # of core.files.write_atomic
# In a store's root.
_OURS = ("nodes", MANIFEST, ASKED, ".lock", "report", "claims", "progress", "slurm", "tracking", "watched.py")


@dataclass(frozen=True)
class Item:
    """A file or folder that may be deleted, why, its size in bytes, and the label of its node."""

    path: Path
    why: str
    size: int
    label: str = ""


@dataclass(frozen=True)
class Garbage:
    """What may be deleted, and what is left because Foray does not know it."""

    items: tuple[Item, ...]
    unknown: tuple[Path, ...]

    def going(self, reported: bool = False) -> tuple[Item, ...]:
        """The items without those of the last report, unless ``reported``."""
        return tuple(item for item in self.items if reported or item.why != SHOWN)


def find_garbage(studies: Sequence[Study], store: Store) -> Garbage:
    """Looks through the store; deletes nothing. Raises ValueError where the store's last report is of another study."""
    shown = _last_report(studies, store)
    every = [node for study in studies for node in expand(study).nodes]
    asked, trained = {node.key: node for node in every}, [n for n in every if isinstance(n, TrainNode)]
    items, unknown = list[Item](), list[Path]()
    for path in sorted(store.root.iterdir()):
        if _TEMPORARY.fullmatch(path.name):
            items.append(_item(path, CRASHED))
        elif path.name not in _OURS and not path.name.startswith("report-"):
            unknown.append(path)
    nodes = store.root / "nodes"
    for folder in sorted(nodes.iterdir()) if nodes.is_dir() else []:
        node = asked.get(folder.name.rpartition("-")[2])
        wanted = node is not None and folder == node.folder(store)
        if folder.name.endswith(GONE):
            items.append(_item(folder, CRASHED))
        elif SET_ASIDE.search(folder.name):
            items.append(_item(folder, ASIDE))
        elif folder.is_symlink() or not (wanted or _is_node(folder)):
            unknown.append(folder)
        else:
            strange = _strange(folder)
            unknown += strange
            if node is not None and wanted:
                found = _within(node, folder, store, trained)
                items += [i for i in found if not any(p.is_relative_to(i.path) for p in strange)]
            elif not strange:
                items.append(_item(folder, SHOWN if folder.name in shown else UNASKED))
    return Garbage(tuple(items), tuple(unknown))


def delete_garbage(studies: Sequence[Study], store: Store, reported: bool = False) -> Garbage:
    """Deletes what ``find_garbage`` finds, under the store's lock; returns it.

    What the last report showed stays, with all that it was made from, unless ``reported``.
    """
    with store.lock():
        found = find_garbage(studies, store)
        for item in found.going(reported):
            if sealed(item.path.parent):
                prune(item.path.parent, item.path.name)
            else:
                remove(item.path)
        if any(item.why == SHOWN for item in found.going(reported)):
            for drawn in store.root.glob(f"report*/{SEAL}"):  # a report of what is gone is kept no more
                drawn.unlink()
    return found


def _last_report(studies: Sequence[Study], store: Store) -> set[str]:
    """Folders that it showed, and those that they were made from."""
    manifest = store.root / MANIFEST
    if not manifest.exists():
        return set()
    content = read_object(manifest, "delete it and run the study again", study=str, entries=list)
    of, names = content["study"], [s.name for s in studies]
    require(of in names, f"the last report of {store.root} is of the study {of!r}: name that study (too)")
    return {Path(name).name for name in nodes_in(content, manifest)}


def _within(node: Node, folder: Path, store: Store, trained: Sequence[TrainNode]) -> Iterator[Item]:
    """What may be deleted of a node that a study asks for. An unfinished node keeps all its files."""
    if not sealed(folder):
        return
    for path in sorted(folder.iterdir()):
        if _TEMPORARY.fullmatch(path.name) or path.name.endswith(GONE):
            yield _item(path, CRASHED)
        elif path.name in SLOTS:
            yield _item(path, ROLLING)
    if not isinstance(node, TrainNode) or node.step == node.stage.steps:
        return
    later = [n.done(store) for n in trained if _goes_on(n, node)]
    if later and all(later) and (folder / "state").exists():  # a longer training would go on from the last one's
        yield _item(folder / "state", STATE)


def _goes_on(later: TrainNode, node: TrainNode) -> bool:
    """Whether ``later`` is a later step of the stage that ``node`` is inside."""
    while later.after is not None:
        later = later.after
        if later.key == node.key:
            return True
    return False


def _is_node(folder: Path) -> bool:
    """Whether Foray made the folder: its name holds the hash of the spec in it."""
    spec = folder / SPEC
    if not NODE.fullmatch(folder.name) or not spec.is_file():
        return False
    try:
        return content_hash(read_json(spec)) == folder.name.rpartition("-")[2]
    except (ValueError, OSError):
        return False


def _strange(folder: Path) -> list[Path]:
    """Files in a finished node that the node did not make. Their folder is kept."""
    if not sealed(folder):
        return []
    own = {*sealed_files(folder), SEAL}
    listed = {name.partition("/")[0] for name in own}
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and not _is_own(p.relative_to(folder), own, listed)]


def _is_own(path: Path, own: set[str], listed: set[str]) -> bool:
    """Whether the seal lists the file, or a killed deletion left it after the seal stopped listing it."""
    first = path.parts[0]
    left = first.endswith(GONE) or (first in ("state", *SLOTS) and first not in listed)
    return str(path) in own or left or _TEMPORARY.fullmatch(path.name) is not None


def _item(path: Path, why: str) -> Item:
    files = [path] if path.is_symlink() or not path.is_dir() else [p for p in path.rglob("*") if not p.is_dir()]
    node = next((p for p in (path.parent, path) if sealed(p)), None)
    label = str(read_object(node / SEAL).get("label", "")) if node else ""
    return Item(path, why, sum(p.lstat().st_size for p in files), label)
