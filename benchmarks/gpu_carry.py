"""Finished nodes of a store as a few files of limited size, and back: how a study moves from one lent card to the next.

A node is packed alone. Weights are compressed with the bytes of each number apart: the bytes that hold exponents
shrink, to 86% of the whole. All packed nodes are one stream, cut into files ``store.0``, ``store.1`` and so on;
``store.json`` says where each node lies.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from foray.core.files import NODE, SEAL, SPEC, json_text, read_json, sealed, sealed_files, verify
from foray.study.graph import Graph
from foray.study.node import Node
from foray.study.store import Store

INDEX = "store.json"
PIECE = (16 << 20) - 1024  # bytes of a file: at most 16 MiB come back
MADE_AGAIN = ("shard",)  # kinds that are made anew on every card, to the byte, and take longer to carry
NEVER = ("state/",)  # of a node: without the moments, a later step of its stage would begin at the stage's first
ALL_BUT_SPEC = ""  # a node that is done and that nobody reads there: its name and its spec are enough

Leave = Callable[[str], bool]  # whether a file of a node, by its path, stays behind


def packed(folder: Path, leave: Leave) -> bytes:
    """A sealed folder in one piece, without the files that are to stay behind: its list of files says so."""
    kept = {name: digest for name, digest in sealed_files(folder).items() if name == SPEC or not leave(name)}
    contents = {SEAL: json_text(read_json(folder / SEAL) | {"files": kept}, indent=1).encode()}
    contents |= {name: (folder / name).read_bytes() for name in kept}
    head = json_text([[name, len(content)] for name, content in contents.items()]).encode()
    body = b"".join(_apart(name, content) for name, content in contents.items())
    return zlib.compress(len(head).to_bytes(8, "big") + head + body, 1 if len(body) > 1 << 20 else 6)


def unpack(blob: bytes, folder: Path) -> None:
    """Makes the folder of a packed node. Raises ValueError where what comes out is not what was sealed."""
    content = zlib.decompress(blob)
    at = 8 + int.from_bytes(content[:8], "big")
    for name, size in json.loads(content[8:at]):
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"{folder.name} holds a file outside of it: {name}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_together(name, content[at : at + size]))
        at += size
    verify(folder)


def _apart(name: str, content: bytes) -> bytes:
    """Every first byte of four, then every second one and so on; the rest as it is."""
    if not name.endswith(".safetensors"):
        return content
    whole = len(content) - len(content) % 4
    return np.frombuffer(content[:whole], np.uint8).reshape(-1, 4).T.tobytes() + content[whole:]


def _together(name: str, content: bytes) -> bytes:
    if not name.endswith(".safetensors"):
        return content
    whole = len(content) - len(content) % 4
    return np.frombuffer(content[:whole], np.uint8).reshape(4, -1).T.tobytes() + content[whole:]


def write(blobs: Iterable[tuple[str, bytes]], out: Path, limit: int, **facts: Any) -> list[str]:
    """Writes named blobs, as many of the first ones as ``limit`` bytes hold, and returns the names of those."""
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("store.[0-9]*"), out / INDEX]:
        old.unlink(missing_ok=True)
    rows: list[list[Any]] = []
    stream = bytearray()
    for name, blob in blobs:
        if len(stream) + len(blob) > limit:
            break
        rows.append([name, len(stream), len(blob), hashlib.sha256(blob).hexdigest()])
        stream += blob
    for number, begin in enumerate(range(0, len(stream), PIECE)):
        (out / f"store.{number}").write_bytes(stream[begin : begin + PIECE])
    (out / INDEX).write_text(json_text({**facts, "nodes": rows}, indent=1) + "\n", encoding="utf-8")
    return [str(row[0]) for row in rows]


def read(out: Path, store: Store) -> list[str]:
    """Unpacks what ``write`` wrote into a store; nodes that are done there stay as they are. Returns what is new."""
    index = read_json(out / INDEX)
    count = len(list(out.glob("store.[0-9]*")))
    stream = b"".join((out / f"store.{i}").read_bytes() for i in range(count))
    aside = store.root / "unpacking"
    new = []
    for name, begin, size, digest in index["nodes"]:
        if not NODE.fullmatch(name) or "/" in name:
            raise ValueError(f"{out / INDEX}: {name!r} is no node")
        blob = stream[begin : begin + size]
        if hashlib.sha256(blob).hexdigest() != digest:
            raise ValueError(f"{name} is damaged in {out}: fetch the files again")
        target = store.root / "nodes" / name
        if sealed(target):
            continue
        shutil.rmtree(aside, ignore_errors=True)
        unpack(blob, aside / name)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (aside / name).rename(target)
        new.append(str(name))
    shutil.rmtree(aside, ignore_errors=True)
    return new


def forth(graph: Graph, store: Store, out: Path, limit: int) -> tuple[list[str], list[str]]:
    """Packs what a card needs to go on; returns the labels of the nodes that can run there, and of those that cannot.

    A node that is done and read by one that is to run goes whole, but for its moments; of other nodes that are done
    the card gets name and spec, and so takes them as done. What does not fit waits, with all that hangs on it.
    """
    size, whole = 0, dict[str, bytes]()
    order = waves(graph)
    nodes = sorted((n for n in graph.nodes if n.kind not in MADE_AGAIN), key=lambda n: order[n.key])
    specs = {n.key: packed(n.folder(store), lambda _: True) for n in nodes if n.done(store)}
    size += sum(map(len, specs.values()))
    planned: set[str] = set()
    waiting: list[str] = []
    for node in nodes:
        if node.done(store):
            continue
        read_by_it = list(_read(node))
        new = {p.key: packed(p.folder(store), _moments) for p in read_by_it if p.done(store) and p.key not in whole}
        ready = all(p.done(store) or p.key in planned for p in read_by_it)
        more = sum(map(len, new.values()))
        if not ready or size + more > limit:
            waiting.append(node.label())
            continue
        planned.add(node.key)
        whole |= new
        size += more
    blobs = [(n.folder(store).name, whole.get(n.key, specs[n.key])) for n in nodes if n.done(store)]
    names = write(blobs, out, limit, plan=sorted(planned))
    assert len(names) == len(blobs), "what was counted fits"
    return [n.label() for n in nodes if n.key in planned], waiting


def _moments(name: str) -> bool:
    return name.startswith(NEVER)


def _read(node: Node) -> Iterable[Node]:
    """The nodes that a node reads, with those behind what is made again; an earlier step of its stage is no must."""
    for parent in node.parents():
        if parent is getattr(node, "after", None):
            continue
        if parent.kind in MADE_AGAIN:
            yield from _read(parent)
        else:
            yield parent


def made_again(node: Node) -> Iterable[Node]:
    """The nodes in front of a node that do not travel."""
    for parent in node.parents():
        if parent.kind in MADE_AGAIN:
            yield parent
            yield from made_again(parent)


def back(graph: Graph, store: Store, out: Path, limit: int, sent: set[str]) -> list[str]:
    """Packs finished nodes that are not yet ``sent``, the earliest first, as many as fit; returns their folders' names.

    The weights of a node that nobody has still to read stay behind.
    """
    wanted = {p.key for n in graph.nodes if not n.done(store) for p in _read(n)}
    done = [n for n in graph.nodes if n.done(store) and n.kind not in MADE_AGAIN and n.folder(store).name not in sent]
    done.sort(key=lambda n: (n.folder(store) / SEAL).stat().st_mtime)

    def blobs() -> Iterable[tuple[str, bytes]]:
        for n in done:
            left = NEVER if n.key in wanted else (*NEVER, "model/")
            yield n.folder(store).name, packed(n.folder(store), lambda name, left=left: name.startswith(left))  # type: ignore[misc]

    return write(blobs(), out, limit, undone=sum(not n.done(store) for n in graph.nodes))


def waves(graph: Graph) -> Mapping[str, int]:
    """When a node is to run, by its key: pre-training and text first (0), then all of one M_t before the next.

    No node is to run before its parents.
    """
    first = [n for n in graph.nodes if n.kind in MADE_AGAIN or _pretrains(n)]
    wanted = [*((0, n) for n in first), *sorted(((e.tokens, e.node) for e in graph.entries), key=lambda x: x[0])]
    out: dict[str, int] = {}
    for wave, node in wanted:
        todo = [node]
        while todo:
            node = todo.pop()
            if node.key not in out:
                out[node.key] = wave
                todo += node.parents()
    for node in graph.nodes:  # which nothing that is reported reads
        out.setdefault(node.key, max((out[p.key] for p in node.parents()), default=0))
    return out


def _pretrains(node: Node) -> bool:
    return node.kind == "train" and getattr(node, "parent", None) is None
