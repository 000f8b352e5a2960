"""Whether a change of pass@K is one of the temperature: every transition again, each model at its own best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from foray.report.columns import COUNT, POINTS, TOKENS, Column, badge, frame_of, tables_by_task
from foray.report.differences import Pairing, differences, mean_gaps, pair
from foray.report.fairness import has_room
from foray.report.markup import joined, parts
from foray.report.measurements import PassK, Seeds
from foray.report.readings.own_temperature import OwnBest, own_best
from foray.report.results import ANY, Results, label
from foray.report.sections import Section
from foray.report.sections.transitions import SIGNS
from foray.report.stats import MARGIN, Floats
from foray.report.verdicts import transitions, verdict

NAME, TITLE, PLACE = "temperatures", "Each model at its own temperature", 22

_TEXT = (
    "At one temperature for all, a model that training has made sharper is sampled too coldly for many samples, and a "
    "fall of pass@K can be one of the temperature alone. Here every model answers at the temperature that is its best, "
    "for pass@1 and for pass@K each by itself. The best is chosen on one half of the problems and counts on the other, "
    "both ways round. Verdict and Δ at one temperature are of the same runs. "
    "Verdicts as above; intervals take the choice as given. A dagger: the lowest or the highest temperature that was "
    "tried is the best, so that a better one may lie beyond."
)


class AtOwn(NamedTuple):
    """A recipe's model at one M_t, at its own best temperatures for pass@1 and pass@K."""

    runs: tuple[PassK, ...]  # at the study's temperature, in the order of ``best.values``
    best: OwnBest
    tried: tuple[float, ...]
    k: int

    def words(self, place: int) -> str:
        """The temperatures that were the best for pass@1 (0) or pass@K (1), and whether one is an end."""
        own = self.best.temperatures[place]
        return " or ".join(f"{t:g}" for t in own) + ("†" if set(own) & {self.tried[0], self.tried[-1]} else "")


def section(results: Results) -> Section:
    found = [row for task in results.tasks for row in rows(results, task)]
    files = {"temperatures": frame_of(found)}
    if not found:
        return Section(files=files)
    shown = tables_by_task(found, _columns(found), "every transition, each model at its own temperature")
    return Section(joined(parts.dim(_TEXT), shown), files)


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """A row for every transition whose two models were sampled at several temperatures; shares."""
    asked = [(t.tokens, t.source, t.target) for t in transitions(results) if t.task == task and not t.other_grading]
    known = models(results, task)
    found = []
    for tokens, source, target in asked:
        before, after = known.get((source, tokens)), known.get((target, tokens))
        if before and after and before.k == after.k and (pairs := pair(after.runs, before.runs)):
            row = {"task": task, "tokens": tokens, "from": source, "to": target, "k": before.k}
            found.append(row | _usual(results, before, pairs[tokens]) | _row(before, after, pairs[tokens]))
    return found


def models(results: Results, task: str) -> dict[tuple[str, int], AtOwn]:
    """Every recipe's model at every M_t that was sampled at several temperatures, by the runs that all of them have."""
    others = {e.temperature for e in results.select(PassK, task=task, final=True, temperature=ANY)} - {None}
    if results.temperature is None or not others:
        return {}
    found: dict[tuple[str, int], dict[float, dict[Seeds, PassK]]] = {}
    for recipe in results.recipes(task):
        for hot in (None, *others):
            for e in results.finals(recipe, task, temperature=hot):
                of_model = found.setdefault((recipe, e.tokens), {})
                of_model.setdefault(results.temperature if hot is None else hot, {})[e.run] = e
    own = results.temperature
    return {place: model for place, tried in found.items() if (model := _model(results, tried, tried.get(own, {})))}


def _model(
    results: Results, tried: Mapping[float, Mapping[Seeds, PassK]], usual: Mapping[Seeds, PassK]
) -> AtOwn | None:
    shared = [run for run in usual if all(run in of for of in tried.values())]
    if len(tried) < 2 or not shared:
        return None
    rule = results.extraction
    counts = {t: [of[run].counts[rule] for run in shared] for t, of in tried.items()}
    k = min([results.top, *(int(c.samples.min()) for of_runs in counts.values() for c in of_runs)])
    return AtOwn(tuple(usual[run] for run in shared), own_best(counts, (1, k)), tuple(sorted(tried)), k)


def _usual(results: Results, before: AtOwn, pairs: Mapping[Pairing, tuple[PassK, PassK]]) -> dict[str, Any]:
    """The transition at the study's temperature, of the same runs: not all may have been sampled at the others."""
    rule = results.extraction
    counts = {p: (after.counts[rule], ref.counts[rule]) for p, (after, ref) in pairs.items()}
    one, top = (d.interval for d in differences(counts, (1, before.k)))
    room = has_room((ref for _, ref in pairs.values()), before.k, rule)
    return {"verdict": verdict(one, top, before.k, room), "usual_pass1": one, "usual_passk": top}


def _row(before: AtOwn, after: AtOwn, pairs: Mapping[Pairing, tuple[PassK, PassK]]) -> dict[str, Any]:
    ids = sorted(set(before.best.ids) & set(after.best.ids))
    (first, of_first), (last, of_last) = (_by_run(m, ids) for m in (before, after))
    gaps = {p: of_last[last.index(p.run)] - of_first[first.index(p.reference)] for p in pairs}
    one, top = (d.interval for d in mean_gaps(gaps, alike=True))
    level, guess = float(of_first[:, :, 1].mean()), float(np.mean([e.guessed(before.k) for e in before.runs]))
    room = guess + MARGIN < level < 1 - MARGIN
    row: dict[str, Any] = {"own_verdict": verdict(one, top, before.k, room), "pass1": one, "passk": top}
    for place, name in enumerate(("pass1", "passk")):
        row[f"{name}_temperatures"] = f"{before.words(place)} → {after.words(place)}"
    return row | {"n": one.n, "runs": len({p.run for p in pairs})}


def _by_run(model: AtOwn, ids: Sequence[str]) -> tuple[list[Seeds], Floats]:
    """The runs, and their pass@1 and pass@K of the problems ``ids``. (R, P, 2)"""
    place = {identity: i for i, identity in enumerate(model.best.ids)}
    return [e.run for e in model.runs], model.best.values[:, [place[i] for i in ids]]


def _columns(found: Sequence[Mapping[str, Any]]) -> list[Column]:
    top = " or ".join(str(k) for k in sorted({row["k"] for row in found}))
    return [
        Column("tokens", "tokens", TOKENS),
        Column("transition", lambda row: f"{label(row['from'])} → {label(row['to'])}"),
        Column("verdict at one temperature", badge("verdict", SIGNS)),
        Column("at its own", badge("own_verdict", SIGNS)),
        Column(f"Δ pass@{top} at one", "usual_passk", POINTS),
        Column("Δ pass@1", "pass1", POINTS),
        Column(f"Δ pass@{top}", "passk", POINTS),
        Column("temperatures for pass@1", "pass1_temperatures"),
        Column(f"for pass@{top}", "passk_temperatures"),
        Column("runs", "runs", COUNT),
    ]
