"""Attention during decoding: rows share the keys and values of what they have in common.

Memory is a chain of segments, each one (heads-first) key/value block that serves consecutive rows: the prefix common
to all prompts once, each prompt once for its group, and each row's own new tokens. Scores against all segments pass
through one softmax; keys and values that are shared are never copied.

Shapes: R rows, S blocks of a segment (R/S rows share one), H heads, d head width, L segment length.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Fewer own positions than this are filled up and masked: torch's small matrix products are slower than those of MKL,
# which it hands over to from 400 multiply-adds on (32 a position at the usual head width). Filled up with zeros,
# because a weight of 0 times what memory happens to hold could be NaN.
_SHORTEST = 16


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

    def scores(self, layer: int, q: Tensor) -> Tensor:
        """Of scaled queries (S, H, Q, d) against this segment: (S, H, Q, L)."""
        out = q @ self.keys[layer].transpose(-1, -2)
        return out if self.bias is None else out.add_(self.bias[:, None, None, :])


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
        before = self.prefix.scores(layer, as_one).view(H, B, T, -1).transpose(0, 1)
        later = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
        own = (q @ k.transpose(-1, -2)).masked_fill_(later, -torch.inf)
        weights = torch.cat([before, own], -1).softmax(-1)
        L = before.shape[-1]
        mixed = weights[..., :L].transpose(0, 1).reshape(1, H, B * T, L) @ self.prefix.values[layer]
        return mixed.view(H, B, T, d).transpose(0, 1) + weights[..., L:] @ v


class Cascade:
    """Attention of one new position a row over shared segments and the row's own growing cache."""

    def __init__(self, shared: list[Segment], rows: int, layers: int, like: Tensor) -> None:
        H, d = like.shape[1], like.shape[3]
        self.shared, self.length = shared, 0
        self.keys = [like.new_zeros(rows, H, _SHORTEST, d) for _ in range(layers)]
        self.values = [like.new_zeros(rows, H, _SHORTEST, d) for _ in range(layers)]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        R, H, _, d = q.shape  # one new position a row
        t = self.length
        if t == self.keys[layer].shape[2]:
            # Twice the room, when it is needed: rows that lie close together are read faster.
            for cache in (self.keys, self.values):
                cache[layer] = torch.cat([cache[layer], torch.zeros_like(cache[layer])], 2)
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, t], values[:, :, t] = k[:, :, 0], v[:, :, 0]
        q = q[:, :, 0] * d**-0.5  # (R, H, d)
        scores = [s.scores(layer, _by_block(q, s.blocks)).transpose(1, 2).reshape(R, H, -1) for s in self.shared]
        L = max(t + 1, _SHORTEST)
        # The query as the left operand: as the right one it makes the product more than twice as slow.
        scores.append((q[:, :, None] @ keys[:, :, :L].transpose(-1, -2))[:, :, 0])
        scores[-1][..., t + 1 :] = -torch.inf
        *shared, own = torch.cat(scores, -1).softmax(-1).split([x.shape[-1] for x in scores], -1)
        out = (own[:, :, None, :] @ values[:, :, :L])[:, :, 0]  # (R, H, d)
        for segment, weights in zip(self.shared, shared):
            mixed = _by_block(weights, segment.blocks) @ segment.values[layer]  # (S, H, R/S, d)
            out = out + mixed.transpose(1, 2).reshape(R, H, d)
        return out.unsqueeze(2)

    def keep(self, rows: Tensor, blocks: list[Tensor | None]) -> None:
        """Drops all rows but ``rows``, and of each shared segment all blocks but the given ones (None: keeps all)."""
        t = self.length
        for cache in (self.keys, self.values):
            for i, old in enumerate(cache):
                cache[i] = old[: len(rows)]
                cache[i][:, :, :t] = old[:, :, :t].index_select(0, rows)
        self.shared = [s if b is None else s.select(b) for s, b in zip(self.shared, blocks)]


def _by_block(x: Tensor, blocks: int) -> Tensor:
    """(R, H, n) as (S, H, R/S, n)."""
    R, H, n = x.shape
    return x.view(blocks, R // blocks, H, n).transpose(1, 2)
