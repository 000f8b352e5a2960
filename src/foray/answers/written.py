"""How an answer is written: the looks of LaTeX, which change nothing, and the value of a text that is one number.

All of it takes time linear in the text and evaluates nothing.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from foray.answers.signs import AS_LATEX, FRACTIONS, OTHER_FRACTIONS, RAISED, SUNK, fraction_of

LONGEST = 1000  # characters of an answer; the longest reference answers are matrices of a few hundred

# --- Unicode as LaTeX -----------------------------------------------------------------------------------------------

_RUNS = re.compile(f"([{''.join(RAISED)}]+)|([{''.join(SUNK)}]+)|([{''.join(FRACTIONS)}{OTHER_FRACTIONS}])")
_ROOT = re.compile(r"([√∛∜])[ ]?(?:\(([^()]{1,200})\)|\{([^{}]{1,200})\}|([0-9]+(?:\.[0-9]+)?|[A-Za-z]|\\pi))")
_AS_LATEX, _RAISED, _SUNK = (str.maketrans(table) for table in (AS_LATEX, RAISED, SUNK))
_ROOTS = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}


def folded(text: str) -> str:
    """The text with LaTeX commands in place of signs: ``√2``, ``x²``, ``½``, ``∞``, full-width digits."""
    if text.isascii():
        return text
    text = _RUNS.sub(_run, text).translate(_AS_LATEX)
    text = _ROOT.sub(lambda m: f"{_ROOTS[m[1]]}{{{m[2] or m[3] or m[4]}}}", text)
    return "".join(c if c.isascii() else _letter(c) for c in text)


def _run(found: re.Match[str]) -> str:
    raised, sunk, fraction = found.groups()
    if raised:
        return f"^{{{raised.translate(_RAISED)}}}"
    if sunk:
        return f"_{{{sunk.translate(_SUNK)}}}"
    above, _, below = fraction_of(fraction).partition("/")
    return f"\\frac{{{above}}}{{{below}}}"


def _letter(sign: str) -> str:
    """The plain letter or digit that a full-width or mathematical one stands for."""
    plain = unicodedata.normalize("NFKC", sign)
    return plain if len(plain) == 1 and (plain.isascii() or plain in AS_LATEX) else sign


# --- cosmetics ------------------------------------------------------------------------------------------------------

_COSMETIC = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|scriptstyle|limits|q?quad|hspace\{[^{}]{0,20}\}"
    r")(?![A-Za-z])|"
    r"(?<!\\)\\[!,;:> ]|~"
)
_THOUSANDS = re.compile(r",\\![ ]?")
_SPACED = re.compile(r"(?<=[0-9]) (?=[0-9]{3}(?![0-9]| ?/))")  # 1 000, but not 3 125/1000
_DOLLARS = re.compile(r"^(?:\$\$?|\\\(|\\\[|\*\*|`)(.*?)(?:\$\$?|\\\)|\\\]|\*\*|`)$", re.DOTALL)
_SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "varnothing": "emptyset", "leq": "le", "leqslant": "le",
    "leqq": "le", "geq": "ge", "geqslant": "ge", "geqq": "ge", "neq": "ne", "lbrace": "{", "rbrace": "}",
    "degree": "circ",
    "dots": "ldots", "cdots": "ldots", "dotsc": "ldots", "imath": "mathrm{i}", "mathbin": "", "wedge": "land",
    "vee": "lor",
    "lt": "<", "gt": ">", "lvert": "|", "rvert": "|", "vert": "|", "lbrack": "[", "rbrack": "]", "colon": ":",
    "textdollar": "$", "infinity": "infty",
}  # fmt: skip
_SIGNS = {"<", ">", "|", "[", "]", ":", ""}
_SYNONYM = re.compile(rf"\\({'|'.join(sorted(_SYNONYMS, key=len, reverse=True))})(?![A-Za-z])[ ]?")
_UPRIGHT = re.compile(
    r"\\(?:mathrm|operatorname|rm|textrm|text|mathit)[ ]?\{[ ]?([eid])[ ]?\}|\{\\rm ([eid])\}|"
    r"\\mathrm ([eid])(?![A-Za-z])"
)
_FUNCTION = re.compile(
    r"\\(?:mathrm|operatorname|text|mathop)[ ]?\{[ ]?(sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arc"
    r"tan)[ ]?\}"
)
_DEGREES = re.compile(r"\^[ ]?\{[ ]?\\circ[ ]?\}|(?<!\^)\\circ(?![A-Za-z])(?=[ ]?$)")
_PRIMES = re.compile(r"\^[ ]?(?:\{[ ]?((?:\\prime[ ]?){1,4})\}|\\prime(?![A-Za-z])[ ]?)")
_MINUS_WORD = re.compile(r"^(?:minus|negative) (?=[0-9.\\])")
_NUMBERS_AND = re.compile(r"(?<=[0-9}]),? and (?=[-0-9\\])")
# Numbers inside of text, apart from its words: \\text{10 ways}, \\mathrm{5 cm}, \\text{June 20}, but not \\text{5x}.
_TEXT = re.compile(r"\\(text(?:rm|bf|it|sf|up|normal)?|math(?:rm|sf)|mbox)[ ]?\{([^{}]*)\}")
_APART = re.compile(
    r"(?<![^ ])(-?(?:\\\$[ ]?)?[0-9][0-9,]*(?:\.[0-9]+)?(?:[/:][0-9]+|[ ][0-9]+/[0-9]+)?(?:[ ]?\\?%)?)(?![^ ])"
)
_TEXTS = re.compile(r"\\text[ ]?\{[^{}()]*\}(?:[ ]?\\text[ ]?\{[^{}()]*\})+")
_BETWEEN_TEXTS = re.compile(r"\}([ ]?)\\text[ ]?\{")
_EMPTY = re.compile(r"\\\{[ ]*\\\}")
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\(?:overline|bar|dot)[ ]?(?:\{[ ]?([0-9]+)[ ]?\}|([0-9]))")


def clean(latex: str) -> str:
    """An answer without what only changes its looks: dollars, ``\\left``, thin spaces, a full stop, ``\\dfrac``.

    ``\\$`` stays: it is a unit.
    """
    text = folded(latex).strip()
    for _ in range(3):
        text = text.rstrip(".;,: \n") if not text.endswith("\\.") else text
        inside = _DOLLARS.match(text)
        text = inside.group(1).strip() if inside else text
    text = _COSMETIC.sub(" ", _THOUSANDS.sub(",", text)).replace("{,}", ",")
    text = re.sub(r"(?<!\\)\$", "", text)
    text = _FUNCTION.sub(r"\\\1 ", text)
    text = _UPRIGHT.sub(lambda m: m[1] or m[2] or m[3], _SYNONYM.sub(_synonym, text))
    text = _NUMBERS_AND.sub(", ", _MINUS_WORD.sub("-", text))
    text = _PRIMES.sub(lambda m: "'" * (m[1].count("prime") if m[1] else 1), text)
    text = _EMPTY.sub(r"\\emptyset", _DEGREES.sub(r"^\\circ", text))
    text = _TEXTS.sub(lambda m: _BETWEEN_TEXTS.sub(r"\1", m.group()), _TEXT.sub(_numbers_apart, text))
    return " ".join(_REPEATING.sub(_fraction_of_repeating, text).split())


def tidy(latex: str) -> str:
    """An answer as ``clean`` makes it, without the dollar sign."""
    return clean(latex).replace("\\$", "").strip()


def _synonym(found: re.Match[str]) -> str:
    name = _SYNONYMS[found[1]]
    return name if name in _SIGNS else f"\\{name} " if name[-1].isalpha() else f"\\{name}"


def _numbers_apart(found: re.Match[str]) -> str:
    """``\\text{10 ways}`` as ``10\\text{ ways}``."""
    parts = _APART.split(found[2])
    if len(parts) == 1:
        return found.group()
    said = [part if n % 2 else f"\\{found[1]}{{{part}}}" if part.strip() else "" for n, part in enumerate(parts)]
    return " ".join(said)


def _fraction_of_repeating(found: re.Match[str]) -> str:
    """0.1\\overline{6} is 16 less 1, over 90."""
    whole, fixed, again = found[1], found[2], found[3] or found[4]
    if len(whole) + len(fixed) + len(again) > 40:
        return found.group()
    above = int(whole + fixed + again) - int((whole + fixed) or "0")
    return f"\\frac{{{above}}}{{{(10 ** len(again) - 1) * 10 ** len(fixed)}}}"


def compact(text: str) -> str:
    """A clean text without the spaces and braces that make no difference."""
    # Between two letters, and between two digits unless they are thousands, a space makes a difference.
    text = re.sub(r" (?!(?<=[A-Za-z] )[A-Za-z]|(?<=[0-9] )[0-9])", "", _SPACED.sub("", text))
    return re.sub(r"\{([A-Za-z0-9])\}", r"\1", text)


# --- words ----------------------------------------------------------------------------------------------------------

_WORDS = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|textit|mbox|textrm|textsf|textnormal)[ ]?\{[ ]?\(?([A-Za-z][A-Za-z ,.'-]*)\)?\}|"
    r"\(([A-H])\)|([A-Za-z]{4,}(?: [A-Za-z]+)*|[A-Za-z]{2,}(?: [A-Za-z]{3,})+)|([A-Za-z]{2,3})"
)
_SHORT_WORD = re.compile(
    r"no|yes|odd|red|two|one|six|ten|sun|mon|tue|wed|thu|fri|sat|all|any|not|new|old|day|box|cat|dog"
)


def words(text: str) -> str | None:
    """The letters of an answer that is words (or the letter of a choice), and None for any other."""
    found = _WORDS.fullmatch(text.strip())
    if found is None or (found[4] and not _SHORT_WORD.fullmatch(found[4].casefold())):
        return None
    word = next(group for group in found.groups() if group)
    return re.sub(r"[\s.]", "", word).casefold()


def is_word(letters: str) -> bool:
    """Whether letters that stand without ``\\text`` are a word and not variables side by side, as far as one can say.

    Variables are written in the order of the alphabet, or have no vowel among them.
    """
    low = letters.casefold()
    return len(low) > 2 and list(low) != sorted(low) and not set("aeiouy").isdisjoint(low)


def one_product(a: str, b: str) -> bool:
    """Whether two rows of letters are the same variables multiplied: ``abcd`` is ``dcba``, but a name is no other's."""
    if not (a.isalpha() and b.isalpha() and a.islower() and b.islower() and sorted(a) == sorted(b)):
        return False
    return sorted(a) in (list(a), list(b)) or set("eiouy").isdisjoint(a)


