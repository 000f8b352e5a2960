"""Numbers as people write them: read from untrusted text in linear time, exactly, never evaluated.

A text directly behind a number may change its value (``million``, ``k``, ``²``, ``\\times 10^6``). The value is then
computed, or the whole is no number. Units and other words change nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from math import factorial

from foray.answers.signs import AS_TYPED, FRACTIONS, RAISED_DIGITS, SPACES

LONGEST = 400  # characters of a bare answer
_TENS = {"hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12,
         "quadrillion": 15, "quintillion": 18, "grand": 3}  # fmt: skip
_LETTERS = {"k": 3, "K": 3, "M": 6, "mn": 6, "mln": 6, "B": 9, "bn": 9, "T": 12}
_PARTS = {
    "a half": Fraction(1, 2), "one half": Fraction(1, 2), "a third": Fraction(1, 3), "one third": Fraction(1, 3),
    "two thirds": Fraction(2, 3), "a quarter": Fraction(1, 4), "one quarter": Fraction(1, 4),
    "three quarters": Fraction(3, 4),
}  # fmt: skip
_MOST = 100  # digits: of what is read, and of what is computed; floats print seventeen
_MACHINE = 15  # digits that a floating-point number is good for

_DIGITS = (
    rf"(?:[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,9}}(?![0-9])|[0-9]{{1,{_MOST}}})(?:\.[0-9]{{1,{_MOST}}})?|\.[0-9]{{1,{_MOST}}}"
)
_CURRENCY = r"(?:(?:\\?\$|US\\?\$|[€£¥₹])[ ]?|USD |Rs\.? ?)?"
_CLOSED = r"(?:\*{1,3}|_{1,3}|`{1,3}|\$|\\\)|\\\])?"  # the end of what was set in bold, in italics or as a formula
_LARGE = rf"(?:{'|'.join(_TENS)}|dozen)s?"
_POWER = r"[ ]?\^[ ]?(?:\{[ ]?(?P<raised>[-+]?[0-9]{1,3})[ ]?\}|(?P<raised1>[-+]?[0-9]{1,3})(?![0-9]))"
_SCALE = (
    rf"(?:{_CLOSED}[ ]?(?:[*×xX·⋅]|\\times|\\cdot)[ ]?\{{?10\}}?(?:\^|\*\*)[ ]?"
    r"(?:\{[ ]?(?P<ten>[-+]?[0-9]{1,3})[ ]?\}|(?P<ten1>[-+]?[0-9]{1,3})(?![0-9]))|"
    rf"{_CLOSED}[ ]?-?(?P<large>(?i:{_LARGE}(?:[ ]{_LARGE}){{0,2}}))(?!-?[A-Za-z])|"
    rf"{_CLOSED}(?P<letter>{'|'.join(_LETTERS)})(?![A-Za-z0-9&'’-])|(?P<spaced>[ ][kKMB])(?!\.?[A-Za-z0-9&'’-]))"
)


def _number(gap: str, minus: str) -> str:
    """A pattern of a number. ``gap`` may stand between a sign and its number; ``minus`` is a word for a sign.

    Atomic, so that a look behind the number starts behind all of it: not behind the 50 of 50%, or the 3 of 3 1/2.
    """
    return (
        rf"(?>(?P<sign>{minus}|[-+])?{gap}(?P<currency>{_CURRENCY})(?P<inner>-?){gap}(?P<digits>{_DIGITS})"
        r"(?:[eE](?P<power>[-+]?[0-9]{1,3})(?![0-9])"
        rf"|{_POWER})?"
        r"(?:[ \t]?/[ \t]?(?P<under>[0-9]{1,9})|(?:[ \t]+and)?[ \t]+(?P<over>[0-9]{1,9})/(?P<low>[0-9]{1,9})"
        rf"|[ ]and[ ](?P<part>{'|'.join(_PARTS)})(?![A-Za-z]))?"
        rf"{_SCALE}?(?P<percent>[ \t]?\\?%|[ \t]per[ ]?cent\b)?)"
    )


# More digits, a fraction or a term of a calculation follow: then what was read is not the number that was written.
_TERM = (
    r"[0-9,]*[0-9]|\.[0-9]|[eE][-+]?[0-9]|_\{?[0-9]|\([0-9]|['’′\"][ ]?[0-9]|:[0-9]|"
    r"[ \t]{0,4}[-+*×x·⋅÷±^/=]{1,4}[ \t]{0,4}[\\$€£¥₹({]{0,3}[ \t]?\.?[0-9]|"
    r"[ \t]{0,4}[+×·⋅÷±]|\^(?!\{?(?:th|st|nd|rd))|[ ]?[-/][ ]?[xyzn](?![A-Za-z])|"
    rf"[ ]?[{''.join(FRACTIONS)}π√∛∞‰ⁿˣ]"
)
# So do commands other than those for looks, a variable, and words that compute.
_COMMAND = (
    r"\.\\(?:overline|bar|dot)|"
    r"[ ]{0,2}\\(?!(?:text|math[a-z]{2}|mbox|degree|q?quad|right|end|blacksquare|square|n)(?![a-z]))[A-Za-z]"
)
_LETTER = r"[abnqxyzi](?![A-Za-z'’])|[ ][xyz](?![A-Za-z'’-])"
_WORD = (
    r"[ ](?:squared|cubed|factorial|to the power|mil|mio|mln|mn|bn|tn|score|gross|tens)\b|"
    r"[ ][a-z]{1,12}illions?\b|[ ](?:and[ ]a[ ]half|half(?![ -][a-z]))\b|"
    r"[ ](?:plus|minus|times|over|divided by|multiplied by|to|or|and|of|out of)[ ]\$?[0-9]|"
    r"[ ]or[ ](?:more|less|fewer|so|above|below|higher|lower|greater|over|under)\b|"
    r"[ -](?:halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|(?:ten|hundred|thousand|million)ths)\b|"
    r"[ ]?(?!(?:in|per|for|at|by|from|after|within|every|on|with|than)[ ])"
    r"[A-Za-z]{1,12}[.,]?[ ]?(?:and[ ])?\$?[0-9]{1,9}[ ]?"
    r"(?:hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|cents?|inch(?:es)?|in|ounces?|oz|months?|days?|pence|cm)\b"
)
_ALTERED = (
    rf"(?:\)[ ]?(?:{_LARGE}|[kKM])(?![A-Za-z-])|\*[A-Za-z(\\]|"
    rf"{_CLOSED}+(?:{_TERM}|{_COMMAND}|{_LETTER}|{_WORD})|{_TERM})"
)
_ALTER = re.compile(_ALTERED)
_ELLIPSIS = re.compile(r"\.{2,}|…|\\[lc]?dots")
_MINUS = r"(?i:minus|negative)[ ]"
_OPEN = r"(?P<open>(?:[ \t*_`$\"“”'‘]|\\[(\[])*+)"
_LEADING = re.compile(
    rf"{_OPEN}(?:(?:[A-Za-z][ \t]?)?=(?!=)[ \t]*+(?:\*\*|\\\(|\\\[)?[ \t]*+)?(?:(?P<paren>[(\[{{])[*_`$(]{{0,3}}+)?"
    rf"{_number('[ ]?', rf'-[*_`]{{1,3}}+|{_MINUS}[*_`]{{0,3}}+')}(?P<shout>!{{1,40}}+(?!=))?(?!!)(?!{_ALTERED})"
    rf"(?(paren)[^0-9()\[\]{{}}\n]{{0,60}}[)\]}}](?!{_ALTERED}|[ ]?(?:{_LARGE}|[kKM])\b))"
)
_BEGUN = re.compile(rf"{_OPEN}(?:(?:[A-Za-z][ \t]?)?=[ \t]*)?[(\[{{]?(?:[-+]|{_MINUS})?[ ]?{_CURRENCY}-?[ ]?\.?[0-9]")
# In a sentence a sign with a space behind it is an operator unless "is" or "=" leads to it, and so are "minus" and a
# sign before a frame behind a number.
_FRAMED = r"(?<![0-9)%$}])(?<![0-9)%$}][ ])-[*_`(]{1,3}+|(?:(?<=[=:>][ ])|(?<=\bis[ ])|(?<=\bequals[ ]))-[ ]"
_ANY = re.compile(rf"(?<![0-9.,]){_number('', rf'{_FRAMED}|(?<![0-9)%$}}][ ]){_MINUS}[*_`]{{0,3}}+')}")
_SCALED = re.compile(rf"[$*_` ]{{0,4}}(?:\\\)|\\\])?(?:{_POWER}|{_SCALE})")
# Before a box: a sign that touches it, unless a term stands before the sign; with a space between, only behind "=".
_SIGNED = re.compile(
    r"(?:(?<![A-Za-z0-9)}\]%])(?<![0-9)}\]%$][ ])-|(?:[=:(,>][ ]?-|\b(?:is|equals)[ ]-|"
    r"(?<![0-9)}\]%$][ ])(?i:minus|negative))[ ])"
    r"[$*_`]{0,3}(?:\\\(|\\\[|\\\$)?$"
)
_DIGIT = re.compile("[0-9]")
_COMMA = re.compile(r"\{,\}|,\\![ ]?|(?<=[0-9])['’_](?=[0-9]{3}(?![0-9]))")
_SPACE = re.compile(rf"(?:\\[,;:! ]|\\displaystyle(?![a-z])|(?<=[0-9}}])~|[ {SPACES}])+")
# As GSM8K has it in "a budget of $400 000"; but 5 10 and 5 100 7 are several numbers, 5 100/200 is a mixed one, and
# "12 200-gram bars" are 12.
_SPACED = re.compile(r"(?<![\w^/])(?<![0-9][., ])[1-9][0-9]{0,2}(?:[ ][0-9]{3}){1,6}(?![ ]?[0-9/]|-[A-Za-z])")
_PART = r"(?:\{([0-9]{1,9})\}|([0-9]))"
_FRACTION = re.compile(rf"([0-9.]?)(?:\\[dt]?frac[ ]?{_PART}[ ]?{_PART}|([{''.join(FRACTIONS)}]))(?![0-9])")
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|mbox|underline)[ ]?\{([^{}]*)\}")
_DEGREE = re.compile(r"\^[ ]?\{?[ ]?\\circ[ ]?\}?")
_UNIT_POWER = re.compile(r"(?<=[A-Za-z])\^(?:\{-?[0-9]{1,2}\}|-?[0-9]{1,2}(?![0-9]))")  # the square of cm^2
_SUPERSCRIPT = re.compile(f"[{''.join(RAISED_DIGITS)}]+")
_LOWERED = str.maketrans(RAISED_DIGITS)


@dataclass(frozen=True)
class Number:
    """A number and the text it was read from. Of 50% both readings, 50 and one half, are right.

    ``other``: the number without its scale word, which ``scale`` is, or without its ``!``. "How many dozen?" is
    answered by 7 and by 7 dozen, and 20! is mostly a shout.
    """

    value: Fraction
    percent: bool
    text: str
    other: Number | None = None
    scale: str = ""

    def reading(self, gold: Number, question: str = "") -> Number | None:
        """The reading that is the reference's value; None where none is.

        A scale word counts, unless the question asks for a number of these.
        """
        if self._is(gold):
            return self
        if self.other is None or gold.other is not None or not self.other._is(gold):
            return None
        return self.other if not self.scale or _asks_for(self.scale, question) else None

    def answers(self, gold: Number) -> bool:
        """Whether a reading is the reference's value."""
        return self.reading(gold) is not None

    def _is(self, gold: Number) -> bool:
        """Whether it is the value: exactly, or to 15 digits where the reference is a machine's float."""
        if self.value == gold.value or _to_machine_precision(self.value, gold):
            return True
        if self.percent and not gold.percent:
            return self.value == 100 * gold.value
        return gold.percent and not self.percent and 100 * self.value == gold.value

    @property
    def normal(self) -> str:
        """One text for equal values: ``1200`` for 1,200.0, ``1/2`` for 0.5. A percentage keeps its sign."""
        return (_shown(self.value) or self.text.removesuffix("%")) + "%" * self.percent

    def negated(self) -> Number:
        text = self.text.removeprefix("-") if self.text.startswith("-") else f"-{self.text}"
        return Number(-self.value, self.percent, text, self.other and self.other.negated(), self.scale)

    @property
    def shouted(self) -> bool:
        """Whether a ``!`` stands behind it that could be a factorial and was not computed."""
        return self.text.endswith("!")


