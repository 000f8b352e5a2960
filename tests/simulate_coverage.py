"""The share of the report's intervals that hold the truth, by simulation.

``python tests/simulate_coverage.py`` prints the tables of docs/statistics.md (a minute on one core).

A data set is P problems drawn from a population of solving probabilities, N samples of each. The truth is the
population's pass@k. For pairs, two models share the problems' difficulty. Shapes: P problems, D data sets, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.core.passk import pass_at_k
from foray.report import stats
from foray.report.stats import Interval

SAMPLES = 32
TRUTH = 1_000_000  # problems in the population that gives the truth
KS = (1, 8, 32)
SPREADS = 0.0, 0.1, 0.3, 1.0  # sd of effects on the logit
SPARSE = 2.0  # expected problems' worth of successes (or failures, or differences) below which nothing is promised

Floats = NDArray[np.float64]


class Population(NamedTuple):
    """Logits of solving probability: each model's mean, the sd of shared difficulty, the sd of each model's own."""

    a: float
    b: float
    shared: float
    own: float
    impossible: float = 0.0  # share of problems that the model never solves


POPULATIONS = {
    "very low": Population(-4.0, -4.0, 1.0, 0.3, impossible=0.7),
    "low": Population(-4.2, -5.0, 1.5, 0.5),
    "middle": Population(-1.0, -1.5, 2.0, 0.7),
    "high": Population(2.2, 1.5, 1.5, 0.5),
    "very high": Population(4.2, 4.0, 1.5, 0.5),
    "equal models": Population(-2.0, -2.0, 2.0, 0.0),
}


def draw(p: Population, shape: tuple[int, ...], random: np.random.Generator) -> tuple[Floats, Floats]:
    """Solving probabilities of both models for problems of the given shape."""
    shared = p.shared * random.standard_normal(shape)

    def model(mean: float) -> Floats:
        chance = logistic(mean + shared + p.own * random.standard_normal(shape))
        return np.where(random.random(shape) < p.impossible, 0.0, chance)

    return model(p.a), model(p.b)


def coverage(found: list[Interval], truth: float) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their mean width."""
    return (
        float(np.mean([i.lo <= truth <= i.hi for i in found])),
        float(np.mean([i.hi - i.lo for i in found])),
    )


class Row(NamedTuple):
    population: str
    problems: int
    kind: str  # "one" or "paired"
    k: int
    truth: float
    sparse: bool
    coverage: float
    width: float


def problem_rows(names: list[str], problems: tuple[int, ...], datasets: int, seed: int = 0) -> Iterator[Row]:
    """Coverage of the interval of one pass@k and of a paired difference, at every k."""
    for name in names:
        random = np.random.default_rng([seed, list(POPULATIONS).index(name)])
        true_a, true_b = draw(POPULATIONS[name], (TRUTH,), random)
        for count in problems:
            chances = draw(POPULATIONS[name], (count, datasets), random)
            a, b = (random.binomial(SAMPLES, c) for c in chances)
            for k in KS:
                whole_a, whole_b = 1 - (1 - true_a) ** k, 1 - (1 - true_b) ** k
                value_a, value_b = pass_at_k(a, SAMPLES, k), pass_at_k(b, SAMPLES, k)  # (P, D)
                truth = float(whole_a.mean())
                sparse = count * min(truth, 1 - truth) < SPARSE
                yield Row(name, count, "one", k, truth, sparse, *coverage(stats.mean_intervals(value_a), truth))
                truth = float((whole_a - whole_b).mean())
                sparse = count * float(np.abs(value_a - value_b).mean()) < SPARSE
                found = stats.difference_intervals(value_a - value_b)
                yield Row(name, count, "paired", k, truth, sparse, *coverage(found, truth))


class SeedRow(NamedTuple):
    starts: int  # pre-trainings
    seeds: int  # from each
    spread: float  # sd of seeds' effects on the logit
    kind: str
    truth: float
    coverage: float
    width: float


def seed_rows(
    seeds: tuple[int, ...], datasets: int, problems: int = 200, seed: int = 0, starts: tuple[float, ...] = (0.0,)
) -> Iterator[SeedRow]:
    """Coverage of means over training seeds on the same problems. The truth is that of all seeds from the given
    ``starts`` (shifts on the logit).
    """
    for count in seeds:
        for spread in SPREADS:
            random = np.random.default_rng([seed, count, round(100 * spread), *([len(starts)] * (len(starts) > 1))])
            runs = [count] * len(starts)
            for kind, truth, found in _means(random, starts, runs, (0.0, spread), problems, datasets):
                yield SeedRow(len(starts), count, spread, kind, truth, *coverage(found, truth))


