"""Story problems as pre-training text: mostly in other formats than post-training asks for.

A document keeps one format and one style of solution throughout, so that continuing it well means following the
format of what came before: this is what a few-shot prompt relies on. The asked-for format is rare.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foray.core.rng import key
from foray.tasks.world.sampling import draw
from foray.tasks.world.solutions import STYLES, Style, closing, linear, marked, sentences, terse
from foray.tasks.world.story import Story
from foray.tasks.world.version import WORLD_VERSION

#: One problem of a document: (story, its work, its place in the document) to text.
Block = Callable[[Story, str, int], str]


def asked(s: Story, work: str, i: int) -> str:
    """What post-training asks for."""
    return f"Question: {s.question}\nAnswer: {marked(work, s.answer)}"


def _plain_answer(s: Story, work: str, i: int) -> str:
    return f"Question: {s.question}\nAnswer: {work} The answer is {s.answer} {s.unit}."


def _short(s: Story, work: str, i: int) -> str:
    return f"Q: {s.question}\nA: {work} So the result is {s.answer}."


def _problem(s: Story, work: str, i: int) -> str:
    return f"Problem {i + 1}. {s.question}\nWorking: {work}\nResult: {s.answer} {s.unit}"


def _teacher(s: Story, work: str, i: int) -> str:
    return f"Teacher: {s.question}\nStudent: {work} It is {s.answer}.\nTeacher: Right, {s.answer} {s.unit}."


def _told(s: Story, work: str, i: int) -> str:
    return f"{' '.join(s.facts)} {work} So the number of {s.unit} is {s.answer}."


#: Formats other than the asked-for one: their shares, the block, what joins blocks.
FORMATS: tuple[tuple[float, Block, str], ...] = (
    (0.30, _short, "\n\n"),
    (0.25, _problem, "\n\n"),
    (0.15, _plain_answer, "\n\n"),
    (0.15, _teacher, "\n"),
    (0.15, _told, "\n"),
)
_TOTAL = sum(share for share, _, _ in FORMATS)


@dataclass(frozen=True)
class StoryMath:
    """Word problems with worked solutions, of the train bucket only, so that no test or validation question occurs.

    ``hard_share`` of the documents hold hard problems. ``asked_format_share`` of them are in the format post-training
    asks for. ``mixed_share`` of them change the style of solution from one problem to the next; the others keep it.
    Three documents of four are sheets of 3 to 8 problems.
    """

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

    def documents(self, split: str) -> Iterator[str]:
        """Documents without end; document i is a function of (settings, split, i)."""
        if split not in ("train", "validation"):
            raise ValueError(f"split must be 'train' or 'validation', not {split!r}")
        i = 0
        while True:
            yield self._document(random.Random(key(self.world_seed, "stories", split, i)))
            i += 1

    def _document(self, rng: random.Random) -> str:
        block, join = self._format(rng)
        hard = rng.random() < self.hard_share
        size = 1 if rng.random() < 0.25 else 3 + int(rng.random() * (4 if hard else 6))
        mixed = rng.random() < self.mixed_share
        style = _style(rng, block)
        blocks = []
        for i in range(size):
            story = draw(rng, hard, "train")
            if mixed and i:
                style = _style(rng, block)
            order = None if style is terse else rng
            blocks.append(block(story, style(linear(story.root, order), False), i))
        return join.join(blocks)

    def _format(self, rng: random.Random) -> tuple[Block, str]:
        if rng.random() < self.asked_format_share:
            return asked, "\n\n"
        u = rng.random() * _TOTAL
        for share, block, join in FORMATS:
            u -= share
            if u < 0:
                return block, join
        return FORMATS[-1][1:]


def _style(rng: random.Random, block: Block) -> Style:
    """A style; the commonest are the plain ones. Told stories are computed in sentences."""
    if block is _told:
        return sentences
    u = rng.random()
    if u < 0.4:
        return terse
    if u < 0.65:
        return sentences
    style = STYLES[int(rng.random() * len(STYLES))]
    return terse if style is closing and block is not asked else style
