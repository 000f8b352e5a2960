"""The user's own measurement: numbers of a checkpoint that Foray knows nothing about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from foray.core.canonical import check_name, require

if TYPE_CHECKING:  # specs name the protocol
    from foray.data.tokenizer import TextTokenizer
    from foray.model.transformer import Transformer

FORAYS_METRICS = ("acc", "perplexity", "bits_per_byte", "format_rate", "truncated_rate")  # and pass@k


class OwnMeasure(Protocol):
    """A frozen dataclass of the measurement's settings, for ``Evaluation.measures``. It measures final checkpoints."""

    @property
    def name(self) -> str:
        """The measurement's name in the column ``task`` of the report's tables."""

    def measure(self, model: Transformer, tokenizer: TextTokenizer) -> Mapping[str, float | Sequence[float]]:
        """Numbers by metric. A list has a number an item, and the report shows the mean with its interval.

        The model is on the machine's device, in evaluation mode. Gradients are off, and ``torch`` is seeded.
        """
        ...


def measured(own: OwnMeasure, model: Transformer, tokenizer: TextTokenizer, seed: int) -> dict[str, list[float]]:
    """The numbers of every metric. A single number becomes a list of one.

    Raises ValueError for a value that is no number, and for a metric with the name of one of Foray's metrics.
    """
    import torch

    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        found: Any = own.measure(model, tokenizer)
    of = f"{type(own).__name__}.measure()"
    require(isinstance(found, Mapping) and bool(found), f"{of} gives {found!r:.60}: return a dict of numbers by metric")
    return {_name(metric, of): _numbers(value, f"{of}, {metric}") for metric, value in found.items()}


def _name(metric: Any, of: str) -> str:
    check_name(metric, f"{of}: a metric")
    require(
        "@" not in metric and metric not in FORAYS_METRICS, f"{of}: {metric!r} is a metric of Foray's; rename yours"
    )
    return str(metric)


def _numbers(value: Any, where: str) -> list[float]:
    several = hasattr(value, "__len__") and not isinstance(value, str) and getattr(value, "ndim", 1) > 0
    try:
        numbers = [float(v) for v in (value if several else [value])]
    except (TypeError, ValueError):
        numbers = []
    fine = bool(numbers) and all(map(math.isfinite, numbers))
    require(fine, f"{where}: {value!r:.60} is neither a finite number nor a list of such numbers")
    return numbers
