"""Story problems as pre-training text. Most documents use the format of post-training.

A model that has not learned the format would gain by learning it, and a study would take that for reasoning. A document
keeps one format, and mostly one style of solution. So a model continues a document well by following the format of the
beginning. A few-shot prompt relies on this skill.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from foray.core.field_types import require_types
from foray.core.rng import key
from foray.world.endless import EndlessWorldText
from foray.world.math.solutions import MARK, STYLES, Style, linear, sentences, terse
from foray.world.math.story_sampler import random_story

#: The layouts of a problem: share, template around question and answer, separator between a document's problems.
HEADINGS: tuple[tuple[float, str, str], ...] = (
    (0.45, "Question: {question}\nAnswer: {answer}", "\n\n"),
    (0.20, "Q: {question}\nA: {answer}", "\n\n"),
    (0.20, "Problem {number}. {question}\nWorking: {answer}", "\n\n"),
    (0.15, "{told} {answer}", "\n"),
)
#: The endings of answers outside the format of post-training. Every ending occurs with every heading. So only the
#: earlier problems of a document tell the ending of the next problem: a model has to follow the examples.
ENDINGS = (
    "{work} The answer is {value}.",
    "{work} So the results are {value}.",
    "{work} It is {value}.",
    "{work} Results: {value}",
)
ASKED = "{work} " + MARK + " {value}"


@dataclass(frozen=True)
class StoryMath(EndlessWorldText):
    """Word problems with worked solutions. All are of the train bucket: no test or validation question occurs.

    ``hard_share`` of the documents hold hard problems. ``asked_format_share`` of the documents are in the format of
    post-training. ``mixed_share`` of the documents change the style of solution from problem to problem.
    Three documents of four are sheets of 3 to 8 problems.
    """

    hard_share: float = 0.2
    asked_format_share: float = 0.85
    mixed_share: float = 0.25
    world_seed: int = 0  # of the text

    def __post_init__(self) -> None:
        require_types(self)
        for field in ("hard_share", "asked_format_share", "mixed_share"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} must be between 0 and 1, not {getattr(self, field)}")

    @property
    def name(self) -> str:
        """``stories``."""
        return "stories"

    def document_key(self, split: str, number: int) -> int:
        return key(self.world_seed, "stories", split, number)

    def document(self, random: Random, split: str) -> str:
        asked = random.random() < self.asked_format_share
        heading, join = _heading(random, asked)
        ending = ASKED if asked else ENDINGS[int(random.random() * len(ENDINGS))]
        hard = random.random() < self.hard_share
        size = 1 if random.random() < 0.25 else 3 + int(random.random() * (4 if hard else 6))
        mixed = random.random() < self.mixed_share
        told = "{told}" in heading
        style = _style(random, told)
        blocks = []
        for i in range(size):
            story = random_story(random, hard, "train")
            if mixed and i:
                style = _style(random, told)
            work = style(linear(story.root, None if style is terse else random), False)
            answer = ending.format(work=work, value=story.answer)
            facts = " ".join(story.facts)
            blocks.append(heading.format(question=story.question, answer=answer, number=i + 1, told=facts))
        return join.join(blocks)


def _heading(rng: Random, asked: bool) -> tuple[str, str]:
    """A template and its separator. The first format is the format of post-training."""
    u = 0.0 if asked else rng.random() * sum(share for share, _, _ in HEADINGS)
    for share, heading, join in HEADINGS:
        u -= share
        if u < 0:
            return heading, join
    return HEADINGS[-1][1:]


def _style(rng: Random, told: bool) -> Style:
    """A style of solution. Plain styles are somewhat more common. Told stories have sentences."""
    if told:
        return sentences
    u = rng.random()
    if u < 0.45:
        return terse
    if u < 0.5:
        return sentences
    return STYLES[int(rng.random() * len(STYLES))]
