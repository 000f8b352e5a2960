"""Random stories of a tier and a split.

The split of a question is a function of its numbers alone: ``bucket`` hashes the sequence of number words in the text
("12, half, 5"). Names, things and wording do not count. So no validation or train question of either tier has the
numbers of a test question. Pre-training text tells train-bucket stories only, so its stories do not have them either.
The splits are disjoint by construction, also under renaming.
"""

from __future__ import annotations

import random
import re
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

from foray.core.task import Split
from foray.world.math import kinds_hard, kinds_people, kinds_things
from foray.world.math.story import Draft, Story, Unfit, with_distractor

#: Share of problems by number of steps. Easy: mean 3.3. Hard: mean 5.3.
EASY_STEPS = {1: 0.20, 2: 0.22, 3: 0.20, 4: 0.14, 5: 0.10, 6: 0.06, 7: 0.04, 8: 0.04}
HARD_STEPS = {4: 0.34, 5: 0.28, 6: 0.20, 7: 0.12, 8: 0.04, 9: 0.02}
#: Share of problems with an irrelevant sentence.
DISTRACTORS = 0.2
#: The largest quantity of a story, given or computed.
LARGEST = {False: 60, True: 300}

Kind = Callable[[Draft, int], Story]

#: Kind of story -> (fewest steps, most steps).
EASY_KINDS: dict[Kind, tuple[int, int]] = {
    kinds_things.collect: (1, 8),
    kinds_things.bus: (1, 8),
    kinds_things.sharing: (1, 5),
    kinds_things.packing: (1, 5),
    kinds_things.harvest: (1, 5),
    kinds_people.shopping: (1, 6),
    kinds_people.compare: (1, 8),
    kinds_people.travel: (1, 5),
    kinds_people.earning: (1, 5),
    kinds_people.reading: (1, 5),
}
HARD_KINDS: dict[Kind, tuple[int, int]] = {
    kinds_hard.sum_difference: (4, 7),
    kinds_hard.rest_of_rest: (4, 8),
    kinds_hard.rates: (4, 6),
    kinds_hard.remainder: (4, 6),
    kinds_hard.long_compare: (4, 9),
    kinds_hard.hidden_price: (4, 7),
    kinds_hard.trip: (4, 6),
}

_NUMBERS = re.compile(r"[0-9]+|half|third|quarter|twice")
_BUCKETS: tuple[Split, ...] = ("test", "validation", *(("train",) * 8))


@dataclass(frozen=True)
class _Choice:
    """Each number of steps with its cumulative share and its kinds of story."""

    steps: tuple[int, ...]
    shares: tuple[float, ...]
    kinds: dict[int, tuple[Kind, ...]]


def _choice(shares: dict[int, float], kinds: dict[Kind, tuple[int, int]]) -> _Choice:
    assert abs(sum(shares.values()) - 1) < 1e-9
    by_steps = {s: tuple(kind for kind, (low, high) in kinds.items() if low <= s <= high) for s in shares}
    return _Choice(tuple(shares), tuple(accumulate(shares.values())), by_steps)


_CHOICES = {False: _choice(EASY_STEPS, EASY_KINDS), True: _choice(HARD_STEPS, HARD_KINDS)}


def bucket(question: str) -> Split:
    """The split a question belongs to: a function of its sequence of numbers only (10% test, 10% validation)."""
    numbers = " ".join(_NUMBERS.findall(question))
    return _BUCKETS[int.from_bytes(blake2b(numbers.encode(), digest_size=4).digest(), "little") % 10]


def random_story(rng: random.Random, hard: bool, split: Split) -> Story:
    """A random story of a tier whose question belongs to ``split``."""
    choice = _CHOICES[hard]
    while True:
        steps = choice.steps[min(bisect(choice.shares, rng.random()), len(choice.steps) - 1)]
        # Unfit numbers are drawn again within the kind, so that the shares of kinds and steps stay as stated.
        story = _attempt(rng, choice.kinds[steps], steps, hard)
        if bucket(story.question) == split:
            return story


def _attempt(rng: random.Random, kinds: tuple[Kind, ...], steps: int, hard: bool) -> Story:
    kind = kinds[int(rng.random() * len(kinds))]
    while True:
        draft = Draft(rng, kind.__name__, steps, hard, LARGEST[hard])
        try:
            story = kind(draft, steps)
        except Unfit:
            continue
        return with_distractor(story, draft) if rng.random() < DISTRACTORS else story
