"""What every point of a study cost: samples, FLOPs by phase and seconds, since M_t and from the first token on.

Read from the training logs, where each step's FLOPs stand by the formulas of ``foray.model.flops``. Samples are
sequences: windows of pre-training text, demonstrations, rollouts. Seconds are those of the steps, as logged.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from foray.report.measured import Run, TrainingRun
from foray.report.results import AXES, Results, recipe_rank
from foray.report.table import AXES_BESIDE

PHASES = ("prefill", "decode", "behaviour", "reference", "update", "validation")


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
UNKNOWN = Cost(math.nan, math.nan, (math.nan,) * len(PHASES))  # of an M_t that somebody else trained


class Place(NamedTuple):
    """A point that was evaluated or ends a stage; ``step`` counts updates since M_t."""

    tokens: int
    recipe: str
    trained_on: str
    step: int
    run: Run


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
    """(since M_t, from the first token on) of every point of the main grid that was evaluated or ends a stage."""
    bases = {
        (run.entry.tokens, run.entry.pretrain_seed): of_steps(run.metrics)
        for run in results.training
        if run.entry.recipe == "base"
    }
    found = {Place(tokens, "base", "", 0, Run(start, start)): (FREE, cost) for (tokens, start), cost in bases.items()}
    evaluated: dict[tuple[int, str, str, Run], set[int]] = {}
    for e in (evaluation.entry for evaluation in results.evaluations):
        evaluated.setdefault((e.tokens, e.recipe, e.trained_on, e.run), set()).add(e.stage_step)
    for (tokens, recipe, trained_on, run), stages in _recipes(results).items():
        points = evaluated.get((tokens, recipe, trained_on, run), set())
        base = bases.get((tokens, run.pretrain_seed), UNKNOWN)
        before, done = FREE, 0  # cost and updates of the stages before
        for stage in sorted(stages, key=lambda r: r.entry.stage_step):
            first = stage.entry.stage_step - len(stage.metrics)
            if first != done:
                break  # the stage before has not finished: its cost is not known
            for step in sorted({stage.entry.stage_step, *points}):
                if done < step <= stage.entry.stage_step:
                    own = before.plus(of_steps(stage.metrics[stage.metrics["step"] <= step - first]))
                    found[Place(tokens, recipe, trained_on, step, run)] = own, own.plus(base)
            before, done = before.plus(of_steps(stage.metrics)), stage.entry.stage_step
        if (tokens, run.pretrain_seed) in bases:
            found[Place(tokens, recipe, trained_on, 0, run)] = FREE, base
    return found


def _recipes(results: Results) -> dict[tuple[int, str, str, Run], list[TrainingRun]]:
    found: dict[tuple[int, str, str, Run], list[TrainingRun]] = {}
    for run in results.training:
        e = run.entry
        if e.recipe != "base":
            found.setdefault((e.tokens, e.recipe, e.trained_on, e.run), []).append(run)
    return found


def table(results: Results) -> pd.DataFrame:
    """``ledger.csv``: a row a point, with its cost since M_t by phase and its total from the first token on.

    ``final`` are the ends of recipes; the other points lie inside one, and their cost is part of the end's.
    """
    rows: list[Any] = []
    ends = {
        Place(e.tokens, e.recipe, e.trained_on, e.stage_step, e.run)
        for e in (*(t.entry for t in results.training), *(v.entry for v in results.evaluations))
        if e.final
    }
    for point, (own, total) in since_start(results).items():
        tokens, recipe, trained_on, step, run = point
        if recipe != "base" and step == 0:
            continue
        place = (run.pretrain_seed, tokens, recipe, trained_on, step, run.seed)
        rows.append((*place, own.samples, own.seconds, *own.work, own.flops, *_axes(total), point in ends))
    rows.sort(key=lambda r: (r[1], recipe_rank(r[2]), r[3], r[4], r[0], r[5]))
    columns = ["pretrain_seed", "tokens", "recipe", "trained_on", "stage_step", "seed", "samples", "seconds"]
    columns += [*(f"flops_{p}" for p in PHASES), "flops", *(f"total_{axis}" for axis in AXES[1:]), "final"]
    return pd.DataFrame(rows, columns=columns)


def _axes(cost: Cost) -> tuple[float, ...]:
    return tuple(float(getattr(cost, axis)) for axis in AXES[1:])


def add_axis(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    """A figure's frame with a column for ``results.axis``: from the first token on, averaged over seeds.

    A frame of another task than the main one has a column ``task`` that says so. One that can hold what is beside the
    main grid (it has a column of ``AXES_BESIDE``) brings the axis itself, or is not drawn over pre-training. Raises
    ValueError where the logs do not hold the axis.
    """
    if results.axis == "tokens" or results.axis in frame or set(AXES_BESIDE) & set(frame):
        return frame
    asked = next((t for t in frame.get("task", []) if t in results.asked), None)
    trained_on = results.trained_on(asked)
    costs: dict[tuple[int, str, int], list[float]] = {}
    for place, (_, total) in since_start(results).items():
        if place.trained_on in ("", trained_on):
            spent = float(getattr(total, results.axis))
            costs.setdefault((place.tokens, place.recipe, place.step), []).append(spent)
    ends: dict[tuple[int, str], int] = {}
    for tokens, recipe, step in costs:
        ends[tokens, recipe] = max(step, ends.get((tokens, recipe), 0))
    at_end = [ends.get(place, 0) for place in zip(frame["tokens"], frame["recipe"])]
    steps = frame.get("stage_step", at_end)
    values = [costs.get(place, [math.nan]) for place in zip(frame["tokens"], frame["recipe"], steps)]
    means = [sum(v) / len(v) for v in values]
    if any(math.isnan(v) for v in means):
        raise ValueError(
            f"the logs of this store do not hold the {results.axis} of every point: it is unfinished, its M_t "
            "were imported, or an earlier version of Foray wrote it; draw against tokens"
        )
    return frame.assign(**{results.axis: means})


def along(metrics: pd.DataFrame, axis: str) -> pd.Series[float]:
    """The axis after each logged step, from the stage's start."""
    if axis == "seconds":
        return metrics["seconds"].cumsum()
    columns = [c for c in map(str, metrics) if ("/flops/" in c if axis == "flops" else c.endswith(f"/{axis}"))]
    return metrics[columns].sum(axis=1).cumsum()
