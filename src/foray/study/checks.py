"""What is asked before any training: whether all that a study will show its models fits their context."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from foray.core.files import write_atomic
from foray.core.stage import Demonstrations
from foray.core.task import Split, Task, few_shot_examples
from foray.rollout.engine import Sampling, check_context
from foray.study.nodes import AnyTokenizer, Node, Report, open_tokenizer
from foray.study.store import Store
from foray.train.sources import solved


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


Check = PromptsNode | DemonstrationsNode
