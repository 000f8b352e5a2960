"""Checkpoints in Hugging Face's format: a folder that transformers, vLLM and lm-eval load unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foray.core.canonical import nearest, require
from foray.core.files import read_object, write_atomic
from foray.core.untrusted import not_a_pointer, ordinary
from foray.model.config import FAMILIES, ModelConfig
from foray.model.formats import other_format
from foray.model.transformer import Transformer

_CLASSES = {"olmo2": "Olmo2", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def config_to_hf(config: ModelConfig, end_id: int, bos_id: int | None) -> dict[str, object]:
    """``config.json``, with every field: transformers' defaults differ from those of the published models."""
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": config.rope_theta}
    out: dict[str, object] = {
        "architectures": [f"{_CLASSES[config.family]}ForCausalLM"],
        "model_type": config.family,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups,
        "intermediate_size": config.mlp_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_theta,
        "rope_parameters": rope,
        "rms_norm_eps": config.norm_eps,
        "initializer_range": config.init_std,
        "hidden_act": "silu",
        "attention_bias": config.qkv_bias,
        "tie_word_embeddings": config.tied,
        "use_cache": True,
        "bos_token_id": bos_id,
        "eos_token_id": end_id,
        "pad_token_id": None,  # transformers would give the row of a padding token no gradient
        "torch_dtype": "float32",
        "dtype": "float32",
    }
    if config.family != "olmo2" or config.head_width:
        out["head_dim"] = config.head_dim
    if config.family == "llama":
        out["mlp_bias"] = False
    elif config.family != "olmo2":
        out["use_sliding_window"] = False
    if config.rope_scaling:
        *factors, first = config.rope_scaling
        rope |= {"rope_type": "llama3", **dict(zip(_LLAMA3, [*factors, round(first)]))}
        out["rope_scaling"] = rope  # its name before transformers 5
    return out


def config_from_hf(folder: Path) -> ModelConfig:
    """Reads ``config.json``. Raises ValueError naming the setting that Foray's Transformer cannot compute."""
    if not (folder / "config.json").exists():
        adapter = (folder / "adapter_config.json").exists()
        more = ", only an adapter's: merge that into its model, and save the model" if adapter else ""
        raise ValueError(f"{folder} is no checkpoint: it has no config.json{more}")
    raw = _settings(folder / "config.json")
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"{folder}: model_type is {kind!r}, which Foray does not cover{nearest(str(kind), FAMILIES)}")
    norm, qk_norm, qkv_bias = FAMILIES[kind]
    try:
        rope, layer_types = _rope(raw), raw.get("layer_types") or []
        require(isinstance(layer_types, list), f"layer_types is a list, not {layer_types!r}")
    except ValueError as e:
        raise ValueError(f"{folder / 'config.json'}: {e}") from None
    _refuse_variants(raw, kind, folder)
    try:
        require(raw["vocab_size"] != 0, "vocab_size is 0")
        heads, width = raw["num_attention_heads"], raw["hidden_size"]
        groups = raw.get("num_key_value_heads") or heads
        head_width = raw.get("head_dim") or (128 if kind == "qwen3" else 0)
        return ModelConfig(
            width=width,
            layers=raw["num_hidden_layers"],
            heads=heads,
            mlp_width=raw["intermediate_size"],
            vocab_size=raw["vocab_size"],
            context=raw["max_position_embeddings"],
            rope_theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0),
            norm_eps=raw.get("rms_norm_eps", 1e-5 if kind == "olmo2" else 1e-6),
            init_std=raw.get("initializer_range", 0.02),
            kv_heads=0 if groups == heads else groups,
            head_width=0 if head_width * heads == width else head_width,
            norm=norm,
            qk_norm=qk_norm,
            qkv_bias=qkv_bias,
            tied=raw.get("tie_word_embeddings", False),  # the default of every family is false
            rope_scaling=_scaling(raw),
        )
    except KeyError as e:
        raise ValueError(f"{folder / 'config.json'} has no {e.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as e:
        raise ValueError(f"{folder / 'config.json'}: {e}") from None


def _settings(file: Path) -> dict[str, Any]:
    return read_object(file, "replace it")


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    rope = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    require(isinstance(rope, dict), f"rope_scaling and rope_parameters hold settings by name, not {rope!r}")
    return dict(rope)


def _scaling(raw: Mapping[str, Any]) -> tuple[float, ...]:
    rope = _rope(raw)
    if _rope_type(rope) == "default":
        return ()
    name = "original_max_position_embeddings"
    first = raw.get(name) or rope.get(name) or raw["max_position_embeddings"]  # in transformers' order
    named = {name: rope[name] for name in _LLAMA3[:3]} | {name: first}
    for key, value in named.items():
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        require(fine, f"{key} of rope_scaling is {value!r}, where a number is needed")
    return tuple(map(float, named.values()))


def _rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _refuse_variants(raw: Mapping[str, Any], kind: str, folder: Path) -> None:
    """Raises ValueError for settings under which the weights compute another function than Foray's."""
    rope = _rope(raw)
    sliding = raw.get("use_sliding_window") or any(t != "full_attention" for t in raw.get("layer_types") or ())
    refused = {
        f"rope type {_rope_type(rope)!r} (Foray computes default and llama3)": _rope_type(rope)
        not in ("default", "llama3"),
        "rotary positions on a part of each head": any(
            where.get("partial_rotary_factor") not in (None, 1.0) for where in (rope, raw)
        ),
        "rotary positions by kinds of layers": any(isinstance(value, dict) for value in rope.values()),
        "interleaved rotary positions": raw.get("rope_interleaved", False),
        "sliding-window attention": sliding,
        "biases in the output of attention": kind != "qwen2" and raw.get("attention_bias", False),
        "biases in the MLP": raw.get("mlp_bias", False),
        f"activation {raw.get('hidden_act')!r} (Foray computes silu)": raw.get("hidden_act", "silu") != "silu",
        "quantized weights": "quantization_config" in raw,
        "code of its own (auto_map)": "auto_map" in raw,
    }
    for what, there in refused.items():
        require(not there, f"{folder}: the model has {what}, which Foray does not cover")
    tied = raw.get("tie_word_embeddings", False)
    require(isinstance(tied, bool), f"{folder / 'config.json'}: tie_word_embeddings is true or false, not {tied!r}")


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


def save_config(
    config: ModelConfig, folder: Path, end_id: int, bos_id: int | None = None,
    named: Mapping[str, object] | None = None, generation: bytes | None = None,
) -> None:  # fmt: skip
    """Writes ``config.json`` and ``generation_config.json``.

    For a published model, ``named`` holds the special tokens of the model's config.json, and ``generation`` is the
    model's generation_config.json or None. Both are kept.
    """
    settings = config_to_hf(config, end_id, bos_id) | dict(named or {})
    write_atomic(folder / "config.json", json.dumps(settings, indent=1, allow_nan=False) + "\n")
    if named is None:
        made = {"bos_token_id": bos_id, "eos_token_id": end_id, "do_sample": True}
        generation = (json.dumps(made, allow_nan=False) + "\n").encode()
    if generation is not None:
        write_atomic(folder / "generation_config.json", generation)


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
    chosen = _settings(config).get("transformers_weights") if config.exists() else None
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
    places = _settings(index).get("weight_map")
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
