"""What the study says of the paper's claims."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from foray.report.columns import NOTHING, POINTS, Column, badge, frame_of, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import Results
from foray.report.rules import CLAIMS, rule_on
from foray.report.sections import Section
from foray.report.stats import ENOUGH_PRETRAININGS

NAME, TITLE, PLACE = "claims", "What this study says of the paper's claims", 10

_TEXT = (
    "Each answer follows from a fixed rule (docs/claims.md). Beside it stands the comparison that decided, in "
    "points with its 95% interval: the weakest of those a claim needs, or the one against it, or the first for "
    "which it holds. A claim about every M_t needs each to hold; a search for some M_t is corrected by Holm's "
    "method."
)
_PAPER = (
    " Beside the points stands the paper's effect in the same comparison, at its M_t nearest in tokens per parameter. "
    "Its numbers are percent, of a 1B model on GSM8K and MATH: compare directions, not sizes."
)


def _why(row: dict[str, Any]) -> str | Markup:
    return Markup(parts.with_range(row["effect"], row["note"])) if row["effect"] else str(row["note"])


def _theirs(row: dict[str, Any]) -> str | Markup:
    there = row["paper_at"] is not None
    return Markup(parts.with_range(f"{100 * row['paper_value']:+.1f}", f"at {row['paper_at']}")) if there else "–"


COLUMNS = (
    Column("number", "claim"),
    Column("claim", "statement"),
    Column("answer", badge("answer", {"shown": "for", "shown, in form": "for", "contradicted": "against"})),
    Column("points", "value", POINTS),
    Column("decided by", _why),
)
PAPER_COLUMNS = (*COLUMNS[:-1], Column("the paper's", _theirs), COLUMNS[-1], Column("in the paper", "paper"))


def rows(results: Results) -> list[dict[str, Any]]:
    """One a claim. Shares, not percent; the paper's numbers in ``paper`` are in percent, as it prints them."""
    found = []
    for claim in CLAIMS:
        ruling = rule_on(claim, results)
        row: dict[str, Any] = {
            "claim": claim.name,
            "statement": claim.statement,
            "answer": ruling.answer,
            "effect": ruling.effect,
        }
        row |= {"value": ruling.interval or NOTHING, "note": ruling.note}
        if results.paper:
            value, at = ruling.paper or (None, None)
            row |= {"paper_value": value, "paper_at": at, "paper": claim.paper}
        found.append(row)
    return found


def section(results: Results) -> Section:
    found = rows(results)
    columns = PAPER_COLUMNS if results.paper else COLUMNS
    run, rest = ([r for r in found if (r["answer"] == "not run") == lacking] for lacking in (False, True))
    said = f"{len(rest)} claims that were not run"
    shown = joined(
        table(run, columns, "The claims and their answers", rules=False) if run else "",
        parts.folded(said, table(rest, columns, said, rules=False)) if rest else "",
    )
    graded = f"Both sides of a comparison are graded alike: {results.extraction}, unless it says otherwise."
    text = f"{_TEXT}{_PAPER if results.paper else ''} {graded}"
    html = joined(parts.note(scope(results)), parts.dim(text), shown, parts.files(["claims"]))
    return Section(html, {"claims": frame_of(found)})


def scope(results: Results) -> str:
    """What the numbers of this study can speak of, given its seeds."""
    evaluations = results.select(PassK)
    starts = {e.pretrain_seed for e in evaluations if e.recipe == "base"}
    runs: dict[tuple[str, int, str, int], set[int]] = {}
    for e in evaluations:
        if e.final and e.recipe != "base":
            runs.setdefault((e.recipe, e.tokens, e.task, e.pretrain_seed), set()).add(e.seed)
    fewest, most = (f((len(s) for s in runs.values()), default=0) for f in (min, max))
    missing = len(results.missing)
    partial = f" {missing} measurements are missing: the answers are of what is there." if missing else ""
    pretrained = f"{max(1, len(starts))} pre-training run{'s'[: len(starts) > 1]}"
    every = f"Scope: {pretrained}, {_seeds(fewest, most)}"
    if len(starts) >= ENOUGH_PRETRAININGS:
        return (
            f"{every}. Intervals of means speak of other problems of the same kind and of other pre-trainings like "
            f"these, with what follows them, not of other sizes or worlds.{partial}"
        )
    if most <= 1:
        return (
            f"{every}. Intervals speak of other problems of the same kind, not of "
            f"other seeds or pre-trainings: a recipe trained again may differ by more.{partial}"
        )
    each = " each" if len(starts) > 1 else ""
    return (
        f"{every}{each}. Intervals of means over seeds speak of other "
        "problems of the same kind and of other post-training seeds from these pre-trainings, not of other "
        f"pre-trainings, sizes or worlds.{partial}"
    )


def _seeds(fewest: int, most: int) -> str:
    if most <= 1:
        return "one post-training seed"
    return f"{fewest} to {most} post-training seeds" if fewest < most else f"{most} post-training seeds"
