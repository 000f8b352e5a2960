"""``draw``: the batch of an update, as a function of the seed, the stage, the step and the weights.

A new source of batches is a frozen dataclass and a function that is registered with ``@draw.register``. The function
takes (source, stream, step, training) and returns a batch and the numbers to log. ``checked_draw.drawn`` calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, TypeVar

from foray.core.batch import Batch
from foray.core.stage import Stream
from foray.data.corpus import Shard
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.engine import Engine
from foray.train.sharding import weights_of

V = TypeVar("V")
Drawn = tuple[Batch, dict[str, float]]


@dataclass
class Training:
    """One stage while it trains: everything that a draw needs besides its source.

    ``replay`` holds the draws that several updates share, by the name of the stream. A member of a joint stream has the
    name that ``drawing`` gives. A checkpoint keeps ``replay``. ``kept`` holds what the last draws give people to read,
    a row each, until somebody takes it.
    """

    seed: int
    stage: str
    tokenizer: TextTokenizer
    model: Transformer
    engine: Engine | None
    reference: Transformer | None = None  # the stage's first weights
    shards: Mapping[str, Shard] = field(default_factory=dict)
    screened: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # question -> grading -> correct answers
    replay: dict[str, Drawn] = field(default_factory=dict)
    kept: list[dict[str, Any]] = field(default_factory=list)
    _cache: dict[object, Any] = field(default_factory=dict)

    def sampler(self, version: int) -> Engine:
        """The engine, with the current weights of the model."""
        assert self.engine is not None, "a stage with rollouts has an engine"
        self.engine.sync(weights_of(self.model), version)
        return self.engine

    def cached(self, name: object, make: Callable[[], V]) -> V:
        """A value that is a pure function of the specs. The first call makes the value."""
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]


@singledispatch
def draw(source: Any, stream: Stream, step: int, training: Training) -> Drawn:
    """The batch of update ``step`` and the numbers to log. Raises ValueError if no draw is registered."""
    raise ValueError(f"stream {stream.name}: {unregistered(type(source))}")


def unregistered(kind: type) -> str:
    return (
        f"no draw is registered for a source of the class {kind.__name__}: write @draw.register above a function "
        f"(source: {kind.__name__}, stream, step, training) that returns a batch and what is to be logged of it"
    )
