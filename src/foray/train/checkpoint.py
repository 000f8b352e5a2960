"""Training state on disk. A resumed training equals an uninterrupted one, bit for bit on the CPU.

A checkpoint folder holds ``model/`` (Hugging Face's format, fp32: also the master weights). If training may go on, the
folder also holds ``state/`` (moments by stream, draws that several updates share, the step). All files are safetensors
and JSON. If the stage trains adapters, ``model/`` has them merged, and ``adapter/`` (peft's format, fp32) goes on: a
rolling checkpoint then has no ``model/``, because the frozen weights are the parent's.

Each of several ranks writes its slices to a file in ``state/shards/``, through torch.distributed.checkpoint. Any number
of ranks can read the slices. A rolling checkpoint has the weights among the slices.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from foray.core.batch import Batch
from foray.core.files import SEAL, SLOTS, read_object, replace_folder, seal, sealed, verify, write_atomic
from foray.core.lora import LoRA
from foray.data.tokenizer import TextTokenizer
from foray.model import hf
from foray.model.adapters import load_adapters, save_adapters
from foray.model.transformer import Transformer
from foray.train.draw import Training
from foray.train.loop import Moments
from foray.train.ranks import all_gather, from_first, is_first, side_group
from foray.train.sharding import gathered, like, trained_state, weights_of

_WEIGHTS = "weights"  # the prefix of weights among the slices; the prefix of moments is "moments/STREAM"


def save_checkpoint(folder: Path, model: Transformer, tokenizer: TextTokenizer) -> None:
    """Writes ``folder/model``, and ``folder/adapter`` if there is one. Rank 0 writes what all ranks gather."""
    _save_adapters(folder, model)
    weights = gathered(model, weights_of(model))
    if not model.sharded or is_first():
        target = replace_folder(folder / "model")
        said = tokenizer.model  # the special tokens named by a published model's own files
        kept = (said.ids, said.generation) if said else ()
        hf.save_weights(model.config, weights, target, tokenizer.end_id, tokenizer.bos_id, *kept)
        tokenizer.save(target, model.config.context)


def _save_adapters(folder: Path, model: Transformer) -> None:
    if model.lora is not None:
        tensors = gathered(model, trained_state(model))
        if not model.sharded or is_first():
            save_adapters(model.lora, tensors, folder / "adapter")


def save_state(folder: Path, training: Training, moments: dict[str, Moments], step: int) -> None:
    """Writes ``folder/state``."""
    target = folder / "state"
    if is_first():
        _save_progress(replace_folder(target), training, step)
    if training.model.sharded:
        all_gather(None)  # waits until the folder exists
        _wait_for(_save_shards(target, _named(moments)))
        return
    for name, m in moments.items():
        hf.save_tensors(m.tensors(), target / f"moments-{name}.safetensors")


def _save_progress(target: Path, training: Training, step: int) -> None:
    replay = {}
    for name, (batch, metrics) in training.replay.items():
        hf.save_tensors(batch.copies(), target / f"replay-{name}.safetensors")
        replay[name] = {"denominator": batch.denominator, "temperature": batch.temperature, "metrics": metrics}
    write_atomic(target / "state.json", json.dumps({"step": step, "replay": replay}, allow_nan=False) + "\n")


def _named(moments: dict[str, Moments]) -> dict[str, Tensor]:
    return {f"moments/{name}/{key}": x for name, m in moments.items() for key, x in m.state()}


def _save_shards(state: Path, tensors: dict[str, Tensor]) -> Future[Any]:
    """Begins to write the slices of every rank. Returns once the slices are copied."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageWriter

    writer = HuggingFaceStorageWriter(str(state / "shards"), save_distributed=True)
    saved = dcp.async_save(tensors, storage_writer=writer, process_group=side_group())
    assert isinstance(saved, Future)
    return saved


def _wait_for(saved: Future[Any]) -> None:
    from torch.distributed.checkpoint import CheckpointException

    try:
        saved.result()
    except CheckpointException as e:
        raise OSError(f"a slice cannot be written ({next(iter(e.failures.values()))[0]})") from None


def load_state(folder: Path, training: Training, moments: dict[str, Moments]) -> int:
    """Reads ``folder/state`` into moments and replay, and into the model if the weights are among the slices.

    Returns the number of updates done. The number of ranks that read may differ from the number that wrote.
    """
    source = folder / "state"
    state = read_object(source / "state.json", step=int, replay=dict)
    if (source / "shards").is_dir():
        _load_shards(source / "shards", training.model, moments)
    else:
        for name, m in moments.items():
            m.load(_tensors(source / f"moments-{name}.safetensors"))
    if training.model.lora is not None and has_model(folder, training.model.lora):
        saved = load_adapters(folder / "adapter")
        for name, x in trained_state(training.model).items():
            x.copy_(like(saved[name], x))
    for name, facts in state["replay"].items():
        batch = Batch(
            **load_file(source / f"replay-{name}.safetensors"),
            denominator=facts["denominator"],
            temperature=facts["temperature"],
        )
        training.replay[name] = (batch, facts["metrics"])
    return int(state["step"])


