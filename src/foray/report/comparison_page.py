"""The report of two studies side by side: one HTML file, and its numbers as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from foray.core.changed_settings import changed_settings
from foray.core.files import write_atomic
from foray.report.between_studies import (
    ONLY_OURS,
    ONLY_THEIRS,
    between,
    both_of,
    is_same,
    passk_rows,
    unlike_problems,
)
from foray.report.chart_data import differences_chart
from foray.report.columns import COUNT, POINTS, SHARE, TOKENS, Column, badge, csv_text, frame_of, table
from foray.report.comparison_words import Lack, asked_apart, differs, lacks, same_in_both, sentences, unfinished
from foray.report.comparisons import SIDES
from foray.report.forms import write_tables
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.model_table import beside_words
from foray.report.page import Shown, grouped
from foray.report.page_shell import filled
from foray.report.printed import Printed
from foray.report.results import AVERAGE, Results, label
from foray.report.sections import claims

_TEXT = (
    "In percent, means over runs; A − B in points. Paired: the difference is taken problem by problem, and between "
    "runs of equal seeds where both have them. A, B and A − B are then over the problems and the runs that both have, "
    "and n counts these problems. With other seeds the interval speaks of other problems, and of other seeds only as "
    "far as a study has several runs. Unpaired: no problem is in both. A and B are then over all their problems, and "
    "the interval of A − B is that of two independent means. Each interval is at 95% by itself: of twenty differences "
    "that are none, one will look like one."
)


class Written(NamedTuple):
    """The page, and the lines that it begins with where A and B are no two whole studies."""

    page: Path
    first: list[str]


def write_comparison(
    ours: Results, theirs: Results, names: tuple[str, str], out: Path, tables: Sequence[str] = (),
    commands: tuple[str, str] = ("", ""),
) -> Written:  # fmt: skip
    """Writes ``index.html``, ``comparison.csv``, ``settings.csv`` and ``claims.csv`` into ``out``.

    ``names``: what the page calls A (the first) and B. ``tables``: further forms of the numbers, of ``FORMS``.
    ``commands``: what computes the rest of A and of B, where that is known. Raises ValueError where the two have
    measured nothing alike.
    """
    rows = between(ours, theirs)
    if all(row["compared"] in (ONLY_OURS, ONLY_THEIRS) for row in rows):
        raise ValueError(
            f"{names[0]} and {names[1]} share no model on one task and M_t, so there is nothing to compare"
        )
    settings = changed_settings(*(results.settings.get("study", ()) for results in (ours, theirs)))
    answers = _claims(ours, theirs)
    files = {"comparison": rows, "settings": settings, "claims": answers}
    out.mkdir(parents=True, exist_ok=True)
    for stem, found in files.items():
        write_atomic(out / f"{stem}.csv", csv_text(_named(frame_of(found))))
    lacking, two, extraction = lacks(rows, ours, theirs, commands), [r for r in rows if differs(r)], ours.extraction
    printed = [_printed(two, *place, names) for place in _places(two) if place[1] in (extraction, "")]
    write_tables(out / "comparison.csv", printed, tables)
    shown = [
        Shown("section", "numbers", "Side by side", 0, _numbers(two, lacking, extraction)),
        Shown("section", "settings", "Settings that differ", 1, _settings(settings, ours, theirs)),
        Shown("section", "claims", "The paper's claims", 2, _answers(answers)),
    ]
    drawn = _chart(ours, theirs)
    page = filled(
        "comparison.html", drawn, {}, title="Foray: A against B", names=names, charted=bool(drawn),
        lacking=lacking, sentences=sentences(rows, ours), notes=_notes(rows, ours, theirs, lacking), sections=shown,
    )  # fmt: skip
    write_atomic(out / "index.html", page)
    first = [*(f"{lack.text} {lack.command}".strip() for lack in lacking), same_in_both(rows)]
    return Written(out / "index.html", [line for line in first if line])


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns as a reader of the files knows them."""
    sides = {"ours": "a", "theirs": "b", "value": "difference", "lo": "difference_lo", "hi": "difference_hi"}
    ends = {f"{side}_{end}": f"{name}_{end}" for side, name in sides.items() for end in ("lo", "hi", "answer", "asked")}
    return frame.rename(columns=sides | ends)


def _settings(found: Sequence[Mapping[str, str]], ours: Results, theirs: Results) -> str:
    if not ours.settings or not theirs.settings:
        return parts.dim("A report of an earlier version lists no settings: write it again with foray report STUDY.")
    if not found:
        return parts.dim("None: both studies have the same settings.")
    named = any(row["part"] for row in found)
    columns = [*([Column("part", "part")] if named else []), Column("setting", "key")]
    columns += [Column("A", "ours"), Column("B", "theirs")]
    return joined(
        table(found, columns, "Settings, by the keys that --set takes", rules=False), parts.files(["settings"])
    )


def _claims(ours: Results, theirs: Results) -> list[dict[str, Any]]:
    found = zip(*(claims.rows(results, claims.rulings_on(results)) for results in (ours, theirs)))
    same = ("claim", "statement")
    sides = ("ours", "theirs")
    return [
        {name: pair[0][name] for name in same}
        | {f"{side}_answer": row["answer"] for side, row in zip(sides, pair)}
        | {side: row["value"] for side, row in zip(sides, pair)}
        for pair in found
    ]


