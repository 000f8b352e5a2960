"""The common half of tasks whose problems are rows of files or of data sets on the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from foray.core.rng import key
from foray.core.task import Problem, Split, Task, question_answer_prompt
from foray.data.row_source import RowSource


class FileTask(Task):
    """``train`` and ``test`` are paths below ``root``, or ids on the hub such as ``openai/gsm8k:main``. A study fills
    in an empty root from its ``data.root``.

    A tenth of the training questions, chosen by their text, is the validation split. No question of the test split is
    in either. The hash is of the files' contents.
    """

    root: str
    train: str
    test: str

    def files(self) -> tuple[str, ...]:
        """Everything that is read."""
        return (self.train, self.test)

    def fingerprint(self) -> str:
        return " ".join(RowSource(self.root, file).fingerprint() if file else "-" for file in self.files())

    def fetched(self) -> bool:
        """Whether reading the problems may fetch them from the hub."""
        return any(RowSource(self.root, file).data_set is not None for file in self.files() if file)

    def libraries(self) -> tuple[str, ...]:
        """The libraries that reading and grading need."""
        return tuple(library for file in self.files() if file for library in RowSource(self.root, file).libraries())

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split in file order. Raises ValueError naming file and line of bad rows."""
        changed = tuple(RowSource(self.root, file).changed() for file in self.files() if file)
        return _split(self, split, changed)[:count]

    def of_split(self, split: Split) -> Iterable[Problem]:
        """All problems of a split."""
        if split == "test":
            return self.read("test", self.test)
        return carved(self.read("train", self.train), self.read("test", self.test), split)

    def read(self, split: Split, file: str) -> tuple[Problem, ...]:
        """All problems of a file, read again where the file has changed."""
        return _read(self, split, file, RowSource(self.root, file).changed())

    def parsed(self, split: Split, source: RowSource) -> Iterable[Problem]:
        """The problems of a source's rows. Raises ValueError naming the row of a bad one."""
        raise NotImplementedError

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        return " " + solution


@lru_cache(maxsize=32)
def _split(task: FileTask, split: Split, changed: tuple[int, ...]) -> tuple[Problem, ...]:
    return tuple(task.of_split(split))


@lru_cache(maxsize=32)
def _read(task: FileTask, split: Split, file: str, changed: int) -> tuple[Problem, ...]:
    return tuple(task.parsed(split, RowSource(task.root, file)))


def plain(question: str) -> str:
    """A question without case and spaces, which do not make another question."""
    return " ".join(question.split()).casefold()


def held_out(question: str) -> bool:
    """Whether a training question is kept for validation: a tenth, by its text, the same in every data set.

    So a GSM8K question that is validation in ``gsm8k`` is validation in OpenMathInstruct too.
    """
    return key("gsm8k validation", question.strip()) % 10 == 0


def carved(train: Sequence[Problem], test: Sequence[Problem], split: Split) -> list[Problem]:
    """The training questions that are held out, or those that are not. No question of the test set is among them.

    Two spellings of a question (spaces, capitals) fall on the same side.
    """
    tested = {plain(p.question) for p in test}
    side: dict[str, bool] = {}
    chosen = []
    for p in train:
        name = plain(p.question)
        if name not in tested and side.setdefault(name, held_out(p.question)) == (split == "validation"):
            chosen.append(p)
    return chosen


def once(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The first problem of every question."""
    seen: set[str] = set()
    for p in problems:
        if (name := plain(p.question)) not in seen:
            seen.add(name)
            yield p