def _tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, "pt") as f:
        for name in f.keys():  # noqa: SIM118 (no mapping)
            yield name, f.get_tensor(name)


def _load_shards(shards: Path, model: Transformer, moments: dict[str, Moments]) -> None:
    """Reads in place: into the model's own tensors, and into moments that this function makes."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    reader = HuggingFaceStorageReader(str(shards))
    there = reader.read_metadata().state_dict_metadata
    wanted: dict[str, Tensor] = {}
    for name, m in moments.items():
        prefix = f"moments/{name}/"
        m.begin(key.removeprefix(prefix) for key in there if key.startswith(prefix))
        wanted |= {prefix + key: x for key, x in m.state()}
    if not has_model(shards.parent.parent, model.lora):
        wanted |= _weights(model)
    if model.sharded:
        dcp.load(wanted, storage_reader=reader, process_group=side_group())
    else:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch warns of a single process
            dcp.load(wanted, storage_reader=reader, no_dist=True)


def _weights(model: Transformer) -> dict[str, Tensor]:
    return {f"{_WEIGHTS}/{name}": w for name, w in trained_state(model).items()}


def has_model(folder: Path, lora: LoRA | None) -> bool:
    """Whether a checkpoint has the trained weights in a folder of their own, and not among the slices of the state."""
    return (folder / ("model" if lora is None else "adapter")).is_dir()


def step_of(slot: Path) -> int:
    """The updates of a whole rolling checkpoint."""
    return int(read_object(slot / SEAL, step=int)["step"])


class Resume:
    """A rolling checkpoint inside an unfinished node: two slots, written in turn. The newer valid slot counts."""

    def __init__(self, node: Path) -> None:
        self.slots = tuple(node / name for name in SLOTS)
        self.last: Path | None = None  # the slot that several ranks saved last
        self.saving: Future[None] | None = None
        self.background = ThreadPoolExecutor(1)

    def save(self, training: Training, moments: dict[str, Moments], step: int) -> None:
        """Writes the older slot. Raises OSError if the disk is full; the newer slot is then unchanged.

        Several ranks only begin to save. The ranks train on while a thread writes their slices, which include the
        weights.
        """
        if training.model.sharded:
            self._begin(training, moments, step)
            return
        newest = self.newest()
        target = self.slots[1] if newest == self.slots[0] else self.slots[0]
        try:
            replace_folder(target)
            if training.model.lora is None:
                save_checkpoint(target, training.model, training.tokenizer)
            else:
                _save_adapters(target, training.model)
            save_state(target, training, moments, step)
            seal(target, step=step)
        except OSError as e:
            shutil.rmtree(target, ignore_errors=True)
            raise self._unsaved(step, e) from None

    def _unsaved(self, step: int, why: OSError) -> OSError:
        return OSError(f"the checkpoint of step {step} cannot be saved: {why}; {self.what_is_kept()}")

    def _begin(self, training: Training, moments: dict[str, Moments], step: int) -> None:
        assert not self.busy()
        target = from_first(lambda: self._emptied(training, step))
        saved = _save_shards(target / "state", _named(moments) | _weights(training.model))
        self.saving = self.background.submit(self._seal_when, saved, target, step)

    def _emptied(self, training: Training, step: int) -> Path:
        """The older slot, emptied, with the files that only rank 0 writes."""
        target = self.slots[1] if (self.last or self.newest()) == self.slots[0] else self.slots[0]
        _save_progress(replace_folder(replace_folder(target) / "state"), training, step)
        return target

    def _seal_when(self, saved: Future[Any], target: Path, step: int) -> None:
        try:
            _wait_for(saved)  # the future of rank 0 ends after the slices of all ranks
            if is_first():
                seal(target, step=step)
        except OSError as e:
            raise self._unsaved(step, e) from None
        self.last = target

    def busy(self) -> bool:
        """Whether a save goes on in the background. Raises OSError if a save has failed."""
        if self.saving is not None and self.saving.done():
            self.finish()
        return self.saving is not None

    def finish(self) -> None:
        """Waits for the save in the background. Raises OSError if the save has failed."""
        saving, self.saving = self.saving, None
        if saving is not None:
            saving.result()

    def what_is_kept(self) -> str:
        """A sentence for a user whose disk is full."""
        newest = self.newest()
        if newest is None:
            return "free some space and run again"
        return f"that of step {step_of(newest)} is intact: free some space, and the same command goes on from it"

    def newest(self) -> Path | None:
        """The valid slot with the most updates. A slot is not valid if a kill cut it short."""
        valid: list[tuple[int, Path]] = []
        for slot in self.slots:
            if sealed(slot):
                try:
                    verify(slot)
                    valid.append((step_of(slot), slot))
                except ValueError:
                    continue
        return max(valid)[1] if valid else None
