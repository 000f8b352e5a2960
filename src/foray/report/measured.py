"""What is measured, one class a kind: of which run, in which folder, with what numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foray.core.provenance import Made
from foray.report import stats
from foray.report.stats import Graded, Interval


class Run(NamedTuple):
    """Which training run a result is of: the seed of its pre-training and that of what came after."""

    pretrain_seed: int
    seed: int


@dataclass(frozen=True)
class Entry:
    """One line of the manifest: what was measured, and the folder that holds it.

    ``trained_on`` is the task of post-training (none for a base model). The fields from ``variant`` on are axes beside
    the main grid: a recipe with settings of its own (``own``: those are the settings that it has in the main grid;
    ``against``: the recipe there to compare it with), another ``split`` of the task, another pre-training ``mix``,
    another model's ``model_parameters``. A model inside or after one stage of RL has its
    ``rollouts`` a prompt and the ``examples`` (prompts) seen; ``screen`` bounds how often, of its 64 samples, the base
    answered those correctly, by strict or lenient grading.
    """

    kind: str
    folder: Path
    tokens: int
    recipe: str
    stage: str
    stage_step: int
    final: bool
    seed: int
    task: str
    shots: int | None
    part: str = ""
    pretrain_seed: int = 0
    trained_on: str = ""
    rollouts: int | None = None
    examples: int | None = None
    screen: tuple[int, int, str] | None = None
    variant: str = ""
    own: bool = True
    against: str = ""
    split: str = ""
    mix: str = ""
    model_parameters: int | None = None
    streams: Mapping[str, str] | None = None  # of a stage: their roles by name; a manifest of earlier has none
    math_heavy: bool | None = None  # whether a mix with a name is; the same
    hard: bool | None = None  # whether the task says that it is a hard one; the same

    @property
    def run(self) -> Run:
        return Run(self.pretrain_seed, self.seed)

    @property
    def off_grid(self) -> bool:
        """Beside the main grid: for the figures, tables and claims that ask for it, kept out of all others."""
        return bool(self.variant or self.split or self.mix) or self.model_parameters is not None

    @property
    def words(self) -> str:
        task = (
            f", {self.task} {self.shots}-shot"
            if self.kind == "passk"
            else f", stage {self.stage}"
            if self.stage
            else ""
        )
        named = [self.recipe, *(x for x in (self.variant, self.mix) if x)]
        return (
            f"{self.kind} of {', '.join(named)} at {self.tokens} tokens, step {self.stage_step}, "
            f"seed {self.pretrain_seed}/{self.seed}{task}"
        )


@dataclass(frozen=True)
class Evaluation:
    """One pass@k evaluation: P problems by extraction rule, and per-problem rates in [0, 1], each (P,)."""

    entry: Entry
    graded: Mapping[str, Graded]
    rates: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Probes:
    """The general-ability probes of one model: for each, the value of every document, in [0, 1]."""

    entry: Entry
    answers: Mapping[str, NDArray[np.float64]]


class Difference(NamedTuple):
    """A paired difference of two recipes at one M_t, the mean of ``each`` run's."""

    interval: Interval
    runs: tuple[Run, ...]
    each: tuple[float, ...]

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the spread between seeds of one pre-training."""
        return stats.degrees_of_freedom([r.pretrain_seed for r in self.runs])

    def by_pretraining(self) -> dict[int, float]:
        """The mean difference from each pre-training."""
        starts = sorted({r.pretrain_seed for r in self.runs})
        return {s: float(np.mean([v for r, v in zip(self.runs, self.each) if r.pretrain_seed == s])) for s in starts}


def difference(runs: Mapping[Run, Interval]) -> Difference:
    """The mean of every run's paired difference."""
    mean = stats.over_seeds(list(runs.values()), -1.0, 1.0, [r.pretrain_seed for r in runs])
    return Difference(mean, tuple(runs), tuple(i.value for i in runs.values()))


def general_difference(a: Probes, b: Probes) -> Interval:
    """Mean over probes of the paired differences; documents are paired by their place in the probe."""
    parts = []
    for name in sorted(set(a.answers) & set(b.answers)):
        if len(a.answers[name]) != len(b.answers[name]):
            raise ValueError(f"the probe {name} has other documents in {a.entry.words} than in {b.entry.words}")
        parts.append(stats.difference_intervals((a.answers[name] - b.answers[name])[:, None])[0])
    return stats.mean_of_independent(parts)


@dataclass(frozen=True)
class TrainingRun:
    """The log of one stage: a row a step, columns as in ``metrics.jsonl``.

    ``roles``: what each of its streams trains on (``text``, ``demonstrations``, ``rollouts``), whatever it is called.
    """

    entry: Entry
    metrics: pd.DataFrame
    roles: Mapping[str, str] = field(default_factory=dict)

    def of(self, role: str, name: str) -> pd.Series[Any]:
        """What the streams of a role logged under ``name``, NaN where none did: the mean of several."""
        columns = [c for s, r in self.roles.items() if r == role and (c := f"{s}/{name}") in self.metrics]
        if not columns:
            return pd.Series(math.nan, index=self.metrics.index)
        return self.metrics[columns].mean(axis=1) if len(columns) > 1 else self.metrics[columns[0]]


@dataclass(frozen=True)
class Overlaps:
    """What evaluation questions share with training text, in runs of ``n`` words, with the same numbers, and whole."""

    entry: Entry
    n: int
    rows: tuple[Mapping[str, Any], ...]


class Origin(NamedTuple):
    """What computed a node; ``shared``: ranks train it together. ``begun``: others had worked on it before."""

    made: Made
    commit: str
    versions: str
    shared: bool = False
    begun: bool = False
