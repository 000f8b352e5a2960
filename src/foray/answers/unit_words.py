"""The words behind a number: units and their sizes, magnitudes, words that change the number, words that do not.

What is not known to be harmless is not dropped.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

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
MAGNITUDES = {
    "hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12, "quadrillion": 15,
    "quintillion": 18, "hundreds": 2, "thousands": 3, "millions": 6, "billions": 9, "bn": 9, "mn": 6, "mln": 6,
}  # fmt: skip
# Words with which an answer is not its number any more.
_CHANGES_TEXT = """
or and less more fewer greater than least most under over above below between to from not no minus plus negative
except without remainder r mod times squared cubed half halves third thirds quarter quarters fourth fourths fifth
fifths twice double triple factorial base ten two three four five six seven eight nine zero one approximately about
almost nearly around roughly if for when where otherwise but only either neither nor up down through until since
before after noon midnight ago bc ad k percent per-cent choose ln log sin cos tan power inverse fold score scores
gross tens pi mod modulo mil mio grand
"""
CHANGES = frozenset(_CHANGES_TEXT.split())
# Parts of one, large numbers without a name in MAGNITUDES, and a letter: a variable or a magnitude.
_CHANGES_TOO = re.compile(
    r"(?:six|seven|eigh|nin|ten|eleven|twelf|hundred|thousand|million|billion)ths?|[a-z]*illions?|[bikxyz]"
)
_FILLER_TEXT = """
of the a an in total all each apiece long wide tall high away old different possible distinct
"""
FILLER = frozenset(_FILLER_TEXT.split())
_GENERIC = frozenset({"unit"})
CLOCK = {"am", "pm"}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


@dataclass(frozen=True)
class Unit:
    """The meaning of a tail: powers of known dimensions and a factor to their base, or else other nouns."""

    dimensions: frozenset[tuple[str, int]] = frozenset()
    factor: Fraction = Fraction(1)
    nouns: frozenset[str] = frozenset()


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


PLAIN_WORDS = CHANGES | FILLER | CLOCK | set(MAGNITUDES) | set(_POWERS) | {"per", "dozen", "units", "unit"}


def plain_words(text: str) -> str:
    text = re.sub(r"\\[ ,;!]|[~$]", " ", text.casefold())
    text = re.sub(r"\b([ap])\.? ?m\b\.?", r"\1m", text)
    text = re.sub(r"\bkm/h(?:r|our)?\b", "kph", re.sub(r"\b(?:mi|miles?) ?/ ?h(?:r|our)?\b", "mph", text))
    text = re.sub(r"\bmiles per hour\b", "mph", re.sub(r"\bkilomet(?:er|re)s per hour\b", "kph", text))
    return " ".join(text.replace(".", " ").replace(",", " ").replace("\\", " ").split())


def singular(word: str) -> str:
    if word in KNOWN or len(word) < 3:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    for ending in ("s", "es"):
        if word.endswith(ending) and word[: -len(ending)] in KNOWN:
            return word[: -len(ending)]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def unit_of(text: str) -> Unit | None:
    """The unit that words name, or their nouns; None where the words change the number before them."""
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    nouns: list[str] = []
    sign, pending = 1, 0
    found = plain_words(text).replace("/", " / ").split()
    if found == ["kph"] or found == ["mph"]:
        found = ["km" if found[0] == "kph" else "mile", "/", "hour"]
    for index, part in enumerate(found):
        if part in ("/", "per"):
            sign = -1
            continue
        word, _, raised = part.partition("^")
        follows = found[index + 1] if index + 1 < len(found) else ""
        if word in ("squared", "cubed") and index and singular(found[index - 1]) in KNOWN:
            continue  # counted with the unit before it
        if word in _POWERS:
            pending = _POWERS[word]
            continue
        if any(c.isdigit() for c in word) or word in CHANGES or word in MAGNITUDES or word in ("dozen", "dozens"):
            return None
        known = KNOWN.get(singular(word)) or KNOWN.get(word)
        if known is None and word not in FILLER and _CHANGES_TOO.fullmatch(word):
            return None
        if known is None or (nouns and sign > 0):
            if not re.fullmatch(r"[a-z'-]+", word):
                return None
            nouns.append(singular(word))
            if pending and singular(word) not in _GENERIC:
                return None
            continue
        if word == "degree" and follows in ("celsius", "fahrenheit", "c", "f"):
            continue
        power = int(raised) if raised.lstrip("-").isdigit() else pending or {"squared": 2, "cubed": 3}.get(follows, 1)
        powers[known[0]] += sign * power
        factor *= known[1] ** (sign * power)
        pending = 0
    dimensions = frozenset((name, power) for name, power in powers.items() if power)
    return Unit(dimensions, factor, frozenset(nouns) - FILLER - _GENERIC)
