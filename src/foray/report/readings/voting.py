"""Majority vote @K: how often the most frequent answer of K samples is right (Wang et al. 2023, arXiv 2203.11171).

Shapes: P problems, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foray.core.rng import key
from foray.report.measurements import Votes
from foray.report.stats import Floats

DRAWS = 200  # a problem; over 200 problems they leave an error of a quarter of a point at most


def majority(votes: Sequence[Votes], samples: NDArray[np.int64], k: int) -> Floats:
    """The chance that a majority vote of k of the samples is right, for every problem, in [0, 1]. (P,)

    The vote goes to the most frequent answer. Of several most frequent ones each is taken equally often. Samples
    without an answer have no vote; without any vote nothing is right. With k = n samples the value is exact. With fewer
    it is the mean over ``DRAWS`` choices of k of the samples, the same ones in every report. Raises ValueError where k
    exceeds a problem's samples.
    """
    if not 0 < k <= int(samples.min()):
        raise ValueError(f"a vote of {k} samples needs as many a problem; there are {int(samples.min())}")
    generator = np.random.Generator(np.random.Philox(key=key("report", "majority", k)))
    return np.array([_of_problem(v, int(n), k, generator) for v, n in zip(votes, samples)])


def _of_problem(votes: Votes, samples: int, k: int, generator: np.random.Generator) -> float:
    if not votes:
        return 0.0
    given = np.array([count for count, _ in votes])
    right = np.array([right for _, right in votes])
    if k == samples:
        drawn = given[None]
    else:
        urn = [*given, samples - int(given.sum())]
        drawn = generator.multivariate_hypergeometric(urn, k, DRAWS, method="count")[:, :-1]  # (D, answers)
    most = drawn.max(axis=1, keepdims=True)
    tied = (drawn == most) & (most > 0)
    return float(((tied & right).sum(axis=1) / tied.sum(axis=1).clip(1)).mean())
