"""The embedded world's pre-training mixture."""

from __future__ import annotations

from foray.data.text_source import TextSource
from foray.world import math_sources
from foray.world.general.prose import general_sources

# Of the text that is not math, as in DOLMino: web 47, FLAN 17, encyclopaedic and the like 15.
GENERAL = {"web": 47, "flan": 17, "wiki": 15}
# Of the math: mostly worked problems, with arithmetic drills.
MATH = {"stories": 3, "drills": 1}


def world_mixture(math_share: float = 0.21, hard_share: float = 0.2) -> tuple[tuple[float, TextSource], ...]:
    """Weighted sources, shaped like DOLMino by default; ``hard_share`` is that of hard problems in the stories."""
    if not 0 <= math_share <= 1:
        raise ValueError(f"math_share must lie between 0 and 1, not {math_share}")
    general, math = general_sources(), math_sources(hard_share)
    prose = [((1 - math_share) * w / sum(GENERAL.values()), general[name]) for name, w in GENERAL.items()]
    sums = [(math_share * w / sum(MATH.values()), math[name]) for name, w in MATH.items()]
    return tuple((round(w, 4), source) for w, source in (*prose, *sums))
