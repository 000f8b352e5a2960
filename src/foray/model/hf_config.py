"""``config.json`` in Hugging Face's format: what it says of a model, and what of a model it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foray.core.canonical import nearest, require
from foray.core.files import read_object, write_atomic
from foray.model.config import FAMILIES, ModelConfig

_CLASSES = {"olmo2": "Olmo2", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
_KEYS = {  # what config.json calls a setting
    "width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads", "head_width": "head_dim", "mlp_width": "intermediate_size",
    "context": "max_position_embeddings", "norm_eps": "rms_norm_eps", "init_std": "initializer_range",
    "tied": "tie_word_embeddings",
}  # fmt: skip
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
    raw = read_settings(folder / "config.json")
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
        theta = rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0
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
            rope_theta=float(theta) if isinstance(theta, int) else theta,
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
        named = re.sub(r"\w+", lambda word: _KEYS.get(word[0], word[0]), str(e))
        raise ValueError(f"{folder / 'config.json'}: {named}") from None


def read_settings(file: Path) -> dict[str, Any]:
    """The settings of a JSON file. Raises ValueError where the file is damaged."""
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
