"""Streams, stages and recipes: every way of training as data. No torch here.

Stream = Source x Objective x Optimizer     one way of proposing a change of weights
Stage  = ((weight, Stream), ...), steps     streams side by side, averaged each step
Recipe = (Stage, Stage, ...)                stages one after another
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal

from foray.core.canonical import (
    added,
    check_name,
    derived,
    require,
    require_not_negative,
    require_positive,
)
from foray.core.field_types import require_types
from foray.core.lora import LoRA
from foray.core.objectives import Objective
from foray.core.schedules import Follow, Weight, rests, weight_at, worked
from foray.core.sources import Rollouts, Source, require_weight
from foray.core.task import Task


@dataclass(frozen=True)
class AdamW:
    """AdamW with decoupled weight decay (Loshchilov & Hutter 2019), gradient clipping and a learning-rate schedule.

    ``warmup`` is a fraction of the stage's steps. A falling schedule would reach ``final`` times the peak one update
    after the last. Parameters whose name contains a string of ``no_decay`` are not decayed (OLMo 2: the embeddings).
    """

    lr: float = 1e-3  # peak learning rate
    betas: tuple[float, float] = (0.9, 0.95)  # decay of the first and of the second moment
    eps: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.0  # decoupled
    no_decay: tuple[str, ...] = ("embed_tokens",)
    clip: float = 1.0  # largest norm of a gradient
    warmup: float = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"  # of the learning rate after the warmup
    final: float = 0.1

    def __post_init__(self) -> None:
        require_types(self)
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
    then computes the behavior's log-probabilities by passes of its own, so that ratios compare like with like.
    """

    name: str
    source: Source  # where batches come from
    objective: Objective  # the loss
    optimizer: AdamW = field(default_factory=AdamW)  # from gradients to a change of weights
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        require_types(self)

    @property
    def members(self) -> tuple[tuple[Weight, Stream], ...]:
        """The gradient is the weighted sum over the members: a stream is its own only member."""
        return ((1.0, self),)


@dataclass(frozen=True)
class Joint:
    """Streams whose weighted gradients are summed for one optimizer. The members' own optimizers are not used.

    A member rests at an update where its weight is 0; the joint stream rests where all members do.
    """

    name: str  # labels the moments
    members: tuple[tuple[Weight, Stream], ...]  # weights and streams
    optimizer: AdamW = field(default_factory=AdamW)  # of the summed gradient

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.members), f"joint stream {self.name} has no member")
        for weight, stream in self.members:
            where = f"{stream.name} in joint stream {self.name}"
            require(not isinstance(weight, Follow), f"{where}: the weight of a member cannot follow a metric")
            if isinstance(weight, float | int):
                require_weight(weight, where)


def drawing(stream: Stream | Joint, member: Stream) -> Stream:
    """A member under the name of its draws. Draws of several updates are kept under this name."""
    return member if member is stream else replace(member, name=f"{stream.name}.{member.name}")


@dataclass(frozen=True)
class Plateau:
    """A stop rule: the stage ends where its validation score has not risen by over ``rise`` within ``updates`` updates.

    The score is compared with the best score of earlier updates. Only updates that log a score can be the last.
    """

    updates: int = 100
    rise: float = 0.01

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "updates")
        require_not_negative(self, "rise")

    def over(self, scores: Sequence[tuple[int, float]]) -> bool:
        """Whether training ends after the last of ``scores``: (update, validation score), in order."""
        since = scores[-1][0] - self.updates if scores else 0
        before, late = ([v for t, v in scores if (t > since) == new] for new in (False, True))
        return bool(before) and max(late) <= max(before) + self.rise


