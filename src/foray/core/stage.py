"""Streams, stages and recipes: every way of training as data. No torch here.

Stream = Source x Objective x Optimizer     one way of proposing a change of weights
Stage  = ((weight, Stream), ...), steps     streams side by side, averaged each step
Recipe = (Stage, Stage, ...)                stages one after another
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from foray.core.canonical import check_name, require, require_not_negative, require_positive, require_words
from foray.core.objectives import Objective
from foray.core.sources import Source, require_weight
from foray.core.task import Task


@dataclass(frozen=True)
class AdamW:
    """AdamW with decoupled weight decay (Loshchilov & Hutter 2019), gradient clipping and a learning-rate schedule.

    ``warmup`` is a fraction of the stage's steps. A falling schedule would reach ``final`` times the peak one update
    after the last. Parameters whose name contains a string of ``no_decay`` are not decayed (OLMo 2: the embeddings).
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ("embed_tokens",)
    clip: float = 1.0
    warmup: float = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    final: float = 0.1

    def __post_init__(self) -> None:
        require_words(self)
        require_not_negative(self, "lr", "weight_decay", "final")
        require_positive(self, "eps", "clip")
        require(0 <= self.warmup < 1, f"warmup is a fraction of the steps in [0, 1), not {self.warmup}")
        require(all(0 <= b < 1 for b in self.betas), f"betas must lie in [0, 1), not {self.betas}")

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of update ``step`` (from 0) of ``steps``."""
        warm = round(self.warmup * steps)
        if step < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        done = (step - warm) / max(1, steps - warm)
        shape = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.lr * (self.final + (1 - self.final) * shape)


@dataclass(frozen=True)
class Stream:
    """One way of proposing a change of weights. ``name`` labels the moments and the metrics.

    ``precision`` is that of matrix products, in training and in sampling. Weights, moments, norms, probabilities and
    losses are always fp32. In bf16 the log-probability of a token depends on the other rows of the batch; the trainer
    then computes the behaviour's log-probabilities by passes of its own, so that ratios compare like with like.
    """

    name: str
    source: Source
    objective: Objective
    optimizer: AdamW = field(default_factory=AdamW)
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        require_words(self)

    @property
    def members(self) -> tuple[tuple[float, Stream], ...]:
        """The gradient is the weighted sum over the members: a stream is its own only member."""
        return ((1.0, self),)


@dataclass(frozen=True)
class Joint:
    """Streams whose weighted gradients are summed for one optimizer. The members' own optimizers are not used."""

    name: str
    members: tuple[tuple[float, Stream], ...]
    optimizer: AdamW = field(default_factory=AdamW)

    def __post_init__(self) -> None:
        require(bool(self.members), f"joint stream {self.name} has no member")
        for weight, stream in self.members:
            require_weight(weight, f"{stream.name} in joint stream {self.name}")


def drawing(stream: Stream | Joint, member: Stream) -> Stream:
    """A member under the name of its draws. The same stream elsewhere in the stage has other draws."""
    return member if member is stream else replace(member, name=f"{stream.name}.{member.name}")


