"""A study as data: pre-training x checkpoints x recipes x seeds x evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal, cast

from foray.core.canonical import (
    added,
    check_name,
    check_vocabulary,
    fill_root,
    nearest,
    require,
    require_not_negative,
    require_positive,
)
from foray.core.engines import VLLM, AnyEngine, check_engine, check_truncation
from foray.core.field_types import require_types
from foray.core.override import override
from foray.core.passk import check_asked
from foray.core.sources import Corpus, check_mixture
from foray.core.spelling import in_words
from foray.core.stage import Merge, PostTraining, Recipe, Stage, Stream
from foray.core.task import CutOff, Extraction, Task
from foray.evals.own_measure import OwnMeasure
from foray.evals.probe_set import ProbeSet
from foray.model.config import ModelConfig
from foray.study.named_recipes import resolve_recipe, with_adapters
from foray.study.published import Release
from foray.study.variants import AnyRecipe, Variant, check_recipes, recipe_name


@dataclass(frozen=True)
class Data:
    """The tokenizer's size, and where local files lie: ``root`` fills every empty ``root`` of a task or text source.

    ``mixture`` is the text that the tokenizer is trained on; when empty, the text that the model is trained on.
    """

    vocab_size: int = 1536  # entries of the tokenizer
    mixture: tuple[tuple[float, Any], ...] = ()
    tokenizer_characters: int = 2_000_000  # text that the tokenizer is trained on
    whole_numbers: int = 0  # numbers up to this one are single tokens
    root: str = field(default="", metadata={"hash": False})

    def __post_init__(self) -> None:
        require_types(self)
        check_vocabulary(self.vocab_size, self.whole_numbers)
        check_mixture(self.mixture)


@dataclass(frozen=True)
class Pretrain:
    """A run over ``tokens`` for each of ``seeds``, kept at each token count of ``checkpoints``: these are the M_t."""

    stream: Stream  # source, objective and optimizer
    tokens: int
    checkpoints: tuple[int, ...]
    seeds: tuple[int, ...] = (0,)
    mix: str = ""  # the name of the mix, in figures over several mixes
    math_heavy: bool = added(False)  # whether the claims on math-heavy mixes count this mix

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.seeds) and len(set(self.seeds)) == len(self.seeds), "pretrain.seeds must be distinct")
        require(bool(self.checkpoints), "at least one checkpoint is needed")
        bad = [t for t in self.checkpoints if not 0 < t <= self.tokens]
        require(not bad, f"checkpoints must lie between 1 and tokens ({self.tokens}), not {bad}")
        require(list(self.checkpoints) == sorted(set(self.checkpoints)), "checkpoints must be in rising order")
        steps = [self.step_at(t) for t in self.checkpoints]
        per = self.corpus.tokens_per_step
        require(len(set(steps)) == len(steps), f"two checkpoints fall on one step: a step has {per} tokens")

    @property
    def corpus(self) -> Corpus:
        """The source of pre-training text."""
        return cast(Corpus, self.stream.source)

    @property
    def stage(self) -> Stage:
        return Stage("pretrain", ((1.0, self.stream),), self.step_at(self.tokens))

    def step_at(self, tokens: int) -> int:
        return max(1, round(tokens / self.corpus.tokens_per_step))


@dataclass(frozen=True)
class Published:
    """Published checkpoints, in place of a pre-training.

    ``models`` are (hub id, revision, tokens) or (folder, "", tokens), in rising order of the tokens that the checkpoint
    was trained on. A hub id may name a folder inside the repository: "ORGANISATION/NAME/FOLDER". A relative folder lies
    below ``root``; when empty, below the study's ``data.root``. All models have the shape of the study's ``model``;
    ``Release(...).shape()`` reads it from one. The validation split of ``heldout`` gives the held-out perplexity.
    """

    models: tuple[tuple[str, str, int], ...]
    mix: str = ""  # the name of the mix, in figures over several mixes
    heldout: Corpus | None = None
    root: str = field(default="", metadata={"hash": False})
    math_heavy: bool = added(False)  # whether the claims on math-heavy mixes count this mix

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.models), "published.models must name at least one checkpoint")
        counts = self.checkpoints
        require(counts[0] > 0, f"the tokens of published models must be positive, not {counts[0]}")
        require(list(counts) == sorted(set(counts)), f"published models must be in rising order of tokens: {counts}")

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Token counts."""
        return tuple(tokens for _, _, tokens in self.models)

    @property
    def tokens(self) -> int:
        return self.checkpoints[-1]

    @property
    def seeds(self) -> tuple[int, ...]:
        """One, whatever seed the checkpoints were trained from."""
        return (0,)

    @property
    def releases(self) -> tuple[tuple[int, Release], ...]:
        return tuple((tokens, Release(source, revision, self.root)) for source, revision, tokens in self.models)


