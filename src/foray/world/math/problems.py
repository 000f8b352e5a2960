"""The word problems as a task: the GSM8K (easy) and the MATH (hard) of the embedded world."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Literal

from foray.answers import numbers
from foray.core.rng import key
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.world.math import chain
from foray.world.math.solutions import MARK, solutions
from foray.world.math.story import Story
from foray.world.math.story_sampler import random_story
from foray.world.version import WORLD_VERSION

Tier = Literal["easy", "hard"]

# An integer as people write it: "12", "$1,200", "12.", "12.0". Bounded repeats: linear time on any text.
_INTEGER = r"(?:(?<![0-9])-)?(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}(?![0-9])|[0-9]+)"
_ANSWER = re.compile(rf"[ \t]*(?:\$[ \t]*)?({_INTEGER})(?:\.0{{1,9}})?(?=\.?(?:\s|$))")
_LAST = re.compile(rf"({_INTEGER})(\.[0-9]+)?")
_DIGITS = 20  # no answer is longer, so a longer number is wrong without conversion


@dataclass(frozen=True)
class WorldProblems:
    """Procedural story problems of one tier, in any number.

    Problem i of a split is a pure function of (settings, split, i). Splits are disjoint by construction: the sequence
    of numbers in a question decides its split (``story_sampler.bucket``), for both tiers and for pre-training text.
    Within a split no question occurs twice.

    A solution is one line, so that a space stands before every number. So a number is one token in every place.
    A new line ends a completion.
    """

    tier: Tier = "easy"
    train_size: int = 3000
    test_size: int = 1000
    world_seed: int = 0
    solutions_per_problem: int = 12

    def __post_init__(self) -> None:
        if self.tier not in ("easy", "hard"):
            raise ValueError(f"tier must be 'easy' or 'hard', not {self.tier!r}")
        if self.train_size < 1 or self.test_size < 1:
            raise ValueError("train_size and test_size must be at least 1")
        if not 8 <= self.solutions_per_problem <= 16:
            raise ValueError(f"solutions_per_problem must be between 8 and 16, not {self.solutions_per_problem}")

    def fingerprint(self) -> str:
        return WORLD_VERSION

    @property
    def hard(self) -> bool:
        """True for the hard tier: the report's claims on harder problems use this task."""
        return self.tier == "hard"

    @property
    def name(self) -> str:
        """``world_easy`` or ``world_hard``."""
        return f"world_{self.tier}"

    @property
    def stop(self) -> tuple[str, ...]:
        """A solution is one line. So a line end ends a completion, as in a few-shot prompt."""
        return ("\n", "Question:")

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split. None: ``train_size`` or ``test_size`` problems. Any count works."""
        if split not in ("train", "validation", "test"):
            raise ValueError(f"split must be 'train', 'validation' or 'test', not {split!r}")
        if count is None:
            count = self.train_size if split == "train" else self.test_size
        if count < 0:
            raise ValueError(f"count must be at least 0, not {count}")
        return _pool(self.tier, self.world_seed, self.solutions_per_problem, split).first(count)

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        """The examples, each with its first solution and a blank line, then ``Question: ...\\nAnswer:``."""
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        """The solution after a space. The caller adds the end: a blank line or an end token."""
        return " " + solution

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the number after the first ``####``. Without one, lenient: the last number of the text; flexible:
        the number that ``numbers.flexible`` finds.
        """
        at = completion.find(MARK)
        found = _ANSWER.match(completion, at + len(MARK)) if at >= 0 else None
        if found:
            return _verdict(found.group(1), problem.answer, True)
        if extraction == "flexible":
            return replace(numbers.graded_completion(problem.answer, completion, extraction), formatted=False)
        if extraction == "lenient":
            number, fraction = None, ""
            for match in _LAST.finditer(completion):
                number, fraction = match.group(1), match.group(2) or ""
            if number is not None:
                if fraction.strip(".0"):
                    return Verdict(0.0, False, "the last number is not whole")
                return _verdict(number, problem.answer, False)
        return Verdict(0.0, False, f"no number after {MARK}" if at >= 0 else f"no {MARK}")

    def sound(self, problem: Problem, completion: str) -> bool:
        """Whether right computations lead from the question's numbers to the answer (``chain.py`` has the rule)."""
        return chain.sound(problem.question, completion, problem.answer)

    def reference(self, text: str) -> str:
        """The answer of a bare number or a full solution. Raises ValueError for a text without a whole number."""
        found = numbers.bare(numbers.reference(text))
        if found is None or found.value.denominator != 1:
            raise ValueError("the world's answers are whole numbers, and the reference answer is not")
        return str(found.value.numerator)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Compares a bare answer: the mark may be missing."""
        return numbers.graded_answer(problem.answer, answer, extraction)


def _verdict(number: str, answer: str, formatted: bool) -> Verdict:
    if len(number) > _DIGITS:
        return Verdict(0.0, formatted, f"a number of {len(number)} characters")
    value = int(number.replace(",", ""))
    right = str(value) == answer
    return Verdict(float(right), formatted, "right" if right else f"{value}, should be {answer}", str(value))


class _Pool:
    """The problems of a split generated so far: a memo of a pure function, not state."""

    def __init__(self, stream: Iterator[Problem]) -> None:
        self._stream, self._known = stream, list[Problem]()

    def first(self, count: int) -> tuple[Problem, ...]:
        self._known.extend(islice(self._stream, max(0, count - len(self._known))))
        return tuple(self._known[:count])


@lru_cache(maxsize=32)
def _pool(tier: Tier, seed: int, wordings: int, split: Split) -> _Pool:
    return _Pool(_stream(tier, seed, wordings, split))


def _stream(tier: Tier, seed: int, wordings: int, split: Split) -> Iterator[Problem]:
    seen: set[str] = set()
    candidate = 0
    while True:
        rng = random.Random(key(seed, "world problem", tier, split, candidate))
        candidate += 1
        story = random_story(rng, tier == "hard", split)
        question = story.question
        if question in seen:
            continue
        seen.add(question)
        # Solutions draw from the question's own key, so that one setting's solutions do not move another's questions.
        texts = solutions(story, key(seed, "world solutions", question), wordings)
        yield Problem(f"world_{tier}/{split}/{len(seen) - 1}", question, str(story.answer), texts, _tags(story, tier))


def _tags(story: Story, tier: Tier) -> tuple[str, ...]:
    return (f"steps={story.steps}", f"tier={tier}", f"kind={story.kind}", f"distractor={int(story.distractor)}")
