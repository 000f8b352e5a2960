"""The word problems as a task: the GSM8K (easy) and the MATH (hard) of the embedded world."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal, overload

from foray.answers.latex import last_box
from foray.core.field_types import require_types
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
_ONE = rf"(?:\$[ \t]?)?({_INTEGER})(?:\.0{{1,9}})?"
_END = r"(?=\.?(?:\s|$))"
# By how many numbers answer the question: two, and one in the results of world 4.
_ANSWER = {
    1: re.compile(rf"[ \t]*{_ONE}{_END}"),
    2: re.compile(rf"[ \t]*{_ONE}(?:,|,? and)[ \t]{_ONE}{_END}"),
}
_UNIT = re.compile(r"(?: [A-Za-z]{1,20})?[. ]*")
_NUMBER = re.compile(rf"({_INTEGER})(\.[0-9]+)?")
_LINE = re.compile(rf"{MARK}\s*+([^\n]+)")
_FEW = {1: "no number", 2: "no two numbers"}
_DIGITS = 20  # no answer is longer, so a longer number is wrong without conversion
#: The most steps of an example in a prompt, by tier. People pick short examples, and eight of them must fit.
EXAMPLE_STEPS = {"easy": 3, "hard": 5}


@dataclass(frozen=True)
class WorldProblems:
    """Procedural story problems of one tier, in any number.

    Problem i of a split is a pure function of (settings, split, i). Splits are disjoint by construction: the sequence
    of numbers in a question decides its split (``story_sampler.bucket``), for both tiers and for pre-training text.
    Within a split no question occurs twice.

    A solution is one line, so that a space stands before every number. So a number is one token in every place.
    A new line ends a completion.
    """

    tier: Tier = "easy"  # the kinds of problems and the size of their numbers
    train_size: int = 30_000  # problems of the training split
    test_size: int = 1000  # problems of the test split
    world_seed: int = 0  # of the problems
    solutions_per_problem: int = 12  # wordings of the solution, for SFT-Gold

    def __post_init__(self) -> None:
        require_types(self)
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

    def few_shot(self, count: int) -> tuple[Problem, ...]:
        """``count`` training problems of few steps and no irrelevant sentence, of every kind before one comes again."""
        pool = (p for p in self.problems("train", 64 * max(8, count)) if _labels(p)["distractor"] == "0")
        short = [p for p in pool if int(_labels(p)["steps"]) <= EXAMPLE_STEPS[self.tier]]
        earlier: dict[str, int] = {}
        rounds = []
        for p in short:
            kind = _labels(p)["kind"]
            rounds.append(earlier.get(kind, 0))
            earlier[kind] = rounds[-1] + 1
        return tuple(p for _, p in sorted(zip(rounds, short), key=lambda pair: pair[0])[:count])

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the two numbers after the first ``####``, in their order: ``#### 24 and 8``.

        Where they are not there, lenient takes the last two numbers of the text. Flexible takes the line behind the
        first ``####`` or else the last box, if two numbers stand there, and without both the last two of the text.
        """
        at, asked = completion.find(MARK), _asked(problem)
        if found := _ANSWER[asked].match(completion, at + len(MARK)) if at >= 0 else None:
            return _verdict(found.groups(), problem.answer, True)
        if extraction == "strict":
            return Verdict(0.0, False, f"{_FEW[asked]} after {MARK}" if at >= 0 else f"no {MARK}")
        place = _place(completion) if extraction == "flexible" else None
        numbers = [m.groups() for m in _NUMBER.finditer(completion if place is None else place)]
        if len(numbers) < asked or (place is not None and len(numbers) > asked):
            return Verdict(0.0, False, _FEW[asked])
        if any((fraction or "").strip(".0") for _, fraction in numbers[-asked:]):
            return Verdict(0.0, False, "the last number is not whole")
        return _verdict([whole for whole, _ in numbers[-asked:]], problem.answer, False)

    def sound(self, problem: Problem, completion: str) -> bool:
        """Whether right computations lead from the question's numbers to the answer (``chain.py`` has the rule)."""
        return chain.sound(problem.question, completion, problem.answer)

    def reference(self, text: str) -> str:
        """The answer of bare numbers or a full solution. Raises ValueError for a text without whole numbers."""
        bare = text.rpartition(MARK)[2]
        found = _bare(bare, 2) or _bare(bare, 1)
        if found is None:
            raise ValueError("the world's answers are two whole numbers (24 and 8), and the reference answer is not")
        return _said(found)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Compares bare numbers: the mark may be missing."""
        asked = _asked(problem)
        found = _bare(answer, asked)
        return _verdict(found, problem.answer, True) if found else Verdict(0.0, False, _FEW[asked])


def _asked(problem: Problem) -> int:
    """How many numbers answer the question."""
    return 2 if " and " in problem.answer else 1


def _bare(text: str, asked: int) -> tuple[str, ...] | None:
    """The numbers of a text that holds nothing else but perhaps a mark and a unit."""
    text = text.strip().removeprefix(MARK)
    found = _ANSWER[asked].match(text)
    return found.groups() if found and _UNIT.fullmatch(text, found.end()) else None


def _labels(problem: Problem) -> dict[str, str]:
    return {name: value for name, _, value in (tag.partition("=") for tag in problem.tags)}


def _place(completion: str) -> str | None:
    """Where the paper's test looks for an answer before it takes the end of the text."""
    line = _LINE.search(completion)
    return line.group(1) if line else last_box(completion) or None