@dataclass(frozen=True)
class Dynamics:
    """Checkpoints inside the stages of some recipes from one M_t, evaluated on the way (figures F4, A3, R1).

    A stage has ``points`` of them, evenly spaced, the last at its end; or one after each of ``steps``, where given.
    """

    tokens: int  # the M_t
    recipes: tuple[str, ...] = ("rl", "sft_rl")  # the recipes that are watched
    points: int = 3
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_types(self)
        require(0 < self.points <= 1000, f"dynamics.points must lie between 1 and 1000, not {self.points}")
        require(all(s > 0 for s in self.steps), "dynamics.steps must be positive")

    def watches(self, tokens: int, recipe: str) -> bool:
        return tokens == self.tokens and recipe in self.recipes

    def steps_of(self, stage_steps: int) -> list[int]:
        """Updates of a stage after which its model is evaluated."""
        evenly = [round(stage_steps * i / self.points) for i in range(1, self.points)]
        inside = [s for s in self.steps if s < stage_steps] if self.steps else evenly
        return sorted({*inside, stage_steps})


def _cure(watched: Dynamics, names: list[str]) -> str:
    """What to write where the study has not every recipe that is watched: those that it has, or the likeliest names."""
    near = [name for w in watched.recipes for name in get_close_matches(w, names, n=1, cutoff=0.8)]
    others = f", or evaluation.dynamics.recipes={','.join(dict.fromkeys(near or names))}" if names else ""
    return f"no recipe of the study: set evaluation.dynamics=None{others}"


