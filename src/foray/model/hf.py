"""Checkpoints in Hugging Face's format: a folder that transformers, vLLM and lm-eval load as it is."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from foray.core.files import read_json
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer


def config_to_hf(config: ModelConfig, end_id: int) -> dict[str, object]:
    """Every field spelled out: the defaults of Olmo2Config are not those of the OLMo 2 models."""
    return {
        "architectures": ["Olmo2ForCausalLM"],
        "model_type": "olmo2",
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_eps,
        "initializer_range": config.init_std,
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "pad_token_id": None,  # a padding row would get no gradient in transformers
        "torch_dtype": "float32",
        "dtype": "float32",
    }


def config_from_hf(folder: Path) -> ModelConfig:
    """Reads ``config.json``. Raises ValueError for a model that is not OLMo 2."""
    raw = read_json(folder / "config.json")
    if raw.get("model_type") != "olmo2":
        raise ValueError(f"{folder}: model_type is {raw.get('model_type')!r}; Foray reads 'olmo2'")
    heads = raw["num_attention_heads"]
    if raw.get("num_key_value_heads", heads) != heads:
        raise ValueError(f"{folder}: grouped-query attention is not supported (num_key_value_heads != {heads})")
    theta = raw.get("rope_theta") or (raw.get("rope_parameters") or {}).get("rope_theta") or 10_000.0
    return ModelConfig(
        width=raw["hidden_size"],
        layers=raw["num_hidden_layers"],
        heads=heads,
        mlp_width=raw["intermediate_size"],
        vocab_size=raw["vocab_size"],
        context=raw["max_position_embeddings"],
        rope_theta=float(theta),
        norm_eps=raw.get("rms_norm_eps", 1e-5),
        init_std=raw.get("initializer_range", 0.02),
    )


def save_model(model: Transformer, folder: Path, end_id: int) -> None:
    """Writes ``config.json`` and ``model.safetensors`` into an existing folder."""
    (folder / "config.json").write_text(json.dumps(config_to_hf(model.config, end_id), indent=1) + "\n")
    generation = {"bos_token_id": end_id, "eos_token_id": end_id, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation) + "\n")
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.state_dict().items()}
    save_tensors(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save_tensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """A safetensors file. Raises OSError where it cannot be written, as on a full disk."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as e:  # the library's own kind, which also stands for errors of the file system
        raise OSError(f"{path} cannot be written ({e})") from None


def load_model(folder: Path) -> Transformer:
    """A model from one or several safetensors files. Raises ValueError on missing or misshapen tensors."""
    files = sorted(folder.glob("*.safetensors"))
    if not files or not (folder / "config.json").exists():
        raise ValueError(f"{folder} is no checkpoint: config.json and *.safetensors are needed")
    model = Transformer(config_from_hf(folder))
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except SafetensorError as e:
            raise ValueError(f"{file} is damaged ({e})") from None
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as e:
        raise ValueError(f"{folder}: the weights do not fit config.json ({str(e).splitlines()[-1].strip()})") from None
    return model.to(torch.float32)
