"""One node on some ranks of given hardware: memory a rank and seconds, by stated formulas.

A phase takes as long as the slowest of three things: its matrix products, the bytes that the phase reads (decode reads
all weights and the KV cache for every token), and the starts of its kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from foray.core.sources import Corpus
from foray.model.config import ModelConfig
from foray.study.kinds.measures import ContaminationNode, OfCheckpoint, PassKNode
from foray.study.kinds.models import ImportNode, MergeNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.price.cards import BANDWIDTH_SHARE, USABLE, Card, Hardware, powers_of_two
from foray.study.price.work import Draw, answers, bytes_of, node_work, turns, update_of
from foray.train.activations import activation_bytes, logit_bytes

MOST_RANKS = 1024  # no larger number is tried
# Seconds of a node besides its work, on a processor.
_STARTS = {"train": 0.3, "passk": 0.3, "probes": 0.8, "shard": 1.0, "tokenizer": 1.0}
_SECONDS_A_TOKEN = 1e-6  # to read text back and to look up questions in the text

PRETRAINING, UPDATES, SAMPLING, EVALUATION = "pre-training", "excursions: updates", "excursions: sampling", "evaluation"
PREPARATION = "preparation"  # tokenizing, checking, merging, importing: no card is needed
PHASES = (PRETRAINING, UPDATES, SAMPLING, EVALUATION)


@dataclass(frozen=True)
class Memory:
    """Bytes a rank at the peak. Weights, moments, gradients and the reference model are fp32 shards.

    Moments and gradients are those of ``trained`` weights, all or the adapters'.
    ``gathered``: the whole layers that a sharded pass works with. ``engine``: the engine's own copies of the weights.
    """

    weights: float = 0.0
    moments: float = 0.0
    gradients: float = 0.0
    reference: float = 0.0
    gathered: float = 0.0
    activations: float = 0.0
    engine: float = 0.0
    cache: float = 0.0
    process: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(getattr(self, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Placement:
    """A node on ``ranks`` cards (0: it needs no card): seconds by phase, memory a rank, whether the node fits."""

    node: Node
    ranks: int
    seconds: Mapping[str, float]
    memory: Memory
    fits: bool = True

    @property
    def wall(self) -> float:
        """Seconds from the node's start to its end."""
        return sum(self.seconds.values())


def place(node: Node, hardware: Hardware, ranks: int = 1) -> Placement:
    """The node on ``ranks`` cards."""
    card, start = hardware.card, _start_seconds(node, hardware)
    none = Memory(process=card.process)
    if isinstance(node, TrainNode):
        model = node.shape
        draws = [draw for s in node.stage.members() if (draw := update_of(s, model).draw) is not None]
        memory, together = _with_cache(_training_memory(node, model, hardware, ranks), model, draws, card, ranks)
        updating, sampling = _training(node, model, hardware, ranks, max(1, together))
        phase = UPDATES if node.parent is not None else PRETRAINING
        seconds = {phase: start + updating, SAMPLING: sampling}
        return Placement(node, ranks, seconds, memory, _fits(memory, card, together))
    if isinstance(node, PassKNode):
        model, draw = node.checkpoint.shape, answers(node)
        engine = 2.0 * model.parameters if draw.value == 2 else 0.0  # in fp32 the engine has no copies of its own
        memory = replace(none, weights=4.0 * model.parameters, engine=engine)
        memory, together = _with_cache(memory, model, [draw], card, ranks)
        asked = start + _sampling(model, draw, card, ranks, max(1, together))
        return Placement(node, ranks, {EVALUATION: asked}, memory, _fits(memory, card, together))
    if isinstance(node, OfCheckpoint):
        model = node.checkpoint.shape
        logits = logit_bytes(model, hardware.microbatch_tokens)
        memory = replace(none, weights=4.0 * model.parameters, activations=logits)
        scored = start + card.seconds(node_work(node).phases, 4)
        return Placement(node, ranks, {EVALUATION: scored}, memory, _fits(memory, card, 1))
    if isinstance(node, MergeNode | ImportNode):
        copies = 1 + len(node.branches) if isinstance(node, MergeNode) else 2
        none = replace(none, weights=copies * 4.0 * node.shape.parameters)
    return Placement(node, int(hardware.here), {PREPARATION: start}, none)


def _start_seconds(node: Node, hardware: Hardware) -> float:
    """Seconds of a node besides its work."""
    read = _SECONDS_A_TOKEN * sum(s.max_tokens for s in node.shards) if isinstance(node, ContaminationNode) else 0.0
    return hardware.card.start if node.on_card and not hardware.here else read + _STARTS.get(node.kind, 0.1)


def cheapest(node: Node, hardware: Hardware) -> Placement:
    """The node on the number of ranks (a power of two, at most the cards) that costs the fewest GPU seconds.

    A number counts only if the node fits. If the node fits on no number, the result is for the largest number.
    """
    if not node.on_card:
        return place(node, hardware)
    made = [place(node, hardware, ranks) for ranks in hardware.ranks]
    return min((p for p in made if p.fits), key=lambda p: p.ranks * p.wall, default=made[-1])


def fewest_ranks(node: Node, hardware: Hardware) -> int | None:
    """The smallest power of two on which the node fits, whatever the number of cards; None if the node fits on none."""
    tried = powers_of_two(MOST_RANKS)
    return next((ranks for ranks in tried if place(node, hardware, ranks).fits), None)