def leading(text: str) -> tuple[Number | None, int]:
    """The number that a typed text begins with, and its end. Without a number None, and 1 where one was begun."""
    found = _LEADING.match(text)
    if found is None:
        return None, int(_BEGUN.match(text) is not None)
    return _read(found), found.end()


def last_number(text: str) -> Number | None:
    """The last number of a text, which need not be typed: lines are looked at from the end, for no number has two."""
    return _one(reversed(text.split("\n")), lambda found: deque(found, maxlen=1))


def first_number(text: str) -> Number | None:
    """The first number of a text, which need not be typed."""
    return _one(text.split("\n"), lambda found: list(islice(found, 1)))


def _one(lines: Iterable[str], chosen: Callable[[Iterator[re.Match[str]]], Sequence[re.Match[str]]]) -> Number | None:
    """The chosen number of the first line that has a number; None where what follows changes it."""
    for line in lines:
        if line.isascii() and not _DIGIT.search(line):
            continue
        typed_line = typed(line)
        found = chosen(_ANY.finditer(typed_line))
        if found:
            return None if _ALTER.match(typed_line, found[0].end()) else _read(found[0])
    return None


def in_context(number: Number, before: str, after: str) -> Number | None:
    """The number with a sign before its frame and a scale behind it; None where that is no number."""
    scaled = _SCALED.match(typed(after[:LONGEST]))
    if scaled:
        value = _scaled(number.value, scaled)
        text = "" if value is None else _shown(value)
        word = _one_word(scaled)
        number = Number(value or Fraction(0), number.percent, text, number if word else None, word)
    if not number.text:
        return None
    return number.negated() if _SIGNED.search(typed(before[-40:])) else number


