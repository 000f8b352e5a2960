"""Log-probabilities of given tokens, and the gradient of an objective: the trainer's side of the model.

Shapes: B rows, T positions, N scored positions, V vocabulary. Logits are made for scored positions only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from foray.core.batch import Batch
from foray.core.objectives import PolicyGradient, Scored, clipped_fraction
from foray.core.stage import Stream
from foray.model.transformer import Transformer

MICROBATCH_TOKENS = 4096  # padded tokens a forward pass; bounds memory, changes results by rounding only


def score(model: Transformer, batch: Batch, where: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of the targets at ``where`` (B, T), and log-partitions of the untempered logits (N,)."""
    device = model.device
    hidden = model(batch.tokens.to(device))
    logits = model.lm_head(hidden[where.to(device)]).float()  # (N, V)
    log_z = torch.logsumexp(logits, -1)
    targets = batch.targets[where].to(device)
    picked = logits.gather(1, targets[:, None])[:, 0]
    if batch.temperature == 1.0:
        return picked - log_z, log_z
    tempered = torch.logsumexp(logits / batch.temperature, -1)
    return picked / batch.temperature - tempered, log_z


@torch.no_grad()
def token_logprobs(model: Transformer, batch: Batch) -> Tensor:
    """Log-probabilities (B, T) at the batch's temperature; 0 where the weight is 0."""
    where = batch.weight != 0
    out = torch.zeros(batch.weight.shape)
    out[where] = score(model, batch, where)[0].cpu()
    return out


def backward(model: Transformer, stream: Stream, batch: Batch, microbatch: int = MICROBATCH_TOKENS) -> dict[str, float]:
    """Adds d(loss)/d(weights) of the whole batch to ``.grad``; the result does not depend on the microbatch size.

    Rows that cannot have a gradient are not computed; with no row left the gradient is exactly zero. Under
    torch.distributed every rank holds the whole batch, computes its share of the rows, and gets the sum (law 3).
    """
    objective = stream.objective
    contributes = objective.contributes(batch.weight, batch.advantage)
    loss_sum = clipped = scored_tokens = 0.0
    for p in model.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    for rows in microbatches(contributes, microbatch, rank, ranks):
        part = batch.select(rows)
        where = contributes[rows, : part.tokens.shape[1]]
        logprobs, log_z = score(model, part, where)
        device = logprobs.device
        reference = part.reference if part.reference is not None else part.behaviour
        side = (part.advantage[where], part.behaviour[where], reference[where])
        scored = Scored(logprobs, log_z, *(t.to(device) for t in side))
        loss = (objective(scored) * part.weight[where].to(device)).sum() / part.denominator
        loss.backward()
        loss_sum += float(loss.detach())
        scored_tokens += len(logprobs)
        if isinstance(objective, PolicyGradient):
            clipped += float(clipped_fraction(scored, objective)) * len(logprobs)
    if ranks > 1:
        sums = torch.tensor([loss_sum, clipped, scored_tokens], dtype=torch.float64, device=model.device)
        for tensor in (sums, *(p.grad for p in model.parameters() if p.grad is not None)):
            dist.all_reduce(tensor)
        loss_sum, clipped, scored_tokens = sums.tolist()
    metrics = {"loss": loss_sum}
    if isinstance(objective, PolicyGradient):
        metrics["clipped"] = clipped / max(1, scored_tokens)
    return metrics


def microbatches(contributes: Tensor, tokens: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
    """This rank's rows with a scored position, longest first, cut so that rows x longest stays within ``tokens``."""
    last = (contributes * torch.arange(1, contributes.shape[1] + 1)).amax(1)  # positions a row needs
    order = last.argsort(descending=True, stable=True)
    order = order[last[order] > 0][rank::ranks]
    start = 0
    while start < len(order):
        size = max(1, tokens // int(last[order[start]]))
        yield order[start : start + size]
        start += size
