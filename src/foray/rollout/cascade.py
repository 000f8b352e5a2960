"""Attention during decoding. Rows share the keys and values of their common tokens (cascade attention).

The cache is a chain of segments: the prefix common to all prompts, the prompts, the new tokens. A segment holds
key/value blocks: one block for all rows, one block a prompt, one block a row. Scores against all segments pass through
one softmax. Shared keys and values are never copied.

Shapes: R queries, S blocks of a segment (R/S queries share a block), H heads, K heads of keys and values, d head width,
L segment length. A row has G = H / K queries at each of the K heads, side by side: grouped queries look like G rows
with the same cache. In a segment heads come first: (K, R) and (K, S, R/S) are the same memory, and no product moves its
operands.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foray.model.layer_in_c import LANES
from foray.model.operators import attention
from foray.rollout.decode_attention import Blocks, attend, available, tiles

# The cache of new tokens grows to so many times its length for C, which reads none of the unused room. For products of
# torch, which read it too, it grows by LANES positions.
_TIMES = 4


class Segment:
    """Keys and values of S blocks, given as (S, K, L, d) a layer; ``mask`` (S, L) is True where a position counts."""

    def __init__(self, keys: list[Tensor], values: list[Tensor], mask: Tensor | None = None) -> None:
        self.keys = [k.permute(1, 0, 3, 2).contiguous() for k in keys]  # (K, S, d, L)
        self.values = [v.transpose(0, 1).contiguous() for v in values]  # (K, S, L, d)
        all_count = torch.ones(keys[0].shape[0], keys[0].shape[2], dtype=torch.bool, device=keys[0].device)
        self.lengths = (all_count if mask is None else mask).sum(1)  # (S,) positions that count; they come first
        self.bias: Tensor | None = None
        if mask is not None:
            self.bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)  # (S, L)

    @property
    def length(self) -> int:
        return self.values[0].shape[2]

    @property
    def blocks(self) -> int:
        return self.values[0].shape[1]

    def tile(self) -> None:
        """Has the keys as C takes them, (K, S, tiles, d, LANES). From then on ``scores`` does not."""
        for layer, keys in enumerate(self.keys):
            self.keys[layer] = tiles(keys)

    def select(self, blocks: Tensor) -> None:
        """Keeps the given blocks, in their order. A block may be given several times."""
        self.keys, self.values = ([x.index_select(1, blocks) for x in cache] for cache in (self.keys, self.values))
        self.lengths = self.lengths[blocks]
        if self.bias is not None:
            self.bias = self.bias[blocks]

    def scores(self, layer: int, q: Tensor) -> Tensor:
        """Scores of scaled queries (K, R, d) against this segment: (K, R, L)."""
        keys = self.keys[layer]
        K, S, d, L = keys.shape
        out = torch.bmm(q.reshape(K * S, -1, d), keys.view(K * S, d, L))
        if self.bias is not None:
            out.view(K, S, -1, L).add_(self.bias[:, None])
        return out.view(K, -1, L)

    def mix(self, layer: int, weights: Tensor) -> Tensor:
        """Sums of the values under weights (K, R, L): (K, R, d)."""
        values = self.values[layer]
        K, S, L, d = values.shape
        return torch.bmm(weights.reshape(K * S, -1, L), values.view(K * S, L, d)).view(K, -1, d)


class Recorder:
    """Causal attention that keeps the keys and values. Processes prompts, optionally after a shared prefix."""

    def __init__(self, prefix: Segment | None = None) -> None:
        self.prefix = prefix
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.keys.append(k)
        self.values.append(v)
        if self.prefix is None:
            return attention(q, k, v)
        (B, H, T, d), K = q.shape, k.shape[1]
        q = (q * d**-0.5).reshape(B, K, -1, d)  # (B, K, G T, d)
        as_one = q.transpose(0, 1).reshape(K, -1, d)  # all rows are queries of the one prefix block
        before = self.prefix.scores(layer, as_one).view(K, B, H // K * T, -1).transpose(0, 1)
        later = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
        own = q @ k.transpose(-1, -2)
        own.view(B, K, -1, T, T).masked_fill_(later, -torch.inf)
        weights = torch.cat([before, own], -1).softmax(-1)  # (B, K, G T, L + T)
        L = before.shape[-1]
        mixed = self.prefix.mix(layer, weights[..., :L].transpose(0, 1).reshape(K, -1, L))
        return (mixed.view(K, B, -1, d).transpose(0, 1) + weights[..., L:] @ v).reshape(B, H, T, d)


class Cascade:
    """Attention of one new position a row, over shared segments and the growing cache of the row.

    The last shared segment has a block a prompt. Rows may stand in any order, and prompts may have unlike numbers of
    rows. ``prompt`` (R,) is the prompt of each row.

    On a CPU C computes a step where it can (``decode_attention.py``). Else torch does: the queries go through the
    blocks in a grid with as many columns as the prompt with the most rows has rows, because a few idle places cost less
    than a copy of the blocks.
    """

    def __init__(self, shared: list[Segment], prompt: Tensor) -> None:
        self.shared, self.length = shared, 0
        like = shared[0].values  # (K, S, L, d) a layer
        self.compiled = available(like[0])
        if self.compiled:
            shared[-1].tile()
        rows, K, d = len(prompt), like[0].shape[0], like[0].shape[3]
        # Rows come first: new rows follow without a copy of the others. There may be more than R.
        of_keys = (1, d, LANES) if self.compiled else (d, LANES)
        self.keys = [self._room(x, rows, K, *of_keys) for x in like]
        self.values = [self._room(x, rows, K, LANES, d) for x in like]
        self._arrange(prompt)

    def _arrange(self, prompt: Tensor) -> None:
        """Gives every row a place in the grid (S x columns)."""
        self.prompt = prompt
        if self.compiled:
            return
        counts = torch.bincount(prompt, minlength=self.shared[-1].blocks)
        self.columns = int(counts.max())
        order = prompt.argsort(stable=True)
        column = torch.empty_like(order)
        column[order] = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[prompt[order]]
        self.place = prompt * self.columns + column

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        R, H, _, d = q.shape  # here R counts rows with one new position each
        K, t = k.shape[1], self.length
        if t == self.values[layer].shape[2]:
            self._lengthen(layer, R)
        if self.compiled:
            return self._compiled(layer, q.view(R, K, -1, d), k[:, :, 0], v[:, :, 0]).view(R, H, 1, d)
        keys, values = self.keys[layer][:R], self.values[layer][:R]
        keys[..., t], values[:, :, t] = k[:, :, 0], v[:, :, 0]
        q = (q * d**-0.5).view(R, K, -1, d)  # (R, K, G, d)
        scores = [self._spread(s.scores(layer, self._grid(q, s)), s, q.shape) for s in self.shared]
        L = keys.shape[3]
        own = torch.bmm(q.view(R * K, -1, d), keys.view(R * K, d, L)).view(R, K, -1, L)
        own[..., t + 1 :] = -torch.inf
        *shared, own = torch.cat([*scores, own], -1).softmax(-1).split([*(x.shape[-1] for x in scores), L], -1)
        out = torch.bmm(own.reshape(R * K, -1, L), values.view(R * K, L, d)).view(R, K, -1, d)
        for segment, weights in zip(self.shared, shared):
            out += self._spread(segment.mix(layer, self._grid(weights, segment)), segment, q.shape)
        return out.view(R, H, 1, d)

    def _compiled(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The same in C: q (R, K, G, d), k and v (R, K, d) -> (R, K, G, d). A prefix stays two products of torch."""
        *prefix, prompts = self.shared
        R, K, G, d = q.shape
        theirs = Blocks(*(x[layer].transpose(0, 1) for x in (prompts.keys, prompts.values)))
        own = Blocks(self.keys[layer], self.values[layer])
        if not prefix:
            return attend(q, k, v, theirs, self.prompt, prompts.lengths, own, self.length)
        weights = prefix[0].scores(layer, (q * d**-0.5).transpose(0, 1).reshape(K, R * G, d)).view(K, R, G, -1)
        out = attend(q, k, v, theirs, self.prompt, prompts.lengths, own, self.length, weights)
        return out + prefix[0].mix(layer, weights.view(K, R * G, -1)).view(K, R, G, d).transpose(0, 1)

    def _grid(self, x: Tensor, segment: Segment) -> Tensor:
        """x (R, K, G, L or d) as queries of the segment's blocks, (K, S x columns x G, L or d).

        Idle places hold anything: nobody reads what comes out of them.
        """
        if segment.blocks > 1:
            x = x.new_empty(segment.blocks * self.columns, *x.shape[1:]).index_copy_(0, self.place, x)
        return x.transpose(0, 1).reshape(x.shape[1], -1, x.shape[-1])

    def _spread(self, x: Tensor, segment: Segment, shape: torch.Size) -> Tensor:
        """What the blocks gave their queries (K, S x columns x G, L or d), by row: (R, K, G, L or d)."""
        x = x.view(shape[1], -1, shape[2], x.shape[-1]).transpose(0, 1)
        return x[self.place] if segment.blocks > 1 else x

    def copy(self, parents: Tensor, slots: Tensor, rows: int) -> None:
        """Gives ``slots`` the caches of ``parents``. There are ``rows`` rows then, of which the last may be new."""
        for cache in (self.keys, self.values):
            for layer, x in enumerate(cache):
                if rows > len(x):
                    x = cache[layer] = self._enlarged(x, len(self.prompt), max(rows, 2 * len(x)))
                x = self._used(x)
                x[slots] = x[parents]
        prompt = torch.cat([self.prompt, self.prompt.new_zeros(rows - len(self.prompt))])
        prompt[slots] = self.prompt[parents]
        self._arrange(prompt)

    def keep(self, rows: Tensor) -> None:
        """Keeps only ``rows``, in their order, and the prompts that they continue."""
        for cache in (self.keys, self.values):
            cache[:] = [self._used(x).index_select(0, rows) for x in cache]
        left, prompt = self.prompt[rows].unique(return_inverse=True)
        if len(left) < self.shared[-1].blocks:
            self.shared[-1].select(left)
        self._arrange(prompt)

    def _lengthen(self, layer: int, rows: int) -> None:
        """Room for more new tokens in a layer's caches."""
        keys, values, t = self.keys[layer], self.values[layer], self.length
        more, at, unit = (_TIMES * t, 2, LANES) if self.compiled else (t + LANES, 3, 1)
        self.keys[layer] = self._enlarged(keys, rows, rows, at, more // unit)
        self.values[layer] = self._enlarged(values, rows, rows, 2, more)

    def _used(self, cache: Tensor) -> Tensor:
        """A cache without most of its unused room."""
        if not self.compiled:
            return cache
        used = max(1, -(-self.length // LANES))  # tiles
        return cache[:, :, : used if cache.dim() == 5 else used * LANES]

    def _enlarged(self, cache: Tensor, rows: int, most: int, positions: int = 2, length: int = 0) -> Tensor:
        """The first ``rows`` rows of a cache, with room for ``most`` rows and ``length`` of dimension ``positions``."""
        shape = [most, *cache.shape[1:]]
        shape[positions] = max(length, shape[positions])
        made = self._room(cache, *shape)
        made[tuple(slice(n) for n in (rows, *cache.shape[1:]))] = cache[:rows]
        return made

    def _room(self, like: Tensor, *shape: int) -> Tensor:
        """Room in a cache. Products of torch read unused positions, whose weight of 0 times anything could be NaN."""
        return like.new_empty(shape) if self.compiled else like.new_zeros(shape)
