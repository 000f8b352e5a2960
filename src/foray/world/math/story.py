"""A story: its sentences, and the tree of computations that answers its question."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from foray.world.math.lexicon import FOOD, MEN, TOYS, WOMEN, Person, Thing

T = TypeVar("T")


class Unfit(Exception):
    """The numbers drawn do not make a sensible story; the sampler draws again."""


class Step:
    """One computation ``left op right = value``. Operands are numbers of the question or earlier steps.

    ``name`` names the result in a few words ("after buying"). ``says`` is a sentence with ``{}`` for the equation
    ("Ana has {} pears"). ``after`` is an earlier step that is no operand: a reader needs its result to choose this
    computation. Steps compare by identity: a step used twice is one step.
    """

    __slots__ = ("after", "left", "name", "op", "right", "says", "value")

    def __init__(
        self, left: Step | int, op: str, right: Step | int, value: int, name: str, says: str, after: Step | None = None
    ) -> None:
        self.left, self.op, self.right, self.value, self.name, self.says = left, op, right, value, name, says
        self.after = after

    @property
    def a(self) -> int:
        """The left operand's value."""
        return self.left if isinstance(self.left, int) else self.left.value

    @property
    def b(self) -> int:
        """The right operand's value."""
        return self.right if isinstance(self.right, int) else self.right.value


Quantity = Step | int


def value_of(quantity: Quantity) -> int:
    """The number a quantity stands for."""
    return quantity if isinstance(quantity, int) else quantity.value


def compute(left: Quantity, op: str, right: Quantity, name: str, says: str, limit: int) -> Step:
    """A step with its value.

    Raises ``Unfit`` if the value is below 2, if a number is above ``limit`` or if a division is not exact. Values of
    2 or more keep every noun plural and leave nobody with nothing.
    """
    a, b = value_of(left), value_of(right)
    if op == "+":
        value = a + b
    elif op == "-":
        value = a - b
    elif op == "*":
        value = a * b
    else:
        assert op == "/", op
        if b == 0 or a % b:
            raise Unfit
        value = a // b
    if value < 2 or max(a, b, value) > limit:
        raise Unfit
    return Step(left, op, right, value, name, says)


@dataclass(frozen=True)
class Story:
    """A finished problem: its sentences, its question and the computation that answers it.

    A question asks for two numbers: ``first``, which is given or comes up on the way, and the last result. Two numbers
    are hard to guess where one is not: answers are small, so that a small model can learn the arithmetic.
    """

    kind: str
    facts: tuple[str, ...]
    ask: str
    first: Quantity
    root: Step
    steps: int
    hard: bool
    distractor: bool = False

    @property
    def question(self) -> str:
        """The question's text."""
        return " ".join((*self.facts, self.ask))

    @property
    def answer(self) -> str:
        """The two numbers that answer the question: ``24 and 8``."""
        return f"{value_of(self.first)} and {self.root.value}"


class Draft:
    """A story in the making: draws from ``rng``, collects sentences, checks every number against ``limit``."""

    def __init__(self, rng: random.Random, kind: str, steps: int, hard: bool, limit: int) -> None:
        self.random = rng.random
        self.kind, self.steps, self.hard, self.limit = kind, steps, hard, limit
        self.facts: list[str] = []
        self.cast: list[Person] = []
        self.things: list[Thing] = []

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each equally likely."""
        return options[int(self.random() * len(options))]

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.random() < share

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        if high < low:
            raise Unfit
        return low + int(self.random() * (high - low + 1))

    def count(self) -> int:
        """A number of things that a person has: mostly up to 12, sometimes up to 40."""
        u = self.random()
        if u < 0.6:
            return self.between(3, 12)
        return self.between(13, 25) if u < 0.9 else self.between(26, 40)

    def person(self) -> Person:
        """A new person, of another gender than the last one, so that every pronoun is clear."""
        if self.cast:
            pool = MEN if self.cast[-1].he == "she" else WOMEN
        else:
            pool = WOMEN if self.random() < 0.5 else MEN
        while True:
            someone = self.pick(pool)
            if someone not in self.cast:
                self.cast.append(someone)
                return someone

    def thing(self, pool: Sequence[Thing] | None = None) -> Thing:
        """A kind of thing that the story does not have yet."""
        while True:
            thing = self.pick(pool or (FOOD if self.random() < 0.5 else TOYS))
            if thing not in self.things:
                self.things.append(thing)
                return thing

    def say(self, sentence: str) -> None:
        """Adds a sentence to the story."""
        self.facts.append(sentence)

    def do(self, left: Quantity, op: str, right: Quantity, name: str, says: str) -> Step:
        """A computation within the story's limit; see ``compute``."""
        return compute(left, op, right, name, says, self.limit)

    def finish(self, first: Quantity, root: Quantity, ask: str) -> Story:
        """The draft as a story: ``first`` and ``root`` answer the question ``ask``."""
        assert isinstance(root, Step)
        return Story(self.kind, tuple(self.facts), ask, first, root, self.steps, self.hard)

    def distractor(self) -> str:
        """A true sentence with a number that the answer does not need: another person, another thing, an age."""
        u = self.random()
        if u < 0.3:
            return f"{self.pick(self.cast) if self.cast else self.person()} is {self.between(7, 60)} years old."
        other = self.thing()
        if u < 0.5 and self.cast:
            return f"{self.cast[0]} also has {self.between(2, 60)} {other.many}."
        return f"{self.person()} has {self.between(2, 60)} {other.many}."


def with_distractor(story: Story, draft: Draft) -> Story:
    """The story with an irrelevant sentence before the question. No pronoun follows the sentence."""
    return replace(story, facts=(*story.facts, draft.distractor()), distractor=True)


def linear(root: Step, rng: random.Random | None = None) -> list[Step]:
    """The steps in an order that computes operands first. With ``rng``, the order is random among these orders."""
    done: list[Step] = []
    seen: set[int] = set()

    def visit(step: Quantity) -> None:
        if isinstance(step, int) or id(step) in seen:
            return
        seen.add(id(step))
        if step.after is not None:
            visit(step.after)
        if rng is not None and rng.random() < 0.5:
            visit(step.right)
            visit(step.left)
        else:
            visit(step.left)
            visit(step.right)
        done.append(step)

    visit(root)
    return done
