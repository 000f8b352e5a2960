"""pass@k, general average and format of every recipe at every M_t: a table a task."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from foray.core.spelling import in_tokens
from foray.report.columns import COUNT, RATE, SHARE, Column, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import AVERAGE, AXES_BESIDE, COLUMNS, Results, label, recipe_rank, records
from foray.report.sections import Section
from foray.report.stats import Interval

NAME, TITLE, PLACE = "results", "Results", 90

_RATES = {"format_rate": "formatted", "truncated_rate": "truncated"}


def section(results: Results) -> Section:
    main = results.rows()
    beside = results.table.drop(index=main.index)[[*COLUMNS, *AXES_BESIDE]]
    files = {"results": main[list(COLUMNS)], "beside": beside if len(beside) else pd.DataFrame()}
    if not results.select(PassK):
        return Section(Markup(parts.dim("No pass@k evaluation has finished yet.")), files)
    return Section(joined(*(_of_task(results, task) for task in results.tasks)), files)


def _of_task(results: Results, task: str) -> Markup:
    passk = [f"pass@{k}" for k in results.ks]
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for found in records(results.curve([*passk, *_RATES], [task])):
        first = {"tokens": found.tokens, "ratio": found.tokens_per_parameter, "n": found.n, "runs": found.runs}
        row = rows.setdefault((found.tokens, found.recipe), first | {"recipe": label(found.recipe, found.shots)})
        row[found.metric] = Interval(found.value, found.lo, found.hi, found.n)
    for found in records(results.curve(["acc"], [AVERAGE])):
        if (found.tokens, found.recipe) in rows:
            rows[found.tokens, found.recipe][AVERAGE] = Interval(found.value, found.lo, found.hi, found.n)
    columns = [
        Column("tokens (per parameter)", lambda row: f"{in_tokens(row['tokens'])} ({row['ratio']:.2g})"),
        Column("recipe", "recipe"),
        *(Column(metric, metric, SHARE) for metric in passk),
        Column("general average", AVERAGE, SHARE),
        *(Column(heading, metric, RATE) for metric, heading in _RATES.items()),
        Column("n", "n", COUNT),
        Column("runs", "runs", COUNT),
    ]
    counts = [e.counts[results.extraction] for e in results.select(PassK, task=task)]
    samples = sorted({int(c.samples.min()) for c in counts})
    text = (
        f"Percent on {task}, {results.extraction} grading, from {' or '.join(map(str, samples))} samples a problem. "
        "n counts problems; the general average is the plain mean of the probes. results.csv has every grading."
    )
    guess = results.passk_rows(task, results.ks, recipe="base").dropna(subset=["chance"]).drop_duplicates("metric")
    if len(guess):
        known = " / ".join(f"{100 * chance:.1f}" for chance in guess.sort_values("chance")["chance"])
        text += f" Answers drawn from the training answers, the question unread, reach {known} ({' / '.join(passk)})."
    order = sorted(rows, key=lambda place: (place[0], recipe_rank(place[1])))
    caption = f"{task}: every recipe at every M_t"
    return joined(parts.dim(text), table([rows[place] for place in order], columns, caption))
