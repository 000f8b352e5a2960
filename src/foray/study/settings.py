"""The settings of a study as rows of words: what was trained how, from which seeds, and how it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from foray.core.stage import Merge, Recipe, Stage
from foray.study.spec import AnyRecipe, Evaluation, Pretrain, Published, Study, Variant, recipe_name

Row = dict[str, str]


def recipe_rows(study: Study) -> list[Row]:
    """A row for every stream of every recipe of the main results, pre-training first; equal rows once."""
    rows: list[Row] = []
    for _, grid in study.grids():
        of = {"model": _words(grid.model), "mix": grid.pretrain.mix, "task": ""}
        rows += [of | row for row in _pretraining(grid.pretrain)]
        of["task"] = grid.post.task.name
        for recipe in grid.recipes:
            if not isinstance(recipe, Variant) or not recipe.words:
                rows += [of | row for row in _stages(recipe_name(recipe), grid.stages(recipe))]
    return _distinct(rows)


def seed_rows(study: Study) -> list[Row]:
    """A row for every part's grid: which M_t, which seeds."""
    rows = []
    for part, grid in study.grids():
        recipes = ", ".join(_named(r) for r in grid.recipes)
        rows.append({
            "part": part,
            "task": grid.evaluation.task.name,
            "tokens of M_t": ", ".join(f"{t:,}" for t in grid.starts),
            "pre-training seeds": ", ".join(map(str, grid.pretrain.seeds)),
            "seeds": ", ".join(map(str, grid.seeds)),
            "recipes": recipes,
        })  # fmt: skip
    return rows


def prompt_rows(study: Study) -> list[Row]:
    """A row for every way in which a model is asked, with the prompt's form."""
    return _distinct([row for _, grid in study.grids() for row in _prompts(grid.evaluation)])


def _prompts(e: Evaluation) -> Iterator[Row]:
    # The form alone: the examples are training problems, chosen by the evaluation's seed.
    form = e.task.prompt("{question}")
    for who, shots in (("base", e.base_shots), ("trained", e.trained_shots)):
        yield {
            "task": e.task.name, "split": e.split, "model": who, "shots": ", ".join(map(str, shots)),
            "prompt": repr(form), "stop": ", ".join(map(repr, e.task.stop)),
            "problems x samples": f"{e.problems} x {e.samples}" + (f" by {e.engine}" if e.engine != "embedded" else ""),
            "temperature": f"{e.temperature:g}", "new tokens": str(e.max_new_tokens), "seed": str(e.seed),
        }  # fmt: skip


def _pretraining(pretrain: Pretrain | Published) -> Iterator[Row]:
    if isinstance(pretrain, Pretrain):
        yield from _stages("pre-training", (pretrain.stage,))
        return
    for tokens, release in pretrain.releases:
        yield {"recipe": "pre-training", "stage": "published", "source": f"{release.name}: {tokens:,} tokens"}


def _named(recipe: AnyRecipe) -> str:
    varied = f" ({recipe.words})" if isinstance(recipe, Variant) and recipe.words else ""
    return recipe_name(recipe) + varied


def _stages(recipe: str, stages: Recipe) -> Iterator[Row]:
    for stage in stages:
        if isinstance(stage, Merge):
            for weight, branch in stage.branches:
                yield from ({**row, "weight": f"{weight:g} of {row['weight']}"} for row in _stages(recipe, branch))
        else:
            yield from _streams(recipe, stage)


def _streams(recipe: str, stage: Stage) -> Iterator[Row]:
    for weight, stream in stage.streams:
        for share, member in stream.members:
            of = f"{weight:g}" if isinstance(weight, float | int) else _words(weight)
            yield {
                "recipe": recipe,
                "stage": stage.name,
                "updates": str(stage.steps),
                "stream": member.name,
                "weight": of if share == 1 else f"{of} x {share:g}",
                "learning rate": f"{stream.optimizer.lr:g}",
                "optimizer": _words(stream.optimizer, "lr"),
                "source": _words(member.source, "mixture", "task"),
                "objective": _words(member.objective),
                "precision": member.precision,
            }


def _words(spec: Any, *without: str) -> str:
    """``AdamW: betas 0.9 0.95, eps 1e-08``: the plain values of a spec."""
    if not is_dataclass(spec):
        return str(spec)
    shown = [f for f in fields(spec) if f.name not in without and f.init and f.metadata.get("hash", True)]
    # A field that was added later is worth a word where it is not at its default.
    shown = [f for f in shown if not (f.metadata.get("added") and getattr(spec, f.name) == f.default)]
    parts = [f"{f.name} {_value(getattr(spec, f.name))}" for f in shown]
    return f"{type(spec).__name__}: {', '.join(parts)}"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(_value(v) for v in value)
    if is_dataclass(value):
        return f"({_words(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _distinct(rows: list[Row]) -> list[Row]:
    return list({tuple(row.items()): row for row in rows}.values())
