"""What evaluation questions share with what was trained on: a table a text, a row a pair."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from foray.core.spelling import in_tokens
from foray.report.columns import COUNT, Column, Kind, frame_of, table
from foray.report.markup import joined, parts, shortened
from foray.report.measurements import Overlaps
from foray.report.results import ANY_MODEL, Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "contamination", "Overlap between training and evaluation text", 100

EXAMPLE_SHOWN = 160  # characters
# Zero is said as 0: nothing at all, not something that rounds to it.
_PERCENT = Kind(lambda share: "0" if share == 0 else f"{100 * share:.1f}" if share >= 0.001 else "< 0.1")


def rows(found: Overlaps) -> list[dict[str, Any]]:
    """Shares of the questions, and (``ngrams``) of their distinct n-grams. Not percent."""
    place = {"mix": found.mix, "tokens": found.tokens, "task": found.task, "trained_on": found.trained_on}
    counted = [{"text": r["text"], "of": r["of"], "questions": r["questions"], "n": found.n} for r in found.rows]
    return [{**place, **first, **r} for first, r in zip(counted, found.rows)]


def section(results: Results) -> Section:
    asked = results.select(Overlaps, **ANY_MODEL)
    ordered = sorted(asked, key=lambda o: (o.mix, o.task, o.trained_on, o.tokens, o.folder.name))
    files = {"contamination": frame_of([row for found in ordered for row in rows(found)])}
    if not ordered:
        return Section(files=files)
    n = " or ".join(str(n) for n in sorted({o.n for o in ordered}))
    text = (
        "Percent of the questions, in words and numbers without case and punctuation. Whole: all of a question stands "
        "in the text. Same numbers: a question of the text (a line that ends in a question mark) has the question's "
        f"sequence of numbers, whatever the words. Any {n} words: the text shares a run of {n} words with it; "
        "the column behind it is of all such runs. Where questions are made from templates, as in the embedded world, "
        "wordings recur and such runs are no leak of a problem: there the splits are kept apart by the sequence of "
        "numbers, so that whole questions and same numbers must be 0 for every split that is not trained on, while "
        "the training questions show what these measures find where text and questions come from one split."
    )
    return Section(joined(parts.dim(text), *map(_table, ordered)), files)


def _table(found: Overlaps) -> Markup:
    columns = (
        Column("text", "text"),
        Column("questions", "of"),
        Column("whole", "whole", _PERCENT),
        Column("same numbers", "same_numbers", _PERCENT),
        Column(f"any {found.n} words", "any_ngram", _PERCENT),
        Column(f"runs of {found.n}", "ngrams", _PERCENT),
        Column("n", "questions", COUNT),
        Column("example", _example),
    )
    where = [f"{found.mix or 'main'} pre-training text of {in_tokens(found.tokens)} tokens", found.task]
    if found.trained_on != found.task:
        where.append(f"trained on {found.trained_on}")
    return table(rows(found), columns, ", ".join(where))


def _example(row: dict[str, Any]) -> Markup:
    return Markup(parts.example(shortened(row["example"], EXAMPLE_SHOWN)))
