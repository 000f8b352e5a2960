"""A node is one unit of a study's work: a frozen dataclass whose key names its result in the store.

The key is the hash of the node's fields and of its parents' keys. ``run`` fills the node's folder, and goes on from
whatever a killed run left there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from foray.core.canonical import content_hash, to_json
from foray.core.files import Damaged, read_json, verify
from foray.core.libraries import require_installed, wanted
from foray.core.process import FULL, is_full, panics_named
from foray.core.userfile import own_code_named
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.rollout.engine import EngineDied
from foray.study.store import Store

HEALTH = "health.json"
Report = Callable[..., None]  # report(done=, total=, **what to show)


@dataclass(frozen=True)
class Node:
    """Fields that are nodes (or tuples of nodes) are parents. No result depends on parents marked ``hash: False``: such
    a parent saves work, or only comes before the node.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the meaning of a result changes with its spec unchanged
    reported: ClassVar[tuple[str, ...]] = ()  # beginnings of the names of those of its files that a report reads
    on_card: ClassVar[bool] = False  # whether it computes with a model: on a GPU where there is one
    on_ranks: ClassVar[bool] = False  # whether several ranks can compute it together

    @cached_property
    def key(self) -> str:
        return content_hash(self.spec)

    @cached_property
    def spec(self) -> dict[str, Any]:
        out: dict[str, Any] = {"kind": self.kind, "version": self.version}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.metadata.get("hash", True) and not (f.metadata.get("added") and value == f.default):
                if isinstance(value, tuple) and value and all(isinstance(v, Node) for v in value):
                    out[f.name] = [v.key for v in value]
                else:
                    out[f.name] = value.key if isinstance(value, Node) else to_json(value)
        return out

    def asked(self) -> Self:
        """A copy, whose spec is of the files that the node itself reads, as they are now.

        The node's own key and spec are made once and kept; a copy has neither.
        """
        return replace(self)

    def parents(self, hashed: bool = False) -> Iterator[Node]:
        """``hashed``: only those that the result depends on."""
        for f in fields(self):
            value = getattr(self, f.name)
            for v in value if isinstance(value, tuple) else (value,):
                if isinstance(v, Node) and (not hashed or f.metadata.get("hash", True)):
                    yield v

    def folder(self, store: Store) -> Path:
        return store.folder(self.kind, self.key)

    def done(self, store: Store) -> bool:
        return store.done(self.kind, self.key)

    def damage(self, store: Store) -> Damaged | None:
        """The first damaged file among those that a report reads, or None. Other nodes verify what they read."""
        try:
            if self.reported and self.done(store):
                verify(self.folder(store), self.reported)
        except Damaged as e:
            return e
        return None

    def label(self) -> str:
        raise NotImplementedError

    def first(self) -> int:
        """Of the total that the node reports, what another node does: it goes on from there."""
        return 0

    def run(self, folder: Path, store: Store, report: Report) -> None:
        raise NotImplementedError

    def flags(self, folder: Path) -> list[str]:
        """What looks wrong in the finished node's folder, a line each."""
        return []

    def health(self, store: Store) -> list[str]:
        """The flags that the finished node was sealed with."""
        return list(read_json(self.folder(store) / HEALTH))

    def check(self) -> None:
        """Raises ValueError where this installation lacks what the node needs. Asked before a study begins."""
        for f in fields(self):
            value = getattr(self, f.name)
            of_nodes = isinstance(value, tuple) and any(isinstance(v, Node) for v in value)
            if not isinstance(value, Node) and not of_nodes:  # parents are asked themselves
                require_installed(wanted(value), self.label())


class TokenizerOwner(Node):
    """A node whose folder holds a tokenizer, of ``vocab_size`` entries."""

    if TYPE_CHECKING:  # a property in the class itself would be taken for a field's default

        @property
        def vocab_size(self) -> int: ...

    def open_tokenizer(self, store: Store) -> TextTokenizer:
        raise NotImplementedError


class CheckpointNode(Node):
    """A node whose folder holds a model. It has a ``model`` (config) and a ``tokenizer``, as fields or otherwise."""

    if TYPE_CHECKING:  # as above

        @property
        def model(self) -> ModelConfig: ...

        @property
        def tokenizer(self) -> TokenizerOwner: ...

    @cached_property
    def shape(self) -> ModelConfig:
        """``model``, with the number of entries of the tokenizer that the study asks for where its own is open."""
        return self.model.sized(self.tokenizer.vocab_size)

    def place(self) -> str:
        """Where in pre-training an excursion from here begins, in a word."""
        return self.label()


def carry_out(node: Node, folder: Path, store: Store, report: Report) -> None:
    """``node.run``, with errors that tell the user what to do.

    An exception of the user's own task, source or loss becomes a ValueError that names its file and line: the node has
    failed once, and its worker lives. A disk error that names no file gets the folder's name.
    """
    reporting: list[Exception] = []

    def heard(**values: Any) -> None:
        try:
            report(**values)
        except Exception as e:  # the listener's error, not the node's
            reporting.append(e)
            raise

    try:
        with own_code_named(EngineDied, Damaged, torch.OutOfMemoryError), panics_named():
            node.run(folder, store, heard)
    except Exception as e:
        if reporting:
            raise reporting[0] from None
        if isinstance(e, MemoryError) or (isinstance(e, RuntimeError | ValueError) and is_full(e)):
            raise ValueError(f"{FULL}: try fewer --jobs, or a lower --machine microbatch_tokens=N") from None
        if isinstance(e, OSError) and e.strerror and e.filename is None:
            raise OSError(e.errno, e.strerror, str(folder)) from None
        raise
