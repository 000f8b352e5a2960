"""What a node costs before it runs: FLOPs by phase, disk, peak memory and time, by stated formulas.

FLOPs are the ledger's (``foray.model.flops``), with lengths that are not known beforehand taken from the task's own
solutions, and every group of rollouts taken to carry a signal. Time is FLOPs over the rate at which this machine
multiplies matrices, times the share of that rate which a phase reaches, plus a node's start.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from foray.core.machine import MICROBATCH
from foray.core.stage import Corpus, Demonstrations, Rollouts, Stream
from foray.core.task import Task, few_shot_examples
from foray.model import flops
from foray.model.config import ModelConfig
from foray.study.kinds.measures import ContaminationNode, PassKNode, PerplexityNode, ProbesNode
from foray.study.kinds.models import ImportNode, MergeNode
from foray.study.kinds.tokens import ShardNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.train.activations import activation_bytes

_PROCESS_BYTES = 450e6  # Python with torch loaded

# Shares of the rate of plain matrix products that the phases of `tiny` reach on two x86 cores, one thread each. Larger
# models reach more.
EFFICIENCY = {"update": 0.55, "prefill": 0.5, "decode": 0.25, "behaviour": 0.55, "reference": 0.5, "score": 0.55}
START_SECONDS = {"train": 0.3, "passk": 0.3, "probes": 0.8, "perplexity": 0.1, "shard": 1.0, "tokenizer": 1.0}
_SECONDS_A_TOKEN = 1e-6  # to read text back and look questions up in it


@dataclass(frozen=True)
class Cost:
    """FLOPs by phase, bytes that stay on disk, bytes of memory at the peak, seconds that are no FLOPs."""

    work: Mapping[str, float] = field(default_factory=dict)
    disk: float = 0.0
    memory: float = _PROCESS_BYTES
    start: float = 0.1

    @property
    def flops(self) -> float:
        return sum(self.work.values())

    def seconds(self, rate: float) -> float:
        """On a machine whose matrix products make ``rate`` FLOPs a second."""
        return self.start + sum(n / (rate * EFFICIENCY[phase]) for phase, n in self.work.items())


def node_cost(node: Node, vocab_size: int) -> Cost:
    """The cost of running the node alone, with everything before it there."""
    start = START_SECONDS.get(node.kind, 0.1)
    if isinstance(node, ContaminationNode):
        start += _SECONDS_A_TOKEN * sum(s.max_tokens for s in node.shards)
    return replace(_node_cost(node, vocab_size), start=start)


def _node_cost(node: Node, vocab_size: int) -> Cost:
    if isinstance(node, TrainNode):
        return _train_cost(node, sized(node.model, vocab_size))
    if isinstance(node, PassKNode):
        return _passk_cost(node, sized(node.checkpoint.model, vocab_size))
    if isinstance(node, PerplexityNode):
        model = sized(node.checkpoint.model, vocab_size)
        windows = sum(s.max_tokens for s in node.shards) / node.length
        work = windows * flops.forward(model, node.length, flops.pairs(0, node.length), node.length)
        return Cost({"score": work}, 1e3, _PROCESS_BYTES + 4 * model.parameters)
    if isinstance(node, ProbesNode):
        model = sized(node.checkpoint.model, vocab_size)
        questions = len(node.probes.names) * node.probes.questions
        # About four choices of some ten tokens each behind a context of thirty.
        work = questions * flops.forward(model, 70, flops.pairs(0, 30) + 4 * flops.pairs(30, 40), 40)
        return Cost({"score": work}, 2e4, _PROCESS_BYTES + 3e8)
    if isinstance(node, MergeNode):
        size = 4.0 * sized(node.model, vocab_size).parameters
        return Cost(disk=size, memory=_PROCESS_BYTES + (1 + len(node.branches)) * size)
    if isinstance(node, ImportNode):
        size = 4.0 * node.model.parameters  # what comes over the network depends on its precision and is not counted
        return Cost(disk=size, memory=_PROCESS_BYTES + 2 * size)
    if isinstance(node, ContaminationNode):
        return Cost(disk=1e4, memory=_PROCESS_BYTES + 2e8)
    if isinstance(node, ShardNode):
        return Cost(disk=2.0 * node.max_tokens)
    return Cost(disk=1e5)


def machine_rate(model: ModelConfig, vocab_size: int, threads: int = 1) -> float:
    """FLOPs a second of this machine's matrix products at the model's shapes, measured in about a second."""
    import torch

    model = sized(model, vocab_size)
    shapes = {(model.width, model.width), (model.width, model.mlp_width), (model.width, model.vocab_size)}
    rows = max(64, min(1024, round(2e9 / sum(a * b for a, b in shapes))))  # few for large models
    pairs = [(torch.randn(rows, a), torch.randn(a, b)) for a, b in shapes]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = []
        for _ in range(9):
            begun = time.perf_counter()
            for x, w in pairs:
                x @ w
            seconds.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return 2.0 * rows * sum(a * b for a, b in shapes) / sorted(seconds)[len(seconds) // 2]


def wall_seconds(nodes: Sequence[Node], seconds: Mapping[str, float], jobs: int) -> float:
    """How long ``jobs`` workers take for nodes of the given seconds (by key), each behind its parents.

    At least the sum shared out evenly, at least the longest path; the plan takes the larger.
    """
    path: dict[str, float] = {}
    for node in nodes:  # parents come before children
        path[node.key] = seconds[node.key] + max((path.get(p.key, 0.0) for p in node.parents()), default=0.0)
    return max(sum(seconds[n.key] for n in nodes) / jobs, max(path.values(), default=0.0))


def sized(model: ModelConfig, vocab_size: int) -> ModelConfig:
    """The model with the tokenizer's number of entries where its own is open."""
    return model if model.vocab_size else replace(model, vocab_size=vocab_size)


