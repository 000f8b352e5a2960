"""Streams, stages and recipes: every way of training in Foray as data. No torch here.

Stream = Source x Objective x Optimizer     one way of proposing a change of weights
Stage  = ((weight, Stream), ...), steps     streams side by side, averaged each step
Recipe = (Stage, Stage, ...)                stages one after another
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from foray.core.canonical import added, check_name, require
from foray.core.engines import VLLM, EngineName
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.passk import check_number
from foray.core.task import Extraction, Task, verifier_of


@dataclass(frozen=True)
class AdamW:
    """AdamW with decoupled weight decay (Loshchilov & Hutter 2019), gradient clipping and a learning-rate schedule.

    ``warmup`` is a fraction of the stage's steps. A schedule that falls would reach ``final`` times the peak one update
    after the stage's last. Parameters whose name contains a string of ``no_decay`` are not decayed (OLMo 2: the
    embeddings).
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
        require(math.isfinite(self.lr) and self.lr >= 0, f"lr must be a finite number >= 0, not {self.lr}")
        require(0 <= self.warmup < 1, f"warmup is a fraction of the steps in [0, 1), not {self.warmup}")
        require(0 < self.eps < math.inf, f"eps must be a finite number > 0, not {self.eps}")
        for name in ("weight_decay", "final"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"{name} must be a finite number >= 0, not {value}")
        require(self.clip > 0, f"clip must be > 0 (use a large number for none), not {self.clip}")
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


def check_mixture(mixture: tuple[tuple[float, Any], ...]) -> None:
    """Raises ValueError where something else than a source of text stands beside a weight."""
    for _, source in mixture:
        require(hasattr(source, "name"), f"a mixture pairs a weight with a text source, not with {str(source)[:60]!r}")


@dataclass(frozen=True)
class Corpus:
    """Windows of pre-training text, drawn from a mixture; ``mixture`` pairs a weight with a text source.

    With ``separate`` the documents of a window do not attend to one another, and each begins at position 0.
    """

    role: ClassVar[str] = "text"
    mixture: tuple[tuple[float, Any], ...]
    batch_size: int = 32
    length: int = 512
    separate: bool = added(False)

    def __post_init__(self) -> None:
        require(bool(self.mixture), "a corpus needs at least one source")
        require(self.batch_size > 0, f"the batch_size of a corpus must be positive, not {self.batch_size}")
        check_number("the batch_size of a corpus", self.batch_size)
        require(self.length > 0, f"the length of a corpus's windows must be positive, not {self.length}")
        check_mixture(self.mixture)
        for weight, source in self.mixture:
            require(math.isfinite(weight) and weight >= 0, f"the weight of {source.name} must be finite and >= 0")
        require(sum(w for w, _ in self.mixture) > 0, "the mixture's weights are all zero")
        names = [s.name for _, s in self.mixture]
        for name in names:
            check_name(name, "a text source")
        require(len(set(names)) == len(names), f"two sources of the mixture share a name: {', '.join(names)}")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.length


@dataclass(frozen=True)
class Demonstrations:
    """Questions with reference solutions; the loss is on the solution only.

    ``solutions="one"`` takes one solution a question, fixed by the seed for every epoch and recipe; ``"all"`` is
    SFT-Gold, where every (question, solution) pair is a row.
    """

    role: ClassVar[str] = "demonstrations"
    task: Task
    questions: int
    solutions: Literal["one", "all"] = "one"
    batch_size: int = 32

    def __post_init__(self) -> None:
        require(self.questions > 0 and self.batch_size > 0, "questions and batch_size must be positive")
        check_number("batch_size", self.batch_size)


@dataclass(frozen=True)
class Screen:
    """A choice of training questions by how many of the base model's own ``samples`` were correct: ``low`` to ``high``.

    The base answers ``shots``-shot at temperature 1. Graded leniently, a screen asks what the base can work out; graded
    strictly, also whether it keeps to the form.
    """

    low: int
    high: int
    samples: int = 64
    shots: int = 8
    extraction: Extraction = added("strict")

    def __post_init__(self) -> None:
        require(0 <= self.low <= self.high <= self.samples, f"a screen needs 0 <= low <= high <= samples: {self}")


