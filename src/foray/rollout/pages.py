"""A cache of keys and values in pages (paged attention, arXiv 2309.06180). A row has a list of pages; rows share pages.

A prompt is stored once for its group, and a few-shot prefix once for all prompts. Rows come and go one by one. CUDA
graphs demand that every tensor keeps its address and shape. Page 0 belongs to no row: slots without a row write to page
0.

A step reads the pages of a prompt once for a bunch of rows that continue the prompt, and the pages of its own tokens
for each row; the two results are merged by their log-sums (cascade attention). Every row has a lane of a bunch. Bunch 0
belongs to no prompt: slots without a row have its first lane.

Shapes: R slots, B bunches of W lanes, N pages, S positions a page, H heads, K heads of keys and values, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from foray.model.config import ModelConfig

LANES = 16  # the kernel takes at least so many queries at once, so fewer would not be faster


class Listing:
    """Which pages, and how many positions of each, every lot of ``queries`` sees. A lot is a slot or a bunch.

    ``group``: the heads that share a key.
    """

    def __init__(self, lots: int, queries: int, pages: int, size: int, device: torch.device, group: int) -> None:
        self.size = size
        # The lists of pages only say which pages to skip; ``seen`` decides.
        self.seen = torch.zeros(lots, pages, dtype=torch.int32, device=device)
        self.listed = torch.ones(lots, dtype=torch.int32, device=device)  # pages of a list that count; at least one
        self.lists = torch.zeros(lots, pages, dtype=torch.int32, device=device)
        self.fused: Any = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else None
        seen = self.seen

        def visible(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
            return kv % size < seen[b, kv // size]

        # No page is "full", so the kernel always applies the mask. There are no backward passes.
        self.mask = BlockMask(
            seq_lengths=(queries, pages * size),
            kv_num_blocks=self.listed[:, None, None],
            kv_indices=self.lists[:, None, None],
            full_kv_num_blocks=None,
            full_kv_indices=None,
            q_num_blocks=None,
            q_indices=None,
            full_q_num_blocks=None,
            full_q_indices=None,
            BLOCK_SIZE=(_query_block(queries, group), size),
            mask_mod=visible,
        )

    def show(self, lots: Tensor, lists: Sequence[Sequence[int]], lengths: Sequence[int]) -> None:
        """Gives each of ``lots`` its list of pages, and shows the first ``length`` positions of the list."""
        seen = torch.zeros(len(lists), self.seen.shape[1], dtype=torch.int32)
        padded = torch.zeros_like(seen)
        for i, (pages, length) in enumerate(zip(lists, lengths)):
            ends = self.size * torch.arange(1, len(pages) + 1)
            seen[i, list(pages)] = (length - ends + self.size).clamp(0, self.size).int()
            padded[i, : len(pages)] = torch.tensor(pages)
        self.seen[lots], self.lists[lots] = seen.to(self.seen.device), padded.to(self.seen.device)
        self.listed[lots] = torch.tensor([max(1, len(x)) for x in lists], dtype=torch.int32).to(self.listed.device)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of queries (lots, H, T, d) over what each lot sees, and the log-sums of its scores (lots, H, T)."""
        if self.fused is None:
            return self._plain(q, keys, values)
        shared = q.shape[1] != keys.shape[1]
        out, aux = self.fused(
            q, keys, values, block_mask=self.mask, enable_gqa=shared, return_aux=AuxRequest(lse=True)
        )  # fmt: skip
        return out, aux.lse

    def _plain(self, q: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The same result by plain attention over all pages, for the CPU."""
        offset = torch.arange(self.size, device=q.device)
        mask = (offset < self.seen[:, :, None]).view(len(q), 1, 1, -1)
        keys, values = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (keys, values))
        scores = (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        sums = scores.float().masked_fill(~mask, -torch.inf)
        return sums.softmax(-1).to(values.dtype) @ values, sums.logsumexp(-1)


def _query_block(queries: int, group: int) -> int:
    """The queries of a block of the mask.

    Where a power of two of heads share a key, inductor has a kernel whose tile holds all their queries. The tile must
    divide the block. Other kernels have tiles of up to 128.
    """
    return max(128, queries * group) if group & (group - 1) == 0 else 128


class Pages:
    """Attention of one new position a slot, at place ``at`` (R,), over the row's own pages and its prompt's."""

    def __init__(
        self, config: ModelConfig, slots: int, bunches: int, pages: int, size: int, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.size, self.count = size, pages
        shape = (1, config.groups, pages * size, config.head_dim)
        self.keys, self.values = (
            [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)] for _ in range(2)
        )
        self.own, self.prompts = (
            Listing(*lots, pages, size, device, config.heads // config.groups)
            for lots in ((slots, 1), (bunches, LANES))
        )
        self.at = torch.zeros(slots, dtype=torch.long, device=device)
        self.lane = torch.zeros(slots, dtype=torch.long, device=device)  # of each slot, counted over all bunches
        self.slot = torch.zeros(bunches * LANES, dtype=torch.long, device=device)  # of each lane; any for a free lane
        self.clear()

    def clear(self) -> None:
        """Frees all pages and bunches."""
        self.free = list(range(self.count - 1, 0, -1))
        self.bunches = list(range(len(self.prompts.listed) - 1, 0, -1))  # free ones
        self.lane.zero_()
        self.prompts.listed.fill_(1)
        self.prompts.seen[0, 0] = 1  # attention over nothing would be NaN, and would spread through page 0

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[0].index_copy_(1, self.at, k[:, :, 0].transpose(0, 1))
        values[0].index_copy_(1, self.at, v[:, :, 0].transpose(0, 1))
        own, own_sum = self.own.attend(q, keys, values)
        (_, H, _, d), lots = q.shape, len(self.prompts.listed)
        bunched = q[:, :, 0].index_select(0, self.slot).view(lots, LANES, H, d).transpose(1, 2)  # (B, H, W, d)
        before, before_sum = self.prompts.attend(bunched, keys, values)
        before = before.transpose(1, 2).reshape(-1, H, d).index_select(0, self.lane)[:, :, None]  # (R, H, 1, d)
        before_sum = before_sum.transpose(1, 2).reshape(-1, H).index_select(0, self.lane)[:, :, None]
        share = torch.sigmoid(own_sum.float() - before_sum.float())[..., None]  # of the row's own positions
        return torch.lerp(before.float(), own.float(), share).to(q.dtype)

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
