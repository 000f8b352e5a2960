"""How many pre-trainings would tell, where a study cannot."""

from __future__ import annotations

import math
from statistics import NormalDist, stdev
from typing import NamedTuple

from foray.report import stats
from foray.report.differences import Difference
from foray.report.stats import Interval

MOST = 1000  # pre-trainings that are looked at


class Enough(NamedTuple):
    """``pretrainings`` that would tell; ``problems``: how many times as many problems they need."""

    pretrainings: int
    problems: float

    def words(self, side: str) -> str:
        """``side``: ``for`` or ``against`` the claim, by the difference as it is."""
        more = f" on {self.problems:.2g} times the problems" if self.problems > 1 else ""
        return f"about {self.pretrainings} pre-trainings{more} would tell {side} the claim, if the difference stays so"


def enough(difference: Difference, interval: Interval, bound: float, level: float) -> Enough | None:
    """The fewest pre-trainings at which the p-value of ``bound`` is below ``level``, all else being as measured.

    ``interval``: of the difference, or of its negative. The half-width has two parts that add in squares
    (``over_seeds`` in stats.py): the spread between pre-trainings falls with their number, the error from the choice of
    problems with the number of problems. Where no number of pre-trainings would tell on these problems, problems are
    added until the second part covers 7/10 of the distance: then each part has half of the square. None for fewer than
    ``ENOUGH_PRETRAININGS``, which say nothing of others, for a difference at the bound, and where more than ``MOST``
    would be needed.
    """
    each = list(difference.by_pretraining().values())
    distance = abs(interval.value - bound)
    if len(each) < stats.ENOUGH_PRETRAININGS or not distance:
        return None
    half = interval.value - interval.lo if interval.value > bound else interval.hi - interval.value
    spread = stdev(each)
    before = stats.t_quantile(len(each) - 1) * spread / math.sqrt(len(each))
    error = math.sqrt(max(0.0, half**2 - before**2))
    room = math.sqrt(0.5) * distance * stats.Z / NormalDist().inv_cdf(1 - level / 2)
    for times in sorted({1.0, max(1.0, (error / room) ** 2)}):
        for n in range(stats.ENOUGH_PRETRAININGS, MOST + 1):
            t = stats.t_quantile(n - 1)
            wide = math.hypot(error / math.sqrt(times), t * spread / math.sqrt(n))
            if stats.p_value(Interval(distance, distance - wide, distance + wide, interval.n), 0.0, n - 1) < level:
                return Enough(n, times)
    return None
