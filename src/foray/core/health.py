"""Flags: what looks wrong in a log or a result. Flags are for people, never a verdict. No torch here.

``rows`` are the rows of a ``metrics.jsonl``. "First" and "last" mean a tenth of the steps, at least three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, variance

TRUNCATED = 0.2  # share of samples cut off by the length limit
COLLAPSED = 0.05  # nats a token
SHRUNK = 0.2  # last entropy over the first
_BEFORE = 20  # steps that a loss is compared with

Rows = Sequence[Mapping[str, float]]


def training_flags(rows: Rows) -> list[str]:
    """One line for each thing that looks wrong, by stream."""
    streams = sorted({k.removesuffix("/loss") for row in rows for k in row if k.endswith("/loss")})
    return [f"{s}: {line}" for s in streams for check in _CHECKS for line in check(rows, s)]


def sampling_flags(samples: int, truncated: int) -> list[str]:
    """One line where too many samples of an evaluation are truncated."""
    return [_truncation(truncated / samples)] if truncated > TRUNCATED * samples else []


def _truncation(share: float) -> str:
    return f"{100 * share:.0f}% of samples are cut off by max_new_tokens"


def _entropy(rows: Rows, stream: str) -> list[str]:
    first, last = _ends(_column(rows, f"{stream}/entropy"))
    if not first or not fmean(last) < max(COLLAPSED, SHRUNK * fmean(first)):
        return []
    return [f"entropy collapsed from {fmean(first):.2f} to {fmean(last):.3f} nats a token"]


def _validation(rows: Rows, stream: str) -> list[str]:
    """The reward rose by more than three standard errors while the validation score did not rise at all."""
    first, last = _ends(_column(rows, f"{stream}/reward"))
    checks = _column(rows, f"{stream}/validation")
    if not first or len(checks) < 2:
        return []
    error = math.sqrt(variance(first) / len(first) + variance(last) / len(last))
    late = fmean(checks[1:][-2:])
    if fmean(last) - fmean(first) <= 3 * error or late > checks[0]:
        return []
    return [
        f"the reward rose from {fmean(first):.2f} to {fmean(last):.2f} while the score on validation problems went "
        f"from {100 * checks[0]:.0f}% to {100 * late:.0f}%"
    ]


def _spikes(rows: Rows, stream: str) -> list[str]:
    """Cross-entropies above the median of the steps before by half of it and by six (normal) standard deviations."""
    if any(f"{stream}/reward" in row for row in rows):
        return []  # a policy-gradient loss does not measure fit
    losses, found = _column(rows, f"{stream}/loss"), []
    for i in range(_BEFORE, len(losses)):
        before = losses[i - _BEFORE : i]
        middle = median(before)
        spread = 1.4826 * median(abs(x - middle) for x in before)
        if losses[i] - middle > max(0.5 * middle, 6 * spread):
            found.append(i)
    if not found:
        return []
    worst = max(found, key=lambda i: losses[i])
    return [f"the loss spiked at {len(found)} steps, most at step {worst + 1} ({losses[worst]:.2f})"]


def _truncated(rows: Rows, stream: str) -> list[str]:
    shares = _column(rows, f"{stream}/truncated")
    last = shares[-max(3, len(shares) // 10) :]
    return [_truncation(fmean(last))] if last and fmean(last) > TRUNCATED else []


_CHECKS = (_entropy, _validation, _spikes, _truncated)


def _column(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def _ends(values: list[float]) -> tuple[list[float], list[float]]:
    """First and last values; empty where there are too few to tell them apart."""
    window = max(3, len(values) // 10)
    return (values[:window], values[-window:]) if len(values) >= 2 * window else ([], [])
