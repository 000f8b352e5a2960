"""One model on many ranks: FSDP2 (``torch.distributed.fsdp.fully_shard``, arXiv 2304.11277), a layer at a time.

Every rank keeps a slice of each parameter, of its gradient and of its moments (DTensors). Embeddings, final norm and
output head belong to the root module. The root keeps its parameters whole between a forward and its backward pass,
because the loss uses the head in between.

Slow modules of torch are imported only when a model is sharded, because most processes have one rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from foray.core.canonical import require
from foray.core.lora import LoRA
from foray.core.machine import Machine
from foray.model.adapters import adapter_names, add_adapters, is_adapter
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, rope_table
from foray.train.ranks import is_first

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def preload() -> None:
    """Imports slow modules once, in the process that will fork the ranks."""
    import torch._dynamo
    import torch.distributed.checkpoint.state_dict
    import torch.distributed.device_mesh
    import torch.distributed.fsdp
    import torch.distributed.tensor  # noqa: F401


def blank(config: ModelConfig, machine: Machine, bf16: bool | None = None, lora: LoRA | None = None) -> Transformer:
    """A model on its device, without weights yet. If ``bf16`` is None the model is whole, else sharded over all ranks.

    With ``bf16``, layers are gathered and computed in bf16, and their gradients are summed in fp32. Embeddings and head
    stay fp32 outside of matrix products, because tokens add to their gradients one by one.
    """
    with torch.device("meta"):
        model = Transformer(config)
        if lora is not None:
            add_adapters(model, lora)
    model.compute_as(machine)
    if bf16 is not None:
        _shard(model, bf16)
    device = model.machine.torch_device
    model.to_empty(device=device)
    if config.tied and not model.sharded:  # the two names had one tensor before, and have two now
        model.lm_head.weight = model.model.embed_tokens.weight
    model.cos, model.sin = (table.to(device) for table in rope_table(config))
    return model


def _shard(model: Transformer, bf16: bool) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    fp32 = MixedPrecisionPolicy(cast_forward_inputs=False)
    of_layers = replace(fp32, param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bf16 else fp32
    mesh = _mesh(model.machine.device, model.machine.shard_over)
    parts = [fully_shard(layer, mesh=mesh, mp_policy=of_layers) for layer in model.model.layers]
    for part in (*parts, fully_shard(model, mesh=mesh, mp_policy=fp32)):
        part.set_gradient_divide_factor(1.0)  # the denominator of a batch is global: gradients are sums, not means
        part.set_force_sum_reduction_for_comms(True)
    model.sharded = True


@lru_cache(maxsize=2)
def _mesh(device: str, shard_over: str) -> DeviceMesh:
    """A mesh of all ranks in a row, or a mesh by machine: each machine has all slices, and machines sum gradients."""
    from torch.distributed.device_mesh import init_device_mesh

    ranks = dist.get_world_size()
    if shard_over == "all":
        return init_device_mesh(device, (ranks,), mesh_dim_names=("shard",))
    inside = int(os.environ["LOCAL_WORLD_SIZE"])
    require(ranks % inside == 0, f"shard_over=node: {ranks} ranks are not a multiple of the {inside} of this machine")
    return init_device_mesh(device, (ranks // inside, inside), mesh_dim_names=("replicate", "shard"))


def fill(model: Transformer, whole: Transformer | None) -> Transformer:
    """Fills a sharded model with the weights of ``whole``, which rank 0 has."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    weights = whole.state_dict() if whole is not None and is_first() else {}
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    return model


def release(model: Transformer) -> None:
    """Reshards a model after passes without gradients.

    Otherwise the root would keep its parameters whole and unchanged.
    """
    if model.sharded:
        model.reshard()  # type: ignore[operator]


class _Made(Mapping[str, Tensor]):
    """Weights by name, made at look-up: slices are gathered, and adapters are merged into their weights.

    All ranks must look up the same names in order.
    """

    def __init__(self, model: Transformer) -> None:
        self.parts: dict[str, Tensor] = model.state_dict()
        self.scale = model.lora.scale if model.lora is not None else 0.0
        self.names = [name for name in self.parts if not is_adapter(name)]

    def __getitem__(self, name: str) -> Tensor:
        a, b = adapter_names(name)
        weight = whole(self.parts[name])
        return weight + whole(self.parts[b]) @ whole(self.parts[a]) * self.scale if a in self.parts else weight

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def weights_of(model: Transformer) -> Mapping[str, Tensor]:
    """Weights by their names in a checkpoint, with adapters merged. Every rank gathers those of a sharded model, one at
    a time.
    """
    return _Made(model) if model.sharded or model.lora is not None else model.state_dict()


def trained_state(model: Transformer) -> dict[str, Tensor]:
    """The weights that training changes, by their names in the model; of a sharded model this rank's slices."""
    state: dict[str, Tensor] = model.state_dict()
    return state if model.lora is None else {name: x for name, x in state.items() if is_adapter(name)}


def gathered(model: Transformer, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights, whole. All ranks must call this function.

    Only rank 0 gets the weights of a sharded model, in main memory.
    """
    if not model.sharded:
        return weights
    mine: dict[str, Tensor] = {}
    for name, w in weights.items():  # every rank takes part in gathering each weight
        w = whole(w)
        if is_first():
            mine[name] = w.cpu()
    return mine


def whole(x: Tensor) -> Tensor:
    """The whole tensor. All ranks that hold slices must call this function."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def own(x: Tensor) -> Tensor:
    """This rank's slice of a tensor."""
    return x.to_local() if hasattr(x, "to_local") else x


def like(x: Tensor, parameter: Tensor) -> Tensor:
    """The tensor ``x`` on the device of the parameter, sliced like the parameter. Every rank passes the whole ``x``."""
    x = x.to(parameter.device)
    if x.dim() and hasattr(parameter, "device_mesh") and hasattr(parameter, "placements"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(x, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return x.clone()
