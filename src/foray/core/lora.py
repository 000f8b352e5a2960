"""LoRA as data: which linear layers get low-rank adapters. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from foray.core.canonical import nearest, require, require_positive
from foray.core.field_types import require_types

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) with peft's conventions: the weights W are frozen, and a
    layer computes with W + alpha / rank * B A.

    A is (rank, in) and begins uniform, as in peft. B is (out, rank) and begins at zero. There is no dropout, and biases
    are frozen.
    """

    rank: int = 8  # rows of A and columns of B
    alpha: float = 8.0  # B A is multiplied by alpha / rank
    targets: tuple[str, ...] = LINEARS  # the linear layers with adapters, by their names in Hugging Face's format

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "rank", "alpha")
        require(bool(self.targets), "targets must be names of linear layers, such as ('q_proj', 'v_proj')")
        for name in self.targets:
            require(name in LINEARS, f"no layer has a linear layer {name!r}{nearest(name, LINEARS)}")
        require(len(set(self.targets)) == len(self.targets), f"targets name a layer twice: {', '.join(self.targets)}")

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank
