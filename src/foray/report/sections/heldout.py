"""Perplexity of held-out text, by source."""

from __future__ import annotations

from typing import Any

from foray.report.columns import RECIPE, TOKENS, Column, Kind, table
from foray.report.markup import joined, parts
from foray.report.results import Results, recipe_rank, records
from foray.report.sections import Section

NAME, TITLE, PLACE = "perplexity", "Held-out perplexity", 140

_VALUE = Kind(lambda value: f"{value:.2f}" if value < 1e4 else f"{value:.2g}")


def section(results: Results) -> Section:
    sources = sorted(results.rows(metric="perplexity")["task"].unique())
    rows: dict[tuple[int, str], dict[Any, Any]] = {}
    for row in records(results.curve(["perplexity"], sources)):
        place = {"tokens": row.tokens, "recipe": row.recipe}
        rows.setdefault((row.tokens, row.recipe), place)["source", row.task] = row.value
    columns = [Column("tokens", "tokens", TOKENS), Column("recipe", "recipe", RECIPE)]
    columns += [Column(source, ("source", source), _VALUE) for source in sources]
    ordered = [rows[place] for place in sorted(rows, key=lambda place: (place[0], recipe_rank(place[1])))]
    return Section(joined(parts.dim("Per token, by source."), table(ordered, columns))) if rows else Section()
