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
_LIKE_GSM8K = "like=gsm8k"  # the label of a question like GSM8K's
# Raised when other solutions are kept of the same rows, or other texts of them: a part of the key of what is trained.
_CLEANING = "solutions 3"
_DISPLAYS = re.compile(r"\\\\|\\\$|\\[\[\]()]|\$\$|\\(?:begin|end)\{[A-Za-z]{1,20}\*?\}")
_CLOSES = {"\\[": "\\]", "\\(": "\\)", "$$": "$$"}
_SENTENCE = re.compile(r"\.(?=\s|$)|\n|$")


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

    def fingerprint(self) -> str:
        return f"{super().fingerprint()} {_CLEANING}"

    @property
    def verifier(self) -> str:
        return f"{latex.VERIFIER}, {numbers.VERIFIER}"

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
        """Compares the last box: of GSM8K's questions as ``gsm8k_boxed`` does, as a number, else by algebra.

        A computation that is left to do is no number: 12 \\times 5 is not 60.
        """
        if self._of_numbers(problem):
            found = numbers.graded_completion(problem.answer, completion, extraction, True, problem.question)
            return replace(found, formatted=latex.boxed_answer(completion) is not None)
        return super().verify(problem, completion, extraction)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        if self._of_numbers(problem):
            return numbers.graded_answer(problem.answer, answer, extraction, problem.question)
        return super().verify_answer(problem, answer, extraction)

    def _of_numbers(self, problem: Problem) -> bool:
        """Whether it is a question like GSM8K's with a number as its answer."""
        like = self.like == "gsm8k" or _LIKE_GSM8K in problem.tags
        return like and numbers.bare(problem.answer) is not None

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
        first = kept[1] if kept else answer
        solution = clean(text, first, kind.endswith("gsm8k")) if not _flagged_wrong(row) else None
        if solution is not None:
            found.setdefault(name, (question, answer, kind, {}))[3][solution] = None
    for number, (question, answer, kind, solutions) in enumerate(found.values(), 1):
        like = _LIKE_GSM8K if kind.endswith("gsm8k") else "like=math"
        tags = (like, f"source={kind}")
        yield Problem(f"openmath{task.version}-{number}", question, answer, tuple(solutions), tags)


def _flagged_wrong(row: dict[str, Any]) -> bool:
    """Whether version 1's own columns tell of a wrong answer, or of a program that ran or failed."""
    error = row.get("error_message")
    return row.get("is_correct") is False or (is_text(error) and error not in _NO_CODE_RUN)


def clean(text: str, answer: str, like_gsm8k: bool = False) -> str | None:
    """A solution in words with one boxed answer, the right one, ended after the sentence that gives it; else None.

    ``like_gsm8k``: where the answer is a number, the boxed one is compared as a number.
    """
    if len(text) > _LONGEST or any(mark in text for mark in _TOOLS):
        return None
    spans = latex.boxes(text)
    if len({latex.tidy(text[a:b]) for a, b in spans}) != 1:
        return None  # no answer, or several
    start, end = spans[-1]
    if like_gsm8k and numbers.bare(answer) is not None:
        right = numbers.graded_completion(answer, text, "strict", box=True).score == 1.0
    else:
        right = latex.equivalent(answer, text[start:end])[0]
    # Behind the answer's sentence the model went on where it should have stopped.
    return text[: _sentence_end(text, end)].rstrip() if right else None


def _sentence_end(text: str, end: int) -> int:
    """Where the sentence or the displayed formula ends in which ``end`` lies. Formulas that end are closed."""
    opened: list[tuple[str, bool]] = []  # what closes each, and whether it holds ``end``
    closed, at = "", end
    for token in _DISPLAYS.finditer(text):
        sign, behind = token.group(), token.start() >= end
        if behind and not any(holds for _, holds in opened):
            break
        if opened and sign == opened[-1][0]:
            _, holds = opened.pop()
            closed, at = (sign, token.end()) if behind and holds else (closed, at)
        elif sign in _CLOSES or sign.startswith("\\begin"):
            opened.append((_CLOSES.get(sign) or sign.replace("begin", "end"), not behind))
    if at > end and closed != "\\)":
        return at + text.startswith(".", at)
    stop = _SENTENCE.search(text, at)
    assert stop is not None
    return stop.end()


def _tests(source: RowSource) -> Iterator[Problem]:
    """A test set in GSM8K's schema or in MATH's."""
    for number, (where, row) in enumerate(source.rows("test"), 1):
        if "problem" in row or "solution" in row:
            problem = math.problem(where, row, f"math-test-{number}")
            yield replace(problem, tags=("like=math", *problem.tags))
        else:
            yield replace(gsm8k.problem(where, row, f"gsm8k-test-{number}", box=True), tags=(_LIKE_GSM8K,))
