"""A few completions of every recipe at the last checkpoint that keeps completions."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from markupsafe import Markup

from foray.core.spelling import in_tokens
from foray.report.markup import joined, parts, shortened
from foray.report.results import Results, label
from foray.report.sample_data import rows_with_samples
from foray.report.sections import Section

NAME, TITLE, PLACE = "samples", "Sample completions", 150

PROBLEMS_SHOWN = 2
SAMPLES_SHOWN = 2
TEXT_SHOWN = 1500  # characters of one completion


def section(results: Results) -> Section:
    if not results.tasks:
        return Section()
    task = results.tasks[0]
    kept: dict[int, dict[str, list[Any]]] = {}  # rows by tokens and recipe
    for recipe in results.recipes(task):
        for e in sorted(results.finals(recipe, task), key=lambda e: (e.tokens, e.run), reverse=True):
            if rows := list(islice(rows_with_samples(e.folder / "completions.jsonl"), PROBLEMS_SHOWN)):
                kept.setdefault(e.tokens, {}).setdefault(label(recipe, e.shots), rows)
    if not kept:
        return Section()
    tokens = max(kept)
    text = f"{task}, M_t of {in_tokens(tokens)} tokens; one right, one wrong where both exist ({results.extraction})."
    field = results.verdict_field
    pieces = [joined(parts.heading(name), *(_problem(r, field) for r in rows)) for name, rows in kept[tokens].items()]
    return Section(joined(parts.dim(text), *pieces))


def _problem(row: Mapping[str, Any], field: str) -> Markup:
    """``field``: that of a sample's verdict."""
    samples = list(row.get("samples", ()))
    right, wrong = ([s for s in samples if bool(s.get(field)) == is_right] for is_right in (True, False))
    # One of each where there are both, otherwise the first two.
    shown = [right[0], wrong[0]] if right and wrong else samples[:SAMPLES_SHOWN]
    texts = [(bool(s.get(field)), shortened(s.get("text", ""), TEXT_SHOWN)) for s in shown]
    question, answer = (shortened(row.get(name, ""), TEXT_SHOWN) for name in ("question", "answer"))
    return Markup(parts.problem(question, answer, len(right), len(samples), texts))
