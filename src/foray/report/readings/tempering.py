"""The sharpening exponent: does a trained model answer as its base would at a lower temperature?

Sharpening raises the chances of a problem's *answers* to a power a and normalizes them: the power distribution of Karan
and Du (2025, arXiv 2510.14901) over answers, sharpening as Huang et al. (2024, arXiv 2412.01951) have it. With p the
base's chance of a right answer and w_j the shares of its wrong ones,

    p_a = p^a / (p^a + (1 - p)^a s_a),   s_a = sum of w_j^a

a > 1 sharpens, a = 1 changes nothing, a < 1 flattens. The wrong answers' spread decides whether sharpening helps: with
one wrong answer the right one must have more than half, with many a tenth may do.

Training may also do other things than sharpen. A share e of the problems is left to those: there any number of right
samples is as likely as any other. Without e, a few problems that the base never solves would drive a up for all.

Shapes: P problems, G values of p, A exponents, E shares, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.report.measurements import Votes
from foray.report.stats import TAIL, Floats, Interval, Z, resample_counts

EXPONENTS = np.geomspace(0.05, 20.0, 61)  # (A,), steps of 10%; the best lies between two of them
OTHERWISE = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8])  # (E,)
_LOGITS = np.linspace(-9.0, 9.0, 37)  # of p, and the two ends 0 and 1
_LEVEL = Z * Z / 2  # of the log-likelihood below its maximum: half the 95% quantile of chi-squared of 1 degree
_AGAIN = 500  # resamples; a fit costs more than a mean, and percentiles need fewer than pivots do
_ROUNDS = 200  # of the fit of the base's rates; the exponent no longer moves


class Sharpening(NamedTuple):
    """``exponent``: a with its interval. ``gain`` in pass@1, and ``explained``: the gain of the base at that exponent.

    ``otherwise``: the share e of problems that the exponent does not describe, one of ``OTHERWISE``. ``at_edge``: the
    least or the greatest exponent that is tried does as well as the best, so the interval is open there.
    """

    exponent: Interval
    gain: Interval
    explained: Interval
    otherwise: Interval
    at_edge: bool


def right_of(votes: Votes) -> int:
    """How many samples of a problem gave a right answer."""
    return sum(count for count, right in votes if right)


def fit(
    base: Sequence[Votes], base_samples: NDArray[np.int64], right: NDArray[np.int64], samples: NDArray[np.int64]
) -> Sharpening:
    """Maximum likelihood of a from the base's votes and the trained model's right answers. Raises ValueError for none.

    ``base``: the votes of P problems, from ``base_samples`` samples each; ``right`` of the trained model's ``samples``
    were right. A sample without an answer counts as one more wrong answer, the same for all such samples.

    The base's rates are not known, only counts of them. So the likelihood of a problem is averaged over p, with the
    distribution of p over problems that the base's own counts give (Kiefer and Wolfowitz 1956, by EM), and p's own
    counts. The spread of wrong answers is that of the samples. Intervals: percentiles over resampled problems,
    widened to the exponents whose likelihood is not surely less than the best one's.
    """
    problems = len(base)
    if problems == 0:
        raise ValueError("an exponent needs at least one problem")
    held = np.array([right_of(v) for v in base], dtype=np.int64)
    logit, posterior = _rates(held, base_samples)
    spread = np.stack([_log_spread(v, int(n)) for v, n in zip(base, base_samples)])  # (P, A)
    start = posterior @ _chance(logit)  # (P,) the base's expected rates
    likelihood, gains = np.empty_like(spread), np.empty_like(spread)
    whole = np.array([math.lgamma(n + 1) - math.lgamma(c + 1) - math.lgamma(n - c + 1) for c, n in zip(right, samples)])
    for i, a in enumerate(EXPONENTS):
        turned = np.where(np.isinf(logit), logit, a * np.where(np.isinf(logit), 0.0, logit)) - spread[:, i : i + 1]
        p = _chance(turned)  # (P, G)
        likelihood[:, i] = (posterior * np.exp(_log_binomial(p, right, samples, whole))).sum(axis=1)
        gains[:, i] = (posterior * p).sum(axis=1) - start
    mixed = np.log((1 - OTHERWISE) * likelihood[:, :, None] + OTHERWISE / (samples[:, None, None] + 1) + 1e-300)
    drawn, observed = resample_counts(problems)[:_AGAIN], right / samples - held / base_samples  # (R, P), (P,)
    total = mixed.sum(axis=0)  # (A, E)
    best = _best(total)
    again = [_best(m) for m in (drawn @ mixed.reshape(problems, -1)).reshape(-1, *mixed.shape[1:])]
    explained = (drawn @ gains)[np.arange(len(again)), [round(a) for a, _ in again]] / problems
    # Exponents of nearly the same likelihood: where few samples tell, resamples agree on one of them by accident.
    level = np.flatnonzero(total.max(axis=1) >= total.max() - _LEVEL)
    return Sharpening(
        _interval(_exponent(best[0]), [_exponent(a) for a, _ in again], problems, EXPONENTS[level]),
        _interval(float(observed.mean()), drawn @ observed / problems, problems),
        _interval(float(gains[:, round(best[0])].mean()), explained, problems, gains[:, level].mean(axis=0)),
        _interval(best[1], [share for _, share in again], problems),
        bool(level[0] == 0 or level[-1] == len(EXPONENTS) - 1),
    )


def _rates(right: NDArray[np.int64], samples: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The logits of p, (G,), and every problem's distribution over them given its counts, (P, G)."""
    logit = np.concatenate([[-np.inf], _LOGITS, [np.inf]])
    likelihood = np.exp(_log_binomial(_chance(logit)[None], right, samples))
    likelihood /= likelihood.max(axis=1, keepdims=True)
    weights = np.full(len(logit), 1.0 / len(logit))
    for _ in range(_ROUNDS):
        joint = likelihood * weights
        weights = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    joint = likelihood * weights.clip(1e-9)  # what no problem of the sample needs stays possible
    return logit, joint / joint.sum(axis=1, keepdims=True)


