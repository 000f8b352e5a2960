"""A task and an RL loss of one's own, on a model that trains in seconds: it shows the form, and learns nothing.

foray run examples/own_task.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from foray.core.objectives import Scored
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.studies import smoke
from foray.study.spec import Study

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Halves:
    """Half of an even number. Every third number belongs to one split, so splits share no question."""

    name: str = "halves"
    stop: tuple[str, ...] = ("\n",)

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        numbers = range(SPLITS.index(split), 300, 3)
        made = [Problem(f"{split}-{n}", f"What is half of {2 * n}?", str(n), (f"#### {n}",)) for n in numbers]
        return made[:count]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        return f" {solution}"

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        _, mark, after = completion.rpartition("####")
        said = (after if mark or extraction == "strict" else completion).strip()
        return Verdict(
            float(bool(mark or extraction != "strict") and said == problem.answer), bool(mark), said[:20], said
        )


@dataclass(frozen=True)
class Plain:
    """REINFORCE with the group's advantage: -advantage x log p(token), and no clipping."""

    def __call__(self, s: Scored) -> Tensor:
        return -s.advantage * s.logprobs

    def contributes(self, weight: Tensor, advantage: Tensor) -> Tensor:
        return (weight != 0) & (advantage != 0)

    def metrics(self, s: Scored) -> dict[str, Tensor]:
        return {"surprise": -s.logprobs}


def study() -> Study:
    base, task = smoke.study(), Halves()
    rl = replace(base.post.rl, objective=Plain(), source=replace(base.post.rl.source, task=task))
    sft = replace(base.post.sft, source=replace(base.post.sft.source, task=task))
    return replace(
        base,
        name="own_task",
        post=replace(base.post, rl=rl, sft=sft),
        recipes=("rl", "sft"),
        evaluation=replace(base.evaluation, task=task, probes=None, dynamics=None),
    )
