"""Answers that are numbers: where they stand in completions and references, and whether they are right."""

from __future__ import annotations

import re

from foray.answers.latex import boxes, last_box
from foray.answers.numerals import LONGEST, Number, first_number, in_context, last_number, leading, typed
from foray.core.task import Extraction, Verdict

MARK = "####"
# Raised when the verdict on any text changes. A part of the key of everything graded, but not of readers of problems.
VERIFIER = "numbers 5"
_MORE = re.compile(r"(?<![A-Za-z^_{])[0-9]")  # another number; the 2 of "m2" and "cm^2" is none
_LINE = re.compile(rf"{MARK}\s*+([^\n]+)")  # the rest of the line, or the next line that is not blank
_NEXT = "Question:"  # where a completion that went on past its answer begins another problem
# A solution, in which the last number counts, begins with a capital or a label, has lines or words enough, or has an
# equation. What else cannot be read is an answer: of "5 or 6", "ln 2" and "12 apples and 3 pears" no number is the one.
_SOLUTION = re.compile(r"[^\W\d_a-z][^\W\d_A-Z]|[A-Za-z]+:|.*\n|(?:[^A-Za-z\\]*+[A-Za-z]++){5}|[^0-9]*+[0-9][^=]*+=")


def marked(text: str) -> Number | None:
    """The number after the first ``####`` that a number follows."""
    return _marked(text)[0]


def before_mark(text: str) -> str:
    """The text before the ``####`` of the number that ``marked`` reads."""
    return text[: _marked(text)[1]]


def bare(text: str) -> Number | None:
    """A text that is one number: perhaps marked, boxed, named (``x = 5``), with a currency, a unit or a full stop."""
    text = text.strip().removeprefix(MARK).strip()
    if len(text) > LONGEST:
        return boxed(text) if text.startswith("\\boxed") and boxes(text)[-1:] == [(7, len(text) - 1)] else None
    text = typed(_unboxed(text))
    found, end = leading(text)
    return None if _MORE.search(text, end) else found


def boxed(text: str) -> Number | None:
    """The number in the last ``\\boxed{}``, with a sign before it and what scales it behind."""
    spans = boxes(text)
    if not spans:
        box = last_box(text)
        return bare(box) if box is not None else None
    start, end = spans[-1]
    found = bare(text[start:end])
    begin = text.rindex("\\", 0, start)
    return in_context(found, text[:begin], text[end + 1 :]) if found is not None else None


def flexible(text: str) -> Number | None:
    """The number that the paper's test grades: behind the first ``####``, else in the last box, else the text's last.

    A mark with text behind it counts, and a box that is not empty: where it holds no number, there is none. The place
    is that of the authors' code (verl/utils/reward_score/gsm8k.py). The number there is read as everywhere in Foray.
    """
    line, spans = _LINE.search(text), boxes(text)
    if line is not None:
        found, read = _headed(line[1][: 2 * LONGEST])
        return found if read else first_number(line[1])
    box = text[slice(*spans[-1])] if spans else ""
    return (boxed(text) or first_number(box)) if box.strip() else last_number(text)


def reference(text: str) -> str:
    """The reference answer in a bare number or a full solution, as text.

    Raises ValueError when there is none, or when something else stands in its place.
    """
    if MARK in text:
        found = marked(text)
    elif last_box(text) is not None:
        found = boxed(text)
    else:
        found = bare(text) or (last_number(text) if _SOLUTION.match(text.strip()) else None)
    if found is None or found.shouted:
        raise ValueError(f"no number in the reference answer: give it bare, after {MARK} or in \\boxed{{}}")
    return found.text


def graded_completion(
    gold: str, completion: str, extraction: Extraction, box: bool = False, question: str = ""
) -> Verdict:
    """Compares the number after the first ``####`` that one follows (or in the last box); lenient: wherever it stands,
    else the last; flexible: the one that ``flexible`` finds.
    """
    found = boxed(completion) if box else marked(completion)
    formatted = found is not None
    if extraction == "flexible":
        found = flexible(completion)
        return Verdict(0.0, formatted, "no number") if found is None else _verdict(gold, found, formatted, question)
    if found is None and extraction == "lenient":
        found = (marked(completion) or boxed(completion)) or last_number(completion)
    if found is None:
        sign = "\\boxed{}" if box else MARK
        there = last_box(completion) is not None if box else MARK in completion
        return Verdict(0.0, False, f"no number {'in' if box else 'after'} {sign}" if there else f"no {sign}")
    return _verdict(gold, found, formatted, question)


def graded_answer(gold: str, answer: str, extraction: Extraction, question: str = "") -> Verdict:
    """Compares a bare answer; where it is more than a number, lenient: its last one; flexible: as in a completion."""
    found = bare(answer)
    formatted = found is not None
    if found is None and extraction == "flexible":
        found = flexible(answer)
    if found is None and extraction == "lenient":
        found = boxed(answer) or last_number(answer)
    return Verdict(0.0, False, "not a number") if found is None else _verdict(gold, found, formatted, question)


def _verdict(gold: str, found: Number, formatted: bool, question: str) -> Verdict:
    wanted = bare(gold)
    if wanted is None:
        raise ValueError(f"the reference answer {gold[:40]!r} is not a number")
    right = found.reading(wanted, question)
    if right is not None:
        return Verdict(1.0, formatted, "right", right.normal)
    return Verdict(0.0, formatted, f"{found.text}, should be {wanted.text}", found.normal)


def _marked(text: str) -> tuple[Number | None, int]:
    """The number and the place of its mark. A text that begins as a number and is none counts as the answer: None."""
    at, stop = text.find(MARK), len(text)
    first = at
    while 0 <= at < stop:
        following = text.find(MARK, at + len(MARK))
        end = min(at + len(MARK) + 2 * LONGEST, following if following >= 0 else len(text))
        found, read = _headed(text[at + len(MARK) : end])
        if read:
            return found, at
        if at == first:  # a later mark counts only in this problem
            stop = text.find(_NEXT, at) if following >= 0 else stop
            stop = stop if stop >= 0 else len(text)
        at = following
    return None, len(text)


def _headed(text: str) -> tuple[Number | None, int]:
    """The number that a text begins with, on its first line, and whether one was begun."""
    head = text.lstrip("# \t").split("\n", 1)[0]
    found, end = leading(typed(_unboxed(head)))
    # What is read must end well before the text was cut, or it could be half of something.
    return (found, end) if end < LONGEST else (None, end)


def _unboxed(text: str) -> str:
    """A short text with the content of its last ``\\boxed{}`` in place of the box."""
    spans = boxes(text) if "\\boxed" in text or "\\fbox" in text else []
    if not spans:
        loose = last_box(text) if text.startswith("\\boxed") else None
        return text if loose is None else loose
    start, end = spans[-1]
    begin = text.rindex("\\", 0, start)
    before, inner, after = text[:begin], text[start:end].strip(), text[end + 1 :]
    apart = " " if before[-1:].isalnum() else ""
    return f"{before}{apart}{inner}{' ' if after[:1].isalnum() else ''}{after}"