# --- numbers --------------------------------------------------------------------------------------------------------

NAMES = re.compile(
    r"^(\\(?:text|mathrm)\{[^{}]{1,40}\}|[A-Za-z]'{0,3}(?:_\{?[A-Za-z0-9]{1,3}\}?)?(?:\^\{-1\})?(?:\([a-z]"
    r"(?:,[a-z])?\))?|"
    r"\\(?:alpha|beta|theta|lambda|mu|phi|omega|angle [A-Z]{1,3})) ?=(?!=)"
)
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,8}|[0-9]{1,40})"
_POWER_OF_TEN = (
    r"[ ]?(?:\\times|\\cdot|\*)[ ]?10[ ]?(?:\^[ ]?\{[ ]?(?P<ten>[-+]?[0-9]{1,2})[ ]?\}|\^[ ]?(?P<ten1>[0-9"
    r"]))"
)
_PERCENT = r"[ ]?(?P<percent{}>\\?%)?"
_PLAIN = re.compile(
    rf"(?P<sign>[-+]?)[ ]?(?:(?P<whole>{_WHOLE}|(?=\.))(?P<tail>\.[0-9]{{0,40}})?)"
    rf"(?:(?P<power>[eE][-+]?[0-9]{{1,2}})|{_POWER_OF_TEN})?" + _PERCENT.format("")
)
_FRACTION = re.compile(
    rf"(?:(?P<sign>[-+]?)[ ]?(?P<whole>[0-9]{{1,9}})?[ ]?\\frac[ ]?"
    rf"(?:\{{[ ]?(?P<minus>-?)(?P<a>{_WHOLE})[ ]?\}}|(?P<a1>[0-9]))"
    rf"[ ]?(?:\{{[ ]?(?P<minus2>-?)(?P<b>{_WHOLE})[ ]?\}}|(?P<b1>[0-9]))|"
    rf"(?P<sign2>[-+]?)(?:(?P<whole2>[0-9]{{1,9}})[ ](?!0))?(?P<a2>{_WHOLE})[ ]?/[ ]?(?P<b2>{_WHOLE}))"
    + _PERCENT.format("")
)


