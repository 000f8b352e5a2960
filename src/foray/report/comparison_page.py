"""The report of two studies side by side: one HTML file, and its numbers as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foray.core.changed_settings import changed_settings
from foray.core.files import write_atomic
from foray.report.between_studies import (
    ONLY_OURS,
    ONLY_THEIRS,
    OTHER_SEEDS,
    PAIRED,
    UNPAIRED,
    between,
    both_of,
    passk_rows,
    unlike_problems,
)
from foray.report.chart_data import differences_chart
from foray.report.columns import COUNT, POINTS, SHARE, TOKENS, Column, badge, csv_text, frame_of, table
from foray.report.forms import write_tables
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.model_table import beside_words
from foray.report.page import Shown, grouped
from foray.report.page_shell import filled
from foray.report.printed import Printed
from foray.report.results import AVERAGE, Results, label
from foray.report.sections import claims

_HOW = {
    PAIRED: "paired",
    OTHER_SEEDS: OTHER_SEEDS,
    UNPAIRED: UNPAIRED,
    ONLY_OURS: "only in A",
    ONLY_THEIRS: "only in B",
}
_TEXT = (
    "In percent, means over runs; A − B in points. Paired: both studies asked the same problems, so the difference is "
    "taken problem by problem, and between runs of equal seeds where both have them. With other seeds its interval "
    "speaks of other problems, and of other seeds only as far as a study has several runs. Unpaired: no problem is in "
    "both, so the interval is that of two independent means. Each interval is at 95% by itself: of twenty differences "
    "that are none, one will look like one."
)
_ANSWERS = {"shown": "for", "shown, in form": "for", "contradicted": "against"}


def write_comparison(
    ours: Results, theirs: Results, names: tuple[str, str], out: Path, tables: Sequence[str] = ()
) -> Path:
    """Writes ``index.html``, ``comparison.csv``, ``settings.csv`` and ``claims.csv`` into ``out``; returns the page.

    ``names``: what the page calls A (the first) and B. ``tables``: further forms of the numbers, of ``FORMS``. Raises
    ValueError where the two have measured nothing alike.
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
    places, extraction = _places(rows), ours.extraction
    printed = [_printed(rows, *place, names) for place in places if place[1] in (extraction, "")]
    write_tables(out / "comparison.csv", printed, tables)
    shown = [
        Shown("section", "numbers", "Side by side", 0, _numbers(rows, extraction)),
        Shown("section", "settings", "Settings that differ", 1, _settings(settings, ours, theirs)),
        Shown("section", "claims", "The paper's claims", 2, _answers(answers)),
    ]
    drawn = _chart(ours, theirs)
    page = filled(
        "comparison.html", drawn, {}, title="Foray: A against B", names=names, charted=bool(drawn),
        sentences=_sentences(rows, ours), notes=_notes(ours, theirs), sections=shown,
    )  # fmt: skip
    write_atomic(out / "index.html", page)
    return out / "index.html"


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns as a reader of the files knows them."""
    sides = {"ours": "a", "theirs": "b", "value": "difference", "lo": "difference_lo", "hi": "difference_hi"}
    ends = {f"{side}_{end}": f"{name}_{end}" for side, name in sides.items() for end in ("lo", "hi", "answer")}
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
        Column("A", badge("ours_answer", _ANSWERS)),
        Column("B", badge("theirs_answer", _ANSWERS)),
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


def _numbers(rows: Sequence[Mapping[str, Any]], grading: str) -> str:
    """A table for each task, grading and metric; other gradings than the first study's are folded."""
    shown, folded = list[str](), list[str]()
    for place in _places(rows):
        made = _table(rows, *place)
        html = table(made.rows, made.columns, made.caption)
        (shown if place[1] in (grading, "") else folded).append(html)
    other = parts.folded("By the other gradings", joined(*folded)) if folded else ""
    return joined(parts.dim(_TEXT), *shown, other, parts.files(["comparison"]))


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
        caption += f" ({_HOW[ways.pop()]})"
    else:
        columns.append(Column("compared", lambda row: _HOW[row["compared"]]))
    return Printed("-".join((task, grading, metric)), caption, columns, rows)


def _sentences(rows: Sequence[Mapping[str, Any]], ours: Results) -> list[str]:
    """How many models of the main task lie above, below, and without a clear difference, by metric."""
    task, said = next(iter(ours.asked), ""), []
    there = [r for r in rows if r["compared"] not in (ONLY_OURS, ONLY_THEIRS)]
    for metric in dict.fromkeys(r["metric"] for r in there):
        asked = ((AVERAGE, ""), (task, ours.extraction))
        gains = [r["value"] for r in there if r["metric"] == metric and (r["task"], r["grading"]) in asked]
        above, below = sum(g.lo > 0 for g in gains), sum(g.hi < 0 for g in gains)
        if gains:
            what = "The general average" if metric == "acc" else metric
            said.append(
                f"{what}: A is above B in {above} of {len(gains)} models, below in {below}, no clear difference in "
                f"{len(gains) - above - below}."
            )
    return said


def _notes(ours: Results, theirs: Results) -> list[str]:
    said = []
    for name, results in (("A", ours), ("B", theirs)):
        for what, why in grouped(results.missing)[:3]:
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
        if alike.task != task or evaluations[0].off_grid or not both.ours or not both.theirs:
            continue
        for grading in sorted(set.intersection(*(set(e.counts) for e in evaluations))):
            fewest = min(int(e.counts[grading].samples.min()) for e in evaluations)
            found += passk_rows(both, grading, range(1, fewest + 1), unlike)
    return differences_chart(ours, task, found)
