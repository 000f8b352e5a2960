"""What a task is: problems, a prompt format and a verifier. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Split = Literal["train", "validation", "test"]
Extraction = Literal["strict", "lenient"]


@dataclass(frozen=True)
class Problem:
    """One question with its reference answer and the solutions known for it.

    ``solutions`` are complete target texts in the task's own format (what SFT trains on), the first being the
    canonical one. ``tags`` are free labels such as ``("steps=3", "tier=easy")``.
    """

    id: str
    question: str
    answer: str
    solutions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a verifier says of one completion.

    ``score`` is 1.0 for a correct final answer, else 0.0. ``formatted`` tells whether the answer stood in the asked-for
    format, right or wrong. ``reason`` is one short line for people.
    """

    score: float
    formatted: bool
    reason: str


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass of settings; everything below is a pure function of those settings and the arguments."""

    @property
    def name(self) -> str:
        """Short name for tables, e.g. ``world_easy``."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a completion, e.g. the start of the next question in a few-shot prompt."""
        ...

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split (all when None), always in the same order. Splits are disjoint."""
        ...

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        """The text given to the model; with examples, each is shown with its first solution before the question."""
        ...

    def target(self, solution: str) -> str:
        """The text SFT trains on after ``prompt``: the solution as a good completion would print it."""
        ...

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Grades untrusted text: never raises, never evaluates it, never hangs. Strict wants the asked-for format."""
        ...


def verifier_of(task: Task) -> str:
    """The version of a task's verdicts, a part of the key of what is graded by them and of nothing else.

    A task may name one by an attribute ``verifier``, and does so once some completion gets another verdict than before.
    """
    return str(getattr(task, "verifier", ""))


def question_answer_prompt(task: Task, question: str, examples: Sequence[Problem]) -> str:
    """``Question: ...\\nAnswer:``, after the examples, each with its first solution and a blank line."""
    shown = "".join(f"Question: {e.question}\nAnswer:{task.target(e.solutions[0])}\n\n" for e in examples)
    return f"{shown}Question: {question}\nAnswer:"


def few_shot_examples(task: Task, count: int, seed: int) -> tuple[Problem, ...]:
    """``count`` training problems fixed by ``seed``, the same for every question and every checkpoint."""
    import random

    if count == 0:
        return ()
    pool = [p for p in task.problems("train", 64 * count) if p.solutions]
    if len(pool) < count:
        raise ValueError(f"{task.name}: {count} examples asked for, the train split has {len(pool)} with solutions")
    return tuple(random.Random(f"few-shot {seed}").sample(pool, count))
