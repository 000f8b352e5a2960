"""Answers written in LaTeX: finding them in untrusted text, and what can be said of two without symbolic algebra.

All of it takes time linear in the text and evaluates nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from foray.core.task import Extraction, Verdict

LONGEST = 1000  # characters of an answer; the longest reference answers are matrices of a few hundred
_TOKENS = re.compile(r"\\\\|\\[{}]|\\(?:boxed|fbox)[ \t]*\{|\{|\}")
_LOOSE_BOX = re.compile(r"\\boxed(?:[ \t]+([^\s${}\\]{1,40})|[ \t]*(\\[a-z]+[^$\n]{0,60})(?=\$))")
_SAID = re.compile(r"(?i:\banswer(?: is| ?[:=]))[ \t:]*([^\n]{1,1000})")
_INLINE = re.compile(r"\\\(([^\n]{1,1000}?)\\\)|(?<![\\$])\$([^$\n]{1,1000})\$")
_SOMETHING = re.compile(r"(?<![0-9.,])-?(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,30})(?:\.[0-9]{1,20}|/[0-9]{1,20})?")


def boxes(text: str) -> list[tuple[int, int]]:
    """Start and end of what stands in every closed ``\\boxed{}``, in the order in which they close."""
    found: list[tuple[int, int]] = []
    opened: list[int | None] = []
    for token in _TOKENS.finditer(text):
        word = token.group()
        if word == "}":
            start = opened.pop() if opened else None
            if start is not None:
                found.append((start, token.start()))
        elif word == "{" or (word.endswith("{") and word != "\\{"):
            opened.append(token.end() if len(word) > 1 else None)
    return found


def last_box(text: str) -> str | None:
    """What stands in the last ``\\boxed{}`` that is closed (the outermost one there), or after a last ``\\boxed 5``."""
    spans = boxes(text)
    if spans:
        return text[slice(*spans[-1])]
    loose = _LOOSE_BOX.findall(text)
    return "".join(loose[-1]) if loose else None


def found_answer(text: str, extraction: Extraction) -> tuple[str | None, bool]:
    """The answer of a completion and whether it was boxed. Lenient also takes what ``answer is`` introduces, the last
    formula, or the last number.
    """
    box = last_box(text)
    if box is not None or extraction == "strict":
        return box, box is not None
    if "####" in text:
        return text.rsplit("####", 1)[1].strip().split("\n")[0], False
    said = _SAID.findall(text)
    if said:
        inline = _INLINE.search(said[-1])
        # Without dollars, up to the end of the sentence.
        return (inline.group(1) or inline.group(2)) if inline else re.split(r"\.(?:\s|$)", said[-1])[0], False
    formulas = [a or b for a, b in _INLINE.findall(text)]
    if formulas:
        return formulas[-1].rsplit("=", 1)[-1], False
    numbers = _SOMETHING.findall(text)
    return (numbers[-1] if numbers else None), False


def bare_answer(text: str) -> str:
    """An answer of which no box is asked: what its box holds where it has one, else the whole text."""
    box = last_box(text)
    return (box if box is not None else text.rsplit("####", 1)[-1] if text.startswith("####") else text).strip()


def reference(text: str) -> str:
    """The reference answer in a bare answer or a full solution. Raises ValueError when there is none."""
    box = last_box(text)
    answer = (box if box is not None else text.rsplit("####", 1)[-1]).strip()
    if not answer:
        raise ValueError("the reference answer is empty")
    if len(answer) > LONGEST:
        raise ValueError(f"a reference of {len(answer)} characters without a \\boxed{{}} answer in it")
    return answer


def verdict(gold: str, answer: str | None, formatted: bool, missing: str) -> Verdict:
    """The verdict on an answer taken out of a completion."""
    if answer is None or not answer.strip():
        return Verdict(0.0, formatted, missing)
    if len(answer) > LONGEST:
        return Verdict(0.0, formatted, f"an answer of {len(answer)} characters")
    right, reason = equivalent(gold, answer)
    shown = " ".join(answer.split())[:60]
    wanted = " ".join(gold.split())[:60]
    if right:
        return Verdict(1.0, formatted, "right")
    return Verdict(0.0, formatted, f"{shown}, should be {wanted}" + ("" if reason == "different" else f"; {reason}"))


def equivalent(gold: str, answer: str) -> tuple[bool, str]:
    """Whether two answers are equal, and a reason: by their text, as numbers, and only then by symbolic algebra.

    Takes a second at most, never raises on text. Raises ValueError where math-verify is wanted and not installed.
    """
    from foray.tasks.judge import equal

    known = obvious(gold, answer)
    if known is not None:
        return known, "equal" if known else "different"
    return equal(tidy(gold), tidy(answer))


def obvious(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal where that shows without algebra; None where it does not."""
    a, b = tidy(gold), tidy(answer)
    if a == b or _compact(a) == _compact(b):
        return True
    if not b or len(b) > LONGEST:
        return False
    if _ENORMOUS.search(b) and not _ENORMOUS.search(a):
        return False
    words = _words(gold)
    if words is not None:
        other = _words(answer) or re.sub(r"[\s(){}.]", "", b).casefold()
        return words == other
    names = [found.group(1) for found in (_NAMES.match(a), _NAMES.match(b)) if found]
    units = [found.group().strip() for found in (_UNIT.search(a), _UNIT.search(b)) if found]
    if len(units) == 1:  # 12 dollars is 12; two units that differ are not for here to judge
        a, b = (_UNIT.sub("", text) for text in (a, b))
    x, y = plain_number(a), plain_number(b)
    if x is None or y is None or len(set(names)) > 1:  # x = 5 is not y = 5
        return None
    if x[0] == y[0] or (x[1] != y[1] and (x[0] == 100 * y[0] if x[1] else y[0] == 100 * x[0])):
        return True  # the second: one is a percentage, and 50% is 50 or one half
    # 0.333333 for 1/3 is a matter of rounding, which is left to the library that has rules for it.
    rounded = _endless(x[0]) != _endless(y[0]) and ("." in a or "." in b)
    return None if rounded else False


