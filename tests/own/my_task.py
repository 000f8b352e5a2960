"""A task in a file of the user's own: `foray eval CHECKPOINT --task my_task.py:Doubles`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foray.core.task import Extraction, Problem, Split, Verdict


@dataclass(frozen=True)
class Doubles:
    """Twice a number below a hundred."""

    name: str = "doubles"
    stop: tuple[str, ...] = ("\n",)

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        first = {"train": 0, "validation": 1, "test": 2}[split]
        numbers = list(range(first, 100, 3))[:count]
        return [Problem(f"{split}-{n}", f"twice {n}?", str(2 * n), (str(2 * n),)) for n in numbers]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return "".join(f"{e.question} {e.answer}\n" for e in examples) + question

    def target(self, solution: str) -> str:
        return f" {solution}"

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        said = completion.strip()
        return Verdict(float(said == problem.answer), said.isdecimal(), said[:20])

    # for `foray grade` alone

    def reference(self, text: str) -> str:
        return text.strip()

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        return self.verify(problem, answer, extraction)


def named() -> Doubles:
    """A function may make the task too."""
    return Doubles("my_doubles")


twice = Doubles("twice")
