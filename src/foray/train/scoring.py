"""Log-probabilities of given tokens, and the gradient of an objective.

Shapes: B rows, T positions, M packed tokens, N scored positions, D width, V vocabulary. Only scored positions get
logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from foray.core.batch import Batch
from foray.core.canonical import require
from foray.core.objectives import Objective, Scored
from foray.core.stage import Stream
from foray.model.operators import target_logprob
from foray.model.transformer import Transformer
from foray.train.packing import Packed, pack, update_flops
from foray.train.ranks import rank_and_ranks
from foray.train.sharding import release

LOGITS = 1 << 29  # logits at once, 2 GB in fp32; with a vocabulary of 100,000 these are 5,000 positions


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
    """Log-probabilities (B, T), and whether the target is the likeliest token (B, T).

    At weight 0 these are 0 and False.
    """
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
    """The packed sequences of a batch that this rank computes. Ranks of a sharded model compute equally many."""
    share = rank_and_ranks() if model.sharded else (0, 1)
    return pack(batch, where, microbatch or model.machine.microbatch_tokens, *share)


def _of_all_ranks(model: Transformer, out: Tensor) -> Tensor:
    """The sum of ``out`` over the ranks of a sharded model. Each rank has computed a share and left zeros elsewhere."""
    if model.sharded:
        release(model)
        dist.all_reduce(out)
    return out


def _scored_states(model: Transformer, batch: Batch, packed: Packed) -> tuple[Tensor, Tensor]:
    """Hidden states (N, D) at the packed scored positions, and their targets (N,)."""
    # The copies come before the pass: a copy to a GPU waits for all earlier launches.
    targets, packed = _at(packed, batch.targets).to(model.device), packed.to(model.device)
    return model(packed.tokens, packed.positions, packed)[0].index_select(0, packed.place), targets


def _logprobs(model: Transformer, hidden: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of ``targets`` after states (N, D), and log-partitions (N,) of the logits at T = 1."""
    logits = model.lm_head(hidden)
    if temperature == 1.0:
        fused = model.machine.device == "cuda" and model.machine.compile == "on"
        return target_logprob(logits, targets, fused, spare=True)
    logits = logits.float()
    return target_logprob(logits / temperature, targets, spare=True)[0], torch.logsumexp(logits, -1)


