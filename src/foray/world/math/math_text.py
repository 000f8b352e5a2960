"""Story problems as pre-training text: mostly in other formats than post-training asks for.

A document keeps one format and one style of solution throughout, so that continuing it well means following the
format of what came before: this is what a few-shot prompt relies on. The asked-for format is rare.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from foray.core.rng import key
from foray.world.math.draws import draw
from foray.world.math.solutions import MARK, STYLES, Style, closing, linear, sentences, terse
from foray.world.version import WORLD_VERSION

#: How a problem is set: share, text around question and answer, what joins the problems of a document.
HEADINGS: tuple[tuple[float, str, str], ...] = (
    (0.45, "Question: {question}\nAnswer: {answer}", "\n\n"),
    (0.20, "Q: {question}\nA: {answer}", "\n\n"),
    (0.20, "Problem {number}. {question}\nWorking: {answer}", "\n\n"),
    (0.15, "{told} {answer}", "\n"),
)
#: How an answer ends where it does not end as post-training asks for. It goes with any heading, so that only the
#: problems before tell how the next one ends: continuing such a document well is following its examples.
ENDINGS = (
    "{work} The answer is {value} {unit}.",
    "{work} So the result is {value}.",
    "{work} It is {value} {unit}.",
    "{work} Result: {value}",
)
ASKED = "{work} " + MARK + " {value}"


@dataclass(frozen=True)
class StoryMath:
    """Word problems with worked solutions, of the train bucket only, so that no test or validation question occurs.

    ``hard_share`` of the documents hold hard problems. ``asked_format_share`` of them are in the format post-training
    asks for. ``mixed_share`` of them change the style of solution from one problem to the next; the others keep it.
    Three documents of four are sheets of 3 to 8 problems.
    """

    endless: ClassVar[bool] = True

    hard_share: float = 0.2
    asked_format_share: float = 0.1
    mixed_share: float = 0.25
    world_seed: int = 0

    def __post_init__(self) -> None:
        for field in ("hard_share", "asked_format_share", "mixed_share"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be between 0 and 1, not {getattr(self, field)}")

    def fingerprint(self) -> str:
        return WORLD_VERSION

    @property
    def name(self) -> str:
        """``stories``."""
        return "stories"

    def documents(self, split: str, first: int = 0) -> Iterator[str]:
        """Documents without end, from number ``first`` on; document i is a function of (settings, split, i)."""
        if split not in ("train", "validation"):
            raise ValueError(f"split must be 'train' or 'validation', not {split!r}")
        i = first
        while True:
            yield self._document(random.Random(key(self.world_seed, "stories", split, i)))
            i += 1

    def _document(self, rng: random.Random) -> str:
        asked = rng.random() < self.asked_format_share
        heading, join = _heading(rng, asked)
        ending = ASKED if asked else ENDINGS[int(rng.random() * len(ENDINGS))]
        hard = rng.random() < self.hard_share
        size = 1 if rng.random() < 0.25 else 3 + int(rng.random() * (4 if hard else 6))
        mixed = rng.random() < self.mixed_share
        told = "{told}" in heading
        style = _style(rng, told, asked)
        blocks = []
        for i in range(size):
            story = draw(rng, hard, "train")
            if mixed and i:
                style = _style(rng, told, asked)
            work = style(linear(story.root, None if style is terse else rng), False)
            answer = ending.format(work=work, value=story.answer, unit=story.unit)
            facts = " ".join(story.facts)
            blocks.append(heading.format(question=story.question, answer=answer, number=i + 1, told=facts))
        return join.join(blocks)


def _heading(rng: random.Random, asked: bool) -> tuple[str, str]:
    """A heading and what joins its problems; the first is what post-training asks for."""
    u = 0.0 if asked else rng.random() * sum(share for share, _, _ in HEADINGS)
    for share, heading, join in HEADINGS:
        u -= share
        if u < 0:
            return heading, join
    return HEADINGS[-1][1:]


def _style(rng: random.Random, told: bool, asked: bool) -> Style:
    """A style of solution; the plain ones are somewhat commoner. Told stories are computed in sentences."""
    if told:
        return sentences
    u = rng.random()
    if u < 0.15:
        return terse
    if u < 0.3:
        return sentences
    style = STYLES[int(rng.random() * len(STYLES))]
    return terse if style is closing and not asked else style
