"""Whether two LaTeX answers are equal: by their text, their words and units, as numbers, and only then by algebra."""

from __future__ import annotations

import re
from fractions import Fraction

from foray.answers import units
from foray.answers.written import (
    LONGEST,
    NAMES,
    clean,
    compact,
    endless,
    is_word,
    one_product,
    plain_number,
    words,
)

# Powers of powers of powers, powers and factorials of huge numbers. No reference answer is one, and to compare one
# would only take time.
_ENORMOUS = re.compile(
    r"(?:\^[ ]?\{[^{}^]*){3}|[0-9]\^[0-9]+\^[0-9]+\^|\*\*[^*]*\*\*[^*]*\*\*|"
    r"(?:\^|\*\*)[ ]?\{?[ ]?[0-9]{6}|[0-9]{5}[ ]?!"
)
_IN_TEXT = r"\\(?:text|textbf|mathrm|mathbf|textrm|textit|mbox)[ ]?"
_CHOICE = rf"(?:{_IN_TEXT}\{{[ ]?\(?([A-J])[).]?[ ]?\}}|\(([A-J])\))"
_CHOSEN = re.compile(rf"{_CHOICE}|([A-J])")
_CHOICE_FIRST = re.compile(rf"{_CHOICE}[ :.]*(?=[^ :.])|([A-J])[).:] +(?=[^ ])")
_CHOICE_LAST = re.compile(rf"(?<=[^ ,(])[ ]?{_IN_TEXT}\{{[ ]?\(([A-J])\)[ ]?\}}$|(?<=[0-9}}]) \(([A-J])\)$")
_MORE_CHOICES = re.compile(
    rf"[-+*/^_=,;&(]|\\(?!text|frac|sqrt|pi|\$)|(?:{_IN_TEXT}\{{[ ]?)?(?:and|or)(?![a-z])|{_CHOICE}"
)
_WRAPPED = re.compile(rf"{_IN_TEXT}\{{([^{{}}]*)\}}")
# Of a numeral without \\text{}: 2516_8, 2516_{eight}, 2516_{base 8}, 2516 base 8, 2516 (in base 8), 2516 base_8.
_BASE = re.compile(
    r"\(?([0-9][0-9A-Fa-f.,]*)\)?[ ]?(?:_[ ]?(?:([0-9])|([a-z]{3,9})|\{[ ]?(?:base[ ]?)?([0-9]{1,2}|[a-z]{3,9})[ ]?\})|"
    r"\(?(?:in )?base[ ~-]?_?\{?([0-9]{1,2}|[a-z]{3,9})\}?[ ]?\)?)"
)
_LIST = re.compile(
    r"(\(|\[|\\\{|)[ ]?((?:[-0-9./ ]|\\frac|[{}])+(?:,(?:[-0-9./ ]|\\frac|[{}])+){1,40})[ ]?(\)|\]|\\\}|)"
)
_TERM = re.compile(
    r"([-+]?) ?([0-9]{0,20}(?:\.[0-9]{1,20})?|\\frac\{[0-9]{1,20}\}\{[0-9]{1,20}\}) ?\\(?:mathbf|hat|vec) ?"
    r"\{ ?(?:\\mathbf ?\{ ?)?([a-z]) ?\}? ?\} ?"
)
_RATIO, _CLOCK = re.compile(r"[0-9]{1,9} ?: ?[0-9]{1,9}"), re.compile(r"0?((?:1[0-9]|2[0-4]|[0-9]) ?: ?[0-5][0-9])")
_NO_RATIO = re.compile(r"^0|: ?0")  # 03:40 and 11:00
_ASKS_FOR_A_TIME = re.compile(r"\b(?:what|which) (?:(?:is|was|will be) the )?time\b|o'clock|[0-9 ][ap]\.?m\b", re.I)
_NUMERAL_NAMES = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_NUMERALS = {name: number for number, name in enumerate(_NUMERAL_NAMES.split(), 2)}


