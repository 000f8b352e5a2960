"""Weights in Hugging Face's format, in a folder that transformers, vLLM and lm-eval load unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foray.core.canonical import require
from foray.core.untrusted import not_a_pointer, ordinary
from foray.model.config import ModelConfig
from foray.model.formats import other_format
from foray.model.hf_config import config_from_hf, read_settings, save_config
from foray.model.transformer import Transformer

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


def save_model(model: Transformer, folder: Path, end_id: int, bos_id: int | None = None) -> None:
    """Writes ``config.json`` and ``model.safetensors`` into an existing folder."""
    save_weights(model.config, model.state_dict(), folder, end_id, bos_id)


def save_weights(
    config: ModelConfig, weights: Mapping[str, Tensor], folder: Path, end_id: int, bos_id: int | None = None,
    named: Mapping[str, object] | None = None, generation: bytes | None = None,
) -> None:  # fmt: skip
    """``save_model`` for weights by name. See ``save_config`` for ``named`` and ``generation``."""
    save_config(config, folder, end_id, bos_id, named, generation)
    tensors = {name: p.detach().cpu().contiguous() for name, p in weights.items()}
    if config.tied:
        del tensors[_HEAD]
    save_tensors(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file. Raises OSError if writing fails, as on a full disk."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as e:  # this class also reports errors of the file system
        raise OSError(f"{path} cannot be written ({e})") from None


def load_model(folder: Path) -> Transformer:
    """A model in fp32 from safetensors files. Raises ValueError for missing or misshapen tensors.

    Takes the memory of the model and of two tensors.
    """
    files, config = weight_files(folder), config_from_hf(folder)
    size = sum(ordinary(file).stat().st_size for file in files)
    for file in files:
        _check_header(file)
    require(
        config.parameters <= size,  # the smallest floats have one byte
        f"{folder}: the weights do not fit config.json (a model of {config.parameters:,} parameters has more than the "
        f"{size:,} bytes there)",
    )
    model = Transformer(config)
    own: dict[str, Tensor] = model.state_dict()
    left = dict.fromkeys(own)
    head: Tensor | None = None  # files of a tied model may hold a head too
    for name, tensor in _tensors(files):
        if name not in own and f"model.{name}" in own:  # the file is of a model without its head
            name = f"model.{name}"
        if name in own and not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{folder}: {name} has numbers of type {kind}; Foray reads floats, not quantized weights")
        if name not in own or own[name].shape != tensor.shape:
            shape = f"has {tuple(own[name].shape)}" if name in own else "has none"
            raise ValueError(
                f"{folder}: the weights do not fit config.json ({name} is {tensor.dtype} {tuple(tensor.shape)} there, "
                f"where the model {shape})"
            )
        left.pop(name, None)
        if name == _HEAD and model.config.tied:
            head = tensor
        else:
            own[name].copy_(tensor)
    if model.config.tied:
        _tie(own, left, head, folder)
    if left:
        hint = ' (where the embedding is the head, set "tie_word_embeddings": true there)' if _HEAD in left else ""
        missing = f"{len(left)} are missing, {next(iter(left))}"
        raise ValueError(f"{folder}: the weights do not fit config.json ({missing}){hint}")
    return model


def _tie(own: dict[str, Tensor], left: dict[str, None], head: Tensor | None, folder: Path) -> None:
    """Fills the one matrix of a tied model from embedding or head. Raises ValueError if the two differ.

    transformers would go on with two unequal matrices.
    """
    left.pop(_HEAD, None)
    if head is None:
        return
    if _EMBEDDING in left:
        own[_EMBEDDING].copy_(head)
        left.pop(_EMBEDDING)
    require(
        bool(own[_EMBEDDING].equal(head.to(own[_EMBEDDING].dtype))),
        f"{folder}: config.json ties the head to the embedding, but the weights hold another {_HEAD}: "
        'set "tie_word_embeddings": false there to use it, as transformers does',
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files with a checkpoint's weights: the files that transformers would load.

    Raises ValueError without such files.
    """
    config = folder / "config.json"
    chosen = read_settings(config).get("transformers_weights") if config.exists() else None
    require(
        not (folder / "adapter_config.json").exists(),
        f"{folder} holds an adapter (adapter_config.json), which Foray does not load: merge it into the weights "
        "and save those, or take its files out if the model is meant without it",
    )
    for name in (str(chosen),) if chosen else (_WEIGHTS, _INDEX):
        file = _inside(folder, name, config)
        if file.exists():
            return _shards(file) if name.endswith(".index.json") else [file]
    require(not chosen, f"{folder / str(chosen)} is missing, which config.json names as transformers_weights")
    others = [f.name for f in sorted(folder.glob("*.safetensors"))]
    if not others and (other := other_format(f.name for f in sorted(folder.iterdir()))):
        raise ValueError(f"{folder} {other}")
    found = f"; {', '.join(others[:3])} is not where transformers looks for weights" if others else ""
    raise ValueError(f"{folder} is no checkpoint: config.json and {_WEIGHTS} or {_INDEX} are needed{found}")


def _shards(index: Path) -> list[Path]:
    """The files that an index names, in transformers' order of reading."""
    places = read_settings(index).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    require(bool(names) and all(isinstance(n, str) for n in names), f"{index} has no weight_map from tensors to files")
    files = [_inside(index.parent, name, index) for name in sorted(set(names))]
    for file in files:
        require(file.exists(), f"{file} is missing, which {index.name} names")
    return files


def _inside(folder: Path, name: str, said: Path) -> Path:
    """The path of a file that must lie in the folder. Links may lead out of it, as in the hub's cache."""
    place = Path(name)
    require(not place.is_absolute() and ".." not in place.parts, f"{said} names {name}, which is outside of its folder")
    return folder / place


def _check_header(file: Path) -> None:
    """Raises ValueError if a file is no safetensors file, or is shorter than its header says."""
    with _opened(not_a_pointer(file)):
        pass


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, "pt") as f:
            yield f
    except SafetensorError as e:
        raise ValueError(f"{file} is damaged ({e})") from None


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        with _opened(file) as f:
            for name in f.keys():  # noqa: SIM118 (no mapping)
                if not name.endswith("rotary_emb.inv_freq"):  # a constant in old files
                    yield name, _finite(f.get_tensor(name), name, file)


def _finite(tensor: Tensor, name: str, file: Path) -> Tensor:
    """The tensor itself. Raises ValueError for NaN or infinite values."""
    values = tensor.float() if tensor.is_floating_point() else tensor
    if not values.sum().isfinite():  # a sum of finite values may overflow
        bad = int((~values.isfinite()).sum())
        require(not bad, f"{file}: {name} holds {bad} NaN or infinite values; take another copy of the checkpoint")
    return tensor
