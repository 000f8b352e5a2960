"""The work of a node, before it runs: FLOPs by phase, and the bytes that stay on disk.

FLOPs are those of ``foray.model.flops``, which the ledger counts too. Lengths that are not known beforehand are taken
from the task's own solutions. Every group of rollouts counts as one that carries a signal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from foray.core.lora import LoRA
from foray.core.schedules import worked
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import Stream
from foray.core.task import Split, Task, few_shot_examples
from foray.data.prepared import Prepared
from foray.model import flops
from foray.model.config import ModelConfig
from foray.study.kinds.measures import ContaminationNode, PassKNode, PerplexityNode, ProbesNode, TaskTextNode
from foray.study.kinds.models import ImportNode, MergeNode
from foray.study.kinds.tokens import ShardNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.without_files import QUESTION, SOLUTION


@dataclass(frozen=True)
class Draw:
    """One call of an engine: ``groups`` prompts of ``prompt`` tokens, the first ``shared`` of them the same in all.

    Every prompt has ``size`` completions, ``mean`` tokens long and at most ``longest``. A number has ``value`` bytes.
    """

    groups: int
    size: int
    prompt: float
    shared: float
    mean: float
    longest: int
    value: int

    def phases(self, model: ModelConfig) -> dict[str, float]:
        """FLOPs."""
        shared = round(self.shared)
        once = flops.forward(model, shared, flops.pairs(0, shared), 0)
        prefill, decode = flops.sampling(model, [round(self.prompt)], [[round(self.mean)] * self.size], shared)
        return {"prefill": once + self.groups * (prefill - once), "decode": self.groups * decode}


@dataclass(frozen=True)
class Update:
    """One update of a stream: FLOPs of the trainer's passes by phase, and the draw that ``per_draw`` updates share.

    ``rows`` is what ranks can share out: sequences, or groups of rollouts.
    """

    rows: int
    tokens: float
    phases: Mapping[str, float]
    draw: Draw | None = None
    per_draw: int = 1


@dataclass(frozen=True)
class Work:
    """FLOPs by phase (update, behaviour, prefill, decode, score), and bytes that stay on disk."""

    phases: Mapping[str, float] = field(default_factory=dict)
    disk: float = 0.0

    @property
    def flops(self) -> float:
        return sum(self.phases.values())


def node_work(node: Node) -> Work:
    """The work of one node, with everything before it there."""
    if isinstance(node, TrainNode):
        return _training(node)
    if isinstance(node, PassKNode):
        draw, rows = answers(node), node.problems * node.samples
        return Work(draw.phases(node.checkpoint.shape), rows * (4 * draw.mean + 90))
    if isinstance(node, PerplexityNode):
        model = node.checkpoint.shape
        windows = sum(s.max_tokens for s in node.shards) / node.length
        work = windows * flops.forward(model, node.length, flops.pairs(0, node.length), node.length)
        return Work({"score": work}, 1e3)
    if isinstance(node, TaskTextNode):
        model, length = node.checkpoint.shape, sum(lengths(node.task, 0))
        return Work({"score": node.problems * flops.forward(model, length, flops.pairs(0, length), length)}, 1e3)
    if isinstance(node, ProbesNode):
        model = node.checkpoint.shape
        questions = len(node.probes.names) * node.probes.questions
        # About four choices of some ten tokens each behind a context of thirty.
        work = questions * flops.forward(model, 70, flops.pairs(0, 30) + 4 * flops.pairs(30, 40), 40)
        return Work({"score": work}, 2e4)
    if isinstance(node, MergeNode | ImportNode):  # bytes that come over the network are not counted
        return Work(disk=4.0 * node.shape.parameters)
    if isinstance(node, ShardNode):  # a prepared corpus is read where it lies
        return Work(disk=0.0 if isinstance(node.source, Prepared) else 2.0 * node.max_tokens)
    return Work(disk=1e4 if isinstance(node, ContaminationNode) else 1e5)


def _training(node: TrainNode) -> Work:
    phases, model = dict[str, float](), node.shape
    for stream, count in turns(node):
        update = update_of(stream, model, node.stage.lora)
        drawn = update.draw.phases(model) if update.draw else {}
        for phase, n in (*update.phases.items(), *((phase, n / update.per_draw) for phase, n in drawn.items())):
            phases[phase] = phases.get(phase, 0.0) + n * count
    moments = 0 if node.step == node.stage.steps else 2 * len(node.stage.streams)  # kept inside a stage
    lora = node.stage.lora
    adapters = 0 if lora is None else model.adapter_parameters(lora)
    return Work(phases, 4.0 * (model.parameters + adapters + (adapters or model.parameters) * moments))


def turns(node: TrainNode) -> list[tuple[Stream, int]]:
    """Every stream, members of joint ones too, and at how many of the node's own updates the stream works.

    The node's own updates are those behind the kept step before it.
    """
    stage, before = node.stage, node.first()
    return [
        (member, worked((weight, inner), node.step, stage.steps) - worked((weight, inner), before, stage.steps))
        for weight, stream in stage.streams
        for inner, member in stream.members
    ]


def update_of(stream: Stream, model: ModelConfig, lora: LoRA | None = None) -> Update:
    """One update of a stream, of all weights or of adapters; of a source of the user's own nothing is known."""
    source = stream.source
    if isinstance(source, Corpus):
        row = flops.update(model, source.length, flops.pairs(0, source.length), source.length, lora)
        return Update(source.batch_size, source.tokens_per_step, {"update": source.batch_size * row})
    if isinstance(source, Demonstrations):
        prompt, target = lengths(source.task, 0)
        length, rows = prompt + target, source.batch_size
        row = flops.update(model, length, flops.pairs(0, length), target, lora)
        return Update(rows, rows * length, {"update": rows * row})
    if isinstance(source, Rollouts):
        prompt, target = lengths(source.task, 0)
        size, per_draw, value = source.group_size, source.updates_per_draw, bytes_of(stream.precision)
        draw = Draw(source.prompts, size, prompt, 0.0, target, source.max_new_tokens, value)
        rows = source.prompts // per_draw
        tokens, scored = prompt + size * target, size * target
        seen = flops.pairs(0, prompt) + size * flops.pairs(prompt, prompt + target)
        # The behavior's pass is over the whole draw, and its updates share it.
        again = source.rescored(stream.precision) and per_draw > 1
        forward = rows * flops.forward(model, tokens, seen, scored)
        own = {"behaviour": forward} if again else {}
        # A KL term asks the reference for every token.
        own |= {"score": forward} if getattr(stream.objective, "needs_reference", False) else {}
        update = {"update": rows * flops.update(model, tokens, seen, scored, lora)}
        return Update(rows, rows * tokens, update | own, draw, per_draw)
    return Update(1, 0.0, {})


