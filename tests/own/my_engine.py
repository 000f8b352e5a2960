"""An engine with a setting, in a file of the user's own: `Rollouts(..., engine=Copies(2))`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.engine import Completion, Engine, Precision, Sampling
from foray.rollout.torch_engine import TorchEngine


class _Engine:
    """Samples once a prompt and gives each sample ``copies`` times: it stands for a sampler of any other kind."""

    def __init__(self, inner: TorchEngine, copies: int) -> None:
        self.inner, self.copies = inner, copies
        self.config, self.max_rows = inner.config, inner.max_rows

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        self.inner.sync(weights, version)

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        drawn = self.inner.generate(prompts, -(-n // self.copies), sampling, seeds)
        return [[c for c in of_prompt for _ in range(self.copies)][:n] for of_prompt in drawn]


@dataclass(frozen=True)
class Copies:
    copies: int = 2

    def open(self, model: Transformer, tokenizer: TextTokenizer, precision: Precision) -> Engine:
        return _Engine(TorchEngine(model.config, tokenizer), self.copies)


@dataclass(frozen=True)
class NoEngine:
    """Its open() forgets to return the engine."""

    def open(self, model: Transformer, tokenizer: TextTokenizer, precision: Precision) -> Any:
        TorchEngine(model.config, tokenizer)
