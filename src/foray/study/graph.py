"""From a study to its graph of nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from foray.core.sources import Rollouts
from foray.core.stage import Recipe
from foray.study.excursions import Excursion, GraphEntry, Start, entry
from foray.study.grid_checks import grid_checks
from foray.study.grid_text import GridText
from foray.study.kinds.checks import Check
from foray.study.kinds.measures import ContaminationNode
from foray.study.kinds.models import ImportNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.spec import Pretrain, Published, Study
from foray.study.variants import AnyRecipe, Variant, recipe_name


@dataclass(frozen=True)
class Graph:
    """All nodes, parents before children, and the entries among them."""

    nodes: tuple[Node, ...]
    entries: tuple[GraphEntry, ...]


def expand(study: Study, part: str | None = None) -> Graph:
    """Every node of a study, or of one of its parts. Equal work appears once, whoever asks for it."""
    study = study.bound()
    grids = study.grids()
    for _, grid in grids:
        grid.check_whole()
    # What each recipe is in the main results, wherever in the study those stand.
    try:
        own = {(recipe_name(r), grid.stages(r)) for _, grid in grids for r in grid.recipes if not _settings(r)}
    except TypeError:  # something of the user's own that cannot be hashed
        from foray.study.contracts import check_study  # reads the user's tasks, which no graph needs

        check_study(study)
        raise
    asked = [(name, GridText(grid)) for name, grid in study.grids(part)]
    checks = {check.key: check for _, text in asked for check in _pretraining_checks(text)}
    entries = [e for name, text in asked for e in _grid_entries(name, text, own, checks.values())]
    unique: dict[str, Node] = {}
    for node in _with_parents(e.node for e in entries):
        unique.setdefault(node.key, node)
    return Graph(tuple(unique.values()), tuple(entries))


def levels(missing: Sequence[Node]) -> list[list[Node]]:
    """Nodes by level: the parents of each are in earlier levels or not among them."""
    level: dict[str, int] = {}
    for node in missing:  # parents come before children
        level[node.key] = 1 + max((level.get(p.key, -1) for p in node.parents()), default=-1)
    out: list[list[Node]] = [[] for _ in range(1 + max(level.values(), default=-1))]
    for node in missing:
        out[level[node.key]].append(node)
    return out


def by_urgency(missing: Sequence[Node], cost: Mapping[str, float]) -> list[Node]:
    """Nodes on the costliest path to an end come first."""
    urgency = {n.key: cost[n.key] for n in missing}
    for node in reversed(missing):  # children come after their parents
        for parent in node.parents():
            if parent.key in urgency:
                urgency[parent.key] = max(urgency[parent.key], cost[parent.key] + urgency[node.key])
    return sorted(missing, key=lambda n: -urgency[n.key])


def _pretraining_checks(text: GridText) -> tuple[Check, ...]:
    return () if text.tokenizer is None else grid_checks(text.grid, text.tokenizer)


def _grid_entries(
    part: str, text: GridText, own: Collection[tuple[str, Recipe]], checks: Collection[Check]
) -> Iterator[GraphEntry]:
    """The entries of a grid, whose pre-trainings wait for the ``checks`` of every grid with the same tokenizer."""
    grid = text.grid
    for pretrain_seed in grid.pretrain.seeds:
        for tokens, base in _bases(text, pretrain_seed, checks):
            if tokens not in grid.starts:
                continue
            start = Start(text, base)
            yield from start.base_entries(Excursion(part, grid, pretrain_seed, tokens, "base", pretrain_seed))
            for recipe in grid.recipes:
                name, stages = recipe_name(recipe), grid.stages(recipe)
                against = (isinstance(recipe, Variant) and recipe.against) or name
                for seed in grid.seeds:
                    of = Excursion(
                        part, grid, pretrain_seed, tokens, name, seed,
                        _settings(recipe), (name, stages) in own, against,
                    )  # fmt: skip
                    yield from start.entries(of, stages)
    yield from _contamination(part, text)


def _bases(text: GridText, seed: int, checks: Collection[Check]) -> Iterator[tuple[int, TrainNode | ImportNode]]:
    """(tokens, M_t) in rising order."""
    grid, pretrain, node = text.grid, text.grid.pretrain, None
    if isinstance(pretrain, Published):
        yield from ((tokens, ImportNode(grid.model, release)) for tokens, release in pretrain.releases)
        return
    assert text.tokenizer is not None and isinstance(pretrain, Pretrain)
    before = tuple(check for check in checks if check.tokenizer.key == text.tokenizer.key)
    for tokens in pretrain.checkpoints:
        node = TrainNode(
            grid.model, text.tokenizer, pretrain.stage, pretrain.step_at(tokens), seed,
            shards=text.pretraining, after=node, tokens=tokens, checks=before,
            beside=pretrain.mix,
        )  # fmt: skip
        yield tokens, node


def _contamination(part: str, text: GridText) -> Iterator[GraphEntry]:
    """Of text and questions alone, so the same for every seed and size: stands once, as if of the base."""
    grid = text.grid
    e, post, pretrain = grid.evaluation, grid.post, grid.pretrain
    if not e.contamination:
        return
    validation = post.rl.source.validation if isinstance(post.rl.source, Rollouts) else 0
    node = ContaminationNode(
        text.pretraining, post.task, post.questions, validation, e.task, e.split, e.problems, e.contamination
    )
    yield entry(Excursion(part, grid, pretrain.seeds[0], pretrain.tokens, "base", 0), node, 0, True)


def _settings(recipe: AnyRecipe) -> str:
    return recipe.words if isinstance(recipe, Variant) else ""


def _with_parents(nodes: Iterable[Node]) -> Iterator[Node]:
    """Every node after its parents, each object once: there are far more paths to a node than nodes.

    Objects and not keys are remembered: equal nodes may have other parents, those that only order the work.
    """
    seen: dict[int, Node] = {}  # which keeps them: an id is an object's while that lives
    for last in nodes:
        path = [] if id(last) in seen else [(last, last.parents())]
        while path:  # and no recursion: the chain of M_t may be longer than Python's stack
            node, parents = path[-1]
            if (parent := next((p for p in parents if id(p) not in seen), None)) is not None:
                path.append((parent, parent.parents()))
            else:
                path.pop()
                seen[id(node)] = node
                yield node
