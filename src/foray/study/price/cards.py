"""What a node needs on given cards before it runs: ranks, memory a rank and seconds, by stated formulas.

FLOPs are those of ``foray.study.cost``. A phase takes as long as the slowest of three things: its products, the bytes
that it reads (decode reads all weights and the KV cache for every token), and starting its kernels. All assumptions
are constants of this file and of ``docs/hardware.md``, and ``foray plan --hardware`` prints them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from foray.core.canonical import nearest, require
from foray.core.machine import MICROBATCH, Machine
from foray.core.stage import Corpus, Demonstrations, Rollouts, Stream
from foray.model.config import ModelConfig
from foray.study.kinds.measures import PassKNode, PerplexityNode, ProbesNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.price.cost import lengths, node_cost, sized, update_work, updates
from foray.train.activations import activation_bytes, logit_bytes


@dataclass(frozen=True)
class Card:
    """An accelerator by its datasheet: FLOPs a second of dense matrix products in bf16 and of fp32 without tensor
    cores, bytes of memory, bytes a second from memory."""

    bf16: float
    fp32: float
    memory: float
    bandwidth: float


# Datasheets give the rates of tensor cores with sparsity; the dense ones here are half of those.
CARDS = {
    "a100": Card(312e12, 19.5e12, 80e9, 2.039e12),  # NVIDIA A100 80GB SXM datasheet
    "h100": Card(989e12, 67e12, 80e9, 3.35e12),  # NVIDIA H100 SXM datasheet
    "h200": Card(989e12, 67e12, 141e9, 4.8e12),  # NVIDIA H200 SXM datasheet
    "b200": Card(2250e12, 75e12, 180e9, 7.7e12),  # NVIDIA HGX B200 datasheet, an eighth of its eight cards
    "l40s": Card(362e12, 91.6e12, 48e9, 0.864e12),  # NVIDIA L40S datasheet
    "rtx4090": Card(165e12, 82.6e12, 24e9, 1.008e12),  # NVIDIA Ada architecture whitepaper, fp32 sums
    "mi300x": Card(1307e12, 163e12, 192e9, 5.3e12),  # AMD Instinct MI300X data sheet
}

MACHINE = 8  # cards a machine
# Of the peak, in every matrix product. OLMo-core reports 55,000 tokens/s a card for OLMo 2 1B on H100s (its README,
# version 1.6), by this ledger's FLOPs 47%.
MFU = 0.45
# Of the datasheet's bandwidth, in decode. gpt-fast reports 1,397 of 2,039 GB/s, 69%, for one row of a 7B model on an
# A100 (its README); real batches have ragged rows.
BANDWIDTH_SHARE = 0.6
USABLE = 0.9  # of a card's memory; the rest goes to the driver and to fragments
LAUNCH_SECONDS = 50e-6  # a layer and pass: about ten kernels of 5 µs, however small they are
START_SECONDS = 30.0  # a node: loading a model, saving a model
ROWS_IN_FLIGHT = 512  # completions that an engine samples together at most
MOST_RANKS = 1024  # beyond which nothing is tried

PRETRAINING, UPDATES, SAMPLING, EVALUATION = "pre-training", "excursions: updates", "excursions: sampling", "evaluation"
PHASES = (PRETRAINING, UPDATES, SAMPLING, EVALUATION)


@dataclass(frozen=True)
class Hardware:
    """``count`` cards of one kind, and how a pass uses one (``foray.core.machine``)."""

    name: str
    count: int
    microbatch_tokens: int = MICROBATCH["cuda"]
    recompute: bool = False

    @property
    def card(self) -> Card:
        return CARDS[self.name]


def parse_hardware(text: str, machine: Machine | None = None) -> Hardware:
    """``h100x8``: eight H100, with the settings of ``machine``. Raises ValueError with the nearest valid card."""
    text = text.strip().lower()
    found = None if text in CARDS else re.fullmatch(r"(.+)x([0-9]{1,6})", text)
    name = found[1] if found else text
    require(name in CARDS, f"--hardware {text}: there is no card {name!r}{nearest(name, CARDS)}")
    count = int(found[2]) if found else 0
    require(count > 0, f"--hardware {text}: say how many cards, such as {name}x{MACHINE}")
    machine = machine or Machine()
    return Hardware(name, count, machine.microbatch_tokens or MICROBATCH["cuda"], machine.recompute)


@dataclass(frozen=True)
class Memory:
    """Bytes a rank at the peak. Weights, moments, gradients and the reference model are fp32 shards; ``gathered`` are
    the whole layers that a sharded pass works with; ``engine`` are its own copies of the weights."""

    weights: float = 0.0
    moments: float = 0.0
    gradients: float = 0.0
    reference: float = 0.0
    gathered: float = 0.0
    activations: float = 0.0
    engine: float = 0.0
    cache: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(getattr(self, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Load:
    """A node on ``ranks`` cards (0: it needs none): seconds by phase, memory a rank, whether that is there."""

    node: Node
    ranks: int
    seconds: Mapping[str, float]
    memory: Memory
    fits: bool

    @property
    def wall(self) -> float:
        """Seconds from its start to its end."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class _Draw:
    """One call of the engine: ``groups`` prompts of ``prompt`` tokens, the first ``shared`` of them the same in all;
    ``size`` completions each, ``mean`` tokens long; ``value`` bytes a number."""

    groups: int
    size: int
    prompt: float
    shared: float
    mean: float
    longest: int
    value: int


