"""The nodes that come out of one M_t: its evaluations, and every recipe's stages with theirs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from foray.core.sources import Corpus, Rollouts
from foray.core.stage import Merge, Recipe, Stage
from foray.study.grid_checks import grid_checks
from foray.study.grid_text import GridText
from foray.study.kinds.checks import Check
from foray.study.kinds.measures import MeasureNode, OfCheckpoint, PassKNode, PerplexityNode, ProbesNode, TaskTextNode
from foray.study.kinds.models import ImportNode, MergeNode
from foray.study.kinds.training import TrainNode
from foray.study.node import CheckpointNode, Node
from foray.study.spec import Study

TASK_TEXTS = 500  # problems whose text gives a model's perplexity on the task, at most


@dataclass(frozen=True)
class Excursion:
    """One recipe from one M_t with one seed, by the study's names; the recipe ``base`` is M_t itself.

    A ``variant`` is a recipe with settings of its own; ``own`` says whether those are the settings that the study's
    version of the recipe has.
    """

    part: str
    grid: Study
    pretrain_seed: int
    tokens: int
    recipe: str
    seed: int
    variant: str = ""
    own: bool = True
    against: str = ""


@dataclass(frozen=True, kw_only=True)
class GraphEntry(Excursion):
    """A node whose result the report reads, and the study's name for it.

    ``stage_step`` counts updates over the whole recipe. ``final`` entries belong in the main figures; the others are
    points inside a recipe or crossed settings.
    """

    node: Node
    stage_step: int
    final: bool
    stage: str = ""

    @property
    def checkpoint(self) -> CheckpointNode | None:
        """The checkpoint that the node makes or measures; None where it measures text alone."""
        made = self.node.checkpoint if isinstance(self.node, OfCheckpoint) else self.node
        return made if isinstance(made, CheckpointNode) else None


def entry(of: Excursion, node: Node, step: int, final: bool, stage: str = "") -> GraphEntry:
    return GraphEntry(**vars(of), node=node, stage_step=step, final=final, stage=stage)


@dataclass(frozen=True)
class Start:
    """One M_t of a grid, from which excursions go out."""

    text: GridText
    base: TrainNode | ImportNode

    @property
    def grid(self) -> Study:
        return self.text.grid

    @cached_property
    def _checks(self) -> tuple[Check, ...]:
        """Checks that training from a published checkpoint waits for. Training here has waited already."""
        return grid_checks(self.grid, self.base.tokenizer) if isinstance(self.base, ImportNode) else ()

    def base_entries(self, of: Excursion) -> Iterator[GraphEntry]:
        yield entry(of, self.base, 0, True, "pretrain")
        yield from self._evaluations(of, self.base, 0, self.grid.evaluation.base_shots, True)

    def entries(self, of: Excursion, stages: Recipe) -> Iterator[GraphEntry]:
        """The ends of the stages and the evaluations of a recipe."""
        e = self.grid.evaluation
        watched = e.dynamics if e.dynamics is not None and e.dynamics.watches(of.tokens, of.recipe) else None
        # A model that never saw the 0-shot form is asked as a base model is.
        shots = e.base_shots if all(_only_text(stage) for stage in stages) else e.trained_shots
        parent: CheckpointNode = self.base
        before = 0
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            if isinstance(stage, Merge):
                parent, steps = self._merged(stage, of, parent)
                before += steps
                if last:
                    yield from self._evaluations(of, parent, before, shots, True)
                continue
            node: TrainNode | None = None
            for step in watched.steps_of(stage.steps) if watched else [stage.steps]:
                node = self._trained(stage, step, of, parent, node, of.variant if last else "")
                end = last and step == stage.steps
                if step == stage.steps:
                    yield entry(of, node, before + step, end, stage.name)
                if end or watched:
                    yield from self._evaluations(of, node, before + step, shots, end)
            assert node is not None
            parent, before = node, before + stage.steps

    def _merged(self, merge: Merge, of: Excursion, start: CheckpointNode) -> tuple[MergeNode, int]:
        """The merged checkpoint, and the updates that its branches take together."""
        ends: list[CheckpointNode] = []
        steps = 0
        for _, recipe in merge.branches:
            node = start
            for stage in recipe:
                if isinstance(stage, Merge):
                    node, more = self._merged(stage, of, node)
                else:
                    node, more = self._trained(stage, stage.steps, of, node, None), stage.steps
                steps += more
            ends.append(node)
        return MergeNode(tuple(ends), tuple(w for w, _ in merge.branches)), steps

    def _trained(
        self, stage: Stage, step: int, of: Excursion, parent: CheckpointNode, after: TrainNode | None, beside: str = ""
    ) -> TrainNode:
        tokenizer = self.base.tokenizer
        return TrainNode(
            self.grid.model, tokenizer, stage, step, of.seed, parent,
            shards=self.text.of_stage(stage, tokenizer), screen=self._screen(stage), after=after,
            checks=self._checks, beside=beside,
        )  # fmt: skip

    def _screen(self, stage: Stage) -> PassKNode | None:
        """The base's own answers by which the stage's streams choose their questions."""
        e, screens = self.grid.evaluation, dict[str, PassKNode]()
        for source in (s.source for s in stage.members()):
            if isinstance(source, Rollouts) and (screen := source.screen) is not None:
                node = PassKNode(
                    self.base, source.task, "train", source.questions, screen.shots, screen.samples, 1.0,
                    source.max_new_tokens, e.seed, e.precision, cut_off=source.cut_off,
                )  # fmt: skip
                screens[node.key] = node
        if len(screens) > 1:
            raise ValueError(
                f"stage {stage.name}: its streams choose their questions by different answers of the base; give their "
                "screens the same samples and shots, and their sources the same task, questions and max_new_tokens"
            )
        return next(iter(screens.values()), None)

    def _evaluations(
        self, of: Excursion, node: CheckpointNode, step: int, shots: Iterable[int], final: bool
    ) -> Iterator[GraphEntry]:
        e = self.grid.evaluation
        for i, s in enumerate(shots):
            passk = PassKNode(
                node, e.task, e.split, e.problems, s, e.samples, e.temperature, e.max_new_tokens, e.seed, e.precision,
                engine=e.engine, vllm=e.vllm, top_p=e.top_p, top_k=e.top_k, min_p=e.min_p,
                cut_off=e.cut_off,
            )  # fmt: skip
            yield entry(of, passk, step, final and i == 0)
            if final and i == 0:
                for other in dict.fromkeys(float(t) for t in e.temperatures if t != e.temperature):
                    yield entry(of, replace(passk, temperature=other), step, final)
            if final and i == 0 and e.train_problems:
                seen = replace(passk, split="train", problems=e.train_problems, samples=e.train_samples)
                yield entry(of, seen, step, final)
            if not final:
                return  # points inside a recipe: the main setting and nothing else
        if e.probes is not None:
            yield entry(of, ProbesNode(node, e.probes), step, final)
        corpus, shards = self.grid.text, self.text.heldout(self.base.tokenizer)
        if corpus is not None and shards:
            yield entry(of, PerplexityNode(node, shards, corpus.length), step, final)
        if e.heldout_tokens:
            yield entry(of, TaskTextNode(node, e.task, e.split, min(e.problems, TASK_TEXTS)), step, final)
        for measure in e.measures:
            yield entry(of, MeasureNode(node, measure), step, final)


def _only_text(stage: Stage | Merge) -> bool:
    return isinstance(stage, Stage) and all(isinstance(s.source, Corpus) for s in stage.members())
