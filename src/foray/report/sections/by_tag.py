"""pass@k by the labels of the problems, such as their number of steps: on which problems a recipe gains."""

from __future__ import annotations

from typing import Any

import numpy as np

from foray.report import stats
from foray.report.columns import COUNT, RECIPE, TOKENS, Column, frame_of, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "by_tag", "Which problems", 39
MOST = 12  # values of a label; one with more is no group of problems

_TEXT = (
    "In percent: pass@1 / pass@K of the problems with each label, K the samples a problem. In brackets: the number of "
    "problems. A recipe that gains on easy problems alone sharpens what the base can do; the file has 95% intervals."
)


def section(results: Results) -> Section:
    found = [row for task in results.tasks for row in rows(results, task)]
    files = {NAME: frame_of(found)}
    if not found:
        return Section(files=files, absent="no evaluation's problems have labels that group them")
    pieces = []
    for task, tag in dict.fromkeys((row["task"], row["tag"]) for row in found):
        here = [row for row in found if (row["task"], row["tag"]) == (task, tag)]
        pieces.append(_table(here, f"{task}, by {tag}: pass@1 / pass@K"))
    return Section(joined(parts.dim(_TEXT), *pieces), files)


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """One a recipe, M_t, label and value of the label, over all runs; shares. ``k``: the samples a problem."""
    found = []
    for recipe, tokens, runs in results.ends(task):
        place = {"task": task, "tokens": tokens, "recipe": recipe}
        found += [place | row for row in _by_value(runs, results.extraction)]
    return sorted(found, key=lambda row: row["tag"])


def _by_value(runs: list[PassK], rule: str) -> list[dict[str, Any]]:
    k = min(int(e.counts[rule].samples.min()) for e in runs)
    starts = [e.pretrain_seed for e in runs]
    found = []
    for tag, values in groups(runs[0].tags).items():
        for value in values:
            chosen = [np.array([f"{tag}={value}" in tags for tags in e.tags]) for e in runs]
            if not all(mask.any() for mask in chosen):
                continue
            row: dict[str, Any] = {"tag": tag, "value": value, "n": int(chosen[0].sum()), "k": k}
            for name, of in (("pass1", 1), ("passk", k)):
                shares = [e.counts[rule].pass_at(of)[mask] for e, mask in zip(runs, chosen)]
                intervals = [stats.mean_intervals(v[:, None])[0] for v in shares]
                row[name] = stats.over_seeds(intervals, 0.0, 1.0, starts)
            found.append(row | {"runs": len(runs)})
    return found


def groups(tags: tuple[tuple[str, ...], ...]) -> dict[str, list[str]]:
    """The values of each label ``name=value`` that divides the problems into 2 to ``MOST`` groups, in their order."""
    found: dict[str, set[str]] = {}
    for name, is_, value in (tag.partition("=") for labels in tags for tag in labels):
        if is_:
            found.setdefault(name, set()).add(value)
    return {name: sorted(values, key=_rank) for name, values in found.items() if 2 <= len(values) <= MOST}


def _rank(value: str) -> tuple[float, str]:
    return (float(value) if value.isascii() and value.isdigit() else np.inf, value)


def _table(here: list[dict[str, Any]], caption: str) -> Any:
    problems = {row["value"]: row["n"] for row in here}
    lines: dict[tuple[int, str], dict[str, Any]] = {}
    for row in here:
        line = lines.setdefault((row["tokens"], row["recipe"]), {"tokens": row["tokens"], "recipe": row["recipe"]})
        line[f"of {row['value']}"] = f"{_short(row['pass1'])} / {_short(row['passk'])}"
    return table(
        lines.values(),
        [Column("tokens", "tokens", TOKENS), Column("recipe", "recipe", RECIPE)]
        + [Column(f"{value} ({problems[value]})", f"of {value}", COUNT) for value in sorted(problems, key=_rank)],
        caption,
    )


def _short(interval: stats.Interval) -> str:
    return f"{100 * interval.value:.0f}"
