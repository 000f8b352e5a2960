"""The kinds of work a study is made of. A node is a frozen dataclass; its key is made of its fields and its parents'
keys, and ``run`` fills its folder, going on from whatever a killed run left there."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from foray.core.canonical import content_hash, to_json
from foray.core.files import (
    TRAINING_FILES,
    Damaged,
    read_numbers,
    read_object,
    seal,
    sealed,
    verify,
    write_atomic,
    writing,
)
from foray.core.health import training_flags
from foray.core.libraries import require_installed, wanted
from foray.core.machine import Machine, free_memory
from foray.core.process import FULL, is_full
from foray.core.sources import Rollouts
from foray.core.stage import Stage
from foray.core.userfile import own_code_named
from foray.data.corpus import Shard, write_shard
from foray.data.prepared import Prepared, link_shard
from foray.data.text_source import TextSource, TextSplit, sample_texts
from foray.data.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer
from foray.model import hf
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.engine import EngineDied
from foray.study.published import Release, import_checkpoint
from foray.study.store import Store

if TYPE_CHECKING:
    from foray.study.checks import Check
    from foray.study.measures import PassKNode

Report = Callable[..., None]  # report(done=, total=, **what to show)


@dataclass(frozen=True)
class Node:
    """Fields that are nodes (or tuples of nodes) are parents; those marked ``hash: False`` only order the work."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the meaning of a result changes with its spec unchanged
    reported: ClassVar[tuple[str, ...]] = ()  # how the names of its files that a report reads begin

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

    def parents(self) -> Iterator[Node]:
        for f in fields(self):
            value = getattr(self, f.name)
            for v in value if isinstance(value, tuple) else (value,):
                if isinstance(v, Node):
                    yield v

    def folder(self, store: Store) -> Path:
        return store.folder(self.kind, self.key)

    def done(self, store: Store) -> bool:
        return store.done(self.kind, self.key)

    def damage(self, store: Store) -> Damaged | None:
        """The first damaged file among those that a report reads, or None. What other nodes read, those verify."""
        try:
            if self.reported and self.done(store):
                verify(self.folder(store), self.reported)
        except Damaged as e:
            return e
        return None

    def label(self) -> str:
        raise NotImplementedError

    def run(self, folder: Path, store: Store, report: Report) -> None:
        raise NotImplementedError

    def flags(self, folder: Path) -> list[str]:
        """What looks wrong in the finished node's folder, a line each."""
        return []

    def check(self) -> None:
        """Raises ValueError where this installation lacks what the node needs: asked before a study begins."""
        for f in fields(self):
            value = getattr(self, f.name)
            of_nodes = isinstance(value, tuple) and any(isinstance(v, Node) for v in value)
            if not isinstance(value, Node) and not of_nodes:  # those are asked themselves
                require_installed(wanted(value), self.label())


def carry_out(node: Node, folder: Path, store: Store, report: Report) -> None:
    """``node.run``. What a task, source or loss of the user's own raises is a ValueError that names its file and line:
    the node has failed, once, and its worker lives. Where a disk fails and no file is named, the folder is.
    """
    reporting: list[Exception] = []

    def heard(**values: Any) -> None:
        try:
            report(**values)
        except Exception as e:  # of whoever listens, not of the node
            reporting.append(e)
            raise

    try:
        with own_code_named(EngineDied, Damaged, torch.OutOfMemoryError):
            node.run(folder, store, heard)
    except Exception as e:
        if reporting:
            raise reporting[0] from None
        if isinstance(e, MemoryError) or (isinstance(e, RuntimeError | ValueError) and is_full(e)):
            raise ValueError(f"{FULL}: try fewer --jobs, or a lower --machine microbatch_tokens=N") from None
        if isinstance(e, OSError) and e.strerror and e.filename is None:
            raise OSError(e.errno, e.strerror, str(folder)) from None
        raise


def run_node(node: Node, store: Store, report: Report = lambda **_: None, patience: float = 10.0) -> Path:
    """Runs one node whose parents are done, and seals its folder.

    A parent found damaged is set aside: ValueError says so, and the study typed again makes it anew. Where another
    process is at work on the node, waits ``patience`` seconds for that to end.
    """
    with store.claim(node.key, patience) as waited:
        if waited and node.done(store):
            return node.folder(store)
        folder = store.open(node.kind, node.key, node.spec)
        begun = time.monotonic()
        try:
            if store.machine.ranks > 1:
                from foray.study.launch import run_on_ranks

                run_on_ranks(node, folder, store, report)
            else:
                with writing(folder):
                    carry_out(node, folder, store, report)
        except Damaged as e:
            raise ValueError(f"{e.what}; {store.set_aside(e.folder)}") from None
        except torch.OutOfMemoryError as e:
            tokens = store.machine.found().microbatch_tokens
            raise ValueError(
                f"{node.label()}: the GPU's memory is full; set --machine microbatch_tokens=N lower (it is {tokens}), "
                f"or --machine recompute=true ({e})"
            ) from None
        finally:
            free_memory()
        write_atomic(folder / "health.json", json.dumps(node.flags(folder), allow_nan=False) + "\n")
        seal(folder, label=node.label(), seconds=round(time.monotonic() - begun, 3))
        return folder


