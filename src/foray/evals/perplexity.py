"""Held-out loss of a model on tokenized text."""

from __future__ import annotations

import torch

from foray.core.batch import Batch
from foray.data.corpus import Shard
from foray.model.transformer import Transformer
from foray.train.packing import forward_flops
from foray.train.scoring import token_logprobs


def perplexity(model: Transformer, shard: Shard, length: int) -> tuple[float, int, float]:
    """(mean nats a token over all windows of the shard, tokens scored, FLOPs). Perplexity is exp of the mean."""
    total, tokens, work = 0.0, 0, 0.0
    windows = shard.windows(length)
    for start in range(0, windows, 8):
        rows = torch.stack([torch.from_numpy(shard.window(i, length)) for i in range(start, min(start + 8, windows))])
        ones = torch.ones(rows.shape[0], length)
        batch = Batch(rows[:, :-1], rows[:, 1:], ones, ones, torch.zeros_like(ones), 1.0)
        total -= float(token_logprobs(model, batch).double().sum())
        tokens += ones.numel()
        work += forward_flops(model.config, batch, ones != 0)
    return total / tokens, tokens, work
