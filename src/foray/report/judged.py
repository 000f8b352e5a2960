"""The first sections of the page: what the study says of the paper's claims, of every transition, and of its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from foray.report import controls, crossed, readiness, stats, tuning
from foray.report.markup import Markup, cell, in_tokens, label, points, table
from foray.report.results import Results, metric_rank, recipe_rank, records
from foray.report.stats import MARGIN
from foray.report.verdicts import Transition, top_k

_ANSWERS = {"shown": "for", "contradicted": "against"}
_VERDICTS = {"expansion": "for", "broadening": "for", "degradation": "against"}


def sections(
    results: Results, answers: pd.DataFrame, transitions: Sequence[Transition], ready: pd.DataFrame
) -> list[tuple[str, str, str]]:
    """(name, heading, HTML) of each section that has something to show; ``ready``: the rows of readiness."""
    found = [
        ("claims", "What this study says of the paper's claims", _claims(results, answers)),
        ("transitions", "What each step did to the distribution", _transitions(results, transitions)),
        ("seeds", "Spread between seeds", _seeds(results)),
        ("controls", "Controls: recipes varied", controls.section(results)),
        ("crossed", "Is it the format? Crossed evaluation", crossed.section(results)),
        ("tuning", "How learning rates were chosen", tuning.section(results)),
        ("readiness", readiness.TITLE, readiness.section(ready)),
    ]
    return [section for section in found if section[2]]


def _badge(word: str, kinds: dict[str, str]) -> Markup:
    return Markup(f'<span class="answer {kinds.get(word, "")}">{escape(word)}</span>')


def _dim(text: str) -> str:
    return f'<p class="dim">{escape(text)}</p>'


def _files(*stems: str) -> str:
    return '<p class="dim">' + " · ".join(f'<a href="{s}.csv">{s}.csv</a>' for s in stems) + "</p>"


def _claims(results: Results, answers: pd.DataFrame) -> str:
    rows = []
    for row in records(answers):
        effect = "–" if pd.isna(row.value) else points(row)
        why = Markup(f'{cell(row.effect)}<span class="range">{cell(row.note)}</span>') if row.effect else row.note
        rows.append((row.claim, row.statement, _badge(row.answer, _ANSWERS), effect, why, row.paper))
    text = (
        "Each answer follows from a fixed rule (docs/claims.md). Beside it stands the comparison that decided, in "
        "points with its 95% interval: the weakest of those a claim needs, or the one against it, or the first for "
        "which it holds. A claim about every M_t needs each to hold; a search for some M_t is corrected by Holm's "
        "method. The paper's numbers are percent, of a 1B model on GSM8K and MATH: compare directions, not sizes."
    )
    shown = table(["", "claim", "answer", "points", "decided by", "in the paper"], rows, text_columns=6)
    return f'<div class="note">{escape(scope(results))}</div>{_dim(text)}{shown}{_files("claims")}'


def scope(results: Results) -> str:
    """What the numbers of this study can speak of, given its seeds."""
    starts = {e.entry.pretrain_seed for e in results.evaluations if e.entry.recipe == "base"}
    runs: dict[tuple[str, int, str, int], set[int]] = {}
    for x in (e.entry for e in results.evaluations):
        if x.final and x.recipe != "base":
            runs.setdefault((x.recipe, x.tokens, x.task, x.pretrain_seed), set()).add(x.seed)
    fewest, most = (f((len(s) for s in runs.values()), default=0) for f in (min, max))
    missing = len(results.missing)
    partial = f" {missing} measurements are missing: the answers are of what is there." if missing else ""
    pretrained = f"{max(1, len(starts))} pre-training run{'s'[: len(starts) > 1]}"
    if most <= 1:
        return (
            f"Scope: {pretrained}, one post-training seed. Intervals speak of other problems of the same kind, not of "
            f"other seeds or pre-trainings: a recipe trained again may differ by more.{partial}"
        )
    seeds = f"{fewest} to {most}" if fewest < most else str(most)
    each = " each" if len(starts) > 1 else ""
    return (
        f"Scope: {pretrained}, {seeds} post-training seeds{each}. Intervals of means over seeds speak of other "
        "problems of the same kind and of other post-training seeds from these pre-trainings, not of other "
        f"pre-trainings, sizes or worlds.{partial}"
    )


def _transitions(results: Results, transitions: Sequence[Transition]) -> str:
    if not transitions:
        return ""
    margin = f"{100 * MARGIN:g}"
    text = (
        "Differences in points, paired by problem, with 95% intervals; up and down mean that the whole interval is. "
        f"No change: both within ±{margin}. Expansion: pass@1 and pass@K up. Sharpening: pass@1 up, pass@K not up, and "
        f"surely not by more than {margin} points. Broadening: the same with pass@1 and pass@K exchanged. Degradation: "
        f"one or both down, neither up, surely not by more than {margin}. Lenient: both models graded by their last "
        "number where the asked-for form is missing, so that learning the form alone does not count. Solved and lost: "
        "problems that only the later, or only the earlier, model solves in K samples. Detectable: the true difference "
        "(in pass@1, in pass@K) that this evaluation would have found four times in five. Each verdict is at 95% by "
        "itself: of forty, one or two will be wrong by chance."
    )
    parts = [_dim(text)]
    for task in results.tasks:
        found = [t for t in transitions if t.task == task]
        if not found:
            continue
        rows = [
            (
                f"{in_tokens(t.tokens)} ({t.tokens / results.model_parameters:.2g})", t.label,
                _badge(t.verdict, _VERDICTS), points(t.one), points(t.top), _count(t.gained), _count(t.lost),
                f"{100 * stats.detectable(t.one):.1f}, {100 * stats.detectable(t.top):.1f}", t.runs,
            )
            for t in found
        ]  # fmt: skip
        k = " or ".join(str(k) for k in sorted({t.k for t in found}))
        headers = ["tokens (per parameter)", "transition", "verdict", "Δ pass@1", f"Δ pass@{k}", "solved", "lost"]
        heading = f"<h3>{escape(task)}</h3>" if len(results.tasks) > 1 else ""
        parts.append(heading + table([*headers, "detectable", "runs"], rows, text_columns=3, rules=True))
        parts.append(_curves(results, found))
    return "\n".join(parts) + _files("transitions", "transition_curves")


def _curves(results: Results, found: Sequence[Transition]) -> str:
    """The difference at every k, folded away."""
    ks = sorted({k for t in found for k in t.curve})
    rows = [(in_tokens(t.tokens), t.label, *(points(t.curve.get(k)) for k in ks)) for t in found]
    shown = table(["tokens", "transition", *(f"Δ pass@{k}" for k in ks)], rows, text_columns=2, rules=True)
    return f"<details><summary>The difference at every k</summary>{shown}</details>"


def _count(problems: float) -> str:
    return f"{problems:.3g}"


def _seeds(results: Results) -> str:
    """Every seed's value, where a recipe has several from one M_t."""
    rows = []
    for task in results.tasks:
        metrics = [f"pass@{k}" for k in sorted({1, top_k(results, task)})]
        asked = results.table[results.table["final"] & (results.table["task"] == task)]
        asked = asked[asked["metric"].isin(metrics) & (asked["extraction"] == results.extraction)]
        asked = asked[asked["trained_on"].isin(["", results.trained_on(task)])]
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for row in records(asked):
            place = (row.tokens, recipe_rank(row.recipe), row.recipe, metric_rank(row.metric), row.metric, row.shots)
            groups.setdefault(place, []).append(row)
        for (tokens, _, recipe, _, metric, shots), runs in sorted(groups.items(), key=lambda item: item[0][:4]):
            values = [100 * r.value for r in sorted(runs, key=lambda r: (r.pretrain_seed, r.seed))]
            if len(values) > 1:
                each = ", ".join(f"{v:.1f}" for v in values)
                spread = f"{pd.Series(values).std(ddof=1):.1f}"
                rows.append((
                    in_tokens(tokens), label(recipe, shots), f"{task}, {metric}", each, spread,
                    f"{max(values) - min(values):.1f}",
                ))  # fmt: skip
    if not rows:
        return ""
    text = (
        "Percent, one value a run in order of pre-training seed and seed, all on the same problems; sd and range over "
        "all of them in points."
    )
    headers = ["tokens", "recipe", "metric", "each run", "sd", "range"]
    return _dim(text) + table(headers, rows, text_columns=4, rules=True)
