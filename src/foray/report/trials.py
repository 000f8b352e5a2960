"""Trials of settings, and the rule that chooses among a recipe's trials. docs/statistics.md has the rule in words.

Of a recipe's trials the best has the highest mean of pass@k, over the study's k, on validation problems, each model
taken after its last update, over the runs that all trials of the recipe have. Trials less than one standard error of
the paired difference below the best are level with it. Of the best and those level with it, the one with the highest
general average is chosen: it forgets least. Without probes it is the first of the study's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.report import stats
from foray.report.measurements import Measurement, PassK, ProbeAnswers, Seeds
from foray.report.results import ANY_MODEL, TEST, TRAIN, Results, recipe_rank
from foray.report.stats import Interval

Run = tuple[int, Seeds]  # tokens of M_t, and the run


@dataclass(frozen=True)
class Trial:
    """A recipe with some settings, trained on ``task``. ``passk``: mean by k. ``scores``: by run, each problem's mean
    over ``ks`` of pass@k.

    ``ability``: the mean of the general probes; None without probes. ``used``: the study's recipe has these settings.
    """

    recipe: str
    task: str
    settings: str
    passk: dict[int, float]
    scores: dict[Run, dict[str, float]]
    ability: float | None
    used: bool

    @property
    def score(self) -> float:
        return sum(self.passk.values()) / len(self.passk)


class Choice(NamedTuple):
    """``level``: trials within one standard error of the ``best``, itself among them.

    ``lead``: best minus the one with the next score, with its interval. ``edges``: numeric settings whose chosen value
    is the least or the most that was tried.
    """

    chosen: Trial
    best: Trial
    level: list[Trial]
    lead: Interval | None
    edges: list[str]


def trials(results: Results) -> dict[str, list[Trial]]:
    """Every recipe's trials on every task, in the study's order.

    The name is that of the recipe. On another task than the study's first it has the task too: ``rl on world_hard``.
    """
    found: dict[tuple[str, str], dict[str, list[PassK]]] = {}
    for e in results.select(PassK, final=True, **ANY_MODEL):
        if e.variant and _on_validation(results, e):
            found.setdefault((e.recipe, e.trained_on), {}).setdefault(e.variant, []).append(e)
    first = next(iter(results.asked), "")
    found = {place: _of_shared_runs(tried) for place, tried in found.items()}
    return {
        recipe if task in ("", first) else f"{recipe} on {task}": [
            _trial(results, recipe, task, settings, runs) for settings, runs in found[recipe, task].items()
        ]
        for recipe, task in sorted(found, key=lambda place: recipe_rank(place[0]))
    }


def _on_validation(results: Results, e: Measurement) -> bool:
    return (e.split or results.split) not in (TEST, TRAIN)


def _of_shared_runs(tried: dict[str, list[PassK]]) -> dict[str, list[PassK]]:
    """The evaluations of the runs that all trials have; all, where they share none."""
    runs = set.intersection(*({(e.tokens, e.run) for e in of_one} for of_one in tried.values()))
    return {settings: [e for e in es if not runs or (e.tokens, e.run) in runs] for settings, es in tried.items()}


def _trial(results: Results, recipe: str, task: str, settings: str, runs: list[PassK]) -> Trial:
    counts = {(e.tokens, e.run): e.counts[results.extraction] for e in runs}
    most = min(int(c.samples.min()) for c in counts.values())
    ks = [k for k in results.ks if k <= most]
    solved = {run: [c.pass_at(k) for k in ks] for run, c in counts.items()}
    asked = {**ANY_MODEL, "variant": settings, "trained_on": task}
    probes = results.select(ProbeAnswers, recipe=recipe, final=True, **asked)
    values = [
        float(np.mean([a.mean() for a in p.answers.values()]))
        for p in probes
        if p.answers and (p.tokens, p.run) in counts and _on_validation(results, p)
    ]
    return Trial(
        recipe, task, settings,
        {k: float(np.mean([of_run[i].mean() for of_run in solved.values()])) for i, k in enumerate(ks)},
        {run: dict(zip(counts[run].ids, np.mean(of_run, axis=0).tolist())) for run, of_run in solved.items()},
        float(np.mean(values)) if values else None, all(e.own for e in runs),
    )  # fmt: skip


def choice(of_recipe: Sequence[Trial]) -> Choice:
    """What the rule chooses."""
    best = max(of_recipe, key=lambda t: t.score)  # the first of equals
    level = [t for t in of_recipe if t is best or _is_level(best, t)]
    kept = [t.ability for t in level if t.ability is not None]
    chosen = level[kept.index(max(kept))] if len(kept) == len(level) else level[0]
    others = [t for t in of_recipe if t is not best]
    second = max(others, key=lambda t: t.score) if others else None
    gaps = _gaps(best, second) if second else np.zeros(0)
    lead = stats.difference_intervals(gaps[:, None])[0] if len(gaps) else None
    return Choice(chosen, best, level, lead, _edges(chosen, of_recipe))


def _gaps(a: Trial, b: Trial) -> NDArray[np.float64]:
    """a − b for each problem, the mean over the runs that both have; empty where they share no run. (P,)"""
    of_run = []
    for run in sorted(set(a.scores) & set(b.scores)):
        ours, theirs = a.scores[run], b.scores[run]
        of_run.append({problem: ours[problem] - theirs[problem] for problem in ours if problem in theirs})
    problems = sorted(set.intersection(*(set(gaps) for gaps in of_run))) if of_run else []
    return np.array([np.mean([gaps[p] for gaps in of_run]) for p in problems], dtype=np.float64)


def _is_level(best: Trial, other: Trial) -> bool:
    gaps = _gaps(best, other)
    return bool(gaps.mean() <= gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else False


def _edges(chosen: Trial, of_recipe: Sequence[Trial]) -> list[str]:
    tried = [_numbers(t.settings) for t in of_recipe]
    found = []
    for name, value in _numbers(chosen.settings).items():
        values = sorted({t[name] for t in tried if name in t})
        if len(values) > 1 and value in (values[0], values[-1]):
            found.append(f"{name}={value:g}")
    return found


def _numbers(settings: str) -> dict[str, float]:
    """The numeric settings of a variant that is called by its settings: ``rl.optimizer.lr=0.0004, ...``."""
    found = {}
    for part in settings.split(", "):
        name, _, value = part.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return found
