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
        out = Segment([k[blocks] for k in self.keys], [v[blocks] for v in self.values])
        out.bias = None if self.bias is None else self.bias[blocks]
        return out

    def scores(self, layer: int, q: Tensor) -> Tensor:
        """(S, H, Q, d) queries, Q = rows a block x their positions, to (S, H, Q, L)."""
        s = q @ self.keys[layer].transpose(-1, -2)
        return s if self.bias is None else s + self.bias[:, None, None, :]


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
        shared = q.transpose(0, 1).reshape(1, H, B * T, d)  # all rows as queries of the one prefix block
        before = self.prefix.scores(layer, shared).view(H, B, T, -1).transpose(0, 1)  # (B, H, T, L)
        causal = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
        own = (q @ k.transpose(-1, -2)).masked_fill(~causal, -torch.inf)
        p = torch.cat([before, own], -1).softmax(-1)
        L = before.shape[-1]
        mixed = p[..., :L].transpose(0, 1).reshape(1, H, B * T, L) @ self.prefix.values[layer]
        return mixed.view(H, B, T, d).transpose(0, 1) + p[..., L:] @ v


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
            grouped = q.view(S, R // S, H, d).transpose(1, 2)  # (S, H, R/S, d)
            parts.append(segment.scores(layer, grouped).transpose(1, 2).reshape(R, H, -1))
        parts.append((keys[:, :, : t + 1] @ q.unsqueeze(-1)).squeeze(-1))  # (R, H, t+1)
        p = torch.cat(parts, -1).softmax(-1)
        out, at = None, 0
        for segment in self.shared:
            S, L = segment.blocks, segment.keys[layer].shape[2]
            grouped = p[..., at : at + L].view(S, R // S, H, L).transpose(1, 2)
            mixed = (grouped @ segment.values[layer]).transpose(1, 2).reshape(R, H, d)
            out = mixed if out is None else out + mixed
            at += L
        own = (p[..., at:].unsqueeze(-2) @ values[:, :, : t + 1]).squeeze(-2)
        return (own if out is None else out + own).unsqueeze(2)  # (R, H, 1, d)

    def keep(self, rows: Tensor, blocks: list[Tensor | None]) -> None:
        """Drops all rows but ``rows``, and of each shared segment all blocks but the given ones (None: keeps all)."""
        t = self.length
        for cache in (self.keys, self.values):
            for i, old in enumerate(cache):
                new = old.new_empty(len(rows), *old.shape[1:])
                new[:, :, :t] = old[rows, :, :t]
                cache[i] = new
        self.shared = [s if b is None else s.select(b) for s, b in zip(self.shared, blocks)]
