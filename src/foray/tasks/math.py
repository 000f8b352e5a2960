"""MATH (Hendrycks et al. 2021, arXiv 2103.03874) and MATH-500, answers in ``\\boxed{}``, compared by math-verify."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from foray.answers import latex
from foray.answers.graders import BoxedAnswers
from foray.core.field_types import require_types
from foray.core.files import is_text
from foray.core.task import Problem, Split
from foray.data.row_source import RowSource, text_of
from foray.tasks.file_task import FileTask, once


@dataclass(frozen=True)
class MATH(BoxedAnswers, FileTask):
    """Competition problems with one solution each. A folder may hold one file a problem, as MATH was published."""

    root: str = field(default="", metadata={"hash": False})  # of the files; empty: the study's data.root
    train: str = "math/train.jsonl"  # the file or folder of the training split
    test: str = "math/test.jsonl"  # the file or folder of the test split
    name: str = "math"  # the name of the task

    hard: ClassVar[bool] = True  # a report's claims on harder problems ask this task

    def __post_init__(self) -> None:
        require_types(self)

    def libraries(self) -> tuple[str, ...]:
        return ("math_verify", *super().libraries())

    def parsed(self, split: Split, source: RowSource) -> Iterator[Problem]:
        rows = enumerate(source.rows(split), 1)
        return once(problem(where, row, f"math-{split}-{number}") for number, (where, row) in rows)


def problem(where: str, row: dict[str, object], identity: str) -> Problem:
    """A row of the published schema, or of MATH-500, which has the answer in a column of its own.

    Raises ValueError naming a row of another schema.
    """
    question = text_of(where, row, "problem", "question")
    solution = text_of(where, row, "solution")
    box = latex.boxed_answer(solution)
    given = row.get("answer")
    answer = given.strip() if is_text(given) and given.strip() else (box or "").strip()
    if not answer:
        raise ValueError(f"{where}: the solution has no \\boxed{{}} answer")
    level, subject = str(row.get("level", "")).removeprefix("Level "), row.get("type") or row.get("subject") or ""
    tags = tuple(f"{name}={value}" for name, value in (("level", level), ("subject", subject)) if value)
    return Problem(identity, question, answer, (solution,), tags)
