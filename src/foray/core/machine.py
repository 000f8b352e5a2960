"""Settings of the machine: how a node is computed. These change speed and rounding, and are no part of a key."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from foray.core.canonical import require, require_not_negative, require_positive
from foray.core.field_types import require_types
from foray.core.override import override

if TYPE_CHECKING:
    import torch

MICROBATCH = {"cpu": 4096, "cuda": 16384}
_MOST = 1024
Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Machine:
    """How to compute.

    ``microbatch_tokens`` of one forward pass bound the memory (0: 4096 on a CPU, 16384 on a GPU). With ``recompute``,
    layers compute their activations again in the backward pass and keep none. ``compile``: "auto" means on for GPUs.
    The ranks of a node share its ``threads`` (0: the node's share of the cores, or OMP_NUM_THREADS where that is less).
    ``ranks`` processes of this machine train one node together, each on its own GPU where there are GPUs. The model is
    sharded over ``all`` ranks, or over the ranks of each machine (``node``, for torchrun on several machines).
    """

    device: Literal["auto", "cpu", "cuda"] = "cpu"
    microbatch_tokens: int = 0
    recompute: bool = False
    compile: Switch = "auto"
    ranks: int = 1
    shard_over: Literal["all", "node"] = "all"
    threads: int = 0

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "ranks")
        require_not_negative(self, "microbatch_tokens", "threads")
        for name in ("ranks", "threads"):
            most = f"{name} must be at most {_MOST:,}, more than any machine's cores or GPUs, not {getattr(self, name)}"
            require(getattr(self, name) <= _MOST, most)

    def found(self) -> Machine:
        """The settings with every "auto" and 0 decided by this machine. Raises ValueError where GPUs are missing."""
        there = gpus() if self.device != "cpu" else 0
        require(there > 0 or self.device != "cuda", "device=cuda: torch finds no GPU here; use device=cpu")
        device: Literal["cpu", "cuda"] = "cuda" if there else "cpu"
        few = 0 < there < self.ranks
        require(not few, f"ranks={self.ranks}: there are {there} GPUs here, and every rank takes one")
        on: Switch = ("on" if device == "cuda" else "off") if self.compile == "auto" else self.compile
        return replace(self, device=device, microbatch_tokens=self.microbatch_tokens or MICROBATCH[device], compile=on)

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device(self.device)


def machine(settings: list[str]) -> Machine:
    """``machine_settings``, decided by this machine. By default a GPU is used where there is one."""
    return machine_settings(settings).found()


def machine_settings(settings: list[str]) -> Machine:
    """The machine from what a user typed, such as ``device=cpu``. May be meant for another machine than this one."""
    try:
        return override(Machine("auto"), *settings)
    except ValueError as e:
        raise ValueError(str(e).replace("--set", "--machine", 1)) from None


def gpus() -> int:
    """The number of GPUs, asked in a way that leaves a process free to fork."""
    import torch

    return int(torch.cuda.device_count())


def card() -> tuple[str, float]:
    """Name and bytes of memory of the first GPU."""
    import torch

    found = torch.cuda.get_device_properties(0)
    return str(found.name), float(found.total_memory)


def use_gpu(number: int, ranks: int = 1) -> None:
    """Makes GPU ``number``, modulo the number of GPUs, this process's own. Does nothing without GPUs.

    A process that will fork ``ranks`` ranks instead shows them share ``number`` of the GPUs, and uses none itself.
    """
    import torch

    if gpus() and ranks == 1:
        torch.cuda.set_device(number % gpus())
    elif gpus():
        shown = _shown()
        first = number % (len(shown) // ranks) * ranks
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown[first : first + ranks])


def free_memory() -> None:
    """Frees the GPU memory of models that are gone. A compiled model is gone only after a garbage collection."""
    import torch

    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def cards(count: int) -> str:
    """``CUDA_VISIBLE_DEVICES`` for a process with ``count`` GPUs: this process's own and the following ones."""
    import torch

    own = torch.cuda.current_device()
    require(own + count <= gpus(), f"{count} GPUs are asked for from number {own} on, and there are {gpus()}")
    return ",".join(_shown()[own : own + count])


def _shown() -> list[str]:
    """Names of the GPUs that this process sees."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus())))).split(",")
