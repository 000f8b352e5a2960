"""What a study has measured, as the figures and the HTML read it: one table, the evaluations, the training logs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pandas as pd

from foray.report import stats
from foray.report.measured import (
    Difference,
    Entry,
    Evaluation,
    Origin,
    Overlaps,
    Probes,
    Run,
    TrainingRun,
    difference,
    general_difference,
)
from foray.report.stats import Interval

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
LENIENT = "lenient"  # the grading that takes the last number where the asked-for form is missing
AXES = ("tokens", "samples", "flops", "seconds")  # what a figure over pre-training can be drawn against
_T = TypeVar("_T")
_CEILING = {"perplexity": math.inf}  # every other metric is a share


class NotDrawable(Exception):
    """The results lack what a figure shows; the message is the one-line reason that the report prints."""


@dataclass(frozen=True)
class Results:
    """All that was found. Shares, not percent.

    ``table`` has the columns of ``results.csv``, ``own`` and ``foray.report.table.AXES_BESIDE``.
    """

    study: str
    model_parameters: int
    ks: tuple[int, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    table: pd.DataFrame
    beside: pd.DataFrame  # the same of what is beside the main grid
    asked: tuple[str, ...]  # every task of the manifest, measured or not: the main grid's first
    evaluations: tuple[Evaluation, ...]
    training: tuple[TrainingRun, ...]
    missing: tuple[tuple[str, str], ...]
    probed: tuple[Probes, ...] = ()
    variants: tuple[Evaluation, ...] = ()  # what is beside the main grid
    variant_training: tuple[TrainingRun, ...] = ()
    variant_probed: tuple[Probes, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()  # (what, what looks wrong in it)
    evaluation_flops: Mapping[str, float] = field(default_factory=dict)  # by kind of evaluation
    axis: str = AXES[0]
    contamination: tuple[Overlaps, ...] = ()
    hard: tuple[str, ...] = ()  # tasks that say of themselves that they are hard ones
    settings: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)  # rows of words by table
    origins: tuple[Origin, ...] = ()  # of every node that is there

    @property
    def tasks(self) -> list[str]:
        """Tasks with a pass@k, in the manifest's order."""
        return [t for t in self.asked if any(e.entry.task == t for e in self.evaluations)]

    @property
    def main_task(self) -> str:
        """The study's first task. Raises NotDrawable while nothing of the main grid has been evaluated on it: what
        another task says is no answer to what is asked of this one.
        """
        if not self.tasks or self.tasks[0] != self.asked[0]:
            raise NotDrawable(f"no pass@k evaluation{f' on {self.asked[0]}' if self.asked else ''} has finished")
        return self.asked[0]

    @property
    def hard_task(self) -> str | None:
        """The first task but the main one that is a hard one, else the main one if that is."""
        return next((t for t in (*self.asked[1:], *self.asked[:1]) if t in self.hard), None)

    def trained_on(self, task: str | None = None) -> str:
        """The post-training task of the models whose numbers on ``task`` (on the main one) are shown: that task itself
        where models were trained on it.
        """
        task = task or next(iter(self.asked), "")
        entries = [e.entry for e in (*self.evaluations, *self.variants) if e.entry.task == task and not e.entry.split]
        found = dict.fromkeys(x.trained_on for x in entries if x.trained_on)
        return task if task in found else next(iter(found), "")

    def _trained_on_main(self, entry: Entry) -> bool:
        return entry.trained_on in ("", self.trained_on())

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
        trained_on = "" if task is None else self.trained_on(task)
        found = {
            e.entry.recipe
            for e in self.evaluations
            if e.entry.final and (task is None or (e.entry.task == task and e.entry.trained_on in ("", trained_on)))
        }
        return sorted(found, key=recipe_rank)

    def finals(self, recipe: str, task: str) -> dict[tuple[int, Run], Evaluation]:
        """The final evaluation for every (tokens, run), at the recipe's own number of shots, of models trained on what
        ``trained_on`` says.
        """
        chosen: dict[tuple[int, Run], Evaluation] = {}
        trained_on = ("", self.trained_on(task))
        for e in self.evaluations:
            x = e.entry
            if x.final and x.recipe == recipe and x.task == task and x.trained_on in trained_on:
                place = (e.entry.tokens, e.entry.run)
                rank = shots_rank(recipe, e.entry.shots)
                if place not in chosen or rank > shots_rank(recipe, chosen[place].entry.shots):
                    chosen[place] = e
        return chosen

    def rl_runs(self) -> list[TrainingRun]:
        """Stages on the main task that logged a reward, by recipe (paper's order), tokens, run."""
        runs = [r for r in self.training if self._trained_on_main(r.entry)]
        return sorted(
            (r for r in runs if r.of("rollouts", "reward").notna().any()),
            key=lambda r: (recipe_rank(r.entry.recipe), r.entry.tokens, r.entry.run, r.entry.stage_step),
        )

    def curve(
        self,
        metrics: Sequence[str],
        tasks: Sequence[str],
        recipes: Sequence[str] | None = None,
        inside: bool = False,
        lenient_base: bool = False,
    ) -> pd.DataFrame:
        """Means over runs with intervals, one row per (tokens, recipe, stage_step, task, metric).

        Final checkpoints only, unless ``inside`` asks for those inside a recipe too. Base models are shown at their
        largest number of shots, trained ones at their smallest. Of models post-trained on several tasks, those trained
        on what ``tasks`` asks of, or on the main one. Sorted by recipe (paper's order), tokens, step.

        ``lenient_base`` adds a column ``extraction`` and, last, the bases graded leniently where the rest is strict.
        """
        rows = self.table[self.table["metric"].isin(metrics) & self.table["task"].isin(tasks)]
        asked = next((t for t in tasks if t in self.tasks), None)
        rows = rows[rows["trained_on"].isin(["", self.trained_on(asked)])]
        if not inside:
            rows = rows[rows["final"]]
        if recipes is not None:
            rows = rows[rows["recipe"].isin(recipes)]
        curve = averaged(rows[rows["extraction"].isin([self.extraction, ""])], self.model_parameters, [])
        if not lenient_base:
            return curve
        curve["extraction"] = self.extraction
        lenient = rows[(rows["extraction"] == LENIENT) & (rows["recipe"] == "base")]
        if self.extraction == LENIENT or lenient.empty:
            return curve
        beside = averaged(lenient, self.model_parameters, []).assign(extraction=LENIENT)
        return pd.concat([curve, beside], ignore_index=True)

    def pairs(self, recipe: str, reference: str, task: str) -> dict[int, dict[Run, tuple[Evaluation, Evaluation]]]:
        """The two recipes' final evaluations at each M_t that has both, one pair a run of ``recipe``."""
        return _paired(self.finals(recipe, task), self.finals(reference, task))

    def differences(
        self, recipe: str, reference: str, task: str, k: int, extraction: str | None = None
    ) -> dict[int, Difference]:
        """pass@k of ``recipe`` minus that of ``reference`` at each M_t, paired by problem, runs averaged."""
        rule = extraction or self.extraction
        return {
            tokens: difference(
                {run: stats.paired_difference(a.graded[rule], b.graded[rule], k) for run, (a, b) in pairs.items()}
            )
            for tokens, pairs in self.pairs(recipe, reference, task).items()
        }

    def general_differences(self, recipe: str, reference: str) -> dict[int, Difference]:
        """The same for the plain mean of the general probes, paired by document."""
        ends = [
            {
                (p.entry.tokens, p.entry.run): p
                for p in self.probed
                if p.entry.final and p.entry.recipe == name and self._trained_on_main(p.entry)
            }
            for name in (recipe, reference)
        ]
        found = {}
        for tokens, pairs in _paired(*ends).items():
            runs = {r: general_difference(a, b) for r, (a, b) in pairs.items() if set(a.answers) & set(b.answers)}
            if runs:
                found[tokens] = difference(runs)
        return found

    def above_chance(self) -> set[int]:
        """Token counts of the M_t all of whose base models are surely better than guessing at the general probes."""
        rows = self.table[(self.table["task"] == AVERAGE) & (self.table["recipe"] == "base") & self.table["final"]]
        sure = (rows["lo"] > rows["chance"]).groupby(rows["tokens"]).all()
        return {int(tokens) for tokens in sure.index[sure]}

    def gains(self, recipe: str, reference: str, task: str, k: int) -> pd.DataFrame:
        """``differences`` as a frame, one row an M_t, with the reference's number of shots."""
        pairs = self.pairs(recipe, reference, task)
        found = []
        for tokens, gain in self.differences(recipe, reference, task, k).items():
            ratio, (_, last) = tokens / self.model_parameters, list(pairs[tokens].values())[-1]
            counts = len(gain.runs), len(gain.by_pretraining())
            found.append((tokens, ratio, recipe, reference, last.entry.shots, f"pass@{k}", *gain.interval, *counts))
        columns = ["tokens", "tokens_per_parameter", "recipe", "reference", "reference_shots", "metric"]
        frame = pd.DataFrame(found, columns=[*columns, "value", "lo", "hi", "n", "runs", "pretrainings"])
        return frame.astype({"reference_shots": "Int64"})


