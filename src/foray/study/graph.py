"""From a study to its graph of nodes, and to the manifest that tells the report what each result is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, replace

from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import Merge, Recipe, Stage, drawing
from foray.core.task import Split, Task
from foray.study.checks import Check, DemonstrationsNode, PromptsNode, SourceNode
from foray.study.measures import ContaminationNode, PassKNode, PerplexityNode, ProbesNode
from foray.study.nodes import (
    AnyTokenizer,
    Checkpoint,
    ImportNode,
    MergeNode,
    Node,
    ShardNode,
    TokenizerNode,
    TrainNode,
)
from foray.study.spec import AnyRecipe, Pretrain, Study, Variant, every_stage, recipe_name
from foray.train.checked_draw import drawn_by_others


@dataclass(frozen=True)
class Entry:
    """A node whose result the report reads, and the study's name for it.

    ``stage_step`` counts updates over the whole recipe. ``final`` entries belong in the main figures; the others are
    points inside a recipe or crossed settings. A ``variant`` is a recipe with settings of its own; ``own`` says whether
    those are the settings that the study's version of the recipe has.
    """

    node: Node
    part: str
    grid: Study
    pretrain_seed: int
    tokens: int
    recipe: str
    stage_step: int
    seed: int
    final: bool
    stage: str = ""
    variant: str = ""
    own: bool = True
    against: str = ""


@dataclass(frozen=True)
class Graph:
    """All nodes, parents before children, and the entries among them."""

    nodes: tuple[Node, ...]
    entries: tuple[Entry, ...]


def expand(study: Study, part: str | None = None) -> Graph:
    """Every node of a study, or of one of its parts. Equal work appears once, whoever asks for it."""
    entries: list[Entry] = []
    unique: dict[str, Node] = {}
    study = study.bound()
    for _, grid in study.grids():
        grid.check_whole()
    # What each recipe is in the main results, wherever in the study that stands.
    own = {(recipe_name(r), grid.stages(r)) for _, grid in study.grids() for r in grid.recipes if not _words(r)}
    builders = [_Builder(name, grid, own) for name, grid in study.grids(part)]
    checks = {check.key: check for builder in builders for check in builder.checks}
    for builder in builders:
        entries += builder.entries(checks.values())
    for node in _with_parents(entry.node for entry in entries):
        unique.setdefault(node.key, node)
    return Graph(tuple(unique.values()), tuple(entries))


@dataclass(frozen=True)
class _Place:
    """Where in a grid an excursion is."""

    base: TrainNode | ImportNode
    pretrain_seed: int
    tokens: int
    recipe: str
    seed: int
    variant: str = ""
    own: bool = True
    against: str = ""


class _Builder:
    def __init__(self, part: str, study: Study, own: Set[tuple[str, Recipe]]) -> None:
        self.part, self.study, self.own = part, study, own
        self.shards: tuple[ShardNode, ...] = ()
        self.checks: tuple[Check, ...] = ()
        self.held: dict[str, tuple[ShardNode, ...]] = {}  # validation text by tokenizer
        if isinstance(study.pretrain, Pretrain):
            tokenizer = self._tokenizer(study.pretrain)
            self.shards = self._shards(study.pretrain.corpus, study.pretrain.tokens, tokenizer)
            self.checks = self._checks(tokenizer)

    def entries(self, checks: Collection[Check]) -> Iterator[Entry]:
        """Those of the grid, whose pre-trainings wait for the ``checks`` of whichever grid has the same tokenizer."""
        study = self.study
        for pretrain_seed in study.pretrain.seeds:
            for tokens, base in self._bases(pretrain_seed, checks):
                if tokens not in study.starts:
                    continue
                place = _Place(base, pretrain_seed, tokens, "base", pretrain_seed)
                yield self._entry(place, base, 0, True, "pretrain")
                yield from self._evaluations(place, base, 0, study.evaluation.base_shots, True)
                for recipe in study.recipes:
                    for seed in study.seeds:
                        yield from self._excursion(self._place(base, pretrain_seed, tokens, recipe, seed), recipe)
        yield from self._contamination()

    def _contamination(self) -> Iterator[Entry]:
        """Of text and questions alone, so the same for every seed and size: stands once, as if of the base."""
        e, post, pretrain = self.study.evaluation, self.study.post, self.study.pretrain
        if not e.contamination:
            return
        validation = post.rl.source.validation if isinstance(post.rl.source, Rollouts) else 0
        node = ContaminationNode(
            self.shards, post.task, post.questions, validation, e.task, e.split, e.problems, e.contamination
        )
        yield Entry(node, self.part, self.study, pretrain.seeds[0], pretrain.tokens, "base", 0, 0, True)

    def _tokenizer(self, pretrain: Pretrain) -> TokenizerNode:
        data = self.study.data
        text = data.mixture or pretrain.corpus.mixture
        return TokenizerNode(text, data.vocab_size, data.tokenizer_characters, data.whole_numbers)

    def _shards(self, corpus: Corpus, tokens: int, tokenizer: AnyTokenizer) -> tuple[ShardNode, ...]:
        total = sum(w for w, _ in corpus.mixture)
        # A little more than a source's share, so that chance in the draw of rows does not repeat text.
        return tuple(
            ShardNode(s, "train", tokenizer, math.ceil(1.03 * w / total * tokens) + 65_536)
            for w, s in corpus.mixture
            if w > 0
        )

    def _text(self, corpus: Corpus, tokens: int, tokenizer: AnyTokenizer) -> tuple[ShardNode, ...]:
        """Text for a stage after pre-training: pre-training's own where the mixture is the same."""
        pretrain = self.study.pretrain
        same = isinstance(pretrain, Pretrain) and corpus.mixture == pretrain.corpus.mixture
        return self.shards if same else self._shards(corpus, tokens, tokenizer)

    def _checks(self, tokenizer: AnyTokenizer) -> tuple[Check, ...]:
        """Every kind of prompt that the study will sample from, of demonstration, and of source of the user's own."""
        e, context = self.study.evaluation, self.study.model.context
        sampled: list[tuple[Task, Split, int, int, int]] = [
            (e.task, e.split, e.problems, s, e.max_new_tokens) for s in (*e.base_shots, *e.trained_shots)
        ]
        stages = [stage for recipe in self.study.recipes for stage in every_stage(self.study.stages(recipe))]
        sources = [self.study.post.rl.source, *(member.source for stage in stages for member in stage.members())]
        for source in sources:
            if isinstance(source, Rollouts):
                sampled += _prompted(source)
        prompts = [
            PromptsNode(tokenizer, task, split, problems, shots, e.seed, new, context)
            for task, split, problems, shots, new in dict.fromkeys(sampled)
        ]
        # Whatever the size of their batches, and all solutions whatever the seed.
        shown = dict.fromkeys(replace(s, batch_size=1) for s in sources[1:] if isinstance(s, Demonstrations))
        demonstrations = [
            DemonstrationsNode(tokenizer, s, seed, context)
            for s in shown
            for seed in (self.study.seeds if s.solutions == "one" else (0,))
        ]
        return *prompts, *demonstrations, *self._sources(tokenizer, stages)

    def _sources(self, tokenizer: AnyTokenizer, stages: list[Stage]) -> list[SourceNode]:
        return [
            SourceNode(tokenizer, self.study.model, drawing(stream, member), stage.name, stage.steps, self.study.seeds)
            for stage in stages
            for _, stream in stage.streams
            for _, member in stream.members
            if drawn_by_others(member.source)
        ]

    def _bases(self, seed: int, checks: Collection[Check]) -> Iterator[tuple[int, TrainNode | ImportNode]]:
        """(tokens, M_t) in rising order."""
        pretrain, node = self.study.pretrain, None
        if not isinstance(pretrain, Pretrain):
            for tokens, release in pretrain.releases:
                yield tokens, ImportNode(self.study.model, release)
            return
        tokenizer = self._tokenizer(pretrain)
        before = tuple(check for check in checks if check.tokenizer.key == tokenizer.key)
        for tokens in pretrain.checkpoints:
            node = TrainNode(
                self.study.model, tokenizer, pretrain.stage, pretrain.step_at(tokens), seed,
                shards=self.shards, after=node, checks=before,
            )  # fmt: skip
            yield tokens, node

    def _place(
        self, base: TrainNode | ImportNode, pretrain_seed: int, tokens: int, recipe: AnyRecipe, seed: int
    ) -> _Place:
        name, variant = recipe_name(recipe), _words(recipe)
        own = (name, self.study.stages(recipe)) in self.own
        against = (recipe.against or name) if isinstance(recipe, Variant) else name
        return _Place(base, pretrain_seed, tokens, name, seed, variant, own, against)

    def _excursion(self, place: _Place, recipe: AnyRecipe) -> Iterator[Entry]:
        e = self.study.evaluation
        stages = self.study.stages(recipe)
        watched = e.dynamics is not None and e.dynamics.tokens == place.tokens and place.recipe in e.dynamics.recipes
        # What never saw the 0-shot form is asked as a base model is.
        shots = e.base_shots if all(_only_text(stage) for stage in stages) else e.trained_shots
        parent: Checkpoint = place.base
        before = 0
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            if isinstance(stage, Merge):
                parent, steps = self._merge(stage, place, parent)
                before += steps
                if last:
                    yield from self._evaluations(place, parent, before, shots, True)
                continue
            node: TrainNode | None = None
            for step in e.dynamics.steps_of(stage.steps) if e.dynamics is not None and watched else [stage.steps]:
                node = self._train(stage, step, place, parent, node)
                end = last and step == stage.steps
                if step == stage.steps:
                    yield self._entry(place, node, before + step, end, stage.name)
                if end or watched:
                    yield from self._evaluations(place, node, before + step, shots, end)
            assert node is not None
            parent, before = node, before + stage.steps

    def _merge(self, merge: Merge, place: _Place, start: Checkpoint) -> tuple[MergeNode, int]:
        """The merged checkpoint, and the updates that its branches take together."""
        ends: list[Checkpoint] = []
        steps = 0
        for _, recipe in merge.branches:
            node = start
            for stage in recipe:
                if isinstance(stage, Merge):
                    node, more = self._merge(stage, place, node)
                else:
                    node, more = self._train(stage, stage.steps, place, node, None), stage.steps
                steps += more
            ends.append(node)
        return MergeNode(tuple(ends), tuple(w for w, _ in merge.branches)), steps

    def _train(self, stage: Stage, step: int, place: _Place, parent: Checkpoint, after: TrainNode | None) -> TrainNode:
        sources = [s.source for s in stage.members()]
        tokenizer = place.base.tokenizer
        text = [self._text(s, stage.steps * s.tokens_per_step, tokenizer) for s in sources if isinstance(s, Corpus)]
        screens = [self._screen(s, place.base) for s in sources if isinstance(s, Rollouts) and s.screen is not None]
        if len({s.key for s in screens}) > 1:
            raise ValueError(
                f"stage {stage.name}: its streams choose their questions by different answers of the base; give their "
                "screens the same samples and shots, and their sources the same task, questions and max_new_tokens"
            )
        return TrainNode(
            self.study.model, tokenizer, stage, step, place.seed, parent,
            shards=_merged(stage, text), screen=screens[0] if screens else None, after=after,
            checks=self._checks(tokenizer) if isinstance(place.base, ImportNode) else (),  # else the base waited
        )  # fmt: skip

    def _screen(self, source: Rollouts, base: TrainNode | ImportNode) -> PassKNode:
        screen, seed = source.screen, self.study.evaluation.seed
        assert screen is not None
        new, precision = source.max_new_tokens, self.study.evaluation.precision
        return PassKNode(
            base, source.task, "train", source.questions, screen.shots, screen.samples, 1.0, new, seed, precision
        )

    def _evaluations(
        self, place: _Place, node: Checkpoint, step: int, shots: Iterable[int], final: bool
    ) -> Iterator[Entry]:
        e = self.study.evaluation
        for i, s in enumerate(shots):
            passk = PassKNode(
                node, e.task, e.split, e.problems, s, e.samples, e.temperature, e.max_new_tokens, e.seed, e.precision,
                engine=e.engine, vllm=e.vllm,
            )  # fmt: skip
            yield self._entry(place, passk, step, final and i == 0)
            if not final:
                return  # points inside a recipe: the main setting and nothing else
        if e.probes is not None:
            yield self._entry(place, ProbesNode(node, e.probes), step, final)
        corpus, tokenizer = self.study.text, place.base.tokenizer
        if e.heldout_tokens and corpus is not None:
            if tokenizer.key not in self.held:
                sources = [s for w, s in corpus.mixture if w > 0]
                held = (ShardNode(s, "validation", tokenizer, e.heldout_tokens) for s in sources)
                self.held[tokenizer.key] = tuple(held)
            shards = self.held[tokenizer.key]
            yield self._entry(place, PerplexityNode(node, shards, corpus.length), step, final)

    def _entry(self, place: _Place, node: Node, step: int, final: bool, stage: str = "") -> Entry:
        return Entry(
            node, self.part, self.study, place.pretrain_seed, place.tokens, place.recipe, step, place.seed, final,
            stage, place.variant, place.own, place.against,
        )  # fmt: skip


