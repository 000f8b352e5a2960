"""The recipes that a study asks for: by name, as a function, or as a variant with settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from foray.core.canonical import require
from foray.core.field_types import require_types
from foray.core.override import override
from foray.core.sources import Corpus, Rollouts
from foray.core.stage import PostTraining, Recipe, RecipeFunction
from foray.study.named_recipes import every_stage, named_recipes


@dataclass(frozen=True)
class Variant:
    """A recipe with post-training settings of its own, each written as for ``--set``: ``rl.lr=4e-4``.

    The report shows the variant beside the main results as ``label``; when None, as the settings. With an empty label
    the variant *is* the study's version of the recipe: every recipe can have hyperparameters of its own. ``against``
    names the recipe of the main results to compare with; when empty, the one of the same name.
    """

    recipe: str | RecipeFunction  # a recipe, or its name
    settings: tuple[str, ...]  # of post-training
    label: str | None = None
    against: str = ""

    def __post_init__(self) -> None:
        require_types(self)

    @property
    def words(self) -> str:
        return ", ".join(self.settings) if self.label is None else self.label


AnyRecipe = str | RecipeFunction | Variant


def recipe_name(recipe: AnyRecipe) -> str:
    """The recipe's name in tables and figures. Raises ValueError for what is no recipe or has no name."""
    if isinstance(recipe, Variant):
        return recipe_name(recipe.recipe)
    if isinstance(recipe, str):
        return recipe
    require(callable(recipe), f"{recipe!r} is no recipe: name one of Foray's, or give a function of PostTraining")
    name = getattr(recipe, "__name__", "")
    how = "write `def my_recipe(post): return ...` around it, or set its __name__"
    kind = "a lambda" if name == "<lambda>" else f"a {type(recipe).__name__}"
    require(isinstance(name, str) and name.isidentifier(), f"{kind} as a recipe has no name for tables: {how}")
    return name


def check_recipes(
    recipes: Sequence[AnyRecipe], stages_of: Callable[[AnyRecipe], Recipe], post: PostTraining, context: int
) -> None:
    """Raises ValueError for what is no recipe, for two that tables could not tell apart, and for a variant's setting
    that ``post.after_sft`` or ``post.together`` hides.

    ``context``: tokens of the model's context, which every row must fit.
    """
    known, of_foray = dict[str, Recipe](), named_recipes()
    for recipe in recipes:
        name, stages = recipe_name(recipe), stages_of(recipe)
        require(name != "base", "a recipe cannot be called 'base', which is what M_t itself is called: rename it")
        made = recipe.recipe if isinstance(recipe, Variant) else recipe
        fine = isinstance(made, str) or of_foray.get(name, made) is made
        require(fine, f"a recipe of your own cannot be called {name!r}, which is one of Foray's: rename the function")
        if isinstance(recipe, Variant):
            hidden, by = _hidden(recipe, stages_of, post)
            instead = f"write {by}.{hidden} in the variant, or leave post.{by} out"
            require(not hidden, f"recipe {name}: post.{by} has settings of its own and hides {hidden}: {instead}")
        if not isinstance(recipe, Variant) or not recipe.words:
            twice = f"two recipes are called {name!r}: rename one, or make it a Variant, whose settings are shown"
            require(known.setdefault(name, stages) == stages, twice)
        for stage in every_stage(stages):
            for stream in stage.members():
                length = stream.source.length if isinstance(stream.source, Corpus) else 0
                samples = isinstance(stream.source, Rollouts) or bool(getattr(stream.source, "validation", 0))
                new = stream.source.max_new_tokens if samples else 0  # type: ignore[attr-defined]
                where, whole = f"stage {stage.name}, stream {stream.name}", f"the model's context ({context})"
                require(length <= context, f"{where}: windows of {length} are longer than {whole}")
                require(new < context, f"{where}: max_new_tokens ({new}) does not fit {whole}")


def _hidden(
    recipe: Variant, stages_of: Callable[[AnyRecipe], Recipe], post: PostTraining
) -> tuple[str, Literal["", "after_sft", "together"]]:
    """A setting that changes ``post`` and not the recipe, and what the recipe reads in its place; empty for none."""
    whole, stages = override(post, *recipe.settings), stages_of(recipe)
    if whole.after_sft is None and whole.together is None:
        return "", ""
    for setting in recipe.settings:
        others = tuple(s for s in recipe.settings if s != setting)
        with suppress(ValueError):  # without it the others contradict one another: it is needed
            if override(post, *others) != whole and stages_of(replace(recipe, settings=others)) == stages:
                reads_after = stages_of(replace(recipe, settings=(*recipe.settings, "together=none"))) == stages
                return setting, "after_sft" if reads_after else "together"
    return "", ""