@dataclass(frozen=True)
class Rollouts:
    """Completions sampled from the policy as it stands, graded by the task (GRPO, arXiv 2402.03300).

    Reward = verifier's score + ``format_reward`` if the answer stood in the asked-for format. ``normalise`` chooses the
    weights and the denominator: ``token`` (DAPO: all completion tokens of the draw), ``sequence`` (GRPO: mean over
    sequences of token means) or ``constant`` (Dr. GRPO: sequences x max_new_tokens). One draw is cut into
    ``updates_per_draw`` slices of whole groups, one for each update. Every ``validate_every`` draws, ``validation``
    problems of that split are answered greedily and the score is logged; nothing is trained on them. A ``screen`` keeps
    those of the ``questions`` that the model the recipe starts from answers neither too well nor too badly.

    With ``engine="vllm"`` completions are another program's, whose rounding is its own: the behaviour's
    log-probabilities are then the trainer's, and how far they are from the engine's is logged as ``mismatch``.
    """

    role: ClassVar[str] = "rollouts"
    task: Task
    questions: int
    prompts: int = 32
    group_size: int = 8
    max_new_tokens: int = 96
    temperature: float = 1.0
    format_reward: float = 0.1
    advantage_std: bool = True
    normalise: Literal["token", "sequence", "constant"] = "token"
    updates_per_draw: int = 1
    validation: int = 64
    validate_every: int = 16
    screen: Screen | None = None
    engine: EngineName = added("embedded")
    vllm: VLLM = field(default=VLLM(), metadata={"added": True, "hash": False})

    def __post_init__(self) -> None:
        require(self.validation >= 0 and self.validate_every > 0, "validation must be >= 0 and validate_every positive")
        require(self.questions > 0 and self.prompts > 0, "questions and prompts must be positive")
        require(
            self.group_size >= 2, f"group_size must be at least 2: advantages are within a group ({self.group_size})"
        )
        check_number("prompts × group_size", self.prompts * self.group_size)
        check_number("validation", self.validation)
        require(self.temperature > 0, f"temperature must be > 0 in RL, not {self.temperature}")
        require(self.max_new_tokens > 0, "max_new_tokens must be positive")
        require(
            self.updates_per_draw > 0 and self.prompts % self.updates_per_draw == 0,
            f"prompts ({self.prompts}) must be a multiple of updates_per_draw ({self.updates_per_draw})",
        )

    def fingerprint(self) -> str:
        return verifier_of(self.task)


@dataclass(frozen=True)
class Stream:
    """One way of proposing a change of weights. ``name`` labels its moments and its metrics.

    ``precision``: of the matrix products of its passes, sampling included; weights, moments, norms, probabilities and
    losses are always fp32. In bf16 a pass over the same tokens in other company gives other log-probabilities, so there
    the trainer takes the behaviour's from passes of its own: ratios compare like with like.
    """

    name: str
    source: Any
    objective: CrossEntropy | PolicyGradient | Any
    optimizer: AdamW = field(default_factory=AdamW)
    precision: Literal["fp32", "bf16"] = "fp32"

    @property
    def members(self) -> tuple[tuple[float, Stream], ...]:
        """What the gradient is the weighted sum of: a stream is its own only member."""
        return ((1.0, self),)

    @property
    def own_behaviour(self) -> bool:
        """Whether the behaviour's log-probabilities are the trainer's own, as the engine's are not the same (law 5).

        Where a draw serves one update, the update's own pass gives them; else a pass of their own does.
        """
        rollouts = isinstance(self.source, Rollouts)
        return rollouts and not (self.precision == "fp32" and self.source.engine == "embedded")


@dataclass(frozen=True)
class Joint:
    """Streams whose gradients are summed, at their weights, before one optimizer sees them; their own are not used."""

    name: str
    members: tuple[tuple[float, Stream], ...]
    optimizer: AdamW = field(default_factory=AdamW)

    def __post_init__(self) -> None:
        require(bool(self.members), f"joint stream {self.name} has no member")
        for weight, stream in self.members:
            ok = 0 <= weight < math.inf
            require(ok, f"joint stream {self.name}: the weight of {stream.name} must be finite and >= 0, not {weight}")


def role_of(source: Any) -> str:
    """What a source is to a report, by its class: ``text``, ``demonstrations``, ``rollouts``, or what a class of one's
    own says with ``role`` (one that says ``rollouts`` logs what those log); else nothing.
    """
    return str(getattr(type(source), "role", ""))