def _blocks(model: Transformer, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Matching pieces of tensors (N, ...) with at most ``LOGITS`` logits each."""
    return zip(*(x.split(max(1, LOGITS // model.config.vocab_size)) for x in tensors))


def products_in(precision: str, model: Transformer) -> torch.autocast:
    """A context manager under which matrix products are computed in ``precision``."""
    # Autocast's cache would keep copies of weights to the end of the context, in the end of all sharded layers.
    return torch.autocast(
        model.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=not model.sharded
    )


def backward(model: Transformer, stream: Stream, batch: Batch, microbatch: int = 0) -> dict[str, float]:
    """Adds d(loss)/d(weights) of the whole batch to ``.grad`` of what is trained. Returns the metrics of the update.

    The result does not depend on the microbatch size (``microbatch`` tokens, or the machine's setting). Rows without a
    gradient are not computed; without any row the gradient is exactly zero. All ranks of a sharded model have the whole
    batch, and each rank computes a share of the rows. The gradient is the sum over the ranks (law 3), and every rank
    gets its slice of the sum.
    """
    objective = stream.objective
    contributes = contributing(objective, batch.weight, batch.advantage)
    names = list(metrics_of(objective, _no_tokens(batch)))
    # Sums of the loss, the mismatch, tokens and the objective's metrics. They stay on the device, so that the device
    # need not wait.
    sums = torch.zeros(3 + len(names), dtype=torch.float64, device=model.device)
    for packed in _passes(model, batch, contributes, microbatch):
        of_tokens = [_at(packed, x).to(model.device) for x in _token_values(batch)]
        with products_in(stream.precision, model):
            hidden, targets = _scored_states(model, batch, packed)
        # Forward and backward through the head by blocks, then once backward through the layers.
        leaf = hidden.detach().requires_grad_()
        for states, of_block, *values in _blocks(model, leaf, targets, *of_tokens):
            with products_in(stream.precision, model):
                logprobs, log_z = _logprobs(model, states, of_block, batch.temperature)
            sums += _block_backward(objective, batch, names, logprobs, log_z, values)
        hidden.backward(leaf.grad)
    for p in model.trained().values():
        if p.grad is None:  # only now: a first gradient then becomes ``.grad`` itself
            p.grad = torch.zeros_like(p)
    if model.sharded:
        dist.all_reduce(sums)
    loss, mismatch, tokens, *totals = sums.tolist()
    metrics = {"loss": loss, "flops/update": update_flops(model.config, batch, contributes, model.lora)}
    metrics |= {name: total / max(1, tokens) for name, total in zip(names, totals)}
    if tokens and (batch.on_policy or batch.drawn is not None):
        metrics["mismatch"] = mismatch / tokens
    return metrics


def contributing(objective: Objective, weight: Tensor, advantage: Tensor) -> Tensor:
    """The positions (B, T) that the objective says contribute. Raises ValueError unless they are a tensor (B, T)."""
    found = objective.contributes(weight, advantage)
    ok = isinstance(found, Tensor) and found.shape == weight.shape
    require(ok, f"{_named(objective)}.contributes returns {_what(found)}: return a truth value a position, (B, T)")
    return torch.as_tensor(found).bool()


def loss_of(objective: Objective, scored: Scored) -> Tensor:
    """The objective's loss a token (N,). Raises ValueError unless the loss is a tensor (N,) with a gradient."""
    found = objective(scored)
    ok = isinstance(found, Tensor) and found.shape == scored.logprobs.shape
    require(
        ok, f"{_named(objective)} returns {_what(found)}: return a loss a token, a tensor ({len(scored.logprobs)},)"
    )
    loose = scored.logprobs.requires_grad and not found.requires_grad
    require(not loose, f"{_named(objective)} has no gradient: it must depend on scored.logprobs, undetached")
    return torch.as_tensor(found)


def metrics_of(objective: Objective, scored: Scored) -> dict[str, Tensor]:
    """The objective's own metrics: a value a token (N,) by name. Empty if the objective has no ``metrics``."""
    metrics = getattr(objective, "metrics", None)
    if metrics is None:
        return {}
    with torch.no_grad():
        found = metrics(scored)
    ok = isinstance(found, dict) and all(isinstance(name, str) for name in found)
    require(ok, f"{_named(objective)}.metrics returns {_what(found)}: return a dict of tensors by name")
    for name, value in found.items():
        require(name not in ("loss", "mismatch"), f"{_named(objective)}.metrics: {name!r} is logged already; rename it")
        ok = isinstance(value, Tensor) and value.shape == scored.logprobs.shape
        require(ok, f"{_named(objective)}.metrics: {name!r} is {_what(value)}: give a value a token, (N,)")
    return dict(found)


def _named(objective: Objective) -> str:
    return f"the loss {type(objective).__name__}"


def _what(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return "None" if value is None else f"a {type(value).__name__}"


def _no_tokens(batch: Batch) -> Scored:
    none = torch.zeros(0)
    return Scored(none, none, none, none, None if batch.reference is None else none, none)


def _token_values(batch: Batch) -> tuple[Tensor, ...]:
    """The inputs of a loss besides log-probabilities, each (B, T): weight, advantage, behaviour, reference, drawn."""
    reference = batch.reference if batch.reference is not None else batch.behaviour
    drawn = batch.drawn if batch.drawn is not None else batch.behaviour
    return batch.weight, batch.advantage, batch.behaviour, reference, drawn


def _at(packed: Packed, x: Tensor) -> Tensor:
    return x[packed.row, packed.time]


def _block_backward(
    objective: Objective, batch: Batch, names: list[str], logprobs: Tensor, log_z: Tensor, values: Sequence[Tensor]
) -> Tensor:
    """Backward from N tokens. Returns sums in double precision, (3 + names,): the loss; |log-probability of this pass -
    that of the engine|, both at the weights that sampled; tokens; the metrics of the objective.
    """
    weight, advantage, behaviour, reference, drawn = values
    if batch.on_policy:
        behaviour = logprobs.detach()
    mismatch = (behaviour - drawn).abs().sum()
    first = reference if batch.reference is not None else None
    scored = Scored(logprobs, log_z, advantage, behaviour, first, drawn)
    loss = (loss_of(objective, scored) * weight).sum() / batch.denominator
    loss.backward()
    n = len(logprobs)
    found = metrics_of(objective, replace(scored, logprobs=logprobs.detach(), log_z=log_z.detach()))
    require(list(found) == names, f"{_named(objective)}.metrics returns {list(found)} and, of no tokens, {names}")
    # Means first: then no sum over tokens leaves the range in which fp32 counts whole numbers.
    sums = [v.float().mean().double() * n if n else v.new_zeros((), dtype=torch.float64) for v in found.values()]
    parts = [loss.detach().double(), mismatch.double(), loss.new_full((), n, dtype=torch.float64), *sums]
    return torch.stack(parts)