@dataclass(frozen=True)
class Stage:
    """Streams side by side for ``steps`` updates: weights += sum of weight x proposal, all from the same weights.

    A stream rests at an update where its weight is known to be 0: nothing is drawn and the moments stay. At the next
    update at which the stream works, it draws what it would have drawn here.

    With ``stop`` the stage may end before ``steps`` updates. The rule watches the validation score of the first stream
    that logs one. With ``lora`` the weights are those of fresh adapters; the end of the stage has them merged.
    """

    name: str  # the name of the stage in nodes and logs
    streams: tuple[tuple[Weight, Stream | Joint], ...]  # weights and streams
    steps: int
    stop: Plateau | None = added(None)
    lora: LoRA | None = added(None)

    def __post_init__(self) -> None:
        require_types(self)
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
        how = "set validation, a number of problems, in the source of one, such as sft.validation=64"
        require(self.stop is None or self.watched is not None, f"stage {self.name} has a stop rule: {how}")

    @property
    def watched(self) -> str | None:
        """The metric that the stop rule reads, or None where no stream logs a validation score."""
        asked = ((s, m) for _, s in self.streams for _, m in s.members if getattr(m.source, "validation", 0))
        return next((f"{self.logged(*pair)}/validation" for pair in asked), None)

    def logged(self, stream: Stream | Joint, member: Stream) -> str:
        """The name that a member is logged by: its own, or where another stream has that too, the name of its draws."""
        alone = member is stream or [m.name for m in self.members()].count(member.name) == 1
        return member.name if alone else drawing(stream, member).name

    def weight_at(self, weight: Weight, step: int, metrics: Mapping[str, float]) -> float:
        """The weight at update ``step``. ``metrics``: what the draws of that update logged."""
        return weight_at(weight, step, self.steps, metrics)

    def working(self, step: int) -> list[tuple[Weight, Stream | Joint]]:
        """Each stream that does not rest at update ``step``, with its weight."""
        return [(w, s) for w, s in self.streams if not rests(w, step, self.steps) and self.draws(w, s, step)]

    def draws(self, weight: Weight, stream: Stream | Joint, step: int) -> list[tuple[float, Stream, int]]:
        """(weight, member, number of earlier updates at which the member worked) of each member that does not rest."""
        return [
            (self.weight_at(inner, step, {}), member, worked((weight, inner), step, self.steps))
            for inner, member in stream.members
            if not rests(inner, step, self.steps)
        ]

    def members(self) -> Iterator[Stream]:
        """Every stream, including the members of joint streams."""
        yield from (member for _, stream in self.streams for _, member in stream.members)


@dataclass(frozen=True)
class Merge:
    """The weighted mean of the final weights of several recipes, all from the same start."""

    name: str  # the name of the merge in nodes
    branches: tuple[tuple[float, Recipe], ...]  # weights, which sum to 1, and recipes

    def __post_init__(self) -> None:
        require_types(self)
        total = sum(w for w, _ in self.branches)
        require(abs(total - 1) < 1e-9, f"merge {self.name}: the weights must sum to 1, not {total}")


Recipe = tuple[Stage | Merge, ...]


