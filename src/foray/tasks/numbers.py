"""Numbers as people write them: read from untrusted text in linear time, compared exactly, never evaluated."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from foray.core.task import Extraction, Verdict
from foray.tasks.latex import last_box

MARK = "####"
_VULGAR = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}(?![0-9])|[0-9]{1,18})(?:\.[0-9]{1,12})?|\.[0-9]{1,12}"
_CURRENCY = r"(?:(?:\\?\$|US\\?\$|[€£¥₹])[ ]?|USD |Rs\.? ?)?"


def _number(gap: str) -> str:
    """A number; ``gap`` is what may stand between a sign and what it belongs to.

    Atomic, so that what follows is looked at behind all of it: not behind the 50 of 50%, or the 3 of 3 1/2.
    """
    return (
        rf"(?>(?P<sign>[-−–+]?){gap}{_CURRENCY}(?P<inner>[-−–]?){gap}(?P<digits>{_DIGITS})"
        r"(?:[eE](?P<power>[-+]?[0-9]{1,2})(?![0-9]))?"
        r"(?:[ \t]?/[ \t]?(?P<under>[0-9]{1,9})|(?:[ \t]+and)?[ \t]+(?P<over>[0-9]{1,9})/(?P<low>[0-9]{1,9}))?"
        r"(?P<percent>[ \t]?\\?%|[ \t]percent\b)?)"
    )


# More digits, a fraction or a term of a calculation follow: then what was read is not the number that was written.
_GOES_ON = (
    r"(?![0-9,]*[0-9]|\.[0-9]|[eE][-+]?[0-9]|[ \t]{0,4}[-−–+*×x·÷^/=]{1,4}[ \t]{0,4}[\\$€£¥₹({]{0,3}[ \t]?\.?[0-9]|"
    rf"[ ]?(?:\\[dt]?frac|[{''.join(_VULGAR)}]))"
)
_LEADING = re.compile(rf"[ \t]*(?:\*\*|\\\(|\\\[)?[ \t]*{_number('[ ]?')}{_GOES_ON}")
_ANY = re.compile(rf"(?<![0-9.,]){_number('')}")  # in a sentence a sign with a space behind it is an operator
_NAMED = re.compile(r"[ \t]*(?:[A-Za-z][ \t]?)?=(?!=)")  # x = 5
_MORE = re.compile(r"(?<![A-Za-z^_{])[0-9]")  # another number; the 2 of "m2" and "cm^2" is none
# A solution, in which the last number counts, begins with a capital or a label, has lines or words enough, or has an
# equation. What else cannot be read is an answer: of "5 or 6", "ln 2" and "12 apples and 3 pears" no number is the one.
_SOLUTION = re.compile(r"[^\W\d_a-z][^\W\d_A-Z]|[A-Za-z]+:|.*\n|(?:[^A-Za-z\\]*+[A-Za-z]++){5}|[^0-9]*+[0-9][^=]*+=")
_COMMA = re.compile(r"\{,\}|,\\![ ]?")
_SPACE = re.compile(r"\\[,;:! ]|[\u00a0\u2000-\u200a\u202f]")
# As GSM8K has it in "a budget of $400 000"; but 5 10 and 5 100 7 are several numbers, 5 100/200 is a mixed one, and
# "12 200-gram bars" are 12.
_SPACED = re.compile(r"(?<![\w^/])(?<![0-9][., ])[1-9][0-9]{0,2}(?:[ ][0-9]{3}){1,6}(?![ ]?[0-9/]|-[A-Za-z])")
_PART = r"(?:\{([0-9]{1,9})\}|([0-9]))"
_FRACTION = re.compile(rf"([0-9.]?)(?:\\[dt]?frac[ ]?{_PART}[ ]?{_PART}|([{''.join(_VULGAR)}]))(?![0-9])")
_LONGEST = 400  # characters of a bare answer


@dataclass(frozen=True)
class Number:
    """A number and the text it was read from. Of 50% both readings, 50 and one half, are right."""

    value: Fraction
    percent: bool
    text: str

    def equals(self, other: Number) -> bool:
        if self.value == other.value:
            return True
        if self.percent and not other.percent:
            return self.value == 100 * other.value
        return other.percent and not self.percent and 100 * self.value == other.value


def marked(text: str) -> Number | None:
    """The number after the first ``####``."""
    at = text.find(MARK)
    return _leading(text[at + len(MARK) : at + len(MARK) + 2 * _LONGEST]) if at >= 0 else None


