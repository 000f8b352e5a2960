"""Sources of batches as data: text, demonstrations, rollouts. ``foray.train`` draws from them. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from foray.core.canonical import (
    added,
    check_count,
    check_name,
    require,
    require_not_negative,
    require_positive,
)
from foray.core.engines import VLLM, AnyEngine, check_engine, check_truncation, truncates
from foray.core.field_types import require_types
from foray.core.task import CutOff, Extraction, Task, verifier_of


class Source(Protocol):
    """Where the batches of a stream come from: a frozen dataclass for which a draw is registered (train/draw.py).

    A class attribute ``role`` tells a report what the source is: see ``role_of``.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]


def role_of(source: Source) -> str:
    """``text``, ``demonstrations``, ``rollouts``, or the ``role`` of a user's class; empty where the class has none.

    A report reads the log of a source by its role: a source of the role ``rollouts`` logs what ``Rollouts`` logs.
    """
    return str(getattr(type(source), "role", ""))


def require_weight(weight: float, owner: str) -> None:
    """Raises ValueError unless the weight of ``owner`` is a finite number >= 0."""
    require(0 <= weight < float("inf"), f"the weight of {owner} must be finite and >= 0, not {weight}")


def check_mixture(mixture: tuple[tuple[float, Any], ...]) -> None:
    """Raises ValueError where anything but a source of text stands beside a weight."""
    for _, source in mixture:
        require(hasattr(source, "name"), f"a mixture pairs a weight with a text source, not with {str(source)[:60]!r}")


@dataclass(frozen=True)
class Corpus:
    """Windows of pre-training text, drawn from a mixture. ``mixture`` pairs a weight with a text source.

    With ``separate``, the documents of a window do not attend to one another, and each document begins at position 0.
    """

    role: ClassVar[str] = "text"
    mixture: tuple[tuple[float, Any], ...]
    batch_size: int = 32  # windows an update
    length: int = 512  # tokens of a window
    separate: bool = added(False)

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.mixture), "a corpus needs at least one source")
        require_positive(self, "batch_size", "length")
        check_count("batch_size", self.batch_size)
        check_mixture(self.mixture)
        for weight, source in self.mixture:
            require_weight(weight, source.name)
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
    """Questions with reference solutions. The loss is on the solution only.

    ``solutions="one"`` takes one solution of each question, fixed by the seed for every epoch and recipe; ``"first"``
    takes the first in the task's order. ``"all"`` is SFT-Gold: every (question, solution) pair is a row. Every
    ``validate_every`` updates, the model answers ``validation`` problems of the validation split greedily, with up to
    ``max_new_tokens``, and the score is logged.

    ``normalise`` chooses the denominator: ``token`` (the batch's target tokens: their mean loss) or ``sum`` (1: the sum
    of their losses). The gradient of a sum is so large that a clip of 1 binds at nearly every update.
    """

    role: ClassVar[str] = "demonstrations"
    task: Task  # the task of the questions
    questions: int  # training questions, the first of the split
    solutions: Literal["one", "first", "all"] = "one"  # of a question: one by the seed, the first, or all
    batch_size: int = 32  # rows an update
    validation: int = added(0)
    validate_every: int = added(16)
    max_new_tokens: int = added(96)
    normalise: Literal["token", "sum"] = added("token")

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "questions", "batch_size", "validate_every", "max_new_tokens")
        require_not_negative(self, "validation")
        check_count("validation", self.validation)
        check_count("batch_size", self.batch_size)

    def fingerprint(self) -> str:
        """The verifier grades validation alone, by which a stop rule ends the stage."""
        return verifier_of(self.task) if self.validation else ""


@dataclass(frozen=True)
class Screen:
    """Selects training questions of which the base model answers ``low`` to ``high`` out of ``samples`` correctly.

    The base model answers ``shots``-shot at temperature 1. Lenient grading asks what the base model can work out.
    Strict grading also asks whether the base model keeps to the answer format.
    """

    low: int
    high: int
    samples: int = 64
    shots: int = 8
    extraction: Extraction = added("strict")  # how the answers are graded
    most: int = added(0)  # the number of selected questions, the first ones; 0: all

    def __post_init__(self) -> None:
        require_types(self)
        require(0 <= self.low <= self.high <= self.samples, f"a screen needs 0 <= low <= high <= samples: {self}")
        require_not_negative(self, "most")


