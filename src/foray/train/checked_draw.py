"""Draws of every source, Foray's own or a user's, with checks of what they return."""

from __future__ import annotations

import math
from typing import Any

import torch

from foray.core.batch import Batch
from foray.core.canonical import require
from foray.core.sources import Source
from foray.core.spelling import in_words
from foray.core.stage import Stream
from foray.model.config import ModelConfig
from foray.train import rollouts, supervised  # noqa: F401 (they register draws)
from foray.train.draw import Drawn, Training, draw


def registered(source: Any) -> bool:
    """Whether a draw is registered for the source."""
    return draw.dispatch(type(source)) is not draw.dispatch(object)


def drawn_by_others(source: Any) -> bool:
    """Whether the draw of the source is a user's. Only a draw shows how long the rows of a user's source are."""
    return registered(source) and not draw.dispatch(type(source)).__module__.startswith("foray.train.")


def drawn(source: Source, stream: Stream, step: int, training: Training) -> Drawn:
    """``draw``, checked.

    Raises ValueError if a model cannot train on the batch: a row is longer than the context, the model does not have a
    token, or tensors have different shapes.
    """
    found = draw(source, stream, step, training)
    where = f"stage {training.stage}, stream {stream.name}"
    pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Batch) and isinstance(found[1], dict)
    kind = type(source).__name__
    require(pair, f"{where}: the draw of {kind} returns {in_words(found)}: return (batch, dict of numbers)")
    _check_batch(found[0], where, training.model.config)
    for name, value in found[1].items():
        fine = isinstance(name, str) and isinstance(value, int | float)
        require(fine, f"{where}: the draw of {kind} logs {name!r}: {type(value).__name__}; log numbers by name")
    return found


def _check_batch(batch: Batch, where: str, config: ModelConfig) -> None:
    B, T = batch.tokens.shape if batch.tokens.dim() == 2 else (0, 0)
    require(B > 0 and T > 0, f"{where}: a batch holds rows of tokens, (B, T), not {tuple(batch.tokens.shape)}")
    for name in ("targets", "weight", "advantage", "behaviour"):
        shape = tuple(getattr(batch, name).shape)
        require(shape == (B, T), f"{where}: the batch's {name} are {shape}, its tokens {(B, T)}: give them one shape")
    whole = not (batch.tokens.is_floating_point() or batch.targets.is_floating_point())
    require(whole, f"{where}: the batch's tokens and targets must be whole numbers (torch.int64)")
    used = batch.weight != 0
    length = int(used.any(0).nonzero().max()) + 1 if used.any() else 0  # padding follows
    require(
        length <= config.context,
        f"{where}: a row of {length} tokens is longer than the model's context ({config.context}): set "
        f"model.context={length} or more, or let the source make shorter rows",
    )
    least = int(torch.minimum(batch.tokens, batch.targets).min())
    most = int(torch.maximum(batch.tokens, batch.targets).max())
    size = config.vocab_size or most + 1
    require(
        least >= 0 and most < size,
        f"{where}: a batch holds the token {least if least < 0 else most}; the model's lie between 0 and {size - 1}",
    )
    fine = math.isfinite(batch.denominator) and batch.denominator > 0
    require(fine, f"{where}: a batch's denominator must be a number > 0, not {batch.denominator}")