def _train_cost(node: TrainNode, model: ModelConfig) -> Cost:
    steps = updates(node)
    work: dict[str, float] = {}
    for stream in node.stage.members():
        for phase, n in update_work(stream, model).items():
            work[phase] = work.get(phase, 0.0) + n * steps
    streams = len(node.stage.streams)
    kept = 4.0 * model.parameters * (1 if node.step == node.stage.steps else 1 + 2 * streams)
    activations = activation_bytes(model, MICROBATCH["cpu"])
    memory = _PROCESS_BYTES + 4.0 * model.parameters * (3 + 3 * streams) + activations
    return Cost(work, kept, memory)


def updates(node: TrainNode) -> int:
    """Updates that the node makes itself, behind the kept step before it."""
    return node.step - (node.after.step if node.after is not None else 0)


def update_work(stream: Stream, model: ModelConfig) -> dict[str, float]:
    """FLOPs of one update by phase."""
    source = stream.source
    both = 1 + flops.BACKWARD
    if isinstance(source, Corpus):
        row = flops.forward(model, source.length, flops.pairs(0, source.length), source.length)
        return {"update": both * source.batch_size * row}
    if isinstance(source, Demonstrations):
        prompt, target = lengths(source.task, 0)
        row = flops.forward(model, prompt + target, flops.pairs(0, prompt + target), target)
        return {"update": both * source.batch_size * row}
    if isinstance(source, Rollouts):
        prompt, target = lengths(source.task, 0)
        groups, size = source.prompts / source.updates_per_draw, source.group_size
        prefill, decode = flops.sampling(model, [round(prompt)], [[round(target)] * size], 0)
        rows = flops.forward(model, target, flops.pairs(prompt, prompt + target), target)
        update = flops.forward(model, prompt, flops.pairs(0, prompt), 0) + size * rows
        work = {"prefill": groups * prefill, "decode": groups * decode, "update": both * groups * update}
        # A pass over the whole draw, shared by its updates.
        own = stream.own_behaviour and source.updates_per_draw > 1
        return work | ({"behaviour": groups * update} if own else {})
    return {}


def _passk_cost(node: PassKNode, model: ModelConfig) -> Cost:
    prompt, target = lengths(node.task, node.shots)
    shared = prompt - lengths(node.task, 0)[0]
    once = flops.forward(model, round(shared), flops.pairs(0, round(shared)), 0)
    prefill, decode = flops.sampling(model, [round(prompt)], [[round(target)] * node.samples], round(shared))
    work = {"prefill": once + node.problems * (prefill - once), "decode": node.problems * decode}
    kv = 2 * 4.0 * model.layers * model.groups * model.head_dim * 512 * node.max_new_tokens
    rows = node.problems * node.samples
    memory = _PROCESS_BYTES + 4 * model.parameters + 2 * kv
    return Cost(work, rows * (4 * target + 90), memory)


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
