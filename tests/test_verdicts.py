"""Verdicts on transitions: exhaustive and exclusive rules, and what a study's transitions report."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from foray.report import read_results, verdicts
from foray.report.sections.transitions import section
from foray.report.stats import Interval
from foray.report.verdicts import verdict
from test_report import TOKENS, Study, build

M = 0.02
BOUNDS = (-0.3, -0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03, 0.3)
INTERVALS = [Interval((lo + hi) / 2, lo, hi, 100) for lo, hi in itertools.combinations(BOUNDS, 2)]


def holding(one: Interval, top: Interval) -> list[str]:
    """Every verdict whose full condition holds. The conditions here do not depend on the order of verdicts."""
    inside = all(i.lo >= -M and i.hi <= M for i in (one, top))
    up1, upk = one.lo > 0, top.lo > 0
    rules = {
        "no change": inside,
        "expansion": up1 and upk and not inside,
        "sharpening": up1 and not upk and top.hi <= M and not inside,
        "broadening": upk and not up1 and one.hi <= M and not inside,
        "degradation": (one.hi < 0 or top.hi < 0)
        and not up1
        and not upk
        and one.hi <= M
        and top.hi <= M
        and not inside,
    }
    found = [name for name, holds in rules.items() if holds]
    return found or ["cannot tell"]


def test_exactly_one_verdict_holds_everywhere_on_a_grid() -> None:
    seen = set()
    for one, top in itertools.product(INTERVALS, INTERVALS):
        assert holding(one, top) == [verdict(one, top)], (one, top)
        seen.add(verdict(one, top))
    assert seen == {"expansion", "sharpening", "broadening", "degradation", "no change", "cannot tell"}


@pytest.mark.parametrize(
    ("one", "top", "expected"),
    [
        ((0.03, 0.09), (0.01, 0.20), "expansion"),
        ((0.03, 0.09), (-0.09, 0.02), "sharpening"),
        ((0.03, 0.09), (-0.09, -0.03), "sharpening"),
        ((0.03, 0.09), (-0.09, 0.03), "cannot tell"),  # pass@K may be up by more than the margin
        ((-0.01, 0.02), (0.03, 0.20), "broadening"),
        ((-0.09, -0.03), (0.03, 0.20), "broadening"),
        ((-0.09, -0.03), (-0.01, 0.01), "degradation"),
        ((-0.01, 0.01), (-0.09, -0.03), "degradation"),
        ((-0.09, -0.03), (-0.09, 0.09), "cannot tell"),
        ((-0.02, 0.02), (-0.02, 0.02), "no change"),
        ((0.005, 0.015), (0.005, 0.015), "no change"),  # up, by less than counts
        ((-0.09, 0.01), (-0.09, 0.01), "cannot tell"),
    ],
)  # fmt: skip
def test_verdicts_by_hand(one: tuple[float, float], top: tuple[float, float], expected: str) -> None:
    assert verdict(Interval(sum(one) / 2, *one, 9), Interval(sum(top) / 2, *top, 9)) == expected


def test_transitions_of_a_study(tmp_path: Path) -> None:
    results = read_results(build(tmp_path).write())
    found = verdicts.transitions(results)
    kinds = {(t.source, t.target, t.extraction) for t in found}
    trained = ("rl", "sft", "sft_rl", "parallel")
    assert kinds == {("base", r, e) for r in trained for e in ("strict", "lenient")} | {
        ("sft", "sft_rl", "strict"), ("rl", "parallel", "strict"), ("sft", "parallel", "strict")
    }  # fmt: skip
    assert len(found) == len(kinds) * len(TOKENS)
    evaluations = {
        (e.recipe, e.tokens): e.counts["strict"] for r in results.recipes() for e in results.finals(r, "world_easy")
    }
    for t in found:
        assert list(t.curve) == [1, 2, 4, 8, 16, 32] and t.k == 32 and t.runs == 1
        if t.extraction == "strict":
            a, b = evaluations[t.target, t.tokens].correct, evaluations[t.source, t.tokens].correct
            assert t.gained == ((a > 0) & (b == 0)).sum() and t.lost == ((b > 0) & (a == 0)).sum()
            assert t.top.value == pytest.approx((t.gained - t.lost) / 200)
            assert t.one.value == pytest.approx(np.mean(a - b) / 32)
    files = section(results).files
    assert len(files["transitions"]) == len(found) and (files["transitions"]["detectable_passk"] > 0).all()
    assert len(files["transition_curves"]) == 6 * len(found)


def test_a_study_that_shows_flexible_grading_has_the_strict_one_beside_it(tmp_path: Path) -> None:
    results = read_results(build(tmp_path).write(grading="flexible"))
    found = [t for t in verdicts.transitions(results) if t.target == "rl" and t.tokens == TOKENS[-1]]
    assert [(t.source, t.extraction, t.label) for t in found] == [
        ("base", "flexible", "Base → RL"), ("base", "strict", "Base → RL, strict")
    ]  # fmt: skip
    assert found[0].one != found[1].one


def test_k_is_32_or_else_the_largest(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for recipe, place in (("base", 8), ("rl", 0)):
        rows = [
            {
                "id": str(i), "tags": [], "samples": 12, "correct": {"strict": i % 5},
                "formatted": 9, "truncated": 0, "tokens": 1,
            }
            for i in range(30)
        ]  # fmt: skip
        study.add("passk", {"problems.jsonl": rows}, recipe=recipe, tokens=10, stage_step=place, task="t", shots=place)
    (only,) = verdicts.transitions(read_results(study.write(k=[1, 8])))
    assert only.k == 12 and list(only.curve) == [1, 2, 4, 8, 12] and only.gained == only.lost == 0
    assert only.verdict == "cannot tell" and only.shots == (8, 0)
