"""A billion tokens of the embedded world, for the study `gpu`: generated and tokenized once, in parallel.

foray prepare world_1b --out DATA/world_1b
"""

from __future__ import annotations

from foray.data.prepare import Mix, OwnTokenizer
from foray.world.mixture import world_mixture


def mix() -> Mix:
    sources = world_mixture(math_share=0.21, hard_share=0.2)
    return Mix("world_1b", OwnTokenizer(8192, 20_000_000, whole_numbers=200), 1_050_000_000, sources)
