"""How long the unfinished nodes of a study take, side by side on a number of workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from heapq import heapify, heappop, heappush

from foray.study.graph import by_urgency
from foray.study.node import Node


class TimeLeft:
    """Plays the rest of a run through as ``drive`` runs it: a free worker takes the most urgent node that can start.

    ``cost``: the predicted work of each node, in any unit.
    """

    def __init__(self, nodes: Sequence[Node], cost: Mapping[str, float], workers: int) -> None:
        self.cost, self.workers = cost, workers
        self.rank = {n.key: i for i, n in enumerate(by_urgency(nodes, cost))}
        self.parents = {n.key: {p.key for p in n.parents()} & self.rank.keys() for n in nodes}
        self.children: dict[str, list[str]] = {key: [] for key in self.rank}
        for key, parents in self.parents.items():
            for parent in parents:
                self.children[parent].append(key)

    def seconds(self, done: Collection[str], at_work: Mapping[str, float], pace: float) -> float:
        """Seconds until all nodes are done. ``at_work``: the seconds left of each node at work; ``pace``: seconds a
        unit of ``cost``."""
        waits = {key: sum(p not in done for p in parents) for key, parents in self.parents.items()}
        free = [(self.rank[k], k) for k, n in waits.items() if not n and k not in done and k not in at_work]
        ends = [(seconds, key) for key, seconds in at_work.items()]
        heapify(free)
        heapify(ends)
        now = 0.0
        while free or ends:
            while free and len(ends) < self.workers:
                _, key = heappop(free)
                heappush(ends, (now + pace * self.cost[key], key))
            now, key = heappop(ends)
            for child in self.children[key]:
                waits[child] -= 1
                if not waits[child]:
                    heappush(free, (self.rank[child], child))
        return now
