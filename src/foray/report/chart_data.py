"""What the page's chart draws: pass@k of every grading, M_t and recipe, with intervals, and the paper's curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from foray.core.task import STORED
from foray.report.measurements import PassK
from foray.report.paper import PARAMETERS, paper_rows, task_of
from foray.report.results import AXES, SOUND, NotDrawable, Results, label, recipe_rank, records, shots_rank
from foray.report.score_table import frame_of_rows, passk_scores, row_of
from foray.report.spending import add_axis
from foray.report.style import look


def chart(results: Results) -> dict[str, Any]:
    """Plain values for JSON, shares in [0, 1], rounded to six digits, at every k from 1 to the samples a problem.

    Empty where the main task is not evaluated.
    """
    try:
        task = results.main_task
    except NotDrawable:
        return {}
    rows = _at_every_k(results, results.select(PassK, task=task, final=True, trained_on=results.trained(task)))
    metrics = sorted(set(rows["metric"]), key=_k)
    curves = {str(g): results.average(rows[rows["extraction"] == str(g)]) for g in (*STORED, SOUND)}
    curves = {grading: frame for grading, frame in curves.items() if len(frame)}
    recipes = list(dict.fromkeys(r for frame in curves.values() for r in frame["recipe"]))
    return {
        "task": task,
        "grading": results.extraction,
        "other_grading": results.other_grading,
        "ks": [_k(m) for m in metrics],
        "recipes": [{"name": r, "label": label(r), "color": look(r).color} for r in recipes],
        "rows": [row | {"grading": g} for g, frame in curves.items() for row in _rows(frame.to_dict("records"))],
        "runs": _runs(rows),
        "spent": _spent(results, next(iter(curves.values()), pd.DataFrame())),
        "paper": _paper(results, task, metrics, recipes) if results.paper else [],
    }


def differences_chart(results: Results, task: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same of differences A − B, rows of ``between_studies.passk_rows``. ``results``: of A. Empty without a row."""
    if not found:
        return {}
    rows = []
    for row in sorted(found, key=lambda row: shots_rank(row["recipe"], row["shots"])):
        gain = {name: _short(x) for name, x in zip(("value", "lo", "hi"), row["value"])}
        where = {"chance": None, "tokens_per_parameter": row["tokens"] / results.model_parameters, "n": row["n"]}
        same = {name: row[name] for name in ("recipe", "grading", "tokens")}
        rows.append(gain | where | same | {"k": _k(row["metric"])})
    shown = {(r["recipe"], r["grading"], r["tokens"], r["k"]): r for r in rows}  # of several numbers of shots the last
    recipes = sorted({r["recipe"] for r in rows}, key=recipe_rank)
    return {
        "task": task,
        "minus": "A − B",
        "grading": results.extraction,
        "other_grading": results.other_grading,
        "ks": sorted({r["k"] for r in rows}),
        "recipes": [{"name": r, "label": label(r), "color": look(r).color} for r in recipes],
        "rows": list(shown.values()),
        "runs": [],
        "spent": {},
        "paper": [],
    }


def _at_every_k(results: Results, evaluations: Iterable[PassK]) -> pd.DataFrame:
    """The rows of the table, whose k are few, at every k that an evaluation has samples for."""
    rows = [
        row_of(results.study, e, score)
        for e in evaluations
        for score in passk_scores(e, range(1, 1 + min(int(c.samples.min()) for c in e.counts.values())))
    ]
    return frame_of_rows(rows, results.model_parameters)


def _k(metric: str) -> int:
    return int(metric.partition("@")[2])


def _short(value: Any) -> float | None:
    return None if value is None or pd.isna(value) or math.isinf(value) else float(f"{round(float(value), 12):.6g}")


def _rows(found: Iterable[Any]) -> list[dict[str, Any]]:
    numbers = ("value", "lo", "hi", "chance", "tokens_per_parameter")
    return [
        {name: _short(row[name]) for name in numbers}
        | {"recipe": row["recipe"], "n": row["n"], "k": _k(row["metric"]), "tokens": int(row["tokens"])}
        for row in found
    ]


def _runs(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Every run apart; empty where no recipe has a second one. Sorted, so that the manifest's order changes nothing."""
    if not rows.duplicated(["recipe", "tokens", "metric", "extraction", "shots"]).any():
        return []
    names = ["recipe", "extraction", "pretrain_seed", "seed", "tokens", "metric"]
    ranks = [shots_rank(r.recipe, r.shots) for r in records(rows)]
    shown = rows.assign(rank=ranks).sort_values([*names, "rank"]).drop_duplicates(names, keep="last")
    ordered = shown.to_dict("records")
    found = zip(_rows(ordered), ordered)
    return [a | {"grading": b["extraction"], "run": f"{b['pretrain_seed']}/{b['seed']}"} for a, b in found]


def _spent(results: Results, frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Samples, FLOPs and seconds by ``recipe tokens``, as far as the study knows them."""
    found: dict[str, dict[str, float]] = {}
    for axis in AXES[1:] if len(frame) else ():
        try:
            known = add_axis(replace(results, axis=axis), frame)
        except (NotDrawable, ValueError):
            continue
        if axis in known:
            values = [(f"{r.recipe} {r.tokens}", _short(getattr(r, axis))) for r in records(known)]
            found[axis] = {place: value for place, value in values if value}
    return {axis: values for axis, values in found.items() if values}


def _paper(results: Results, task: str, metrics: list[str], recipes: list[str]) -> list[dict[str, Any]]:
    found = paper_rows(task_of(task in results.hard), metrics, recipes)
    return [
        {"recipe": r.series, "k": _k(r.metric), "value": _short(r.value), "ratio": _short(r.x * 1e9 / PARAMETERS)}
        for r in records(found)
    ]
