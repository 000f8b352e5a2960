"""pass@k of a model at the temperature that is its own best, chosen for every k on other problems than it is judged on.

pass@k with many samples asks for variety, which a temperature gives: at one temperature for all, a model that training
has made sharper is sampled too coldly for a large k, and a flat one too hotly for k = 1. So a fall of pass@K at one
temperature can be one of that temperature alone.

The best of several noisy numbers is too high. So the problems are cut in two, every other one in the order of their
ids. On each half a model counts at the temperature that is the best on the other half.

Shapes: T temperatures, R runs, P problems, K values of k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.report.stats import Counts, Floats


class OwnBest(NamedTuple):
    """pass@k of every problem, (R, P, K) for the problems ``ids`` in order.

    ``temperatures``: for every k those that were best on a half, rising: one or two.
    """

    ids: tuple[str, ...]
    values: Floats
    temperatures: tuple[tuple[float, ...], ...]


def own_best(tried: Mapping[float, Sequence[Counts]], ks: Sequence[int]) -> OwnBest:
    """The counts of R runs at each of T temperatures, at each model's own. One temperature serves all runs.

    Of temperatures that do equally well the lowest counts. Raises ValueError when the counts share no problem, or when
    a k exceeds a problem's samples.
    """
    rising = sorted(tried)
    ids = sorted(set.intersection(*(set(c.ids) for runs in tried.values() for c in runs)))
    if not ids:
        raise ValueError("the evaluations share no problem")
    values = np.array([[_values(c, ids, ks) for c in tried[t]] for t in rising])  # (T, R, P, K)
    half = np.arange(len(ids)) % 2
    own, chosen = np.empty(values.shape[1:]), list[NDArray[np.int64]]()
    for side in (0, 1):
        judging = (half != side) | (len(ids) == 1)  # a single problem has no other half
        best = values[:, :, judging].mean(axis=(1, 2)).argmax(axis=0)  # (K,)
        for k, temperature in enumerate(best):
            own[:, half == side, k] = values[temperature][:, half == side, k]
        chosen.append(best)
    temperatures = tuple(tuple(sorted({rising[t] for t in of_k})) for of_k in zip(*chosen))
    return OwnBest(tuple(ids), own, temperatures)


def _values(counts: Counts, ids: Sequence[str], ks: Sequence[int]) -> Floats:
    place = {identity: i for i, identity in enumerate(counts.ids)}
    rows = [place[identity] for identity in ids]
    return np.stack([counts.pass_at(k)[rows] for k in ks], axis=1)
