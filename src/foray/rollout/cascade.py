"""Attention during decoding: rows share the keys and values of what they have in common.

Memory is a chain of segments, each a key/value block that serves consecutive rows: the prefix common to all prompts
once, each prompt once for its group, and each row's own new tokens. Scores against all segments pass through one
softmax; keys and values that are shared are never copied.

Shapes: R rows, S blocks of a segment (R/S rows share one), H heads, d head width, L segment length. Heads come first
everywhere, so that (H, R) and (H, S, R/S) are the same memory and no product needs its operands moved.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Own caches grow by this many positions and are always read whole, the rest masked: a read with gaps runs at a quarter
# of the memory's speed, and products over fewer positions than this are no faster. What is masked is filled with zeros,
# because a weight of 0 times what memory happens to hold could be NaN.
_GROWTH = 16


class Segment:
    """Keys and values of S blocks, given as (S, H, L, d) a layer; ``mask`` (S, L) is True where a position counts."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], mask: Tensor | None = None) -> None:
        self.keys = [k.permute(1, 0, 3, 2).contiguous() for k in keys]  # (H, S, d, L)
        self.values = [v.transpose(0, 1).contiguous() for v in values]  # (H, S, L, d)
        self.bias: Tensor | None = None
        if mask is not None:
            self.bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)  # (S, L)

    @property
    def length(self) -> int:
        return self.keys[0].shape[3]

    def select(self, blocks: Tensor) -> None:
        """The given blocks take the place of all; a block may be given several times."""
        self.keys, self.values = ([x.index_select(1, blocks) for x in cache] for cache in (self.keys, self.values))
        if self.bias is not None:
            self.bias = self.bias[blocks]

    def scores(self, layer: int, q: Tensor) -> Tensor:
        """Of scaled queries (H, R, d) against this segment: (H, R, L)."""
        keys = self.keys[layer]
        H, S, d, L = keys.shape
        out = torch.bmm(q.reshape(H * S, -1, d), keys.view(H * S, d, L))
        if self.bias is not None:
            out.view(H, S, -1, L).add_(self.bias[:, None])
        return out.view(H, -1, L)

    def mix(self, layer: int, weights: Tensor) -> Tensor:
        """The values' sums under (H, R, L) weights: (H, R, d)."""
        values = self.values[layer]
        H, S, L, d = values.shape
        return torch.bmm(weights.reshape(H * S, -1, L), values.view(H * S, L, d)).view(H, -1, d)


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
        as_one = q.transpose(0, 1).reshape(H, B * T, d)  # all rows are queries of the one prefix block
        before = self.prefix.scores(layer, as_one).view(H, B, T, -1).transpose(0, 1)
        later = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
        own = (q @ k.transpose(-1, -2)).masked_fill_(later, -torch.inf)
        weights = torch.cat([before, own], -1).softmax(-1)
        L = before.shape[-1]
        mixed = self.prefix.mix(layer, weights[..., :L].transpose(0, 1).reshape(H, B * T, L))
        return mixed.view(H, B, T, d).transpose(0, 1) + weights[..., L:] @ v


class Cascade:
    """Attention of one new position a row over shared segments and the row's own growing cache."""

    def __init__(self, shared: list[Segment], rows: int) -> None:
        self.shared, self.length = shared, 0
        self.keys, self.values = (
            [x.new_zeros(x.shape[0], rows, _GROWTH, x.shape[3]) for x in shared[0].values] for _ in range(2)
        )

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        R, H, _, d = q.shape  # one new position a row
        t = self.length
        if t == self.keys[layer].shape[2]:
            for cache in (self.keys, self.values):
                room = cache[layer].new_zeros(H, R, _GROWTH, d)
                cache[layer] = torch.cat([cache[layer], room], 2)
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, t], values[:, :, t] = k[:, :, 0].transpose(0, 1), v[:, :, 0].transpose(0, 1)
        q = q[:, :, 0].transpose(0, 1).contiguous().mul_(d**-0.5)  # (H, R, d)
        scores = [s.scores(layer, q) for s in self.shared]
        L = keys.shape[2]
        # The query as the left operand: as the right one it makes the product more than twice as slow.
        own = torch.bmm(q.view(H * R, 1, d), keys.view(H * R, L, d).transpose(1, 2)).view(H, R, L)
        own[:, :, t + 1 :] = -torch.inf
        *shared, own = torch.cat([*scores, own], -1).softmax(-1).split([*(x.shape[2] for x in scores), L], -1)
        out = torch.bmm(own.reshape(H * R, 1, L), values.view(H * R, L, d)).view(H, R, d)
        for segment, weights in zip(self.shared, shared):
            out += segment.mix(layer, weights)
        return out.transpose(0, 1).unsqueeze(2)

    def keep(self, rows: Tensor, blocks: Tensor) -> None:
        """Drops all rows but ``rows``, which continue ``blocks`` of the last shared segment, equally many each."""
        for cache in (self.keys, self.values):
            cache[:] = [x.index_select(1, rows) for x in cache]
        self.shared[-1].select(blocks)
