"""Bring your own problems: rows of ``question``, ``answer`` and, where SFT is wanted, ``solutions``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from foray.answers import latex, numbers
from foray.answers.numbers import MARK
from foray.core.canonical import added, require
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.data.rows import flaw
from foray.tasks import sources
from foray.tasks.math import BoxedAnswers

STOP = ("\n\nQuestion:", "Question:")


@dataclass(frozen=True)
class OwnProblems:
    """Problems of a file of one's own (JSON Lines, a JSON array, CSV, TSV, Parquet), below ``root`` or on the hub.

    ``answers`` says what answers are: ``math`` (LaTeX in ``\\boxed{}``, compared symbolically) or ``number`` (after
    ``####``). Solutions without that mark get it. ``validation`` is carved from ``train`` unless it is a file of its
    own; what the test file asks is in neither. Without a ``test`` file there is no test split.
    """

    train: str = "train.jsonl"
    test: str = "test.jsonl"
    validation: str = ""
    answers: Literal["math", "number"] = "math"
    name: str = "jsonl"
    root: str = field(default="", metadata={"hash": False})
    hard: bool = added(False)  # whether a report takes it for the harder problems that its claims ask about

    def __post_init__(self) -> None:
        require(self.answers in ("math", "number"), f"answers must be 'math' or 'number', not {self.answers!r}")

    @property
    def stop(self) -> tuple[str, ...]:
        return STOP

    @property
    def verifier(self) -> str:
        return numbers.VERIFIER if self.answers == "number" else latex.VERIFIER

    def fingerprint(self) -> str:
        files = (self.train, self.validation, self.test)
        return " ".join(sources.fingerprint(self.root, file) if file else "-" for file in files)

    def libraries(self) -> tuple[str, ...]:
        files = (f for f in (self.train, self.test, self.validation) if f)
        return (*(("math_verify",) if self.answers == "math" else ()), *sources.libraries(self.root, *files))

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split in file order. Raises ValueError naming file and line of bad rows."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        if split == "test":
            require(bool(self.test), f"{self.name} has no test file")
            return self._of("test", self.test)[:count]
        tested = self._of("test", self.test) if self.test else ()
        if not self.validation:
            return sources.carved(self._of("train", self.train), tested, split)[:count]
        held = self._of("validation", self.validation)
        others = {sources.plain(p.question) for p in (*tested, *(held if split == "train" else ()))}
        return [p for p in self._of(split, named[split]) if sources.plain(p.question) not in others][:count]

    def _of(self, split: Split, file: str) -> tuple[Problem, ...]:
        return _problems(sources.stamp(self.root, file), split, self.answers)

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        return " " + solution

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        if self.answers == "math":
            return BoxedAnswers().verify(problem, completion, extraction)
        return numbers.graded_completion(problem.answer, completion, extraction)

    def reference(self, text: str) -> str:
        return latex.reference(text) if self.answers == "math" else numbers.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        if self.answers == "math":
            return BoxedAnswers().verify_answer(problem, answer, extraction)
        return numbers.graded_answer(problem.answer, answer, extraction)


@lru_cache(maxsize=8)
def _problems(source: tuple[str, str, int], split: Split, answers: str) -> tuple[Problem, ...]:
    rows = enumerate(sources.rows(source[0], source[1], split), 1)
    found: dict[str, tuple[str, Problem]] = {}  # one problem a question, with the solutions of all its rows
    for number, (where, row) in rows:
        p = _problem(where, row, f"{split}-{number}", answers)
        there, first = found.setdefault(sources.plain(p.question), (where, p))
        if first is not p:
            if not _same(first.answer, p.answer, answers):
                raise ValueError(
                    f"{where}: the answer is {p.answer[:40]!r}, but {there} has {first.answer[:40]!r} for this question"
                )
            both = tuple(dict.fromkeys((*first.solutions, *p.solutions)))
            found[sources.plain(p.question)] = there, replace(first, solutions=both)
    return tuple(p for _, p in found.values())


def _same(first: str, other: str, answers: str) -> bool:
    """Whether the verifier takes one answer for the other."""
    if answers == "math":
        return latex.equivalent(first, other)[0]
    return numbers.graded_answer(first, other, "strict").score == 1.0


def _problem(where: str, row: dict[str, Any], identity: str, answers: str) -> Problem:
    question = sources.text_of(where, row, "question")
    answer = sources.text_of(where, row, "answer")
    if answers == "number":
        read = numbers.bare(answer)
        if read is None:
            raise ValueError(f"{where}: the answer {answer[:40]!r} is not a number; for others set answers=math")
        answer = read.text
    given = row.get("solutions", ())
    given = [given] if isinstance(given, str) else given or ()
    if not isinstance(given, list | tuple) or not all(isinstance(s, str) and s.strip() for s in given):
        raise ValueError(f"{where}: expected the field solutions to be a list of texts")
    texts = (_solution(f"{where}, solution {i}", s.strip(), answer, answers) for i, s in enumerate(given, 1))
    return Problem(identity, question, answer, tuple(dict.fromkeys(texts)))


def _solution(where: str, text: str, answer: str, answers: str) -> str:
    """What SFT trains on. Raises ValueError where no completion could be like it."""
    if words := flaw(text, "solutions"):
        raise ValueError(f"{where}: {words}")
    for stop in STOP:
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
