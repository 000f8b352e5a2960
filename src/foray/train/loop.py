"""The one training loop: every stream proposes a change from the same weights, and the weighted sum is applied.

    weights += sum_i  w_i (-lr_i u_i - lr_i decay_i weights),   u_i Adam's direction for stream i

The weights are those that training changes: all of the model's, or those of adapters (``Transformer.trained``).

No snapshot of the weights is needed. Decay is one multiplication by 1 - sum_i w_i lr_i decay_i. Then AdamW without
decay steps once for every stream at w_i lr_i; the step of AdamW without decay does not depend on the weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim.adamw import adamw

from foray.core.batch import Batch
from foray.core.schedules import Weight
from foray.core.stage import AdamW, Joint, Stage, Stream, drawing
from foray.model.hf import save_tensors
from foray.model.transformer import Transformer
from foray.train.checked_draw import drawn
from foray.train.draw import Training
from foray.train.ranks import is_first
from foray.train.scoring import backward
from foray.train.sharding import like, own, whole

Metrics = dict[str, float]
Gradients = dict[str, Tensor]


class TrainingStopped(ValueError):
    """A loss, gradient or log-probability was not finite. The weights have their values from before the step."""


class Moments:
    """The Adam moments of one stream. Their step is torch's AdamW without decay, with gradients from the caller.

    The step is torch's function, not its class: the class imports torch's compiler, three seconds in every process.
    """

    def __init__(self, model: Transformer, spec: AdamW) -> None:
        self.spec = spec
        self.parameters = model.trained()
        self._state: dict[str, dict[str, Tensor]] = {}  # by parameter, then by Adam's name; empty before the first step

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor], lr: float) -> None:
        state = [self._of(name) for name in self.parameters]
        adamw(
            list(self.parameters.values()), [gradients[name] for name in self.parameters],
            [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [], [s["step"] for s in state],
            fused=True, amsgrad=False, beta1=self.spec.betas[0], beta2=self.spec.betas[1], lr=lr, weight_decay=0.0,
            eps=self.spec.eps, maximize=False,
        )  # fmt: skip

    def _of(self, name: str) -> dict[str, Tensor]:
        """Adam's tensors of a parameter, begun with zeros."""
        if name not in self._state:
            p = self.parameters[name]
            moments = {key: torch.zeros_like(p, requires_grad=False) for key in ("exp_avg", "exp_avg_sq")}
            self._state[name] = {"step": torch.zeros((), device=p.device), **moments}
        return self._state[name]

    def taken(self) -> float:
        """The number of steps taken, the same for every parameter."""
        return float(next(iter(self._state.values()))["step"])

    def direction(self, name: str, t: float) -> Tensor:
        """Adam's bias-corrected direction u of the last step ``t`` in one parameter: this rank's slice."""
        s = self._state[name]
        beta1, beta2 = self.spec.betas
        m, v = own(s["exp_avg"]) / (1 - beta1**t), own(s["exp_avg_sq"]) / (1 - beta2**t)
        return m / (v.sqrt() + self.spec.eps)

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Adam's own tensors by "key/parameter". Empty before the first step."""
        for name, tensors in self._state.items():
            for key, value in tensors.items():
                yield f"{key}/{name}", value

    def tensors(self) -> dict[str, Tensor]:
        """Copies of Adam's tensors, for a checkpoint."""
        return {name: value.to("cpu", copy=True) for name, value in self.state()}

    def begin(self, names: Iterable[str]) -> None:
        """Makes tensors of these names for a reader to fill."""
        for full in names:
            self._of(full.split("/", 1)[1])

    def load(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Takes over the tensors of a checkpoint. Every rank passes whole tensors."""
        for full, value in tensors:
            key, name = full.split("/", 1)
            self._state.setdefault(name, {})[key] = like(value, self.parameters[name])


def run_stage(
    stage: Stage,
    training: Training,
    moments: dict[str, Moments],
    start: int,
    until: int,
    after_step: Callable[[int, Metrics], bool | None],
    crash_folder: Path | None = None,
) -> None:
    """Updates ``start`` to ``until`` of a stage. Calls ``after_step(updates done so far, metrics)`` after each.

    Ends early if ``after_step`` returns True. Raises TrainingStopped if a number is not finite, before the weights
    change. ``crash_folder`` then holds the batch.
    """
    model = training.model
    for step in range(start, until):
        begun = time.perf_counter()
        metrics: Metrics = {}
        proposals: list[tuple[Weight, Stream | Joint, Gradients]] = []
        for weight, stream in stage.working(step):
            gradient, logged = _gradient(stage, weight, stream, step, training, crash_folder)
            proposals.append((weight, stream, gradient))
            metrics |= logged
        weighted = [(stage.weight_at(weight, step, metrics), s, g) for weight, s, g in proposals]
        apply_proposals(stage, model, moments, weighted, step)
        metrics |= _cosines([s.name for _, s, _ in weighted], moments, model)
        metrics["seconds"] = time.perf_counter() - begun
        if after_step(step + 1, metrics):
            return


def _gradient(
    stage: Stage, weight: Weight, stream: Stream | Joint, step: int, training: Training, crash_folder: Path | None
) -> tuple[Gradients, Metrics]:
    """The clipped gradient of a stream's next draw (the weighted sum over its working members), and the metrics."""
    model, metrics = training.model, dict[str, float]()
    total: Gradients = {}
    for share, member, turn in stage.draws(weight, stream, step):
        try:
            batch, told = drawn(member.source, drawing(stream, member), turn, training)
        except FloatingPointError as e:
            raise TrainingStopped(f"stage {stage.name}, step {step}: {e}; a lower learning rate may help") from None
        model.zero_grad(set_to_none=True)
        fresh = backward(model, member, batch)
        _check_finite({"loss": fresh["loss"]}, stage, member.name, step, batch, crash_folder)
        for name, p in model.trained().items():
            if p.grad is not None:
                part = p.grad if share == 1.0 else p.grad * share
                total[name] = total[name] + part if name in total else part
        metrics |= {f"{stage.logged(stream, member)}/{k}": v for k, v in (told | fresh).items()}
    for name, p in model.trained().items():
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
    """weights += sum of weight x proposal. All gradients belong to the weights on entry."""
    rates = [weight * stream.optimizer.lr_at(step, stage.steps) for weight, stream, _ in proposals]
    with torch.no_grad():
        for name, p in model.trained().items():
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
    """Scales ``.grad`` to a global norm of at most ``limit``. Returns the norm before, a scalar equal on all ranks."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    found = whole(norm)
    if found + 1e-6 > limit:  # else torch would multiply by 1, in one more pass over all gradients
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
    return found


def _cosines(names: list[str], moments: dict[str, Moments], model: Transformer) -> Metrics:
    """The cosine between the updates of each pair of streams."""
    if len(names) < 2:
        return {}
    products = torch.zeros(len(names), len(names), dtype=torch.float64, device=model.device)
    taken = {name: moments[name].taken() for name in names}
    for parameter in model.trained():
        u = torch.stack(
            [moments[name].direction(parameter, taken[name]).flatten() for name in names]
        )  # (streams, entries)
        products += (u @ u.T).double()
    if model.sharded:  # the sum counts each slice equally often, whichever ranks hold the slice
        dist.all_reduce(products)
    lengths = products.diagonal().sqrt().clamp(min=1e-8)
    cosines = (products / lengths / lengths[:, None]).tolist()
    return {f"cosine/{names[i]}-{names[j]}": cosines[i][j] for i, j in combinations(range(len(names)), 2)}


def _check_finite(
    values: Metrics, stage: Stage, stream: str, step: int, batch: Batch, crash_folder: Path | None
) -> None:
    bad = [name for name, v in values.items() if not math.isfinite(v)]
    if not bad:
        return
    where = ""
    if crash_folder is not None:
        if is_first():
            save_tensors(batch.copies(), crash_folder / "stopped_batch.safetensors")
        where = f"; the batch is in {crash_folder / 'stopped_batch.safetensors'}"
    raise TrainingStopped(
        f"stage {stage.name}, step {step}: the {' and the '.join(bad)} of stream {stream!r} is not finite; the weights "
        f"are unchanged; a lower learning rate may help{where}"
    )
