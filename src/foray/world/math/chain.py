"""Whether a solution is a sound chain: right answers from right reasons, which the world can check exactly.

The literature counts samples whose answer and whose reasoning are right as CoT-pass@k (arXiv 2506.14245), with a model
as the judge. Here the rule is: every computation is right, its operands stand in the question or are earlier results,
the last result is the answer's last number, and the other numbers of the answer came up before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from foray.world.math.solutions import MARK

# Bounded repeats and no nested ones: linear time on any text. No number of the world has more digits.
_N = r"([0-9]{1,9})"
_ENDS = r"(?![0-9]|[.,][0-9])"  # 17.5 is not 17 and a 5
_WORDS = {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}
_THAN = {"more": "+", "fewer": "-"}
_DO = {"add": "+", "take away": "-", "multiply by": "*", "divide by": "/"}
_COMPUTATION = re.compile(
    rf"(?<![0-9+*/=-] )(?<![0-9]){_N} ([-+*/]|{'|'.join(_WORDS)}) {_N} (?:=|gives|is) {_N}{_ENDS}"
    rf"|\b([Tt]wice|[Hh]alf of) {_N} is {_N}{_ENDS}"
    rf"|\b(?:Start with|Now take) {_N}{_ENDS}"
    rf"|, ({'|'.join(_DO)}) {_N} to get {_N}{_ENDS}"
    rf"|(?<![0-9]){_N} ({'|'.join(_THAN)}) than {_N} is {_N}{_ENDS}"
)
# Every one of these belongs to a computation. One that was not read makes a chain unsound. "5 more than Ben" is none:
# a question says so, and a solution may repeat it.
_SIGNS = re.compile(
    r"=|[0-9] (?:[-+*/]|times\b|(?:more|fewer) than [0-9])|\bgives [0-9]|\bto get\b|\b(?:plus|minus|divided by)\b"
    r"|\b(?:[Tt]wice|[Hh]alf of)\b"
)
_READ = "|"  # stands where a computation was read, so that what is left does not close up
_MOST = 64  # computations of a chain; the world's solutions have ten. More would take time that grows as their square
_NOWHERE = -1  # no number of a question
_NUMBER = re.compile(r"[0-9]{1,9}")
#: Numbers that a question gives in words, and 1: a solution may say a + 3 a = 4 a.
_SPOKEN = {"twice": 2, "half": 2, "third": 3, "quarter": 4, "together": 2}


class Computation(NamedTuple):
    """``a op b = value``, as a solution says it."""

    a: int
    op: str
    b: int
    value: int

    @property
    def right(self) -> bool:
        a, b, value = self.a, self.b, self.value
        return {"+": a + b == value, "-": a - b == value, "*": a * b == value, "/": b * value == a and b > 0}[self.op]


def computations(work: str) -> Iterator[Computation]:
    """The computations of a solution in their order, in each of the world's wordings."""
    held = _NOWHERE  # of ``Start with 12, add 5 to get 17``
    for found in _COMPUTATION.finditer(work):
        a, op, b, value, part, of, result, start, do, by, got, more, than, other, total = found.groups()
        if start:
            held = int(start)
            continue
        if a:
            step = Computation(int(a), _WORDS.get(op, op), int(b), int(value))
        elif part:
            step = Computation(int(of), "*" if part.lower() == "twice" else "/", 2, int(result))
        elif than:
            step = Computation(int(other), _THAN[than], int(more), int(total))
        else:
            step = Computation(held, _DO[do], int(by), int(got))
        held = step.value
        yield step


def sound(question: str, completion: str, answer: str) -> bool:
    """Whether the text before the first ``####`` is a sound chain to ``answer``, such as ``24 and 8``."""
    numbers = [int(n) for n in _NUMBER.findall(answer)]
    if not numbers:
        return False
    *others, last = numbers
    work = completion.partition(MARK)[0]
    steps = list(islice(computations(work), _MOST + 1))
    if not 1 <= len(steps) <= _MOST or steps[-1].value != last or not all(s.right for s in steps):
        return False
    if _SIGNS.search(_COMPUTATION.sub(_READ, work)):
        return False
    known = {int(n) for n in _NUMBER.findall(question)} | {1}
    known |= {number for word, number in _SPOKEN.items() if word in question}
    packed = "can be filled" in question
    for s in steps:
        for x, other in ((s.a, s.b), (s.b, s.a)):
            if x not in known and not (packed and s.op == "*" and _full(x, other, known)):
                return False
        known.add(s.value)
    return known.issuperset(others)


def _full(count: int, size: int, known: set[int]) -> bool:
    """Whether ``count`` is how many packs of ``size`` some known number of things fills."""
    return any(n // size == count for n in known if size > 0)
