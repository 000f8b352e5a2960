"""Intervals and tests for the report. All at 95%, all seeded; every formula is in ``docs/statistics.md``.

Shapes: P problems, K values measured on each, R bootstrap resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.core.passk import pass_at_k
from foray.core.rng import key

RESAMPLES = 2000
TAIL = 0.025
Z = 1.959963984540054  # the normal distribution's 97.5% quantile
Z_POWER = 0.8416212335729143  # the normal distribution's 80% quantile
ENOUGH_PRETRAININGS = 4  # from so many on an interval speaks of other pre-trainings too
MARGIN = 0.02  # differences smaller than two points count as none
_LEAST_ERROR = 1e-3  # a resample's standard error is at least this share of the sample's
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
class Counts:
    """How often each problem was solved. ``ids`` are distinct; ``correct`` and ``samples`` are (P,) counts."""

    ids: tuple[str, ...]
    correct: NDArray[np.int64]
    samples: NDArray[np.int64]

    def pass_at(self, k: int) -> Floats:
        """The unbiased pass@k of every problem, in [0, 1]. (P,)"""
        return pass_at_k(self.correct, self.samples, k)


@lru_cache(maxsize=4)
def resample_counts(problems: int) -> Floats:
    """How often each problem is drawn in each resample, (R, P). The same for every model: common random numbers."""
    generator = np.random.Generator(np.random.Philox(key=key("report", "bootstrap", problems)))
    drawn = generator.integers(0, problems, (RESAMPLES, problems))
    flat = (drawn + problems * np.arange(RESAMPLES)[:, None]).ravel()
    return np.bincount(flat, minlength=RESAMPLES * problems).reshape(RESAMPLES, problems).astype(np.float64)


def _studentized(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean and standard error of each column, and t* = (mean* - mean) / error* of its resamples. (K,), (K,), (R, K)"""
    problems = values.shape[0]
    mean, error = values.mean(axis=0), values.std(axis=0) / math.sqrt(max(1, problems - 1))
    counts = resample_counts(problems)
    means = counts @ values / problems
    variances = np.maximum(counts @ (values * values) / problems - means * means, 0.0)
    # A resample of problems that all agree has no error of its own: it says that the bound lies far off.
    errors = np.maximum(np.sqrt(variances / max(1, problems - 1)), _LEAST_ERROR * error)
    return mean, error, np.divide(means - mean, errors, out=np.zeros_like(means), where=errors > 0)


def mean_intervals(values: Floats) -> list[Interval]:
    """Intervals for the mean over problems of each column of values in [0, 1]. (P, K) -> K intervals

    Bootstrap-t over problems, equal tails (Efron and Tibshirani 1993, 12.5), never wider than Wilson's interval of
    yes-or-no answers with that mean, which vary most. Where all answers are yes or no, or all problems agree, it is
    Wilson's. Never of zero width. Raises ValueError when there are no problems.
    """
    problems = values.shape[0]
    if problems == 0:
        raise ValueError("an interval needs at least one problem")
    mean, error, pivots = _studentized(values)
    quantiles = np.quantile(pivots, [TAIL, 1.0 - TAIL], axis=0)  # (2, K)
    widest = [wilson(min(max(float(m), 0.0), 1.0), problems) for m in mean]
    return [
        outer if _yes_or_no(column) else _within(Interval(m, m - upper * e, m - lower * e, problems), outer)
        for column, m, e, lower, upper, outer in zip(
            values.T, mean.tolist(), error.tolist(), *quantiles.tolist(), widest
        )
    ]


