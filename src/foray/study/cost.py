"""What a node costs before it runs: FLOPs, disk and peak memory, by stated formulas.

FLOPs are 2 a multiply-add over layer matrices, the output head and attention (``ModelConfig.forward_flops``); a
backward pass counts twice its forward. Lengths not known beforehand are taken from the task's own solutions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from foray.core.stage import Corpus, Demonstrations, Rollouts, Stream
from foray.core.task import Task, few_shot_examples
from foray.model.config import ModelConfig
from foray.study.nodes import Node, PassKNode, PerplexityNode, ProbesNode, ShardNode, TrainNode
from foray.train.scoring import MICROBATCH_TOKENS

_PROCESS_BYTES = 450e6  # Python with torch loaded


@dataclass(frozen=True)
class Cost:
    """FLOPs, bytes that stay on disk, bytes of memory at the peak."""

    flops: float = 0.0
    disk: float = 0.0
    memory: float = _PROCESS_BYTES


def node_cost(node: Node, vocab_size: int) -> Cost:
    """The cost of running the node alone, with everything before it there."""
    if isinstance(node, TrainNode):
        return _train_cost(node, _sized(node.model, vocab_size))
    if isinstance(node, PassKNode):
        return _passk_cost(node, _sized(node.checkpoint.model, vocab_size))
    if isinstance(node, PerplexityNode):
        model = _sized(node.checkpoint.model, vocab_size)
        tokens = sum(s.max_tokens for s in node.shards)
        return Cost(model.forward_flops(tokens, node.length / 2), 1e3, _PROCESS_BYTES + 4 * model.parameters)
    if isinstance(node, ProbesNode):
        model = _sized(node.checkpoint.model, vocab_size)
        tokens = len(node.probes.names) * node.probes.questions * 4 * 40  # about four choices of some forty tokens
        return Cost(model.forward_flops(tokens, 20), 2e4, _PROCESS_BYTES + 3e8)
    if isinstance(node, ShardNode):
        return Cost(0.0, 2.0 * node.max_tokens)
    return Cost(0.0, 1e5)


def _sized(model: ModelConfig, vocab_size: int) -> ModelConfig:
    return model if model.vocab_size else replace(model, vocab_size=vocab_size)


def _train_cost(node: TrainNode, model: ModelConfig) -> Cost:
    steps = node.step - (node.after.step if node.after is not None else 0)
    flops = sum(_update_flops(stream, model) for _, stream in node.stage.streams) * steps
    streams = len(node.stage.streams)
    kept = 4.0 * model.parameters * (1 if node.step == node.stage.steps else 1 + 2 * streams)
    activations = (
        MICROBATCH_TOKENS * (model.layers * (14 * model.width + 4 * model.mlp_width) + 3 * model.vocab_size) * 4.0
    )
    memory = _PROCESS_BYTES + 4.0 * model.parameters * (3 + 3 * streams) + activations
    return Cost(flops, kept, memory)


def _update_flops(stream: Stream, model: ModelConfig) -> float:
    source = stream.source
    if isinstance(source, Corpus):
        return 3 * model.forward_flops(source.tokens_per_step, source.length / 2)
    if isinstance(source, Demonstrations):
        prompt, target = lengths(source.task, 0)
        return 3 * model.forward_flops(round(source.batch_size * (prompt + target)), (prompt + target) / 2)
    if isinstance(source, Rollouts):
        prompt, target = lengths(source.task, 0)
        rows = source.prompts * source.group_size / source.updates_per_draw
        decode = model.forward_flops(round(rows * target), prompt + target / 2)
        prompts = source.prompts / source.updates_per_draw * prompt  # each is processed once for its group
        train = 3 * model.forward_flops(round(prompts + rows * target), prompt + target / 2)
        return decode + train
    return 0.0


def _passk_cost(node: PassKNode, model: ModelConfig) -> Cost:
    prompt, target = lengths(node.task, node.shots)
    rows = node.problems * node.samples
    flops = model.forward_flops(round(rows * target), prompt + target / 2)
    kv = 2 * 4.0 * model.layers * model.width * 512 * node.max_new_tokens
    return Cost(flops, rows * (4 * target + 90), _PROCESS_BYTES + 4 * model.parameters + 2 * kv)


def lengths(task: Task, shots: int) -> tuple[float, float]:
    """Mean tokens of a prompt and of a solution, counted as words, numbers and marks of 32 training problems."""
    return _lengths(task, shots)  # type: ignore[arg-type]


@lru_cache(maxsize=32)
def _lengths(task: Task, shots: int) -> tuple[float, float]:
    problems = task.problems("train", 32)
    examples = few_shot_examples(task, shots, 0)
    prompts = [_pieces(task.prompt(p.question, examples)) for p in problems]
    targets = [_pieces(task.target(p.solutions[0])) + 1 for p in problems if p.solutions] or [64]
    return sum(prompts) / len(prompts), sum(targets) / len(targets)


def _pieces(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]|\n", text))
