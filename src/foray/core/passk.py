"""The unbiased pass@k estimator."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foray.core.canonical import check_count, require


def check_asked(problems: int, samples: int, shots: int, max_new_tokens: int, context: int) -> None:
    """Raises ValueError for an evaluation that is impossible at any prompt. ``context``: in tokens."""
    check_count("problems", problems)
    check_count("samples", samples)
    require(  # every example has at least one token, and so has the question
        max(0, shots) + max_new_tokens < context,
        f"{shots} shots and {max_new_tokens} new tokens do not fit the model's context of {context}: use fewer shots, "
        "a smaller max_new_tokens or a longer context",
    )


def pass_at_k(correct: ArrayLike, samples: ArrayLike, k: int) -> NDArray[np.float64]:
    """Probability that at least one of k of a problem's n samples is correct: 1 - C(n-c, k) / C(n, k). (P,) -> (P,)

    Unbiased for samples drawn independently (Chen et al. 2021, arXiv 2107.03374, equation 1). Raises ValueError when
    k exceeds a problem's samples.
    """
    c = np.asarray(correct, dtype=np.int64)
    n = np.broadcast_to(np.asarray(samples, dtype=np.int64), c.shape)
    if k < 1 or (n < k).any():
        raise ValueError(f"pass@{k} needs at least {k} samples a problem; there are {int(n.min()) if n.size else 0}")
    if (c < 0).any() or (c > n).any():
        raise ValueError("the number of correct samples must lie between 0 and the number of samples")
    first = int(n.flat[0]) if n.size else 0
    if n.size and (n == first).all():
        return _of_every_count(first, k)[c]
    return _of(c, n, k)


@lru_cache(maxsize=1024)
def _of_every_count(samples: int, k: int) -> NDArray[np.float64]:
    """pass@k of 0 to ``samples`` correct ones: a report asks for the same ones thousands of times. (samples + 1,)"""
    return _of(np.arange(samples + 1), np.full(samples + 1, samples), k)


def _of(c: NDArray[np.int64], n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    i = np.arange(k)
    # C(n-c, k) / C(n, k) as a product of k ratios: no large binomials; a factor <= 0 means fewer than k wrong samples.
    factors = np.clip((n - c)[..., None] - i, 0, None) / (n[..., None] - i)
    return np.asarray(1.0 - factors.prod(axis=-1))
