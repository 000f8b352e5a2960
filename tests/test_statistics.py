"""The report's intervals and tests: against closed forms, and by simulation against the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from foray.report import clusters, stats
from foray.report.differences import Pairing, differences
from foray.report.reader import _numbered
from foray.report.stats import Counts, Interval
from simulate_coverage import POPULATIONS, pretraining_rows, problem_rows, seed_rows


@pytest.mark.parametrize("name", ["low", "high", "equal models"])
def test_intervals_hold_the_truth_in_a_short_simulation(name: str) -> None:
    """With 600 data sets, coverage is 95% within four standard errors (0.9 points each)."""
    rows = list(problem_rows([name], (100,), 600))
    assert {(r.kind, r.k) for r in rows} == set(itertools.product(("one", "paired"), (1, 8, 32)))
    for row in rows:
        assert row.sparse or 0.915 <= row.coverage <= 0.985, row


@pytest.mark.slow
def test_intervals_hold_the_truth_93_to_97_times_in_100() -> None:
    rows = list(problem_rows(list(POPULATIONS), (100, 200, 500), 2000))
    wrong = [r for r in rows if not r.sparse and not 0.93 <= r.coverage <= 0.97]
    assert not wrong and sum(not r.sparse for r in rows) > 80
    for row in (*seed_rows((3, 5), 2000), *seed_rows((3,), 2000, starts=(-0.5, 0.5))):
        assert row.coverage >= 0.93, row  # too seldom wrong is stated in the documents
    for runs in ((1, 1, 1, 1), (1, 1, 1, 1, 1, 1), (4, 4, 1, 1, 1, 1)):
        assert all(row.coverage >= 0.93 for row in pretraining_rows(runs, 2000)), runs


@pytest.mark.slow
def test_a_few_seeds_cover_at_least_what_they_say() -> None:
    for row in (*seed_rows((3,), 200, problems=100), *seed_rows((3,), 120, problems=100, starts=(-0.5, 0.5))):
        assert row.coverage >= 0.91, row


def test_pretrainings_are_what_is_sampled_from_four_on() -> None:
    """Each counts once, whatever its number of runs; fewer are taken as given."""
    runs = [Interval(v, v - 0.01, v + 0.01, 50) for v in (0.1, 0.3, 0.4, 0.5, 0.6)]
    found = stats.over_seeds(runs, -1.0, 1.0, [0, 0, 1, 2, 3])
    means = np.array([0.2, 0.4, 0.5, 0.6])
    half = math.hypot(0.01, 3.1824 * means.std(ddof=1) / 2)
    assert found[:3] == pytest.approx((means.mean(), means.mean() - half, means.mean() + half))
    assert stats.degrees_of_freedom([0, 0, 1, 2, 3]) == 3 and stats.degrees_of_freedom([0, 0, 1, 2]) == 1
    given = stats.over_seeds(runs[1:4], -1.0, 1.0, [0, 1, 2])
    assert given[:3] == pytest.approx((0.4, 0.39, 0.41))


@pytest.mark.parametrize("starts", [(0, 1, 2, 3), (0, 1, 2), (0, 0, 0, 1)])
def test_of_problems_a_difference_takes_the_mean_over_runs(starts: tuple[int, ...]) -> None:
    """So what one run has with a problem averages out. Where runs were asked other problems, nothing does."""
    random = np.random.default_rng(0)
    ids = tuple(f"{i:03}" for i in range(200))
    correct = random.binomial(8, 0.3, (2, len(starts), 200))
    pairs = {Pairing(s, i, i): tuple(Counts(ids, c[i], np.full(200, 8)) for c in correct) for i, s in enumerate(starts)}
    gaps = {p: a.pass_at(1) - b.pass_at(1) for p, (a, b) in pairs.items()}
    each = [stats.difference_intervals(g[:, None])[0] for g in gaps.values()]
    of_problems = stats.difference_intervals(np.mean(list(gaps.values()), axis=0)[:, None])[0]
    (found,) = differences(pairs, [1])
    expected = stats.over_seeds(each, -1.0, 1.0, starts, of_problems)
    assert found.interval == pytest.approx(expected) and found.interval.value == pytest.approx(of_problems.value)
    wider = stats.over_seeds(each, -1.0, 1.0, starts)
    assert found.interval.hi - found.interval.lo < wider.hi - wider.lo

    first, (a, b) = next(iter(pairs.items()))
    fewer = tuple(Counts(ids[1:], c.correct[1:], c.samples[1:]) for c in (a, b))
    (apart,) = differences(pairs | {first: fewer}, [1])
    assert apart.interval.hi - apart.interval.lo == pytest.approx(wider.hi - wider.lo, rel=0.05)


def test_means_of_many_problems_follow_the_normal_approximation() -> None:
    values = np.random.default_rng(0).beta(2, 3, (2000, 1))
    half = stats.Z * values.std(ddof=1) / math.sqrt(2000)
    for found in (stats.mean_intervals(values)[0], stats.difference_intervals(values)[0]):
        assert found.value == pytest.approx(values.mean())
        assert found.lo == pytest.approx(values.mean() - half, abs=0.08 * half)
        assert found.hi == pytest.approx(values.mean() + half, abs=0.08 * half)


def test_yes_or_no_answers_have_the_closed_forms() -> None:
    answers = np.repeat([1.0, 0.0], [3, 97])[:, None]
    assert stats.mean_intervals(answers)[0] == stats.wilson(0.03, 100)
    changes = np.repeat([1.0, -1.0, 0.0], [9, 4, 87])[:, None]
    found = stats.difference_intervals(changes)[0]
    assert found == stats.bonett_price(9, 4, 100)
    # (10 - 5) / 102 and its Wald error, by hand.
    error = math.sqrt((15 / 102 - (5 / 102) ** 2) / 102)
    assert found[:3] == pytest.approx((0.05, 5 / 102 - 1.959964 * error, 5 / 102 + 1.959964 * error))


def test_no_interval_is_wider_than_that_of_yes_or_no_answers() -> None:
    random = np.random.default_rng(4)
    for rate, problems in itertools.product((0.002, 0.02, 0.5, 0.99), (20, 150)):
        values = (random.binomial(32, np.full((problems, 5), rate)) / 32).astype(float)
        for found in stats.mean_intervals(values):
            outer = stats.wilson(found.value, problems)
            assert outer.lo - 1e-12 <= found.lo <= found.value <= found.hi <= outer.hi + 1e-12
            assert found.lo < found.hi
        for found in stats.difference_intervals(values - values[:, ::-1]):
            assert -1.0 <= found.lo < found.hi <= 1.0


def test_student_and_p_values() -> None:
    for degrees in (1, 2, 3, 4, 7, 10):
        assert stats.student(stats.t_quantile(degrees), degrees) == pytest.approx(0.975, abs=1e-5)
    assert stats.student(1.0, 1) == pytest.approx(0.75)  # Cauchy: 1/2 + arctan(1)/pi
    interval = Interval(0.05, 0.01, 0.08, 100)
    assert stats.p_value(interval, 0.01) == pytest.approx(0.05) and stats.p_value(interval, 0.08) == pytest.approx(0.05)
    assert stats.p_value(interval, 0.0) < 0.05 < stats.p_value(interval, 0.02)
    assert stats.p_value(interval, 0.01, degrees=2) == pytest.approx(0.05, abs=1e-5)
    assert stats.p_value(interval, 0.05) == 1.0
    # Fewer seeds have heavier tails: the same distance in half-widths says less.
    assert stats.p_value(interval, -0.03, degrees=2) > stats.p_value(interval, -0.03)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert stats.holm([0.04]) == [True] and stats.holm([]) == []
    assert stats.holm([0.02, 0.02, 0.9]) == [False, False, False]  # 0.02 > 0.05 / 3
    assert stats.holm([0.0166, 0.02, 0.9]) == [True, True, False]


def test_detectable_is_what_power_calls_for() -> None:
    """At a standard error of 1 point, four of five simulated evaluations find a difference of 2.80 points."""
    interval = Interval(0.0, -stats.Z * 0.01, stats.Z * 0.01, 100)
    effect = stats.detectable(interval)
    assert effect == pytest.approx(0.02802, abs=1e-5)
    found = np.random.default_rng(0).normal(effect, 0.01, 20000) > stats.Z * 0.01
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_answers_on_one_fact_count_as_what_they_say_together() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random(120) < 0.7).astype(np.float64)
    each, twice = np.arange(120), np.repeat(np.arange(120), 2)
    assert clusters.share_interval(right.mean(), right, each) == stats.wilson(right.mean(), 120)
    # The same answer to two questions on a fact is one answer.
    assert clusters.share_interval(right.mean(), right.repeat(2), twice)[:3] == pytest.approx(
        stats.wilson(right.mean(), 120)[:3], abs=1e-3
    )
    # Answers that do not agree more than chance count one by one, or nearly.
    free = (rng.random(240) < 0.7).astype(np.float64)
    assert 180 < clusters.independent_answers(free, twice) <= 240
    changed = right - (rng.random(120) < 0.6)
    alone = stats.difference_intervals(changed[:, None])[0]
    assert clusters.share_difference(changed, each) == alone
    doubled = clusters.share_difference(changed.repeat(2), twice)
    assert doubled[:3] == pytest.approx(alone[:3], abs=1e-3) and doubled.n == 240


@pytest.mark.parametrize("answers", [np.zeros(40), np.ones(40)])
def test_answers_that_all_agree_count_once_a_fact(answers: np.ndarray) -> None:
    facts = np.repeat(np.arange(10), 4)
    assert clusters.independent_answers(answers, facts) == 10
    assert clusters.share_interval(float(answers[0]), answers, facts)[1:3] == stats.wilson(float(answers[0]), 10)[1:3]


def test_intervals_clustered_by_fact_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        known = (
            rng.random(72) < 0.6
        )  # of 72 facts; 200 questions, three a fact at most, right with it nine times in ten
        facts = rng.permutation(np.repeat(np.arange(72), 3))[:200]
        right = np.where(rng.random(200) < 0.9, known[facts], rng.random(200) < 0.5).astype(np.float64)
        interval = clusters.share_interval(right.mean(), right, facts)
        held += interval.lo <= 0.9 * 0.6 + 0.1 * 0.5 <= interval.hi
    assert 930 <= held <= 970


def test_facts_of_a_file_are_numbered_anew_and_checked() -> None:
    """A number is an index of a table: a hostile file must not choose its size."""
    assert _numbered([10**30, 7, 10**30, -1], 4).tolist() == [0, 1, 0, 2]
    assert _numbered(None, 3).tolist() == [0, 1, 2]
    for wrong in ([1, 2], [1, 2, "3"], {"a": 1}, [[1], 2, 3], []):
        with pytest.raises(ValueError, match="a list of 3 whole numbers"):
            _numbered(wrong, 3)
