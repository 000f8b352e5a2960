"""SVAMP (Patel et al. 2021, arXiv 2103.07191) and JSON files of its kind: a story, a question, an equation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from foray.answers import numbers
from foray.answers.graders import NumberAnswers
from foray.answers.numbers import MARK
from foray.core.field_types import require_types
from foray.core.task import Problem, Split
from foray.data.row_source import RowSource, text_of
from foray.tasks.file_task import FileTask, once


@dataclass(frozen=True)
class SVAMP(NumberAnswers, FileTask):
    """One-step word problems. A solution is the row's equation and its value, in GSM8K's format."""

    root: str = field(default="", metadata={"hash": False})  # of the files; empty: the study's data.root
    train: str = "svamp/train.json"  # the file of the training split
    test: str = "svamp/test.json"  # the file of the test split

    def __post_init__(self) -> None:
        require_types(self)

    @property
    def name(self) -> str:
        return "svamp"

    def parsed(self, split: Split, source: RowSource) -> Iterator[Problem]:
        rows = enumerate(source.rows(split), 1)
        return once(_problem(where, row, f"svamp-{split}-{number}") for number, (where, row) in rows)


def _problem(where: str, row: dict[str, object], identity: str) -> Problem:
    body = str(row.get("Body") or row.get("body") or "").strip()
    question = text_of(where, row, "Question", "question")
    if body:
        question = f"{body if body[-1] in '.?!,' else body + '.'} {question}"
    answer = numbers.bare(text_of(where, row, "Answer", "answer"))
    if answer is None:
        raise ValueError(f"{where}: the answer is not a number")
    value = _short(answer.text)
    equation = row.get("Equation") or row.get("equation")
    shown = f"{_tidy(equation)} = {value}\n" if isinstance(equation, str) and equation.strip() else ""
    kind = row.get("Type") or row.get("type")
    tags = (f"kind={kind}",) if isinstance(kind, str) and kind else ()
    return Problem(identity, question, value, (f"{shown}{MARK} {value}",), tags)


def _tidy(equation: str) -> str:
    """``( 8.0 - 3.0 )`` as people write it: ``8 - 3``."""
    text = _short(" ".join(equation.split()))
    text = text[1:-1].strip() if re.fullmatch(r"\([^()]*\)", text) else text
    return text.replace("( ", "(").replace(" )", ")")


def _short(text: str) -> str:
    return re.sub(r"(?<=[0-9])\.0+(?![0-9])", "", text)
