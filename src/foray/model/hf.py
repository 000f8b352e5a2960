"""Checkpoints in Hugging Face's format: a folder that transformers, vLLM and lm-eval load as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foray.core.files import read_json
from foray.core.spec import nearest, require
from foray.model.config import FAMILIES, ModelConfig
from foray.model.transformer import Transformer

_CLASSES = {"olmo2": "Olmo2", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def config_to_hf(config: ModelConfig, end_id: int, bos_id: int | None) -> dict[str, object]:
    """Every field spelled out: the defaults of transformers' classes are not those of the published models."""
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
        "pad_token_id": None,  # a padding row would get no gradient in transformers
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
    """Reads ``config.json``. Raises ValueError for what Foray's Transformer cannot compute, naming it."""
    require((folder / "config.json").exists(), f"{folder} is no checkpoint: it has no config.json")
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(f"{folder}: model_type is {kind!r}, which Foray does not cover{nearest(str(kind), FAMILIES)}")
    norm, qk_norm, qkv_bias = FAMILIES[kind]
    _refuse_variants(raw, kind, folder)
    try:
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
            rope_theta=float(_rope(raw).get("rope_theta") or raw.get("rope_theta") or 10_000.0),
            norm_eps=raw.get("rms_norm_eps", 1e-5 if kind == "olmo2" else 1e-6),
            init_std=raw.get("initializer_range", 0.02),
            kv_heads=0 if groups == heads else groups,
            head_width=0 if head_width * heads == width else head_width,
            norm=norm,
            qk_norm=qk_norm,
            qkv_bias=qkv_bias,
            tied=raw.get("tie_word_embeddings", False),
            rope_scaling=_scaling(raw),
        )
    except KeyError as e:
        raise ValueError(f"{folder / 'config.json'} has no {e.args[0]}") from None
    except (TypeError, ValueError) as e:
        raise ValueError(f"{folder / 'config.json'}: {e}") from None


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    return raw.get("rope_scaling") or raw.get("rope_parameters") or {}


def _scaling(raw: Mapping[str, Any]) -> tuple[float, ...]:
    rope = _rope(raw)
    if _rope_type(rope) == "default":
        return ()
    first = rope.get("original_max_position_embeddings") or raw["max_position_embeddings"]
    return (*(float(rope[name]) for name in _LLAMA3[:3]), float(first))


def _rope_type(rope: Mapping[str, Any]) -> str:
    return str(rope.get("rope_type") or rope.get("type") or "default")


def _refuse_variants(raw: Mapping[str, Any], kind: str, folder: Path) -> None:
    """Settings that would make another function of the same weights."""
    rope = _rope(raw)
    sliding = raw.get("use_sliding_window") or any(t != "full_attention" for t in raw.get("layer_types") or ())
    refused = {
        f"rope type {_rope_type(rope)!r} (Foray computes default and llama3)": _rope_type(rope)
        not in ("default", "llama3"),
        "rotary positions on a part of each head": rope.get("partial_rotary_factor", 1.0) != 1.0,
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


def save_model(model: Transformer, folder: Path, end_id: int, bos_id: int | None = None) -> None:
    """Writes ``config.json`` and ``model.safetensors`` into an existing folder."""
    save_weights(model.config, model.state_dict(), folder, end_id, bos_id)


def save_weights(
    config: ModelConfig, weights: Mapping[str, Tensor], folder: Path, end_id: int, bos_id: int | None = None
) -> None:
    """The same of weights by name, wherever they come from."""
    save_config(config, folder, end_id, bos_id)
    tensors = {name: p.detach().cpu().contiguous() for name, p in weights.items()}
    if config.tied:
        del tensors["lm_head.weight"]
    save_tensors(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save_config(config: ModelConfig, folder: Path, end_id: int, bos_id: int | None = None) -> None:
    """Writes what a checkpoint says of its model besides the weights."""
    (folder / "config.json").write_text(
        json.dumps(config_to_hf(config, end_id, bos_id), indent=1, allow_nan=False) + "\n"
    )
    generation = {"bos_token_id": bos_id, "eos_token_id": end_id, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation, allow_nan=False) + "\n")


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """A safetensors file. Raises OSError where it cannot be written, as on a full disk."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as e:  # the library's own kind, which also stands for errors of the file system
        raise OSError(f"{path} cannot be written ({e})") from None


def load_model(folder: Path) -> Transformer:
    """A model in fp32 from one or several safetensors files. Raises ValueError on missing or misshapen tensors.

    Memory: the model and one tensor of the files.
    """
    files = weight_files(folder)
    model = Transformer(config_from_hf(folder))
    own: dict[str, Tensor] = model.state_dict()
    left = dict.fromkeys(own)
    for name, tensor in _tensors(files):
        if name == "lm_head.weight" and model.config.tied:
            continue  # some files hold it nevertheless; transformers passes over it too
        if name not in own or own[name].shape != tensor.shape or not tensor.is_floating_point():
            shape = f"has {tuple(own[name].shape)}" if name in own else "has none"
            raise ValueError(
                f"{folder}: the weights do not fit config.json ({name} is {tensor.dtype} {tuple(tensor.shape)} there, "
                f"where the model {shape})"
            )
        own[name].copy_(tensor)
        left.pop(name, None)
    if model.config.tied:
        left.pop("lm_head.weight")
    if left:
        raise ValueError(f"{folder}: the weights do not fit config.json ({len(left)} are missing, {next(iter(left))})")
    return model


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a checkpoint's weights. Raises ValueError where there are none."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
        for file in files:
            require(file.exists(), f"{file} is missing, which {index.name} names")
        return files
    alone = folder / "model.safetensors"
    files = [alone] if alone.exists() else sorted(folder.glob("*.safetensors"))
    if not files and any(folder.glob("*.bin")):
        raise ValueError(
            f"{folder} holds its weights as pickles (*.bin), which Foray does not open; load and save it with "
            "transformers (save_pretrained) to have safetensors"
        )
    require(bool(files), f"{folder} is no checkpoint: config.json and *.safetensors are needed")
    return files


def _tensors(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        try:
            with safe_open(file, "pt") as f:
                for name in f.keys():  # noqa: SIM118 (no mapping)
                    if not name.endswith("rotary_emb.inv_freq"):  # a constant that old files carry along
                        yield name, f.get_tensor(name)
        except SafetensorError as e:
            raise ValueError(f"{file} is damaged ({e})") from None