def answers(node: PassKNode) -> Draw:
    """The samples of an evaluation. All prompts share the few-shot examples."""
    prompt, target = lengths(node.task, node.shots)
    shared = prompt - lengths(node.task, 0)[0]
    return Draw(node.problems, node.samples, prompt, shared, target, node.max_new_tokens, bytes_of(node.precision))


def bytes_of(precision: str) -> int:
    """Of a number."""
    return 2 if precision == "bf16" else 4


def lengths(task: Task, shots: int) -> tuple[float, float]:
    """Mean tokens of a prompt and of a solution, counted as words, numbers and marks of 32 training problems.

    Of another split's where there are no training problems: a task may be evaluated only.
    """
    return _lengths(task, shots)  # type: ignore[arg-type]


@lru_cache(maxsize=32)
def _lengths(task: Task, shots: int) -> tuple[float, float]:
    splits: tuple[Split, ...] = ("train", "test", "validation")
    problems = next((found for split in splits if (found := task.problems(split, 32))), ())
    if not problems:
        return QUESTION, SOLUTION
    examples = few_shot_examples(task, shots, 0)
    prompts = [_pieces(task.prompt(p.question, examples)) for p in problems]
    targets = [_pieces(task.target(p.solutions[0])) + 1 for p in problems if p.solutions] or [64]
    return sum(prompts) / len(prompts), sum(targets) / len(targets)


def _pieces(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]|\n", text))
