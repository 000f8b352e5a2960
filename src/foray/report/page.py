"""The report as one HTML file: the finding, the chart, the completions, then every section and figure in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from foray.core.task import STORED
from foray.report.chart_data import chart
from foray.report.columns import Column, table
from foray.report.headline import finding, what_abilities_are
from foray.report.markup import intervals_apart, joined
from foray.report.measurements import PassK
from foray.report.page_shell import filled
from foray.report.results import ANY_MODEL, Results
from foray.report.sample_data import browsed
from foray.report.sections.origins import note

LEFT_OUT = 160  # the place of what is not here
MISSING_SHOWN = 12  # for one reason


class Shown(NamedTuple):
    """A ``section`` or ``figure`` as the page shows it; one without ``html`` is left out, for the reason ``absent``."""

    kind: str
    name: str
    title: str
    place: int
    html: str = ""
    absent: str = ""


def page(results: Results, shown: Sequence[Shown]) -> str:
    """The whole page. It loads nothing; its links to the CSV and figure files are relative to its own folder."""
    missing = Shown("section", "left-out", "What is not here", LEFT_OUT, _left_out(results, shown))
    rows = results.rows()
    counts = {
        "checkpoint{} M_t": rows["tokens"].nunique(),
        "pre-training{}": rows["pretrain_seed"].nunique(),
        "post-training seed{}": rows.loc[rows["recipe"] != "base", "seed"].nunique(),
        "pass@k evaluation{}": len(results.select(PassK)),
    }
    counted = "; ".join(f"{n} {what.format('s'[: n != 1])}" for what, n in counts.items() if n)
    summary = (
        f"{results.model_parameters:,} parameters; "
        f"{counted}. Tables, figures and claims show {results.extraction} grading, unless they name another."
    )
    drawn, samples = chart(results), browsed(results)
    read = bool(samples and samples["problems"])
    lead, sentences = finding(results)
    return filled(
        "page.html",
        drawn,
        samples if read else {},
        lead=lead,
        sentences=[intervals_apart(sentence) for sentence in sentences],
        abilities=what_abilities_are(results),
        charted=bool(drawn),
        browsed=read,
        primed="primed" in set(rows["recipe"]),
        title=f"Foray: study {results.study}",
        summary=summary,
        notes=[n for n in (*results.notes, note(results)) if n],
        sections=[s for s in sorted([*shown, missing], key=lambda s: s.place) if s.html],
    )


def _left_out(results: Results, shown: Sequence[Shown]) -> Markup:
    tables = []
    for kind, why in (("section", "why it is not there"), ("figure", "why it is not drawn")):
        if absent := [s for s in shown if s.kind == kind and s.absent]:
            columns = [Column(kind, "title"), Column(why, "absent")]
            tables.append(table(absent, columns, f"{kind.title()}s", rules=False))
    if missing := [*grouped(results.missing), *_gradings_missing(results)]:
        columns = [Column("measurement", lambda row: row[0]), Column("why it is missing", lambda row: row[1])]
        tables.append(table(missing, columns, "Measurements", rules=False))
    return joined(*tables)


def _gradings_missing(results: Results) -> list[tuple[str, str]]:
    """A line for every grading that results of an earlier version lack."""
    evaluations = results.select(PassK, **ANY_MODEL)
    lacking = {grading: sum(grading not in e.counts for e in evaluations) for grading in STORED}
    why = "the results are of an earlier version, which did not grade so"
    return [(f"{grading} grading of {n} pass@k evaluations", why) for grading, n in lacking.items() if n]


def grouped(missing: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """One line for many that are missing for one reason, as when parts of a study have not been run."""
    reasons: dict[str, list[str]] = {}
    for what, why in missing:
        reasons.setdefault(why, []).append(what)
    rows = []
    for why, names in reasons.items():
        few = names if len(names) <= MISSING_SHOWN else [f"{names[0]}, and {len(names) - 1} more"]
        rows += [(name, why) for name in few]
    return rows