def _answers(found: Sequence[Mapping[str, Any]]) -> str:
    columns = (
        Column("number", "claim"),
        Column("claim", "statement"),
        Column("A", badge("ours_answer", SIDES)),
        Column("B", badge("theirs_answer", SIDES)),
        Column("A, points", "ours", POINTS),
        Column("B, points", "theirs", POINTS),
    )
    text = "Each study's own answer, by the rules of docs/claims.md, and the difference that decided it."
    run = [row for row in found if {row["ours_answer"], row["theirs_answer"]} != {"not run"}]
    rest = ", ".join(row["claim"] for row in found if row not in run)
    shown = table(run, columns, "The claims and both answers", rules=False) if run else ""
    return joined(
        parts.dim(text), shown, parts.dim(f"Run in neither: {rest}.") if rest else "", parts.files(["claims"])
    )


def _numbers(rows: Sequence[Mapping[str, Any]], lacking: Sequence[Lack], grading: str) -> str:
    """A table for each task, grading and metric; other gradings than the first study's are folded."""
    shown, folded = list[str](), list[str]()
    for place in _places(rows):
        made = _table(rows, *place)
        html = table(made.rows, made.columns, made.caption)
        (shown if place[1] in (grading, "") else folded).append(html)
    other = parts.folded("By the other gradings", joined(*folded)) if folded else ""
    text = parts.dim(_TEXT) if rows else ""
    return joined(text, *shown, other, _alone(lacking), parts.files(["comparison"]))


def _alone(lacking: Sequence[Lack]) -> str:
    """The models of one side alone, folded: they are no comparison, and their values are in the CSV."""
    named = [f"{lack.side} has no results of: {lack.names(len(lack.models))}." for lack in lacking]
    title = f"Only in one of the two ({sum(len(lack.models) for lack in lacking)})"
    return parts.folded(title, joined(*map(parts.dim, named))) if named else ""


def _places(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Task, grading and metric of each table."""
    return list(dict.fromkeys((row["task"], row["grading"], row["metric"]) for row in rows))


def _printed(
    rows: Sequence[Mapping[str, Any]], task: str, grading: str, metric: str, names: tuple[str, str]
) -> Printed:
    """A table for paper says itself what A and B are."""
    made = _table(rows, task, grading, metric)
    text = f"{made.caption}. A: {names[0]}. B: {names[1]}. In percent, A − B in points, with 95% intervals."
    return made._replace(name=f"comparison-{made.name}", caption=text)


def _table(rows: Sequence[Mapping[str, Any]], task: str, grading: str, metric: str) -> Printed:
    rows = [row for row in rows if (row["task"], row["grading"], row["metric"]) == (task, grading, metric)]

    def model(row: Mapping[str, Any]) -> str:
        beside = beside_words(row)
        return label(row["recipe"], row["shots"]) + (f" ({beside})" if beside else "")

    columns = [
        Column("tokens", "tokens", TOKENS),
        Column("recipe", model),
        Column("A", "ours", SHARE),
        Column("B", "theirs", SHARE),
        Column("A − B", "value", POINTS),
        Column("n", "n", COUNT),
        Column("runs", "runs", COUNT),
    ]
    caption = "General average" if task == AVERAGE else f"{metric} on {task}, {grading} grading"
    ways = {row["compared"] for row in rows}
    if len(ways) == 1:
        caption += f" ({ways.pop()})"
    else:
        columns.append(Column("compared", "compared"))
    return Printed("-".join((task, grading, metric)), caption, columns, rows)


def _notes(rows: Sequence[Mapping[str, Any]], ours: Results, theirs: Results, lacking: Sequence[Lack]) -> list[str]:
    said = asked_apart(rows)
    for name, results in (("A", ours), ("B", theirs)):
        told = unfinished(name, results, lacking)  # by the page's first lines
        for what, why in grouped([(what, why) for what, why in results.missing if what not in told])[:3]:
            said.append(f"Missing in {name}: {what}: {why}.")
    if ours.extraction != theirs.extraction:
        said.append(f"A shows {ours.extraction} grading and B {theirs.extraction}; both are shown by A's here.")
    return said


def _chart(ours: Results, theirs: Results) -> dict[str, Any]:
    """The differences of the main grid on A's main task, at every k."""
    task, unlike = next(iter(ours.asked), ""), unlike_problems(ours, theirs)
    found = list[dict[str, Any]]()
    for both in both_of(ours, theirs, PassK):
        evaluations, alike = [*both.ours, *both.theirs], both.alike
        if alike.task != task or evaluations[0].off_grid or not both.ours or not both.theirs or is_same(both):
            continue
        for grading in sorted(set.intersection(*(set(e.counts) for e in evaluations))):
            fewest = min(int(e.counts[grading].samples.min()) for e in evaluations)
            found += passk_rows(both, grading, range(1, fewest + 1), unlike)
    return differences_chart(ours, task, found)
