"""Answers written in LaTeX: finding them in untrusted text, and the verdict on one.

All of it takes time linear in the text and evaluates nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

from foray.answers.equal import equivalent as equivalent
from foray.answers.equal import obvious as obvious
from foray.answers.written import LONGEST, normal
from foray.answers.written import tidy as tidy
from foray.core.task import Extraction, Verdict

VERIFIER = "formulas 5"  # the version of the verdicts, raised when a completion gets another one
_TOKENS = re.compile(r"\\\\|\\[{}]|\\(?:boxed|fbox)[ \t]*\{|\{|\}")
_LOOSE_BOX = re.compile(r"\\boxed(?:[ \t]{1,20}([^\s${}\\]{1,40})|[ \t]{0,20}(\\[a-z]{1,20}+[^$\n]{0,60}+)(?=\$))")
# A sign, and no subtraction: no term stands before it, nor the dollar that ends one.
_MINUS_BOX = re.compile(
    r"(?:^|[\s$=({])(?<![0-9)}\]%] )(?<!\b[A-Za-z] )(?<![A-Za-z0-9)}\]%]\$ )(?<![A-Za-z0-9)}\]%]\$)"
    r"[-−–]\\(?:boxed|fbox)[ \t]{0,9}\{$"
)
_DASHES = str.maketrans("−‐‑–", "----")
_SAID = re.compile(
    r"(?i:\banswers?)\**(?:(?i: to [^.:\n]{1,60}?)? (?i:is|are|equals|will be|would be|must be|should be)\b|"
    r"[ ]?[:=]|[ ]?\**[ ]?\n)"
)
_LED = re.compile(r"(?:^|[\s*])(?:is|are|equals|be)\b:?[ ]*(?=\S)")
_ADVERB = re.compile(r"(?:therefore|thus|then|hence|so|simply|just|indeed|clearly|exactly)\b[ ,:]*")
_STARS = re.compile(r"(?<![A-Za-z0-9)])\*\*|\*\*(?![A-Za-z0-9(])")
_HOPE = re.compile(r"\.(?=\s|\*|$)|\bI hope\b|,?[ ](?:because|since)\b")
_DELIMITERS = re.compile(
    r"\\(?:begin|end)\{(?:align|equation|gather|multline)\*?\}|\\\\|\\\$|\\\(|\\\)|\\\[|\\\]|\$\$|\$"
)
_DISPLAYED = ("\\[", "$$", "\\begin")
_ALIGNED = re.compile(r"\\(?:begin|end)\{(?:aligned|align|gathered|split|equation|gather)\*?\}")
_NUMBER = (
    r"(?:-?\\[dt]?frac(?:\{[0-9]{1,20}\}\{[0-9]{1,20}\}|[ ]?[0-9]{2})|"
    r"-?(?:[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,30})(?:\.[0-9]{1,20}|/[0-9]{1,20})?)"
    r"(?![0-9A-Za-z_^])(?!,[0-9])(?![.][0-9])"
    r"(?:\\?%|[ -](?:hundred|thousand|million|billion|trillion|dozen|cents?|percent|[ap]\.?m\b|"
    r"or (?:less|more|fewer|greater|above|below))\b)?"
)
_SOMETHING = re.compile(rf"(?<![0-9]:)(?<![0-9.,A-Za-z_^{{}}\\])(?<![A-Za-z]-){_NUMBER}")
_STATED = re.compile(rf"\b(?:is|are|equals|be|get|have|gives|makes)[ ]{{1,4}}(?:\*\*)?({_NUMBER})")


Item = TypeVar("Item")


def boxes(text: str) -> list[tuple[int, int]]:
    """Start and end of the content of every closed ``\\boxed{}``, in the order in which the boxes close."""
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
    """The content of the last closed ``\\boxed{}`` (the outermost one there), else that of a last ``\\boxed 5``."""
    spans = boxes(text)
    if spans:
        return text[slice(*spans[-1])]
    loose = _LOOSE_BOX.findall(text)
    return "".join(loose[-1]) if loose else None


def boxed_answer(text: str) -> str | None:
    """The content of the last box, with a minus that stands right before the box."""
    box = last_box(text)
    if box is None or not (spans := boxes(text)):
        return box
    before = text[max(0, spans[-1][0] - 30) : spans[-1][0]]
    return f"-{box.strip()}" if _MINUS_BOX.search(before) else box


def found_answer(text: str, extraction: Extraction) -> tuple[str | None, bool]:
    """The answer of a completion and whether it was boxed. Lenient also takes the text behind ``answer is``, the last
    formula, or the last number.
    """
    box = boxed_answer(text)
    if box is not None or extraction != "lenient":
        return box, box is not None
    if "####" in text:
        return text.rsplit("####", 1)[1].strip().split("\n")[0], False
    said = _said(text)
    if said is not None:
        return said, False
    formula, end = _last_formula(text)
    stated = [found[1] for found in _STATED.finditer(text.translate(_DASHES), end)]
    if formula is not None:
        return (stated[-1] if stated else formula), False
    numbers = [found.group() for found in _SOMETHING.finditer(text.translate(_DASHES))]
    return (numbers[-1] if numbers else None), False


def stated_answer(text: str) -> str | None:
    """The answer inside a sentence that needs no mark: announced, in dollars, or the number behind ``is``.

    None where the text is the answer itself.
    """
    if last_box(text) is not None or "####" in text:
        return found_answer(text, "lenient")[0]
    said = _said(text)
    if said is not None:
        return said
    formula, end = _last_formula(text)
    # Not of 4\text{ or less}, 5 million: a part of an answer is another answer.
    outside = text[:end].replace(formula or "", "") if formula else ""
    stated = [found[1] for found in _STATED.finditer(text, end)]
    return stated[-1] if stated else formula if re.search(r"[A-Za-z]{2,} [^$]*[A-Za-z]{2,}", outside) else None


def _said(text: str) -> str | None:
    """The text behind the last ``answer is``, ``Answer:`` or heading ``Final Answer``."""
    last = _last(_SAID.finditer(text))
    if last is None:
        return None
    clause = text[last.end() : last.end() + LONGEST].lstrip(" \t:*\n").split("\n\n")[0]
    lines = clause.split("\n")
    clause = clause if lines[0].strip() in ("\\[", "$$") else lines[0]
    formulas = list(_formulas(clause))
    spans = [(start, end) for start, end in formulas]
    outside = [m for m in _HOPE.finditer(clause) if not any(a <= m.start() < b for a, b in spans)]
    clause = clause[: outside[0].start()] if outside else clause
    led = [m for m in _LED.finditer(clause) if not any(a <= m.start() < b for a, b in spans)]
    clause = clause[led[-1].end() :] if led else clause
    clause = _ADVERB.sub("", _STARS.sub("", clause).strip().strip("*").strip(), count=1)
    inner = list(_formulas(clause))
    if len(inner) == 1:
        before, after = clause[: inner[0][0]], clause[inner[0][1] :]
        # 5 dollars and $5$ dollars: the words belong to the answer.
        bare = before.strip(" $\\([") == "" and re.fullmatch(r"(?:\$\$?|\\\)|\\\])?[ ]?[A-Za-z ]{2,30}", after)
        return clause.replace("$", "") if bare and "$" in clause else clause[slice(*inner[0])]
    return clause[slice(*inner[0])] if inner and not clause.startswith(("$", "\\(")) else clause


def _formulas(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every text between dollars, ``\\(`` and ``\\)``, ``\\[`` and ``\\]``, in one pass."""
    pairs = {"\\end": "\\begin", "\\)": "\\(", "\\]": "\\[", "$": "$", "$$": "$$"}
    opened, start = "", 0
    for token in _DELIMITERS.finditer(text):
        sign = token.group().partition("{")[0]
        if sign in ("\\\\", "\\$"):
            continue
        inside = text[start : token.start()] if token.start() - start <= LONGEST else ""
        if opened and pairs.get(sign) == opened and inside.strip() and (opened in _DISPLAYED or "\n" not in inside):
            yield start, token.start()
            opened = ""
        else:
            opened, start = (sign if sign in ("\\(", "$", *_DISPLAYED) else ""), token.end()


