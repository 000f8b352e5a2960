"""What the study says of the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from foray.core.spelling import in_tokens, per_parameter
from foray.report.columns import NOTHING, POINTS, Column, badge, frame_of, table
from foray.report.comparisons import SIDES, Ruling
from foray.report.markup import joined, parts, with_minus
from foray.report.measurements import PassK
from foray.report.results import Results
from foray.report.rules import CLAIMS, rule_on
from foray.report.sections import Section
from foray.report.stats import ENOUGH_PRETRAININGS

NAME, TITLE, PLACE = "claims", "What this study says of the paper's claims", 10

_TEXT = (
    "Each answer follows from a fixed rule (docs/claims.md). Most claims need several comparisons. The table shows the "
    "one that decided, why that one, where its 95% interval must lie for the claim, and where the interval lies, in "
    "points. The table below it has all of them. A claim about every M_t needs each comparison to hold; a search for "
    "some M_t is corrected by Holm's method."
)
_PAPER = (
    " Beside the points stands the paper's effect in the same comparison, at its M_t nearest in tokens per parameter. "
    "Its numbers are percent, of a 1B model on GSM8K and MATH: compare directions, not sizes."
)


def _why(row: dict[str, Any]) -> str | Markup:
    note = with_minus(str(row["note"]))
    if not row["effect"]:
        return note
    decider = Markup(parts.with_range(row["effect"], with_minus(f"{row['why']}; must lie {row['must']}")))
    return Markup(parts.with_range(decider, note))


def _theirs(row: dict[str, Any]) -> str | Markup:
    there = row["paper_at"] is not None
    value = with_minus(f"{100 * row['paper_value']:+.1f}") if there else ""
    return Markup(parts.with_range(value, f"at {row['paper_at']}")) if there else "–"


def _place(row: Mapping[str, Any]) -> str:
    return f"{in_tokens(row['tokens'])} ({per_parameter(row['tokens_per_parameter'])})"


COLUMNS = (
    Column("number", "claim"),
    Column("claim", "statement"),
    Column("answer", badge("answer", SIDES)),
    Column("decided by", _why),
    Column("points", "value", POINTS),
)
PAPER_COLUMNS = (*COLUMNS, Column("the paper's", _theirs), Column("in the paper", "paper"))
NEEDS = (
    Column("number", "claim"),
    Column("comparison", "comparison"),
    Column("M_t (per parameter)", _place),
    Column("points", "value", POINTS),
    Column("must lie", lambda row: with_minus(row["must"])),
    Column("speaks", "says"),
    Column("decides as", "why"),
)


def rulings_on(results: Results) -> dict[str, Ruling]:
    """By the claim's name."""
    return {claim.name: rule_on(claim, results) for claim in CLAIMS}


def rows(results: Results, rulings: Mapping[str, Ruling]) -> list[dict[str, Any]]:
    """One a claim. Shares, not percent; the paper's numbers in ``paper`` are in percent, as it prints them."""
    found = []
    for claim in CLAIMS:
        ruling = rulings[claim.name]
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


def needs(rulings: Mapping[str, Ruling], results: Results) -> list[dict[str, Any]]:
    """One a comparison that a claim needs; ``why``: why it decided, empty where it did not."""
    return [
        {
            "claim": name,
            "comparison": n.what,
            "tokens": n.tokens,
            "tokens_per_parameter": n.tokens / results.model_parameters,
            "value": n.difference.interval,
            "must": n.must,
            "says": n.says,
            "why": ruling.why if n is ruling.decider else "",
        }
        for name, ruling in rulings.items()
        for n in ruling.needs
    ]


def section(results: Results) -> Section:
    rulings = rulings_on(results)
    found = rows(results, rulings)
    columns = PAPER_COLUMNS if results.paper else COLUMNS
    run, rest = ([r for r in found if (r["answer"] == "not run") == lacking] for lacking in (False, True))
    said = f"{len(rest)} claim{'s'[: len(rest) != 1]} not run"
    reasons = {name: {"why": r.why, "must": r.decider.must if r.decider else ""} for name, r in rulings.items()}
    run = [row | reasons[row["claim"]] for row in run]
    asked = needs(rulings, results)
    shown = joined(
        table(run, columns, "The claims and their answers", rules=False, stacked=True) if run else "",
        table(asked, NEEDS, "All comparisons that the claims need") if asked else "",
        parts.folded(said, table(rest, columns, said, rules=False, stacked=True)) if rest else "",
    )
    graded = f"Both sides of a comparison are graded alike: {results.extraction}, unless it says otherwise."
    text = f"{_TEXT}{_PAPER if results.paper else ''} {graded}"
    html = joined(parts.note(scope(results)), parts.dim(text), shown)
    return Section(html, {"claims": frame_of(found), "comparisons": frame_of(asked)})


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
            f"{every}. Intervals of means over {ENOUGH_PRETRAININGS} pre-trainings or more speak of other problems of "
            "the same kind and of other pre-trainings like these, with what follows them, not of other sizes or "
            f"worlds. Means over fewer speak of these pre-trainings alone.{partial}"
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
