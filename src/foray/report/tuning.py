"""Learning-rate trials: every recipe's, by a rule that was written down before any was run.

The rule: of a recipe's trials, the one with the highest mean of pass@1, pass@8 and pass@K on validation problems, each
model taken after its last step; of equals the first, which is the smallest.
"""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from foray.report.markup import label, table
from foray.report.measured import Evaluation
from foray.report.results import Results, recipe_rank


class Trial(NamedTuple):
    """A recipe with some settings; pass@k on validation problems, by k, each the mean over its evaluations."""

    recipe: str
    settings: str
    passk: dict[int, float]
    used: bool  # the study's recipe has these settings

    @property
    def score(self) -> float:
        return sum(self.passk.values()) / len(self.passk)


def trials(results: Results) -> dict[str, list[Trial]]:
    """Every recipe's trials, in the study's order."""
    found: dict[str, dict[str, list[Evaluation]]] = {}
    for e in results.variants:
        if e.entry.split and e.entry.variant and e.entry.final:
            found.setdefault(e.entry.recipe, {}).setdefault(e.entry.variant, []).append(e)
    made = {}
    for recipe in sorted(found, key=recipe_rank):
        made[recipe] = [
            Trial(recipe, settings, _passk(results, runs), all(e.entry.own for e in runs))
            for settings, runs in found[recipe].items()
        ]
    return made


def _passk(results: Results, runs: list[Evaluation]) -> dict[int, float]:
    graded = [e.graded[results.extraction] for e in runs]
    most = min(int(g.samples.min()) for g in graded)
    return {k: float(np.mean([g.pass_at(k).mean() for g in graded])) for k in results.ks if k <= most}


def chosen(of_recipe: list[Trial]) -> Trial:
    """What the rule chooses."""
    return max(of_recipe, key=lambda t: t.score)  # the first of equals


def frame(results: Results) -> pd.DataFrame:
    """``tuning.csv``: a row a trial. Shares, not percent."""
    rows: list[dict[str, Any]] = []
    for of_recipe in trials(results).values():
        best = chosen(of_recipe)
        for t in of_recipe:
            passk = {f"pass@{k}": value for k, value in t.passk.items()}
            row = {"recipe": t.recipe, "settings": t.settings, **passk, "score": t.score}
            rows.append(row | {"chosen": t is best, "used": t.used})
    return pd.DataFrame(rows)


def section(results: Results) -> str:
    """The trials as HTML; empty where there are none."""
    found = trials(results)
    if not found:
        return ""
    ks = sorted({k for of_recipe in found.values() for t in of_recipe for k in t.passk})
    rows, wrong = [], []
    for recipe, of_recipe in found.items():
        best = chosen(of_recipe)
        if not best.used:
            wrong.append(label(recipe))
        for t in of_recipe:
            mark = ", ".join(word for word, holds in (("chosen", t is best), ("used", t.used)) if holds)
            numbers = [t.passk.get(k, float("nan")) for k in ks]
            rows.append((label(recipe), t.settings, mark, *(f"{100 * v:.1f}" for v in (*numbers, t.score))))
    counts = sorted({len(of_recipe) for of_recipe in found.values()})
    same = f"{counts[0]} trials each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials"
    text = (
        f"Percent on validation problems; {same}. Chosen: the highest mean of the columns, after the last step; of "
        "equals the smaller. Used: what the study's recipe has."
    )
    warning = f"The study uses other settings than the rule chooses for: {escape(', '.join(wrong))}."
    shown = table(["recipe", "settings", "", *(f"pass@{k}" for k in ks), "score"], rows, text_columns=3, rules=True)
    return (
        f'<div class="note">{warning}</div>' if wrong else ""
    ) + f'<p class="dim">{escape(text)}</p>{shown}<p class="dim"><a href="tuning.csv">tuning.csv</a></p>'
