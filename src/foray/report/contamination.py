"""What evaluation questions share with what was trained on: one table, a row for every pair."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from foray.report import markup
from foray.report.measured import Overlaps
from foray.report.results import Results

SHARES = ("whole", "same_numbers", "any_ngram", "ngrams")
COLUMNS = ("mix", "tokens", "task", "trained_on", "text", "of", "questions", "n", *SHARES, "example")
EXAMPLE_SHOWN = 160  # characters


def table(results: Results) -> pd.DataFrame:
    """``contamination.csv``: shares of the questions, and (``ngrams``) of their distinct n-grams. Not percent."""
    rows = [
        {"mix": x.mix, "tokens": x.tokens, "task": x.task, "trained_on": x.trained_on, "n": found.n, **row}
        for found in _in_order(results)
        for x in [found.entry]
        for row in found.rows
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _in_order(results: Results) -> list[Overlaps]:
    """By mix, task and size, whatever order the manifest has."""
    return sorted(
        results.contamination,
        key=lambda o: (o.entry.mix, o.entry.task, o.entry.trained_on, o.entry.tokens, o.entry.folder.name),
    )


def section(results: Results) -> str:
    parts = [_table(found) for found in _in_order(results)]
    if not parts:
        return ""
    n = " or ".join(str(n) for n in sorted({o.n for o in results.contamination}))
    text = (
        "Percent of the questions, in words and numbers without case and punctuation. Whole: all of a question stands "
        "in the text. Same numbers: a question of the text (a line that ends in a question mark) has the question's "
        f"sequence of numbers, whatever the words. Any {n} words: the text shares a run of {n} words with it; "
        "the column behind it is of all such runs. Where questions are made from templates, as in the embedded world, "
        "wordings recur and such runs are no leak of a problem: there the splits are kept apart by the sequence of "
        "numbers, so that whole questions and same numbers must be 0 for every split that is not trained on, while "
        "the training questions show what these measures find where text and questions come from one split."
    )
    files = '<p class="dim"><a href="contamination.csv">contamination.csv</a></p>'
    return f'<p class="dim">{escape(text)}</p>' + "\n".join(parts) + files


def _table(found: Overlaps) -> str:
    entry, n = found.entry, found.n
    headers = ["text", "questions", "whole", "same numbers", f"any {n} words", f"runs of {n}", "n", "example"]
    rows = [_row(row) for row in found.rows]
    where = [f"{entry.mix or 'main'} pre-training text of {markup.in_tokens(entry.tokens)} tokens", entry.task]
    if entry.trained_on != entry.task:
        where.append(f"trained on {entry.trained_on}")
    return f"<h3>{escape(', '.join(where))}</h3>" + markup.table(headers, rows, text_columns=2, rules=True)


def _row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    example = str(row["example"])
    shown = example if len(example) <= EXAMPLE_SHOWN else example[:EXAMPLE_SHOWN] + " […]"
    small = markup.Markup(f'<span class="example">{escape(shown)}</span>')
    return (row["text"], row["of"], *(_percent(float(row[name])) for name in SHARES), row["questions"], small)


def _percent(share: float) -> str:
    """Zero is said as 0: nothing at all, not something that rounds to it."""
    return "0" if share == 0 else f"{100 * share:.1f}" if share >= 0.001 else "< 0.1"
