"""Words after a value: units that may be left out, magnitudes that multiply, and words that make it another answer.

A letter that could be a variable is never taken for a unit: ``3\\text{ m}`` is three metres and ``3m`` a product.
What is not known to be harmless is not dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from foray.answers.written import compact, is_word, plain_number, words

# One line a dimension: names, and how many of the first are in one of each.
_TABLE = """
length: m meter metre | 1/100 cm centimeter centimetre | 1/1000 mm millimeter millimetre | 1000 km kilometer kilometre
foot: ft foot feet | 1/12 in inch inches | 3 yd yard | 5280 mi mile
time: s sec second | 60 min minute | 3600 h hr hour | 86400 day | 604800 wk week
year: yr year | 10 decade | 100 century centuries | 1/12 month
mass: g gram gm | 1000 kg kilogram kilo | 1/1000 mg milligram | 1000000 tonne
pound: lb pound | 1/16 oz ounce | 2000 ton
volume: l liter litre | 1/1000 ml milliliter millilitre
cup: cup | 2 pint pt | 4 quart qt | 16 gallon gal
dollar: dollar buck usd | 1/100 cent penny pennies | 1/20 nickel | 1/10 dime
sterling: gbp sterling | 1/100 pence
euro: euro eur
yen: yen
rupee: rupee rs inr
degree: degree deg
radian: radian rad
celsius: celsius
fahrenheit: fahrenheit
kelvin: kelvin
newton: newton
joule: joule
watt: watt
volt: volt
hertz: hz hertz
ohm: ohm
mph: mph
kph: kph kmph kmh
acre: acre
hectare: hectare
bit: bit | 8 byte
"""
_MAGNITUDES = {
    "hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12, "quadrillion": 15,
    "quintillion": 18, "hundreds": 2, "thousands": 3, "millions": 6, "billions": 9, "bn": 9, "mn": 6, "mln": 6,
}  # fmt: skip
# With these an answer is not its number any more.
_CHANGES_TEXT = """
or and less more fewer greater than least most under over above below between to from not no minus plus negative
except without remainder r mod times squared cubed half halves third thirds quarter quarters fourth fourths fifth
fifths twice double triple factorial base ten two three four five six seven eight nine zero one approximately about
almost nearly around roughly if for when where otherwise but only either neither nor up down through until since
before after noon midnight ago bc ad k percent per-cent choose ln log sin cos tan power inverse fold score scores
gross tens pi mod modulo mil mio grand
"""
_CHANGES = frozenset(_CHANGES_TEXT.split())
# Parts of one, large numbers that have no name here, and a variable or a letter for a magnitude.
_CHANGES_TOO = re.compile(
    r"(?:six|seven|eigh|nin|ten|eleven|twelf|hundred|thousand|million|billion)ths?|[a-z]*illions?|[bikxyz]"
)
_FILLER_TEXT = """
of the a an in total all each apiece long wide tall high away old different possible distinct
"""
_FILLER = frozenset(_FILLER_TEXT.split())
_GENERIC = frozenset({"unit"})
_CLOCK = {"am", "pm"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}

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
class Unit:
    """What a tail says: powers of known dimensions and a factor to their base, or else other nouns."""

    dimensions: frozenset[tuple[str, int]] = frozenset()
    factor: Fraction = Fraction(1)
    nouns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """A value without its tail. ``opaque``: words are left that change what it says, so that only the same text equals
    it. ``clock``: am or pm. ``spelled``: the tail's text where it could also be written as letters without ``\\text``.
    """

    value: str
    unit: Unit | None = None
    scale: Fraction = Fraction(1)
    opaque: bool = False
    clock: str = ""
    spelled: str = ""


def _known() -> dict[str, tuple[str, Fraction]]:
    known: dict[str, tuple[str, Fraction]] = {}
    for line in _TABLE.strip().splitlines():
        dimension, _, rest = line.partition(": ")
        for number, part in enumerate(rest.split(" | ")):
            names = part.split()
            factor = Fraction(names.pop(0)) if number else Fraction(1)
            known |= dict.fromkeys(names, (dimension, factor))
    return known


KNOWN = _known()


def read(text: str) -> Reading:
    """A clean answer as a value and what its words say."""
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
        if texts and {_names(part) for part in texts} == {reading.unit} and reading.unit is not None:
            reading = replace(reading, value=_ANY_TEXT.sub(_without_unit, reading.value))  # 3 cm, 4 cm
        elif texts:
            reading = replace(reading, opaque=True)
    return reading


def _without_unit(found: re.Match[str]) -> str:
    return found.group() if _JOINS.fullmatch(found[1]) else ""


def _peel(text: str) -> tuple[str, str]:
    """The text before its last words, and these: in lower case, powers as ``cm^2``, quotients with ``/``."""
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
    return rest, _plain_words(" ".join(reversed(parts)))


_BARE_WORD = re.compile(r"[A-Za-z]{1,}$")


def _bare(rest: str, parts: list[str]) -> re.Match[str] | None:
    """Words without ``\\text`` after a number without variables: a known unit, or a plain noun after a space."""
    found = _TAIL_BARE.search(rest)
    if not found:
        return None
    word, before = found[1].casefold(), rest[: found.start()]
    if before.endswith("^") or not _number_like(before):
        return None
    known = _singular(word) in KNOWN or word in _MAGNITUDES or word in _CLOCK or word in ("percent", "dozen", "units")
    if known and (len(word) > 2 or before[-1:] != "" or word in ("cm", "km", "mm", "kg", "ml", "mg")):
        return found
    spaced = before.endswith(" ")
    return found if spaced and (is_word(word) or word in _CHANGES or word in _FILLER) else None


def _number_like(text: str) -> bool:
    """Whether a text has digits and, but for units and functions, no letters that could be variables."""
    left = _NAMES_OF_FUNCTIONS.sub("", _ANY_TEXT.sub("", text))
    letters = re.findall(r"[A-Za-z]+", left)
    return any(c.isdigit() for c in left) and all(
        _singular(w.casefold()) in KNOWN or is_word(w) or w.casefold() in _PLAIN_WORDS for w in letters
    )


_PLAIN_WORDS = _CHANGES | _FILLER | _CLOCK | set(_MAGNITUDES) | set(_POWERS) | {"per", "dozen", "units", "unit"}


def _plain_words(text: str) -> str:
    text = re.sub(r"\\[ ,;!]|[~$]", " ", text.casefold())
    text = re.sub(r"\b([ap])\.? ?m\b\.?", r"\1m", text)
    text = re.sub(r"\bkm/h(?:r|our)?\b", "kph", re.sub(r"\b(?:mi|miles?) ?/ ?h(?:r|our)?\b", "mph", text))
    text = re.sub(r"\bmiles per hour\b", "mph", re.sub(r"\bkilomet(?:er|re)s per hour\b", "kph", text))
    return " ".join(text.replace(".", " ").replace(",", " ").replace("\\", " ").split())


def _singular(word: str) -> str:
    if word in KNOWN or len(word) < 3:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    for ending in ("s", "es"):
        if word.endswith(ending) and word[: -len(ending)] in KNOWN:
            return word[: -len(ending)]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _tail(value: str, tail: str, currency: str) -> Reading:
    """What the words of a tail, and a currency before the value, do to it."""
    left = tail.split()
    scale = Fraction(1)
    while left and (left[0] in _MAGNITUDES or left[0] in ("dozen", "dozens")):
        word = left.pop(0)
        scale *= 12 if word.startswith("dozen") else Fraction(10) ** _MAGNITUDES[word]
    if currency:
        left.insert(0, currency)
    if left and left[-1] in _CLOCK:
        return Reading(value, clock=left[-1], opaque=len(left) > 1 or not _CLOCK_TIME.fullmatch(value))
    if not left:
        return Reading(value, scale=scale)
    rest = " ".join(left)
    unit = _names(rest)
    if unit is None:
        return Reading(value, scale=scale, opaque=True)
    return Reading(value, unit, scale, spelled=rest.replace(" ", ""))


def _names(text: str) -> Unit | None:
    """The unit that words name, or nouns that are none; None where they change what the number before them says."""
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    nouns: list[str] = []
    sign, pending = 1, 0
    found = _plain_words(text).replace("/", " / ").split()
    if found == ["kph"] or found == ["mph"]:
        found = ["km" if found[0] == "kph" else "mile", "/", "hour"]
    for index, part in enumerate(found):
        if part in ("/", "per"):
            sign = -1
            continue
        word, _, raised = part.partition("^")
        follows = found[index + 1] if index + 1 < len(found) else ""
        if word in ("squared", "cubed") and index and _singular(found[index - 1]) in KNOWN:
            continue  # counted with the unit before it
        if word in _POWERS:
            pending = _POWERS[word]
            continue
        if any(c.isdigit() for c in word) or word in _CHANGES or word in _MAGNITUDES or word in ("dozen", "dozens"):
            return None
        known = KNOWN.get(_singular(word)) or KNOWN.get(word)
        if known is None and word not in _FILLER and _CHANGES_TOO.fullmatch(word):
            return None
        if known is None or (nouns and sign > 0):
            if not re.fullmatch(r"[a-z'-]+", word):
                return None
            nouns.append(_singular(word))
            if pending and _singular(word) not in _GENERIC:
                return None
            continue
        if word == "degree" and follows in ("celsius", "fahrenheit", "c", "f"):
            continue
        power = int(raised) if raised.lstrip("-").isdigit() else pending or {"squared": 2, "cubed": 3}.get(follows, 1)
        powers[known[0]] += sign * power
        factor *= known[1] ** (sign * power)
        pending = 0
    dimensions = frozenset((name, power) for name, power in powers.items() if power)
    return Unit(dimensions, factor, frozenset(nouns) - _FILLER - _GENERIC)


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
        unit = _names(found[2] or found[3])
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
    """What is left to compare of two clean answers when their words agree; None where these say that they differ."""
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
                return None  # centimetres and apples
        elif not (a.unit.nouns <= b.unit.nouns or b.unit.nouns <= a.unit.nouns):
            return None
    return (a.value, b.value) if x == y else (_scaled(a.value, x), _scaled(b.value, y))


def _with_letters(reading: Reading, other: Reading) -> Reading:
    """``5m`` beside ``5\\text{ m}`` is five metres too."""
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