def load(node: Node, vocab_size: int, hardware: Hardware, ranks: int) -> Load:
    """The node on ``ranks`` cards."""
    card = hardware.card
    if isinstance(node, TrainNode):
        model = sized(node.model, vocab_size)
        draws = [d for s in node.stage.members() if (d := _rollouts(s)) is not None]
        memory, together = _with_cache(_training_memory(node, model, hardware, ranks), model, draws, card, ranks)
        seconds = _training(node, model, hardware, ranks, max(1, together))
        return Load(node, ranks, seconds, memory, _fits(memory, card, together))
    if isinstance(node, PassKNode):
        model, draw = sized(node.checkpoint.model, vocab_size), _answers(node)
        engine = 2.0 * model.parameters if draw.value == 2 else 0.0  # in fp32 it samples with the weights themselves
        memory, together = _with_cache(_asked(model, engine), model, [draw], card, ranks)
        work = node_cost(node, vocab_size).work
        seconds = {EVALUATION: START_SECONDS + _sampling(model, draw, work, card, ranks, max(1, together))}
        return Load(node, ranks, seconds, memory, _fits(memory, card, together))
    if isinstance(node, ProbesNode | PerplexityNode):
        model = sized(node.checkpoint.model, vocab_size)
        memory = replace(_asked(model), activations=logit_bytes(model, hardware.microbatch_tokens))
        seconds = {EVALUATION: START_SECONDS + node_cost(node, vocab_size).flops / _products(card, 4)}
        return Load(node, ranks, seconds, memory, _fits(memory, card, 1))
    return Load(node, 0, {"": node_cost(node, vocab_size).start}, Memory(), True)


def _asked(model: ModelConfig, engine: float = 0.0) -> Memory:
    """Of a checkpoint that is opened whole on every rank."""
    return Memory(weights=4.0 * model.parameters, engine=engine)


def needs_card(node: Node) -> bool:
    """Tokenising, checking, merging and importing are left to the processors."""
    return isinstance(node, TrainNode | PassKNode | ProbesNode | PerplexityNode)


def cheapest(node: Node, vocab_size: int, hardware: Hardware) -> Load:
    """The node on the number of ranks (a power of two, as far as there are cards) that costs the fewest GPU seconds
    among those that it fits on; as on the most where it fits on none."""
    if not needs_card(node):
        return load(node, vocab_size, hardware, 0)
    loads = [load(node, vocab_size, hardware, ranks) for ranks in powers_of_two(hardware.count)]
    return min((made for made in loads if made.fits), key=lambda made: made.ranks * made.wall, default=loads[-1])


def fewest_ranks(node: Node, vocab_size: int, hardware: Hardware) -> int | None:
    """The smallest power of two on which the node fits, however many cards there are; None where none does."""
    tried = powers_of_two(MOST_RANKS)
    return next((ranks for ranks in tried if load(node, vocab_size, hardware, ranks).fits), None)


def powers_of_two(most: float) -> list[int]:
    """1, 2, 4, ... up to ``most``; 1 at least."""
    return [1 << i for i in range(max(1, int(most)).bit_length())]


def most_ranks(node: Node) -> int:
    """Beyond which ranks would have nothing to do: the rows of the smallest batch, the problems."""
    if isinstance(node, TrainNode):
        return min(_rows(s) for s in node.stage.members())
    return node.problems if isinstance(node, PassKNode) else 1


def _rows(stream: Stream) -> int:
    """What a stream's update can be cut into: sequences, or groups of rollouts."""
    source = stream.source
    if isinstance(source, Rollouts):
        return source.prompts // source.updates_per_draw
    return source.batch_size if isinstance(source, Corpus | Demonstrations) else 1


def _tokens(stream: Stream) -> float:
    """Tokens of one update."""
    source = stream.source
    if isinstance(source, Corpus):
        return source.tokens_per_step
    if not isinstance(source, Demonstrations | Rollouts):
        return 0.0
    prompt, target = lengths(source.task, 0)
    if isinstance(source, Demonstrations):
        return source.batch_size * (prompt + target)
    return _rows(stream) * (prompt + source.group_size * target)


def _rollouts(stream: Stream) -> _Draw | None:
    source = stream.source
    if not isinstance(source, Rollouts):
        return None
    prompt, target = lengths(source.task, 0)
    value = _bytes(stream.precision)
    return _Draw(source.prompts, source.group_size, prompt, 0.0, target, source.max_new_tokens, value)


def _answers(node: PassKNode) -> _Draw:
    prompt, target = lengths(node.task, node.shots)
    shared = prompt - lengths(node.task, 0)[0]
    value = _bytes(node.precision)
    return _Draw(node.problems, node.samples, prompt, shared, target, node.max_new_tokens, value)


def _bytes(precision: str) -> int:
    """Of a number."""
    return 2 if precision == "bf16" else 4