def averaged(rows: pd.DataFrame, parameters: int, by: Sequence[str]) -> pd.DataFrame:
    """Means over runs with intervals, one row per (``by``, tokens, recipe, stage_step, task, metric), sorted so.

    Base models at their largest number of shots, trained ones at their smallest. ``parameters``: of the model, where
    the rows do not say it.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for row in records(rows):
        first = tuple(0 if pd.isna(v) else v for v in (getattr(row, name) for name in by))
        place = (recipe_rank(row.recipe), row.tokens, row.stage_step, row.task, metric_rank(row.metric))
        groups.setdefault((*first, *place), []).append(row)
    found = []
    for _, group in sorted(groups.items()):
        rank = max(shots_rank(r.recipe, r.shots) for r in group)
        runs = [r for r in group if shots_rank(r.recipe, r.shots) == rank]
        one = runs[0]
        intervals = [Interval(r.value, r.lo, r.hi, r.n) for r in runs]
        starts = [r.pretrain_seed for r in runs]
        mean = stats.over_seeds(intervals, 0.0, _CEILING.get(one.metric, 1.0), starts)
        ratio = one.tokens / (parameters if pd.isna(one.model_parameters) else one.model_parameters)
        where = (one.tokens, ratio, one.recipe, one.stage_step, one.task, one.metric, one.shots)
        found.append((*(getattr(one, name) for name in by), *where, *mean, len(runs), len(set(starts)), one.chance))
    columns = [*by, "tokens", "tokens_per_parameter", "recipe", "stage_step", "task", "metric", "shots"]
    columns += ["value", "lo", "hi", "n", "runs", "pretrainings", "chance"]
    return pd.DataFrame(found, columns=columns).astype({"shots": "Int64"})


def _paired(
    runs: Mapping[tuple[int, Run], _T], partners: Mapping[tuple[int, Run], _T]
) -> dict[int, dict[Run, tuple[_T, _T]]]:
    """Pairs by tokens and run. Seeds may share one reference, as all from one pre-training do its base."""
    found: dict[int, dict[Run, tuple[_T, _T]]] = {}
    for (tokens, run), made in sorted(runs.items(), key=lambda item: item[0]):
        same = sorted(r for t, r in partners if t == tokens and r.pretrain_seed == run.pretrain_seed)
        if same:
            found.setdefault(tokens, {})[run] = made, partners[tokens, run if run in same else same[0]]
    return found


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
