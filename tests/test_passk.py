"""The unbiased estimator of pass@k against the true pass@k."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest

from foray.core.passk import pass_at_k


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_equals_the_enumeration_of_all_subsets(n: int) -> None:
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        samples = [1] * c + [0] * (n - c)
        subsets = [max(s) for s in itertools.combinations(samples, k)]
        assert pass_at_k([c], n, k)[0] == pytest.approx(np.mean(subsets), abs=1e-12)


def test_equals_the_formula_at_the_sizes_in_use() -> None:
    for n, k in itertools.product((32, 200), (1, 8, 32)):
        c = np.arange(n + 1)
        exact = [1 - comb(n - int(i), k) / comb(n, k) for i in c]
        np.testing.assert_allclose(pass_at_k(c, n, k), exact, rtol=0, atol=1e-12)


def test_unbiased() -> None:
    """The mean over all outcomes of n draws, each right with probability p, is the chance that one of k is right."""
    n, p = 6, 0.3
    weights = np.array([comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)])
    for k in range(1, n + 1):
        assert weights @ pass_at_k(np.arange(n + 1), n, k) == pytest.approx(1 - (1 - p) ** k)


def test_large_counts_neither_overflow_nor_leave_the_unit_interval() -> None:
    found = pass_at_k(np.array([0, 1, 5000, 9999, 10_000]), 10_000, 5000)
    assert found[0] == 0.0 and found[1] == pytest.approx(0.5) and (found[2:] == 1.0).all()


def test_samples_may_differ_between_problems() -> None:
    np.testing.assert_allclose(pass_at_k([1, 1], [2, 4], 2), [1.0, 0.5])


@pytest.mark.parametrize(("correct", "samples", "k"), [([1], 4, 5), ([1], 4, 0), ([1, 1], [8, 2], 4)])
def test_too_few_samples_are_refused(correct: list[int], samples: int | list[int], k: int) -> None:
    with pytest.raises(ValueError, match=f"pass@{k} needs at least {k} samples"):
        pass_at_k(correct, samples, k)


@pytest.mark.parametrize("correct", [[-1], [5]])
def test_impossible_counts_are_refused(correct: list[int]) -> None:
    with pytest.raises(ValueError, match="between 0 and the number of samples"):
        pass_at_k(correct, 4, 1)
