"""The nodes that make a checkpoint without training, and how any checkpoint is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from foray.core.files import sealed, verify
from foray.core.machine import Machine
from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.model import hf
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.study.node import CheckpointNode, Report, TokenizerOwner
from foray.study.published import Release, import_checkpoint
from foray.study.store import Store
from foray.train.checkpoint import save_checkpoint


@dataclass(frozen=True)
class ImportNode(CheckpointNode, TokenizerOwner):
    """A published checkpoint, with its own tokenizer, in the store's format: an M_t that somebody else trained."""

    kind: ClassVar[str] = "import"
    model: ModelConfig
    release: Release

    @cached_property
    def tokenizer(self) -> TokenizerOwner:
        return self

    @property
    def vocab_size(self) -> int:
        return self.model.vocab_size

    def label(self) -> str:
        return f"import {self.release.name}"

    def place(self) -> str:
        return self.release.name

    def run(self, folder: Path, store: Store, report: Report) -> None:
        import_checkpoint(self.release, self.model, folder)

    def open_tokenizer(self, store: Store) -> TextTokenizer:
        folder = self.folder(store)
        for part in ("tokenizer", "config.json", "generation_config.json"):  # and not gigabytes of weights
            verify(folder, f"model/{part}")
        return load_tokenizer(folder / "model")


@dataclass(frozen=True)
class MergeNode(CheckpointNode):
    """The weighted mean of several checkpoints' weights."""

    kind: ClassVar[str] = "merge"
    branches: tuple[CheckpointNode, ...]
    weights: tuple[float, ...]

    @cached_property
    def model(self) -> ModelConfig:
        return self.branches[0].model

    @cached_property
    def tokenizer(self) -> TokenizerOwner:
        return self.branches[0].tokenizer

    def label(self) -> str:
        return "mean of " + " and ".join(f"{w:g} × ({b.label()})" for w, b in zip(self.weights, self.branches))

    def run(self, folder: Path, store: Store, report: Report) -> None:
        opened = [open_checkpoint(b.folder(store)) for b in self.branches]
        model, tokenizer = opened[0]
        with torch.no_grad():
            for same in zip(*(m.parameters() for m, _ in opened)):
                same[0].copy_(torch.stack([w * p for w, p in zip(self.weights, same)]).sum(0))
        save_checkpoint(folder, model, tokenizer)


def open_checkpoint(folder: Path, machine: Machine | None = None) -> tuple[Transformer, TextTokenizer]:
    """Model and tokenizer of a node's folder, a rolling checkpoint, or any folder in Hugging Face's format.

    The model is moved to ``machine``. Without a machine, the model is a plain copy in main memory.
    """
    if sealed(folder):
        verify(folder, "model/")
    source = folder / "model" if (folder / "model").is_dir() else folder
    model, tokenizer = hf.load_model(source).eval(), load_tokenizer(source)
    tokenizer.check_fits(model.config.vocab_size, str(source))
    return model.move(machine) if machine else model, tokenizer
