"""A study on given cards: which nodes run side by side on how many ranks, for how long, and what is left on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from rich.table import Column, Table

from foray.data.corpus import Prepared
from foray.study.graph import levels
from foray.study.kinds.tokens import ShardNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.price import cards as hw
from foray.study.price.cards import Hardware, Load, Memory
from foray.study.price.cost import node_cost


@dataclass(frozen=True)
class Level:
    """Nodes whose parents lie in earlier levels, and the seconds until the last of them is done."""

    loads: tuple[Load, ...]
    wall: float


@dataclass(frozen=True)
class Forecast:
    """What the nodes that are left take. ``beside``: seconds of the longest node that needs no card and that nothing
    waits for, which runs while the cards work."""

    hardware: Hardware
    levels: tuple[Level, ...]
    beside: float
    notes: tuple[str, ...]  # of what does not fit one card
    disk: float  # bytes that stay
    rolling: float  # bytes of checkpoints that go when a node is done, all of the largest level's at once

    @property
    def loads(self) -> list[Load]:
        return [load for level in self.levels for load in level.loads]

    @property
    def wall(self) -> float:
        """Seconds, one level after another."""
        return sum(level.wall for level in self.levels)

    def hours(self, phase: str) -> float:
        """GPU hours of one phase."""
        return sum(load.ranks * load.seconds.get(phase, 0.0) for load in self.loads) / 3600


def forecast(nodes: Sequence[Node], vocab_size: int, hardware: Hardware) -> Forecast:
    """Of nodes still to be run, parents before children."""
    waited_for = {parent.key for node in nodes for parent in node.parents()}
    beside, others = list[Node](), list[Node]()
    for node in nodes:
        (others if hw.needs_card(node) or node.key in waited_for else beside).append(node)
    made = []
    for level in levels(others):
        loads = _placed(level, vocab_size, hardware)
        made.append(Level(tuple(loads), _wall(loads, hardware.count)))
    slow = max((node_cost(n, vocab_size).start for n in beside), default=0.0)
    disk = sum(node_cost(n, vocab_size).disk for n in nodes if not _linked(n))
    rolling = max((sum(_rolling(load) for load in level.loads) for level in made), default=0.0)
    notes = _notes([load for level in made for load in level.loads], vocab_size, hardware)
    return Forecast(hardware, tuple(made), slow, notes, disk, rolling)


def name_of(node: Node) -> str:
    """What nodes of a kind are called together."""
    return node.stage.name if isinstance(node, TrainNode) else {"passk": "pass@k"}.get(node.kind, node.kind)


def _placed(level: list[Node], vocab_size: int, hardware: Hardware) -> list[Load]:
    """Every node on its cheapest number of ranks, or on more where the level ends sooner so: tried are the powers of
    two within 1, 2, 4, ... times its share of the cards by its share of the level's work."""
    least = [hw.cheapest(node, vocab_size, hardware) for node in level]
    total = sum(load.ranks * load.wall for load in least) or 1.0
    tried = [least]
    for times in hw.powers_of_two(64):
        loads = []
        for load in least:
            share = times * hardware.count * load.ranks * load.wall / total
            ranks = hw.powers_of_two(min(share, hardware.count, hw.most_ranks(load.node)))[-1]
            loads.append(hw.load(load.node, vocab_size, hardware, ranks) if load.ranks < ranks and load.ranks else load)
        tried.append(loads)
    return min(tried, key=lambda loads: _wall(loads, hardware.count))


def _notes(loads: Sequence[Load], vocab_size: int, hardware: Hardware) -> tuple[str, ...]:
    """A line for each way in which nodes do not fit one card."""
    names: dict[str, dict[str, None]] = {}
    for load in loads:
        least = 1 if load.ranks <= 1 and load.fits else hw.fewest_ranks(load.node, vocab_size, hardware)
        if least is None:
            why = "fits no card on any number of ranks, try --machine recompute=true (hours as if it just fitted)"
        elif least > hardware.count:
            why = f"needs {least} ranks, more than there are cards (hours as if it just fitted)"
        else:
            why = f"does not fit one card, needs {least} ranks"
        if least != 1:
            names.setdefault(why, {})[name_of(load.node)] = None
    return tuple(f"{why}: {', '.join(who)}" for why, who in names.items())


def _wall(loads: Sequence[Load], cards: int) -> float:
    """Seconds until all are done, the longest begun first, each as soon as enough cards are free."""
    free = [0.0] * cards
    for load in sorted(loads, key=lambda load: -load.wall):
        if load.ranks:
            free.sort()
            end = free[load.ranks - 1] + load.wall
            free[: load.ranks] = [end] * load.ranks
    return max([*free, *(load.wall for load in loads if not load.ranks)])


def _linked(node: Node) -> bool:
    """Tokens of a prepared corpus are read where they lie."""
    return isinstance(node, ShardNode) and isinstance(node.source, Prepared)


