"""From a study to its graph of nodes, and to the manifest that tells the report what each result is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from foray.core.stage import Recipe, Rollouts, Stage
from foray.core.task import Split, Task
from foray.study.nodes import (
    Node,
    PassKNode,
    PerplexityNode,
    ProbesNode,
    PromptsNode,
    ShardNode,
    TokenizerNode,
    TrainNode,
)
from foray.study.spec import Study, recipe_name


@dataclass(frozen=True)
class Entry:
    """A node whose result the report reads, and the study's name for it.

    ``stage_step`` counts updates over the whole recipe. ``final`` entries belong in the main figures; the others are
    points inside a recipe or crossed settings.
    """

    node: Node
    tokens: int
    recipe: str
    stage_step: int
    seed: int
    final: bool
    stage: str = ""


@dataclass(frozen=True)
class Graph:
    """All nodes, parents before children, and the entries among them."""

    nodes: tuple[Node, ...]
    entries: tuple[Entry, ...]


def expand(study: Study) -> Graph:
    """Every node of a study. Equal work appears once, whoever asks for it."""
    study = study.bound()
    builder = _Builder(study)
    entries: list[Entry] = []
    for tokens, base in builder.pretraining():
        entries.append(Entry(base, tokens, "base", 0, study.pretrain.seed, True, "pretrain"))
        entries += builder.evaluations(base, tokens, "base", 0, study.pretrain.seed, study.evaluation.base_shots, True)
        for recipe in study.recipes:
            for seed in study.seeds:
                entries += builder.excursion(base, tokens, recipe_name(recipe), study.stages(recipe), seed)
    unique: dict[str, Node] = {}
    for entry in entries:
        for node in _with_parents(entry.node):
            unique.setdefault(node.key, node)
    return Graph(tuple(unique.values()), tuple(entries))


class _Builder:
    def __init__(self, study: Study) -> None:
        self.study = study
        mixture = study.pretrain.stream.source.mixture
        data = study.data
        self.tokenizer = TokenizerNode(mixture, data.vocab_size, data.tokenizer_characters, data.whole_numbers)
        total = sum(w for w, _ in mixture)
        # A little more than a source's share, so that chance in the draw of rows does not repeat text.
        self.shards = tuple(
            ShardNode(s, "train", self.tokenizer, math.ceil(1.03 * w / total * study.pretrain.tokens) + 65_536)
            for w, s in mixture
            if w > 0
        )
        heldout = study.evaluation.heldout_tokens
        self.heldout = tuple(ShardNode(s, "validation", self.tokenizer, heldout) for w, s in mixture if w > 0)

    def checks(self) -> tuple[PromptsNode, ...]:
        """Every kind of prompt that the study will sample from."""
        e, source = self.study.evaluation, self.study.post.rl.source
        sampled: list[tuple[Task, Split, int, int, int]] = [
            (e.task, e.split, e.problems, s, e.max_new_tokens) for s in (*e.base_shots, *e.trained_shots)
        ]
        if isinstance(source, Rollouts):
            sampled.append((source.task, "train", source.questions, 0, source.max_new_tokens))
        return tuple(
            PromptsNode(self.tokenizer, task, split, problems, shots, e.seed, new, self.study.model.context)
            for task, split, problems, shots, new in sampled
        )

    def pretraining(self) -> Iterator[tuple[int, TrainNode]]:
        pretrain, node = self.study.pretrain, None
        checks = self.checks()
        for tokens in pretrain.checkpoints:
            step = pretrain.step_at(tokens)
            node = TrainNode(
                self.study.model, self.tokenizer, pretrain.stage, step, pretrain.seed, None, self.shards, node, checks
            )
            yield tokens, node

    def excursion(self, base: TrainNode, tokens: int, recipe: str, stages: Recipe, seed: int) -> Iterator[Entry]:
        dynamics, parent, before = self.study.evaluation.dynamics, base, 0
        shots = self.study.evaluation.trained_shots
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            watched = dynamics is not None and dynamics.tokens == tokens and recipe in dynamics.recipes
            points = dynamics.points if dynamics is not None and watched else 1
            node: TrainNode | None = None
            for step in sorted({round(stage.steps * (i + 1) / points) for i in range(points)}):
                node = self._train(stage, step, seed, parent, node)
                end = last and step == stage.steps
                if step == stage.steps:
                    yield Entry(node, tokens, recipe, before + step, seed, end, stage.name)
                if end or watched:
                    yield from self.evaluations(node, tokens, recipe, before + step, seed, shots, end)
            assert node is not None
            parent, before = node, before + stage.steps

    def _train(self, stage: Stage, step: int, seed: int, parent: TrainNode, after: TrainNode | None) -> TrainNode:
        return TrainNode(self.study.model, self.tokenizer, stage, step, seed, parent, (), after)

    def evaluations(
        self, node: TrainNode, tokens: int, recipe: str, step: int, seed: int, shots: Iterable[int], final: bool
    ) -> Iterator[Entry]:
        e = self.study.evaluation
        for i, s in enumerate(shots):
            passk = PassKNode(node, e.task, e.split, e.problems, s, e.samples, e.temperature, e.max_new_tokens, e.seed)
            yield Entry(passk, tokens, recipe, step, seed, final and i == 0)
            if not final:
                return  # points inside a recipe: the main setting and nothing else
        if e.probes is not None:
            yield Entry(ProbesNode(node, e.probes), tokens, recipe, step, seed, final)
        heldout = PerplexityNode(node, self.heldout, self.study.pretrain.stream.source.length)
        yield Entry(heldout, tokens, recipe, step, seed, final)


def _with_parents(node: Node) -> Iterator[Node]:
    for parent in node.parents():
        yield from _with_parents(parent)
    yield node
