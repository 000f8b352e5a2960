"""SVAMP (Patel et al. 2021, arXiv 2103.07191) and JSON files of its kind: a story, a question, an equation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from foray.answers import numbers
from foray.answers.numbers import MARK
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.tasks import sources


@dataclass(frozen=True)
class SVAMP:
    """One-step word problems; the solution is the row's equation and its value, in GSM8K's format.

    ``train`` and ``test`` are paths below ``root`` or hub ids such as ``ChilleD/SVAMP``. A tenth of the training
    questions is the validation split; training questions that the test split has are left out.
    """

    root: str = field(default="", metadata={"hash": False})
    train: str = "svamp/train.json"
    test: str = "svamp/test.json"

    @property
    def name(self) -> str:
        return "svamp"

    @property
    def stop(self) -> tuple[str, ...]:
        return ("\n\n", "Question:")

    @property
    def verifier(self) -> str:
        return numbers.VERIFIER

    def fingerprint(self) -> str:
        return " ".join(sources.fingerprint(self.root, source) for source in (self.train, self.test))

    def libraries(self) -> tuple[str, ...]:
        return sources.libraries(self.root, self.train, self.test)

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split. Raises ValueError naming the row of bad ones."""
        if split == "test":
            return _problems(sources.stamp(self.root, self.test), "test")[:count]
        train = _problems(sources.stamp(self.root, self.train), "train")
        return sources.carved(train, _problems(sources.stamp(self.root, self.test), "test"), split)[:count]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        return " " + solution

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the number after the first ``####`` that one follows; lenient: without it, the last of the text."""
        return numbers.graded_completion(problem.answer, completion, extraction)

    def reference(self, text: str) -> str:
        return numbers.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        return numbers.graded_answer(problem.answer, answer, extraction)


@lru_cache(maxsize=8)
def _problems(source: tuple[str, str, int], split: Split) -> tuple[Problem, ...]:
    rows = enumerate(sources.rows(source[0], source[1], split), 1)
    return sources.once(_problem(where, row, f"svamp-{split}-{number}") for number, (where, row) in rows)


def _problem(where: str, row: dict[str, object], identity: str) -> Problem:
    body = str(row.get("Body") or row.get("body") or "").strip()
    question = sources.text_of(where, row, "Question", "question")
    if body:
        question = f"{body if body[-1] in '.?!,' else body + '.'} {question}"
    answer = numbers.bare(sources.text_of(where, row, "Answer", "answer"))
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
