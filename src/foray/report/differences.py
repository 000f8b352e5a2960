"""Paired differences of models from one M_t: which two are compared, and the mean over runs with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from foray.report import clusters, stats
from foray.report.measurements import Measurement, PassK, ProbeAnswers, Seeds
from foray.report.stats import Interval

M = TypeVar("M", bound=Measurement)


class Difference(NamedTuple):
    """A paired difference of two recipes at one M_t: the mean over ``runs``, and ``each`` run's own value."""

    interval: Interval
    runs: tuple[Seeds, ...]
    each: tuple[float, ...]

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the spread between seeds of one pre-training."""
        return stats.degrees_of_freedom([r.pretrain_seed for r in self.runs])

    def by_pretraining(self) -> dict[int, float]:
        """The mean difference from each pre-training."""
        starts = sorted({r.pretrain_seed for r in self.runs})
        return {s: float(np.mean([v for r, v in zip(self.runs, self.each) if r.pretrain_seed == s])) for s in starts}


def pair(models: Iterable[M], references: Iterable[M], same_seed: bool = False) -> dict[int, dict[Seeds, tuple[M, M]]]:
    """A model and its reference by tokens and run, where both are from one M_t.

    The reference is of the same run where there is one. Otherwise runs share the first reference of their pre-training,
    as all runs share their base; with ``same_seed`` they have none.
    """
    partners = {(m.tokens, m.run): m for m in references}
    found: dict[int, dict[Seeds, tuple[M, M]]] = {}
    for m in sorted(models, key=lambda m: (m.tokens, m.run)):
        alike = sorted(r for t, r in partners if t == m.tokens and r.pretrain_seed == m.pretrain_seed)
        run = m.run if m.run in alike else alike[0] if alike and not same_seed else None
        if run is not None:
            found.setdefault(m.tokens, {})[m.run] = m, partners[m.tokens, run]
    return found


def difference(runs: Mapping[Seeds, Interval]) -> Difference:
    """The mean of every run's paired difference."""
    mean = stats.over_seeds(list(runs.values()), -1.0, 1.0, [r.pretrain_seed for r in runs])
    return Difference(mean, tuple(runs), tuple(i.value for i in runs.values()))


def passk_difference(pairs: Mapping[Seeds, tuple[PassK, PassK]], k: int, extraction: str) -> Difference:
    """pass@k of the first minus that of the second, paired by problem."""
    return difference(
        {r: stats.paired_difference(a.counts[extraction], b.counts[extraction], k) for r, (a, b) in pairs.items()}
    )


def ability_difference(pairs: Mapping[Seeds, tuple[ProbeAnswers, ProbeAnswers]]) -> Difference | None:
    """The mean over probes of the first minus the second, paired by document; None where no probe is shared."""
    runs = {r: _over_probes(a, b) for r, (a, b) in pairs.items() if set(a.answers) & set(b.answers)}
    return difference(runs) if runs else None


def _over_probes(a: ProbeAnswers, b: ProbeAnswers) -> Interval:
    parts = []
    for name in sorted(set(a.answers) & set(b.answers)):
        if len(a.answers[name]) != len(b.answers[name]):
            raise ValueError(f"the probe {name} has other documents in {a.words} than in {b.words}")
        parts.append(clusters.share_difference(a.answers[name] - b.answers[name], a.facts[name]))
    return stats.mean_of_independent(parts)
