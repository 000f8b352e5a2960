"""What every point of a study cost: samples, FLOPs by phase and seconds, since M_t and from the first token on.

Read from the training logs, where each step's FLOPs stand by the formulas of ``foray.model.flops``. Samples are
sequences: windows of pre-training text, demonstrations, rollouts. Seconds are those of the steps, as logged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from foray.report.results import AXES, Results, TrainingRun, recipe_rank

PHASES = ("prefill", "decode", "reference", "update", "validation")


class Cost(NamedTuple):
    """Of a part of training; FLOPs by phase in the order of ``PHASES``."""

    samples: float
    seconds: float
    work: tuple[float, ...]

    @property
    def flops(self) -> float:
        return sum(self.work)

    def plus(self, other: Cost) -> Cost:
        work = tuple(a + b for a, b in zip(self.work, other.work))
        return Cost(self.samples + other.samples, self.seconds + other.seconds, work)


FREE = Cost(0.0, 0.0, (0.0,) * len(PHASES))
Place = tuple[int, str, int, int]  # tokens of M_t, recipe, updates since M_t, seed


def of_steps(metrics: pd.DataFrame) -> Cost:
    """Of the logged steps. A log without FLOPs (of an earlier version) costs NaN."""
    work = tuple(_total(metrics, f"/flops/{phase}") for phase in PHASES)
    if not any("/flops/" in c for c in map(str, metrics)):
        work = (math.nan,) * len(PHASES)
    seconds = float(metrics["seconds"].sum()) if "seconds" in metrics else math.nan
    return Cost(_total(metrics, "/samples"), seconds, work)


def _total(metrics: pd.DataFrame, ending: str) -> float:
    return float(sum(metrics[c].sum() for c in map(str, metrics) if c.endswith(ending)))


def since_start(results: Results) -> dict[Place, tuple[Cost, Cost]]:
    """(since M_t, from the first token on) of every point that was evaluated or ends a stage."""
    bases = {run.entry.tokens: of_steps(run.metrics) for run in results.training if run.entry.recipe == "base"}
    found: dict[Place, tuple[Cost, Cost]] = {(t, "base", 0, _seed(results, t)): (FREE, c) for t, c in bases.items()}
    for (tokens, recipe, seed), runs in _recipes(results).items():
        before, done = FREE, 0  # cost and updates of the stages before
        for run in sorted(runs, key=lambda r: r.entry.stage_step):
            first = run.entry.stage_step - len(run.metrics)
            if first != done:
                break  # the stage before has not finished: its cost is not known
            for step in sorted({run.entry.stage_step, *_evaluated(results, tokens, recipe, seed)}):
                if done < step <= run.entry.stage_step:
                    own = before.plus(of_steps(run.metrics[run.metrics["step"] <= step - first]))
                    found[tokens, recipe, step, seed] = own, own.plus(bases.get(tokens, FREE))
            before, done = before.plus(of_steps(run.metrics)), run.entry.stage_step
        if tokens in bases:
            found[tokens, recipe, 0, seed] = FREE, bases[tokens]
    return found


def _seed(results: Results, tokens: int) -> int:
    return min(r.entry.seed for r in results.training if r.entry.recipe == "base" and r.entry.tokens == tokens)


def _recipes(results: Results) -> dict[tuple[int, str, int], list[TrainingRun]]:
    found: dict[tuple[int, str, int], list[TrainingRun]] = {}
    for run in results.training:
        if run.entry.recipe != "base":
            found.setdefault((run.entry.tokens, run.entry.recipe, run.entry.seed), []).append(run)
    return found


def _evaluated(results: Results, tokens: int, recipe: str, seed: int) -> Iterable[int]:
    for e in results.evaluations:
        if (e.entry.tokens, e.entry.recipe, e.entry.seed) == (tokens, recipe, seed):
            yield e.entry.stage_step


def table(results: Results) -> pd.DataFrame:
    """``ledger.csv``: a row a point, with its cost since M_t by phase and its total from the first token on."""
    rows: list[Any] = []
    for (tokens, recipe, step, seed), (own, total) in since_start(results).items():
        if recipe != "base" and step == 0:
            continue
        rows.append((tokens, recipe, step, seed, own.samples, own.seconds, *own.work, own.flops, *_axes(total)))
    rows.sort(key=lambda r: (r[0], recipe_rank(r[1]), r[2], r[3]))
    columns = ["tokens", "recipe", "stage_step", "seed", "samples", "seconds"]
    columns += [*(f"flops_{p}" for p in PHASES), "flops", *(f"total_{axis}" for axis in AXES[1:])]
    return pd.DataFrame(rows, columns=columns)


def _axes(cost: Cost) -> tuple[float, ...]:
    return tuple(float(getattr(cost, axis)) for axis in AXES[1:])


def add_axis(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    """A figure's frame with a column for ``results.axis``: from the first token on, averaged over seeds.

    Raises ValueError where the logs do not hold it.
    """
    if results.axis == "tokens" or results.axis in frame:
        return frame
    costs: dict[tuple[int, str, int], list[float]] = {}
    for (tokens, recipe, step, _), (_, total) in since_start(results).items():
        costs.setdefault((tokens, recipe, step), []).append(float(getattr(total, results.axis)))
    ends: dict[tuple[int, str], int] = {}
    for tokens, recipe, step in costs:
        ends[tokens, recipe] = max(step, ends.get((tokens, recipe), 0))
    at_end = [ends.get(place, 0) for place in zip(frame["tokens"], frame["recipe"])]
    steps = frame.get("stage_step", at_end)
    values = [costs.get(place, [math.nan]) for place in zip(frame["tokens"], frame["recipe"], steps)]
    means = [sum(v) / len(v) for v in values]
    if any(math.isnan(v) for v in means):
        raise ValueError(
            f"the logs of this store do not hold the {results.axis} of every point: it is unfinished, or an earlier "
            "version of Foray wrote it; draw against tokens"
        )
    return frame.assign(**{results.axis: means})


def along(metrics: pd.DataFrame, axis: str) -> pd.Series[float]:
    """The axis after each logged step, from the stage's start."""
    if axis == "seconds":
        return metrics["seconds"].cumsum()
    columns = [c for c in map(str, metrics) if ("/flops/" in c if axis == "flops" else c.endswith(f"/{axis}"))]
    return metrics[columns].sum(axis=1).cumsum()