def mean_of_any(values: Floats) -> Interval:
    """The mean of numbers of any size, one an item, with its t-interval; without an interval for a single one. (N,)"""
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    half = t_quantile(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def mean_interval_of_many(values: Floats, times: NDArray[np.int64]) -> Interval:
    """As ``mean_intervals`` for one column of thousands of problems, given as distinct values and their counts. (U,)

    The mean of so many is normal, and the bootstrap would hold each of its resamples in memory.
    """
    problems = int(times.sum())
    mean = float(values @ times) / problems
    outer = wilson(min(max(mean, 0.0), 1.0), problems)
    if _yes_or_no(values):
        return outer
    half = Z * math.sqrt(float((values - mean) ** 2 @ times) / problems / max(1, problems - 1))
    return _within(Interval(mean, mean - half, mean + half, problems), outer)


def difference_intervals(values: Floats) -> list[Interval]:
    """Intervals for the mean of paired differences in [-1, 1], one a problem. (P, K) -> K intervals

    Bootstrap-t over problems, symmetric (Hall 1988), never wider than Bonett and Price's interval of yes-or-no
    answers with the same gains and losses, and equal to it where the answers are such or all problems agree. Never
    of zero width. Raises ValueError when there are no problems.
    """
    problems = values.shape[0]
    if problems == 0:
        raise ValueError("an interval needs at least one problem")
    mean, error, pivots = _studentized(values)
    half = error * np.quantile(np.abs(pivots), 1.0 - 2 * TAIL, axis=0)  # (K,)
    found = []
    for column, m, h in zip(values.T, mean.tolist(), half.tolist()):
        outer = bonett_price(float(column.clip(0, 1).sum()), float((-column).clip(0, 1).sum()), problems)
        found.append(outer if _yes_or_no(column) else _within(Interval(m, m - h, m + h, problems), outer))
    return found


def _yes_or_no(column: Floats) -> bool:
    return bool(np.isin(np.abs(column), (0.0, 1.0)).all() or np.ptp(column) < 1e-12)


def _within(inner: Interval, outer: Interval) -> Interval:
    """The part of an interval that lies in another; it always holds its own estimate."""
    value = inner.value
    return Interval(value, min(value, max(inner.lo, outer.lo)), max(value, min(inner.hi, outer.hi)), inner.n)


def passk_intervals(counts: Counts, ks: Sequence[int]) -> list[Interval]:
    """pass@k with its interval for every k. Raises ValueError when a k exceeds a problem's samples."""
    return mean_intervals(np.stack([counts.pass_at(k) for k in ks], axis=1))


def paired(a: Counts, b: Counts) -> tuple[Counts, Counts]:
    """Both evaluations on the problems that both have, in order of their ids.

    Raises ValueError when the two share no problem.
    """
    place = {identity: i for i, identity in enumerate(b.ids)}
    common = sorted((identity, i, place[identity]) for i, identity in enumerate(a.ids) if identity in place)
    if not common:
        raise ValueError("the two evaluations share no problem, so they cannot be compared in pairs")
    ids = tuple(row[0] for row in common)
    rows_a, rows_b = (np.array([row[side] for row in common]) for side in (1, 2))
    return Counts(ids, a.correct[rows_a], a.samples[rows_a]), Counts(ids, b.correct[rows_b], b.samples[rows_b])


def paired_difference(a: Counts, b: Counts, k: int) -> Interval:
    """pass@k of ``a`` minus that of ``b`` on the problems both have, resampled in pairs; in [-1, 1].

    Raises ValueError when the two share no problem.
    """
    a, b = paired(a, b)
    return difference_intervals((a.pass_at(k) - b.pass_at(k))[:, None])[0]


def wilson(value: float, n: float) -> Interval:
    """Wilson's score interval for a share ``value`` of ``n`` independent yes-or-no answers. Never of zero width."""
    if n < 1 or not 0.0 <= value <= 1.0:
        raise ValueError(f"a share must lie in [0, 1] and count at least one answer; got {value} of {n}")
    center = (value + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    # At 0 and 1 rounding must not push the estimate outside its interval.
    return Interval(value, max(0.0, min(center - half, value)), min(1.0, max(center + half, value)), int(n))


def bonett_price(gained: float, lost: float, n: float) -> Interval:
    """The difference of two shares of the same ``n`` yes-or-no answers: ``gained`` turned to yes, ``lost`` to no.

    Bonett and Price (2012), adjusted Wald: one answer more of each kind. Never of zero width.
    """
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    value = (gained - lost) / n
    return Interval(value, max(-1.0, min(up - down - half, value)), min(1.0, max(up - down + half, value)), int(n))


def mean_of_independent(parts: Sequence[Interval]) -> Interval:
    """The plain mean of independent estimates; each side's distances add in squares (MOVER: Zou and Donner 2008)."""
    count = len(parts)
    value = sum(p.value for p in parts) / count
    below = math.sqrt(sum((p.value - p.lo) ** 2 for p in parts)) / count
    above = math.sqrt(sum((p.hi - p.value) ** 2 for p in parts)) / count
    return Interval(value, value - below, value + above, sum(p.n for p in parts))


def difference_of_independent(a: Interval, b: Interval) -> Interval:
    """``a`` minus ``b``, measured on other problems; each side's distances add in squares (MOVER)."""
    value = a.value - b.value
    below, above = math.hypot(a.value - a.lo, b.hi - b.value), math.hypot(a.hi - a.value, b.value - b.lo)
    return Interval(value, value - below, value + above, a.n + b.n)


def t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t (Cornish-Fisher series in 1/degrees beyond ten degrees of freedom)."""
    if degrees < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    if degrees <= len(_T):
        return _T[degrees - 1]
    first, second = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / degrees + second / degrees**2 + third / degrees**3


def over_seeds(
    runs: Sequence[Interval], low: float, high: float, starts: Sequence[Any] | None = None,
    problems: Interval | None = None,
) -> Interval:  # fmt: skip
    """The mean over training seeds that were measured on the same problems, within [low, high].

    Seeds share their problems, so the error from the choice of problems does not average out: each side keeps the
    distance of ``problems``, the interval of each problem's mean over seeds, or without it the seeds' mean distance.
    The t-interval of the seed means is added in squares. ``starts`` names the pre-training
    that each run began with. Fewer than ``ENOUGH_PRETRAININGS`` are taken as given, so only the spread within one
    counts; where none has a second seed, the interval says nothing about other seeds. From that number on they are what
    is sampled: the mean and its t-interval are those of the means of each, and speak of other pre-trainings.
    """
    if starts is not None and len(set(starts)) >= ENOUGH_PRETRAININGS:
        each = [[r for r, s in zip(runs, starts) if s == start] for start in dict.fromkeys(starts)]
        return over_seeds([_mean(of_one) for of_one in each], low, high, problems=problems)
    values = np.array([r.value for r in runs])
    value = float(values.mean())
    groups = _groups(values, starts)
    degrees = sum(len(g) - 1 for g in groups)
    spread = 0.0
    if degrees:
        within = math.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / degrees)
        spread = t_quantile(degrees) * within / math.sqrt(len(runs))
    elif len(runs) == 1:
        return runs[0]
    of = runs if problems is None else [problems]
    below = math.hypot(sum(r.value - r.lo for r in of) / len(of), spread)
    above = math.hypot(sum(r.hi - r.value for r in of) / len(of), spread)
    lo, hi = np.clip([value - below, value + above], low, high)  # keeps the NaN of runs without an interval
    return Interval(value, float(lo), float(hi), min(r.n for r in runs))


def mean_of_runs(values: Sequence[float], starts: Sequence[Any]) -> float:
    """The value of ``over_seeds`` for numbers without intervals."""
    return over_seeds([Interval(v, v, v, 0) for v in values], -math.inf, math.inf, starts).value


def _mean(runs: Sequence[Interval]) -> Interval:
    """The mean of runs from one pre-training, with the mean of their distances."""
    value, lo, hi = (float(np.mean([r[i] for r in runs])) for i in range(3))
    return Interval(value, lo, hi, min(r.n for r in runs))


def degrees_of_freedom(starts: Sequence[Any]) -> int:
    """Degrees of freedom of the spread in ``over_seeds``; ``starts``: the pre-training that each run began with."""
    several = len(set(starts))
    return several - 1 if several >= ENOUGH_PRETRAININGS else len(starts) - several


def _groups(values: Floats, starts: Sequence[Any] | None) -> list[Floats]:
    if starts is None:
        return [values]
    return [values[[s == start for s in starts]] for start in dict.fromkeys(starts)]


def detectable(interval: Interval) -> float:
    """The smallest true difference that an interval of this width excludes from zero four times in five."""
    return (Z + Z_POWER) / Z * (interval.hi - interval.lo) / 2


def p_value(interval: Interval, bound: float, degrees: int = 0) -> float:
    """Two-sided p-value of "the true value is ``bound``", read off the interval, so that p < 0.05 where it excludes it.

    The half-width towards the bound counts as that of Student's t with so many ``degrees`` of freedom (0: normal).
    """
    quantile = t_quantile(degrees) if degrees else Z
    half = interval.value - interval.lo if interval.value > bound else interval.hi - interval.value
    if half <= 0.0:
        return 1.0
    t = quantile * abs(interval.value - bound) / half
    return 2.0 * (1.0 - student(t, degrees)) if degrees else math.erfc(t / math.sqrt(2.0))


def student(t: float, degrees: int) -> float:
    """P(T <= t) of Student's t for whole degrees of freedom and t >= 0 (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    cosine2 = math.cos(angle) ** 2
    term, total = 1.0, 0.0
    for j in range(degrees // 2):
        if j:
            term *= cosine2 * (2 * j / (2 * j + 1) if degrees % 2 else (2 * j - 1) / (2 * j))
        total += term
    if degrees % 2 == 0:
        return 0.5 + 0.5 * math.sin(angle) * total
    return 0.5 + (angle + math.sin(angle) * math.cos(angle) * total) / math.pi


def holm(p_values: Sequence[float]) -> list[bool]:
    """Which of several hypotheses are rejected, with at most 5% chance of any false rejection (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > 2 * TAIL / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


class Trend(NamedTuple):
    """Mean of the first and last steps of a training curve, and what their difference supports."""

    first: float
    last: float
    verdict: str  # "rose", "fell" or "unclear"


def trend(curve: Floats) -> Trend:
    """Compares the means of the first and the last five steps (of half the steps, when there are fewer than ten).

    "rose" or "fell" where the difference exceeds its 95% t-interval, steps taken as independent; else "unclear".
    Raises ValueError for an empty curve.
    """
    if curve.size == 0:
        raise ValueError("a trend needs at least one step")
    window = max(1, min(5, curve.size // 2))
    head, tail = curve[:window], curve[-window:]
    first, last = float(head.mean()), float(tail.mean())
    if window < 2:
        return Trend(first, last, "unclear")
    error = math.sqrt((float(head.var(ddof=1)) + float(tail.var(ddof=1))) / window)
    margin = t_quantile(2 * window - 2) * error
    verdict = "rose" if last - first > margin else "fell" if first - last > margin else "unclear"
    return Trend(first, last, verdict)
