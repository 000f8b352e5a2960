"""Training state on disk: what it takes to go on as if nothing had happened, bit for bit on the CPU.

A checkpoint folder holds ``model/`` (Hugging Face's format, fp32: also the master weights) and, where training may go
on, ``state/`` (moments by stream, draws that several updates share, the step). Safetensors and JSON only.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import load_file

from foray.core.batch import Batch
from foray.core.files import SEAL, read_json, remove, replace_folder, seal, sealed, verify, write_atomic
from foray.data.tokenizer import TextTokenizer
from foray.model import hf
from foray.model.transformer import Transformer
from foray.train.loop import Moments
from foray.train.sources import Run


def save_checkpoint(folder: Path, model: Transformer, tokenizer: TextTokenizer) -> None:
    """Writes ``folder/model``."""
    target = replace_folder(folder / "model")
    hf.save_model(model, target, tokenizer.end_id, tokenizer.bos_id)
    tokenizer.save(target, model.config.context)


def save_state(folder: Path, run: Run, moments: dict[str, Moments], step: int) -> None:
    """Writes ``folder/state``."""
    target = replace_folder(folder / "state")
    for name, m in moments.items():
        hf.save_tensors(m.tensors(), target / f"moments-{name}.safetensors")
    replay = {}
    for name, (batch, metrics) in run.replay.items():
        values = {f.name: getattr(batch, f.name) for f in fields(Batch)}
        tensors = {k: v.contiguous() for k, v in values.items() if torch.is_tensor(v)}
        hf.save_tensors(tensors, target / f"replay-{name}.safetensors")
        replay[name] = {"denominator": batch.denominator, "temperature": batch.temperature, "metrics": metrics}
    write_atomic(target / "state.json", json.dumps({"step": step, "replay": replay}) + "\n")


def load_state(folder: Path, run: Run, moments: dict[str, Moments]) -> int:
    """Reads ``folder/state`` into moments and replay; returns the number of updates done."""
    source = folder / "state"
    state = read_json(source / "state.json")
    for name, m in moments.items():
        m.load(load_file(source / f"moments-{name}.safetensors"))
    for name, facts in state["replay"].items():
        batch = Batch(
            **load_file(source / f"replay-{name}.safetensors"),
            denominator=facts["denominator"],
            temperature=facts["temperature"],
        )
        run.replay[name] = (batch, facts["metrics"])
    return int(state["step"])


class Resume:
    """A rolling checkpoint inside an unfinished node: two slots written in turn, the newer valid one counts."""

    def __init__(self, node: Path) -> None:
        self.slots = (node / "resume-a", node / "resume-b")

    def save(self, run: Run, moments: dict[str, Moments], step: int) -> None:
        """Raises OSError where the disk is full; the slot that was the newer one is then as it was."""
        newest = self.newest()
        target = self.slots[1] if newest == self.slots[0] else self.slots[0]
        try:
            replace_folder(target)
            save_checkpoint(target, run.model, run.tokenizer)
            save_state(target, run, moments, step)
            seal(target, step=step)
        except OSError as e:
            shutil.rmtree(target, ignore_errors=True)
            raise OSError(f"the checkpoint of step {step} cannot be saved: {e}; {self.what_is_kept()}") from None

    def what_is_kept(self) -> str:
        """For a user whose disk is full."""
        newest = self.newest()
        if newest is None:
            return "free some space and run again"
        step = read_json(newest / SEAL)["step"]
        return f"that of step {step} is intact: free some space, and the same command goes on from it"

    def newest(self) -> Path | None:
        """The slot with the most updates that is whole; a slot cut short by a kill is passed over."""
        valid: list[tuple[int, Path]] = []
        for slot in self.slots:
            if sealed(slot):
                try:
                    verify(slot)
                    valid.append((read_json(slot / SEAL)["step"], slot))
                except ValueError:
                    continue
        return max(valid)[1] if valid else None

    def clear(self) -> None:
        for slot in self.slots:
            if slot.exists():
                remove(slot)