def equivalent(gold: str, answer: str, question: str = "") -> tuple[bool, str]:
    """Whether two answers are equal, and a reason: by their text, as numbers, and only then by symbolic algebra.

    The question may tell a time from a ratio. Takes a second at most, never raises on text.
    Raises ValueError where math-verify is wanted and not installed.
    """
    from foray.answers.judge import equal

    known = _compared(gold, answer, question)
    if isinstance(known, bool):
        return known, "equal" if known else "different"
    return equal(*known)


def obvious(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal where that shows without algebra; None where it does not."""
    known = _compared(gold, answer)
    return known if isinstance(known, bool) else None


def _compared(gold: str, answer: str, question: str = "") -> bool | tuple[str, str]:
    """Whether two answers are equal, or the two texts that algebra has to compare."""
    if len(answer) > 2 * LONGEST:
        return False
    a, b = clean(gold), clean(answer)
    if _same(a, b):
        return True
    if not b or len(b) > LONGEST or (_ENORMOUS.search(b) and not _ENORMOUS.search(a)):
        return False
    chosen = _chosen(a, b)
    if isinstance(chosen, bool):
        return chosen
    a, b = chosen
    for known in (_as_words(a, b), _in_bases(a, b)):
        if known is not None:
            return known
    left = units.values(*_without_names(a, b))
    if left is None:
        return False
    if _same(*left):
        return True
    listed = _as_vectors(*left)
    listed = _as_lists(*left) if listed is None else listed
    if listed is not None:
        return listed
    timed = _as_times(*left, question)
    return _as_numbers(*left) if timed is None else timed


def _same(a: str, b: str) -> bool:
    """Whether two texts differ in nothing but spaces and ``\\text{}``, which says how letters look."""
    return a == b or compact(a) == compact(b) or _unwrapped(a) == _unwrapped(b)


def _unwrapped(text: str) -> str:
    return compact(_WRAPPED.sub(r"\1", text))


def _chosen(a: str, b: str) -> bool | tuple[str, str]:
    """Answers without the letter of the choice before or after them; where the reference is a letter, whether that is
    the answer's.
    """
    letter = _CHOSEN.fullmatch(a)
    first, last = _CHOICE_FIRST.match(b), _CHOICE_LAST.search(b)
    if letter:
        found = _CHOSEN.fullmatch(b.upper() if len(b) <= 3 else b) or first or last
        if found:  # and one choice only: neither "(A), (B)" nor "A + B"
            several = first and (_MORE_CHOICES.match(b, first.end()) or (last and _group(first) != _group(last)))
            return _group(letter) == _group(found) and not several
        return a, b
    a, b = (_CHOICE_LAST.sub("", _CHOICE_FIRST.sub("", text, count=1)) for text in (a, b))
    return True if _same(a, b) else (a, b)


def _group(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group)


def _as_words(a: str, b: str) -> bool | None:
    """Whether the same words are said; None where the reference is none."""
    said = words(a)
    if said is None:
        return None
    if said == (words(b) or re.sub(r"[\s(){}.\"]", "", b).casefold()):
        return True
    if a.isalpha():  # without \text it could be variables
        return True if one_product(a, b) else False if is_word(a) or not a.islower() else None
    return False


def _in_bases(a: str, b: str) -> bool | None:
    """Whether numerals with a base are the same; None where neither has one.

    A reference's base may be left out. A base that the reference does not have is another number, but for ten.
    """
    x, y = _numeral(a), _numeral(b)
    if x is None and y is None:
        return None
    if x is None or y is None:
        digits, base = x or y or ("", 0)
        if base == 10:
            return None if not _same(digits, b if x else a) else True
        return x is not None and digits == _digits(b)
    return x == y


def _numeral(text: str) -> tuple[str, int] | None:
    found = _BASE.fullmatch(" ".join(_WRAPPED.sub(r"\1", text).split()))
    if found is None:
        return None
    said = next(group for group in found.groups()[1:] if group)
    base = int(said) if said.isdigit() else _NUMERALS.get(said, 0)
    return _digits(found[1]), base


def _digits(text: str) -> str:
    return re.sub(r"[,{}() ]", "", text).lstrip("0").casefold()


def _without_names(a: str, b: str) -> tuple[str, str]:
    """Both without ``x =`` where both have the same one, or one has it alone."""
    x, y = NAMES.match(a), NAMES.match(b)
    if (x and "=" in a[x.end() :]) or (y and "=" in b[y.end() :]):
        return a, b
    if x and y:
        return (a[x.end() :].strip(), b[y.end() :].strip()) if compact(x[1]) == compact(y[1]) else (a, b)
    if x and "=" not in b:
        return a[x.end() :].strip(), b
    if y and "=" not in a:
        return a, b[y.end() :].strip()
    return a, b


def _as_vectors(a: str, b: str) -> bool | None:
    """Whether two sums of vectors times plain numbers are equal; None where one is another kind of text."""
    sums: list[dict[str, Fraction]] = []
    for text in (a, b):
        parts: dict[str, Fraction] = {}
        at = 0
        while at < len(text):
            found = _TERM.match(text, at)
            number = plain_number(found[2] or "1") if found and (found[1] or at == 0) else None
            if found is None or number is None or found[3] in parts:
                return None
            parts[found[3]] = -number[0] if found[1] == "-" else number[0]
            at = found.end()
        sums.append({letter: size for letter, size in parts.items() if size})
    return sums[0] == sums[1] if all(sums) else None


def _as_lists(a: str, b: str) -> bool | None:
    """Whether two tuples, or two sets, of plain numbers are equal; None where they are none, or only rounding tells.

    ``1,200`` is one number and no list; ``1, 200`` is a list.
    """
    whole = [plain_number(text) is not None for text in (a, b)]
    found = [_LIST.fullmatch(text) for text in (a, b)]
    if any(whole):
        return None if all(whole) or not all(found) else False
    if found[0] is None or found[1] is None or found[0][1] != found[1][1] or found[0][3] != found[1][3]:
        return None
    rows = [[plain_number(part.strip()) for part in text[2].split(",")] for text in found if text]
    values = [[number[0] for number in row if number and not number[1]] for row in rows]
    if any(len(row) != len(kept) for row, kept in zip(rows, values, strict=True)):
        return None
    if values[0] != values[1] and any(map(endless, values[0] + values[1])):
        return None
    if found[0][1] in ("(", "["):
        return values[0] == values[1]
    return set(values[0]) == set(values[1]) if found[0][1] else sorted(values[0]) == sorted(values[1])


def _as_times(a: str, b: str, question: str) -> bool | None:
    """Whether two times of a clock are the same; None where they may be ratios.

    They are times where both have a clock's form, where one could be no ratio, and where the question asks for a time.
    """
    clocks = [_CLOCK.fullmatch(text) for text in (a, b)]
    if not any(clocks):
        return None
    ratio = "ratio" in question.lower()
    times = not ratio and (all(clocks) or _ASKS_FOR_A_TIME.search(question))
    if not times and not any(found and _NO_RATIO.search(found.group()) for found in clocks):
        return None
    x, y = (found and found[1].replace(" ", "") for found in clocks)
    return x == y


def _as_numbers(a: str, b: str) -> bool | tuple[str, str]:
    """Whether two plain numbers are equal; the texts where they are none, or only rounding tells."""
    x, y = (None if NAMES.match(text) else plain_number(text) for text in (a, b))
    if x is None or y is None:
        ratios = [_RATIO.fullmatch(text) for text in (a, b)]
        if any(ratios):
            return a.replace(":", "/"), b.replace(":", "/")
        return a, b
    if x[0] == y[0] and x[1] == y[1]:
        return True
    if x[1] != y[1] and (x[0] == y[0] or (x[0] == 100 * y[0] if x[1] else y[0] == 100 * x[0])):
        return True  # one is a percentage, and 50% is 50 or one half
    # 0.333333 for 1/3 is a matter of rounding. The rule for rounding stands where algebra is done.
    rounded = endless(x[0]) != endless(y[0]) and ("." in a or "." in b)
    return (a, b) if rounded else False