def _products(card: Card, value: int) -> float:
    """FLOPs a second that matrix products reach in numbers of ``value`` bytes."""
    return MFU * (card.bf16 if value == 2 else card.fp32)


def _cache_bytes(model: ModelConfig, draw: _Draw) -> float:
    """Keys and values of one position."""
    return 2.0 * draw.value * model.layers * model.groups * model.head_dim


def _training_memory(node: TrainNode, model: ModelConfig, hardware: Hardware, ranks: int) -> Memory:
    shard, streams = 4.0 * model.parameters / ranks, len(node.stage.streams)
    members = list(node.stage.members())
    value = max(_bytes(s.precision) for s in members)
    samples = any(isinstance(s.source, Rollouts) for s in members)
    # FSDP gathers a layer while the one before it is at work, and the embeddings, in fp32, for the whole pass.
    embeddings = (1 if model.tied else 2) * model.vocab_size * model.width
    gathered = 2.0 * value * model.layer_matrices + 4.0 * embeddings
    # An engine samples with the weights themselves where a rank has them all; in bf16 with copies of the matrices.
    copies = 4.0 * model.parameters * (ranks > 1) + 2.0 * model.parameters * (value == 2)
    longest = max((s.source.length for s in members if isinstance(s.source, Corpus)), default=0)
    return Memory(
        weights=shard,
        moments=2 * shard * streams,
        gradients=shard * streams,
        reference=shard if samples else 0.0,
        gathered=gathered if ranks > 1 else 0.0,
        activations=activation_bytes(model, max(hardware.microbatch_tokens, longest), value, hardware.recompute),
        engine=copies if samples else 0.0,
    )


def _with_cache(memory: Memory, model: ModelConfig, draws: list[_Draw], card: Card, ranks: int) -> tuple[Memory, int]:
    """The memory with the KV cache of as many groups as an engine samples together, and how many those are.

    As many as a rank has, as ``ROWS_IN_FLIGHT`` allows and as there is room for; 0: there is no room for one.
    """
    together, cache = 1, 0.0
    for draw in draws:
        position = _cache_bytes(model, draw)
        group = position * (draw.prompt - draw.shared + draw.size * draw.longest)
        room = USABLE * card.memory - memory.total - position * draw.shared
        wanted = min(math.ceil(draw.groups / ranks), max(1, ROWS_IN_FLIGHT // draw.size))
        together = max(0, min(wanted, math.floor(room / group)))
        cache = max(cache, position * draw.shared + max(1, together) * group)
    return replace(memory, cache=cache), together


def _fits(memory: Memory, card: Card, together: int) -> bool:
    return together > 0 and memory.total <= USABLE * card.memory


def _training(node: TrainNode, model: ModelConfig, hardware: Hardware, ranks: int, together: int) -> dict[str, float]:
    """Seconds by phase."""
    card, again = hardware.card, 4 / 3 if hardware.recompute else 1.0  # one more forward pass to three
    steps, phase = updates(node), UPDATES if node.parent is not None else PRETRAINING
    trained, sampled = START_SECONDS, 0.0
    for stream in node.stage.members():
        work, value = update_work(stream, model), _bytes(stream.precision)
        rows = _rows(stream)
        share = math.ceil(rows / ranks) / rows  # of the rank with the most rows
        behaviour = work.get("behaviour", 0.0)
        passes = 3 + (behaviour > 0)  # a backward pass counts twice
        passes *= math.ceil(share * _tokens(stream) / hardware.microbatch_tokens)
        products = share * (again * work.get("update", 0.0) + behaviour) / _products(card, value)
        trained += steps * max(products, passes * model.layers * LAUNCH_SECONDS)
        draw = _rollouts(stream)
        if draw is not None:
            a_draw = stream.source.updates_per_draw
            whole = {name: n * a_draw for name, n in work.items()}
            sampled += steps / a_draw * _sampling(model, draw, whole, card, ranks, together)
    return {phase: trained, SAMPLING: sampled}


def _sampling(
    model: ModelConfig, draw: _Draw, work: Mapping[str, float], card: Card, ranks: int, together: int
) -> float:
    """Seconds of one call of the engine, with at most ``together`` groups of rows at a time on every rank.

    A step gives every row in flight a token: it reads all weights, and each row its prompt and its own tokens. A row
    that is finished makes room for the next one; the last steps are those of the longest completion.
    """
    groups = math.ceil(draw.groups / ranks)
    share, rows, in_flight = groups / draw.groups, groups * draw.size, min(together, groups) * draw.size
    steps = draw.longest + (rows - in_flight) * draw.mean / in_flight
    weights = draw.value * (model.layers * model.layer_matrices + model.vocab_size * model.width)
    read = steps * weights + rows * draw.mean * (draw.prompt + draw.mean / 2) * _cache_bytes(model, draw)
    rate = _products(card, draw.value)
    decode = max(
        share * work.get("decode", 0.0) / rate,
        read / (BANDWIDTH_SHARE * card.bandwidth),
        steps * model.layers * LAUNCH_SECONDS,
    )
    return share * work.get("prefill", 0.0) / rate + decode