@dataclass(frozen=True)
class TokenizerNode(Node):
    """A BPE tokenizer trained on a sample of every source, shared out by the mixture's weights; or a prepared corpus's.

    Numbers from 0 to ``whole_numbers`` become single tokens however rare they are: pieces of some numbers among whole
    ones would make arithmetic needlessly irregular for a small model.
    """

    kind: ClassVar[str] = "tokenizer"
    sources: tuple[tuple[float, TextSource], ...]
    vocab_size: int
    characters: int
    whole_numbers: int = 0

    def label(self) -> str:
        return f"tokenizer ({self.vocab_size} entries)"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        prepared = [source for _, source in self.sources if isinstance(source, Prepared)]
        if prepared:  # its tokens are those of its own tokenizer
            shutil.copytree(prepared[0].tokenizer(), folder, dirs_exist_ok=True)
            return
        texts = sample_texts(self.sources, self.characters, self.whole_numbers)
        train_tokenizer(texts, self.vocab_size).save(folder, 1 << 20)


@dataclass(frozen=True)
class ImportNode(Node):
    """A published checkpoint in the store's own format, with its own tokenizer: an M_t that somebody else trained."""

    kind: ClassVar[str] = "import"
    model: ModelConfig
    release: Release

    @property
    def tokenizer(self) -> ImportNode:
        return self

    def label(self) -> str:
        return f"import {self.release.name}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        import_checkpoint(self.release, self.model, folder)


@dataclass(frozen=True)
class ShardNode(Node):
    """One text source, tokenised."""

    kind: ClassVar[str] = "shard"
    source: TextSource
    split: TextSplit
    tokenizer: AnyTokenizer
    max_tokens: int

    def label(self) -> str:
        return f"tokenise {self.source.name} ({self.split})"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = open_tokenizer(self.tokenizer, store)
        if isinstance(self.source, Prepared):
            if not load_tokenizer(self.source.place / "tokenizer").same(tokenizer):
                raise ValueError(f"{self.source.place} was prepared with another tokenizer than the model has")
            link_shard(self.source, self.split, folder, self.max_tokens)
        else:
            write_shard(self.source, self.split, tokenizer, folder, self.max_tokens)

    def flags(self, folder: Path) -> list[str]:
        facts = read_object(folder / "meta.json")
        count = facts.get("skipped", 0)
        return [f"{count:,} broken rows were skipped, the first: {facts['first skipped']}"] if count else []


@dataclass(frozen=True)
class TrainNode(Node):
    """The state after ``step`` updates of a stage that starts from ``parent``'s weights (or from initialisation).

    Which other steps of the stage are kept is not part of the key: by law 4 the state is a function of the rest, and
    ``after``, the nearest earlier kept step, only saves repeating its work; ``checks`` only come before it.
    """

    kind: ClassVar[str] = "train"
    reported: ClassVar[tuple[str, ...]] = TRAINING_FILES
    model: ModelConfig
    tokenizer: AnyTokenizer
    stage: Stage
    step: int
    seed: int
    parent: Checkpoint | None = None
    shards: tuple[ShardNode, ...] = ()
    screen: PassKNode | None = None  # the base's own answers to the training questions, where RL chooses among them
    after: TrainNode | None = field(default=None, metadata={"hash": False})
    checks: tuple[Check, ...] = field(default=(), metadata={"hash": False})

    def label(self) -> str:
        return f"{self.stage.name} to step {self.step} of {self.stage.steps} (seed {self.seed})"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.study.training import run_training

        run_training(self, folder, store, report)

    def flags(self, folder: Path) -> list[str]:
        return training_flags(read_numbers(folder / "metrics.jsonl"))

    def check(self) -> None:
        super().check()
        for source in (s.source for s in self.stage.members()):
            if isinstance(source, Rollouts) and source.engine == "vllm":
                source.vllm.check()


@dataclass(frozen=True)
class MergeNode(Node):
    """The weighted mean of several checkpoints' weights."""

    kind: ClassVar[str] = "merge"
    branches: tuple[Checkpoint, ...]
    weights: tuple[float, ...]

    @property
    def model(self) -> ModelConfig:
        return self.branches[0].model

    @property
    def tokenizer(self) -> AnyTokenizer:
        return self.branches[0].tokenizer

    def label(self) -> str:
        return "mean of " + " and ".join(f"{w:g} × {b.label()}" for w, b in zip(self.weights, self.branches))

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.train.checkpoint import save_checkpoint

        opened = [open_checkpoint(b.folder(store)) for b in self.branches]
        model, tokenizer = opened[0]
        with torch.no_grad():
            for same in zip(*(m.parameters() for m, _ in opened)):
                same[0].copy_(torch.stack([w * p for w, p in zip(self.weights, same)]).sum(0))
        save_checkpoint(folder, model, tokenizer)


AnyTokenizer = TokenizerNode | ImportNode
Checkpoint = TrainNode | MergeNode | ImportNode


def open_tokenizer(node: AnyTokenizer, store: Store) -> TextTokenizer:
    folder = node.folder(store)
    if isinstance(node, ImportNode):
        for part in ("tokenizer", "config.json", "generation_config.json"):  # and not gigabytes of weights
            verify(folder, f"model/{part}")
        return load_tokenizer(folder / "model")
    verify(folder)
    return load_tokenizer(folder)


def open_shard(node: ShardNode, store: Store) -> Shard:
    verify(node.folder(store))
    return Shard(node.folder(store), node.source.place if isinstance(node.source, Prepared) else None)


def open_checkpoint(folder: Path, machine: Machine | None = None) -> tuple[Transformer, TextTokenizer]:
    """Model and tokenizer of a node's folder, a rolling checkpoint, or any folder in Hugging Face's format.

    The model is moved to ``machine``; without one it is a plain copy in main memory.
    """
    if sealed(folder):
        verify(folder, "model/")
    source = folder / "model" if (folder / "model").is_dir() else folder
    model, tokenizer = hf.load_model(source).eval(), load_tokenizer(source)
    tokenizer.check_fits(model.config.vocab_size, str(source))
    return model.move(machine) if machine else model, tokenizer
