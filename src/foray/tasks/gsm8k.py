"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168) in the published schema, from local files or the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from foray.answers import numbers
from foray.answers.numbers import MARK
from foray.core.canonical import added
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.data.corpus import TextSplit
from foray.tasks import sources

_NOTE = re.compile(r"<<[^<>]{0,200}>>")  # calculator marks, which are no part of the text
_BLANK = re.compile(r"\n{2,}")


@dataclass(frozen=True)
class GSM8K:
    """Grade-school word problems with one solution each.

    ``train`` and ``test`` are paths below ``root`` (an empty root is filled with the study's ``data.root``), or hub ids
    such as ``openai/gsm8k:main``. A tenth of the training questions, chosen by their text, is the validation split. The
    hash is of the files' contents. With ``box`` the answer is asked for in ``\\boxed{}``, as OpenMathInstruct's
    solutions give it, and not after ``####``.
    """

    root: str = field(default="", metadata={"hash": False})
    train: str = "gsm8k/train.jsonl"
    test: str = "gsm8k/test.jsonl"
    box: bool = added(False)

    @property
    def name(self) -> str:
        return "gsm8k_boxed" if self.box else "gsm8k"

    @property
    def stop(self) -> tuple[str, ...]:
        # Boxed solutions are OpenMathInstruct's, which have blank lines in them.
        return ("\n\nQuestion:", "Question:") if self.box else ("\n\n", "Question:")

    @property
    def verifier(self) -> str:
        return numbers.VERIFIER

    def fingerprint(self) -> str:
        return " ".join(sources.fingerprint(self.root, source) for source in (self.train, self.test))

    def libraries(self) -> tuple[str, ...]:
        return sources.libraries(self.root, self.train, self.test)

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split in file order. Raises ValueError naming file and line of bad rows."""
        if split == "test":
            return _problems(sources.stamp(self.root, self.test), "test", self.box)[:count]
        train = _problems(sources.stamp(self.root, self.train), "train", self.box)
        return sources.carved(train, _problems(sources.stamp(self.root, self.test), "test", self.box), split)[:count]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        return " " + solution

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the number after the first ``####`` that one follows; lenient: without it, the last of the text."""
        return numbers.graded_completion(problem.answer, completion, extraction, self.box)

    def reference(self, text: str) -> str:
        """The answer in a bare number or a full solution. Raises ValueError where there is none."""
        return numbers.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Compares an answer of which neither mark nor box is asked."""
        return numbers.graded_answer(problem.answer, answer, extraction)


@dataclass(frozen=True)
class GSM8KText:
    """The training questions and solutions as pre-training text, several to a document, in the task's own format.

    The task's validation questions are this source's validation split, so that neither is trained on.
    """

    name: str = "gsm8k"
    task: GSM8K = GSM8K()
    per_document: int = 4

    def documents(self, split: TextSplit) -> Iterator[str]:
        problems = self.task.problems(split)
        for start in range(0, len(problems), self.per_document):
            blocks = [self.task.prompt(p.question) + self.task.target(p.solutions[0]) for p in
                      problems[start : start + self.per_document]]  # fmt: skip
            yield "\n\n".join(blocks)


@lru_cache(maxsize=8)
def _problems(source: tuple[str, str, int], split: Split, box: bool) -> tuple[Problem, ...]:
    root, name, _ = source
    stem = Path(name).stem if (Path(root) / name).exists() else split
    rows = enumerate(sources.rows(root, name, split), 1)
    return tuple(problem(where, row, f"{stem}-{number}", box) for number, (where, row) in rows)


def problem(where: str, row: dict[str, object], identity: str, box: bool = False) -> Problem:
    """A row of the published schema. Raises ValueError naming the row when it is not such a one."""
    question, text = (sources.text_of(where, row, column) for column in ("question", "answer"))
    solution = _NOTE.sub("", text).strip()
    found = numbers.marked(solution)
    if found is None:
        raise ValueError(f"{where}: the answer does not end in '{MARK} <number>'")
    if box:
        solution = f"{numbers.before_mark(solution).rstrip()}\nThe answer is \\boxed{{{found.text}}}."
    else:  # a blank line ends a completion, so one that was like this solution would never come to its answer
        solution = _BLANK.sub("\n", solution)
    return Problem(identity, question, found.text, (solution,))
