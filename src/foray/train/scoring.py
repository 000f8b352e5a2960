"""Log-probabilities of given tokens, and the gradient of an objective: the trainer's side of the model.

Shapes: B rows, T positions, M packed tokens, N scored positions, V vocabulary. Only scored positions get logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

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
from foray.train.ranks import rank_and_ranks
from foray.train.sharding import release

LOGITS = 1 << 29  # entries at once, 2 GB in fp32: with a vocabulary of 100,000 the head takes 5,000 positions a time


@torch.no_grad()
def token_logprobs(model: Transformer, batch: Batch, precision: str = "fp32") -> Tensor:
    """Log-probabilities (B, T) at the batch's temperature; 0 where the weight is 0."""
    out = torch.zeros(batch.weight.shape)
    for packed in _passes(model, batch, batch.weight != 0):
        with products_in(precision, model):
            hidden, targets = _scored_states(model, batch, packed)
            parts = [_logprobs(model, h, t, batch.temperature)[0] for h, t in _blocks(model, hidden, targets)]
        out[packed.row, packed.time] = torch.cat(parts).cpu()
    return _of_all_ranks(model, out)


@torch.no_grad()
def token_choices(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, T), and whether the target is the likeliest token (B, T); 0 and False at weight 0."""
    out = torch.zeros(2, *batch.weight.shape)
    for packed in _passes(model, batch, batch.weight != 0):
        hidden, targets = _scored_states(model, batch, packed)
        parts = []
        for h, t in _blocks(model, hidden, targets):
            logits = model.lm_head(h).float()
            parts.append(torch.stack([target_logprob(logits, t)[0], (logits.argmax(-1) == t).float()]))
        out[:, packed.row, packed.time] = torch.cat(parts, 1).cpu()
    logprobs, greedy = _of_all_ranks(model, out)
    return logprobs, greedy.bool()


def _passes(model: Transformer, batch: Batch, where: Tensor, microbatch: int = 0) -> Iterator[Packed]:
    """The packed sequences that this rank computes of a batch; of a sharded model all ranks compute equally many."""
    share = rank_and_ranks() if model.sharded else (0, 1)
    return pack(batch, where, microbatch or model.machine.microbatch_tokens, *share, model.device)


def _of_all_ranks(model: Transformer, out: Tensor) -> Tensor:
    """``out``, of which every rank of a sharded model has computed a share and left zeros elsewhere."""
    if model.sharded:
        release(model)
        dist.all_reduce(out)
    return out


def _scored_states(model: Transformer, batch: Batch, packed: Packed) -> tuple[Tensor, Tensor]:
    """Hidden states (N, D) at the packed scored positions, and their targets (N,)."""
    # Before the pass: a copy to a GPU waits for what was launched before it.
    targets, packed = _at(packed, batch.targets).to(model.device), packed.to(model.device)
    return model(packed.tokens, packed.positions, packed)[0].index_select(0, packed.place), targets


def _logprobs(model: Transformer, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of ``targets`` after states (N, D), and log-partitions of the untempered logits (N,)."""
    logits = model.lm_head(hidden).float()
    if temperature == 1.0:
        return target_logprob(logits, targets)
    return target_logprob(logits / temperature, targets)[0], torch.logsumexp(logits, -1)


def _blocks(model: Transformer, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching pieces of tensors (N, ...), whose logits fit the memory set aside for them."""
    return zip(*(x.split(max(1, LOGITS // model.config.vocab_size)) for x in tensors))


def products_in(precision: str, model: Transformer) -> torch.autocast:
    """A context in which matrix products are computed in ``precision``."""
    # Autocast keeps its copies of weights to the end of the context: of a sharded model's layers, in the end, all.
    return torch.autocast(
        model.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=not model.sharded
    )


def backward(model: Transformer, stream: Stream, batch: Batch, microbatch: int = 0) -> dict[str, float]:
    """Adds d(loss)/d(weights) of the whole batch to ``.grad``; the result does not depend on the microbatch size.

    Rows that cannot have a gradient are not computed; with no row left the gradient is exactly zero. Ranks that share
    a sharded model all have the whole batch and compute a share of its rows each; the gradient, of which every rank
    gets its slice, is the sum (law 3).
    ``microbatch``: in tokens, in place of the machine's own.
    """
    objective = stream.objective
    contributes = objective.contributes(batch.weight, batch.advantage)
    # Loss, clipped tokens, |log-probability of this pass - of the engine|, tokens; on the device, which need not wait.
    sums = torch.zeros(4, dtype=torch.float64, device=model.device)
    for p in model.parameters():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    for packed in _passes(model, batch, contributes, microbatch):
        of_tokens = [_at(packed, x).to(model.device) for x in _token_values(batch)]
        with products_in(stream.precision, model):
            hidden, targets = _scored_states(model, batch, packed)
        # Forward and backward through the head a block at a time; what comes back goes on through the layers at once.
        leaf = hidden.detach().requires_grad_()
        for states, of_block, *values in _blocks(model, leaf, targets, *of_tokens):
            with products_in(stream.precision, model):
                logprobs, log_z = _logprobs(model, states, of_block, batch.temperature)
            sums += _block_backward(objective, batch, logprobs, log_z, values)
        hidden.backward(leaf.grad)
    if model.sharded:
        dist.all_reduce(sums)
    loss, clipped, mismatch, scored_tokens = sums.tolist()
    work = forward_flops(model.config, batch, contributes) * (1 + flops.BACKWARD)
    metrics = {"loss": loss, "flops/update": work}
    if isinstance(objective, PolicyGradient):
        metrics["clipped"] = clipped / max(1, scored_tokens)
    # Mean |log-probability of the trainer - of the engine|, both at the weights that sampled.
    if scored_tokens and (batch.on_policy or batch.drawn is not None):
        metrics["mismatch"] = mismatch / scored_tokens
    return metrics


def _token_values(batch: Batch) -> tuple[Tensor, ...]:
    """What a loss needs besides log-probabilities, each (B, T): weight, advantage, behaviour, reference, drawn."""
    reference = batch.reference if batch.reference is not None else batch.behaviour
    drawn = batch.drawn if batch.drawn is not None else batch.behaviour
    return batch.weight, batch.advantage, batch.behaviour, reference, drawn


def _at(packed: Packed, x: Tensor) -> Tensor:
    return x[packed.row, packed.time]


def _block_backward(objective: Any, batch: Batch, logprobs: Tensor, log_z: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Backward from N tokens; their loss, clipped tokens, mismatch and number, (4,) in double precision."""
    weight, advantage, behaviour, reference, drawn = values
    if batch.on_policy:
        behaviour = logprobs.detach()
    mismatch = (behaviour - drawn).abs().sum()
    clipped = logprobs.new_zeros(())
    first = reference if batch.reference is not None else None
    scored = Scored(logprobs, log_z, advantage, behaviour, first, drawn)
    loss = (objective(scored) * weight).sum() / batch.denominator
    loss.backward()
    if isinstance(objective, PolicyGradient) and len(logprobs):
        clipped = clipped_fraction(scored, objective)
    clipped = clipped.double() * len(logprobs)
    return torch.stack([loss.detach().double(), clipped, mismatch.double(), clipped.new_full((), len(logprobs))])
