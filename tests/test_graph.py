"""The work on a study's graph grows with the nodes, not with the paths to the nodes.

The tests count visits, not seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from foray.core.objectives import Scored
from foray.study.graph import _with_parents, expand
from foray.study.kinds.tokens import ShardNode
from foray.study.node import Node
from foray.study.spec import Pretrain, Study
from test_study import replace, study


def many(checkpoints: int) -> Study:
    made = study(recipes=("rl", "sft", "sft_rl"), seeds=(0, 1))
    assert isinstance(made.pretrain, Pretrain)
    step = made.pretrain.stream.source.tokens_per_step
    grid = tuple(step * (i + 1) for i in range(checkpoints))
    pretrain = replace(made.pretrain, tokens=grid[-1], checkpoints=grid)
    return replace(made, pretrain=pretrain, evaluation=replace(made.evaluation, dynamics=None))


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Every node that was asked for its parents, once for each time."""
    asked: list[Node] = []
    parents = Node.parents

    def counted(self: Node) -> Iterator[Node]:
        asked.append(self)
        return parents(self)

    monkeypatch.setattr(Node, "parents", counted)
    return asked


def test_expand_enters_every_node_once_however_many_paths_lead_to_it(visits: list[Node]) -> None:
    nodes = expand(many(12)).nodes
    assert len({id(n) for n in visits}) >= len(nodes)
    few = len(visits)
    assert few <= 1.5 * len(nodes), "each is entered once; equal objects made more than once are few"
    visits.clear()
    more = expand(many(24)).nodes
    assert len(visits) / few < 1.2 * len(more) / len(nodes), "twice the M_t is twice the work"


def test_text_held_out_is_one_node_object_for_all_that_read_it(visits: list[Node]) -> None:
    nodes = expand(many(12)).nodes
    shards = [n for n in visits if isinstance(n, ShardNode)]
    known = [n for n in nodes if isinstance(n, ShardNode)]
    assert {n.key for n in shards} == {n.key for n in known}
    assert len({id(n) for n in shards}) == len(known)


@dataclass(frozen=True)
class Link(Node):
    kind: ClassVar[str] = "link"
    number: int
    left: Node | None = None
    right: Node | None = None


def test_a_ladder_of_two_to_the_many_paths_and_a_long_chain_are_walked() -> None:
    rung: Link = Link(0)
    for number in range(1, 3000):
        rung = Link(number, rung, rung)
    assert [n.number for n in _with_parents([rung, rung]) if isinstance(n, Link)] == list(range(3000))


def test_equal_nodes_with_other_parents_bring_both_their_parents() -> None:
    """``after`` and ``checks`` are no part of a key. The nodes that they name still have to run."""
    made = many(2)
    first = [e.node for e in expand(made).entries]
    other = [e.node for e in expand(replace(made, evaluation=replace(made.evaluation, base_shots=(1,)))).entries]
    found = {n.key for n in _with_parents([*first, *other])}
    assert {n.key for n in _with_parents(first)} | {n.key for n in _with_parents(other)} == found
    assert len({n.key for n in _with_parents(first)}) < len(found)


@dataclass
class Melting:
    """A loss of the user's own that can change, so that no key can hold it."""

    def loss(self, scored: Scored) -> Any:
        return -scored.logprobs.sum()


def test_a_loss_that_can_change_is_named_by_every_command() -> None:
    made = study()
    with pytest.raises(ValueError, match=r"Melting.*write @dataclass\(frozen=True\)"):
        expand(replace(made, post=replace(made.post, sft=replace(made.post.sft, objective=Melting()))))
