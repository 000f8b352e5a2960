"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168) in the published schema, from local files or the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from foray.answers import numbers
from foray.answers.graders import NumberAnswers
from foray.answers.numbers import MARK
from foray.core.canonical import added
from foray.core.field_types import require_types
from foray.core.task import Problem, Split
from foray.data.row_source import RowSource, text_of
from foray.data.text_source import TextSplit
from foray.tasks.file_task import FileTask

_NOTE = re.compile(r"<<[^<>]{0,200}>>")  # calculator marks, which are no part of the text
_BLANK = re.compile(r"\n{2,}")


@dataclass(frozen=True)
class GSM8K(NumberAnswers, FileTask):
    """Grade-school word problems with one solution each.

    With ``box`` a completion gives its answer in ``\\boxed{}``, as OpenMathInstruct's solutions do, and not behind
    ``####``.
    """

    root: str = field(default="", metadata={"hash": False})  # of the files; empty: the study's data.root
    train: str = "gsm8k/train.jsonl"  # the file of the training split
    test: str = "gsm8k/test.jsonl"  # the file of the test split
    box: bool = added(False)

    def __post_init__(self) -> None:
        require_types(self)

    @property
    def name(self) -> str:
        return "gsm8k_boxed" if self.box else "gsm8k"

    def parsed(self, split: Split, source: RowSource) -> Iterator[Problem]:
        stem = source.path.stem if source.path.exists() else split
        for number, (where, row) in enumerate(source.rows(split), 1):
            yield problem(where, row, f"{stem}-{number}", self.box)


@dataclass(frozen=True)
class GSM8KText:
    """The training questions and solutions as pre-training text, several to a document, in the task's own format.

    The task's validation questions are this source's validation split, so training sees neither.
    """

    name: str = "gsm8k"  # the name of the source in the mixture
    task: GSM8K = GSM8K()  # the task whose training split is read
    per_document: int = 4  # questions a document

    def __post_init__(self) -> None:
        require_types(self)

    def documents(self, split: TextSplit) -> Iterator[str]:
        problems = self.task.problems(split)
        for start in range(0, len(problems), self.per_document):
            blocks = [self.task.prompt(p.question) + self.task.target(p.solutions[0]) for p in
                      problems[start : start + self.per_document]]  # fmt: skip
            yield "\n\n".join(blocks)


def problem(where: str, row: dict[str, object], identity: str, box: bool = False) -> Problem:
    """A row of the published schema. Raises ValueError naming a row of another one."""
    question, text = (text_of(where, row, column) for column in ("question", "answer"))
    solution = _NOTE.sub("", text).strip()
    found = numbers.marked(solution)
    if found is None:
        raise ValueError(f"{where}: the answer does not end in '{MARK} <number>'")
    if box:
        solution = f"{numbers.before_mark(solution).rstrip()}\nThe answer is \\boxed{{{found.text}}}."
    else:  # a blank line ends a completion, so a completion like this solution would never come to its answer
        solution = _BLANK.sub("\n", solution)
    return Problem(identity, question, found.text, (solution,))
