"""How a node is computed: settings of the machine, which change speed and rounding, never what a result is of."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from foray.core.canonical import require, require_not_negative, require_positive, require_words
from foray.core.override import override

if TYPE_CHECKING:
    import torch

MICROBATCH = {"cpu": 4096, "cuda": 16384}
Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Machine:
    """No part of any key.

    ``microbatch_tokens`` a forward pass bound its memory (0: 4096 on a CPU, 16384 on a GPU); with ``recompute`` layers
    keep no activations for the backward pass and compute them again; ``compile`` is for GPUs, where "auto" turns it on.
    ``threads`` of a node, which its ranks share (0: its share of the cores, or fewer where OMP_NUM_THREADS says so).
    ``ranks`` processes of this machine train one node together, each on a GPU of its own where there are any; they hold
    slices of the model, ``shard_over`` all of them or, on several machines (torchrun), over those of each.
    """

    device: Literal["auto", "cpu", "cuda"] = "cpu"
    microbatch_tokens: int = 0
    recompute: bool = False
    compile: Switch = "auto"
    ranks: int = 1
    shard_over: Literal["all", "node"] = "all"
    threads: int = 0

    def __post_init__(self) -> None:
        require_words(self)
        require_positive(self, "ranks")
        require_not_negative(self, "microbatch_tokens", "threads")

    def found(self) -> Machine:
        """The same with everything decided, by what is here. Raises ValueError where a GPU is asked for and none is."""
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
    """From what a user typed, such as ``device=cpu``; by default a GPU is used where there is one."""
    return machine_settings(settings).found()


def machine_settings(settings: list[str]) -> Machine:
    """The same with nothing looked up here: of a machine that may be another one."""
    try:
        return override(Machine("auto"), *settings)
    except ValueError as e:
        raise ValueError(str(e).replace("--set", "--machine", 1)) from None


def gpus() -> int:
    """How many there are, asked in a way that leaves a process free to fork."""
    import torch

    return int(torch.cuda.device_count())


def use_gpu(number: int, ranks: int = 1) -> None:
    """Makes GPU ``number``, modulo those there are, this process's own; nothing where there is none.

    For a process that forks ``ranks`` others: shows them the share of that number, and leaves the GPUs alone itself.
    """
    import torch

    if gpus() and ranks == 1:
        torch.cuda.set_device(number % gpus())
    elif gpus():
        shown = _shown()
        first = number % (len(shown) // ranks) * ranks
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown[first : first + ranks])


def free_memory() -> None:
    """Gives back what a GPU holds for models that are gone. Compiled ones end with a collection and not before."""
    import torch

    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def cards(count: int) -> str:
    """``CUDA_VISIBLE_DEVICES`` of a process that is to have ``count`` GPUs, this one's own and those behind it."""
    import torch

    own = torch.cuda.current_device()
    require(own + count <= gpus(), f"{count} GPUs are asked for from number {own} on, and there are {gpus()}")
    return ",".join(_shown()[own : own + count])


def _shown() -> list[str]:
    """Names of the GPUs that this process sees."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus())))).split(",")