def _merged(stage: Stage, text: list[tuple[ShardNode, ...]]) -> tuple[ShardNode, ...]:
    """The text of all streams of a stage: of each source as much as the stream that wants most of it."""
    merged: dict[str, ShardNode] = {}
    for shard in (s for shards in text for s in shards):
        other = merged.setdefault(shard.source.name, shard)
        if other.source != shard.source:
            raise ValueError(f"stage {stage.name}: two text sources are called {shard.source.name!r}; rename one")
        if other.max_tokens < shard.max_tokens:
            merged[shard.source.name] = shard
    return tuple(merged.values())


def _words(recipe: AnyRecipe) -> str:
    return recipe.words if isinstance(recipe, Variant) else ""


def _prompted(source: Rollouts) -> list[tuple[Task, Split, int, int, int]]:
    """What a source of rollouts asks, and how long its answers may be."""
    train: Split = "train"
    asked: list[tuple[Task, Split, int, int, int]] = [(source.task, train, source.questions, 0, source.max_new_tokens)]
    # Foray's own tasks carve validation out of the same questions.
    if source.validation and not type(source.task).__module__.startswith("foray."):
        asked.append((source.task, "validation", source.validation, 0, source.max_new_tokens))
    return asked


def _only_text(stage: Stage | Merge) -> bool:
    return isinstance(stage, Stage) and all(isinstance(s.source, Corpus) for s in stage.members())


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
