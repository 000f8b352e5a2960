"""The words of the story problems: people, things, containers, goods. With the templates, about 300 word types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Person(NamedTuple):
    """A name with its pronouns, e.g. ``Ana, she, her, her``."""

    name: str
    he: str
    him: str
    his: str

    def __str__(self) -> str:
        return self.name

    @property
    def He(self) -> str:
        """The subject pronoun at the start of a sentence."""
        return "He" if self.he == "he" else "She"


class Thing(NamedTuple):
    """A countable thing in the singular and the plural."""

    one: str
    many: str

    @property
    def a(self) -> str:
        """The singular with an article, capitalized: ``A pen``, ``An egg``."""
        return ("An " if self.one[0] in "aeiou" else "A ") + self.one


_WOMEN = "Ana Mia Eva Lily Rosa Nora Ruth Jane Lucy Emma Clara Sara Zoe Kate Amy Maya"
_MEN = "Tom Ben Sam Leo Max Paul Jack Omar Ivan Luke Noah Adam Hugo Finn Eli Dan"
WOMEN = tuple(Person(name, "she", "her", "her") for name in _WOMEN.split())
MEN = tuple(Person(name, "he", "him", "his") for name in _MEN.split())


def _things(text: str) -> tuple[Thing, ...]:
    pairs = (w.split("/") for w in text.split())
    return tuple(Thing(p[0], p[1] if len(p) > 1 else p[0] + "s") for p in pairs)


FOOD = _things(
    "apple pear plum peach/peaches lemon orange cookie candy/candies egg muffin nut cherry/cherries carrot "
    "tomato/tomatoes"
)
TOYS = _things("marble sticker card coin shell stamp button bead book pen pencil crayon ball balloon toy stone")
GOODS = _things("pen hat cup lamp ball book brush/brushes plate shirt kite rope candle")
CROPS = _things("apple pear plum peach/peaches lemon orange cherry/cherries carrot tomato/tomatoes flower")
CONTAINERS = _things("box/boxes bag basket jar tray pack")
MADE = _things("toy hat cup kite candle brush/brushes shirt plate")
GROUPS = _things("friend child/children student cousin")

#: Ways to move, each with a range of speeds in miles per hour.
MOVES = (
    ("drives", (20, 30, 40, 50, 60)),
    ("rides", (8, 9, 10, 12, 15)),
    ("runs", (4, 5, 6, 7, 8)),
    ("walks", (2, 3, 4)),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Friday", "Sunday")


def times(k: int) -> str:
    """``twice``, ``3 times``."""
    return "twice" if k == 2 else f"{k} times"


def listed(names: Sequence[object]) -> str:
    """``Ana``, ``Ana and Ben``, ``Ana, Ben and Mia``."""
    *first, last = map(str, names)
    return f"{', '.join(first)} and {last}" if first else last
