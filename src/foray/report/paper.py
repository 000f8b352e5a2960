"""The paper's numbers: those of ``paper.csv``, and its effect in the place of one of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from foray.report.results import AVERAGE

PARAMETERS = 1_484_916_736  # of the paper's 1B model; the axis tokens per parameter counts all of them
PARAMETERS_4B = 4_147_489_280  # of its 4B model, as the study paper_4b has it
NEAR = 2.0  # an M_t of the paper stands beside one of ours within this factor in tokens per parameter
AVERAGE_OF_5 = "general_average_of_5"  # without ARC-Challenge: the average that has parallel averaging


class Effect(NamedTuple):
    """A difference in the paper, as a share, and where: ``"4B"``."""

    value: float
    at: str


@lru_cache(maxsize=1)
def _table() -> pd.DataFrame:
    """The file, values in percent as written there, with the column ``version``: June, February or repository."""
    text = {"x": str, "value": str}
    table = pd.read_csv(Path(__file__).parent / "paper.csv", comment="#", dtype=text, keep_default_na=False)
    return table.assign(version=table["source"].str.extract(r"\((\w+)\)$")[0])


@lru_cache(maxsize=1)
def _values() -> Mapping[tuple[str, ...], float]:
    names = ["task", "metric", "series", "x_name", "x"]
    return dict(zip(_table()[names].itertuples(index=False, name=None), _table()["value"].astype(float)))


def percents(task: str, metric: str, series: str, x_name: str, x: str) -> str:
    """A number of the paper in percent, with one decimal. Several ``series`` ("base,rl") give numbers joined by " / ".

    Raises KeyError for a number that is not in ``paper.csv``.
    """
    return " / ".join(f"{_values()[task, metric, name, x_name, x]:.1f}" for name in series.split(","))


def paper_rows(task: str, metrics: Sequence[str], series: Sequence[str], x_name: str = "tokens_B") -> pd.DataFrame:
    """Rows of ``paper.csv``, by series and x: ``value`` a share in [0, 1], ``x`` a number in units of ``x_name``."""
    table = _table()
    at = (table["task"] == task) & table["metric"].isin(metrics) & table["series"].isin(series)
    found = table[at & (table["x_name"] == x_name)]
    found = found.assign(x=found["x"].astype(float), value=found["value"].astype(float) / 100)
    return found.sort_values(["series", "metric", "x"], ignore_index=True)


@lru_cache(maxsize=256)
def paper_gains(task: str, metric: str, recipe: str, reference: str) -> pd.DataFrame:
    """``paper_rows`` of the difference of two recipes at every M_t that has both in one version. To be read only."""
    ours, theirs = paper_rows(task, [metric], [recipe]), paper_rows(task, [metric], [reference])
    both = ours.merge(theirs[["x", "version", "value"]], on=["x", "version"], suffixes=("", "_reference"))
    return both.assign(value=both["value"] - both["value_reference"]).drop(columns="value_reference")


def task_of(hard: bool) -> str:
    """The paper's task that is like one of ours: GSM8K, or MATH for a hard one."""
    return "math" if hard else "gsm8k"


def effect(task: str, metric: str, recipe: str, reference: str, ratio: float) -> Effect | None:
    """The paper's difference of two recipes, at its M_t that is nearest to ``ratio`` tokens per parameter.

    ``task``: one of ``paper.csv``, or the general average. None where no M_t within a factor of ``NEAR`` has both.
    """
    if task == AVERAGE and "parallel" in (recipe, reference):
        task = AVERAGE_OF_5
    found = paper_gains(task, metric, recipe, reference)
    far = [abs(math.log(x * 1e9 / PARAMETERS / ratio)) for x in found["x"]]
    if not far or min(far) > math.log(NEAR):
        return None
    place = found.iloc[far.index(min(far))]
    return Effect(float(place["value"]), f"{place['x']:g}B")


def seeds_effect() -> Effect:
    """pass@1 of the better minus the worse of the paper's two RL seeds at 4B, after 1,000 draws each."""
    better, worse = (
        _values()["gsm8k", "pass@1", *place]
        for place in (("rl_seed_favorable", "rl_step", "1000"), ("rl_seed_unfavorable", "rl_step", "1000"))
    )
    return Effect((better - worse) / 100, "4B")


def budget_effect(easy: bool, place: str) -> Effect:
    """pass@1 of the paper's RL with 64 rollouts a prompt minus that with 5, on its Easy or its Hard questions.

    ``place``: at equal ``examples``, at equal ``rollouts``, or at the ``end`` of each.
    """
    ends = (49920, 275200) if easy else (40960, 384000)
    places = {"examples": (38400, 38400, "38k examples"), "rollouts": (5120, 64000, "0.3M rollouts")}
    many, few, at = places.get(place, (*ends, "the end"))
    series = f"rl_{'easy' if easy else 'hard'}"
    values = (_values()["gsm8k", "pass@1", f"{series}_n{n}", "examples", str(x)] for n, x in ((64, many), (5, few)))
    return Effect((next(values) - next(values)) / 100, at)
