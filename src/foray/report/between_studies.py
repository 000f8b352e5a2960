"""Two studies side by side: what both measured of models that are alike, and the difference with its interval.

Differences are paired by problem wherever both studies asked the same problems, and by run where both have its seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from foray.core.files import SPEC, json_text, read_object
from foray.report import stats
from foray.report.columns import NOTHING
from foray.report.differences import Pairing, ability_difference, differences, pair
from foray.report.measurements import Measurement, PassK, ProbeAnswers, Seeds
from foray.report.results import ANY_MODEL, AVERAGE, Results, recipe_rank, records
from foray.report.sample_data import rows_with_samples
from foray.report.stats import Counts, Interval

PAIRED, OTHER_SEEDS, UNPAIRED = "paired", "paired by problem; other seeds", "unpaired: other problems"
ONLY_OURS, ONLY_THEIRS = "only in the first", "only in the second"
THE_SAME = "the same"  # one node in both: its difference is exactly 0 and tells nothing
M = TypeVar("M", bound=Measurement)
Asked = Mapping[tuple[str, str], Mapping[str, str]]  # question and answer by id, by task and split


class Alike(NamedTuple):
    """What compared models share beside M_t. ``shots`` is None for a measurement without shots."""

    task: str
    recipe: str
    variant: str
    mix: str
    split: str
    trained_on: str
    model_parameters: int | None
    shots: int | None


class Both(NamedTuple):
    """The runs of both studies that measured one thing of models from one M_t; one side may be empty."""

    alike: Alike
    tokens: int
    ours: Sequence[Any]
    theirs: Sequence[Any]


class _Compared(NamedTuple):
    """Both sides' means over runs and their difference, each at every k; how they were compared; the runs."""

    ours: Sequence[Interval]
    theirs: Sequence[Interval]
    gains: Sequence[Interval]
    how: str
    runs: int


def between(ours: Results, theirs: Results) -> list[dict[str, Any]]:
    """A row for each model, grading and metric: pass@k at every k of a study's table, and the general average.

    ``ours`` and ``theirs`` are means over runs with 95% intervals, ``value`` is the first minus the second, all shares.
    ``compared`` says how. Where the two are paired, all three are over the problems and the runs that both have; where
    it is ``THE_SAME``, the difference is exactly 0. ``n`` counts these problems, ``ours_asked`` and ``theirs_asked``
    those of each study. ``runs`` counts the runs of the first that are compared.
    """
    ks, unlike = sorted({1, *ours.ks, *theirs.ks}), unlike_problems(ours, theirs)
    rows = list[dict[str, Any]]()
    for both in both_of(ours, theirs, PassK):
        known = [set(e.counts) for e in (*both.ours, *both.theirs)]
        for grading in sorted(set.intersection(*known), key=lambda g: (g != ours.extraction, g)):
            rows += passk_rows(both, grading, ks, unlike)
    return rows + [_average_row(both, ours, theirs) for both in both_of(ours, theirs, ProbeAnswers)]


def both_of(ours: Results, theirs: Results, kind: type[M]) -> list[Both]:
    """The final measurements of a kind, by what their models share: the main grid first, tasks as in the first."""
    sides: list[dict[tuple[Alike, int], list[M]]] = [{}, {}]
    for side, results in zip(sides, (ours, theirs)):
        for m in results.select(kind, final=True, **ANY_MODEL):
            alike = Alike(*(getattr(m, name) for name in Alike._fields))
            side.setdefault((alike, m.tokens), []).append(m)
    tasks = list(dict.fromkeys((*ours.asked, *theirs.asked)))

    def order(place: tuple[Alike, int]) -> tuple[Any, ...]:
        a, tokens = place
        beside = (a.variant, a.mix, a.split, a.model_parameters or 0)
        return tasks.index(a.task) if a.task in tasks else -1, beside, tokens, recipe_rank(a.recipe), a.shots or 0

    places = sorted(dict.fromkeys((*sides[0], *sides[1])), key=order)
    return [Both(*place, *(side.get(place, []) for side in sides)) for place in places]


def is_same(both: Both) -> bool:
    """Whether all runs of one study are runs of the other, by the keys of their nodes: there are no two to compare."""
    ours, theirs = ({m.folder.name for m in side} for side in (both.ours, both.theirs))
    return bool(ours and theirs) and (ours <= theirs or theirs <= ours)


