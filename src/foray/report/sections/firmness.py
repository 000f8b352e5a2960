"""How firm the answers are: each claim's answer when one choice of the analysis is another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from foray.core.task import STORED
from foray.report.columns import NOTHING, Column, badge, frame_of, table
from foray.report.comparisons import SIDES, Ruling
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import ANY, SOUND, Results
from foray.report.sections import Section
from foray.report.sections.by_tag import groups
from foray.report.sections.claims import rulings_on
from foray.report.stats import ENOUGH_PRETRAININGS, Counts
from foray.report.verdicts import top_k

NAME, TITLE, PLACE = "firmness", "How firm the answers are", 12

_TEXT = (
    "The rules again, each time with one choice of the analysis changed. An answer that every line repeats does not "
    "hang on the grading, on K, on the temperature, on one pre-training, or on one kind of problems. Fewer problems or "
    "pre-trainings widen the intervals, so that some answers become “cannot tell”. –: the rule compares nothing that "
    "the change touches."
)
_CAPTION = "The claims' answers, each time with one choice made otherwise"
_RULED, _SAME, _UNTOUCHED = "as ruled", "same", "–"
FEWEST = 10  # problems of a half


class Change(NamedTuple):
    """One choice that is made otherwise, and the results under it."""

    what: str
    results: Results


def section(results: Results) -> Section:
    asked = rulings_on(results)
    run = [name for name, ruling in asked.items() if ruling.answer != "not run"]
    changed = [(change.what, rulings_on(change.results)) for change in changes(results)]
    found = [
        _row(what, name, rulings[name], asked[name]) for what, rulings in [(_RULED, asked), *changed] for name in run
    ]
    files = {NAME: frame_of(found)}
    if not changed or not run:
        return Section(files=files, absent="no choice of the analysis can be made otherwise")
    lines = [{"what": _RULED} | {name: asked[name].answer for name in run}]
    lines += [{"what": what} | {name: _cell(rulings[name], asked[name]) for name in run} for what, rulings in changed]
    shown = table(lines, [Column("changed", "what"), *(_answers(name) for name in run)], _CAPTION, rules=False)
    return Section(joined(parts.dim(_TEXT), shown), files)


def _answers(claim: str) -> Column:
    """The answers to a claim; one that stays the same is no badge."""
    colored = badge(claim, SIDES)
    return Column(claim, lambda line: line[claim] if line[claim] in (_SAME, _UNTOUCHED) else colored(line))


def changes(results: Results) -> Iterator[Change]:
    """Every choice that these results let us make otherwise: the grading, K, who and what is left out."""
    evaluations = results.select(PassK, final=True, task=tuple(results.tasks[:1]))
    if not evaluations:
        return
    for grading in (*STORED, SOUND):
        if grading == results.extraction or not all(grading in e.counts for e in evaluations):
            continue
        words = "right reasons alone" if grading == SOUND else f"{grading} grading"
        yield Change(words, _graded(results, grading))
    asked = top_k(results, results.tasks[0])
    most = min(int(c.samples.min()) for e in evaluations for c in e.counts.values())
    for k in sorted({asked // 4, most} - {asked, 0, 1}):
        yield Change(f"K = {k} for {asked}", replace(results, top=k))
    others = {e.temperature for e in results.select(PassK, final=True, task=evaluations[0].task, temperature=ANY)}
    for temperature in sorted(t for t in others if t is not None):
        yield Change(f"temperature {temperature:g}", _at(results, temperature))
    starts = sorted({e.pretrain_seed for e in evaluations})
    # With one less there must be as many as an interval over pre-trainings takes.
    for start in starts if len(starts) > ENOUGH_PRETRAININGS else ():
        yield Change(f"without pre-training {start}", _without(results, start))
    yield from _halves(results, evaluations[0])


def _graded(results: Results, grading: str) -> Results:
    """The results as if nothing but this grading were known. Sound answers have no guess line."""

    def alone(e: PassK) -> PassK:
        guesses = None if grading == SOUND else e.guesses
        return replace(e, counts={grading: e.counts[grading]} if grading in e.counts else {}, guesses=guesses)

    measured = (alone(m) if isinstance(m, PassK) else m for m in results.measured)
    kept = tuple(m for m in measured if not isinstance(m, PassK) or m.counts)
    return replace(results, extraction=grading, measured=kept)


def _at(results: Results, temperature: float) -> Results:
    """The results as if the study's temperature were this one."""
    kept = (m for m in results.measured if not isinstance(m, PassK) or m.temperature == temperature)
    return replace(results, measured=tuple(replace(m, temperature=None) for m in kept), temperature=temperature)