def drawing(stream: Stream | Joint, member: Stream) -> Stream:
    """A member under the name that its draws go by: the same stream elsewhere in the stage has draws of its own."""
    return member if member is stream else replace(member, name=f"{stream.name}.{member.name}")


@dataclass(frozen=True)
class Ramp:
    """A weight that goes linearly from ``start``, at the stage's first update, to ``end``, at its last."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require(0 <= self.start < math.inf and 0 <= self.end < math.inf, f"weights must be finite and >= 0: {self}")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        if 0 < step == steps - 1:
            return self.end  # and not nearly: a stream whose weight is 0 rests
        return self.start + (self.end - self.start) * step / max(1, steps - 1)


@dataclass(frozen=True)
class Turns:
    """``weight`` at every ``period``-th update from update ``first`` on; at the others the stream rests."""

    period: int
    first: int = 0
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.first < self.period, f"first must lie in [0, period): {self}")
        require(0 <= self.weight < math.inf, f"weight must be finite and >= 0: {self}")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        return self.weight if step % self.period == self.first else 0.0


@dataclass(frozen=True)
class Follow:
    """A weight that is this very update's value of a metric in [0, 1], or what is left to 1: it follows the draw.

    Every update must log the metric: one that does not stops the stage with ValueError.
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

    A stream whose weight is known to be 0 at an update rests: nothing is drawn for it, its moments stay, and what it
    would have drawn it draws when it works again.
    """

    name: str
    streams: tuple[tuple[Weight, Stream | Joint], ...]
    steps: int

    def __post_init__(self) -> None:
        require(bool(self.streams), f"stage {self.name} has no stream")
        require(self.steps > 0, f"stage {self.name}: steps must be positive, not {self.steps}")
        for weight, stream in self.streams:
            if isinstance(weight, float | int):
                ok = math.isfinite(weight) and weight >= 0
                require(ok, f"the weight of stream {stream.name} must be a finite number >= 0, not {weight}")
        check_name(self.name, "a stage")
        for _, stream in self.streams:
            check_name(stream.name, "a stream")
        names = [s.name for _, s in self.streams if isinstance(s, Joint)]
        names += [drawing(s, member).name for _, s in self.streams for _, member in s.members]
        require(len(set(names)) == len(names), f"stage {self.name}: two streams share a name: {', '.join(names)}")

    def weight_at(self, weight: Weight, step: int, metrics: Mapping[str, float]) -> float:
        """The weight at update ``step``, given what the draws of that update logged."""
        return float(weight) if isinstance(weight, float | int) else weight.at(step, self.steps, metrics)

    def working(self, step: int) -> list[tuple[Weight, Stream | Joint, int]]:
        """The streams that do not rest at update ``step``, and how often each has worked before."""
        return [(w, s, self._worked(w, step)) for w, s in self.streams if not self._rests(w, step)]

    def _worked(self, weight: Weight, step: int) -> int:
        if isinstance(weight, Ramp | Turns):
            return sum(not self._rests(weight, earlier) for earlier in range(step))
        return step

    def _rests(self, weight: Weight, step: int) -> bool:
        return not isinstance(weight, Follow) and self.weight_at(weight, step, {}) == 0

    def members(self) -> Iterator[Stream]:
        """Every stream, those of joint ones too."""
        for _, stream in self.streams:
            for _, member in stream.members:
                yield member


@dataclass(frozen=True)
class Merge:
    """The weighted mean of the weights at which several recipes end, all from the same start."""

    name: str
    branches: tuple[tuple[float, Recipe], ...]

    def __post_init__(self) -> None:
        total = sum(w for w, _ in self.branches)
        require(abs(total - 1) < 1e-9, f"merge {self.name}: the weights must sum to 1, not {total}")


Recipe = tuple[Stage | Merge, ...]


@dataclass(frozen=True)
class PostTraining:
    """What the recipes are made of: the same questions for SFT and RL, one stream of each, and how long they run.

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
        require(self.rl.source.task == self.sft.source.task, "rl and sft must use the same task")
        rl, sft = self.rl.source.questions, self.sft.source.questions
        require(rl == sft, f"SFT and RL must use the same questions: rl has {rl}, sft has {sft}")


RecipeFunction = Callable[[PostTraining], Recipe]