def plain_number(text: str) -> tuple[Fraction, bool] | None:
    """The value of a clean text that is one number (whole, decimal, fraction, mixed) and whether it is a percentage."""
    named = NAMES.match(text)
    text = _SPACED.sub("", text[named.end() :].strip() if named else text)
    found = _PLAIN.fullmatch(text)
    if found is not None:
        digits = (found["whole"] or "0").replace(",", "") + (found["tail"] or "").rstrip(".")
        if not (found["whole"] or found["tail"].strip(".")):
            return None
        value = Fraction(digits + (found["power"] or "")) * Fraction(10) ** int(found["ten"] or found["ten1"] or 0)
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
        if found["minus"] or found["minus2"]:
            return None
        value += int(whole)
    negative = [found["sign"], found["minus"], found["minus2"], found["sign2"]].count("-")
    return (-value if negative % 2 else value), found["percent"] is not None


def normal(latex: str) -> str:
    """One text for answers that differ in their looks alone, and for numbers of one value: ``1/2`` for 0.5.

    It splits what only algebra finds equal: ``x+1`` and ``1+x``.
    """
    text = clean(latex)
    number = plain_number(text)
    return compact(text) if number is None else f"{number[0]}{'%' * number[1]}"


def endless(value: Fraction) -> bool:
    """Whether its decimals have no end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest > 1
