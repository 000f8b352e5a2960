"""Paired differences of two studies, model by model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from foray.report.differences import pair, passk_difference
from foray.report.measurements import PassK
from foray.report.results import ANY_MODEL, Results

_ALIKE = ("task", "recipe", "variant", "mix", "split", "shots")  # what two compared models share beside M_t


def between(ours: Results, theirs: Results) -> list[dict[str, Any]]:
    """pass@k of the first study minus that of the second, a row a k and an M_t of models that are alike in both.

    Problems are paired by id, runs by seed. The first study's grading holds for both. Empty without a common model.
    """
    grading, ks = ours.extraction, sorted({*ours.ks} & {*theirs.ks})
    rows = []
    a, b = _ends(ours), _ends(theirs)
    for place in [p for p in a if p in b]:
        for tokens, pairs in pair(a[place], b[place]).items():
            fewest = min(int(e.counts[grading].samples.min()) for of_run in pairs.values() for e in of_run)
            for k in [k for k in ks if k <= fewest]:
                gain = passk_difference(pairs, k, grading)
                means = [_mean((of_run[i] for of_run in pairs.values()), k, grading) for i in (0, 1)]
                named = {"tokens": tokens, **dict(zip(_ALIKE, place)), "metric": f"pass@{k}"}
                named |= {"ours": means[0], "theirs": means[1]}
                rows.append({**named, **gain.interval._asdict(), "runs": len(gain.runs)})
    return rows


def _ends(results: Results) -> dict[tuple[Any, ...], list[PassK]]:
    """The final evaluations by what compared models share."""
    found: dict[tuple[Any, ...], list[PassK]] = {}
    for e in results.select(PassK, final=True, **ANY_MODEL):
        found.setdefault(tuple(getattr(e, name) for name in _ALIKE), []).append(e)
    return found


def _mean(models: Iterable[PassK], k: int, grading: str) -> float:
    return float(np.mean([e.counts[grading].pass_at(k).mean() for e in models]))
