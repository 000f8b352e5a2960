"""What one grid has checked before it trains: prompts, demonstrations, and the first batches of a user's sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from foray.core.sources import Demonstrations, Rollouts
from foray.core.stage import Stage, drawing
from foray.core.task import Split, Task
from foray.study.kinds.checks import Check, DemonstrationsNode, PromptsNode, SourceNode
from foray.study.named_recipes import every_stage
from foray.study.node import TokenizerOwner
from foray.study.spec import Study
from foray.train.checked_draw import drawn_by_others


class _Asked(NamedTuple):
    """One kind of prompt, and how many tokens an answer may have."""

    task: Task
    split: Split
    problems: int
    shots: int
    max_new_tokens: int


def grid_checks(grid: Study, tokenizer: TokenizerOwner) -> tuple[Check, ...]:
    """A node for every kind of prompt that the grid samples from, of demonstration, and of source of the user's own."""
    stages = [stage for recipe in grid.recipes for stage in every_stage(grid.stages(recipe))]
    return (
        *_prompts(grid, stages, tokenizer),
        *_demonstrations(grid, stages, tokenizer),
        *_sources(grid, stages, tokenizer),
    )


def _prompts(grid: Study, stages: list[Stage], tokenizer: TokenizerOwner) -> Iterator[PromptsNode]:
    e = grid.evaluation
    asked = [_Asked(e.task, e.split, e.problems, s, e.max_new_tokens) for s in (*e.base_shots, *e.trained_shots)]
    if e.train_problems:
        asked += [
            _Asked(e.task, "train", e.train_problems, s[0], e.max_new_tokens) for s in (e.base_shots, e.trained_shots)
        ]
    for source in (grid.post.rl.source, *(member.source for stage in stages for member in stage.members())):
        if isinstance(source, Rollouts):
            asked += _asked_by(source)
    for task, split, problems, shots, new in dict.fromkeys(asked):
        yield PromptsNode(tokenizer, task, split, problems, shots, e.seed, new, grid.model.context)


def _asked_by(source: Rollouts) -> Iterator[_Asked]:
    yield _Asked(source.task, "train", source.questions, 0, source.max_new_tokens)
    # Foray's own tasks carve validation out of the same questions.
    if source.validation and not type(source.task).__module__.startswith("foray."):
        yield _Asked(source.task, "validation", source.validation, 0, source.max_new_tokens)


def _demonstrations(grid: Study, stages: list[Stage], tokenizer: TokenizerOwner) -> Iterator[DemonstrationsNode]:
    sources = (member.source for stage in stages for member in stage.members())
    # Batch sizes do not matter, nor do seeds where all solutions are taken.
    for source in dict.fromkeys(replace(s, batch_size=1) for s in sources if isinstance(s, Demonstrations)):
        for seed in grid.seeds if source.solutions == "one" else (0,):
            yield DemonstrationsNode(tokenizer, source, seed, grid.model.context)


def _sources(grid: Study, stages: list[Stage], tokenizer: TokenizerOwner) -> Iterator[SourceNode]:
    for stage in stages:
        for _, stream in stage.streams:
            for _, member in stream.members:
                if drawn_by_others(member.source):
                    own = drawing(stream, member)
                    yield SourceNode(tokenizer, grid.model, own, stage.name, stage.steps, grid.seeds)