def bare(text: str) -> Number | None:
    """A text that is one number: perhaps marked, boxed, named (``x = 5``), with a currency, a unit or a full stop."""
    text = _without_frame(text)
    if len(text) > _LONGEST:
        return None
    text = _plain(text)
    named = _NAMED.match(text)
    text = text[named.end() :] if named else text
    found = _LEADING.match(text)
    return None if found is None or _MORE.search(text, found.end()) else _read(found)


def last(text: str) -> Number | None:
    """The last number of a text."""
    found = deque((m for m in _ANY.finditer(_plain(text))), maxlen=1)
    return _read(found[0]) if found else None


def boxed(text: str) -> Number | None:
    """The number in the last ``\\boxed{}``."""
    box = last_box(text)
    return bare(box) if box is not None else None


def reference(text: str) -> str:
    """The reference answer in a bare number or a full solution, as text.

    Raises ValueError when there is none, or when where it should stand is something that is no number.
    """
    if MARK in text:
        found = marked(text)
    elif last_box(text) is not None:
        found = boxed(text)
    else:
        found = bare(text) or (last(text) if _SOLUTION.match(text.strip()) else None)
    if found is None:
        raise ValueError(f"no number in the reference answer: give it bare, after {MARK} or in \\boxed{{}}")
    return found.text


def graded_completion(gold: str, completion: str, extraction: Extraction, box: bool = False) -> Verdict:
    """Compares the number after the first ``####`` (or in the last box); lenient: wherever it stands, else the last."""
    found = boxed(completion) if box else marked(completion)
    formatted = found is not None
    if found is None and extraction == "lenient":
        found = (marked(completion) or boxed(completion)) or last(completion)
    if found is None:
        sign = "\\boxed{}" if box else MARK
        there = last_box(completion) is not None if box else MARK in completion
        return Verdict(0.0, False, f"no number {'in' if box else 'after'} {sign}" if there else f"no {sign}")
    return _verdict(gold, found, formatted)


def graded_answer(gold: str, answer: str, extraction: Extraction) -> Verdict:
    """Compares a bare answer; lenient: where it is more than a number, its last one."""
    found = bare(answer)
    formatted = found is not None
    if found is None and extraction == "lenient":
        found = last(answer)
    return Verdict(0.0, False, "not a number") if found is None else _verdict(gold, found, formatted)


def _verdict(gold: str, found: Number, formatted: bool) -> Verdict:
    wanted = bare(gold)
    if wanted is None:
        raise ValueError(f"the reference answer {gold[:40]!r} is not a number")
    right = found.equals(wanted)
    return Verdict(float(right), formatted, "right" if right else f"{found.text}, should be {wanted.text}")


def _leading(text: str) -> Number | None:
    head = text.lstrip(" \t")
    if head.lstrip("$*").startswith("\\boxed"):
        return boxed(head.split("\n", 1)[0])
    text = _plain(head)
    named = _NAMED.match(text)
    found = _LEADING.match(text, named.end() if named else 0)
    # What is read must end well before the text was cut, or it could be half of something.
    return _read(found) if found and found.end() < _LONGEST else None


def _without_frame(text: str) -> str:
    text = text.strip()
    if text.startswith(MARK):
        text = text[len(MARK) :].strip()
    box = last_box(text) if text.startswith("\\boxed") else None
    return box.strip() if box is not None else text


def _plain(text: str) -> str:
    """The text with thousands, spaces and fractions as on a typewriter: ``1,000`` and ``3 1/2``."""
    text = _SPACE.sub(" ", _COMMA.sub(",", text))
    return _FRACTION.sub(_slashed, _SPACED.sub(lambda found: found.group().replace(" ", ","), text))


def _slashed(found: re.Match[str]) -> str:
    before, a, a1, b, b1, sign = found.groups()
    fraction = _VULGAR[sign] if sign else f"{a or a1}/{b or b1}"
    return f"{before} {fraction}" if before else fraction  # apart from a whole number, but not from a minus


def _read(found: re.Match[str]) -> Number | None:
    part = found.groupdict()
    value = Fraction(part["digits"].replace(",", ""))
    whole, dot, tail = part["digits"].replace(",", "").partition(".")
    written = (whole.lstrip("0") or "0") + dot + tail
    if part["power"]:
        value *= Fraction(10) ** int(part["power"])
        written += f"e{part['power']}"
    under = part["under"] or part["low"]
    if under is not None:
        if int(under) == 0:
            return None
        value = value / int(under) if part["under"] else value + Fraction(int(part["over"]), int(under))
        written += f"/{under}" if part["under"] else f" {part['over']}/{under}"
    # A minus on either side of the currency: -$5 and $-5.
    negative = not {"-", "−", "–"}.isdisjoint(part["sign"] + part["inner"])
    percent = part["percent"] is not None
    return Number(-value if negative else value, percent, "-" * negative + written + "%" * percent)
