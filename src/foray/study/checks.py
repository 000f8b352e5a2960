"""What is asked before any training: whether all that a study will show its models fits their context."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

from foray.core.files import write_atomic
from foray.core.sources import Demonstrations
from foray.core.stage import Stream
from foray.core.task import Split, Task, few_shot_examples
from foray.model.config import ModelConfig
from foray.rollout.engine import Sampling, check_context
from foray.study.nodes import AnyTokenizer, Node, Report, open_tokenizer
from foray.study.store import Store
from foray.train.checked_draw import drawn
from foray.train.draw import Training
from foray.train.supervised import solved

_DRAWS = 64  # of a source, that are looked at before any training


@dataclass(frozen=True)
class PromptsNode(Node):
    """Nothing but the knowledge that a task's prompts and completions fit the model's context.

    Pre-training waits for it, so that a study that cannot be evaluated fails in its first seconds.
    """

    kind: ClassVar[str] = "prompts"
    tokenizer: AnyTokenizer
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
        tokenizer = open_tokenizer(self.tokenizer, store)
        examples = few_shot_examples(self.task, self.shots, self.seed)
        prompts = [self.task.prompt(p.question, examples) for p in self.task.problems(self.split, self.problems)]
        longest = max((len(tokenizer.encode_prompt(p)) for p in prompts), default=0)
        check_context(longest, Sampling(max_new_tokens=self.max_new_tokens), self.context)
        write_atomic(folder / "prompts.json", json.dumps({"longest": longest}, allow_nan=False) + "\n")


@dataclass(frozen=True)
class DemonstrationsNode(Node):
    """Nothing but the knowledge that questions with the solutions that SFT may take for them fit the model's context.

    Pre-training waits for it as for the prompts. Every row is tokenised, once for all recipes that train on it: two
    million solutions of OpenMathInstruct's length take a core about 12 minutes.
    """

    kind: ClassVar[str] = "demonstrations"
    tokenizer: AnyTokenizer
    source: Demonstrations
    seed: int  # on which the one solution of a question depends
    context: int

    def label(self) -> str:
        which = "all solutions" if self.source.solutions == "all" else f"the one solution of seed {self.seed}"
        return f"length of {self.source.task.name} questions with {which}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = open_tokenizer(self.tokenizer, store)
        rows = solved(self.source, self.seed, tokenizer)
        longest, problem = max((len(prompt) + len(target) - 1, p.id) for p, prompt, target in rows)
        if longest > self.context:
            raise ValueError(
                f"problem {problem} and its solution are {longest} tokens, the longest that {self.source.task.name} "
                f"has for SFT; the model's context is {self.context}: set model.context={longest} or more, or leave "
                "that solution out of the data"
            )
        write_atomic(folder / "demonstrations.json", json.dumps({"longest": longest}, allow_nan=False) + "\n")


@dataclass(frozen=True)
class SourceNode(Node):
    """Nothing but the knowledge that the first batches of a source of the user's own can be trained on.

    Pre-training waits for it as for the prompts. A source that looks at the model or samples from it cannot be drawn
    from before there is one: of such a source nothing is known here, and its batches are checked as they are drawn.
    """

    kind: ClassVar[str] = "source"
    tokenizer: AnyTokenizer
    model: ModelConfig
    stream: Stream
    stage: str
    steps: int
    seeds: tuple[int, ...]

    def label(self) -> str:
        return f"first batches of {type(self.stream.source).__name__}, stream {self.stream.name} of {self.stage}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = open_tokenizer(self.tokenizer, store)
        shape = replace(self.model, vocab_size=self.model.vocab_size or tokenizer.vocab_size)
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
        write_atomic(folder / "source.json", json.dumps({"longest": longest or None}, allow_nan=False) + "\n")


class _NeedsTheModel(Exception):
    """A source asked for what is there only in training."""


class _NotYet:
    """In place of a model or an engine that is not there yet: it has the model's shape and nothing else."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def __getattr__(self, name: str) -> Any:
        raise _NeedsTheModel

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise _NeedsTheModel


class _NotYetRead(Mapping[str, Any]):
    """The same of what a training node reads beside."""

    def __getitem__(self, name: str) -> Any:
        raise _NeedsTheModel

    def __iter__(self) -> Iterator[str]:
        raise _NeedsTheModel

    def __len__(self) -> int:
        raise _NeedsTheModel


Check = PromptsNode | DemonstrationsNode | SourceNode
