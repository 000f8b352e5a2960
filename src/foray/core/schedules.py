"""Weights of streams that change from update to update. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from foray.core.canonical import added, require, require_not_negative, require_positive
from foray.core.field_types import require_types


@dataclass(frozen=True)
class Ramp:
    """A weight that goes linearly from ``start``, at the first update of the stage, to ``end``, at the last."""

    start: float
    end: float

    def __post_init__(self) -> None:
        require_types(self)
        require_not_negative(self, "start", "end")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        if 0 < step == steps - 1:
            return self.end  # exactly: a stream of weight 0 rests
        return self.start + (self.end - self.start) * step / max(1, steps - 1)


@dataclass(frozen=True)
class Turns:
    """``weight`` at ``length`` updates of every ``period``, from the ``first`` on. The stream rests at the others."""

    period: int
    first: int = 0
    weight: float = 1.0
    length: int = added(1)

    def __post_init__(self) -> None:
        require_types(self)
        require(0 <= self.first < self.period, f"first must lie in [0, period): {self}")
        require(0 < self.length <= self.period - self.first, f"length must lie in [1, period - first]: {self}")
        require_not_negative(self, "weight")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        return self.weight if 0 <= step % self.period - self.first < self.length else 0.0


@dataclass(frozen=True)
class Follow:
    """A weight equal to the value of a metric at the same update, clipped to [0, 1]; with ``rest``, 1 minus the value.

    Every update must log the metric. Raises ValueError at an update that does not.
    """

    metric: str  # the name of the metric, such as rl/signal
    rest: bool = False

    def __post_init__(self) -> None:
        require_types(self)

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        if self.metric not in metrics:
            raise ValueError(
                f"a weight follows {self.metric!r}, which is not logged at update {step + 1}: let it follow a metric "
                f"that every update logs; this one logs {', '.join(sorted(metrics))}"
            )
        value = min(1.0, max(0.0, metrics[self.metric]))
        return 1.0 - value if self.rest else value


@dataclass(frozen=True)
class Shift:
    """Rounds of updates that shift from one stream to another, by one update a round.

    Round k, from 0, has ``first`` - k updates of the one stream, then ``then`` + k updates of the stream whose weight
    has ``other``. After ``first`` rounds, the other stream has all updates.
    """

    first: int
    then: int
    other: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        require_positive(self, "first", "then")

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        number, place = divmod(step, self.first + self.then)
        return float((place < self.first - number) != self.other)


Weight = float | Ramp | Turns | Shift | Follow


def weight_at(weight: Weight, step: int, steps: int, metrics: Mapping[str, float]) -> float:
    """The weight at update ``step`` of ``steps``. ``metrics``: what the draws of that update logged."""
    return float(weight) if isinstance(weight, float | int) else weight.at(step, steps, metrics)


def rests(weight: Weight, step: int, steps: int) -> bool:
    """Whether the weight is known to be 0 at update ``step``, before anything is drawn."""
    return not isinstance(weight, Follow) and weight_at(weight, step, steps, {}) == 0


def worked(weights: tuple[Weight, ...], step: int, steps: int) -> int:
    """At how many updates before ``step`` none of the weights rests."""
    if all(isinstance(w, float | int | Follow) and not rests(w, 0, steps) for w in weights):
        return step
    return _worked(weights, steps)[step]


@lru_cache(maxsize=64)
def _worked(weights: tuple[Weight, ...], steps: int) -> list[int]:
    works = (not any(rests(w, step, steps) for w in weights) for step in range(steps))
    return list(accumulate(works, initial=0))