def _said(numbers: Sequence[str]) -> str:
    return " and ".join(str(int(number.replace(",", ""))) for number in numbers)


def _verdict(numbers: Sequence[str], answer: str, formatted: bool) -> Verdict:
    longest = max(map(len, numbers))
    if longest > _DIGITS:
        return Verdict(0.0, formatted, f"a number of {longest} characters")
    given = _said(numbers)
    right = given == answer
    return Verdict(float(right), formatted, "right" if right else f"{given}, should be {answer}", given)


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


def _story(tier: Tier, split: Split, seed: int, candidate: int) -> Story:
    return random_story(random.Random(key(seed, "world problem", tier, split, candidate)), tier == "hard", split)


class _Wordings(Sequence[str]):
    """A problem's solutions, made when they are first read: five times the work of the question, and RL reads none.

    The story is told again. Thirty thousand stories in memory would be larger than a small model.
    """

    __slots__ = ("_count", "_of", "_texts")

    def __init__(self, tier: Tier, split: Split, seed: int, candidate: int, count: int) -> None:
        self._of, self._count = (tier, split, seed, candidate), count
        self._texts: tuple[str, ...] = ()

    def _made(self) -> tuple[str, ...]:
        if not self._texts:
            story, seed = _story(*self._of), self._of[2]
            # The question's own key: one setting's solutions do not move another's questions.
            self._texts = solutions(story, key(seed, "world solutions", story.question), self._count)
        return self._texts

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        return self._made()[at]

    def __len__(self) -> int:
        return len(self._made())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(self._made())

    def __repr__(self) -> str:
        return repr(self._made())


def _stream(tier: Tier, seed: int, wordings: int, split: Split) -> Iterator[Problem]:
    seen: set[str] = set()
    candidate = 0
    while True:
        story = _story(tier, split, seed, candidate)
        candidate += 1
        question = story.question
        if question in seen:
            continue
        seen.add(question)
        texts = _Wordings(tier, split, seed, candidate - 1, wordings)
        yield Problem(f"world_{tier}/{split}/{len(seen) - 1}", question, story.answer, texts, _tags(story, tier))


def _tags(story: Story, tier: Tier) -> tuple[str, ...]:
    return (f"steps={story.steps}", f"tier={tier}", f"kind={story.kind}", f"distractor={int(story.distractor)}")
