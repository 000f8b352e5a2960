"""Amplified or discovered: how much of a gain lies on problems that the base already solved now and then.

Shapes: P problems. A problem has n samples of which c are right, for the base (b) and for the trained model (t) alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foray.report.stats import Counts, Floats

PARTS = ("amplified", "discovered", "lost", "unseen")


def parts_of_gain(base: Counts, trained: Counts, k: int) -> Floats:
    """The gain in pass@k of every problem, split by which of the two models shows a right sample. (P, 4), as ``PARTS``

    Both models show one: *amplified*. Only the trained model: *discovered*. Only the base: *lost*. None: *unseen*. The
    four add up to the problem's gain, and each lies in [-1, 1].

    No sample does both: of each model, n - k samples decide whether a right one is shown, and the k others are scored,
    averaged over every such choice. So each part is unbiased, and it is 0 on average where the models are equal.
    (Were they the same samples, a problem that only one model solved by luck would count as discovered or as lost.)

    ``base`` and ``trained`` hold the same problems in one order. Raises ValueError where a problem has k samples or
    fewer: none would be left to show.
    """
    if base.ids != trained.ids:
        raise ValueError("a gain is split over the same problems of both models")
    least = min(int(base.samples.min()), int(trained.samples.min()))
    if not 0 < k < least:
        raise ValueError(f"to split a gain in pass@k, k must be less than the {least} samples a problem, not {k}")
    dark_b, dark_t = _none_shown(base, k), _none_shown(trained, k)  # chances that none of n - k samples is right
    # Where none of n - k is right, all right ones are among the k: pass@k is then 1 if there are any.
    dark_pass_b, dark_pass_t = dark_b * (base.correct > 0), dark_t * (trained.correct > 0)
    shown_pass_b, shown_pass_t = base.pass_at(k) - dark_pass_b, trained.pass_at(k) - dark_pass_t
    amplified = shown_pass_t * (1 - dark_b) - shown_pass_b * (1 - dark_t)
    discovered = shown_pass_t * dark_b - dark_pass_b * (1 - dark_t)
    lost = dark_pass_t * (1 - dark_b) - shown_pass_b * dark_t
    unseen = dark_pass_t * dark_b - dark_pass_b * dark_t
    return np.stack([amplified, discovered, lost, unseen], axis=1)


def _none_shown(counts: Counts, k: int) -> Floats:
    """The chance that n - k of the n samples, drawn without replacement, hold none of the c right ones. (P,)

    All c are then among the k others: C(k, c) / C(n, c).
    """
    i = np.arange(k)
    factors = np.clip(k - i, 0, None) / (counts.samples[:, None] - i)
    product = np.where(i < counts.correct[:, None], factors, 1.0).prod(axis=1)
    return np.where(counts.correct > k, 0.0, product)


def still_possible(samples: int) -> float:
    """The largest chance a sample, at 95%, of what none of so many samples showed: 1 - 0.05^(1/n), about 3/n.

    The one-sided interval of Clopper and Pearson (1934) for no success.
    """
    return float(1.0 - 0.05 ** (1.0 / samples))


class Reached(NamedTuple):
    """Problems whose pass@k is at least one half in the trained model and not in the base, as counts of problems.

    ``held``: the base has a right sample of them. ``rate``: the base's mean share of right samples of the held ones,
    NaN where there are none.
    """

    new: int
    held: int
    rate: float


def reached_half(base: Counts, trained: Counts, k: int) -> Reached:
    """``base`` and ``trained`` hold the same problems in one order."""
    new = (trained.pass_at(k) >= 0.5) & (base.pass_at(k) < 0.5)
    held = new & (base.correct > 0)
    rates = (base.correct / base.samples)[held]
    return Reached(int(new.sum()), int(held.sum()), float(rates.mean()) if rates.size else float("nan"))
