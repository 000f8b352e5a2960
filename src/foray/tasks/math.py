"""MATH (Hendrycks et al. 2021, arXiv 2103.03874) and MATH-500, answers in ``\\boxed{}``, compared by math-verify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

from foray.answers import latex
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.tasks import sources


class BoxedAnswers:
    """What tasks share whose solutions end in a ``\\boxed{}`` answer: the format and the verifier."""

    verifier: ClassVar[str] = latex.VERIFIER

    @property
    def stop(self) -> tuple[str, ...]:
        """Solutions have blank lines in them, so only the next question of a few-shot prompt ends one."""
        return ("\n\nQuestion:", "Question:")

    def target(self, solution: str) -> str:
        return " " + solution

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares what the last ``\\boxed{}`` holds; lenient: else the answer that the text announces, or ends with.

        Raises ValueError where math-verify is not installed.
        """
        latex.ready()
        answer, formatted = latex.found_answer(completion, extraction)
        return latex.verdict(problem.answer, answer, formatted, "no answer in \\boxed{}")

    def reference(self, text: str) -> str:
        """The answer in a bare answer or a full solution. Raises ValueError where there is none."""
        return latex.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Compares an answer of which no box is asked; lenient also looks for one inside a sentence."""
        latex.ready()
        found = latex.verdict(problem.answer, latex.bare_answer(answer), True, "no answer")
        if found.score or extraction == "strict":
            return found
        inner = latex.stated_answer(answer)
        return found if inner is None else latex.verdict(problem.answer, inner, False, "no answer")


@dataclass(frozen=True)
class MATH(BoxedAnswers):
    """Competition problems with one solution each.

    ``train`` and ``test`` are paths below ``root`` (files, or folders of one file a problem as published), or hub ids
    such as ``EleutherAI/hendrycks_math:*``. A tenth of the training questions, chosen by their text, is the validation
    split; training questions that the test split has are left out.
    """

    root: str = field(default="", metadata={"hash": False})
    train: str = "math/train.jsonl"
    test: str = "math/test.jsonl"
    name: str = "math"

    def fingerprint(self) -> str:
        return " ".join(sources.fingerprint(self.root, source) for source in (self.train, self.test))

    hard: ClassVar[bool] = True  # to a report: its claims on harder problems ask such a task

    def libraries(self) -> tuple[str, ...]:
        return ("math_verify", *sources.libraries(self.root, self.train, self.test))

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split. Raises ValueError naming file and line of bad rows."""
        if split == "test":
            return _problems(sources.stamp(self.root, self.test), "test")[:count]
        train = _problems(sources.stamp(self.root, self.train), "train")
        return sources.carved(train, _problems(sources.stamp(self.root, self.test), "test"), split)[:count]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)


@lru_cache(maxsize=8)
def _problems(source: tuple[str, str, int], split: Split) -> tuple[Problem, ...]:
    rows = enumerate(sources.rows(source[0], source[1], split), 1)
    return sources.once(problem(where, row, f"math-{split}-{number}") for number, (where, row) in rows)


def problem(where: str, row: dict[str, object], identity: str) -> Problem:
    """A row of the published schema, or of MATH-500, which has the answer in a column of its own.

    Raises ValueError naming the row when it is not such a one.
    """
    question = sources.text_of(where, row, "problem", "question")
    solution = sources.text_of(where, row, "solution")
    box = latex.boxed_answer(solution)
    given = row.get("answer")
    answer = given.strip() if isinstance(given, str) and given.strip() else (box or "").strip()
    if not answer:
        raise ValueError(f"{where}: the solution has no \\boxed{{}} answer")
    level, subject = str(row.get("level", "")).removeprefix("Level "), row.get("type") or row.get("subject") or ""
    tags = tuple(f"{name}={value}" for name, value in (("level", level), ("subject", subject)) if value)
    return Problem(identity, question, answer, (solution,), tags)
