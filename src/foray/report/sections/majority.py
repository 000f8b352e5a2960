"""Majority vote @K beside pass@1 and pass@K: whether the most frequent answer is the right one."""

from __future__ import annotations

from typing import Any

import numpy as np

from foray.report import stats
from foray.report.columns import COUNT, POINTS, RECIPE, SHARE, TOKENS, Column, frame_of, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.readings.tempering import right_of
from foray.report.readings.voting import majority
from foray.report.results import Results
from foray.report.sections import Section
from foray.report.stats import Counts, Interval

NAME, TITLE, PLACE = "majority", "Majority vote", 36

_TEXT = (
    "In percent: one sample right (pass@1), the most frequent answer of K samples right (maj@K), any sample right "
    "(pass@K); answers by flexible grading, samples without an answer have no vote, equally frequent answers share. "
    "Vote − one: what voting adds, in points, paired by problem. Where it adds, the right answer is often the most "
    "frequent one though seldom given, so sharpening alone would raise pass@1. 95% intervals over problems."
)
Run = tuple[list[Any], Counts]  # votes, and right answers by them, in order of the problems' ids


def section(results: Results) -> Section:
    found = [row for task in results.tasks for row in rows(results, task)]
    files = {"majority": frame_of([_flat(row) for row in found])}
    if not found:
        return Section(files=files, absent="no evaluation holds the answers' votes")
    pieces = []
    for task in dict.fromkeys(row["task"] for row in found):
        here = [row for row in found if row["task"] == task]
        pieces.append(table(here, _columns(here), f"{task}: one sample, the vote, any sample"))
    return Section(joined(parts.dim(_TEXT), *pieces), files)


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """One a recipe and M_t with votes, over all runs; shares. ``k``: the samples a problem."""
    found = []
    for recipe, tokens, runs in results.ends(task):
        if all(e.votes for e in runs):
            found.append({"task": task, "tokens": tokens, "recipe": recipe} | _numbers(results, runs))
    return found


def _numbers(results: Results, runs: list[PassK]) -> dict[str, Any]:
    counted, starts = [_counted(e) for e in runs], [e.pretrain_seed for e in runs]
    most = min(int(c.samples.min()) for _, c in counted)
    voted = {
        k: [majority(votes, c.samples, k) for votes, c in counted]
        for k in sorted({*(k for k in results.ks if 1 < k < most), most})
    }

    def mean(values: list[Any]) -> Interval:
        return stats.over_seeds([stats.mean_intervals(v[:, None])[0] for v in values], 0.0, 1.0, starts)

    added = [stats.difference_intervals((v - c.pass_at(1))[:, None])[0] for v, (_, c) in zip(voted[most], counted)]
    out: dict[str, Any] = {"k": most, "pass1": mean([c.pass_at(1) for _, c in counted])}
    out |= {
        "maj": {k: mean(values) for k, values in voted.items()},
        "passk": mean([c.pass_at(most) for _, c in counted]),
    }
    return out | {"added": stats.over_seeds(added, -1.0, 1.0, starts), "n": out["pass1"].n, "runs": len(runs)}


def _counted(e: PassK) -> Run:
    counts = next(iter(e.counts.values()))
    votes = [e.votes[i] for i in counts.ids]
    return votes, Counts(counts.ids, np.array([right_of(v) for v in votes], dtype=np.int64), counts.samples)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != "maj"} | {f"maj{k}": v for k, v in row["maj"].items()}


def _columns(found: list[dict[str, Any]]) -> list[Column]:
    ks = sorted({k for row in found for k in row["maj"]})
    tops = " or ".join(str(k) for k in sorted({row["k"] for row in found}))
    return [
        Column("tokens", "tokens", TOKENS),
        Column("recipe", "recipe", RECIPE),
        Column("pass@1", "pass1", SHARE),
        *(Column(f"maj@{k}", lambda row, k=k: row["maj"].get(k), SHARE) for k in ks),
        Column(f"pass@{tops}", "passk", SHARE),
        Column("vote − one", "added", POINTS),
        Column("runs", "runs", COUNT),
    ]
