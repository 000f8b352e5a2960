"""pass@k, general average and format of every recipe at every M_t: a table a task."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup

from foray.core.spelling import in_tokens, per_parameter
from foray.report.columns import COUNT, RATE, Column, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.model_table import RATES, guess_words, model_columns, model_rows, samples_words
from foray.report.results import AXES_BESIDE, COLUMNS, Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "results", "Results", 90


def section(results: Results) -> Section:
    main = results.rows()
    beside = results.table.drop(index=main.index)[[*COLUMNS, *AXES_BESIDE]]
    files = {"results": main[list(COLUMNS)], "beside": beside if len(beside) else pd.DataFrame()}
    if not results.select(PassK):
        return Section(Markup(parts.dim("No pass@k evaluation has finished yet.")), files)
    return Section(joined(*(_of_task(results, task) for task in results.tasks)), files)


def _of_task(results: Results, task: str) -> Markup:
    rows = sorted(model_rows(results, task), key=lambda row: row["tokens"])
    columns = [
        Column("tokens (per parameter)", lambda row: f"{in_tokens(row['tokens'])} ({per_parameter(row['ratio'])})"),
        Column("recipe", "recipe"),
        *model_columns(results),
        *(Column(name.removesuffix("_rate").replace("format", "formatted"), name, RATE) for name in RATES),
        Column("n", "n", COUNT),
        Column("runs", "runs", COUNT),
    ]
    text = (
        f"Percent on {task}, {results.extraction} grading, from {samples_words(results, task)} samples a problem. "
        "n counts problems; the general average is the plain mean of the probes. results.csv has every grading. "
        f"{guess_words(results, task)}"
    )
    return joined(parts.dim(text.strip()), table(rows, columns, f"{task}: every recipe at every M_t"))