@dataclass(frozen=True)
class Evaluation:
    """pass@k of every final checkpoint, the general probes, held-out perplexity.

    ``heldout_tokens`` of each text source, and the task's own text, give the held-out perplexity; 0 leaves it out.

    The first of ``base_shots`` and of ``trained_shots`` is the main setting; further ones are crossed settings.
    """

    task: Task  # the task of pass@k
    problems: int = 200  # problems, the first of the split
    samples: int = 32  # completions a problem
    k: tuple[int, ...] = (1, 8, 32)  # the k of pass@k
    temperature: float = 0.6  # of sampling
    temperatures: tuple[float, ...] = added(())  # others at which every final checkpoint answers again
    max_new_tokens: int = 96  # a longer completion is cut off
    cut_off: CutOff = added("wrong")  # what a completion without an end is worth: nothing, or what its text says
    split: Literal["validation", "test"] = "test"  # of the problems
    base_shots: tuple[int, ...] = (8,)
    trained_shots: tuple[int, ...] = (0,)
    seed: int = 0  # of the samples and of the choice of examples
    probes: ProbeSet | None = None  # of general abilities, such as foray.evals.abilities.WorldProbes
    heldout_tokens: int = 20_000
    dynamics: Dynamics | None = None  # checkpoints inside the stages, evaluated on the way
    precision: Literal["fp32", "bf16"] = added("fp32")  # of the matrix products of sampling
    contamination: int = 13  # words in a row that count as shared with training text; 0 leaves the table out
    engine: AnyEngine = added("embedded")  # of the samples that pass@k is counted from
    vllm: VLLM = field(default=VLLM(), metadata={"added": True, "hash": False})  # the layout of vLLM
    measures: tuple[OwnMeasure, ...] = added(())  # measurements of the user's own
    train_problems: int = added(0)  # training questions that every final checkpoint answers as well
    train_samples: int = added(4)  # completions of a training question
    top_p: float = added(1.0)  # draw from the likeliest tokens of this total probability; 1: all
    top_k: int = added(0)  # draw from this many of the likeliest tokens; 0: all
    min_p: float = added(0.0)  # draw from tokens with at least this share of the likeliest token's probability; 0: all
    grading: Extraction = added("strict")  # which tables, figures and claims show; every sample is graded in each way

    def __post_init__(self) -> None:
        require_types(self)
        check_engine(self.engine)
        check_truncation(self)
        require_positive(self, "problems", "samples", "max_new_tokens", "train_samples")
        require_not_negative(self, "contamination", "heldout_tokens", "train_problems", "temperature")
        require(all(t >= 0 for t in self.temperatures), "temperatures must be >= 0")
        require(bool(self.k) and min(self.k) >= 1, "k must hold positive numbers")
        top = max(self.k)
        require(top <= self.samples, f"pass@{top} needs at least {top} samples a problem, not {self.samples}")
        many = max(self.samples, self.train_samples if self.train_problems else 1)
        one = "temperature 0 gives one sample: set samples=1 (and train_samples=1 with train_problems) or raise it"
        require(min((self.temperature, *self.temperatures)) > 0 or many == 1, one)
        require(all(s >= 0 for s in (*self.base_shots, *self.trained_shots)), "shots must be >= 0")
        probes = self.probes
        require(probes is None or hasattr(probes, "names"), f"probes must be a spec of probes: {probes!r}")
        require(bool(self.base_shots) and bool(self.trained_shots), "base_shots and trained_shots need a value each")
        names = [getattr(m, "name", m) for m in self.measures]
        require(len(set(map(str, names))) == len(names), f"two measures share a name: {', '.join(map(str, names))}")


@dataclass(frozen=True)
class Part:
    """A named part of a study: grids that are run together and share the study's store."""

    name: str  # the value of --part
    grids: tuple[Study, ...]  # studies made by replace

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.name), "a part has a name, for --part")
        require(bool(self.grids), f"part {self.name!r} holds no study")


