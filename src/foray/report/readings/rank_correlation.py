"""Spearman's rank correlation of two lists of numbers, with its interval."""

from __future__ import annotations

import math

import numpy as np

from foray.report.stats import Floats, Interval, Z

LEAST = 5  # pairs; with fewer the interval says next to nothing


def spearman(x: Floats, y: Floats) -> Interval:
    """Spearman's rho in [-1, 1]; equal numbers share their mean rank. NaN where all of one list are equal.

    The interval: tanh(atanh rho ± z √(1.06 / (N - 3))), Fieller, Hartley and Pearson (1957), which takes the N pairs as
    independent. NaN for fewer than ``LEAST`` pairs. At rho = ±1 its standard error is that of the next rho below.
    """
    n = len(x)
    a, b = _ranks(x), _ranks(y)
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Interval(math.nan, math.nan, math.nan, n)
    rho = float(np.corrcoef(a, b)[0, 1])
    if n < LEAST:
        return Interval(rho, math.nan, math.nan, n)
    most = 1.0 - 6.0 / (n * (n * n - 1.0))  # half a swap of neighbors below 1: atanh stays finite
    center, half = math.atanh(min(max(rho, -most), most)), Z * math.sqrt(1.06 / (n - 3))
    return Interval(rho, min(rho, math.tanh(center - half)), max(rho, math.tanh(center + half)), n)


def _ranks(values: Floats) -> Floats:
    """Ranks from 0 on, equal values at their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2.0)[place]
