"""A study as data: pre-training x checkpoints x recipes x seeds x evaluations."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from foray.core.spec import nearest, override, require
from foray.core.stage import PostTraining, Recipe, RecipeFunction, Stage, Stream
from foray.core.task import Task
from foray.model.config import ModelConfig


@dataclass(frozen=True)
class Data:
    """The tokenizer's size, and where local files lie: ``root`` fills every empty ``root`` of a task or text source."""

    vocab_size: int = 1536
    tokenizer_characters: int = 2_000_000
    whole_numbers: int = 0  # numbers up to this one are single tokens
    root: str = field(default="", metadata={"hash": False})

    def __post_init__(self) -> None:
        require(
            self.vocab_size >= 257, f"vocab_size must be at least 257 (256 bytes and an end token): {self.vocab_size}"
        )


@dataclass(frozen=True)
class Pretrain:
    """One run over ``tokens``, kept at every token count of ``checkpoints`` (each becomes an M_t)."""

    stream: Stream
    tokens: int
    checkpoints: tuple[int, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        require(bool(self.checkpoints), "at least one checkpoint is needed")
        bad = [t for t in self.checkpoints if not 0 < t <= self.tokens]
        require(not bad, f"checkpoints must lie between 1 and tokens ({self.tokens}), not {bad}")
        require(list(self.checkpoints) == sorted(set(self.checkpoints)), "checkpoints must be in rising order")
        steps = [self.step_at(t) for t in self.checkpoints]
        per = self.stream.source.tokens_per_step
        require(len(set(steps)) == len(steps), f"two checkpoints fall on one step: a step has {per} tokens")

    @property
    def stage(self) -> Stage:
        return Stage("pretrain", ((1.0, self.stream),), self.step_at(self.tokens))

    def step_at(self, tokens: int) -> int:
        return max(1, round(tokens / self.stream.source.tokens_per_step))


@dataclass(frozen=True)
class Dynamics:
    """Checkpoints inside the stages of some recipes from one M_t, evaluated on the way (figure F4)."""

    tokens: int
    recipes: tuple[str, ...] = ("rl", "sft_rl")
    points: int = 3  # a stage, the last being its end

    def __post_init__(self) -> None:
        require(self.points > 0, "dynamics.points must be positive")


@dataclass(frozen=True)
class Evaluation:
    """pass@k of every final checkpoint, the general probes, held-out perplexity.

    The first of ``base_shots`` and of ``trained_shots`` is the main setting; further ones are crossed settings.
    """

    task: Task
    problems: int = 200
    samples: int = 32
    k: tuple[int, ...] = (1, 8, 32)
    temperature: float = 0.6
    max_new_tokens: int = 96
    split: Literal["validation", "test"] = "test"
    base_shots: tuple[int, ...] = (8,)
    trained_shots: tuple[int, ...] = (0,)
    seed: int = 0
    probes: Any = None  # a spec of general-ability probes, such as foray.evals.general.WorldProbes
    heldout_tokens: int = 20_000
    dynamics: Dynamics | None = None

    def __post_init__(self) -> None:
        require(self.problems > 0 and self.samples > 0, "problems and samples must be positive")
        require(bool(self.k) and min(self.k) >= 1, "k must hold positive numbers")
        top = max(self.k)
        require(top <= self.samples, f"pass@{top} needs at least {top} samples a problem, not {self.samples}")
        require(self.temperature > 0 or self.samples == 1, "temperature 0 gives one sample: set samples=1 or raise it")
        require(all(s >= 0 for s in (*self.base_shots, *self.trained_shots)), "shots must be >= 0")
        require(
            self.probes is None or hasattr(self.probes, "names"), f"probes must be a spec of probes: {self.probes!r}"
        )
        require(bool(self.base_shots) and bool(self.trained_shots), "base_shots and trained_shots need a value each")


@dataclass(frozen=True)
class Study:
    """Everything an experiment is. ``recipes`` are functions, or names of functions of ``foray.train.recipes``."""

    name: str
    model: ModelConfig
    data: Data
    pretrain: Pretrain
    post: PostTraining
    recipes: tuple[str | RecipeFunction, ...]
    evaluation: Evaluation
    seeds: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        length = self.pretrain.stream.source.length
        context = self.model.context
        require(length <= context, f"pre-training sequences ({length}) are longer than the model's context ({context})")
        for recipe in self.recipes:
            resolve_recipe(recipe)
        watched = self.evaluation.dynamics
        if watched is not None:
            known = self.pretrain.checkpoints
            require(
                watched.tokens in known, f"dynamics.tokens ({watched.tokens}) must be one of the checkpoints {known}"
            )
            names = [recipe_name(r) for r in self.recipes]
            for name in watched.recipes:
                require(
                    name in names, f"dynamics watches {name!r}, which is no recipe of the study{nearest(name, names)}"
                )
        require(bool(self.seeds) and len(set(self.seeds)) == len(self.seeds), "seeds must be distinct and not empty")

    def stages(self, recipe: str | RecipeFunction) -> Recipe:
        return resolve_recipe(recipe)(self.post)

    def bound(self) -> Study:
        """The study with ``data.root`` filled into every task and text source whose own ``root`` is empty."""
        bound = _fill_root(self, self.data.root)
        assert isinstance(bound, Study)
        return bound


def recipe_name(recipe: str | RecipeFunction) -> str:
    return recipe if isinstance(recipe, str) else recipe.__name__


def resolve_recipe(recipe: str | RecipeFunction) -> RecipeFunction:
    """The function behind a recipe's name. Raises ValueError with the nearest valid name."""
    if not isinstance(recipe, str):
        return recipe
    from foray.train import recipes

    functions: dict[str, Callable[..., Any]] = {
        name: f
        for name, f in vars(recipes).items()
        if callable(f) and getattr(f, "__annotations__", {}).get("return") == "Recipe"
    }
    if recipe not in functions:
        raise ValueError(f"there is no recipe {recipe!r}{nearest(recipe, functions)}")
    return functions[recipe]


def _fill_root(value: Any, root: str) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        names = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        changed = {k: new for k, v in names.items() if (new := _fill_root(v, root)) is not v}
        if names.get("root") == "" and root:
            changed["root"] = root
        return replace(value, **changed) if changed else value
    if isinstance(value, tuple):
        items = tuple(_fill_root(v, root) for v in value)
        return items if any(a is not b for a, b in zip(items, value)) else value
    return value


def bundled_studies() -> list[str]:
    folder = Path(__file__).parent.parent / "studies"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def load_study(name: str, settings: list[str] | None = None) -> Study:
    """A bundled study by name, or the one that a ``.py`` file's ``study()`` returns, with ``--set`` settings applied.

    A study file is the user's own program and is run as such; nothing else that Foray reads is.
    """
    if name.endswith(".py") or "/" in name:
        path = Path(name)
        if not path.exists():
            raise ValueError(f"there is no study file {name}")
        spec = importlib.util.spec_from_file_location(f"foray_study_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses defined in the file look their own module up
        spec.loader.exec_module(module)
    elif name in bundled_studies():
        module = importlib.import_module(f"foray.studies.{name}")
    else:
        raise ValueError(f"there is no study {name!r}{nearest(name, bundled_studies())}")
    make = getattr(module, "study", None)
    made = make() if callable(make) else None
    if not isinstance(made, Study):
        raise ValueError(f"{name}: a study file defines a function study() that returns a foray.study.spec.Study")
    return override(made, *(settings or []))