@dataclass(frozen=True)
class Study:
    """Everything an experiment is: one grid, and further ``parts`` of other grids.

    ``recipes`` are functions, or names of functions of ``foray.train.recipes`` and ``other_recipes``, or variants.
    Excursions start from ``excursions``, token counts of ``pretrain.checkpoints`` (when empty, from all). In place of a
    pre-training, ``pretrain`` may be ``Published`` checkpoints.
    """

    name: str  # the name of the study, and of its folder in runs/
    model: ModelConfig  # the shape of the model
    data: Data  # tokenizer and local files
    pretrain: Pretrain | Published
    post: PostTraining  # streams and updates of RL and SFT
    recipes: tuple[AnyRecipe, ...]
    evaluation: Evaluation  # what every final checkpoint is asked
    seeds: tuple[int, ...] = (0,)  # the seeds after M_t
    excursions: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()  # remarks that foray plan and the report's page show
    parts: tuple[Part, ...] = ()
    report: tuple[str, ...] = field(default=(), metadata={"hash": False})  # files of figures and sections of one's own

    def __post_init__(self) -> None:
        require_types(self)
        files = all(file.endswith(".py") for file in self.report)
        require(files, f"report is {self.report!r}: write a tuple of .py files, such as ('my_figure.py',)")
        check_name(self.name, "a study")
        check_name(getattr(self.evaluation.task, "name", "unnamed"), "a task")  # one without a name is refused later
        for recipe in self.recipes:
            self.stages(recipe)
        require(bool(self.seeds) and len(set(self.seeds)) == len(self.seeds), "seeds must be distinct and not empty")
        names = ["main", *(p.name for p in self.parts)]
        require(len(set(names)) == len(names), f"two parts share a name: {', '.join(names)}")

    def check_whole(self) -> None:
        """Raises ValueError where settings contradict one another. Asked once all are known, those of ``--set`` too."""
        text, context = self.text, self.model.context
        if text is not None:
            what = "pre-training" if isinstance(self.pretrain, Pretrain) else "held-out"
            long = f"{what} sequences ({text.length}) are longer than the model's context ({context})"
            require(text.length <= context, long)
        asked = self.evaluation
        shots = max(*asked.base_shots, *asked.trained_shots)
        check_asked(asked.problems, asked.samples, shots, asked.max_new_tokens, context)
        if asked.train_problems:
            ours = f"evaluation.train_problems={asked.train_problems}"
            trained = f"{ours} asks {asked.task.name}, and post-training is on {self.post.task.name}"
            require(asked.task == self.post.task, f"{trained}: use one task, or train_problems=0")
            most = self.post.questions
            require(asked.train_problems <= most, f"{ours} are more than the {most} questions of post-training")
        check_recipes(self.recipes, self.stages, self.post, context)
        known, watched = self.pretrain.checkpoints, self.evaluation.dynamics
        for tokens in self.excursions:
            require(tokens in known, f"excursions: {tokens} is not one of the checkpoints {known}")
        if watched is not None:
            where = f"dynamics.tokens ({watched.tokens}) must be one of the checkpoints {self.starts}"
            require(watched.tokens in self.starts, f"{where}; with evaluation.dynamics=none no recipe is watched")
            names = [recipe_name(r) for r in self.recipes]
            for name in watched.recipes:
                require(name in names, f"evaluation.dynamics watches {name!r}, which is {_cure(watched, names)}")

    @property
    def text(self) -> Corpus | None:
        """The source of held-out text: pre-training's own, or the one given with published checkpoints."""
        return self.pretrain.corpus if isinstance(self.pretrain, Pretrain) else self.pretrain.heldout

    @property
    def pretraining(self) -> Pretrain:
        """``pretrain``, of a study that trains its M_t itself. Raises ValueError where they are published."""
        if not isinstance(self.pretrain, Pretrain):
            raise ValueError(f"study {self.name} trains no M_t: its checkpoints are published")
        return self.pretrain

    @property
    def starts(self) -> tuple[int, ...]:
        """Token counts of the M_t that excursions start from."""
        return self.excursions or self.pretrain.checkpoints

    def stages(self, recipe: AnyRecipe) -> Recipe:
        """Raises ValueError where the recipe does not return stages."""
        name = recipe_name(recipe)
        post = override(self.post, *recipe.settings) if isinstance(recipe, Variant) else self.post
        made = resolve_recipe(recipe.recipe if isinstance(recipe, Variant) else recipe)(post)
        fine = isinstance(made, tuple) and made and all(isinstance(stage, Stage | Merge) for stage in made)
        cure = "return a tuple of stages, as in `return (Stage(...),)`"
        require(bool(fine), f"recipe {name} returns {in_words(made)}: {cure}")
        return with_adapters(made, post.lora)

    def grids(self, part: str | None = None) -> list[tuple[str, Study]]:
        """(part, grid) of the whole study, or of one part; the study's own grid is its part ``main``."""
        own = replace(self, parts=())
        every = [("main", own), *((p.name, grid) for p in self.parts for grid in p.grids)]
        if part is None:
            return every
        names = [name for name, _ in every]
        require(part in names, f"study {self.name} has no part {part!r}{nearest(part, dict.fromkeys(names))}")
        return [(name, grid) for name, grid in every if name == part]

    def bound(self) -> Study:
        """The study with ``data.root`` filled into every task and text source whose own ``root`` is empty."""
        return fill_root(self, self.data.root)