# Powers of powers of powers, powers and factorials of huge numbers: no reference answer is one, and the process that
# compares would only spend its time on them.
_ENORMOUS = re.compile(
    r"(?:\^[ ]?\{[^{}^]*){3}|[0-9]\^[0-9]+\^[0-9]+\^|\*\*[^*]*\*\*[^*]*\*\*|"
    r"(?:\^|\*\*)[ ]?\{?[ ]?[0-9]{6}|[0-9]{5}[ ]?!"
)
_COSMETIC = re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|q?quad)(?![A-Za-z])|(?<!\\)\\[!,;: ]|~")
_THOUSANDS = re.compile(r",\\![ ]?")
_SPACED = re.compile(r"(?<=[0-9]) (?=[0-9]{3}(?![0-9]| ?/))")  # 1 000, but not 3 125/1000
_UNIT = re.compile(r"[ ]?(?:\\(?:text|mathrm|mbox)\{[ ]?[A-Za-z][A-Za-z .]*\}|(?<=[ ])[A-Za-z]{2,}(?: [A-Za-z]+)*)$")
_DOLLARS = re.compile(r"^(?:\$\$?|\\\(|\\\[)(.*?)(?:\$\$?|\\\)|\\\])$", re.DOTALL)
_WORDS = re.compile(
    r"\\(?:text|textbf|mathrm|textit|mbox|textrm)\{\(?([A-Za-z][A-Za-z ,.'-]*)\)?\}|"
    r"\(([A-H])\)|([A-Za-z]{4,}(?: [A-Za-z]+)*)"
)
_NAMES = re.compile(r"^([A-Za-z]|[a-z]\([a-z]\)) ?=(?!=)")