@dataclass(frozen=True)
class Together:
    """The streams of the recipes that train by RL and SFT together, and the number of updates of `parallel`."""

    rl: Stream  # the stream of RL
    sft: Stream  # the stream of SFT
    steps: int  # updates of `parallel`

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True)
class AfterSFT:
    """RL after SFT: the stream of RL, its updates, and the updates of SFT or SFT-Gold before it."""

    rl: Stream  # the stream of RL
    steps: int  # updates of RL
    sft_steps: int  # updates of SFT before it
    gold_steps: int  # updates of SFT-Gold before it

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True)
class PostTraining:
    """What the recipes are made of: one stream each of RL and SFT, on the same questions, and the numbers of updates.

    ``together``: the streams of the recipes that combine RL and SFT. When None, these are ``rl`` and ``sft``, and SFT's
    rate is ``sft_ratio`` times RL's (the paper's parallel averaging: 1). ``after_sft``: RL after SFT; when None, ``rl``
    after all of ``sft``. ``stop`` ends the stages of RL and of SFT before their last updates. ``lora``: low-rank
    adapters, which every stage of every recipe trains in place of the weights.

    ``turns``: updates of SFT, then of RL, in a round of `interleaved`; ``curriculum``: the same of the first round of
    `curriculum`. ``prime_steps``: updates of SFT of a `primed` base. ``text`` is a stream of pre-training text, for
    recipes that anneal M_t or keep pre-training beside RL.
    """

    rl: Stream  # the stream of RL
    sft: Stream  # the stream of SFT
    rl_steps: int  # updates of RL
    sft_steps: int  # updates of SFT
    weights: tuple[float, float] = (0.5, 0.5)  # of RL and SFT in `parallel`
    text: Stream | None = None
    anneal_steps: int = 100  # updates on pre-training text, of a recipe that anneals M_t
    prime_steps: int = 12
    sft_ratio: float = 1.0  # SFT's learning rate over RL's, where each has its own optimizer side by side
    together: Together | None = derived("side_by_side")
    after_sft: AfterSFT | None = derived("rl_after_sft")
    stop: Plateau | None = derived("plateau")
    turns: tuple[int, int] = (20, 1)
    curriculum: tuple[int, int] = (200, 1)
    lora: LoRA | None = derived("adapters", later=True)

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "sft_ratio")
        asked = _asked(self.rl)
        others = {"sft": self.sft}
        if self.together is not None:
            others |= {"together.rl": self.together.rl, "together.sft": self.together.sft}
            alone = "together has rates of its own: set together.sft.optimizer.lr and leave sft_ratio at 1"
            require(self.sft_ratio == 1, alone)
        if self.after_sft is not None:
            others["after_sft.rl"] = self.after_sft.rl
        for name, stream in others.items():
            task, questions = _asked(stream)
            require(task == asked[0], f"rl and {name} must use the same task")
            same = f"SFT and RL must use the same questions: rl has {asked[1]}, {name} has {questions}"
            require(questions == asked[1], same)
        for name in ("turns", "curriculum"):
            require(min(getattr(self, name)) > 0, f"{name} must be two positive numbers of updates, of SFT and of RL")

    @property
    def task(self) -> Task:
        """The task of RL and of SFT."""
        return _asked(self.rl)[0]

    @property
    def questions(self) -> int:
        """The number of training questions of RL and of SFT."""
        return _asked(self.rl)[1]

    def side_by_side(self) -> Together:
        """``together``, or what stands for it."""
        if self.together is not None:
            return self.together
        adam = replace(self.sft.optimizer, lr=self.sft_ratio * self.rl.optimizer.lr)
        return Together(self.rl, replace(self.sft, optimizer=adam), self.rl_steps)

    def rl_after_sft(self) -> AfterSFT:
        """``after_sft``, or what stands for it."""
        return self.after_sft or AfterSFT(self.rl, self.rl_steps, self.sft_steps, self.sft_steps)

    def plateau(self) -> Plateau:
        """``stop``, or the rule that a setting of it changes."""
        return self.stop or Plateau()

    def adapters(self) -> LoRA:
        """``lora``, or the adapters that a setting of it changes."""
        return self.lora or LoRA()

    def asking(self, task: Task, questions: int | None = None, **rollouts: Any) -> PostTraining:
        """The same post-training on another task, and on so many questions (when None, as many as before).

        ``rollouts``: settings of RL's sources that change with the task.
        """
        asked = {"task": task, "questions": questions or self.questions}

        def changed(spec: Any) -> Any:
            if isinstance(spec, Stream):
                more = rollouts if isinstance(spec.source, Rollouts) else {}
                return replace(spec, source=replace(spec.source, **asked, **more))
            return spec and replace(spec, **{f.name: changed(getattr(spec, f.name)) for f in streams(spec)})

        def streams(spec: Any) -> list[Field[Any]]:
            return [f for f in fields(spec) if isinstance(getattr(spec, f.name), Stream)]

        new = {name: changed(getattr(self, name)) for name in ("rl", "sft", "together", "after_sft")}
        return replace(self, **new)


def _asked(stream: Stream) -> tuple[Task, int]:
    """The task of a stream and the number of training questions."""
    source: Any = stream.source
    return source.task, source.questions


RecipeFunction = Callable[[PostTraining], Recipe]
