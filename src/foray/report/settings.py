"""The generated table of what was done: hyperparameters, seeds and prompts, as the manifest has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from foray.report.markup import label, table
from foray.report.results import Results

TITLES = {"study": "Settings, by the keys that --set takes", "recipes": "Recipes", "prompts": "Prompts"}


def section(results: Results) -> str:
    """Every table as HTML, folded; empty for a manifest without them."""
    parts = []
    for name, title in TITLES.items():
        rows: Sequence[Mapping[str, str]] = results.settings.get(name, ())
        if rows:
            heads = list(rows[0])
            cells = [[label(row[h]) if h == "recipe" else row[h] for h in heads] for row in rows]
            shown = table(heads, cells, text_columns=len(heads))
            parts.append(f"<details><summary>{escape(title)}</summary>{shown}</details>")
    files = " · ".join(f'<a href="settings_{name}.csv">settings_{name}.csv</a>' for name in TITLES)
    return "\n".join(parts) + f'<p class="dim">{files}</p>' if parts else ""
