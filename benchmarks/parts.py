"""What benchmarks of Foray put in the place of text, a task and completions that end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from cases import reward

from foray.core.batch import Batch
from foray.core.stage import Stream
from foray.core.task import Problem, Verdict
from foray.train.draw import Drawn, Training, draw


@dataclass(frozen=True)
class Noise:
    """Random tokens in place of text, the same at the same step."""

    batch_size: int
    length: int


@draw.register
def _(source: Noise, stream: Stream, step: int, run: Training) -> Drawn:
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(1, run.model.config.vocab_size, (source.batch_size, source.length + 1), generator=generator)
    ones = torch.ones(source.batch_size, source.length)
    return Batch(tokens[:, :-1], tokens[:, 1:], ones, ones, ones, float(ones.numel())), {}


@dataclass(frozen=True)
class Words:
    """Prompts of given words as a task; a completion's reward is a function of its words, whatever ended it."""

    prompts: tuple[tuple[int, ...], ...]
    name: str = "words"
    stop: tuple[str, ...] = ()

    def problems(self, split: str, count: int | None = None) -> list[Problem]:
        return [Problem(str(i), " ".join(f"t{t}" for t in p), "") for i, p in enumerate(self.prompts)]

    def prompt(self, question: str, examples: Any = ()) -> str:
        return question

    def target(self, solution: str) -> str:
        return solution

    def verify(self, problem: Problem, completion: str, extraction: str = "strict") -> Verdict:
        return Verdict(reward([int(w[1:]) for w in completion.split() if w[0] == "t"]), True, "")


class Endless:
    """An engine of which completions cut off by their length count as finished."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.config, self.max_rows, self.sync = engine, engine.config, engine.max_rows, engine.sync

    def generate(self, *arguments: Any) -> Any:
        return [[replace(c, stop_reason="end") for c in g] for g in self.engine.generate(*arguments)]
