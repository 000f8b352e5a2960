"""Every seed's value, where a recipe has several from one M_t."""

from __future__ import annotations

from typing import Any

import numpy as np

from foray.report.columns import COUNT, TOKENS, Column, table
from foray.report.markup import joined, parts
from foray.report.results import Results, label, metric_rank, recipe_rank, records
from foray.report.sections import Section
from foray.report.verdicts import top_k

NAME, TITLE, PLACE = "seeds", "Spread between seeds", 30

_TEXT = (
    "Percent, one value a run in order of pre-training seed and seed, all on the same problems; sd and range over "
    "all of them in points."
)
COLUMNS = (
    Column("tokens", "tokens", TOKENS),
    Column("recipe", "recipe"),
    Column("metric", "metric"),
    Column("each run", lambda r: ", ".join(f"{v:.1f}" for v in r["values"])),
    Column("sd", lambda r: f"{np.std(r['values'], ddof=1):.1f}", COUNT),
    Column("range", lambda r: f"{max(r['values']) - min(r['values']):.1f}", COUNT),
)


def section(results: Results) -> Section:
    rows = []
    for task in results.tasks:
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for row in records(results.passk_rows(task, sorted({1, top_k(results, task)}), final=True)):
            place = (row.tokens, recipe_rank(row.recipe), row.recipe, metric_rank(row.metric), row.metric, row.shots)
            groups.setdefault(place, []).append(row)
        for (tokens, _, recipe, _, metric, shots), runs in sorted(groups.items(), key=lambda item: item[0][:4]):
            values = [100 * r.value for r in sorted(runs, key=lambda r: (r.pretrain_seed, r.seed))]
            if len(values) > 1:
                of = {"recipe": label(recipe, shots), "metric": f"{task}, {metric}"}
                rows.append({"tokens": tokens, "values": values, **of})
    return Section(joined(parts.dim(_TEXT), table(rows, COLUMNS, "Each run"))) if rows else Section()
