"""Bring your own problems: rows of ``question``, ``answer`` and, where SFT is wanted, ``solutions``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from foray.answers import latex, numbers
from foray.answers.graders import NEXT_QUESTION, BoxedAnswers, NumberAnswers
from foray.answers.numbers import MARK
from foray.core.canonical import added, require
from foray.core.field_types import require_types
from foray.core.files import is_text
from foray.core.task import Extraction, Problem, Split, Verdict
from foray.data.row_source import RowSource, text_of
from foray.data.rows import flaw
from foray.tasks.file_task import FileTask, carved, plain


@dataclass(frozen=True)
class OwnProblems(FileTask):
    """Problems of a file of one's own (JSON Lines, a JSON array, CSV, TSV, Parquet), below ``root`` or on the hub.

    ``answers`` is the kind of the answers: ``math`` (LaTeX in ``\\boxed{}``, compared symbolically) or ``number``
    (behind ``####``). Solutions without that mark get it. ``validation`` is carved from ``train`` unless it is a file
    of its own. Neither has a question of the test file. Without a ``test`` file there is no test split; without a
    ``train`` file there is nothing to train on or to guess from.
    """

    train: str = "train.jsonl"
    test: str = "test.jsonl"
    validation: str = ""
    answers: Literal["math", "number"] = "math"
    name: str = "jsonl"  # the name of the task
    root: str = field(default="", metadata={"hash": False})
    hard: bool = added(False)  # whether a report's claims on harder problems ask this task

    def __post_init__(self) -> None:
        require_types(self)

    @property
    def stop(self) -> tuple[str, ...]:
        return NEXT_QUESTION

    @property
    def grader(self) -> BoxedAnswers | NumberAnswers:
        return BoxedAnswers() if self.answers == "math" else NumberAnswers()

    @property
    def verifier(self) -> str:
        return self.grader.verifier

    def files(self) -> tuple[str, ...]:
        return (self.train, self.validation, self.test)

    def libraries(self) -> tuple[str, ...]:
        return (*(("math_verify",) if self.answers == "math" else ()), *super().libraries())

    def of_split(self, split: Split) -> Iterable[Problem]:
        require(split != "test" or bool(self.test), f"{self.name} has no test file")
        tested = self.read("test", self.test) if self.test else ()
        if split == "test":
            return tested
        if not self.train and (split == "train" or not self.validation):
            return ()
        if not self.validation:
            return carved(self.read("train", self.train), tested, split)
        held = self.read("validation", self.validation)
        others = {plain(p.question) for p in (*tested, *(held if split == "train" else ()))}
        wanted = self.read("train", self.train) if split == "train" else held
        return [p for p in wanted if plain(p.question) not in others]

    def parsed(self, split: Split, source: RowSource) -> Iterable[Problem]:
        """One problem a question, with the solutions of all its rows."""
        found: dict[str, tuple[str, Problem]] = {}
        for number, (where, row) in enumerate(source.rows(split), 1):
            p = _problem(where, row, f"{split}-{number}", self.answers)
            there, first = found.setdefault(plain(p.question), (where, p))
            if first is not p:
                if not _same(first.answer, p.answer, self.answers):
                    raise ValueError(
                        f"{where}: the answer is {p.answer[:40]!r}, but {there} has {first.answer[:40]!r} for this "
                        "question"
                    )
                both = tuple(dict.fromkeys((*first.solutions, *p.solutions)))
                found[plain(p.question)] = there, replace(first, solutions=both)
        return [p for _, p in found.values()]

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        return self.grader.verify(problem, completion, extraction)

    def reference(self, text: str) -> str:
        return self.grader.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        return self.grader.verify_answer(problem, answer, extraction)


def _same(first: str, other: str, answers: str) -> bool:
    """Whether the verifier takes one answer for the other."""
    if answers == "math":
        return latex.equivalent(first, other)[0]
    return numbers.graded_answer(first, other, "strict").score == 1.0


def _problem(where: str, row: dict[str, Any], identity: str, answers: str) -> Problem:
    question = text_of(where, row, "question")
    answer = text_of(where, row, "answer")
    if answers == "number":
        read = numbers.bare(answer)
        if read is None or read.shouted:
            raise ValueError(f"{where}: the answer {answer[:40]!r} is not a number; for others set answers=math")
        answer = read.text
    given = row.get("solutions", ())
    given = [given] if is_text(given) else given or ()
    if not isinstance(given, list | tuple) or not all(is_text(s) and s.strip() for s in given):
        raise ValueError(f"{where}: expected the field solutions to be a list of texts")
    texts = (_solution(f"{where}, solution {i}", s.strip(), answer, answers) for i, s in enumerate(given, 1))
    return Problem(identity, question, answer, tuple(dict.fromkeys(texts)))


def _solution(where: str, text: str, answer: str, answers: str) -> str:
    """A text that SFT trains on. Raises ValueError where no completion could be like the text."""
    if words := flaw(text, "solutions"):
        raise ValueError(f"{where}: {words}")
    for stop in NEXT_QUESTION:
        if stop in text:
            raise ValueError(f"{where} has {stop!r} in it, where completions end; write it without")
    return _marked(where, text, answer, answers)


def _marked(where: str, solution: str, answer: str, answers: str) -> str:
    """The solution with its answer in the asked-for format. Raises ValueError where it plainly gives another answer."""
    if answers == "math":
        box = latex.last_box(solution)
        if box is None:
            return f"{solution}\nThe answer is $\\boxed{{{answer}}}$."
        wrong = latex.obvious(answer, box) is False
    else:
        found, wanted = numbers.marked(solution), numbers.bare(answer)
        if found is None:
            return f"{solution}\n{MARK} {answer}"
        box, wrong = found.text, wanted is not None and not found.answers(wanted)
    if wrong:
        raise ValueError(f"{where} ends in {box[:40]!r}, but the answer is {answer[:40]!r}")
    return solution