def _shared_runs(both: Both) -> list[Any]:
    """The runs of the first study whose nodes the second has too."""
    theirs = {m.folder.name for m in both.theirs}
    return [m for m in both.ours if m.folder.name in theirs]


def unlike_problems(ours: Results, theirs: Results) -> dict[tuple[str, str], set[str]]:
    """Ids, by task and split, that stand for one problem in the first study and for another one in the second."""
    a, b = _asked(ours), _asked(theirs)
    return {place: {i for i in a[place].keys() & b[place] if a[place][i] != b[place][i]} for place in a.keys() & b}


def _asked(results: Results) -> Asked:
    found: dict[tuple[str, str], dict[str, str]] = {}
    most: dict[tuple[str, str], PassK] = {}
    for e in results.select(PassK, final=True, **ANY_MODEL):
        first = most.setdefault((e.task, e.split), e)
        if len(e.tags) > len(first.tags):
            most[e.task, e.split] = e
    for place, e in most.items():
        rows = rows_with_samples(e.folder / "completions.jsonl")
        found[place] = {str(r.get("id")): json_text([r.get("question"), r.get("answer")]) for r in rows}
    return found


def passk_rows(
    both: Both, grading: str, ks: Sequence[int], unlike: Mapping[tuple[str, str], set[str]]
) -> Iterator[dict[str, Any]]:
    """A row for each k that every evaluation has samples for."""
    fewest = min(int(e.counts[grading].samples.min()) for e in (*both.ours, *both.theirs))
    ks = [k for k in ks if k <= fewest]
    found = _compared(both, grading, ks, unlike.get((both.alike.task, both.alike.split), set()))
    asked = [max((len(e.counts[grading].ids) for e in side), default=0) for side in (both.ours, both.theirs)]
    for k, a, b, gain in zip(ks, found.ours, found.theirs, found.gains):
        of = {"grading": grading, "metric": f"pass@{k}", "ours": a, "theirs": b, "value": gain}
        yield _named(both) | of | _counted(gain.n or a.n or b.n, asked, found.runs) | {"compared": found.how}


def _named(both: Both) -> dict[str, Any]:
    return {"task": both.alike.task, "tokens": both.tokens, **both.alike._asdict()}


def _counted(n: int, asked: Sequence[int], runs: int) -> dict[str, Any]:
    return {"n": n, "ours_asked": asked[0], "theirs_asked": asked[1], "runs": runs}


def _compared(both: Both, grading: str, ks: Sequence[int], unlike: set[str]) -> _Compared:
    ours, theirs = (_means(side, grading, ks) for side in (both.ours, both.theirs))
    if not both.ours or not both.theirs:
        return _Compared(ours, theirs, [NOTHING] * len(ks), ONLY_OURS if both.ours else ONLY_THEIRS, 0)
    if is_same(both):
        same = _shared_runs(both)
        means = _means(same, grading, ks)
        return _Compared(means, means, [Interval(0.0, 0.0, 0.0, m.n) for m in means], THE_SAME, len(same))
    pairs, how = _pairs(both)
    found = {run: _on_shared_problems(*pair, grading, unlike) for run, pair in pairs.items()}
    shared = {run: counts for run, counts in found.items() if counts}
    if len(shared) < len(pairs):
        gains = [stats.difference_of_independent(x, y) for x, y in zip(ours, theirs)]
        return _Compared(ours, theirs, gains, UNPAIRED, _runs_of(pairs))
    gains = [d.interval for d in differences(shared, ks)]
    # A run that stands in several pairs counts once.
    ours, theirs = (_over_runs({pairs[r][i].run: shared[r][i] for r in pairs}, ks) for i in (0, 1))
    return _Compared(ours, theirs, gains, how, _runs_of(pairs))


def _on_shared_problems(a: PassK, b: PassK, grading: str, unlike: set[str]) -> tuple[Counts, Counts] | None:
    """Both evaluations on the problems that both asked; None where there is none."""
    ours, theirs = (_without(e.counts[grading], unlike) for e in (a, b))
    return stats.paired(ours, theirs) if set(ours.ids) & set(theirs.ids) else None


def _means(side: Sequence[PassK], grading: str, ks: Sequence[int]) -> list[Interval]:
    """The mean over runs at every k, each run on all of its problems."""
    return _over_runs({e.run: e.counts[grading] for e in side}, ks)


