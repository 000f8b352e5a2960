"""Low-rank adapters on the linear layers of a Transformer, with peft's names and peft's files.

Shapes: r rank, I inputs and O outputs of a linear layer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from foray.core import rng
from foray.core.files import replace_folder, write_atomic
from foray.core.lora import LoRA
from foray.model.hf import save_tensors
from foray.model.transformer import Transformer

_A, _B = ".lora_A.weight", ".lora_B.weight"
_PEFT = "base_model.model."  # what peft puts before every name
_FILE = "adapter_model.safetensors"


class AdaptedLinear(nn.Linear):
    """A linear layer whose own weight and bias are frozen, beside two trained matrices A (r, I) and B (O, r)."""

    def __init__(self, of: nn.Linear, lora: LoRA) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = of.in_features, of.out_features
        self.weight, self.bias = of.weight, of.bias
        device = of.weight.device
        self.lora_A = nn.Linear(of.in_features, lora.rank, bias=False, device=device)
        self.lora_B = nn.Linear(lora.rank, of.out_features, bias=False, device=device)
        self.scale = lora.scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.lora_B(self.lora_A(x)) * self.scale


def add_adapters(model: Transformer, lora: LoRA) -> None:
    """Freezes all weights of the model, and puts adapters without values into its layers."""
    for p in model.parameters():
        p.requires_grad_(False)
    for name, linear in list(model.named_modules()):
        parent, _, own = name.rpartition(".")
        if own in lora.targets and isinstance(linear, nn.Linear):
            setattr(model.get_submodule(parent), own, AdaptedLinear(linear, lora))
    model.lora = lora


def adapted(model: Transformer, lora: LoRA, key: int) -> Transformer:
    """A second model with fresh adapters on the weights of ``model``. The two share these weights, now frozen.

    ``key`` fixes the values of A: uniform in ±1 / sqrt(I), which is the Kaiming initialization of peft.
    """
    shared = {id(x): x for x in (*model.parameters(), *model.buffers())}
    made = deepcopy(model, shared)
    add_adapters(made, lora)
    for name, p in made.trained().items():
        if name.endswith(_A):
            generator = torch.Generator().manual_seed(rng.key(key, name))
            bound = 1 / math.sqrt(p.shape[1])
            nn.init.uniform_(p.data, -bound, bound, generator=generator)
        else:
            nn.init.zeros_(p.data)
    return made


def is_adapter(name: str) -> bool:
    """Whether a tensor of this name is a part of an adapter."""
    return name.endswith((_A, _B))


def adapter_names(name: str) -> tuple[str, str]:
    """The names of A and B on the weight ``name``."""
    layer = name.removesuffix(".weight")
    return layer + _A, layer + _B


def save_adapters(lora: LoRA, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Writes adapters as peft does: ``PeftModel.from_pretrained(M_t, folder)`` loads them."""
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "inference_mode": True,
        "r": lora.rank, "lora_alpha": lora.alpha, "target_modules": list(lora.targets), "lora_dropout": 0.0,
        "bias": "none", "fan_in_fan_out": False, "init_lora_weights": True, "use_rslora": False,
    }  # fmt: skip
    replace_folder(folder)
    write_atomic(folder / "adapter_config.json", json.dumps(settings, indent=1, allow_nan=False) + "\n")
    named = {f"{_PEFT}{name}": x.detach().cpu().contiguous() for name, x in tensors.items()}
    save_tensors(named, folder / _FILE, metadata={"format": "pt"})


def load_adapters(folder: Path) -> dict[str, Tensor]:
    """The tensors that ``save_adapters`` wrote, by their names in a model."""
    return {name.removeprefix(_PEFT): x for name, x in load_file(folder / _FILE).items()}
