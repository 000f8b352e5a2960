"""What a study has measured, as the figures and the HTML read it: one table, the evaluations, the training logs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foray.report import stats
from foray.report.stats import Graded, Interval

LABELS = {
    "base": "Base",
    "rl": "RL",
    "sft": "SFT",
    "sft_rl": "SFT→RL",
    "sft_gold": "SFT-Gold",
    "sft_gold_rl": "SFT-Gold→RL",
    "parallel": "Parallel",
}
AVERAGE = "general_average"
AXES = ("tokens", "samples", "flops", "seconds")  # what a figure over pre-training can be drawn against
_T = TypeVar("_T")
_CEILING = {"perplexity": math.inf}  # every other metric is a share


class NotDrawable(Exception):
    """The results lack what a figure shows; the message is the one-line reason that the report prints."""


@dataclass(frozen=True)
class Entry:
    """One line of the manifest: what was measured, and the folder that holds it.

    The last four are optional axes beside the main grid: another pre-training ``mix``, another model's
    ``model_parameters``, another number of ``rollouts`` a prompt, with the ``examples`` (prompts) seen so far.
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
    mix: str = ""
    model_parameters: int | None = None
    rollouts: int | None = None
    examples: int | None = None

    @property
    def variant(self) -> bool:
        """Off the main grid: read by the claims that ask for it (C4, C10), kept out of figures and tables."""
        return bool(self.mix) or (self.model_parameters, self.rollouts, self.examples) != (None, None, None)

    @property
    def words(self) -> str:
        task = (
            f", {self.task} {self.shots}-shot"
            if self.kind == "passk"
            else f", stage {self.stage}"
            if self.stage
            else ""
        )
        return f"{self.kind} of {self.recipe} at {self.tokens} tokens, step {self.stage_step}, seed {self.seed}{task}"


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
    """A paired difference of two recipes at one M_t, and the number of training seeds averaged in it."""

    interval: Interval
    seeds: int


@dataclass(frozen=True)
class TrainingRun:
    """The log of one stage: a row a step, columns as in ``metrics.jsonl``."""

    entry: Entry
    metrics: pd.DataFrame