@dataclass(frozen=True)
class Rollouts:
    """Completions sampled from the current policy and graded by the task (GRPO, arXiv 2402.03300).

    Reward = verifier's score + ``format_reward`` if the answer has the asked-for format. ``normalise`` chooses the
    weights and the denominator: ``token`` (DAPO: all completion tokens of the update), ``sequence`` (GRPO: mean over
    sequences of token means) or ``constant`` (Dr GRPO: sequences x max_new_tokens). One draw is cut into
    ``updates_per_draw`` slices of whole groups, one slice for each update. Every ``validate_every`` draws, the policy
    answers ``validation`` problems of the validation split greedily, and the score is logged. A ``screen`` selects
    among the ``questions``. ``sound``: a right answer scores only behind right reasons, for a task that can tell.
    ``cut_off``: a completion without an end gets no reward, or the reward of its text, as with the authors.
    Every ``keep_every`` draws, the first ``keep_groups`` groups are kept for people to read: ``rollouts.jsonl``.

    With ``engine="vllm"`` another program samples and rounds in its own way. The behavior's log-probabilities are then
    the trainer's, and their distance from vLLM's is logged as ``mismatch``.

    ``top_p``, ``top_k`` and ``min_p`` truncate what is sampled from (``Sampling`` says how). The policy that is trained
    stays the whole distribution, so the behavior's log-probabilities are then the trainer's too, and ``mismatch``
    holds the truncation: -log of the share of probability that is kept, a token. ``entropy`` is that of the truncated
    distribution; so is ``kl`` where a draw serves one update.
    """

    role: ClassVar[str] = "rollouts"
    task: Task  # the task that asks and rewards
    questions: int
    prompts: int = 32  # questions a draw
    group_size: int = 8  # completions a question
    max_new_tokens: int = 96  # a longer completion is cut off
    temperature: float = 1.0  # of sampling
    format_reward: float = 0.0
    advantage_std: bool = True  # divide advantages by the standard deviation of the rewards of the group
    normalise: Literal["token", "sequence", "constant"] = "token"
    updates_per_draw: int = 1
    validation: int = 64
    validate_every: int = 16
    screen: Screen | None = None
    engine: AnyEngine = added("embedded")  # what samples
    vllm: VLLM = field(default=VLLM(), metadata={"added": True, "hash": False})  # the layout of vLLM
    top_p: float = added(1.0)
    top_k: int = added(0)
    min_p: float = added(0.0)
    sound: bool = added(False)
    cut_off: CutOff = added("wrong")
    keep_groups: int = field(default=2, metadata={"added": True, "hash": False})
    keep_every: int = field(default=8, metadata={"added": True, "hash": False})

    def __post_init__(self) -> None:
        require_types(self)
        require(
            not self.sound or hasattr(self.task, "sound"),
            f"sound=True needs a task that tells right reasons from wrong ones; {self.task.name} has no method sound",
        )
        check_engine(self.engine)
        check_truncation(self)
        require_positive(self, "questions", "prompts", "max_new_tokens", "temperature", "validate_every")
        require_positive(self, "updates_per_draw", "keep_every")
        require_not_negative(self, "validation", "keep_groups")
        require(self.group_size >= 2, f"group_size must be at least 2, not {self.group_size}: advantages compare rows")
        check_count("prompts × group_size", self.prompts * self.group_size)
        check_count("validation", self.validation)
        require(
            self.prompts % self.updates_per_draw == 0,
            f"prompts ({self.prompts}) must be a multiple of updates_per_draw ({self.updates_per_draw})",
        )

    def fingerprint(self) -> str:
        return verifier_of(self.task)

    def rescored(self, precision: str) -> bool:
        """Whether the trainer computes the behavior's log-probabilities: those of the engine differ.

        They differ by rounding (law 5), or because the engine draws from a truncated distribution.

        Where a draw serves one update, the pass of the update gives them. Otherwise a pass of its own does.
        """
        return precision != "fp32" or self.engine != "embedded" or truncates(self)
