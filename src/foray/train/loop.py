"""The one training loop: every stream proposes a change from the same weights, and the weighted sum is applied.

    weights += sum_i  w_i (-lr_i u_i - lr_i decay_i weights),   u_i Adam's direction for stream i

Computed without a snapshot: decay is one multiplication by 1 - sum_i w_i lr_i decay_i, after which AdamW without decay,
whose step does not depend on the weights, steps once for every stream at w_i lr_i.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from foray.core.batch import Batch
from foray.core.stage import AdamW, Joint, Stage, Stream, Weight
from foray.model.hf import save_tensors
from foray.model.transformer import Transformer
from foray.train.scoring import backward
from foray.train.sources import Run, draw

Metrics = dict[str, float]
Gradients = dict[str, Tensor]


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
            p = self.parameters[name]
            self.adam.state[p][key] = value.clone().to(p.device)


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
        proposals: list[tuple[Weight, Stream | Joint, Gradients]] = []
        for weight, stream, turn in stage.working(step):
            gradient, logged = _gradient(stage, stream, step, turn, run, crash_folder)
            proposals.append((weight, stream, gradient))
            metrics |= logged
        weighted = [(stage.weight_at(weight, step, metrics), s, g) for weight, s, g in proposals]
        apply_proposals(stage, model, moments, weighted, step)
        metrics |= _cosines([s.name for _, s, _ in weighted], moments)
        metrics["seconds"] = time.perf_counter() - begun
        after_step(step + 1, metrics)


def _gradient(
    stage: Stage, stream: Stream | Joint, step: int, turn: int, run: Run, crash_folder: Path | None
) -> tuple[Gradients, Metrics]:
    """The clipped gradient of a stream's draw number ``turn``, the weighted sum of its members', and what is logged."""
    model, metrics = run.model, dict[str, float]()
    total: Gradients = {}
    for weight, member in stream.members:
        try:
            batch, drawn = draw(member.source, member, turn, run)
        except FloatingPointError as e:
            raise TrainingStopped(f"stage {stage.name}, step {step}: {e}; a lower learning rate may help") from None
        model.zero_grad(set_to_none=True)
        fresh = backward(model, member, batch)
        _check_finite({"loss": fresh["loss"]}, stage, member.name, step, batch, crash_folder)
        for name, p in model.named_parameters():
            if p.grad is not None:
                part = p.grad if weight == 1.0 else p.grad * weight
                total[name] = total[name] + part if name in total else part
        metrics |= {f"{member.name}/{k}": v for k, v in (drawn | fresh).items()}
    for name, p in model.named_parameters():
        p.grad = total.get(name)
    norm = float(clip_gradients(model, stream.optimizer.clip))
    _check_finite({"gradient norm": norm}, stage, stream.name, step, batch, crash_folder)
    lr = stream.optimizer.lr_at(step, stage.steps)
    return total, metrics | {f"{stream.name}/gradient_norm": norm, f"{stream.name}/lr": lr}


def apply_proposals(
    stage: Stage,
    model: Transformer,
    moments: dict[str, Moments],
    proposals: Sequence[tuple[float, Stream | Joint, Gradients]],
    step: int,
) -> None:
    """weights += sum of weight x proposal. All gradients were taken at the weights as they are on entry."""
    rates = [weight * stream.optimizer.lr_at(step, stage.steps) for weight, stream, _ in proposals]
    with torch.no_grad():
        for name, p in model.named_parameters():
            decay = sum(
                rate * stream.optimizer.weight_decay
                for rate, (_, stream, _) in zip(rates, proposals)
                if not any(part in name for part in stream.optimizer.no_decay)
            )
            if decay:
                p.mul_(1 - decay)
    for rate, (_, stream, gradient) in zip(rates, proposals):
        moments[stream.name].step(gradient, rate)


def clip_gradients(model: Transformer, limit: float) -> Tensor:
    """Scales ``.grad`` to a global norm of at most ``limit``; returns the norm before. Scalar."""
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)


def _cosines(names: list[str], moments: dict[str, Moments]) -> Metrics:
    """Cosine between the updates of each pair of streams: do they pull the weights the same way?"""
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
