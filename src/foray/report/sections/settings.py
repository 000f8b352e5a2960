"""What was done: hyperparameters, seeds and prompts, as the manifest has them."""

from __future__ import annotations

import pandas as pd

from foray.report.columns import RECIPE, TEXT, Column, table
from foray.report.markup import joined, parts
from foray.report.results import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "settings", "Settings", 170

TITLES = {"study": "Settings, by the keys that --set takes", "recipes": "Recipes", "prompts": "Prompts"}


def section(results: Results) -> Section:
    """Every table, folded; nothing for a manifest of an earlier version, which has none."""
    files = {f"settings_{name}": pd.DataFrame(rows) for name, rows in results.settings.items()}
    pieces = []
    for name, title in TITLES.items():
        if rows := results.settings.get(name, ()):
            columns = [Column(head, head, RECIPE if head == "recipe" else TEXT) for head in rows[0]]
            pieces.append(parts.folded(title, table(rows, columns, title, rules=False)))
    return Section(joined(*pieces), files)