def _last(items: Iterator[Item]) -> Item | None:
    found = deque(items, maxlen=1)
    return found[0] if found else None


def _last_formula(text: str) -> tuple[str | None, int]:
    """The last right side of the last formula, and where the formula ends; None and 0 without one."""
    last = _last(_formulas(text))
    if last is None:
        return None, 0
    formula = text[slice(*last)]
    if _ALIGNED.search(formula):
        formula = _ALIGNED.sub("", formula).replace("&", "")
    return formula.strip().removesuffix("\\\\").rsplit("=", 1)[-1].strip(), last[1]


def bare_answer(text: str) -> str:
    """An answer that needs no box: the content of its box where it has one, else the whole text."""
    box = boxed_answer(text)
    return (box if box is not None else text.rsplit("####", 1)[-1] if text.startswith("####") else text).strip()


def reference(text: str) -> str:
    """The reference answer in a bare answer or a full solution. Raises ValueError when there is none."""
    box = boxed_answer(text)
    answer = (box if box is not None else text.rsplit("####", 1)[-1]).strip()
    if not answer:
        raise ValueError("the reference answer is empty")
    if len(answer) > LONGEST:
        raise ValueError(f"a reference of {len(answer)} characters without a \\boxed{{}} answer in it")
    return answer


def verdict(gold: str, answer: str | None, formatted: bool, missing: str, question: str = "") -> Verdict:
    """The verdict on an answer taken out of a completion."""
    if answer is None or not answer.strip():
        return Verdict(0.0, formatted, missing)
    if len(answer) > LONGEST:
        return Verdict(0.0, formatted, f"an answer of {len(answer)} characters")
    right, reason = _judged(gold, answer, question)
    shown = " ".join(answer.split())[:60]
    wanted = " ".join(gold.split())[:60]
    if right:
        return Verdict(1.0, formatted, "right", normal(answer))
    why = f"{shown}, should be {wanted}" + ("" if reason == "different" else f"; {reason}")
    return Verdict(0.0, formatted, why, normal(answer))


@lru_cache(maxsize=8)  # the gradings of one completion follow each other, mostly with one answer
def _judged(gold: str, answer: str, question: str) -> tuple[bool, str]:
    return equivalent(gold, answer, question)


@lru_cache(maxsize=1)
def ready() -> None:
    """Raises ValueError where math-verify is not installed: at the first answer, not at the first that needs it."""
    from foray.answers.judge import require_math_verify

    require_math_verify()