def typed(text: str) -> str:
    """The text as on a typewriter: thousands as in ``1,000``, fractions as in ``3 1/2``, powers as in ``5^2``."""
    if not text.isascii():
        text = text.translate(AS_TYPED)
        text = _SUPERSCRIPT.sub(lambda found: f"^{{{found.group().translate(_LOWERED)}}}", text)
    if "\\" in text:
        text = _DEGREE.sub("°", _TEXT.sub(r"\1", _TEXT.sub(r"\1", text)))
    text = _UNIT_POWER.sub("", _SPACE.sub(" ", _COMMA.sub(",", text)))
    return _FRACTION.sub(_slashed, _SPACED.sub(lambda found: found.group().replace(" ", ","), text))


def _slashed(found: re.Match[str]) -> str:
    before, a, a1, b, b1, sign = found.groups()
    fraction = FRACTIONS[sign] if sign else f"{a or a1}/{b or b1}"
    return f"{before} {fraction}" if before else fraction  # apart from a whole number, but not from a minus


def _read(found: re.Match[str]) -> Number | None:
    part = found.groupdict()
    digits = part["digits"].replace(",", "")
    value = Fraction(digits)
    whole, dot, tail = digits.partition(".")
    if tail and _ELLIPSIS.match(found.string, found.end()):
        return None
    written = (whole.lstrip("0") or "0") + dot + tail
    if part["power"]:
        value *= Fraction(10) ** int(part["power"])
        written += f"e{part['power']}"
    raised = part["raised"] or part["raised1"]
    if raised:
        power = _raised(value, int(raised))
        if power is None:
            return None
        value, written = power, _shown(power)
    under = part["under"] or part["low"]
    if under is not None:
        if int(under) == 0:
            return None
        value = value / int(under) if part["under"] else value + Fraction(int(part["over"]), int(under))
        written += f"/{under}" if part["under"] else f" {part['over']}/{under}"
    if part["part"]:
        value += _PARTS[part["part"]]
        written = _shown(value)
    scaled = _scaled(value, found)
    if scaled is None:
        return None
    word = _one_word(found)
    plain = (value, written) if word else None
    if scaled != value or raised:
        value, written = scaled, _shown(scaled)
    if part.get("shout") and written:
        if part["shout"] == "!" and written.isdecimal() and len(written) <= 2 and int(written) <= 20:
            plain, word = (value, written), ""
            value = Fraction(factorial(int(written)))
            written = _shown(value)
        else:
            written += "!"
    if not written:
        return None
    # A minus on either side of the currency: -$5 and $-5.
    negative = (part["sign"] or "+")[0] in "-mMnN" or part["inner"] == "-"
    percent = part["percent"] is not None
    made = [
        Number(-value if negative else value, percent, "-" * negative + text + "%" * percent)
        for value, text in ((value, written), *([plain] if plain else ()))
    ]
    return replace(made[0], other=made[-1], scale=word) if plain else made[0]