def tidy(latex: str) -> str:
    """An answer without what only changes its looks: dollars, ``\\left``, thin spaces, a full stop, ``\\dfrac``."""
    text = latex.strip()
    for _ in range(2):
        text = text.rstrip(".;,: \n") if not text.endswith("\\.") else text
        inside = _DOLLARS.match(text)
        text = inside.group(1).strip() if inside else text
    text = (
        _COSMETIC.sub(" ", _THOUSANDS.sub(",", text))
        .replace("\\dfrac", "\\frac")
        .replace("\\tfrac", "\\frac")
        .replace("{,}", ",")
    )
    text = text.replace("−", "-").replace("\\$", "").replace("$", "")
    return " ".join(text.split())


def _compact(text: str) -> str:
    # Between two letters, and between two digits unless they are thousands, a space makes a difference.
    text = re.sub(r" (?!(?<=[A-Za-z] )[A-Za-z]|(?<=[0-9] )[0-9])", "", _SPACED.sub("", text))
    return re.sub(r"\{([A-Za-z0-9])\}", r"\1", text)


def _words(text: str) -> str | None:
    """The letters of an answer that is words (or the letter of a choice), and None for any other."""
    found = _WORDS.fullmatch(text.strip().strip("$").rstrip("."))
    if found is None:
        return None
    word = next(group for group in found.groups() if group)
    return re.sub(r"[\s.]", "", word).casefold()


_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,8}|[0-9]{1,40})"
_PLAIN = re.compile(
    rf"(?P<sign>[-+]?)[ ]?(?:(?P<whole>{_WHOLE}|(?=\.))(?P<tail>\.[0-9]{{0,40}})?)(?P<power>[eE][-+]?[0-9]{{1,2}})?"
    r"[ ]?(?P<percent>\\?%)?"
)
_FRACTION = re.compile(
    rf"(?P<sign>[-+]?)[ ]?(?P<whole>[0-9]{{1,9}})?[ ]?\\frac[ ]?"
    rf"(?:\{{[ ]?(?P<minus>-?)(?P<a>{_WHOLE})[ ]?\}}|(?P<a1>[0-9]))"
    rf"[ ]?(?:\{{[ ]?(?P<b>{_WHOLE})[ ]?\}}|(?P<b1>[0-9]))|"
    rf"(?P<sign2>[-+]?)(?:(?P<whole2>[0-9]{{1,9}})[ ](?!0))?(?P<a2>{_WHOLE})[ ]?/[ ]?(?P<b2>{_WHOLE})"
)


def plain_number(text: str) -> tuple[Fraction, bool] | None:
    """The value of a tidy text that is one number (whole, decimal, fraction, mixed) and whether it is a percentage."""
    named = _NAMES.match(text)
    text = _SPACED.sub("", text[named.end() :].strip() if named else text)
    found = _PLAIN.fullmatch(text)
    if found is not None:
        digits = (found["whole"] or "0").replace(",", "") + (found["tail"] or "").rstrip(".")
        if not (found["whole"] or found["tail"].strip(".")):
            return None
        value = Fraction(digits + (found["power"] or ""))
        return (-value if found["sign"] == "-" else value), found["percent"] is not None
    found = _FRACTION.fullmatch(text)
    if found is None:
        return None
    above, below = ((found[n] or found[n + "1"] or found[n + "2"]).replace(",", "") for n in "ab")
    if int(below) == 0:
        return None
    value = Fraction(int(above), int(below))
    whole = found["whole"] or found["whole2"]
    if whole:
        if found["minus"]:
            return None
        value += int(whole)
    negative = [found["sign"], found["minus"], found["sign2"]].count("-")
    return (-value if negative % 2 else value), False


def _endless(value: Fraction) -> bool:
    """Whether its decimals have no end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest > 1


@lru_cache(maxsize=1)
def ready() -> None:
    """Raises ValueError where math-verify is not installed: at the first answer, not at the first that needs it."""
    from foray.tasks.judge import require_math_verify

    require_math_verify()
