"""Gains over the base with both models asked with the same examples and graded by the same rule.

RL teaches the asked-for form as well as the answer. With the form given (8-shot) and forgiven (lenient, flexible),
what is left of a gain is reasoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from foray.report.columns import POINTS, RECIPE, TOKENS, Column, frame_of, table
from foray.report.differences import pair, passk_difference
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import SOUND, Results, recipe_rank
from foray.report.sections import Section
from foray.report.stats import Interval

NAME, TITLE, PLACE = "crossed", "Is it the format? Crossed evaluation", 50

_TEXT = (
    "Gain in pass@1 over the base in points, both models asked with the same examples and graded the same way. "
    "What holds with examples and lenient or flexible grading is not the form that was learned."
)


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """One a recipe, M_t, number of shots and extraction rule; recipe − base in pass@1, a share."""
    found = []
    for (recipe, shots), ours in (ends := _ends(results, task)).items():
        pairs_of = pair(ours, ends.get(("base", shots), [])) if recipe != "base" else {}
        for tokens, pairs in pairs_of.items():
            rules = {rule for e, _ in pairs.values() for rule in e.counts} - {SOUND}  # says nothing of the form
            for rule in sorted(rules, reverse=True):
                gain, place = passk_difference(pairs, 1, rule), {"task": task, "tokens": tokens, "recipe": recipe}
                place |= {"shots": shots, "extraction": rule, "pass1_over_base": gain.interval.value}
                found.append(place | {"lo": gain.interval.lo, "hi": gain.interval.hi, "runs": len(gain.runs)})
    return sorted(found, key=lambda r: (r["tokens"], recipe_rank(r["recipe"]), _order(_form(r))))


def _form(row: dict[str, Any]) -> tuple[int, str]:
    return row["shots"], row["extraction"]


def _order(form: tuple[int, str]) -> tuple[int, bool]:
    return form[0], form[1] != "strict"


def _ends(results: Results, task: str) -> dict[tuple[str, int], list[PassK]]:
    """Every evaluation of a finished model on the task, by recipe and shots."""
    asked = results.select(PassK, task=task, trained_on=results.trained(task))
    last = {(e.tokens, e.recipe, e.run): e.stage_step for e in asked if e.final}
    found: dict[tuple[str, int], list[PassK]] = {}
    for e in asked:
        if e.shots is not None and last.get((e.tokens, e.recipe, e.run)) == e.stage_step:
            found.setdefault((e.recipe, e.shots), []).append(e)
    return found


def section(results: Results) -> Section:
    by_task = {task: found for task in results.tasks if (found := rows(results, task))}
    files = {"crossed": frame_of([row for found in by_task.values() for row in found])}
    if not by_task:
        return Section(files=files)
    tables = [_table(found, f"{task}: pass@1 over the base, by form") for task, found in by_task.items()]
    return Section(joined(parts.dim(_TEXT), *tables), files)


def _table(found: Sequence[dict[str, Any]], caption: str) -> Markup:
    """A row a recipe and M_t, a column a form of asking and grading."""
    wide: dict[tuple[int, str], dict[Any, Any]] = {}
    for row in found:
        cells = wide.setdefault((row["tokens"], row["recipe"]), {"tokens": row["tokens"], "recipe": row["recipe"]})
        cells[_form(row)] = Interval(row["pass1_over_base"], row["lo"], row["hi"], 0)
    columns = [Column("tokens", "tokens", TOKENS), Column("recipe", "recipe", RECIPE)]
    for form in sorted(dict.fromkeys(_form(row) for row in found), key=_order):
        columns.append(Column(f"{form[0]}-shot, {form[1]}", form, POINTS))
    return table(wide.values(), columns, caption)
