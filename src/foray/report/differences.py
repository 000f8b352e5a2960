"""Means over runs with their intervals: of pass@k, and of paired differences of models from one M_t."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from foray.report import clusters, stats
from foray.report.measurements import Measurement, PassK, ProbeAnswers, Seeds
from foray.report.stats import Counts, Interval

M = TypeVar("M", bound=Measurement)


class Pairing(NamedTuple):
    """Which run of a model stands against which run of its reference; both are from one pre-training."""

    pretrain_seed: int
    seed: int
    reference_seed: int

    @property
    def run(self) -> Seeds:
        return Seeds(self.pretrain_seed, self.seed)

    @property
    def reference(self) -> Seeds:
        return Seeds(self.pretrain_seed, self.reference_seed)


class Difference(NamedTuple):
    """A paired difference of two recipes at one M_t: the mean over ``runs``, and ``each`` run's own value.

    The runs are the model's where they are paired by seed. Else they are those of the side that has more if the other
    has one run, and of the side that has fewer if both have several (``_of_runs``).
    """

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


def pair(
    models: Iterable[M], references: Iterable[M], same_seed: bool = False
) -> dict[int, dict[Pairing, tuple[M, M]]]:
    """A model's runs and its reference's by tokens, where both are from one M_t.

    Within a pre-training, runs of the same seeds stand against each other where both have the same seeds. Otherwise
    every run stands against every run of the reference, so that the mean over pairs is the mean over the model's runs
    minus the mean over the reference's. With ``same_seed`` only runs of one seed are compared.
    """
    ours, theirs = _by_start(models), _by_start(references)
    found: dict[int, dict[Pairing, tuple[M, M]]] = {}
    for (tokens, start), runs in sorted(ours.items()):
        partners = theirs.get((tokens, start), {})
        by_seed = same_seed or set(runs) == set(partners)
        for seed, other in product(sorted(runs), sorted(partners)):
            if seed == other or not by_seed:
                found.setdefault(tokens, {})[Pairing(start, seed, other)] = runs[seed], partners[other]
    return found


def _by_start(models: Iterable[M]) -> dict[tuple[int, int], dict[int, M]]:
    """Models by M_t (tokens, pre-training) and seed."""
    found: dict[tuple[int, int], dict[int, M]] = {}
    for m in models:
        found.setdefault((m.tokens, m.pretrain_seed), {})[m.seed] = m
    return found


def difference(pairs: Mapping[Pairing, Interval], problems: Interval | None = None) -> Difference:
    """The mean of every pair's difference. ``problems``: the interval of each problem's mean difference."""
    runs: dict[Seeds, Interval] = {}
    for start in dict.fromkeys(p.pretrain_seed for p in pairs):
        runs |= _of_runs({p: i for p, i in pairs.items() if p.pretrain_seed == start})
    mean = stats.over_seeds(list(runs.values()), -1.0, 1.0, [r.pretrain_seed for r in runs], problems)
    return Difference(mean, tuple(runs), tuple(i.value for i in runs.values()))


def _of_runs(pairs: Mapping[Pairing, Interval]) -> dict[Seeds, Interval]:
    """A difference a run, from the pairs of one pre-training: their mean and their spread are those of the whole.

    Pairs by seed are such. So are those of one run of the one side, which is taken as given, against every run of the
    other. Two sides of several runs each, of other seeds, are made into as many independent differences as the smaller
    side has runs, whose mean is the difference of the two means, and whose spread holds that of both (Scheffé 1943).
    """
    ours, theirs = list(dict.fromkeys(p.run for p in pairs)), list(dict.fromkeys(p.reference for p in pairs))
    if len(pairs) == max(len(ours), len(theirs)):
        return {p.run if len(ours) >= len(theirs) else p.reference: i for p, i in pairs.items()}
    rows = np.array([np.mean([i.value for p, i in pairs.items() if p.run == run]) for run in ours])
    columns = np.array([np.mean([i.value for p, i in pairs.items() if p.reference == run]) for run in theirs])
    few, many, names = (rows, columns, ours) if len(rows) <= len(columns) else (columns, rows, theirs)
    first = many[: len(few)]
    values = few + np.sqrt(len(few) / len(many)) * (first - first.mean())
    below, above = (float(np.mean([abs(i.value - i[side]) for i in pairs.values()])) for side in (1, 2))
    n = min(i.n for i in pairs.values())
    return {run: Interval(v, v - below, v + above, n) for run, v in zip(names, values.tolist())}


def passk_means(runs: Sequence[PassK], ks: Sequence[int], extraction: str) -> list[Interval]:
    """pass@k for every k: the mean over the runs."""
    each = [stats.passk_intervals(e.counts[extraction], ks) for e in runs]
    starts = [e.pretrain_seed for e in runs]
    return [stats.over_seeds(of_runs, 0.0, 1.0, starts) for of_runs in zip(*each)]


def passk_difference(pairs: Mapping[Pairing, tuple[PassK, PassK]], k: int, extraction: str) -> Difference:
    """pass@k of the first minus that of the second, paired by problem."""
    return differences({r: (a.counts[extraction], b.counts[extraction]) for r, (a, b) in pairs.items()}, [k])[0]


def differences(pairs: Mapping[Pairing, tuple[Counts, Counts]], ks: Sequence[int]) -> list[Difference]:
    """The same of counts, for every k."""
    both = {r: stats.paired(a, b) for r, (a, b) in pairs.items()}
    gaps = {r: np.stack([a.pass_at(k) - b.pass_at(k) for k in ks], axis=1) for r, (a, b) in both.items()}  # (P, K)
    return mean_gaps(gaps, len({a.ids for a, _ in both.values()}) == 1)


def mean_gaps(gaps: Mapping[Pairing, NDArray[np.float64]], alike: bool) -> list[Difference]:
    """The mean over runs of each column of differences, one a problem. ``alike``: all runs have these problems. (P, K)

    Raises ValueError where there are no problems.
    """
    each = {r: stats.difference_intervals(gap) for r, gap in gaps.items()}
    columns = range(next(iter(gaps.values())).shape[1])
    problems: list[Interval | None] = [None for _ in columns]
    if alike and len(gaps) > 1:
        problems = [*stats.difference_intervals(_of_problems(gaps))]
    return [difference({r: i[place] for r, i in each.items()}, problems[place]) for place in columns]


def _of_problems(gaps: Mapping[Pairing, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over pairs, in which pre-trainings weigh as in ``difference``. (P, K)"""
    starts = list(dict.fromkeys(p.pretrain_seed for p in gaps))
    of = {s: {p: gap for p, gap in gaps.items() if p.pretrain_seed == s} for s in starts}
    equal = len(starts) >= stats.ENOUGH_PRETRAININGS
    weights = [1 if equal else _independent(of[s]) for s in starts]
    return np.average([np.mean(list(of[s].values()), axis=0) for s in starts], axis=0, weights=weights)


def _independent(pairs: Collection[Pairing]) -> int:
    """How many independent differences the pairs of one pre-training hold."""
    sides = len({p.run for p in pairs}), len({p.reference for p in pairs})
    return max(sides) if len(pairs) == max(sides) else min(sides)


def ability_difference(pairs: Mapping[Pairing, tuple[ProbeAnswers, ProbeAnswers]]) -> Difference | None:
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
