"""What every point of a study cost: samples, FLOPs by phase and seconds, since M_t and from the first token on.

Read from the training logs, where each step's FLOPs stand by the formulas of ``foray.model.flops``. Samples are
sequences: windows of pre-training text, demonstrations, rollouts. Seconds are those of the steps, as logged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from foray.report.measurements import Measurement, PassK, Seeds, TrainingLog
from foray.report.results import AXES, AXES_BESIDE, Results

PHASES = ("prefill", "decode", "behaviour", "reference", "update", "validation")


class Spending(NamedTuple):
    """The cost of a part of training; ``work``: FLOPs by phase in the order of ``PHASES``."""

    samples: float
    seconds: float
    work: tuple[float, ...]

    @property
    def flops(self) -> float:
        return sum(self.work)

    def plus(self, other: Spending) -> Spending:
        work = tuple(a + b for a, b in zip(self.work, other.work))
        return Spending(self.samples + other.samples, self.seconds + other.seconds, work)


FREE = Spending(0.0, 0.0, (0.0,) * len(PHASES))
UNKNOWN = Spending(math.nan, math.nan, (math.nan,) * len(PHASES))  # of an M_t that somebody else trained


class Place(NamedTuple):
    """A point that was evaluated or ends a stage; ``step`` counts updates since M_t."""

    tokens: int
    recipe: str
    trained_on: str
    step: int
    run: Seeds


def place_of(m: Measurement) -> Place:
    return Place(m.tokens, m.recipe, m.trained_on, m.stage_step, m.run)


def of_steps(metrics: pd.DataFrame) -> Spending:
    """The cost of the logged steps. A log without FLOPs (of an earlier version) costs NaN."""
    work = tuple(_total(metrics, f"/flops/{phase}") for phase in PHASES)
    if not any("/flops/" in c for c in map(str, metrics)):
        work = (math.nan,) * len(PHASES)
    seconds = float(metrics["seconds"].sum()) if "seconds" in metrics else math.nan
    return Spending(_total(metrics, "/samples"), seconds, work)


def _total(metrics: pd.DataFrame, ending: str) -> float:
    return float(sum(metrics[c].sum() for c in map(str, metrics) if c.endswith(ending)))


def since_start(results: Results, variant: str = "") -> dict[Place, tuple[Spending, Spending]]:
    """(since M_t, from the first token on) of every point that was evaluated or ends a stage.

    Points of the main grid, or of one ``variant`` on the bases of the main grid.
    """
    logs = results.select(TrainingLog, recipe="base")
    bases = {(log.tokens, log.pretrain_seed): of_steps(log.metrics) for log in logs}
    found = {Place(tokens, "base", "", 0, Seeds(start, start)): (FREE, cost) for (tokens, start), cost in bases.items()}
    steps: dict[Place, set[int]] = {}  # of the evaluated points, by recipe and run
    for e in results.select(PassK, variant=variant):
        steps.setdefault(place_of(e)._replace(step=0), set()).add(e.stage_step)
    recipes: dict[Place, list[TrainingLog]] = {}
    for log in results.select(TrainingLog, variant=variant):
        if log.recipe != "base":
            recipes.setdefault(place_of(log)._replace(step=0), []).append(log)
    for start, stages in recipes.items():
        base = bases.get((start.tokens, start.run.pretrain_seed), UNKNOWN)
        before, done = FREE, 0  # cost and updates of the stages before
        for stage in sorted(stages, key=lambda r: r.stage_step):
            first = stage.first
            if first != done:
                break  # the stage before has not finished: its cost is not known
            for step in sorted({stage.stage_step, *steps.get(start, ())}):
                if done < step <= stage.stage_step:
                    own = before.plus(of_steps(stage.metrics[stage.metrics["step"] <= step - first]))
                    found[start._replace(step=step)] = own, own.plus(base)
            before, done = before.plus(of_steps(stage.metrics)), stage.stage_step
        if base is not UNKNOWN:
            found[start] = FREE, base
    return found


def add_axis(results: Results, frame: pd.DataFrame, variant: str = "") -> pd.DataFrame:
    """A figure's frame with a column for ``results.axis``: from the first token on, averaged over seeds.

    A frame of another task than the main one has a column ``task`` that says so. A frame that can hold models beside
    the main grid (with a column of ``AXES_BESIDE``) brings the axis itself, or is not drawn over pre-training. Raises
    ValueError where the logs do not hold the axis.
    """
    if results.axis == "tokens" or results.axis in frame or set(AXES_BESIDE) & set(frame):
        return frame
    asked = next((t for t in frame.get("task", []) if t in results.asked), None)
    trained = results.trained(asked)
    costs: dict[tuple[int, str, int], list[float]] = {}
    for place, (_, total) in since_start(results, variant).items():
        if place.trained_on in trained:
            spent = float(getattr(total, results.axis))
            costs.setdefault((place.tokens, place.recipe, place.step), []).append(spent)
    ends: dict[tuple[int, str], int] = {}
    for tokens, recipe, step in costs:
        ends[tokens, recipe] = max(step, ends.get((tokens, recipe), 0))
    # A trained recipe whose end the logs do not know has no cost: at step 0 it would have that of its base.
    at_end = [
        ends.get(place) or (0 if place[1] == "base" else math.nan) for place in zip(frame["tokens"], frame["recipe"])
    ]
    steps = frame.get("stage_step", at_end)
    values = [costs.get(place, [math.nan]) for place in zip(frame["tokens"], frame["recipe"], steps)]
    means = [sum(v) / len(v) for v in values]
    if any(math.isnan(v) for v in means):
        raise ValueError(
            f"the logs of this store do not hold the {results.axis} of every point: it is unfinished, its M_t "
            "were imported, or an earlier version of Foray wrote it; draw against tokens"
        )
    return frame.assign(**{results.axis: means})


def axes_of(cost: Spending) -> dict[str, float]:
    """The cost on every axis but tokens."""
    return {axis: float(getattr(cost, axis)) for axis in AXES[1:]}


def along(metrics: pd.DataFrame, axis: str) -> pd.Series[float]:
    """The axis after each logged step, from the stage's start."""
    if axis == "seconds":
        return metrics["seconds"].cumsum()
    columns = [c for c in map(str, metrics) if ("/flops/" in c if axis == "flops" else c.endswith(f"/{axis}"))]
    return metrics[columns].sum(axis=1).cumsum()