def _log_spread(votes: Votes, samples: int) -> Floats:
    """log s_a for every exponent; 0 where no sample was wrong. (A,)"""
    wrong = [count for count, right in votes if not right]
    unanswered = samples - sum(count for count, _ in votes)
    shares = np.array([*wrong, unanswered] if unanswered else wrong, dtype=np.float64)
    if not shares.size:
        return np.zeros(len(EXPONENTS))
    return np.log(((shares / shares.sum())[:, None] ** EXPONENTS).sum(axis=0))


def _chance(logit: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-logit))


def _log_binomial(
    p: Floats, right: NDArray[np.int64], samples: NDArray[np.int64], whole: Floats | float = 0.0
) -> Floats:
    """log of p^c (1 - p)^(n - c), with 0 log 0 = 0, plus ``whole``, (P,). (P or 1, G) -> (P, G)"""
    c, rest = right[:, None], (samples - right)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        yes, no = np.where(c > 0, c * np.log(p), 0.0), np.where(rest > 0, rest * np.log1p(-p), 0.0)
    return yes + no + np.reshape(whole, (-1, 1))


def _best(likelihood: Floats) -> tuple[float, float]:
    """The place of the best exponent, between two of them by a parabola through three, and the best share. (A, E)"""
    at, share = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    best = float(OTHERWISE[share])
    if at in (0, len(likelihood) - 1):
        return float(at), best
    before, here, after = likelihood[at - 1 : at + 2, share]
    bend = before - 2 * here + after
    return float(at + (0.5 * (before - after) / bend if bend < 0 else 0.0)), best


def _exponent(place: float) -> float:
    step = np.log(EXPONENTS[1] / EXPONENTS[0])
    return float(EXPONENTS[0] * np.exp(step * place))


def _interval(value: float, again: Sequence[float] | Floats, problems: int, level: Floats | None = None) -> Interval:
    """Percentiles of the resamples, widened to hold the value and all of ``level``."""
    lo, hi = np.quantile(again, [TAIL, 1.0 - TAIL])
    held = np.array([value]) if level is None else np.append(level, value)
    return Interval(value, min(float(lo), float(held.min())), max(float(hi), float(held.max())), problems)
