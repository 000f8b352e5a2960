"""One model on many ranks: FSDP2 (``torch.distributed.fsdp.fully_shard``, arXiv 2304.11277), a layer at a time.

Every rank keeps a slice of each parameter, its gradient and its moments (DTensors). Embeddings, final norm and output
head belong to the root, which keeps its parameters whole between a forward and its backward pass: what a loss takes
from the head in between finds them there.

What of torch takes long to import is imported where a model is sharded: most processes have one rank.
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
from foray.core.machine import Machine
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, rope_table
from foray.train.ranks import is_first

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def preload() -> None:
    """Imports what takes seconds, in a process that is about to fork ranks: once, and not in each of them."""
    import torch._dynamo
    import torch.distributed.checkpoint.state_dict
    import torch.distributed.device_mesh
    import torch.distributed.fsdp
    import torch.distributed.tensor  # noqa: F401


def blank(config: ModelConfig, machine: Machine, bf16: bool | None = None) -> Transformer:
    """A model on its device, its weights yet to be filled in: whole, or sharded over all ranks unless ``bf16`` is None.

    With ``bf16`` layers are gathered and computed in bf16, and their gradients are summed in fp32. Embeddings and
    head, to whose gradients tokens add one by one, stay fp32 outside of matrix products.
    """
    with torch.device("meta"):
        model = Transformer(config)
    model.compute_as(machine)
    if bf16 is not None:
        _shard(model, bf16)
    device = model.machine.torch_device
    model.to_empty(device=device)
    model.cos, model.sin = (table.to(device) for table in rope_table(config))
    return model


def _shard(model: Transformer, bf16: bool) -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    fp32 = MixedPrecisionPolicy(cast_forward_inputs=False)
    of_layers = replace(fp32, param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if bf16 else fp32
    mesh = _mesh(model.machine.device, model.machine.shard_over)
    parts = [fully_shard(layer, mesh=mesh, mp_policy=of_layers) for layer in model.model.layers]
    for part in (*parts, fully_shard(model, mesh=mesh, mp_policy=fp32)):
        part.set_gradient_divide_factor(1.0)  # a batch's denominator is global: gradients are sums, not means
        part.set_force_sum_reduction_for_comms(True)
    model.sharded = True


@lru_cache(maxsize=2)
def _mesh(device: str, shard_over: str) -> DeviceMesh:
    """All ranks in a row; or by machine, each with slices of its own and gradients summed over machines."""
    from torch.distributed.device_mesh import init_device_mesh

    ranks = dist.get_world_size()
    if shard_over == "all":
        return init_device_mesh(device, (ranks,), mesh_dim_names=("shard",))
    inside = int(os.environ["LOCAL_WORLD_SIZE"])
    require(ranks % inside == 0, f"shard_over=node: {ranks} ranks are not a multiple of the {inside} of this machine")
    return init_device_mesh(device, (ranks // inside, inside), mesh_dim_names=("replicate", "shard"))


def fill(model: Transformer, whole: Transformer | None) -> Transformer:
    """Gives a sharded model the weights that ``whole`` has on rank 0."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    weights = whole.state_dict() if whole is not None and is_first() else {}
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    return model


def release(model: Transformer) -> None:
    """After passes without gradients: the root would keep its parameters whole, and as they are now."""
    if model.sharded:
        model.reshard()  # type: ignore[operator]


class _Gathered(Mapping[str, Tensor]):
    """A sharded model's weights by name, each whole while it is looked at. All ranks look, in the same order."""

    def __init__(self, model: Transformer) -> None:
        self.shards: dict[str, Tensor] = model.state_dict()

    def __getitem__(self, name: str) -> Tensor:
        return whole(self.shards[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.shards)

    def __len__(self) -> int:
        return len(self.shards)


def weights_of(model: Transformer) -> Mapping[str, Tensor]:
    """Names as in a checkpoint; of a sharded model gathered one at a time, on every rank."""
    return _Gathered(model) if model.sharded else model.state_dict()


def gathered(model: Transformer) -> dict[str, Tensor]:
    """All weights, whole: those of a sharded model in rank 0's main memory alone, for which all ranks call this."""
    if not model.sharded:
        return model.state_dict()
    mine: dict[str, Tensor] = {}
    for name, w in weights_of(model).items():  # every rank looks at each, or none would see it
        if is_first():
            mine[name] = w.cpu()
    return mine


def whole(x: Tensor) -> Tensor:
    """All of a tensor of which ranks may hold slices; they all ask for it."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def own(x: Tensor) -> Tensor:
    """This rank's slice."""
    return x.to_local() if hasattr(x, "to_local") else x


def like(x: Tensor, parameter: Tensor) -> Tensor:
    """A tensor that every rank has whole, on the parameter's device and sliced as the parameter is."""
    x = x.to(parameter.device)
    if x.dim() and hasattr(parameter, "device_mesh") and hasattr(parameter, "placements"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(x, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return x.clone()
