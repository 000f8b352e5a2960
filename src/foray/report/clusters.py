"""Intervals over probes whose documents ask for the same facts: ``docs/statistics.md``, "Probes"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foray.report.stats import Floats, Interval, bonett_price, wilson


def share_interval(share: float, values: Floats, facts: NDArray[np.int64]) -> Interval:
    """Wilson's interval for a share of yes-or-no answers, clustered by fact. (N,), (N,)"""
    return wilson(share, independent_answers(values, facts))._replace(n=len(values))


def share_difference(values: Floats, facts: NDArray[np.int64]) -> Interval:
    """Bonett and Price's interval for the mean of paired differences -1, 0 or 1, clustered by fact. (N,), (N,)"""
    worth = independent_answers(values, facts)
    part = worth / len(values)
    gained, lost = float(values.clip(0, 1).sum()), float((-values).clip(0, 1).sum())
    return bonett_price(part * gained, part * lost, worth)._replace(n=len(values))


def independent_answers(values: Floats, facts: NDArray[np.int64]) -> float:
    """The number of independent answers that say as much as ``values``, of which some are on the same fact. (N,), (N,)

    N over the design effect (Kish 1965, 5.4): the variance of the mean with clusters over that without. It lies between
    the number for facts whose answers all agree, and N.
    """
    n, rest = len(values), values - values.mean()
    sizes, totals = np.bincount(facts), np.bincount(facts, rest)
    kinds, least = np.count_nonzero(sizes), n * n / float((sizes**2).sum())
    plain = float((rest**2).sum()) / max(1, n - 1)
    if plain == 0.0 or kinds < 2:
        return least
    clustered = float((totals**2).sum()) / n * kinds / (kinds - 1)
    return min(float(n), max(least, n * plain / clustered if clustered > 0 else n))