def _rolling(load: Load) -> float:
    """Two rolling checkpoints of a training node, bytes."""
    return 2 * load.ranks * (load.memory.weights + load.memory.moments) if isinstance(load.node, TrainNode) else 0.0


# --- what is printed ------------------------------------------------------------------------------------------------


def phase_table(made: Forecast) -> Table:
    table = Table("phase", Column("GPU hours", justify="right"), box=None, pad_edge=False)
    for phase in hw.PHASES:
        table.add_row(phase, f"{made.hours(phase):,.2f}")
    table.add_row("all", f"{sum(made.hours(p) for p in hw.PHASES):,.2f}")
    return table


def level_table(made: Forecast) -> Table:
    table = Table(
        "level",
        Column("hours", justify="right"),
        "nodes side by side (each on so many ranks)",
        box=None,
        pad_edge=False,
    )
    for number, level in enumerate(made.levels, 1):
        same = Counter((name_of(load.node), load.ranks) for load in level.loads)
        words = [f"{n} {name} ({ranks or 'no card'})" for (name, ranks), n in same.items()]
        table.add_row(str(number), f"{level.wall / 3600:.2f}", ", ".join(words))
    return table


def memory_table(made: Forecast) -> Table:
    """The fullest rank of every kind of node."""
    names = [f.name for f in fields(Memory)] + ["total"]
    short = {"gradients": "grads", "reference": "ref.", "gathered": "layers", "activations": "activ.", "cache": "KV"}
    columns = (Column(title, justify="right", no_wrap=True) for title in ("ranks", *(short.get(n, n) for n in names)))
    table = Table("GB a rank", *columns, box=None, pad_edge=False, collapse_padding=True)
    fullest: dict[str, Load] = {}
    for load in made.loads:
        name = name_of(load.node)
        if load.ranks and (name not in fullest or load.memory.total > fullest[name].memory.total):
            fullest[name] = load
    for name, load in fullest.items():
        numbers = [getattr(load.memory, n) / 1e9 for n in names]
        table.add_row(name, str(load.ranks), *(f"{x:.1f}" if x else "" for x in numbers))
    return table


def remarks(made: Forecast) -> list[str]:
    """What does not fit, wall time, and disk, in plain lines."""
    count, out = made.hardware.count, list(made.notes)
    held = count * made.wall / 3600
    busy = f", at work for {sum(map(made.hours, hw.PHASES)) / held:.0%} of it" if held else ""
    out.append(
        f"about {made.wall / 3600:,.1f} hours of wall time, level after level: {held:,.1f} GPU hours held on {count} x "
        f"{made.hardware.name}{busy}"
    )
    if made.beside > 60:
        out.append(f"beside them, on no card and with nothing waiting for it: up to {made.beside / 3600:.1f} hours")
    out.append(
        f"disk: {made.disk / 1e9:,.1f} GB stay, and up to {made.rolling / 1e9:,.1f} GB of rolling checkpoints "
        "while nodes run"
    )
    return out


def assumptions(made: Forecast) -> list[str]:
    """Everything that the numbers rest on, in plain lines."""
    name, card = made.hardware.name, made.hardware.card
    return [
        f"{name} (datasheet): {card.bf16 / 1e12:,.0f} TFLOP/s in dense bf16, {card.fp32 / 1e12:,.0f} in fp32, "
        f"{card.memory / 1e9:.0f} GB, {hw.USABLE:.0%} of it used, {card.bandwidth / 1e12:.2f} TB/s",
        f"matrix products reach {hw.MFU:.0%} of the peak (MFU), in updates as in sampling, on any number of ranks",
        f"a step of decode reads all weights, and the KV cache of every row's prompt and own tokens, at "
        f"{hw.BANDWIDTH_SHARE:.0%} of the bandwidth",
        f"up to {hw.ROWS_IN_FLIGHT} rows are sampled at a time; a finished one makes room for the next",
        f"a layer takes at least {hw.LAUNCH_SECONDS * 1e6:.0f} µs a pass, a node {hw.START_SECONDS:.0f} s to begin "
        "and end",
        "a node has the number of ranks (a power of two) that costs least and fits, more where its level ends sooner",
        f"machines have {hw.MACHINE} cards; a node on several machines loses nothing to the network between them",
        "fp32 is without tensor cores; probes and perplexity are in fp32, all else in its own precision",
        "weights, both Adam moments, gradients and RL's reference model (ref.) are fp32 shards (FSDP)",
        "of several ranks each holds two layers and the embeddings whole (layers)",
        f"activations are those of {made.hardware.microbatch_tokens:,} tokens, "
        + ("of one layer at a time" if made.hardware.recompute else "of all layers")
        + " (--machine microbatch_tokens, recompute)",
        "an engine has a copy of the weights in bf16 where it samples so, and of several ranks each has a whole one",
        "left out: RL's validation and reference passes, about a tenth of its updates; every group has a signal",
    ]
