"""Crossed evaluation: base models without examples, trained ones with them, strict and lenient.

RL teaches the asked-for form as well as the answer. With the form given (8-shot) and forgiven (lenient), what is left
of a gain is reasoning.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from foray.report import stats
from foray.report.markup import in_tokens, label, points, table
from foray.report.measured import Difference, Evaluation, Run, difference
from foray.report.results import Results, recipe_rank

Ends = Mapping[tuple[int, str, int], Mapping[Run, Evaluation]]  # by tokens, recipe, shots


def ends(results: Results, task: str) -> Ends:
    """Every evaluation of a finished model on the task, whatever the shots."""
    trained_on = ("", results.trained_on(task))
    asked = [e for e in results.evaluations if e.entry.task == task and e.entry.trained_on in trained_on]
    last = {(e.entry.tokens, e.entry.recipe, e.entry.run): e.entry.stage_step for e in asked if e.entry.final}
    found: dict[tuple[int, str, int], dict[Run, Evaluation]] = {}
    for e in asked:
        x = e.entry
        if x.shots is not None and last.get((x.tokens, x.recipe, x.run)) == x.stage_step:
            found.setdefault((x.tokens, x.recipe, x.shots), {})[x.run] = e
    return found


def gains(results: Results, task: str) -> list[tuple[int, str, int, str, Difference]]:
    """(tokens, recipe, shots, extraction, recipe − base in pass@1), both models at the same shots and extraction."""
    found, made = ends(results, task), []
    for (tokens, recipe, shots), runs in found.items():
        bases = {run.pretrain_seed: e for run, e in found.get((tokens, "base", shots), {}).items()}
        shared = {run: e for run, e in runs.items() if run.pretrain_seed in bases}
        if recipe == "base" or not shared:
            continue
        for rule in sorted({name for e in shared.values() for name in e.graded}, reverse=True):
            each = {
                run: stats.paired_difference(e.graded[rule], bases[run.pretrain_seed].graded[rule], 1)
                for run, e in shared.items()
            }
            made.append((tokens, recipe, shots, rule, difference(each)))
    return sorted(made, key=lambda g: (g[0], recipe_rank(g[1]), g[2], g[3] != "strict"))


def frame(results: Results) -> pd.DataFrame:
    """``crossed.csv``: shares, not percent."""
    rows = [
        (task, tokens, recipe, shots, rule, *gain.interval[:3], len(gain.runs))
        for task in results.tasks
        for tokens, recipe, shots, rule, gain in gains(results, task)
    ]
    columns = ["task", "tokens", "recipe", "shots", "extraction", "pass1_over_base", "lo", "hi", "runs"]
    return pd.DataFrame(rows, columns=columns)


def section(results: Results) -> str:
    """The crossed gains as HTML; empty where no model was asked in another form than its own."""
    parts = []
    for task in results.tasks:
        found = gains(results, task)
        if not found:
            continue
        forms = sorted({(shots, rule) for _, _, shots, rule, _ in found}, key=lambda f: (f[0], f[1] != "strict"))
        cells: dict[tuple[int, str], dict[tuple[int, str], Any]] = {}
        for tokens, recipe, shots, rule, gain in found:
            cells.setdefault((tokens, recipe), {})[shots, rule] = gain.interval
        rows = [
            (in_tokens(tokens), label(recipe), *(points(row.get(form)) for form in forms))
            for (tokens, recipe), row in sorted(cells.items(), key=lambda c: (c[0][0], recipe_rank(c[0][1])))
        ]
        heads = [f"{shots}-shot, {rule}" for shots, rule in forms]
        parts.append(f"<h3>{escape(task)}</h3>" + table(["tokens", "recipe", *heads], rows, text_columns=2, rules=True))
    if not parts:
        return ""
    text = (
        "Gain in pass@1 over the base in points, both models asked with the same examples and graded the same way. "
        "What holds with examples and lenient grading is not the form that was learned."
    )
    return f'<p class="dim">{text}</p>{"".join(parts)}<p class="dim"><a href="crossed.csv">crossed.csv</a></p>'
