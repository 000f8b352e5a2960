"""What a transition from one model to another did to the distribution: expansion, sharpening, broadening, degradation.

The verdict follows from the 95% intervals of two paired differences, that of pass@1 and that of pass@K.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from foray.report import stats
from foray.report.differences import Pairing, differences
from foray.report.fairness import has_room
from foray.report.measurements import PassK
from foray.report.results import Results, label, recipe_rank
from foray.report.stats import MARGIN, Interval

Verdict = Literal["expansion", "sharpening", "broadening", "degradation", "no change", "cannot tell"]

# Compared as well as base -> every recipe: a second stage or a second stream joins the first.
PAIRS = (("sft", "sft_rl"), ("sft_gold", "sft_gold_rl"), ("rl", "parallel"), ("sft", "parallel"))


def verdict(one: Interval, top: Interval, k: int = 2, room: bool = True) -> Verdict:
    """The verdict from the intervals of Δpass@1 (``one``) and Δpass@K (``top``); the first rule that holds:

    - cannot tell: K (``k``) is 1;
    - no change: both intervals lie inside [-margin, margin];
    - expansion: both lie above 0;
    - sharpening: that of pass@1 lies above 0, that of pass@K does not and ends at or below the margin;
    - broadening: that of pass@K lies above 0, that of pass@1 does not and ends at or below the margin;
    - degradation: one or both lie below 0, and both end at or below the margin;
    - cannot tell: all else, and sharpening without ``room``: a fall of pass@K then says nothing.
    """
    if k == 1:
        return "cannot tell"
    both = (one, top)
    up, down, bounded = [i.lo > 0.0 for i in both], [i.hi < 0.0 for i in both], [i.hi <= MARGIN for i in both]
    if all(bounded) and all(i.lo >= -MARGIN for i in both):
        return "no change"
    if all(up):
        return "expansion"
    if up[0] and bounded[1]:
        return "sharpening" if room else "cannot tell"
    if up[1] and bounded[0]:
        return "broadening"
    if any(down) and all(bounded) and not any(up):
        return "degradation"
    return "cannot tell"


def top_k(results: Results, task: str) -> int:
    """The K of pass@K: ``results.top``, or the largest that every final evaluation of the task has samples for."""
    finals = results.select(PassK, final=True, task=task)
    return min([results.top, *(int(c.samples.min()) for e in finals for c in e.counts.values())])


class Transition(NamedTuple):
    """``target`` compared with ``source``, both from the M_t of ``tokens``; differences are target minus source.

    ``room``: pass@K of the source lies more than the margin below 100% and above the guess line. ``gained`` and
    ``lost`` count problems with pass@K of at least one half in the target alone, or in the source alone, as means over
    runs. ``curve`` has the study's k, the powers of two, K and the number of samples.
    """

    tokens: int
    task: str
    source: str
    target: str
    extraction: str
    shots: tuple[int | None, int | None]
    k: int
    curve: dict[int, Interval]
    gained: float
    lost: float
    runs: int
    other_grading: bool  # graded as the study does not show its results, for comparison
    room: bool = True

    @property
    def one(self) -> Interval:
        return self.curve[1]

    @property
    def top(self) -> Interval:
        return self.curve[self.k]

    @property
    def verdict(self) -> Verdict:
        return verdict(self.one, self.top, self.k, self.room)

    @property
    def label(self) -> str:
        graded = f", {self.extraction}" if self.other_grading else ""
        return f"{label(self.source)} → {label(self.target)}{graded}"


def transitions(results: Results) -> list[Transition]:
    """Every transition that was measured: base → each recipe, and ``PAIRS``, at every M_t.

    Base → each recipe also with both models graded as ``Results.other_grading`` says: an expansion that strict grading
    alone shows is that of the format. Sorted by task, M_t, source and target.
    """
    rule, other, found = results.extraction, results.other_grading, []
    for task in results.tasks:
        trained = [r for r in results.recipes(task) if r != "base"]
        asked = [("base", r, rule) for r in trained] + [("base", r, other) for r in trained]
        asked += [(a, b, rule) for a, b in PAIRS]
        for source, target, extraction in asked:
            for tokens, pairs in results.pairs(target, source, task).items():
                if all(extraction in e.counts for pair in pairs.values() for e in pair):
                    found.append(_transition(results, tokens, task, source, target, extraction, pairs))
    order = {task: i for i, task in enumerate(results.tasks)}
    return sorted(
        found,
        key=lambda t: (order[t.task], t.tokens, recipe_rank(t.source), recipe_rank(t.target), t.other_grading),
    )


def _transition(
    results: Results, tokens: int, task: str, source: str, target: str, extraction: str,
    pairs: Mapping[Pairing, tuple[PassK, PassK]],
) -> Transition:  # fmt: skip
    runs = [stats.paired(a.counts[extraction], b.counts[extraction]) for a, b in pairs.values()]
    most = min(int(g.samples.min()) for run in runs for g in run)
    ks = sorted(
        {k for k in results.ks if k <= most} | {2**i for i in range(most.bit_length())} | {min(results.top, most), most}
    )
    k = min(results.top, most)
    curve = {i: d.interval for i, d in zip(ks, differences(dict(zip(pairs, runs)), ks))}
    solved = [(after.pass_at(k) >= 0.5, before.pass_at(k) >= 0.5) for after, before in runs]
    starts = [p.pretrain_seed for p in pairs]
    gained = stats.mean_of_runs([float((after & ~before).sum()) for after, before in solved], starts)
    lost = stats.mean_of_runs([float((before & ~after).sum()) for after, before in solved], starts)
    target_first, source_first = next(iter(pairs.values()))
    count = len({p.run for p in pairs})
    shots = (source_first.shots, target_first.shots)
    room = has_room((before for _, before in pairs.values()), k, extraction)
    return Transition(
        tokens, task, source, target, extraction, shots, k, curve, gained, lost, count,
        other_grading=extraction != results.extraction, room=room,
    )  # fmt: skip