def _without(results: Results, start: int) -> Results:
    measured, planned = (tuple(m for m in of if m.pretrain_seed != start) for of in (results.measured, results.planned))
    table = results.table[results.table["pretrain_seed"] != start]
    return replace(results, measured=measured, planned=planned, table=table)


def _halves(results: Results, one: PassK) -> Iterator[Change]:
    """The main task's problems of few and of many steps, or of another label that counts: the one with the most values.

    None where one of the halves has fewer than ``FEWEST`` problems.
    """
    counted = {
        name: [int(v) for v in values]
        for name, values in groups(one.tags).items()
        if all(v.isascii() and v.isdigit() for v in values)
    }
    if not counted:
        return
    name = max(counted, key=lambda n: len(counted[n]))
    of = [n for labels in one.tags for n in (_number(labels, name),) if n is not None]
    middle = sorted(of)[(len(of) - 1) // 2]
    cut = middle if middle < max(of) else middle - 1
    if min(sum(n <= cut for n in of), sum(n > cut for n in of)) >= FEWEST:
        yield Change(f"problems with {name} up to {cut}", _only(results, one.task, name, lambda n: n <= cut))
        yield Change(f"problems with {name} above {cut}", _only(results, one.task, name, lambda n: n > cut))


def _only(results: Results, task: str, name: str, wanted: Callable[[int], bool]) -> Results:
    """The results on the task's problems whose label is wanted. Evaluations without the label stay whole."""

    def some(e: PassK) -> PassK:
        numbers = [_number(labels, name) for labels in e.tags]
        if e.task != task or None in numbers or not numbers:
            return e
        mask = np.array([n is not None and wanted(n) for n in numbers])
        return replace(
            e,
            counts={rule: _masked(c, mask) for rule, c in e.counts.items()},
            rates={n: v[mask] for n, v in e.rates.items()},
            guesses=None if e.guesses is None else e.guesses[mask],
            tags=tuple(itertools.compress(e.tags, mask)),
        )

    return replace(results, measured=tuple(some(m) if isinstance(m, PassK) else m for m in results.measured))


def _masked(counts: Counts, mask: Any) -> Counts:
    return Counts(tuple(itertools.compress(counts.ids, mask)), counts.correct[mask], counts.samples[mask])


def _number(labels: tuple[str, ...], name: str) -> int | None:
    found = [value for key, is_, value in (label.partition("=") for label in labels) if is_ and key == name]
    return int(found[0]) if found and found[0].isascii() and found[0].isdigit() else None


def _touched(ruling: Ruling, before: Ruling) -> bool:
    """Whether a change changes anything that the rule compares."""
    compared = [[(n.what, n.tokens, n.difference) for n in r.needs] for r in (ruling, before)]
    return ruling.answer != before.answer or compared[0] != compared[1]


def _cell(ruling: Ruling, before: Ruling) -> str:
    if not _touched(ruling, before):
        return _UNTOUCHED
    return _SAME if ruling.answer == before.answer else ruling.answer


def _row(what: str, claim: str, ruling: Ruling, before: Ruling) -> dict[str, Any]:
    same = ruling.answer == before.answer if what == _RULED or _touched(ruling, before) else None
    row = {"changed": what, "claim": claim, "answer": ruling.answer, "same": same}
    return row | {"effect": ruling.effect, "value": ruling.interval or NOTHING, "note": ruling.note}
