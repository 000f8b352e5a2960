"""A math-heavier DOLMino mix of 60B tokens. The paper gives the size and no shares: this mix doubles the math share.

At 41.6% of 60B tokens the math subset of 10.7B tokens is read 2.3 times.
"""

from __future__ import annotations

from foray.data.prepare import Mix
from foray.mixes import dolmino_50b


def mix() -> Mix:
    return dolmino_50b.mix(math_share=41.6, tokens=60_000_000_000, name="dolmino_math_60b")
