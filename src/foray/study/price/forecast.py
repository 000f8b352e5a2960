"""A study on given hardware: which nodes run side by side on how many ranks, for how long, and what stays on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from foray.study.graph import levels
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.price.cards import Hardware, powers_of_two
from foray.study.price.placement import Placement, cheapest, fewest_ranks, most_ranks, place
from foray.study.price.work import node_work


@dataclass(frozen=True)
class Level:
    """Nodes whose parents lie in earlier levels, and the seconds until the last of them is done."""

    placed: tuple[Placement, ...]
    wall: float


@dataclass(frozen=True)
class Forecast:
    """What nodes that are not done take.

    ``beside``: seconds of the longest node that needs no card and that nothing waits for. The node runs while the cards
    work.
    """

    hardware: Hardware
    nodes: tuple[Node, ...]
    levels: tuple[Level, ...]
    beside: float
    notes: tuple[str, ...]  # what does not fit one card, a line each
    flops: Counter[str]  # by phase
    disk: float  # bytes that stay
    rolling: float  # bytes of checkpoints that go when a node is done, all of the largest level's at once

    @property
    def placed(self) -> list[Placement]:
        return [p for level in self.levels for p in level.placed]

    @property
    def wall(self) -> float:
        """Seconds, one level after another."""
        return sum(level.wall for level in self.levels)

    def hours(self, phase: str) -> float:
        """Card hours of one phase."""
        return sum(p.ranks * p.seconds.get(phase, 0.0) for p in self.placed) / 3600


def forecast(nodes: Sequence[Node], hardware: Hardware) -> Forecast:
    """The forecast of nodes still to be run, parents before children."""
    waited_for = {parent.key for node in nodes for parent in node.parents()}
    beside, others = list[Node](), list[Node]()
    for node in nodes:
        takes_card = node.on_card or hardware.here or node.key in waited_for
        (others if takes_card else beside).append(node)
    made = []
    for level in levels(others):
        placed = _placed(level, hardware)
        made.append(Level(tuple(placed), _wall(placed, hardware.count)))
    slow = max((place(n, hardware).wall for n in beside), default=0.0)
    flops: Counter[str] = Counter()
    works = [node_work(n) for n in nodes]
    for work in works:
        flops.update(work.phases)
    rolling = max((sum(_rolling(p) for p in level.placed) for level in made), default=0.0)
    notes = _notes([p for level in made for p in level.placed], hardware)
    disk = sum(work.disk for work in works)
    return Forecast(hardware, tuple(nodes), tuple(made), slow, notes, flops, disk, rolling)


def name_of(node: Node) -> str:
    """What nodes of a kind are called together."""
    return node.stage.name if isinstance(node, TrainNode) else {"passk": "pass@k"}.get(node.kind, node.kind)


def _placed(level: list[Node], hardware: Hardware) -> list[Placement]:
    """Every node on its cheapest number of ranks, or on more where the level ends sooner so.

    Tried are the powers of two within 1, 2, 4, ... times a node's share of the cards by its share of the level's work.
    """
    least = [cheapest(node, hardware) for node in level]
    if hardware.here:
        return least
    total = sum(p.ranks * p.wall for p in least) or 1.0
    tried = [least]
    for times in powers_of_two(64):
        placed = []
        for p in least:
            share = times * hardware.count * p.ranks * p.wall / total
            ranks = powers_of_two(min(share, hardware.count, most_ranks(p.node)))[-1]
            placed.append(place(p.node, hardware, ranks) if 0 < p.ranks < ranks else p)
        tried.append(placed)
    return min(tried, key=lambda placed: _wall(placed, hardware.count))


def _notes(placed: Sequence[Placement], hardware: Hardware) -> tuple[str, ...]:
    """A line for each way in which nodes do not fit one card."""
    names: dict[str, dict[str, None]] = {}
    for p in placed:
        least = 1 if p.ranks <= 1 and p.fits else fewest_ranks(p.node, hardware)
        if least is None:
            why = "fits no card on any number of ranks, try --machine recompute=true (hours as if it just fitted)"
        elif least > hardware.count:
            why = f"needs {least} ranks, more than there are cards (hours as if it just fitted)"
        else:
            why = f"does not fit one card, needs {least} ranks"
        if least != 1:
            names.setdefault(why, {})[name_of(p.node)] = None
    return tuple(f"{why}: {', '.join(who)}" for why, who in names.items())


def _wall(placed: Sequence[Placement], cards: int) -> float:
    """Seconds until all are done, the longest begun first, each as soon as enough cards are free."""
    free = [0.0] * cards
    for p in sorted(placed, key=lambda p: -p.wall):
        if p.ranks:
            free.sort()
            end = free[p.ranks - 1] + p.wall
            free[: p.ranks] = [end] * p.ranks
    return max([*free, *(p.wall for p in placed if not p.ranks)])


def _rolling(p: Placement) -> float:
    """Two rolling checkpoints of a training node, bytes."""
    if not isinstance(p.node, TrainNode):
        return 0.0
    # Of adapters, moments are twice as many for every stream, and the frozen weights are not saved.
    weights = p.memory.weights if p.node.stage.lora is None else p.memory.gradients / len(p.node.stage.streams)
    return 2 * p.ranks * (weights + p.memory.moments)
