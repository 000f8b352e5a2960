"""Arithmetic drills as pre-training text: the stories' computations as lines, tables, words and chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from foray.core.field_types import require_types
from foray.core.rng import key
from foray.world.endless import EndlessWorldText
from foray.world.math.story import linear
from foray.world.math.story_sampler import random_story

Sum = tuple[int, str, int, int]
_STORIES = 6000


@lru_cache(maxsize=8)
def _pool(seed: int, hard_share: float) -> tuple[Sum, ...]:
    """The computations of train-bucket stories. Drills practice each computation as often as stories use it."""
    rng = Random(key(seed, "drills pool"))
    return tuple(
        (s.a, s.op, s.b, s.value)
        for _ in range(_STORIES)
        for s in linear(random_story(rng, rng.random() < hard_share, "train").root)
    )


def _near(rng: Random, pool: tuple[Sum, ...]) -> Sum:
    """One time in three a computation of the stories, else a computation with numbers of about the same size."""
    a, op, b, value = pool[int(rng.random() * len(pool))]
    u = rng.random()
    if u < 0.34:
        return a, op, b, value
    if op in "*/":
        if op == "/":
            a, b = value, b
        a = max(2, a + int(rng.random() * 7) - 3)
        b = max(2, b + int(rng.random() * 3) - 1)
        return (a, "*", b, a * b) if op == "*" else (a * b, "/", b, a)
    a, b = max(2, a + int(rng.random() * 11) - 5), max(2, b + int(rng.random() * 11) - 5)
    if op == "-" and a < b:
        a, b = b, a
    return a, op, b, a + b if op == "+" else a - b


def _spelled(rng: Random, s: Sum) -> str:
    a, op, b, value = s
    if b == 2 and op in "*/":
        return f"{'twice' if op == '*' else 'half of'} {a} is {value}."
    if op == "*":
        return f"{a} times {b} is {value}."
    if op == "/":
        return f"{a} divided by {b} is {value}."
    if op == "+":
        return f"{a} plus {b} is {value}." if rng.random() < 0.5 else f"{b} more than {a} is {value}."
    return f"{a} minus {b} is {value}." if rng.random() < 0.5 else f"{b} fewer than {a} is {value}."


def _equation(s: Sum) -> str:
    a, op, b, value = s
    return f"{a} {op} {b} = {value}"


def _lines(rng: Random, pool: tuple[Sum, ...]) -> str:
    return "Sums: " + " ".join(f"{_equation(_near(rng, pool))}." for _ in range(8 + int(rng.random() * 17)))


def _words(rng: Random, pool: tuple[Sum, ...]) -> str:
    return "In words: " + " ".join(_spelled(rng, _near(rng, pool)) for _ in range(8 + int(rng.random() * 13)))


def _asked(rng: Random, pool: tuple[Sum, ...]) -> str:
    sums = (_near(rng, pool) for _ in range(6 + int(rng.random() * 9)))
    return "\n".join(f"What is {a} {op} {b}? It is {v}." for a, op, b, v in sums)


def _tables(rng: Random, pool: tuple[Sum, ...]) -> str:
    """Two to four tables, each around one computation. The second number of a table goes up by ones."""
    return "\n".join("Table: " + _table(rng, *_near(rng, pool)[:3]) for _ in range(2 + int(rng.random() * 3)))


def _table(rng: Random, a: int, op: str, b: int) -> str:
    if op == "/":
        return " ".join(f"{b * i} / {b} = {i}." for i in range(2, 13))
    if op == "*":
        return " ".join(f"{a} * {i} = {a * i}." for i in range(2, 11))
    low = max(2, b - int(rng.random() * 10))
    if op == "+":
        return " ".join(f"{a} + {i} = {a + i}." for i in range(low, low + 10))
    return " ".join(f"{a} - {i} = {a - i}." for i in range(low, max(low + 1, min(low + 10, a))))


def _pairs(rng: Random, pool: tuple[Sum, ...]) -> str:
    """Each computation with its reverse: ``7 + 5 = 12, so 12 - 5 = 7.``"""
    back = {"+": "-", "-": "+", "*": "/", "/": "*"}
    sums = (_near(rng, pool) for _ in range(5 + int(rng.random() * 8)))
    return "There and back: " + " ".join(f"{a} {op} {b} = {v}, so {v} {back[op]} {b} = {a}." for a, op, b, v in sums)


def _chains(rng: Random, pool: tuple[Sum, ...]) -> str:
    """Three to six chains. Each chain takes one number through several computations."""
    texts = []
    for _ in range(3 + int(rng.random() * 4)):
        a, op, b, v = _near(rng, pool)
        text = f"{a} {op} {b} = {v}"
        for _ in range(1 + int(rng.random() * 3)):
            u = rng.random()
            if u < 0.4 or v < 6:
                c = 2 + int(rng.random() * 30)
                text, v = f"{text}, {v} + {c} = {v + c}", v + c
            elif u < 0.8 or v % 2:
                c = 2 + int(rng.random() * min(30, v - 3))
                text, v = f"{text}, {v} - {c} = {v - c}", v - c
            else:
                text, v = f"{text}, {v} / 2 = {v // 2}", v // 2
        texts.append(text + ".")
    return "Chains: " + " ".join(texts)


_Form = Callable[[Random, tuple[Sum, ...]], str]
#: The forms of a document. Each entry is drawn with the same probability. Plain lines have three entries, words two.
FORMS: tuple[_Form, ...] = (_lines, _lines, _lines, _words, _words, _asked, _tables, _pairs, _chains)


@dataclass(frozen=True)
class Drills(EndlessWorldText):
    """Arithmetic drills: additions, subtractions, multiplications and exact divisions, in the sizes of the stories."""

    hard_share: float = 0.2  # share of the drills with the numbers of hard problems
    world_seed: int = 0  # of the text

    def __post_init__(self) -> None:
        require_types(self)
        if not 0 <= self.hard_share <= 1:
            raise ValueError(f"hard_share must be between 0 and 1, not {self.hard_share}")

    @property
    def name(self) -> str:
        """``drills``."""
        return "drills"

    def document_key(self, split: str, number: int) -> int:
        return key(self.world_seed, "drills", split, number)

    def document(self, random: Random, split: str) -> str:
        return FORMS[int(random.random() * len(FORMS))](random, _pool(self.world_seed, self.hard_share))
