"""The nodes that check before any training that all text of a study fits the context of the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from foray.core.files import write_json
from foray.core.sources import Demonstrations
from foray.core.stage import Stream
from foray.core.task import Split, Task, few_shot_examples
from foray.model.config import ModelConfig
from foray.rollout.engine import Sampling, check_context
from foray.study.node import Node, Report, TokenizerOwner
from foray.study.store import Store
from foray.train.checked_draw import drawn
from foray.train.draw import Training
from foray.train.supervised import solved

_DRAWS = 64  # draws of a source that are checked


@dataclass(frozen=True)
class PromptsNode(Node):
    """A check that a task's prompts and completions fit the model's context.

    Pre-training waits for the check, so that a study that cannot be evaluated fails in its first seconds.
    """

    kind: ClassVar[str] = "prompts"
    tokenizer: TokenizerOwner
    task: Task
    split: Split
    problems: int
    shots: int
    seed: int
    max_new_tokens: int
    context: int

    def label(self) -> str:
        return f"length of {self.shots}-shot {self.split} prompts of {self.task.name}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = self.tokenizer.open_tokenizer(store)
        examples = few_shot_examples(self.task, self.shots, self.seed)
        longest, which = 0, ""
        for p in self.task.problems(self.split, self.problems):
            size = len(tokenizer.encode_prompt(self.task.prompt(p.question, examples)))
            longest, which = max((longest, which), (size, p.id))
        try:
            check_context(longest, Sampling(max_new_tokens=self.max_new_tokens), self.context)
        except ValueError as e:
            raise ValueError(f"{self.task.name}, {self.split} problem {which}: {e}") from None
        write_json(folder / "prompts.json", {"longest": longest})


@dataclass(frozen=True)
class DemonstrationsNode(Node):
    """A check that every question with each solution that SFT may use fits the model's context.

    Pre-training waits for the check. The check tokenizes every row once for all recipes that train on the row. Two
    million solutions of OpenMathInstruct's length take a core about 12 minutes.
    """

    kind: ClassVar[str] = "demonstrations"
    tokenizer: TokenizerOwner
    source: Demonstrations
    seed: int  # chooses the one solution of a question
    context: int

    def label(self) -> str:
        words = {"all": "all solutions", "first": "the first solution", "one": f"the one solution of seed {self.seed}"}
        which = words[self.source.solutions]
        return f"length of {self.source.task.name} questions with {which}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = self.tokenizer.open_tokenizer(store)
        rows = solved(self.source, self.seed, tokenizer)
        longest, problem = max((len(prompt) + len(target) - 1, p.id) for p, prompt, target in rows)
        if longest > self.context:
            raise ValueError(
                f"problem {problem} and its solution are {longest} tokens, the longest that {self.source.task.name} "
                f"has for SFT; the model's context is {self.context}: set model.context={longest} or more, or leave "
                "that solution out of the data"
            )
        write_json(folder / "demonstrations.json", {"longest": longest})


@dataclass(frozen=True)
class SourceNode(Node):
    """A check that the first batches of a user's own source can be trained on.

    Pre-training waits for the check. A source that reads the model or samples from the model gives no batch before the
    model exists. The check then says nothing, and training checks each batch as it is drawn.
    """

    kind: ClassVar[str] = "source"
    tokenizer: TokenizerOwner
    model: ModelConfig
    stream: Stream
    stage: str
    steps: int
    seeds: tuple[int, ...]

    def label(self) -> str:
        return f"first batches of {type(self.stream.source).__name__}, stream {self.stream.name} of {self.stage}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = self.tokenizer.open_tokenizer(store)
        shape = self.model.sized(tokenizer.vocab_size)
        longest = 0
        try:
            for seed in self.seeds:
                nothing = cast(Any, _NotYet(shape))
                run = Training(seed, self.stage, tokenizer, nothing, nothing, nothing, _NotYetRead(), _NotYetRead())
                for step in range(min(self.steps, _DRAWS)):
                    batch, _ = drawn(self.stream.source, self.stream, step, run)
                    longest = max(longest, batch.tokens.shape[1])
        except _NeedsTheModel:
            longest = 0
        write_json(folder / "source.json", {"longest": longest or None})


class _NeedsTheModel(Exception):
    """A source asked for something that exists only in training."""


class _NotYet:
    """Stands for a model or an engine that does not exist yet: it has the model's shape and nothing else."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def __getattr__(self, name: str) -> Any:
        raise _NeedsTheModel

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise _NeedsTheModel


class _NotYetRead(Mapping[str, Any]):
    """Stands for the shards and screened answers that a training node will read."""

    def __getitem__(self, name: str) -> Any:
        raise _NeedsTheModel

    def __iter__(self) -> Iterator[str]:
        raise _NeedsTheModel

    def __len__(self) -> int:
        raise _NeedsTheModel


Check = PromptsNode | DemonstrationsNode | SourceNode
