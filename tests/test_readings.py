"""Readings of an excursion: each formula by hand or by enumeration, and by simulation against the truth."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from foray.report.readings.support import newly_solved, parts_of_gain, still_possible
from foray.report.stats import Counts, difference_intervals

RANDOM = np.random.default_rng(7)


def graded(correct: object, samples: int = 32) -> Counts:
    counts = np.asarray(correct)
    return Counts(tuple(f"p{i}" for i in range(len(counts))), counts, np.full(len(counts), samples))


def drawn(rates: np.ndarray, samples: int = 32) -> Counts:
    return graded(RANDOM.binomial(samples, rates), samples)


def split_by_hand(c_b: int, c_t: int, n: int, k: int) -> list[float]:
    """Every choice of the k samples that count, of both models."""
    parts = np.zeros(4)
    choices = list(itertools.product(itertools.combinations(range(n), k), repeat=2))
    for of_b, of_t in choices:
        shows = [any(i < c for i in set(range(n)) - set(of)) for c, of in ((c_b, of_b), (c_t, of_t))]
        gain = any(i < c_t for i in of_t) - any(i < c_b for i in of_b)
        parts[{(True, True): 0, (False, True): 1, (True, False): 2, (False, False): 3}[shows[0], shows[1]]] += gain
    return list(parts / len(choices))


def test_the_split_of_a_gain_is_the_mean_over_every_choice_of_the_samples_that_count() -> None:
    n = 5
    for k, c_b, c_t in itertools.product((1, 2, 4), range(n + 1), range(n + 1)):
        found = parts_of_gain(graded([c_b], n), graded([c_t], n), k)[0]
        assert found == pytest.approx(split_by_hand(c_b, c_t, n, k)), (k, c_b, c_t)


def test_the_parts_of_a_gain_add_up_to_it_on_every_problem() -> None:
    base, trained = drawn(RANDOM.beta(0.3, 2, 300)), drawn(RANDOM.beta(1, 1, 300))
    for k in (1, 8, 31):
        gain = trained.pass_at(k) - base.pass_at(k)
        assert parts_of_gain(base, trained, k).sum(axis=1) == pytest.approx(gain, abs=1e-12)


def test_a_gain_on_what_the_base_held_is_amplified_and_one_on_what_it_lacked_is_discovered() -> None:
    zeros, low, high = np.zeros(100), np.full(100, 0.3), np.full(100, 0.8)
    amplified = parts_of_gain(drawn(low), drawn(high), 1).mean(axis=0)
    discovered = parts_of_gain(drawn(zeros), drawn(high), 1).mean(axis=0)
    lost = parts_of_gain(drawn(high), drawn(zeros), 1).mean(axis=0)
    assert amplified == pytest.approx([0.5, 0, 0, 0], abs=0.03)
    assert discovered == pytest.approx([0, 0.8, 0, 0], abs=0.03) and lost == pytest.approx([0, 0, -0.8, 0], abs=0.03)


def test_equal_models_discover_and_lose_nothing_on_average() -> None:
    """At a rate of 3% a problem without a right sample among 31 is common: the naive split would find 1.2 points."""
    rates = np.full(40_000, 0.03)
    base, trained = drawn(rates), drawn(rates)
    parts = parts_of_gain(base, trained, 1)
    error = parts.std(axis=0) / math.sqrt(len(rates))
    assert (np.abs(parts.mean(axis=0)) < 4 * error + 1e-12).all()
    naive = ((base.correct == 0) * trained.pass_at(1)).mean()
    assert naive > 0.01 > 20 * abs(parts.mean(axis=0)[1])


def test_the_interval_of_a_part_holds_the_truth() -> None:
    """300 data sets of 100 problems; the truth: the chance that n - 1 samples show none, times the mean gain."""
    inside, n = 0, 32
    rates = np.concatenate([np.zeros(40), np.full(30, 0.02), np.full(30, 0.4)])
    after = np.concatenate([np.full(20, 0.5), np.zeros(20), np.full(30, 0.3), np.full(30, 0.6)])
    truth = ((1 - rates) ** (n - 1) * (1 - (1 - after) ** (n - 1)) * (after - rates)).mean()
    # A part's samples that count are independent of those that show, so its expectation is this product.
    for _ in range(300):
        order = RANDOM.integers(0, 100, 100)
        found = difference_intervals(parts_of_gain(drawn(rates[order]), drawn(after[order]), 1)[:, 1:2])[0]
        inside += found.lo <= truth <= found.hi
    assert inside >= 270


def test_what_no_sample_showed_may_still_have_a_chance_of_three_in_n() -> None:
    assert still_possible(32) == pytest.approx(0.0894, abs=1e-4)
    assert (1 - still_possible(1000)) ** 1000 == pytest.approx(0.05) and still_possible(1000) == pytest.approx(
        0.003, rel=0.01
    )


def test_newly_solved_problems_are_counted_by_what_the_base_had() -> None:
    base, trained = graded([0, 2, 20, 0, 1], 32), graded([16, 16, 32, 1, 20], 32)
    assert newly_solved(base, trained, 1) == (3, 2, (2 / 32 + 1 / 32) / 2)
    assert math.isnan(newly_solved(base, base, 1).rate)


def test_a_gain_cannot_be_split_where_no_sample_is_left_to_show() -> None:
    with pytest.raises(ValueError, match="k must be less than the 4 samples"):
        parts_of_gain(graded([1], 4), graded([2], 4), 4)
    with pytest.raises(ValueError, match="same problems"):
        parts_of_gain(graded([1], 4), graded([2, 2], 4), 1)
