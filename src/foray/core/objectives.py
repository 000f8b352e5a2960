"""Losses and advantages as plain functions of tensors, one value a token.

A loss returns (N,) values. The trainer sums weight x value over the batch and divides by the denominator of the batch,
so token, sequence and constant normalization differ in data only. This module uses methods of tensors and imports no
torch: specs name the classes here.

Shapes: N scored tokens, P problems, G completions of each problem (the group size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from foray.core.canonical import added, require, require_between, require_not_negative
from foray.core.field_types import require_types

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """The inputs of a loss for N scored tokens, each (N,).

    ``logprobs``: log-probabilities of the targets under the current weights, at the temperature of the batch.
    ``log_z``: log-partitions of the logits. ``behaviour``: log-probabilities at sampling, by the trainer's arithmetic.
    ``drawn``: the same by the engine's arithmetic; equal to ``behaviour`` where the two agree. ``advantage``,
    ``behaviour`` and ``drawn`` are zero for text and demonstrations. ``first``: log-probabilities under the stage's
    first weights; read them as ``reference``.
    """

    logprobs: Tensor
    log_z: Tensor
    advantage: Tensor
    behaviour: Tensor
    first: Tensor | None
    drawn: Tensor

    @property
    def reference(self) -> Tensor:
        """Log-probabilities under the reference, the stage's first weights.

        Rollouts have them where ``needs_reference`` of the objective is true. Raises ValueError where there are none.
        """
        if self.first is None:
            raise ValueError(
                "a loss reads the reference's log-probabilities, which only rollouts have, and only where the loss's "
                "class says needs_reference = True"
            )
        return self.first


class Objective(Protocol):
    """A loss, Foray's own or a user's. Every method also takes no tokens (N = 0).

    A loss that reads ``scored.reference`` also has ``needs_reference = True``. A loss with metrics of its own has a
    method ``metrics(scored)``, as ``PolicyGradient`` has. The method returns a value a token (N,) by name. The mean
    over the scored tokens of an update is logged as ``STREAM/NAME``.
    """

    def __call__(self, s: Scored) -> Tensor:
        """A loss a token. (N,)"""
        ...

    def contributes(self, weight: Tensor, advantage: Tensor) -> Tensor:
        """Which positions (B, T) can have a gradient. The trainer skips rows without such a position."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """-log p(target), plus ``z_loss`` x log_z^2 (OLMo 2: 1e-5)."""

    z_loss: float = 0.0

    def __post_init__(self) -> None:
        require_types(self)

    def __call__(self, s: Scored) -> Tensor:
        loss = -s.logprobs
        return loss + self.z_loss * s.log_z.square() if self.z_loss else loss

    def contributes(self, weight: Tensor, advantage: Tensor) -> Tensor:
        """Every position of a weight other than 0. (B, T)"""
        return weight != 0


@dataclass(frozen=True)
class PolicyGradient:
    """The clipped surrogate of PPO on group-relative advantages (GRPO, arXiv 2402.03300, equation 3).

    The ratio is clipped to [1 - clip_low, 1 + clip_high] (asymmetric: DAPO). ``kl`` weighs the k3 estimate of
    KL(policy || reference), r - 1 - log r with r = reference / policy; the reference is the stage's first weights.

    An ``importance_cap`` C > 0 corrects for an engine whose distribution differs from the trainer's: the surrogate of a
    token counts min(behaviour / drawn, C) times (truncated importance sampling; Yao et al. 2025, "Your Efficient RL
    Framework Secretly Brings You Off-Policy RL Training"). 0 means no correction; around 2 is usual.

    A ``dual_clip`` c > 1 bounds the loss of a token of negative advantage by c x |advantage| (dual-clip PPO, arXiv
    1912.09729): a token that has become c times as likely as at sampling has no gradient. 0 means no bound; 3 is usual.
    """

    clip_low: float = 0.2  # the ratio is clipped to 1 - clip_low ...
    clip_high: float = 0.2  # ... and to 1 + clip_high
    kl: float = 0.0
    importance_cap: float = added(0.0)  # C: a token counts min(behaviour / drawn, C) times; 0: once
    dual_clip: float = added(0.0)

    def __post_init__(self) -> None:
        require_types(self)
        require_between(self, 0, 1, "clip_low")
        require_not_negative(self, "clip_high", "kl", "importance_cap", "dual_clip")
        bounds = self.dual_clip == 0 or self.dual_clip > 1
        require(bounds, f"dual_clip must be 0 (no bound) or above 1, the ratio at sampling, not {self.dual_clip}")

    @property
    def needs_reference(self) -> bool:
        return self.kl > 0

    def __call__(self, s: Scored) -> Tensor:
        ratio = (s.logprobs - s.behaviour).exp()
        clipped = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        loss = -(ratio * s.advantage).minimum(clipped * s.advantage)
        if self.dual_clip:
            loss = loss.where(s.advantage >= 0, loss.minimum(-self.dual_clip * s.advantage))
        if self.importance_cap:
            loss = (s.behaviour - s.drawn).exp().clamp(max=self.importance_cap) * loss
        return loss + self.kl * kl_k3(s) if self.kl else loss

    def contributes(self, weight: Tensor, advantage: Tensor) -> Tensor:
        """Without a KL term a token of zero advantage adds exactly nothing (law 6)."""
        return weight != 0 if self.kl else (weight != 0) & (advantage != 0)

    def metrics(self, s: Scored) -> dict[str, Tensor]:
        """``clipped``: whether the clip removes the token's gradient; ``dual_clipped``: whether the bound does. (N,)"""
        ratio = (s.logprobs - s.behaviour).exp()
        high = (ratio > 1 + self.clip_high) & (s.advantage > 0)
        low = (ratio < 1 - self.clip_low) & (s.advantage < 0)
        found = {"clipped": high | low}
        if self.dual_clip:
            found["dual_clipped"] = (ratio > self.dual_clip) & (s.advantage < 0)
        return found


def kl_k3(s: Scored) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference) a token (http://joschu.net/blog/kl-approx.html). (N,)"""
    log_r = s.reference - s.logprobs
    return log_r.exp() - 1 - log_r


def group_advantages(rewards: NDArray[np.float64], divide_by_std: bool) -> NDArray[np.float64]:
    """Reward less the group's mean, over the group's unbiased standard deviation + 1e-4 when asked. (P, G) -> (P, G)

    Exactly zero where all rewards of a group are equal: rounding of the mean must not pass for a signal.
    """
    centered = rewards - rewards.mean(axis=1, keepdims=True)
    if divide_by_std:
        centered = centered / (rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4)
    equal = rewards.max(axis=1, keepdims=True) == rewards.min(axis=1, keepdims=True)
    return np.where(equal, 0.0, centered)
