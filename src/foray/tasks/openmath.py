"""OpenMathInstruct-1 and -2 (Toshniwal et al. 2024, arXiv 2402.10176 and 2410.01560): questions with many solutions.

The questions are those of GSM8K's and MATH's training sets and, in version 2, new ones made from them. A question
without a clean right solution is left out, so SFT on one solution, SFT on all and RL have the same questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

from foray.answers import latex, numbers
from foray.answers.graders import BoxedAnswers
from foray.core.canonical import added, require
from foray.core.field_types import require_types
from foray.core.files import is_text
from foray.core.task import Extraction, Problem, Split, Verdict
from foray.data.row_source import RowSource, text_of
from foray.tasks import gsm8k, math
from foray.tasks.file_task import FileTask, carved, plain

Like = Literal["", "gsm8k", "math"]

# Version 1 has solutions that call a program; a model without tools cannot learn from their calls.
_TOOLS = ("<llm-code", "</llm-code", "```", "<tool", "<|python", "<code>")
_NO_CODE_RUN = ("", "<not_executed>")
_LONGEST = 8000  # characters of a solution; longer ones go round in circles


@dataclass(frozen=True)
class OpenMathInstruct(BoxedAnswers, FileTask):
    """``train``: empty stands for ``openmathinstruct1/train.jsonl`` (or 2).

    ``like`` keeps the questions of one kind. ``solutions`` is the most that a question keeps. ``augmented=False``
    leaves out the questions that version 2 made. ``tests`` are GSM8K's and MATH's test sets: this task's test split,
    whose questions are in neither training nor validation. ``split`` is the hub's (version 2 has ``train_1M``).

    With ``harder`` the report's claims on harder problems ask this task, as they do with ``like="math"``.
    ``examples``: a file of GSM8K's rows, the first of which stand before a question that is asked with examples, in
    GSM8K's own form (``####``); when empty, training problems stand there. ``instruction`` follows a question that is
    asked without examples.
    """

    version: Literal[1, 2] = 2  # OpenMathInstruct-1 or -2
    like: Like = ""
    root: str = field(default="", metadata={"hash": False})  # of the files; empty: the study's data.root
    train: str = ""
    tests: tuple[str, ...] = ()
    solutions: int = 32
    augmented: bool = True  # with the questions that version 2 made
    split: str = "train"
    harder: bool = added(False)
    examples: str = added("")
    instruction: str = added("")

    def __post_init__(self) -> None:
        require_types(self)
        require(self.solutions > 0, f"solutions must be positive, not {self.solutions}")

    @property
    def name(self) -> str:
        return f"openmath{self.version}" + (f"_{self.like}" if self.like else "")

    @property
    def hard(self) -> bool:
        return self.like == "math" or self.harder

    @property
    def source(self) -> str:
        return self.train or f"openmathinstruct{self.version}/train.jsonl"

    def files(self) -> tuple[str, ...]:
        return (self.source, *self.tests, *([self.examples] if self.examples else []))

    def libraries(self) -> tuple[str, ...]:
        return ("math_verify", *super().libraries())

    def few_shot(self, count: int) -> tuple[Problem, ...] | None:
        """The first problems of the file of examples; None without one."""
        if not self.examples:
            return None
        rows = RowSource(self.root, self.examples).rows("train")
        return tuple(gsm8k.problem(where, row, f"example-{n}") for n, (where, row) in enumerate(islice(rows, count), 1))

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        asked = question if examples or not self.instruction else f"{question} {self.instruction}"
        return super().prompt(asked, examples)

    def of_split(self, split: Split) -> Iterable[Problem]:
        """All problems of a split, in the order in which their questions first occur."""
        tests = [p for file in self.tests for p in self.read("test", file)]
        if split == "test":
            missing = "has no test split of its own: evaluate on gsm8k_boxed or math, or name tests"
            require(bool(self.tests), f"{self.name} {missing}")
            return tests
        train = self.read("train", self.source)
        missing = f"{self.source}: no question of it has a clean solution in words that gives the right answer"
        require(bool(train), missing)
        return carved(train, tests, split)

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the last box. Flexible, of GSM8K's questions: the number that ``numbers.flexible`` finds."""
        if extraction == "flexible" and self.like == "gsm8k" and numbers.bare(problem.answer) is not None:
            found = numbers.graded_completion(problem.answer, completion, extraction, box=True)
            return replace(found, formatted=latex.boxed_answer(completion) is not None)
        return super().verify(problem, completion, extraction)

    def parsed(self, split: Split, source: RowSource) -> Iterable[Problem]:
        return _tests(source) if split == "test" else _grouped(self, source)


def _grouped(task: OpenMathInstruct, source: RowSource) -> Iterator[Problem]:
    """One problem a question, with the clean solutions of all its rows."""
    found: dict[str, tuple[str, str, str, dict[str, None]]] = {}
    for where, row in source.rows(task.split):
        question = text_of(where, row, "question", "problem")
        answer = text_of(where, row, "expected_answer")
        kind = text_of(where, row, "dataset", "problem_source")
        if (task.like and not kind.endswith(task.like)) or ("augmented" in kind and not task.augmented):
            continue
        name = plain(question)
        kept = found.get(name)
        if kept is not None and len(kept[3]) >= task.solutions:
            continue
        text = text_of(where, row, "generated_solution")
        # Every answer is compared with the question's first: two references may differ where one is wrong.
        solution = clean(text, kept[1] if kept else answer) if not _flagged_wrong(row) else None
        if solution is not None:
            found.setdefault(name, (question, answer, kind, {}))[3][solution] = None
    for number, (question, answer, kind, solutions) in enumerate(found.values(), 1):
        like = "gsm8k" if kind.endswith("gsm8k") else "math"
        tags = (f"like={like}", f"source={kind}")
        yield Problem(f"openmath{task.version}-{number}", question, answer, tuple(solutions), tags)


def _flagged_wrong(row: dict[str, Any]) -> bool:
    """Whether version 1's own columns tell of a wrong answer, or of a program that ran or failed."""
    error = row.get("error_message")
    return row.get("is_correct") is False or (is_text(error) and error not in _NO_CODE_RUN)


def clean(text: str, answer: str) -> str | None:
    """A solution in words with one boxed answer, the right one, ended after the sentence that gives it; else None."""
    if len(text) > _LONGEST or any(mark in text for mark in _TOOLS):
        return None
    spans = latex.boxes(text)
    if len({latex.tidy(text[a:b]) for a, b in spans}) != 1:
        return None  # no answer, or several
    start, end = spans[-1]
    if not latex.equivalent(answer, text[start:end])[0]:
        return None
    # Behind the answer's sentence the model went on where it should have stopped.
    stop = re.compile(r"\.(?=\s|$)|\n|$").search(text, end)
    assert stop is not None
    return text[: stop.end()].rstrip()


def _tests(source: RowSource) -> Iterator[Problem]:
    """A test set in GSM8K's schema or in MATH's."""
    for number, (where, row) in enumerate(source.rows("test"), 1):
        if "problem" in row or "solution" in row:
            yield math.problem(where, row, f"math-test-{number}")
        else:
            yield gsm8k.problem(where, row, f"gsm8k-test-{number}", box=True)
