"""What each step did to the distribution: the verdict on every transition from one model to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from foray.core.spelling import in_tokens, per_parameter
from foray.report import stats
from foray.report.columns import COUNT, POINTS, PROBLEMS, TOKENS, Column, badge, frame_of, table
from foray.report.markup import joined, parts
from foray.report.results import Results
from foray.report.sections import Section
from foray.report.stats import MARGIN
from foray.report.verdicts import Transition, transitions

NAME, TITLE, PLACE = "transitions", "What each step did to the distribution", 20

_POINTS = f"{100 * MARGIN:g}"
_TEXT = (
    "Differences in points, paired by problem, with 95% intervals; up and down mean that the whole interval is. "
    f"No change: both within ±{_POINTS}. Expansion: pass@1 and pass@K up. Sharpening: pass@1 up, pass@K not up, and "
    f"surely not by more than {_POINTS} points. Broadening: the same with pass@1 and pass@K exchanged. Degradation: "
    f"one or both down, neither up, surely not by more than {_POINTS}. Lenient: both models graded by their last "
    "number where the asked-for form is missing, so that learning the form alone does not count. Strict: both graded "
    "with that form asked for, so that learning the form counts. Reached ½: problems with pass@K of at least one half "
    "in the later model and not in the earlier one; fell below ½: the reverse. Detectable: the true difference "
    "(in pass@1, in pass@K) that this evaluation would have found four times in five. Each verdict is at 95% by "
    "itself: of forty, one or two will be wrong by chance."
)
SIGNS = {"expansion": "for", "broadening": "for", "degradation": "against"}
CSV = (
    "study", "task", "tokens", "tokens_per_parameter", "from", "to", "extraction", "from_shots", "to_shots", "k",
    "pass1", "pass1_lo", "pass1_hi", "passk", "passk_lo", "passk_hi", "verdict", "newly_solved", "newly_lost",
    "detectable_pass1", "detectable_passk", "n", "runs",
)  # fmt: skip
CURVES_CSV = ("task", "tokens", "from", "to", "extraction", "k", "value", "lo", "hi", "n", "runs")


def section(results: Results) -> Section:
    found = transitions(results)
    rows = [_row(results, t) for t in found]
    curves = [_point(t, k) for t in found for k in t.curve]
    files = {"transitions": frame_of(rows, CSV), "transition_curves": frame_of(curves, CURVES_CSV)}
    if not found:
        return Section(files=files)
    pieces = [parts.dim(_TEXT)]
    for task in results.tasks:
        if here := [t for t in found if t.task == task]:
            pieces += [table(here, _columns(results, here), f"{task}: transitions"), _curves(here, task)]
    return Section(joined(*pieces), files)


def _row(results: Results, t: Transition) -> dict[str, Any]:
    """Shares, not percent; ``detectable`` as in ``stats.detectable``."""
    row = {"study": results.study, "task": t.task, "tokens": t.tokens}
    row |= {"tokens_per_parameter": t.tokens / results.model_parameters, "from": t.source, "to": t.target}
    row |= {"extraction": t.extraction, "from_shots": t.shots[0], "to_shots": t.shots[1], "k": t.k}
    row |= {"pass1": t.one, "passk": t.top, "verdict": t.verdict, "newly_solved": t.gained, "newly_lost": t.lost}
    detectable = {"detectable_pass1": stats.detectable(t.one), "detectable_passk": stats.detectable(t.top)}
    return row | detectable | {"n": t.one.n, "runs": t.runs}


def _point(t: Transition, k: int) -> dict[str, Any]:
    place = {"task": t.task, "tokens": t.tokens, "from": t.source, "to": t.target, "extraction": t.extraction}
    return place | {"k": k, "value": t.curve[k], "n": t.curve[k].n, "runs": t.runs}


def _columns(results: Results, found: Sequence[Transition]) -> list[Column]:
    k = " or ".join(str(k) for k in sorted({t.k for t in found}))

    def place(t: Transition) -> str:
        return f"{in_tokens(t.tokens)} ({per_parameter(t.tokens / results.model_parameters)})"

    def detectable(t: Transition) -> str:
        return f"{100 * stats.detectable(t.one):.1f}, {100 * stats.detectable(t.top):.1f}"

    return [
        Column("tokens (per parameter)", place),
        Column("transition", "label"),
        Column("verdict", badge("verdict", SIGNS)),
        Column("Δ pass@1", "one", POINTS),
        Column(f"Δ pass@{k}", "top", POINTS),
        Column("reached ½", "gained", PROBLEMS),
        Column("fell below ½", "lost", PROBLEMS),
        Column("detectable", detectable, COUNT),
        Column("runs", "runs", COUNT),
    ]


def _curves(found: Sequence[Transition], task: str) -> Markup:
    """The difference by k, folded away."""
    ks = sorted({k for t in found for k in t.curve})
    rows = [{"tokens": t.tokens, "transition": t.label, **t.curve} for t in found]
    columns = [Column("tokens", "tokens", TOKENS), Column("transition", "transition")]
    columns += [Column(f"Δ pass@{k}", k, POINTS) for k in ks]
    caption = f"{task}: the difference by k"
    return Markup(parts.folded(caption, table(rows, columns, caption)))
