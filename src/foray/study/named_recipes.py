"""Foray's own recipes by name, and the stages of any recipe."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from inspect import isfunction
from typing import Any

from foray.core.canonical import nearest
from foray.core.lora import LoRA
from foray.core.stage import Merge, PostTraining, Recipe, RecipeFunction, Stage


def every_stage(recipe: Recipe) -> Iterator[Stage]:
    """All stages, those of merged branches too."""
    for stage in recipe:
        if isinstance(stage, Merge):
            for _, branch in stage.branches:
                yield from every_stage(branch)
        else:
            yield stage


def with_adapters(recipe: Recipe, lora: LoRA | None) -> Recipe:
    """The recipe whose stages train adapters, those of merged branches too. A stage may have adapters of its own."""
    if lora is None:
        return recipe
    return tuple(
        replace(part, branches=tuple((w, with_adapters(branch, lora)) for w, branch in part.branches))
        if isinstance(part, Merge)
        else replace(part, lora=part.lora or lora)
        for part in recipe
    )


def resolve_recipe(recipe: str | RecipeFunction) -> RecipeFunction:
    """The function behind a recipe's name. Raises ValueError with the nearest valid name, or else with all."""
    if not isinstance(recipe, str):
        return recipe
    functions = named_recipes()
    if recipe not in functions:
        known = nearest(recipe, functions) or f" (valid: {', '.join(functions)})"
        own = "; one of your own is given as the function itself"
        raise ValueError(f"there is no recipe {recipe!r}{known}{own}")
    return functions[recipe]


def named_recipes() -> dict[str, RecipeFunction]:
    """The functions of ``foray.train.recipes`` and ``other_recipes`` that make stages of PostTraining, by name."""
    from foray.train import other_recipes, recipes

    return {
        name: f
        for module in (other_recipes, recipes)
        for name, f in vars(module).items()
        if isfunction(f) and not name.startswith("_") and _is_recipe(f, (other_recipes.__name__, recipes.__name__))
    }


@lru_cache(maxsize=256)  # a large study asks thousands of times
def _is_recipe(f: Callable[..., Any], modules: tuple[str, ...]) -> bool:
    """By what its annotations mean, however they are written; one that has none is taken at its word."""
    hints = typing.get_type_hints(f)
    returned, taken = hints.pop("return", Recipe), list(hints.values()) or [PostTraining]
    return f.__module__ in modules and taken == [PostTraining] and returned in (Recipe, tuple[Stage, ...])
