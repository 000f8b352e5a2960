"""Intervals for the report: bootstrap over problems, paired differences, several seeds. All at 95%, all seeded.

Shapes: P problems, K values measured on each, R bootstrap resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.core.passk import pass_at_k
from foray.core.rng import key

RESAMPLES = 2000
TAIL = 0.025
Z = 1.959963984540054
# 97.5% quantiles of Student's t for 1 to 10 degrees of freedom; the series below is good to 1e-3 from there on.
_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A value with its 95% interval and the number of problems (or documents) behind it."""

    value: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True)
class Graded:
    """How often each problem was solved. ``ids`` are distinct; ``correct`` and ``samples`` are (P,) counts."""

    ids: tuple[str, ...]
    correct: NDArray[np.int64]
    samples: NDArray[np.int64]

    def pass_at(self, k: int) -> Floats:
        """The unbiased pass@k of every problem, in [0, 1]. (P,)"""
        return pass_at_k(self.correct, self.samples, k)


@lru_cache(maxsize=4)
def _resample_counts(problems: int) -> Floats:
    """How often each problem is drawn in each resample, (R, P). The same for every model: common random numbers."""
    generator = np.random.Generator(np.random.Philox(key=key("report", "bootstrap", problems)))
    drawn = generator.integers(0, problems, (RESAMPLES, problems))
    flat = (drawn + problems * np.arange(RESAMPLES)[:, None]).ravel()
    return np.bincount(flat, minlength=RESAMPLES * problems).reshape(RESAMPLES, problems).astype(np.float64)


def bootstrap_means(values: Floats, low: float, high: float) -> list[Interval]:
    """Percentile intervals for the mean over problems of each column. (P, K) -> K intervals

    ``low`` and ``high`` bound what one problem can give. A column in which all problems agree resamples to itself;
    its interval comes from what P agreeing draws exclude instead: with u = 1 - 0.025^(1/P) (Clopper and Pearson's
    bound for 0 of P), at most a share u of all problems is unlike them, and those may lie anywhere in [low, high].
    Raises ValueError when there are no problems.
    """
    problems = values.shape[0]
    if problems == 0:
        raise ValueError("an interval needs at least one problem")
    means = _resample_counts(problems) @ values / problems  # (R, K)
    lows, highs = np.quantile(means, [TAIL, 1.0 - TAIL], axis=0)  # (K,) each
    unlike = 1.0 - TAIL ** (1.0 / problems)
    intervals = []
    for column, value, lo, hi in zip(values.T, values.mean(axis=0), lows, highs):
        if np.ptp(column) < 1e-12:
            lo, hi = value + unlike * (low - value), value + unlike * (high - value)
        # A lone lucky problem can be missing from the resampled tail; the interval still holds its own estimate.
        intervals.append(Interval(float(value), float(min(lo, value)), float(max(hi, value)), problems))
    return intervals


def passk_intervals(graded: Graded, ks: Sequence[int]) -> list[Interval]:
    """pass@k with its interval for every k. Raises ValueError when a k exceeds a problem's samples."""
    return bootstrap_means(np.stack([graded.pass_at(k) for k in ks], axis=1), 0.0, 1.0)


def paired_difference(a: Graded, b: Graded, k: int) -> Interval:
    """pass@k of ``a`` minus that of ``b`` on the problems both have, resampled in pairs; in [-1, 1].

    Raises ValueError when the two share no problem.
    """
    place = {identity: i for i, identity in enumerate(b.ids)}
    common = sorted((identity, i, place[identity]) for i, identity in enumerate(a.ids) if identity in place)
    if not common:
        raise ValueError("the two evaluations share no problem, so they cannot be compared in pairs")
    rows_a, rows_b = (np.array([row[side] for row in common]) for side in (1, 2))
    difference = a.pass_at(k)[rows_a] - b.pass_at(k)[rows_b]  # (P,)
    return bootstrap_means(difference[:, None], -1.0, 1.0)[0]


def wilson(value: float, n: int) -> Interval:
    """Wilson's score interval for a share ``value`` of ``n`` independent yes-or-no answers. Never of zero width."""
    if n < 1 or not 0.0 <= value <= 1.0:
        raise ValueError(f"a share must lie in [0, 1] and count at least one answer; got {value} of {n}")
    centre = (value + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    # Rounding must not push the estimate outside its interval at 0 and 1.
    return Interval(value, max(0.0, min(centre - half, value)), min(1.0, max(centre + half, value)), n)


def mean_of_independent(parts: Sequence[Interval]) -> Interval:
    """The plain mean of independent estimates; each side's distances add in squares (MOVER: Zou and Donner 2008)."""
    count = len(parts)
    value = sum(p.value for p in parts) / count
    below = math.sqrt(sum((p.value - p.lo) ** 2 for p in parts)) / count
    above = math.sqrt(sum((p.hi - p.value) ** 2 for p in parts)) / count
    return Interval(value, value - below, value + above, sum(p.n for p in parts))


def t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t (Cornish-Fisher series in 1/degrees beyond ten degrees of freedom)."""
    if degrees < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    if degrees <= len(_T):
        return _T[degrees - 1]
    first, second = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / degrees + second / degrees**2 + third / degrees**3


def over_seeds(runs: Sequence[Interval], low: float, high: float) -> Interval:
    """The mean over training seeds that were measured on the same problems, within [low, high].

    Seeds share their problems, so the error from the choice of problems does not average out: each side keeps the
    seeds' mean distance, and the t-interval of the seed means is added in squares. One seed: its own interval, which
    then says nothing about other seeds.
    """
    if len(runs) == 1:
        return runs[0]
    values = np.array([r.value for r in runs])
    value = float(values.mean())
    spread = t_quantile(len(runs) - 1) * float(values.std(ddof=1)) / math.sqrt(len(runs))
    below = math.hypot(sum(r.value - r.lo for r in runs) / len(runs), spread)
    above = math.hypot(sum(r.hi - r.value for r in runs) / len(runs), spread)
    lo, hi = np.clip([value - below, value + above], low, high)  # keeps the NaN of runs without an interval
    return Interval(value, float(lo), float(hi), min(r.n for r in runs))


class Trend(NamedTuple):
    """Mean of the first and last steps of a training curve, and what their difference supports."""

    first: float
    last: float
    verdict: str  # "rose", "fell" or "unclear"


def trend(curve: Floats, window: int = 5) -> Trend:
    """Compares the means of the first and last ``window`` steps (half the steps when there are fewer than two windows).

    "rose" or "fell" where the difference exceeds its 95% t-interval, steps taken as independent; else "unclear".
    Raises ValueError for an empty curve.
    """
    if curve.size == 0:
        raise ValueError("a trend needs at least one step")
    window = max(1, min(window, curve.size // 2))
    head, tail = curve[:window], curve[-window:]
    first, last = float(head.mean()), float(tail.mean())
    if window < 2:
        return Trend(first, last, "unclear")
    error = math.sqrt((float(head.var(ddof=1)) + float(tail.var(ddof=1))) / window)
    margin = t_quantile(2 * window - 2) * error
    verdict = "rose" if last - first > margin else "fell" if first - last > margin else "unclear"
    return Trend(first, last, verdict)