def _one_word(found: re.Match[str]) -> str:
    """The one word that scales a number, as in ``7 dozen``; empty in ``5 hundred thousand``, ``5k`` and ``5``."""
    word = str(found["large"] or "")
    return "" if " " in word else word.lower()


def _asks_for(scale: str, question: str) -> bool:
    """Whether a question asks for a number of dozens: "How many dozens of eggs", and not "How many dozen-packs"."""
    word = scale.rstrip("s")
    asked = rf"\b(?:how many|number of) (?:[a-z]+ )?{word}s?(?![\w-])|\bin {word}(?:s\b| of\b|\?)"
    return bool(re.search(asked, question.lower()))


def _scaled(value: Fraction, found: re.Match[str]) -> Fraction | None:
    """The value times the scale behind the number. None where the scale is not clear, or too large."""
    part = found.groupdict()
    if part["raised"] or part["raised1"]:
        return value if "digits" in part else _raised(value, int(part["raised"] or part["raised1"]))
    ten = part["ten"] or part["ten1"]
    if ten:
        return value * Fraction(10) ** int(ten)
    for word in (part["large"] or "").lower().split():
        name = word.removesuffix("s")
        value *= 12 if name == "dozen" else 10 ** _TENS[name]
    if part["letter"]:
        value *= 10 ** _LETTERS[part["letter"]]
    if part["spaced"]:
        money = part.get("currency") or "$" in (part.get("open") or "")
        return value * 10 ** _LETTERS[part["spaced"].strip()] if money else None
    return value


