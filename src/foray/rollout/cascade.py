"""Attention during decoding: rows share the keys and values of what they have in common.

Memory is a chain of segments, each one (heads-first) key/value block that serves consecutive rows: the prefix common to
all prompts once, each prompt once for its group, and each row's own new tokens. A query attends to its row's segments
one by one and the partial results are merged by their log-partitions, which is exact (the trick of FlashDecoding and
cascade inference, arXiv 2501.01005). Nothing shared is ever copied.

Shapes: R rows, S blocks of a segment (R/S rows share one), H heads, d head width, L segment length.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Segment:
    """Keys and values (layers, S, H, L, d) with an optional mask (S, L) that is True where a position counts."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], mask: Tensor | None = None) -> None:
        self.keys, self.values = keys, values
        self.bias = None if mask is None else torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)

    @property
    def blocks(self) -> int:
        return self.keys[0].shape[0]

    def select(self, blocks: Tensor) -> Segment:
        keys, values = ([x.index_select(0, blocks) for x in cache] for cache in (self.keys, self.values))
        out = Segment(keys, values)
        out.bias = None if self.bias is None else self.bias[blocks]
        return out

    def attend(self, layer: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """What scaled queries (S, H, Q, d) get from this segment alone, (S, H, Q, d), and log-partitions (S, H, Q)."""
        scores = q @ self.keys[layer].transpose(-1, -2)
        if self.bias is not None:
            scores = scores + self.bias[:, None, None, :]
        return scores.softmax(-1) @ self.values[layer], scores.logsumexp(-1)


def merge(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attention over several segments from that over each: outputs (..., d) weighed by log-partitions (...)."""
    if len(parts) == 1:
        return parts[0][0]
    weights = torch.stack([log_z for _, log_z in parts]).softmax(0)
    return sum((w[..., None] * out for w, (out, _) in zip(weights[1:], parts[1:])), weights[0][..., None] * parts[0][0])


class Recorder:
    """Attention that keeps the keys and values it sees; used to process prompts (optionally after a shared prefix)."""

    def __init__(self, prefix: Segment | None = None) -> None:
        self.prefix = prefix
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.keys.append(k)
        self.values.append(v)
        if self.prefix is None:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        B, H, T, d = q.shape
        q = q * d**-0.5
        as_one = q.transpose(0, 1).reshape(1, H, B * T, d)  # all rows are queries of the one prefix block
        before, before_z = self.prefix.attend(layer, as_one)
        causal = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
        scores = (q @ k.transpose(-1, -2)).masked_fill(~causal, -torch.inf)
        shared = before.view(H, B, T, d).transpose(0, 1), before_z.view(H, B, T).transpose(0, 1)
        return merge([shared, (scores.softmax(-1) @ v, scores.logsumexp(-1))])


class Cascade:
    """Attention of one new position a row over shared segments and the row's own growing cache."""

    def __init__(self, shared: list[Segment], rows: int, capacity: int, layers: int, like: Tensor) -> None:
        H, d = like.shape[1], like.shape[3]
        self.shared, self.length = shared, 0
        self.keys = [like.new_empty(rows, H, capacity, d) for _ in range(layers)]
        self.values = [like.new_empty(rows, H, capacity, d) for _ in range(layers)]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        R, H, _, d = q.shape  # one new position a row
        t = self.length
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, t], values[:, :, t] = k[:, :, 0], v[:, :, 0]
        q = q[:, :, 0] * d**-0.5  # (R, H, d)
        parts = []
        for segment in self.shared:
            S = segment.blocks
            out, log_z = segment.attend(layer, q.view(S, R // S, H, d).transpose(1, 2))  # (S, H, R/S, d)
            parts.append((out.transpose(1, 2).reshape(R, H, d), log_z.transpose(1, 2).reshape(R, H)))
        scores = torch.einsum("rhd,rhtd->rht", q, keys[:, :, : t + 1])
        own = torch.einsum("rht,rhtd->rhd", scores.softmax(-1), values[:, :, : t + 1])
        return merge([*parts, (own, scores.logsumexp(-1))]).unsqueeze(2)  # (R, H, 1, d)

    def keep(self, rows: Tensor, blocks: list[Tensor | None]) -> None:
        """Drops all rows but ``rows``, and of each shared segment all blocks but the given ones (None: keeps all)."""
        t = self.length
        for cache in (self.keys, self.values):
            for i, old in enumerate(cache):
                new = old.new_empty(len(rows), *old.shape[1:])
                new[:, :, :t] = old[:, :, :t].index_select(0, rows)
                cache[i] = new
        self.shared = [s if b is None else s.select(b) for s, b in zip(self.shared, blocks)]
