"""The shelf of a study's results: all that was measured, and one way each to select, to pair and to average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import pandas as pd

from foray.core.spelling import LABELS
from foray.core.task import STORED
from foray.report import stats
from foray.report.differences import Difference, Pairing, ability_difference, pair, passk_difference
from foray.report.measurements import Measurement, NodeOrigin, PassK, ProbeAnswers, TrainingLog
from foray.report.stats import Interval

AVERAGE = "general_average"
WORLD_PROBE = "world_"  # begins the name of a probe that asks about the embedded world
FLEXIBLE = "flexible"  # the paper's grading: the first ####, else the last box, else the last number
STRICT = "strict"  # the grading that asks for the form
SOUND = "sound"  # no grading to choose: right answers from right reasons, of a task that can tell
LENIENT = "lenient"  # the grading that takes the last number where the asked-for form is missing
TEST, TRAIN = "test", "train"  # splits that an evaluation may ask, beside "validation"
AXES = ("tokens", "samples", "flops", "seconds")  # what a figure over pre-training can be drawn against
COLUMNS = (
    "study", "pretrain_seed", "tokens", "recipe", "trained_on", "stage_step", "seed",
    "task", "shots", "extraction", "metric", "value", "lo", "hi", "n", "stderr",
    "final", "chance", "stopped", "tokens_per_parameter"
)  # fmt: skip
AXES_BESIDE = (
    "variant", "against", "mix", "model_parameters", "split", "temperature", "screen", "rollouts", "examples"
)  # fmt: skip
MAIN_GRID: Mapping[str, Any] = {
    "variant": "", "split": "", "mix": "", "model_parameters": None, "temperature": None,
}  # fmt: skip
ANY: Any = ...  # any value of a field
ANY_MODEL: Mapping[str, Any] = dict.fromkeys(("variant", "split", "mix", "model_parameters"), ANY)
RUN = ("recipe", "variant", "tokens", "trained_on", "pretrain_seed", "seed")  # names one run of a recipe
M = TypeVar("M", bound=Measurement)
_SHARES = ("acc", "format_rate", "truncated_rate")  # metrics between 0 and 1, beside pass@k


class NotDrawable(Exception):
    """The results lack what a figure or a claim needs. The message is the one-line reason that the page prints."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that was found. Shares, not percent."""

    study: str
    model_parameters: int
    ks: tuple[int, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    asked: tuple[str, ...]  # every task of the manifest, measured or not: the tasks of the main grid first
    hard: tuple[str, ...]  # tasks whose class says that they are hard
    measured: tuple[Measurement, ...]  # of the main grid and beside it
    table: pd.DataFrame  # every number of ``measured``: COLUMNS and AXES_BESIDE
    missing: tuple[tuple[str, str], ...]  # (what, why)
    flags: tuple[tuple[str, str], ...]  # (what, what looks wrong there)
    evaluation_flops: Mapping[str, float] = field(default_factory=dict)  # by kind of evaluation
    axis: str = AXES[0]
    extraction: str = STRICT  # the grading that tables, figures and claims use
    split: str = TEST  # that the main grid asks; a measurement names its split where that is another
    temperature: float | None = None  # of the main grid's samples, likewise; None where an earlier version wrote none
    top: int = 32  # the K of pass@K, where every evaluation has so many samples
    paper: bool = True  # whether the paper's numbers and curves stand beside ours
    settings: Mapping[str, Sequence[Mapping[str, str]]] = field(default_factory=dict)  # rows of words by table
    origins: tuple[NodeOrigin, ...] = ()  # of every node that is there
    planned: tuple[Measurement, ...] = ()  # all that the manifest asks for, measured or not

    def select(self, kind: type[M], **where: Any) -> list[M]:
        """What was measured of a kind, where the named fields have that value or one of these values (a tuple).

        Models of the main grid, but for the fields that are named; ``ANY`` stands for every value of a field.
        """
        unnamed = tuple(name for name in MAIN_GRID if name not in where)
        if (grid := self._grids.get((kind, unnamed))) is None:
            grid = [m for m in self.measured if isinstance(m, kind) and _all_fit(m, {n: MAIN_GRID[n] for n in unnamed})]
            self._grids[kind, unnamed] = grid
        wanted = {name: value for name, value in where.items() if value is not ANY}
        return [m for m in grid if _all_fit(m, wanted)]

    @cached_property
    def _grids(self) -> dict[tuple[type, tuple[str, ...]], list[Any]]:
        """What ``select`` has found by kind and by the fields that were left to the main grid: it is asked often."""
        return {}

    def rows(self, **where: Any) -> pd.DataFrame:
        """The same of the table's rows."""
        rows = self.table
        for name, value in {**MAIN_GRID, **where}.items():
            if value is None:
                rows = rows[rows[name].isna()]
            elif value is not ANY:
                rows = rows[rows[name].isin(value if isinstance(value, tuple) else (value,))]
        return rows

    def passk_rows(self, task: str, ks: Sequence[int], **where: Any) -> pd.DataFrame:
        """Rows of pass@k, graded and trained as figures and main table show them."""
        return self.rows(
            task=task, metric=tuple(f"pass@{k}" for k in ks), extraction=self.extraction,
            trained_on=self.trained(task), **where,
        )  # fmt: skip

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks with a pass@k of the main grid, in the manifest's order."""
        found = {e.task for e in self.select(PassK)}
        return [t for t in self.asked if t in found]

    @property
    def other_grading(self) -> str:
        """The grading shown beside ``extraction``, for how much of a gain is the form: lenient beside strict, else
        strict.
        """
        return LENIENT if self.extraction == STRICT else STRICT

    @property
    def verdict_field(self) -> str:
        """The field of a sample that holds the verdict by ``extraction``."""
        return {str(grading): field for grading, field in STORED.items()}[self.extraction]

    @property
    def main_task(self) -> str:
        """The study's first task. Raises NotDrawable while nothing of the main grid has been evaluated on that task:
        another task's numbers do not answer what is asked of the main one.
        """
        if not self.tasks or self.tasks[0] != self.asked[0]:
            raise NotDrawable(f"no pass@k evaluation{f' on {self.asked[0]}' if self.asked else ''} has finished")
        return self.asked[0]

    @property
    def hard_task(self) -> str | None:
        """The first hard task after the main one, or else the main one if that is hard."""
        return next((t for t in (*self.asked[1:], *self.asked[:1]) if t in self.hard), None)

    @property
    def end_ks(self) -> list[int]:
        """The smallest and the largest k."""
        return sorted({self.ks[0], self.ks[-1]})

    def trained_on(self, task: str | None = None) -> str:
        """The post-training task of the models whose numbers on ``task`` (by default the main one) are shown: that task
        itself where models were trained on it.
        """
        task = task or next(iter(self.asked), "")
        entries = self.select(PassK, task=task, variant=ANY, mix=ANY, model_parameters=ANY)
        found = dict.fromkeys(e.trained_on for e in sorted(entries, key=lambda e: e.off_grid) if e.trained_on)
        return task if task in found else next(iter(found), "")

    def trained(self, task: str | None = None) -> tuple[str, str]:
        """Values of ``trained_on`` that are shown on a task: that of base models and that of trained ones."""
        return "", self.trained_on(task)

    def recipes(self, task: str | None = None) -> list[str]:
        """Recipes with a final pass@k evaluation (on ``task``), in the paper's order."""
        asked = {} if task is None else {"task": task, "trained_on": self.trained(task)}
        return sorted({e.recipe for e in self.select(PassK, final=True, **asked)}, key=recipe_rank)

    def finals(self, recipe: str, task: str, **where: Any) -> list[PassK]:
        """The final evaluation of every run of a recipe, at the recipe's own number of shots."""
        found = self.select(PassK, final=True, recipe=recipe, task=task, trained_on=self.trained(task), **where)
        chosen: dict[tuple[Any, ...], PassK] = {}
        for e in sorted(found, key=lambda e: shots_rank(recipe, e.shots), reverse=True):
            chosen.setdefault((e.tokens, e.run, e.variant, e.mix, e.model_parameters), e)
        return list(chosen.values())

    def ends(self, task: str) -> list[tuple[str, int, list[PassK]]]:
        """Recipe, M_t in tokens, and the final evaluation of every run there: by tokens, then in the recipes' order."""
        found: dict[tuple[int, str], list[PassK]] = {}
        for recipe in self.recipes(task):
            for e in self.finals(recipe, task):
                found.setdefault((e.tokens, recipe), []).append(e)
        return [(recipe, tokens, runs) for (tokens, recipe), runs in sorted(found.items(), key=lambda x: x[0][0])]

    def rl_runs(self) -> list[TrainingLog]:
        """Stages on the main task that logged a reward, by recipe (paper's order), tokens, run."""
        runs = self.select(TrainingLog, trained_on=self.trained())
        return sorted(
            (r for r in runs if r.of("rollouts", "reward").notna().any()),
            key=lambda r: (recipe_rank(r.recipe), r.tokens, r.run, r.stage_step),
        )

    def curve(
        self,
        metrics: Sequence[str],
        tasks: Sequence[str],
        recipes: Sequence[str] | None = None,
        lenient_base: bool = False,
    ) -> pd.DataFrame:
        """Means over runs with intervals, one row per (tokens, recipe, stage_step, task, metric).

        Final checkpoints only. Of models post-trained on several tasks, those trained on what ``tasks`` asks of, or on
        the main one. Sorted by recipe (paper's order), tokens, step. ``lenient_base`` adds a column ``extraction`` and,
        where that is strict, last the bases graded leniently.
        """
        asked = next((t for t in tasks if t in self.tasks), None)
        rows = self.rows(
            metric=tuple(metrics), task=tuple(tasks), trained_on=self.trained(asked),
            recipe=ANY if recipes is None else tuple(recipes), final=True,
        )  # fmt: skip
        curve = self.average(rows[rows["extraction"].isin([self.extraction, ""])])
        if not lenient_base:
            return curve
        curve["extraction"] = self.extraction
        lenient = rows[(rows["extraction"] == LENIENT) & (rows["recipe"] == "base")]
        if self.extraction != STRICT or lenient.empty:
            return curve
        return pd.concat([curve, self.average(lenient).assign(extraction=LENIENT)], ignore_index=True)

    def pairs(self, recipe: str, reference: str, task: str) -> dict[int, dict[Pairing, tuple[PassK, PassK]]]:
        """The two recipes' final evaluations at each M_t that has both, run by run (``pair``)."""
        return pair(self.finals(recipe, task), self.finals(reference, task))

    def differences(
        self, recipe: str, reference: str, task: str, k: int, extraction: str | None = None
    ) -> dict[int, Difference]:
        """pass@k of ``recipe`` minus that of ``reference`` at each M_t, paired by problem, runs averaged."""
        rule = extraction or self.extraction
        pairs = self.pairs(recipe, reference, task)
        return {tokens: passk_difference(of_runs, k, rule) for tokens, of_runs in pairs.items()}

    def ability_differences(self, recipe: str, reference: str) -> dict[int, Difference]:
        """The same for the plain mean of the general probes, paired by document."""
        asked = {"final": True, "trained_on": self.trained()}
        ours, theirs = (self.select(ProbeAnswers, recipe=r, **asked) for r in (recipe, reference))
        found = {tokens: ability_difference(pairs) for tokens, pairs in pair(ours, theirs).items()}
        return {tokens: gain for tokens, gain in found.items() if gain}

    def above_chance(self) -> set[int]:
        """Token counts of the M_t all of whose base models are surely better than guessing at the general probes."""
        rows = self.rows(task=AVERAGE, recipe="base", final=True)
        sure = (rows["lo"] > rows["chance"]).groupby(rows["tokens"]).all()
        return {int(tokens) for tokens in sure.index[sure]}

    def average(self, rows: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
        """Means over runs with intervals, one row per (``by``, tokens, recipe, stage_step, task, metric), sorted so.

        Base models at their largest number of shots, trained ones at their smallest.
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
            mean = stats.over_seeds(intervals, *_bounds(one.metric), starts)
            ratio = one.tokens / (self.model_parameters if pd.isna(one.model_parameters) else one.model_parameters)
            where = (one.tokens, ratio, one.recipe, one.stage_step, one.task, one.metric, one.shots)
            found.append((*(getattr(one, name) for name in by), *where, *mean, len(runs), len(set(starts)), one.chance))
        columns = [*by, "tokens", "tokens_per_parameter", "recipe", "stage_step", "task", "metric", "shots"]
        columns += ["value", "lo", "hi", "n", "runs", "pretrainings", "chance"]
        return pd.DataFrame(found, columns=columns).astype({"shots": "Int64"})


def _all_fit(m: Measurement, wanted: Mapping[str, Any]) -> bool:
    return all(
        getattr(m, name) in value if isinstance(value, tuple) else getattr(m, name) == value
        for name, value in wanted.items()
    )


def inside_training(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of models inside a recipe: of fewer updates than the same run's end, where there is an end."""
    ends = rows["stage_step"].where(rows["final"]).groupby([rows[name] for name in RUN]).transform("max")
    return rows[~rows["final"] & ~(rows["stage_step"] >= ends)]


def whole_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that have every point of their recipe: an end of more runs than the points before would bend a
    curve. Where no run has every point, of runs that have the same ones, as many as any.
    """
    kept = []
    for _, own in rows.groupby(["recipe", "variant", "tokens"], sort=False):
        points = own.groupby(["pretrain_seed", "seed"])["stage_step"].agg(frozenset)
        whole = set(points.index[points == max(points, key=len)])
        same = [run in whole for run in zip(own["pretrain_seed"], own["seed"])]
        kept.append(own[same])
    return pd.concat(kept) if kept else rows


def shared_pretrainings(rows: pd.DataFrame, by: Sequence[str]) -> set[int]:
    """The pre-trainings (seeds) that every group of rows has; all, where they share none."""
    each = [set(own["pretrain_seed"]) for _, own in rows.groupby(list(by))]
    return set.intersection(*each) or set.union(*each) if each else set()


def busiest(rows: pd.DataFrame) -> int:
    """The M_t with the most rows; of equals, the latest."""
    points = rows.groupby("tokens").size()
    return int(points[points == points.max()].index.max())


def records(frame: pd.DataFrame) -> Iterator[Any]:
    """The frame's rows, their columns as attributes."""
    return iter(frame.itertuples(index=False))


def label(recipe: str, shots: Any = None) -> str:
    """The recipe's name as in the paper, with the number of shots of a base model, or of another that has any."""
    known = shots is not None and not pd.isna(shots) and (recipe == "base" or shots > 0)
    return LABELS.get(recipe, recipe) + (f" ({shots}-shot)" if known else "")


def recipe_rank(recipe: str) -> tuple[int, str]:
    """Sorts recipes in the paper's order, others after them by name."""
    names = list(LABELS)
    return (names.index(recipe) if recipe in names else len(names), recipe)


def metric_rank(metric: str) -> tuple[str, int]:
    """Sorts pass@2 before pass@10."""
    name, _, k = metric.partition("@")
    return name, int(k or 0)


def _bounds(metric: str) -> tuple[float, float]:
    """The least and the greatest value that the metric can have."""
    if "@" in metric or metric in _SHARES:
        return 0.0, 1.0
    return (0.0 if metric in ("perplexity", "bits_per_byte") else -math.inf), math.inf


def shots_rank(recipe: str, shots: int | None) -> int:
    """Higher is the setting to show: the most shots for a base model, the fewest for a trained one."""
    count = 0 if shots is None or pd.isna(shots) else int(shots)
    return count if recipe == "base" else -count
