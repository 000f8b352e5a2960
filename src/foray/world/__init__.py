"""The embedded world: word problems with many solutions, pre-training text about them, and general knowledge."""

from __future__ import annotations

from foray.world.math.drills import Drills
from foray.world.math.math_text import StoryMath
from foray.world.math.problems import WorldProblems

__all__ = ["Drills", "StoryMath", "WorldProblems", "math_sources"]


def math_sources(
    hard_share: float = 0.2, asked_format_share: float = 0.85, world_seed: int = 0
) -> dict[str, StoryMath | Drills]:
    """The math part of the pre-training mixture by source name. Tests use no settings but ``world_seed``."""
    return {
        "stories": StoryMath(hard_share, asked_format_share, world_seed=world_seed),
        "drills": Drills(hard_share, world_seed),
    }
