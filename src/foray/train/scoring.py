"""Log-probabilities of given tokens, and the gradient of an objective: the trainer's side of the model.

Shapes: B rows, T positions, M packed tokens, N scored positions, V vocabulary. Only scored positions get logits.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from foray.core.batch import Batch
from foray.core.objectives import PolicyGradient, Scored, clipped_fraction
from foray.core.stage import Stream
from foray.model import flops
from foray.model.fused import target_logprob
from foray.model.transformer import Transformer
from foray.train.packing import Packed, forward_flops, pack

MICROBATCH_TOKENS = 4096  # tokens a forward pass; bounds memory, changes results by rounding only


def packed_logits(model: Transformer, batch: Batch, packed: Packed) -> tuple[Tensor, Tensor]:
    """Logits (N, V) at the packed scored positions, in fp32, and their targets (N,)."""
    packed = packed.to(model.device)
    hidden = model(packed.tokens, packed.positions, packed)[0]  # (M, D)
    logits = model.lm_head(hidden.index_select(0, packed.place)).float()
    return logits, batch.targets[packed.row, packed.time].to(model.device)


def score(model: Transformer, batch: Batch, packed: Packed) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of the packed positions' targets, and log-partitions of the untempered logits (N,)."""
    logits, targets = packed_logits(model, batch, packed)
    if batch.temperature == 1.0:
        return target_logprob(logits, targets)
    return target_logprob(logits / batch.temperature, targets)[0], torch.logsumexp(logits, -1)


@torch.no_grad()
def token_logprobs(model: Transformer, batch: Batch, precision: str = "fp32") -> Tensor:
    """Log-probabilities (B, T) at the batch's temperature; 0 where the weight is 0."""
    out = torch.zeros(batch.weight.shape)
    for packed in pack(batch, batch.weight != 0, MICROBATCH_TOKENS):
        with _products_in(precision, model):
            out[packed.row, packed.time] = score(model, batch, packed)[0].cpu()
    return out


def _products_in(precision: str, model: Transformer) -> torch.autocast:
    return torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16")


def backward(model: Transformer, stream: Stream, batch: Batch, microbatch: int = MICROBATCH_TOKENS) -> dict[str, float]:
    """Adds d(loss)/d(weights) of the whole batch to ``.grad``; the result does not depend on the microbatch size.

    Rows that cannot have a gradient are not computed; with no row left the gradient is exactly zero. Under
    torch.distributed every rank holds the whole batch, computes its share of the rows, and gets the sum (law 3).
    """
    objective = stream.objective
    contributes = objective.contributes(batch.weight, batch.advantage)
    loss_sum = clipped = mismatch = scored_tokens = 0.0
    for p in model.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    for packed in pack(batch, contributes, microbatch, rank, ranks):
        with _products_in(stream.precision, model):
            logprobs, log_z = score(model, batch, packed)
        reference = batch.reference if batch.reference is not None else batch.behaviour
        engines = batch.drawn if batch.drawn is not None else batch.behaviour
        at = packed.row, packed.time
        advantage, behaviour, of_reference, drawn, weight = (
            x[at].to(model.device) for x in (batch.advantage, batch.behaviour, reference, engines, batch.weight)
        )
        if batch.on_policy:
            behaviour = logprobs.detach()
        mismatch += float((behaviour - drawn).abs().sum())
        scored = Scored(logprobs, log_z, advantage, behaviour, of_reference, drawn)
        loss = (objective(scored) * weight).sum() / batch.denominator
        loss.backward()
        loss_sum += float(loss.detach())
        scored_tokens += len(logprobs)
        if isinstance(objective, PolicyGradient):
            clipped += float(clipped_fraction(scored, objective)) * len(logprobs)
    if ranks > 1:
        sums = torch.tensor([loss_sum, clipped, mismatch, scored_tokens], dtype=torch.float64, device=model.device)
        for tensor in (sums, *(p.grad for p in model.parameters() if p.grad is not None)):
            dist.all_reduce(tensor)
        loss_sum, clipped, mismatch, scored_tokens = sums.tolist()
    work = forward_flops(model.config, batch, contributes) * (1 + flops.BACKWARD)
    metrics = {"loss": loss_sum, "flops/update": work}
    if isinstance(objective, PolicyGradient):
        metrics["clipped"] = clipped / max(1, scored_tokens)
    # Mean |log-probability of the trainer - of the engine|, both at the weights that sampled.
    if scored_tokens and (batch.on_policy or batch.drawn is not None):
        metrics["mismatch"] = mismatch / scored_tokens
    return metrics