@dataclass(frozen=True)
class Ramp:
    """A weight that goes linearly from ``start``, at the first update of the stage, to ``end``, at the last."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require_not_negative(self, "start", "end")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        if 0 < step == steps - 1:
            return self.end  # exactly: a stream of weight 0 rests
        return self.start + (self.end - self.start) * step / max(1, steps - 1)


@dataclass(frozen=True)
class Turns:
    """``weight`` at every ``period``-th update, from update ``first`` on. The stream rests at the other updates."""

    period: int
    first: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.first < self.period, f"first must lie in [0, period): {self}")
        require_not_negative(self, "weight")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        return self.weight if step % self.period == self.first else 0.0


@dataclass(frozen=True)
class Follow:
    """A weight equal to the value of a metric at the same update, clipped to [0, 1]; with ``rest``, 1 minus the value.

    Every update must log the metric. Raises ValueError at an update that does not.
    """

    metric: str
    rest: bool = False

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        if self.metric not in metrics:
            raise ValueError(
                f"a weight follows {self.metric!r}, which is not logged at update {step + 1}: let it follow a metric "
                f"that every update logs; this one logs {', '.join(sorted(metrics))}"
            )
        value = min(1.0, max(0.0, metrics[self.metric]))
        return 1.0 - value if self.rest else value


Weight = float | Ramp | Turns | Follow


@dataclass(frozen=True)
class Stage:
    """Streams side by side for ``steps`` updates: weights += sum of weight x proposal, all from the same weights.

    A stream rests at an update where its weight is known to be 0: nothing is drawn and the moments stay. At the next
    update at which the stream works, it draws what it would have drawn here.
    """

    name: str
    streams: tuple[tuple[Weight, Stream | Joint], ...]
    steps: int

    def __post_init__(self) -> None:
        require(bool(self.streams), f"stage {self.name} has no stream")
        require(self.steps > 0, f"stage {self.name}: steps must be positive, not {self.steps}")
        check_name(self.name, "a stage")
        for weight, stream in self.streams:
            check_name(stream.name, "a stream")
            if isinstance(weight, float | int):
                require_weight(weight, f"stream {stream.name}")
        names = [s.name for _, s in self.streams if isinstance(s, Joint)]
        names += [drawing(s, member).name for _, s in self.streams for _, member in s.members]
        require(len(set(names)) == len(names), f"stage {self.name}: two streams share a name: {', '.join(names)}")

    def weight_at(self, weight: Weight, step: int, metrics: Mapping[str, float]) -> float:
        """The weight at update ``step``. ``metrics``: what the draws of that update logged."""
        return float(weight) if isinstance(weight, float | int) else weight.at(step, self.steps, metrics)

    def working(self, step: int) -> list[tuple[Weight, Stream | Joint, int]]:
        """(weight, stream, number of earlier updates at which the stream worked) of each stream that does not rest."""
        return [(w, s, self._worked(w, step)) for w, s in self.streams if not self._rests(w, step)]

    def _worked(self, weight: Weight, step: int) -> int:
        if isinstance(weight, Ramp | Turns):
            return sum(not self._rests(weight, earlier) for earlier in range(step))
        return step

    def _rests(self, weight: Weight, step: int) -> bool:
        return not isinstance(weight, Follow) and self.weight_at(weight, step, {}) == 0

    def members(self) -> Iterator[Stream]:
        """Every stream, including the members of joint streams."""
        for _, stream in self.streams:
            for _, member in stream.members:
                yield member


@dataclass(frozen=True)
class Merge:
    """The weighted mean of the final weights of several recipes, all from the same start."""

    name: str
    branches: tuple[tuple[float, Recipe], ...]

    def __post_init__(self) -> None:
        total = sum(w for w, _ in self.branches)
        require(abs(total - 1) < 1e-9, f"merge {self.name}: the weights must sum to 1, not {total}")


Recipe = tuple[Stage | Merge, ...]


@dataclass(frozen=True)
class PostTraining:
    """What the recipes are made of: one stream each of RL and SFT, on the same questions, and the numbers of updates.

    ``text`` is a stream of pre-training text, for recipes that anneal M_t or keep pre-training beside RL.
    """

    rl: Stream
    sft: Stream
    rl_steps: int
    sft_steps: int
    weights: tuple[float, float] = (0.5, 0.5)  # of RL and SFT in `parallel`
    text: Stream | None = None
    anneal_steps: int = 100

    def __post_init__(self) -> None:
        rl, sft = (_asked(stream) for stream in (self.rl, self.sft))
        require(rl[0] == sft[0], "rl and sft must use the same task")
        require(rl[1] == sft[1], f"SFT and RL must use the same questions: rl has {rl[1]}, sft has {sft[1]}")

    @property
    def task(self) -> Task:
        """The task of RL and of SFT."""
        return _asked(self.rl)[0]

    @property
    def questions(self) -> int:
        """The number of training questions of RL and of SFT."""
        return _asked(self.rl)[1]


def _asked(stream: Stream) -> tuple[Task, int]:
    """The task of a stream and the number of training questions."""
    source: Any = stream.source
    return source.task, source.questions


RecipeFunction = Callable[[PostTraining], Recipe]
