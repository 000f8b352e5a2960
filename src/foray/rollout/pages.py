"""A cache of keys and values in pages (paged attention, arXiv 2309.06180). A row has a list of pages; rows share pages.

A prompt is stored once for its group, and a few-shot prefix once for all prompts. Rows come and go one by one. CUDA
graphs demand that every tensor keeps its address and shape. Page 0 belongs to no row: slots without a row write to page
0.

Shapes: R slots, N pages, S positions a page, K heads of keys and values, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from foray.model.config import ModelConfig


class Pages:
    """Attention of one new position a slot, at place ``at`` (R,), over the pages that the slot sees."""

    def __init__(
        self, config: ModelConfig, slots: int, pages: int, size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.size, self.count = size, pages
        shape = (1, config.groups, pages * size, config.head_dim)
        self.keys, self.values = (
            [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)] for _ in range(2)
        )
        # The number of positions of each page that a slot sees. The lists of pages only say which pages to skip.
        self.seen = torch.zeros(slots, pages, dtype=torch.int32, device=device)
        self.listed = torch.zeros(slots, dtype=torch.int32, device=device)
        self.lists = torch.zeros(slots, pages, dtype=torch.int32, device=device)
        self.at = torch.zeros(slots, dtype=torch.long, device=device)
        self.free = list(range(pages - 1, 0, -1))
        self.fused = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else None
        seen = self.seen

        def visible(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
            return kv % size < seen[b, kv // size]

        # No page is "full", so the kernel always applies the mask. There are no backward passes.
        self.mask = BlockMask(
            seq_lengths=(1, pages * size),
            kv_num_blocks=self.listed[:, None, None],
            kv_indices=self.lists[:, None, None],
            full_kv_num_blocks=None,
            full_kv_indices=None,
            q_num_blocks=None,
            q_indices=None,
            full_q_num_blocks=None,
            full_q_indices=None,
            BLOCK_SIZE=(128, size),
            mask_mod=visible,
        )

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[0].index_copy_(1, self.at, k[:, :, 0].transpose(0, 1))
        values[0].index_copy_(1, self.at, v[:, :, 0].transpose(0, 1))
        if self.fused is None:
            return self._plain(q, keys, values)
        return self.fused(q, keys, values, block_mask=self.mask, enable_gqa=q.shape[1] != k.shape[1])

    def _plain(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The same result by plain attention over all pages, for the CPU."""
        offset = torch.arange(self.size, device=q.device)
        mask = (offset < self.seen[:, :, None]).view(len(q), 1, 1, -1)
        keys, values = (x.expand(len(q), -1, -1, -1) for x in (keys, values))
        return F.scaled_dot_product_attention(q, keys, values, mask, enable_gqa=q.shape[1] != keys.shape[1])

    def needed(self, positions: int) -> int:
        """The number of pages that hold so many positions."""
        return -(-positions // self.size)

    def take(self, positions: int) -> list[int]:
        return [self.free.pop() for _ in range(self.needed(positions))]

    def places(self, pages: Sequence[int], length: int) -> list[int]:
        """The places of the first ``length`` positions of a list of pages."""
        return [page * self.size + i for page in pages for i in range(self.size)][:length]

    def store(self, places: Sequence[int], keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Writes (K, L, d) a layer to L places."""
        at = torch.tensor(places, device=self.at.device)
        for cache, given in ((self.keys, keys), (self.values, values)):
            for own, new in zip(cache, given):
                own[0].index_copy_(1, at, new.to(own.dtype))

    def show(
        self, slots: Tensor, shared: Sequence[Sequence[int]], lengths: Sequence[int], own: Sequence[list[int]]
    ) -> None:
        """Gives each of ``slots`` the shared pages of its prompt, of ``lengths`` positions, and pages of its own."""
        seen = torch.zeros(len(shared), self.count, dtype=torch.int32)
        lists = torch.zeros(len(shared), self.count, dtype=torch.int32)
        for i, (before, length, after) in enumerate(zip(shared, lengths, own)):
            seen[i, list(before)] = self.size
            seen[i, before[-1]] = length - (len(before) - 1) * self.size
            lists[i, : len(before) + len(after)] = torch.tensor([*before, *after])
        self.seen[slots], self.lists[slots] = seen.to(self.seen.device), lists.to(self.seen.device)