def _raised(value: Fraction, power: int) -> Fraction | None:
    digits = max(len(str(value.numerator)), len(str(value.denominator)))
    if abs(power) * digits > 10 * _MOST or (value == 0 and power < 0):
        return None
    return Fraction(value**power)


def _shown(value: Fraction) -> str:
    """A text that is read as this value; empty where the value is too long for one."""
    above, below = str(value.numerator), str(value.denominator)
    if len(above) > _MOST:
        zeros = len(above) - len(above.rstrip("0"))
        return f"{above[:-zeros]}e{zeros}" if below == "1" and 0 < zeros < 1000 and len(above) - zeros <= _MOST else ""
    if below == "1":
        return above
    if len(below) <= 9:
        return f"{above}/{below}"
    places = 4 * len(below)  # enough for every denominator of so many digits that has an end to its decimals
    shifted = value * 10**places
    if shifted.denominator != 1 or places > 900:
        return ""
    digits = str(shifted.numerator).rstrip("0")
    return f"{digits}e{len(str(shifted.numerator)) - len(digits) - places}" if len(digits) <= _MOST else ""


def _to_machine_precision(value: Fraction, gold: Number) -> bool:
    mantissa, dot, tail = gold.text.split("e")[0].lstrip("-").partition(".")
    significant = (mantissa + tail).strip("0")
    if not dot or not tail.strip("0") or not tail.isdecimal() or len(significant) < _MACHINE:
        return False
    return abs(value - gold.value) <= 2 * abs(gold.value) / 10**_MACHINE
