"""An answer as a value and its words: units that may be left out, magnitudes that multiply, words that change it.

A letter that could be a variable is never taken for a unit: ``3\\text{ m}`` is three meters and ``3m`` a product.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from foray.answers.unit_words import (
    CHANGES,
    CLOCK,
    FILLER,
    KNOWN,
    MAGNITUDES,
    PLAIN_WORDS,
    Unit,
    plain_words,
    singular,
    unit_of,
)
from foray.answers.written import compact, is_word, plain_number, words

_TEXT = (
    r"\\(?:text|mathrm|mbox|textrm|textbf|textit|textnormal|textup|textsf|operatorname|mathsf)[ ]?\{([^{}]"
    r"{0,200})\}"
)
_POWER = r"(?:[ ]?\^[ ]?(?:\{[ ]?(-?[1-9])[ ]?\}|([1-9])))?"
_TAIL_TEXT = re.compile(rf"[ ]?{_TEXT}{_POWER}$")
_TAIL_BARE = re.compile(rf"(?:(?<=[0-9}})])|(?<=[ /]))(?<![\\A-Za-z])([A-Za-z]{{2,20}}){_POWER}$")
_TAIL_JOIN = re.compile(r"[ ]?(/|\\cdot|\*)$")
_FRACTION_OF_TEXTS = re.compile(rf"\\frac\{{{_TEXT}\}}\{{{_TEXT}{_POWER}\}}$")
_DEGREES = re.compile(r"[ ]?\^[ ]?\\circ[ ]?(?:\\(?:text|mathrm)\{[ ]?([CFK])[ ]?\}|([CFK])|)$")
_CURRENCY = re.compile(r"^(-?)[ ]?(\\\$|\\pounds|€|¥|₹|(?:Rs|USD|EUR)\.?(?= ?[0-9]))[ ]?(?=[-0-9.\\(])")
_CURRENCIES = {"\\$": "dollar", "\\pounds": "gbp", "€": "euro", "¥": "yen", "₹": "rupee", "R": "rupee", "U": "dollar",
               "E": "euro"}  # fmt: skip
_CURRENCY_AFTER = re.compile(r"[ ]?(\\\$|€|¥|₹|\\pounds)$")
_ANY_TEXT = re.compile(_TEXT + _POWER)
_NAMES_OF_FUNCTIONS = re.compile(
    r"\\(?:frac|sqrt|pi|cdot|times|div|infty|circ|ln|log|sin|cos|tan|left|right|begin|end|p?matrix|pm|math"
    r"rm|text)(?![A-Za-z])"
)
_JOINS = re.compile(r"[ ]?(?:,[ ]?)?(?:and|or)[ ]?|[ ,;]*", re.IGNORECASE)
_COUNTED = re.compile(
    rf"([0-9][0-9,./ ]*|\\frac\{{[0-9]+\}}\{{[0-9]+\}})[ ]?(?:{_TEXT}|([A-Za-z]{{2,12}})\.?)[ ]?(?:,|and |"
    rf"\\text\{{ ?and ?\}})?[ ]?"
)
_NOON = re.compile(r"\b([AaPp])\.[ ]?[Mm]\b\.?")
_CLOCK_TIME = re.compile(r"[0-9]{1,2}(?::[0-9]{2}){0,2}")


@dataclass(frozen=True)
class Reading:
    """A value without its tail of words.

    ``opaque``: the words that are left change the value, so only the same text equals it. ``clock``: am or pm.
    ``spelled``: the tail's text where letters without ``\\text`` could stand for it.
    """

    value: str
    unit: Unit | None = None
    scale: Fraction = Fraction(1)
    opaque: bool = False
    clock: str = ""
    spelled: str = ""


def read(text: str) -> Reading:
    """A clean answer as a value and the meaning of its words."""
    counted = _counted(text)
    if counted is not None:
        return counted
    text = _NOON.sub(r"\1m", text)
    unit = ""
    found = _CURRENCY.match(text)
    if found:
        unit = _CURRENCIES.get(found[2], "") or _CURRENCIES[found[2][0]]
        text = found[1] + text[found.end() :]
    elif after := _CURRENCY_AFTER.search(text):
        unit, text = _CURRENCIES[after[1]], text[: after.start()]
    value, tail = _peel(text)
    if not value:
        return Reading(text)
    if tail in ("percent", "per cent", "pct", "percentage"):
        value, tail = value + "\\%", ""
    reading = _tail(value, tail, unit if unit not in tail else "")
    inner = _ANY_TEXT.findall(reading.value)
    if inner:
        texts = {part[0].strip() for part in inner if not _JOINS.fullmatch(part[0])}
        if texts and {unit_of(part) for part in texts} == {reading.unit} and reading.unit is not None:
            reading = replace(reading, value=_ANY_TEXT.sub(_without_unit, reading.value))  # 3 cm, 4 cm
        elif texts:
            reading = replace(reading, opaque=True)
    return reading


def _without_unit(found: re.Match[str]) -> str:
    return found.group() if _JOINS.fullmatch(found[1]) else ""


def _peel(text: str) -> tuple[str, str]:
    """The text before its last words, and these words: in lower case, powers as ``cm^2``, quotients with ``/``."""
    parts: list[str] = []
    rest = text
    while rest:
        degrees = _DEGREES.search(rest)
        found = _FRACTION_OF_TEXTS.search(rest)
        if degrees:
            said = {"C": "celsius", "F": "fahrenheit", "K": "kelvin", None: "degree"}[degrees[1] or degrees[2]]
            start = degrees.start()
        elif found:
            said, start = f"{found[1].strip()} / {found[2].strip()}^{found[3] or found[4] or 1}", found.start()
        elif (found := _TAIL_TEXT.search(rest)) or (found := _bare(rest, parts)):
            power = found[2] or found[3]
            said, start = found[1].strip() + (f"^{power}" if power else ""), found.start()
        else:
            break
        if _JOINS.fullmatch(said) and said:
            break
        before = rest[:start].rstrip()
        joined = _TAIL_JOIN.search(before)
        if joined and (before[: joined.start()].rstrip().endswith("}") or _BARE_WORD.search(before[: joined.start()])):
            said, before = ("/ " if joined[1] == "/" else "") + said, before[: joined.start()].rstrip()
        elif before and not re.search(r"[0-9)}\]%!|a-zA-Z]$", before):
            break
        parts.append(said)
        rest = before
    return rest, plain_words(" ".join(reversed(parts)))


_BARE_WORD = re.compile(r"[A-Za-z]{1,}$")


def _bare(rest: str, parts: list[str]) -> re.Match[str] | None:
    """Words without ``\\text`` after a number without variables: a known unit, or a plain noun after a space."""
    found = _TAIL_BARE.search(rest)
    if not found:
        return None
    word, before = found[1].casefold(), rest[: found.start()]
    if before.endswith("^") or not _number_like(before):
        return None
    known = singular(word) in KNOWN or word in MAGNITUDES or word in CLOCK or word in ("percent", "dozen", "units")
    if known and (len(word) > 2 or before[-1:] != "" or word in ("cm", "km", "mm", "kg", "ml", "mg")):
        return found
    spaced = before.endswith(" ")
    return found if spaced and (is_word(word) or word in CHANGES or word in FILLER) else None


def _number_like(text: str) -> bool:
    """Whether a text has digits and, but for units and functions, no letters that could be variables."""
    left = _NAMES_OF_FUNCTIONS.sub("", _ANY_TEXT.sub("", text))
    letters = re.findall(r"[A-Za-z]+", left)
    return any(c.isdigit() for c in left) and all(
        singular(w.casefold()) in KNOWN or is_word(w) or w.casefold() in PLAIN_WORDS for w in letters
    )


def _tail(value: str, tail: str, currency: str) -> Reading:
    """The value as changed by the words of its tail, and by a currency before it."""
    left = tail.split()
    scale = Fraction(1)
    while left and (left[0] in MAGNITUDES or left[0] in ("dozen", "dozens")):
        word = left.pop(0)
        scale *= 12 if word.startswith("dozen") else Fraction(10) ** MAGNITUDES[word]
    if currency:
        left.insert(0, currency)
    if left and left[-1] in CLOCK:
        return Reading(value, clock=left[-1], opaque=len(left) > 1 or not _CLOCK_TIME.fullmatch(value))
    if not left:
        return Reading(value, scale=scale)
    rest = " ".join(left)
    unit = unit_of(rest)
    if unit is None:
        return Reading(value, scale=scale, opaque=True)
    return Reading(value, unit, scale, spelled=rest.replace(" ", ""))


def _counted(text: str) -> Reading | None:
    """``5\\text{ ft }11\\text{ in}`` and ``2 hours 30 minutes`` as one number of the first unit's base."""
    if not re.match(r"[0-9\\]", text):
        return None
    position = 0
    parts: list[tuple[Fraction, Unit]] = []
    while position < len(text) and len(parts) < 5:
        found = _COUNTED.match(text, position)
        if not found or found.end() == position:
            return None
        number = plain_number(found[1].strip().rstrip(","))
        unit = unit_of(found[2] or found[3])
        if number is None or unit is None or not unit.dimensions or unit.nouns:
            return None
        parts.append((number[0], unit))
        position = found.end()
    if len(parts) < 2 or len({unit.dimensions for _, unit in parts}) > 1:
        return None
    if any(a.factor <= b.factor for (_, a), (_, b) in pairwise(parts)):
        return None
    total = sum((number * unit.factor for number, unit in parts), Fraction(0))
    return Reading(_latex(total), Unit(parts[0][1].dimensions))


