"""Learning-rate trials: every recipe's, by a rule that was written down before any was run.

The rule: of a recipe's trials, the one with the highest mean of pass@1, pass@8 and pass@K on validation problems, each
model taken after its last step; of equals the first, which is the smallest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foray.report.columns import RATE, RECIPE, Column, frame_of, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import ANY_MODEL, TRAIN, Results, label, recipe_rank
from foray.report.sections import Section

NAME, TITLE, PLACE = "tuning", "How learning rates were chosen", 60


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
    found: dict[str, dict[str, list[PassK]]] = {}
    for e in results.select(PassK, final=True, **ANY_MODEL):
        if e.split and e.split != TRAIN and e.variant:
            found.setdefault(e.recipe, {}).setdefault(e.variant, []).append(e)
    return {
        recipe: [
            Trial(recipe, settings, _passk(results, runs), all(e.own for e in runs))
            for settings, runs in found[recipe].items()
        ]
        for recipe in sorted(found, key=recipe_rank)
    }


def _passk(results: Results, runs: list[PassK]) -> dict[int, float]:
    counts = [e.counts[results.extraction] for e in runs]
    most = min(int(c.samples.min()) for c in counts)
    return {k: float(np.mean([c.pass_at(k).mean() for c in counts])) for k in results.ks if k <= most}


def chosen(of_recipe: list[Trial]) -> Trial:
    """What the rule chooses."""
    return max(of_recipe, key=lambda t: t.score)  # the first of equals


def _mark(row: dict[str, Any]) -> str:
    return ", ".join(word for word in ("chosen", "used") if row[word])


def section(results: Results) -> Section:
    """A row a trial. Shares, not percent."""
    found = trials(results)
    rows: list[dict[str, Any]] = []
    for of_recipe in found.values():
        best = chosen(of_recipe)
        for t in of_recipe:
            passk = {f"pass@{k}": value for k, value in t.passk.items()}
            row = {"recipe": t.recipe, "settings": t.settings, **passk, "score": t.score}
            rows.append(row | {"chosen": t is best, "used": t.used})
    files = {"tuning": frame_of(rows)}
    if not rows:
        return Section(files=files)
    counts = sorted({len(of_recipe) for of_recipe in found.values()})
    same = f"{counts[0]} trials each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials"
    text = (
        f"Percent on validation problems; {same}. Chosen: the highest mean of the columns, after the last step; of "
        "equals the smaller. Used: what the study's recipe has."
    )
    wrong = [label(recipe) for recipe, of_recipe in found.items() if not chosen(of_recipe).used]
    warning = f"The study uses other settings than the rule chooses for: {', '.join(wrong)}."
    ks = sorted({k for of_recipe in found.values() for t in of_recipe for k in t.passk})
    columns = [Column("recipe", "recipe", RECIPE), Column("settings", "settings"), Column("", _mark)]
    columns += [*(Column(f"pass@{k}", f"pass@{k}", RATE) for k in ks), Column("score", "score", RATE)]
    note = parts.note(warning) if wrong else ""
    return Section(joined(note, parts.dim(text), table(rows, columns), parts.files(list(files))), files)