@dataclass(frozen=True)
class Results:
    """All that was found. ``table`` has the columns of ``results.csv``, ``final`` and ``chance``; shares, not %."""

    study: str
    model_parameters: int
    ks: tuple[int, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    table: pd.DataFrame
    evaluations: tuple[Evaluation, ...]
    training: tuple[TrainingRun, ...]
    missing: tuple[tuple[str, str], ...]
    probed: tuple[Probes, ...] = ()
    variants: tuple[Evaluation, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()  # (what, what looks wrong in it)
    evaluation_flops: Mapping[str, float] = field(default_factory=dict)  # by kind of evaluation
    axis: str = AXES[0]

    @property
    def tasks(self) -> list[str]:
        """Tasks with a pass@k, in the manifest's order; the figures show the first."""
        return list(dict.fromkeys(e.entry.task for e in self.evaluations))

    @property
    def main_task(self) -> str:
        if not self.evaluations:
            raise NotDrawable("no pass@k evaluation has finished")
        return self.tasks[0]

    @property
    def extraction(self) -> str:
        """The answer-extraction rule that figures and main table use."""
        names = sorted({name for e in self.evaluations for name in e.graded})
        return "strict" if "strict" in names or not names else names[0]

    @property
    def probes(self) -> list[str]:
        rows = self.table[(self.table["metric"] == "acc") & (self.table["task"] != AVERAGE)]
        return sorted(rows["task"].unique())

    def recipes(self, task: str | None = None) -> list[str]:
        """Recipes with a final pass@k evaluation (on ``task``), in the paper's order."""
        found = {e.entry.recipe for e in self.evaluations if e.entry.final and task in (None, e.entry.task)}
        return sorted(found, key=recipe_rank)

    def finals(self, recipe: str, task: str) -> dict[tuple[int, int], Evaluation]:
        """The final evaluation for every (tokens, seed), at the recipe's own number of shots."""
        chosen: dict[tuple[int, int], Evaluation] = {}
        for e in self.evaluations:
            if e.entry.final and e.entry.recipe == recipe and e.entry.task == task:
                place = (e.entry.tokens, e.entry.seed)
                rank = shots_rank(recipe, e.entry.shots)
                if place not in chosen or rank > shots_rank(recipe, chosen[place].entry.shots):
                    chosen[place] = e
        return chosen

    def rl_runs(self) -> list[TrainingRun]:
        """Stages that logged a reward, by recipe (paper's order), tokens, seed."""
        runs = [r for r in self.training if "rl/reward" in r.metrics and r.metrics["rl/reward"].notna().any()]
        return sorted(
            runs, key=lambda r: (recipe_rank(r.entry.recipe), r.entry.tokens, r.entry.seed, r.entry.stage_step)
        )

    def curve(
        self, metrics: Sequence[str], tasks: Sequence[str], recipes: Sequence[str] | None = None, inside: bool = False
    ) -> pd.DataFrame:
        """Means over seeds with intervals, one row per (tokens, recipe, stage_step, task, metric).

        Final checkpoints only, unless ``inside`` asks for those inside a recipe too. Base models are shown at their
        largest number of shots, trained ones at their smallest. Sorted by recipe (paper's order), tokens, step.
        """
        rows = self.table[self.table["metric"].isin(metrics) & self.table["task"].isin(tasks)]
        rows = rows[rows["extraction"].isin([self.extraction, ""])]
        if not inside:
            rows = rows[rows["final"]]
        if recipes is not None:
            rows = rows[rows["recipe"].isin(recipes)]
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for row in records(rows):
            place = (recipe_rank(row.recipe), row.tokens, row.stage_step, row.task, metric_rank(row.metric))
            groups.setdefault(place, []).append(row)
        found = []
        for (_, tokens, step, task, _), group in sorted(groups.items()):
            metric = group[0].metric
            rank = max(shots_rank(r.recipe, r.shots) for r in group)
            runs = [r for r in group if shots_rank(r.recipe, r.shots) == rank]
            mean = stats.over_seeds([Interval(r.value, r.lo, r.hi, r.n) for r in runs], 0.0, _CEILING.get(metric, 1.0))
            ratio = tokens / self.model_parameters
            where = (tokens, ratio, runs[0].recipe, step, task, metric, runs[0].shots)
            found.append((*where, *mean, len(runs), runs[0].chance))
        columns = ["tokens", "tokens_per_parameter", "recipe", "stage_step", "task", "metric", "shots"]
        columns += ["value", "lo", "hi", "n", "seeds", "chance"]
        return pd.DataFrame(found, columns=columns).astype({"shots": "Int64"})

    def pairs(self, recipe: str, reference: str, task: str) -> dict[int, list[tuple[Evaluation, Evaluation]]]:
        """The two recipes' final evaluations at each M_t that has both, one pair a seed of ``recipe``."""
        return _paired(self.finals(recipe, task), self.finals(reference, task))

    def differences(
        self, recipe: str, reference: str, task: str, k: int, extraction: str | None = None
    ) -> dict[int, Difference]:
        """pass@k of ``recipe`` minus that of ``reference`` at each M_t, paired by problem, seeds averaged."""
        rule = extraction or self.extraction
        found = {}
        for tokens, pairs in self.pairs(recipe, reference, task).items():
            runs = [stats.paired_difference(a.graded[rule], b.graded[rule], k) for a, b in pairs]
            found[tokens] = Difference(stats.over_seeds(runs, -1.0, 1.0), len(runs))
        return found

    def general_differences(self, recipe: str, reference: str) -> dict[int, Difference]:
        """The same for the plain mean of the general probes, paired by document."""
        ends = [
            {(p.entry.tokens, p.entry.seed): p for p in self.probed if p.entry.final and p.entry.recipe == name}
            for name in (recipe, reference)
        ]
        found = {}
        for tokens, pairs in _paired(*ends).items():
            runs = [_general_difference(a, b) for a, b in pairs if set(a.answers) & set(b.answers)]
            if runs:
                found[tokens] = Difference(stats.over_seeds(runs, -1.0, 1.0), len(runs))
        return found

    def gains(self, recipe: str, reference: str, task: str, k: int) -> pd.DataFrame:
        """``differences`` as a frame, one row an M_t, with the reference's number of shots."""
        pairs = self.pairs(recipe, reference, task)
        found = []
        for tokens, (mean, seeds) in self.differences(recipe, reference, task, k).items():
            ratio, shots = tokens / self.model_parameters, pairs[tokens][-1][1].entry.shots
            found.append((tokens, ratio, recipe, reference, shots, f"pass@{k}", *mean, seeds))
        columns = ["tokens", "tokens_per_parameter", "recipe", "reference", "reference_shots", "metric"]
        frame = pd.DataFrame(found, columns=[*columns, "value", "lo", "hi", "n", "seeds"])
        return frame.astype({"reference_shots": "Int64"})


def _paired(
    runs: Mapping[tuple[int, int], _T], partners: Mapping[tuple[int, int], _T]
) -> dict[int, list[tuple[_T, _T]]]:
    """Pairs by (tokens, seed). Seeds may share one reference, as all do the base: then its lowest seed serves."""
    found: dict[int, list[tuple[_T, _T]]] = {}
    for (tokens, seed), run in sorted(runs.items(), key=lambda item: item[0]):
        seeds = sorted(s for t, s in partners if t == tokens)
        if seeds:
            found.setdefault(tokens, []).append((run, partners[tokens, seed if seed in seeds else seeds[0]]))
    return found


def _general_difference(a: Probes, b: Probes) -> Interval:
    """Mean over probes of the paired differences; documents are paired by their place in the probe."""
    parts = []
    for name in sorted(set(a.answers) & set(b.answers)):
        if len(a.answers[name]) != len(b.answers[name]):
            raise ValueError(f"the probe {name} has other documents in {a.entry.words} than in {b.entry.words}")
        parts.append(stats.difference_intervals((a.answers[name] - b.answers[name])[:, None])[0])
    return stats.mean_of_independent(parts)


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """The frame's rows, their columns as attributes."""
    return iter(frame.itertuples(index=False))


def recipe_rank(recipe: str) -> tuple[int, str]:
    """Sorts recipes in the paper's order, others after them by name."""
    names = list(LABELS)
    return (names.index(recipe) if recipe in names else len(names), recipe)


def metric_rank(metric: str) -> tuple[str, int]:
    """Sorts pass@2 before pass@10."""
    name, _, k = metric.partition("@")
    return name, int(k or 0)


def shots_rank(recipe: str, shots: int | None) -> int:
    """Higher is the setting to show: the most shots for a base model, the fewest for a trained one."""
    count = 0 if shots is None or pd.isna(shots) else int(shots)
    return count if recipe == "base" else -count