def most_ranks(node: Node) -> int:
    """The most ranks that have work: the rows of the smallest batch, or the problems."""
    if isinstance(node, TrainNode):
        return min(update_of(s, node.shape).rows for s in node.stage.members())
    return node.problems if isinstance(node, PassKNode) else 1


def _cache_bytes(model: ModelConfig, draw: Draw) -> float:
    """Keys and values of one position."""
    return 2.0 * draw.value * model.layers * model.groups * model.head_dim


def _training_memory(node: TrainNode, model: ModelConfig, hardware: Hardware, ranks: int) -> Memory:
    shard, streams, lora = 4.0 * model.parameters / ranks, len(node.stage.streams), node.stage.lora
    adapters = 0.0 if lora is None else 4.0 * model.adapter_parameters(lora) / ranks
    members = list(node.stage.members())
    value = max(bytes_of(s.precision) for s in members)
    samples = any(update_of(s, model).draw is not None for s in members)
    # FSDP gathers a layer while the layer before computes. The embeddings, in fp32, stay gathered for the whole pass.
    embeddings = (1 if model.tied else 2) * model.vocab_size * model.width
    gathered = 2.0 * value * model.layer_matrices + 4.0 * embeddings
    # If a rank has all weights, the engine samples with these weights; in bf16 with copies of the matrices. Its
    # weights with adapters merged are a copy. On one rank the reference and the adapters share the frozen weights.
    alone = ranks == 1
    copies = 4.0 * model.parameters * (not alone or lora is not None) + 2.0 * model.parameters * (value == 2)
    longest = max((s.source.length for s in members if isinstance(s.source, Corpus)), default=0)
    return Memory(
        weights=shard + adapters,
        moments=2 * (adapters or shard) * streams,
        gradients=(adapters or shard) * streams,
        reference=shard if samples and not (alone and lora) else 0.0,
        gathered=gathered if ranks > 1 else 0.0,
        activations=activation_bytes(model, max(hardware.microbatch_tokens, longest), value, hardware.recompute),
        engine=copies if samples else 0.0,
        process=hardware.card.process,
    )


def _with_cache(memory: Memory, model: ModelConfig, draws: list[Draw], card: Card, ranks: int) -> tuple[Memory, int]:
    """The memory with the KV cache of the groups that an engine samples together, and the number of these groups.

    The number is the least over all draws of two: the groups within ``in_flight``, the groups that memory has room for;
    a rank may have fewer. 0: memory has no room for one group of some draw.
    """
    together, cache = list[int](), 0.0
    for draw in draws:
        position = _cache_bytes(model, draw)
        group = position * (draw.prompt - draw.shared + draw.size * draw.longest)
        room = USABLE * card.memory - memory.total - position * draw.shared
        most = max(1, card.in_flight // draw.size)
        if most * group > room:
            most = max(0, math.floor(room / group))
        together.append(most)
        here = min(math.ceil(draw.groups / ranks), max(1, most))
        cache = max(cache, position * draw.shared + here * group)
    return replace(memory, cache=cache), min(together, default=1)


def _fits(memory: Memory, card: Card, together: int) -> bool:
    return together > 0 and memory.total <= USABLE * card.memory


def _training(
    node: TrainNode, model: ModelConfig, hardware: Hardware, ranks: int, together: int
) -> tuple[float, float]:
    """Seconds of the updates and of sampling."""
    card, again = hardware.card, 4 / 3 if hardware.recompute else 1.0  # recomputing adds one forward pass to three
    updating, sampling = 0.0, 0.0
    for stream, count in turns(node):
        update, value = update_of(stream, model, node.stage.lora), bytes_of(stream.precision)
        share = math.ceil(update.rows / ranks) / update.rows  # the share of the rank with the most rows
        passes = 3 + ("behaviour" in update.phases)  # a backward pass counts twice
        passes *= math.ceil(share * update.tokens / hardware.microbatch_tokens)
        work = {phase: share * n * (again if phase == "update" else 1.0) for phase, n in update.phases.items()}
        updating += count * max(card.seconds(work, value), passes * model.layers * card.launch)
        if update.draw is not None:
            sampling += count * _sampling(model, update.draw, card, ranks, together) / update.per_draw
    return updating, sampling


def _sampling(model: ModelConfig, draw: Draw, card: Card, ranks: int, together: int) -> float:
    """Seconds of one call of the engine, with at most ``together`` groups of rows at a time on every rank.

    A step gives every row in flight a token. The step reads all weights, and the keys and values of each row's prompt
    and own tokens. A finished row makes room for the next row. The last steps are those of the longest completion.
    """
    groups = math.ceil(draw.groups / ranks)
    share, rows, in_flight = groups / draw.groups, groups * draw.size, min(together, groups) * draw.size
    steps = draw.longest + (rows - in_flight) * draw.mean / in_flight
    weights = draw.value * (model.layers * model.layer_matrices + model.vocab_size * model.width)
    read = steps * weights + rows * draw.mean * (draw.prompt + draw.mean / 2) * _cache_bytes(model, draw)
    products = {phase: card.seconds({phase: share * n}, draw.value) for phase, n in draw.phases(model).items()}
    by_bytes, by_launches = read / (BANDWIDTH_SHARE * card.bandwidth), steps * model.layers * card.launch
    return products["prefill"] + max(products["decode"], by_bytes, by_launches)