def _latex(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def values(gold: str, answer: str) -> tuple[str, str] | None:
    """The values left to compare of two clean answers whose words agree; None where the words make them differ."""
    a, b = read(gold), read(answer)
    a, b = _with_letters(a, b), _with_letters(b, a)
    if a.opaque or b.opaque:
        return (gold, answer) if words(gold) or words(answer) else None
    if a.clock != b.clock:
        return None
    x, y = a.scale, b.scale
    if a.unit and b.unit:
        if a.unit.dimensions and b.unit.dimensions:
            if a.unit.dimensions != b.unit.dimensions:
                return None
            x, y = x * a.unit.factor, y * b.unit.factor
        elif a.unit.dimensions or b.unit.dimensions:
            if a.unit.nouns or b.unit.nouns:
                return None  # centimeters and apples
        elif not (a.unit.nouns <= b.unit.nouns or b.unit.nouns <= a.unit.nouns):
            return None
    return (a.value, b.value) if x == y else (_scaled(a.value, x), _scaled(b.value, y))


def _with_letters(reading: Reading, other: Reading) -> Reading:
    """``5m`` beside ``5\\text{ m}`` is five meters too."""
    if reading.unit is None and other.spelled and not reading.opaque:
        value = compact(reading.value)
        number = value[: -len(other.spelled)]
        if value.casefold().endswith(other.spelled) and number[-1:] in tuple("0123456789)}"):
            return replace(reading, value=number, unit=other.unit)
    return reading


def _scaled(value: str, by: Fraction) -> str:
    if by == 1:
        return value
    number = plain_number(value)
    if number is not None and not number[1]:
        return _latex(number[0] * by)
    return f"({value}) \\cdot {_latex(by)}"
