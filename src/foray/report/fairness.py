"""What a rule asks before it compares: no larger budget, room to rise, one grading that asks for no form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from foray.report.measurements import PassK, Seeds, TrainingLog
from foray.report.results import FLEXIBLE, LENIENT, Results
from foray.report.stats import MARGIN

SAME_BUDGET = 0.1  # so much more counts as none: in the paper parallel averaging has a tenth more rows than SFT→RL


class Budget(NamedTuple):
    """What a recipe trained on: rollouts, rows of demonstrations. ``converged``: the stop rule ended every stage."""

    rollouts: float
    rows: float
    converged: bool

    def words(self) -> str:
        return f"{self.rollouts:,.0f} rollouts and {self.rows:,.0f} rows{', converged' if self.converged else ''}"


def budget(results: Results, recipe: str, tokens: int, run: Seeds) -> Budget | None:
    """The budget of a recipe from one M_t; None where the logs do not tell."""
    logs = results.select(TrainingLog, recipe=recipe, tokens=tokens, trained_on=results.trained())
    ends: dict[str, TrainingLog] = {}
    for log in sorted((log for log in logs if log.run == run), key=lambda log: log.stage_step):
        ends[log.stage] = log
    sums = [[log.of(role, "samples").sum() for log in ends.values()] for role in ("rollouts", "demonstrations")]
    rollouts, rows = map(sum, sums)
    if rollouts + rows == 0:
        return None
    return Budget(float(rollouts), float(rows), all(log.stopped is not None for log in ends.values()))


def no_more(a: Budget | None, b: Budget | None, rollouts: bool, rows: bool) -> bool:
    """Whether ``a`` is no larger than ``b`` in the kinds asked for, or both recipes trained until they converged.

    A budget that no log tells counts as equal.
    """
    if a is None or b is None or (a.converged and b.converged):
        return True
    most = 1 + SAME_BUDGET
    return (not rollouts or a.rollouts <= most * b.rollouts) and (not rows or a.rows <= most * b.rows)


def form_free(results: Results) -> str:
    """The grading that asks for no form: the paper's flexible one, else lenient, else the main one."""
    graded = [set(e.counts) for e in results.select(PassK)]
    return next((g for g in (FLEXIBLE, LENIENT) if graded and all(g in has for has in graded)), results.extraction)


def has_room(references: Iterable[PassK], k: int, extraction: str) -> bool:
    """Whether the mean pass@k of the references is more than the margin below 1 and above the guess line.

    The guess line is pass@k of answers drawn from the training answers, the question unread; 0 where the results have
    no guesses.
    """
    found = [(float(e.counts[extraction].pass_at(k).mean()), e.guessed(k)) for e in references]
    level, guess = (sum(values) / len(found) for values in zip(*found))
    return guess + MARGIN < level < 1 - MARGIN
