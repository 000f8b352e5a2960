"""Rollout engines: weights in, completions with log-probabilities out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from foray.core.canonical import require_not_negative, require_positive
from foray.core.engines import check_truncation, truncates
from foray.core.field_types import require_types
from foray.model import flops
from foray.model.config import ModelConfig

StopReason = Literal["end", "stop", "length"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling. Temperature 0 is greedy. ``stop`` strings end a completion and are not graded.

    ``precision`` is that of matrix products. Probabilities are always fp32.

    Three settings leave out tokens, after the temperature; all others are drawn in proportion to their probabilities.
    ``min_p`` keeps tokens of at least this share of the likeliest token's probability (0: all). ``top_k`` keeps the k
    likeliest (0: all). ``top_p`` keeps the fewest likely tokens that together have this share of the probability (1:
    all). The order, and what happens to equal tokens: ``rollout/truncation.py``. Greedy ignores all three.
    """

    temperature: float = 1.0
    max_new_tokens: int = 96
    stop: tuple[str, ...] = ()
    precision: Precision = "fp32"
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        require_types(self)
        require_not_negative(self, "temperature")
        require_positive(self, "max_new_tokens")
        check_truncation(self)

    @property
    def truncates(self) -> bool:
        """Whether some tokens are never drawn because of ``top_p``, ``top_k`` or ``min_p``."""
        return self.temperature > 0 and truncates(self)

    @property
    def law(self) -> tuple[float, ...]:
        """What decides the distribution of the next token, given its logits."""
        return (self.temperature, self.top_p, self.top_k, self.min_p) if self.temperature else (0.0,)


def check_context(longest_prompt: int, sampling: Sampling, context: int) -> None:
    """Raises ValueError if the longest prompt and the new tokens exceed the context. All numbers are in tokens."""
    if longest_prompt + sampling.max_new_tokens > context:
        raise ValueError(
            f"a prompt of {longest_prompt} tokens and {sampling.max_new_tokens} new ones do not fit the model's "
            f"context of {context}: use fewer shots, a smaller max_new_tokens or a longer context"
        )


def check_prompts(prompts: Sequence[Sequence[int]], sampling: Sampling, context: int) -> None:
    """Raises ValueError if a prompt is empty, or does not fit the context together with the new tokens."""
    check_context(max((len(p) for p in prompts), default=0), sampling, context)
    if any(not p for p in prompts):
        raise ValueError("a prompt must hold at least one token")


class EngineDied(RuntimeError):
    """An engine's sampling process has ended. The node may be tried again."""


@dataclass(frozen=True)
class Completion:
    """One sample. ``tokens`` include the end token if an end token ended the sample. ``text`` ends before the stop.

    ``logprobs``: log-probability of each token under the distribution that the token was drawn from: logits /
    temperature, of the tokens that ``top_k``, ``top_p`` and ``min_p`` keep; greedy: logits. ``stop_reason``: ``end``
    token, ``stop`` string or ``length`` (truncated). ``policy_version``: the version of the weights.
    """

    tokens: list[int]
    logprobs: list[float]
    text: str
    stop_reason: StopReason
    policy_version: int = field(default=0)


class Engine(Protocol):
    """A rollout engine. The same seed draws the same samples at the same batch split."""

    config: ModelConfig
    max_rows: int  # samples that are drawn at once

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Takes over weights (names as in a checkpoint). Completions carry ``version`` from now on."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        """``n`` completions of every prompt. ``seeds``: a key a prompt; sample j of a prompt depends on (key, j)."""
        ...


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """The number of tokens that all prompts start with. Each prompt keeps at least one token of its own."""
    low, high = min(map(list, prompts)), max(map(list, prompts))  # all prompts in between share what these two share
    most = min(len(p) for p in prompts) - 1
    shared = 0
    while shared < most and low[shared] == high[shared]:
        shared += 1
    return shared


def sampling_flops(
    config: ModelConfig, prompts: Sequence[Sequence[int]], lengths: Sequence[Sequence[int]]
) -> dict[str, float]:
    """The ledger's entries for completions of ``lengths`` tokens: a list of lengths for every prompt."""
    prefill, decode = flops.sampling(config, [len(p) for p in prompts], lengths, common_prefix(prompts))
    return {"flops/prefill": prefill, "flops/decode": decode}
