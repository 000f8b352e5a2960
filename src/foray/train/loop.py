"""The one training loop: every stream proposes a change from the same weights, and the weighted sum is applied.

    weights += sum_i  w_i (-lr_i u_i - lr_i decay_i weights),   u_i Adam's direction for stream i

Computed without a snapshot: decay is one multiplication by 1 - sum_i w_i lr_i decay_i, after which AdamW without decay,
whose step does not depend on the weights, steps once for every stream at w_i lr_i.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from foray.core.batch import Batch
from foray.core.stage import AdamW, Stage
from foray.model.hf import save_tensors
from foray.model.transformer import Transformer
from foray.train.scoring import backward
from foray.train.sources import Run, draw

Metrics = dict[str, float]


class TrainingStopped(ValueError):
    """A loss, gradient or log-probability was not finite; the weights are as they were before the step."""


class Moments:
    """Adam's state of one stream: a torch AdamW without decay, stepped with gradients handed to it."""

    def __init__(self, model: Transformer, spec: AdamW) -> None:
        self.spec = spec
        self.parameters = dict(model.named_parameters())
        self.adam = torch.optim.AdamW(
            list(self.parameters.values()), lr=0.0, betas=spec.betas, eps=spec.eps, weight_decay=0.0, fused=True
        )

    def step(self, gradients: dict[str, Tensor], lr: float) -> None:
        for name, p in self.parameters.items():
            p.grad = gradients[name]
        for group in self.adam.param_groups:
            group["lr"] = lr
        self.adam.step()

    def direction(self) -> Tensor:
        """Adam's bias-corrected direction u of the last step, flattened. (parameters,)"""
        parts = []
        for p in self.parameters.values():
            s = self.adam.state[p]
            beta1, beta2 = self.spec.betas
            t = float(s["step"])
            m, v = s["exp_avg"] / (1 - beta1**t), s["exp_avg_sq"] / (1 - beta2**t)
            parts.append((m / (v.sqrt() + self.spec.eps)).flatten())
        return torch.cat(parts)

    def tensors(self) -> dict[str, Tensor]:
        """The state by parameter name, for a checkpoint; empty before the first step."""
        out = {}
        for name, p in self.parameters.items():
            for key, value in self.adam.state.get(p, {}).items():
                out[f"{key}/{name}"] = value.detach().clone()
        return out

    def load(self, tensors: dict[str, Tensor]) -> None:
        for full, value in tensors.items():
            key, name = full.split("/", 1)
            self.adam.state[self.parameters[name]][key] = value.clone()


def run_stage(
    stage: Stage,
    run: Run,
    moments: dict[str, Moments],
    start: int,
    until: int,
    after_step: Callable[[int, Metrics], None],
    crash_folder: Path | None = None,
) -> None:
    """Updates ``start`` to ``until`` of a stage; ``after_step(step, metrics)`` is called with updates done so far.

    Raises TrainingStopped before the weights change when a number is not finite, with the batch saved in
    ``crash_folder``.
    """
    model = run.model
    for step in range(start, until):
        begun = time.perf_counter()
        metrics: Metrics = {}
        gradients: list[dict[str, Tensor]] = []
        for _, stream in stage.streams:
            prefix = f"{stream.name}/"
            try:
                batch, drawn = draw(stream.source, stream, step, run)
            except FloatingPointError as e:
                raise TrainingStopped(f"stage {stage.name}, step {step}: {e}; a lower learning rate may help") from None
            model.zero_grad(set_to_none=True)
            fresh = backward(model, stream, batch)
            norm = float(clip_gradients(model, stream.optimizer.clip))
            _check_finite({"loss": fresh["loss"], "gradient norm": norm}, stage, stream.name, step, batch, crash_folder)
            gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
            metrics |= {prefix + k: v for k, v in (drawn | fresh).items()}
            metrics |= {prefix + "gradient_norm": norm, prefix + "lr": stream.optimizer.lr_at(step, stage.steps)}
        apply_proposals(stage, model, moments, gradients, step)
        metrics |= _cosines(stage, moments)
        metrics["seconds"] = time.perf_counter() - begun
        after_step(step + 1, metrics)


def apply_proposals(
    stage: Stage, model: Transformer, moments: dict[str, Moments], gradients: list[dict[str, Tensor]], step: int
) -> None:
    """weights += sum of weight x proposal. All gradients were taken at the weights as they are on entry."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            decay = sum(
                weight * stream.optimizer.lr_at(step, stage.steps) * stream.optimizer.weight_decay
                for weight, stream in stage.streams
                if not any(part in name for part in stream.optimizer.no_decay)
            )
            if decay:
                p.mul_(1 - decay)
    for (weight, stream), gradient in zip(stage.streams, gradients):
        moments[stream.name].step(gradient, weight * stream.optimizer.lr_at(step, stage.steps))


def clip_gradients(model: Transformer, limit: float) -> Tensor:
    """Scales ``.grad`` to a global norm of at most ``limit``; returns the norm before. Scalar."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)


def _cosines(stage: Stage, moments: dict[str, Moments]) -> Metrics:
    """Cosine between the updates of each pair of streams: do they pull the weights the same way?"""
    names = [stream.name for _, stream in stage.streams]
    if len(names) < 2:
        return {}
    directions = {name: moments[name].direction() for name in names}
    return {
        f"cosine/{a}-{b}": float(torch.nn.functional.cosine_similarity(directions[a], directions[b], dim=0))
        for a, b in _pairs(names)
    }


def _pairs(names: list[str]) -> Iterator[tuple[str, str]]:
    return ((a, b) for i, a in enumerate(names) for b in names[i + 1 :])


def _check_finite(
    values: Metrics, stage: Stage, stream: str, step: int, batch: Batch, crash_folder: Path | None
) -> None:
    bad = [name for name, v in values.items() if not math.isfinite(v)]
    if not bad:
        return
    where = ""
    if crash_folder is not None:
        tensors = {k: v.contiguous() for k, v in batch.__dict__.items() if isinstance(v, Tensor)}
        save_tensors(tensors, crash_folder / "stopped_batch.safetensors")
        where = f"; the batch is in {crash_folder / 'stopped_batch.safetensors'}"
    raise TrainingStopped(
        f"stage {stage.name}, step {step}: the {' and the '.join(bad)} of stream {stream!r} is not finite; the weights "
        f"are unchanged; a lower learning rate may help{where}"
    )