def _over_runs(side: Mapping[Seeds, Counts], ks: Sequence[int]) -> list[Interval]:
    if not side:
        return [NOTHING] * len(ks)
    each = [stats.passk_intervals(counts, ks) for counts in side.values()]
    starts = [run.pretrain_seed for run in side]
    return [stats.over_seeds(of_runs, 0.0, 1.0, starts) for of_runs in zip(*each)]


def _pairs(both: Both) -> tuple[dict[Pairing, tuple[Any, Any]], str]:
    """The runs that are compared: those of equal seeds if there are any, else as ``pair`` finds them, else one by one
    in the order of their seeds.
    """
    found = pair(both.ours, both.theirs, same_seed=True) or pair(both.ours, both.theirs)
    if pairs := found.get(both.tokens, {}):
        return pairs, PAIRED if all(a.run == b.run for a, b in pairs.values()) else OTHER_SEEDS
    in_order = (sorted(side, key=lambda m: m.run) for side in (both.ours, both.theirs))
    return {Pairing(a.pretrain_seed, a.seed, a.seed): (a, b) for a, b in zip(*in_order)}, OTHER_SEEDS


def _runs_of(pairs: Mapping[Pairing, Any]) -> int:
    """Runs of the first study."""
    return len({p.run for p in pairs})


def _without(counts: Counts, unlike: set[str]) -> Counts:
    if not unlike & set(counts.ids):
        return counts
    kept = np.array([i not in unlike for i in counts.ids])
    ids = tuple(i for i in counts.ids if i not in unlike)
    return Counts(ids, counts.correct[kept], counts.samples[kept])


def _average_row(both: Both, ours: Results, theirs: Results) -> dict[str, Any]:
    found = _compared_averages(both, ours, theirs)
    asked = [_average(results, side).n for results, side in ((ours, both.ours), (theirs, both.theirs))]
    (a,), (b,), (gain,) = found[:3]
    row = _named(both) | {"task": AVERAGE, "grading": "", "metric": "acc", "ours": a, "theirs": b, "value": gain}
    return row | _counted(gain.n or a.n or b.n, asked, found.runs) | {"compared": found.how}


def _compared_averages(both: Both, ours: Results, theirs: Results) -> _Compared:
    a, b = _average(ours, both.ours), _average(theirs, both.theirs)
    if not both.ours or not both.theirs:
        return _Compared([a], [b], [NOTHING], ONLY_OURS if both.ours else ONLY_THEIRS, 0)
    if is_same(both):
        same = _shared_runs(both)
        a = _average(ours, same)
        return _Compared([a], [a], [Interval(0.0, 0.0, 0.0, a.n)], THE_SAME, len(same))
    pairs, how = _pairs(both)
    found = ability_difference(pairs) if all(_same_probes(*p) for p in pairs.values()) else None
    if not found:
        return _Compared([a], [b], [stats.difference_of_independent(a, b)], UNPAIRED, _runs_of(pairs))
    sides = [list({pair[i].run: pair[i] for pair in pairs.values()}.values()) for i in (0, 1)]
    return _Compared([_average(ours, sides[0])], [_average(theirs, sides[1])], [found.interval], how, _runs_of(pairs))


def _average(results: Results, side: Sequence[ProbeAnswers]) -> Interval:
    """The mean over runs of the table's general average."""
    found = []
    for m in side:
        fields = ("tokens", "recipe", "variant", "mix", "split", "trained_on", "model_parameters", *Seeds._fields)
        rows = results.rows(task=AVERAGE, metric="acc", final=True, **{name: getattr(m, name) for name in fields})
        found += [Interval(r.value, r.lo, r.hi, r.n) for r in records(rows)][:1]
    return stats.over_seeds(found, 0.0, 1.0, [m.pretrain_seed for m in side]) if found else NOTHING


def _same_probes(a: ProbeAnswers, b: ProbeAnswers) -> bool:
    """Whether both were asked the same documents: one specification, and as many answers."""
    sizes = [{name: len(answers) for name, answers in m.answers.items()} for m in (a, b)]
    return sizes[0] == sizes[1] and _spec(a) == _spec(b)


def _spec(m: ProbeAnswers) -> dict[str, Any]:
    path = m.folder / SPEC
    return {k: v for k, v in read_object(path).items() if k != "checkpoint"} if path.exists() else {}
