"""Perplexity and bits per byte of held-out text, by source, and what each recipe adds to the bits per byte."""

from __future__ import annotations

import math
from typing import Any

from foray.report.columns import RECIPE, TOKENS, Column, Kind, frame_of, table
from foray.report.markup import joined, parts
from foray.report.results import Results, recipe_rank, records
from foray.report.sections import Section
from foray.report.text_costs import bits_changes, sources_of

NAME, TITLE, PLACE = "perplexity", "Held-out perplexity", 140

_VALUE = Kind(lambda value: f"{value:.2f}" if value < 1e4 else f"{value:.2g}")
_BITS = Kind(
    lambda row: (
        f"{row['bits_per_byte']:.3f}"
        if math.isnan(row["change"])
        else parts.with_range(f"{row['bits_per_byte']:.3f}", f"{row['change']:+.3f}")
    )
)
_TEXT = (
    "Bits per byte, by source. Below each recipe's number is its difference from the base of the same M_t: a cost that "
    "probes of general abilities hide. A task's text is the question and the first solution of its problems, without "
    "examples. One number a source has no interval. "
)


def rows(results: Results) -> list[dict[str, Any]]:
    """One an M_t, recipe and source. ``change``: of bits per byte, against the base of the same M_t."""
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    changes: dict[str, dict[tuple[int, str], float]] = {}
    for row in records(results.curve(["perplexity", "bits_per_byte"], sources_of(results))):
        if row.recipe != "base" and row.recipe not in changes:
            changes[row.recipe] = bits_changes(results, row.recipe)
        first = {"tokens": row.tokens, "tokens_per_parameter": row.tokens_per_parameter, "recipe": row.recipe}
        change = changes.get(row.recipe, {}).get((row.tokens, row.task), math.nan)
        first |= {"source": row.task, "perplexity": math.nan, "bits_per_byte": math.nan, "change": change}
        found.setdefault((row.tokens, row.recipe, row.task), first | {"runs": row.runs})[row.metric] = row.value
    places = {source: place for place, source in enumerate(sources_of(results))}
    return [found[p] for p in sorted(found, key=lambda p: (p[0], recipe_rank(p[1]), places[p[2]]))]


def section(results: Results) -> Section:
    found = rows(results)
    files = {"perplexity": frame_of(found)}
    if not found:
        return Section(files=files)
    pages: dict[tuple[int, str], dict[Any, Any]] = {}
    for row in found:
        place = {"tokens": row["tokens"], "recipe": row["recipe"]}
        page = pages.setdefault((row["tokens"], row["recipe"]), place)
        page["perplexity", row["source"]] = row["perplexity"]
        if not math.isnan(row["bits_per_byte"]):  # an earlier version wrote none
            page["bits", row["source"]] = row
    shown = {what: [s for s in sources_of(results) if any((what, s) in p for p in pages.values())]
             for what in ("bits", "perplexity")}  # fmt: skip

    def of(what: str, kind: Kind, caption: str) -> str:
        first = [Column("tokens", "tokens", TOKENS), Column("recipe", "recipe", RECIPE)]
        columns = [Column(source, (what, source), kind) for source in shown[what]]
        return table(pages.values(), first + columns, caption)

    bits = joined(parts.dim(_TEXT), of("bits", _BITS, "Bits per byte, by source")) if shown["bits"] else ""
    text = joined(bits, of("perplexity", _VALUE, "Perplexity per token, by source"))
    return Section(text, files)
