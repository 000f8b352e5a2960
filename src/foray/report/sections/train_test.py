"""Accuracy on training questions against test questions: what a recipe knows of the questions that it trained on."""

from __future__ import annotations

from typing import Any

from foray.report.columns import COUNT, NOTHING, POINTS, RECIPE, SHARE, TOKENS, Column, frame_of, tables_by_task
from foray.report.differences import pair, passk_difference, passk_means
from foray.report.markup import joined, parts
from foray.report.results import TRAIN, Results, recipe_rank
from foray.report.sections import Section
from foray.report.stats import Interval, difference_of_independent

NAME, TITLE, PLACE = "train_test", "Training questions against test questions", 38

_TEXT = (
    "pass@1 in percent on the first training questions and on the evaluation's own, asked and graded alike. The gap is "
    "training − test in points. The base has a gap too where its questions differ in difficulty, so the last column is "
    "the gap beyond the base's: recipe − base on training questions, less recipe − base on test questions. Above 0 a "
    "recipe has learned the questions, not only how to solve such. 95% intervals over both sets of problems."
)
COLUMNS = (
    Column("tokens", "tokens", TOKENS),
    Column("recipe", "recipe", RECIPE),
    Column("training", "train", SHARE),
    Column("test", "test", SHARE),
    Column("gap", "gap", POINTS),
    Column("gap beyond the base's", "beyond", POINTS),
    Column("runs", "runs", COUNT),
)


def section(results: Results) -> Section:
    found = [row for task in results.tasks for row in rows(results, task)]
    files = {"train_test": frame_of(found)}
    if not found:
        return Section(files=files, absent="no training questions were asked: set evaluation.train_problems")
    shown = tables_by_task(found, COLUMNS, "pass@1 on training and test questions")
    return Section(joined(parts.dim(_TEXT), shown), files)


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """One a recipe and M_t, over all runs that have both; shares."""
    found, rule = [], results.extraction
    for recipe in results.recipes(task):
        seen, asked = results.finals(recipe, task, split=TRAIN), results.finals(recipe, task)
        for tokens, runs in pair(seen, asked, same_seed=True).items():
            [train], [test] = (passk_means(of_split, [1], rule) for of_split in zip(*runs.values()))
            row: dict[str, Any] = {"task": task, "tokens": tokens, "recipe": recipe}
            row |= {"train": train, "test": test, "gap": difference_of_independent(train, test)}
            row |= {"beyond": _beyond(results, task, recipe, tokens, rule), "runs": len(runs)}
            found.append(row | {"n_train": train.n, "n_test": test.n})
    return sorted(found, key=lambda row: (row["tokens"], recipe_rank(row["recipe"])))


def _beyond(results: Results, task: str, recipe: str, tokens: int, rule: str) -> Interval:
    """The recipe's gain over the base on training questions, less that on test questions."""
    if recipe == "base":
        return NOTHING
    gains = []
    for split in (TRAIN, ""):
        pairs = pair(results.finals(recipe, task, split=split), results.finals("base", task, split=split))
        if tokens not in pairs:
            return NOTHING
        gains.append(passk_difference(pairs[tokens], 1, rule).interval)
    return difference_of_independent(*gains)