def pretraining_rows(runs: tuple[int, ...], datasets: int, problems: int = 200, seed: int = 0) -> Iterator[SeedRow]:
    """The same for pre-trainings that are drawn anew in each data set, with so many ``runs`` from each. ``spread`` is
    that of pre-trainings; seeds from one differ by 0.1. The truth is that of all pre-trainings.
    """
    for spread in SPREADS:
        random = np.random.default_rng([seed, *runs, round(100 * spread)])
        for kind, truth, found in _means(random, [0.0] * len(runs), runs, (spread, 0.1), problems, datasets):
            yield SeedRow(len(runs), max(runs), spread, kind, truth, *coverage(found, truth))


def _means(
    random: np.random.Generator,
    starts: Sequence[float],
    runs: Sequence[int],
    spreads: tuple[float, float],
    problems: int,
    datasets: int,
) -> Iterator[tuple[str, float, list[Interval]]]:
    """Means over runs of pass@1, pass@N, and their paired differences to a reference of one seed: kind, truth, and the
    intervals of all data sets. ``starts``: shifts on the logit, ``runs`` from each; ``spreads``: the sd of
    further effects of pre-trainings and of runs.
    """
    between, within = spreads
    difficulty = 2.0 * random.standard_normal((TRUTH,))
    shift = np.resize(starts, TRUTH) + math.hypot(between, within) * random.standard_normal((TRUTH,))
    chance = logistic(difficulty - 1.0 + shift)
    truths = [chance.mean(), solved(chance).mean()]
    truths += [truths[0] - logistic(difficulty - 2.0).mean(), truths[1] - solved(logistic(difficulty - 2.0)).mean()]
    difficulty = 2.0 * random.standard_normal((problems, datasets))
    begun = np.repeat(np.arange(len(starts)), runs)  # (S,)
    effect = within * random.standard_normal((len(begun), 1, datasets)) + np.array(starts)[begun, None, None]
    if between:
        effect += between * random.standard_normal((len(starts), 1, datasets))[begun]
    correct = random.binomial(SAMPLES, logistic(difficulty - 1.0 + effect))  # (S, P, D)
    reference = random.binomial(SAMPLES, logistic(difficulty - 2.0))  # (P, D)
    values = {"pass@1": correct / SAMPLES, f"pass@{SAMPLES}": (correct > 0).astype(float)}
    gaps = {"Δ pass@1": values["pass@1"] - reference / SAMPLES}
    gaps[f"Δ pass@{SAMPLES}"] = values[f"pass@{SAMPLES}"] - (reference > 0)
    for truth, (kind, of_runs) in zip(truths, (values | gaps).items()):
        paired = kind in gaps
        each = [(stats.difference_intervals if paired else stats.mean_intervals)(v) for v in of_runs]
        means = stats.difference_intervals(_of_problems(of_runs, begun)) if paired else [None] * datasets
        yield (
            kind,
            float(truth),
            [stats.over_seeds(list(r), -1.0, 1.0, begun.tolist(), m) for r, m in zip(zip(*each), means)],
        )


def _of_problems(values: Floats, begun: NDArray[np.int64]) -> Floats:
    """Each problem's mean over runs, or from four pre-trainings on over their means. (S, P, D) -> (P, D)"""
    starts = np.unique(begun)
    several = len(starts) >= stats.ENOUGH_PRETRAININGS
    return np.mean([values[begun == s].mean(axis=0) for s in starts] if several else values, axis=0)


def solved(chance: Floats) -> Floats:
    return 1 - (1 - chance) ** SAMPLES


def logistic(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


def main() -> None:
    datasets = 2000
    rows = list(problem_rows(list(POPULATIONS), (100, 200, 500), datasets))
    for sparse in (False, True):
        print(f"\n{'Sparse' if sparse else 'Not sparse'}, {datasets} data sets a row, N = {SAMPLES}:\n")
        print("| population | P | interval | k | truth, % | coverage, % | mean width, points |")
        print("|---|---:|---|---:|---:|---:|---:|")
        for r in rows:
            if r.sparse == sparse:
                numbers = f"{100 * r.truth:.2f} | {100 * r.coverage:.1f} | {100 * r.width:.1f}"
                print(f"| {r.population} | {r.problems} | {r.kind} | {r.k} | {numbers} |")
    print(f"\nSeveral seeds, 200 problems, {datasets} data sets a row:\n")
    print(
        "| pre-trainings | seeds | sd of seeds on the logit | interval | truth, % | coverage, % | mean width, points |"
    )
    print("|---:|---:|---:|---|---:|---:|---:|")
    sampled = (1,) * 4, (1,) * 6, (4, 4, 1, 1, 1, 1)
    given = (*seed_rows((3, 5), datasets), *seed_rows((3,), datasets, starts=(-0.5, 0.5)))
    for s in (*given, *(row for runs in sampled for row in pretraining_rows(runs, datasets))):
        numbers = f"{100 * s.truth:.1f} | {100 * s.coverage:.1f} | {100 * s.width:.1f}"
        print(f"| {s.starts} | {s.seeds} | {s.spread} | {s.kind} | {numbers} |")


if __name__ == "__main__":
    main()
