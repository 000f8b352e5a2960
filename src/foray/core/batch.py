"""A batch: rows of tokens and the value of each token. Every loss gets its tokens in this form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of tokens and the value of each token. B rows, T positions. Rows are padded on the right.

    ``targets[b, t]`` is predicted from ``tokens[b, : t + 1]``. Positions of weight 0 are not scored. The loss is
    sum(weight x loss a token) / ``denominator``. The denominator counts the whole (global) batch.
    """

    tokens: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64
    weight: Tensor  # (B, T) float32
    advantage: Tensor  # (B, T) float32
    behaviour: Tensor  # (B, T) float32, log-probabilities at sampling: the engine's, or the trainer's beside ``drawn``
    denominator: float
    temperature: float = 1.0
    on_policy: bool = False  # the log-probabilities of the pass itself are the behavior's: ratios are 1
    reference: Tensor | None = None  # (B, T) float32, log-probabilities of the reference
    drawn: Tensor | None = None  # (B, T) float32, the engine's log-probabilities where ``behaviour`` is the trainer's
    group: Tensor | None = None  # (B,) int64, the rows of a group start with the same ``shared`` tokens
    shared: Tensor | None = None  # (B,) int64

    @property
    def rows(self) -> int:
        return int(self.tokens.shape[0])

    def select(self, rows: Tensor) -> Batch:
        """The given rows, with the same denominator."""
        tensors: dict[str, Any] = {name: x[rows] for name, x in self.__dict__.items() if isinstance(x, Tensor)}
        return replace(self, **tensors)

    def copies(self) -> dict[str, Tensor]:
        """Copies of the tensors by name, for a file. Inputs and targets of a batch may share memory."""
        every = {name: x for name, x in self.__dict__.items() if isinstance(x, Tensor)}
        return {name: x.clone(memory_format=torch.contiguous_format) for name, x in every.items()}


def from_rows(
    prompts: list[list[int]],
    completions: list[list[int]],
    weight: list[float],
    denominator: float,
    *,
    advantage: list[float] | None = None,
    behaviour: list[list[float]] | None = None,
    temperature: float = 1.0,
    group_size: int = 1,
) -> Batch:
    """A batch that scores the completion tokens of each row. A row has one weight and one advantage.

    Each ``group_size`` consecutive rows have the same prompt.
    """
    B = len(prompts)
    T = max((len(p) + len(c) - 1 for p, c in zip(prompts, completions)), default=1)
    # Small assignments cost a tenth in numpy of what they cost in torch.
    tokens, targets = np.zeros((B, T), dtype=np.int64), np.zeros((B, T), dtype=np.int64)
    w, a, old = (np.zeros((B, T), dtype=np.float32) for _ in range(3))
    for b, (prompt, completion) in enumerate(zip(prompts, completions)):
        row = prompt + completion
        start, end = len(prompt) - 1, len(row) - 1
        tokens[b, :end], targets[b, :end] = row[:-1], row[1:]
        w[b, start:end] = weight[b]
        if advantage is not None:
            a[b, start:end] = advantage[b]
        if behaviour is not None:
            old[b, start:end] = behaviour[b]
    x, y, weights, advantages, logprobs = (torch.from_numpy(v) for v in (tokens, targets, w, a, old))
    batch = Batch(x, y, weights, advantages, logprobs, denominator, temperature)
    if group_size == 1:
        return batch
    return replace(batch, group=torch.arange(B) // group_size, shared=torch.tensor([len(p) for p in prompts]))
