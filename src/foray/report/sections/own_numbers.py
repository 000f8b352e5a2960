"""Measurements of the user's own: a table each."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from foray.report.columns import RECIPE, TOKENS, Column, Kind, table
from foray.report.markup import joined
from foray.report.results import Results, recipe_rank, records
from foray.report.sections import Section
from foray.report.stats import Interval

NAME, TITLE, PLACE = "own", "Your own measurements", 145


def _value(found: Interval) -> str:
    return f"{found.value:.4g}" if math.isnan(found.lo) else f"{found.value:.4g} [{found.lo:.4g}, {found.hi:.4g}]"


def section(results: Results) -> Section:
    names = sorted({m.task for m in results.measured if m.kind == "measure"})
    return Section(joined(*(_table(results, name) for name in names))) if names else Section()


def _table(results: Results, name: str) -> Markup:
    metrics = sorted(results.rows(task=name)["metric"].unique())
    rows: dict[tuple[int, str], dict[Any, Any]] = {}
    for row in records(results.curve(metrics, [name])):
        place = {"tokens": row.tokens, "recipe": row.recipe}
        found = Interval(row.value, row.lo, row.hi, row.n)
        rows.setdefault((row.tokens, row.recipe), place)["metric", row.metric] = found
    columns = [Column("tokens", "tokens", TOKENS), Column("recipe", "recipe", RECIPE)]
    columns += [Column(metric, ("metric", metric), Kind(_value)) for metric in metrics]
    ordered = [rows[place] for place in sorted(rows, key=lambda place: (place[0], recipe_rank(place[1])))]
    return table(ordered, columns, name)
