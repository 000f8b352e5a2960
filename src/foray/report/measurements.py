"""What a study has measured: one class a kind, each with the model that was measured, the folder and the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foray.core.provenance import Made
from foray.report.stats import Counts

# How often each distinct answer of a problem was given, and whether it is right; samples without an answer left out.
Votes = Sequence[tuple[int, bool]]


class Seeds(NamedTuple):
    """Which training run a model is from: the seed of its pre-training, and the seed of what came after."""

    pretrain_seed: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One entry of the manifest: what was measured, of which model, and the folder that holds the result.

    ``tokens``: of M_t. ``trained_on``: the task of post-training; empty for a base model. ``stage_step`` counts
    updates since M_t, as the study plans them. ``shots``, ``task`` and ``hard`` (the task's class says that the task is
    hard) are of pass@k alone; None where an earlier version wrote no ``hard``. The ``task`` of a user's own measurement
    is its name, that of a perplexity on a task's own text (kind ``task_text``) is the task.

    Models beside the main grid differ from it in one of these: ``variant`` (a recipe with settings of its own; ``own``:
    the settings are those of the main grid; ``against``: the recipe of the main grid to compare with), ``split`` of the
    task, ``temperature`` of the samples (None: the study's own), pre-training ``mix`` (``math_heavy``: None where an
    earlier version did not say), ``model_parameters``.

    ``rollouts`` a prompt and ``examples`` (prompts seen) are of models inside or after one stage of RL.
    ``screen``: RL asked only questions that the base answered between so many and so many times in 64, by this grading.
    ``learning_rates``: by role, of the last stage. ``hard_share``: of hard problems in the mix's math, where a source
    says so. ``planned``: the updates of the last stage, where it has a stop rule. ``stopped``: the update at which the
    rule ended that stage; None where the stage ran to its last update.
    ``streams``: the role of each stream of a stage, by name; None where an earlier version wrote none.
    ``checkpoint``: the folder of the model; None where an earlier version wrote none.
    """

    kind: str
    folder: Path
    tokens: int
    recipe: str
    stage: str
    stage_step: int
    final: bool
    seed: int
    task: str = ""
    shots: int | None = None
    part: str = ""
    pretrain_seed: int = 0
    trained_on: str = ""
    rollouts: int | None = None
    examples: int | None = None
    screen: tuple[int, int, str] | None = None
    variant: str = ""
    own: bool = True
    against: str = ""
    split: str = ""
    temperature: float | None = None
    mix: str = ""
    model_parameters: int | None = None
    streams: Mapping[str, str] | None = None
    math_heavy: bool | None = None
    hard: bool | None = None
    learning_rates: Mapping[str, float] | None = None
    planned: int | None = None
    stopped: int | None = None
    hard_share: float | None = None
    checkpoint: Path | None = None

    @property
    def run(self) -> Seeds:
        return Seeds(self.pretrain_seed, self.seed)

    @property
    def off_grid(self) -> bool:
        """Beside the main grid: only figures, tables and claims that ask for such models see this one."""
        beside = (self.temperature, self.model_parameters) != (None, None)
        return bool(self.variant or self.split or self.mix) or beside

    @property
    def words(self) -> str:
        place = f", stage {self.stage}" if self.stage else ""
        place = f", {self.task}" if self.kind in ("measure", "task_text") else place
        hot = "" if self.temperature is None else f" at temperature {self.temperature:g}"
        asked = f", {self.task} {self.shots}-shot{hot}" if self.kind == "passk" else place
        named = ", ".join(x for x in (self.recipe, self.variant, self.mix) if x)
        seeds = f"{self.pretrain_seed}/{self.seed}"
        return f"{self.kind} of {named} at {self.tokens} tokens, step {self.stage_step}, seed {seeds}{asked}"


@dataclass(frozen=True, kw_only=True)
class PassK(Measurement):
    """Samples of P problems: ``counts`` of right ones by grading; ``rates`` in [0, 1] by name, each (P,).

    ``counts`` has the study's grading: an evaluation without it counts as missing.
    ``votes`` by the problem's id; empty where an earlier version wrote none.
    ``guesses``: the share of training answers that equal the problem's answer (P,); None where none were counted.
    ``tags``: the labels of each problem, such as ``steps=3``; P entries.
    """

    counts: Mapping[str, Counts]
    rates: Mapping[str, NDArray[np.float64]]
    votes: Mapping[str, Votes] = field(default_factory=dict)
    guesses: NDArray[np.float64] | None = None
    tags: tuple[tuple[str, ...], ...] = ()

    def guessed(self, k: int) -> float:
        """pass@k of answers that are drawn from the training answers, the question unread; 0 where not measured."""
        return 0.0 if self.guesses is None else float((1 - (1 - self.guesses) ** k).mean())


@dataclass(frozen=True, kw_only=True)
class ProbeAnswers(Measurement):
    """The general-ability probes: for each, the value of every document, 0 or 1, and the number of its fact.

    Documents with one number ask for one fact. Where an earlier version wrote no facts, each document has its own.
    """

    answers: Mapping[str, NDArray[np.float64]]
    facts: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class TextLosses(Measurement):
    """Held-out text, in the order of the mixture: nats a token and bits a byte, by source.

    ``bits`` is empty where an earlier version wrote none.
    """

    nats: Mapping[str, float]
    bits: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainingLog(Measurement):
    """The log of one stage: a row a step, columns as in ``metrics.jsonl``.

    ``roles``: what each stream trains on (``text``, ``demonstrations`` or ``rollouts``), by the stream's name.
    """

    metrics: pd.DataFrame
    roles: Mapping[str, str] = field(default_factory=dict)

    def of(self, role: str, name: str) -> pd.Series[Any]:
        """What the streams of a role logged under ``name``: the mean of several streams, NaN where none logged it."""
        columns = [c for s, r in self.roles.items() if r == role and (c := f"{s}/{name}") in self.metrics]
        if not columns:
            return pd.Series(math.nan, index=self.metrics.index)
        return self.metrics[columns].mean(axis=1) if len(columns) > 1 else self.metrics[columns[0]]

    @property
    def first(self) -> int:
        """The updates of the stages before this one, as planned."""
        return self.stage_step - (len(self.metrics) if self.planned is None else self.planned)

    def updates(self, step: int) -> int:
        """``stage_step`` of the model after a logged step. The last one is the stage's end, though a rule ended it."""
        return self.stage_step if step == len(self.metrics) else self.first + step

    @property
    def last_reward(self) -> float:
        """Mean reward of the last five steps that logged one."""
        return float(np.mean(self.of("rollouts", "reward").dropna().to_numpy(float)[-5:]))


@dataclass(frozen=True, kw_only=True)
class Overlaps(Measurement):
    """What evaluation questions share with training text: runs of ``n`` words, the same numbers, whole questions."""

    n: int
    rows: tuple[Mapping[str, Any], ...]


class NodeOrigin(NamedTuple):
    """What computed a node. ``shared``: several ranks train it. ``begun``: another process had worked on it before."""

    made: Made
    commit: str
    versions: str
    shared: bool = False
    begun: bool = False
