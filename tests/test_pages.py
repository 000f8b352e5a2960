"""Keys and values in pages: the GPU's kernel, compiled for the CPU, against plain attention to every position."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from foray.model.config import ModelConfig
from foray.rollout.pages import LANES, Listing, Pages

GROUPED = ModelConfig(
    width=64, heads=4, kv_heads=2, mlp_width=128, vocab_size=256, layers=1, norm="pre", qk_norm="none"
)
PLAIN = ModelConfig(width=64, heads=4, mlp_width=128, vocab_size=256, layers=1)


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, GROUPED])
@torch.no_grad()
def test_the_fused_kernel_reads_the_pages_listed_and_what_is_seen_of_them(config: ModelConfig) -> None:
    torch.manual_seed(0)
    pages, slots = Pages(config, 6, 3, 20, 32, torch.float32, torch.device("cpu")), torch.arange(6)
    pages.keys[0].normal_(), pages.values[0].normal_()
    pages.prompts.show(torch.tensor([1, 2]), [[3, 5], [7]], [40, 32])
    own = torch.tensor([8, 9, 10, 11, 12, 13])
    pages.own.show(slots, [[page] for page in own.tolist()], [1] * 6)
    pages.at.copy_(own * 32)
    pages.lane.copy_(torch.cat([LANES + slots[:3], 2 * LANES + slots[:3]]))  # three rows a prompt
    pages.slot[pages.lane] = slots
    q, k, v = (torch.randn(6, n, 1, config.head_dim) for n in (config.heads, config.groups, config.groups))
    plain = pages(0, q, k, v)
    compiled = torch.compile(flex_attention, dynamic=False)

    def fused(listing: Listing, q: Tensor, keys: Tensor, values: Tensor, return_aux: Any, **how: Any) -> Any:
        """The kernel for the CPU gives no log-sums: those of the plain way stand in for them."""
        return compiled(q, keys, values, **how), SimpleNamespace(lse=listing._plain(q, keys, values)[1])

    for listing in (pages.own, pages.prompts):
        listing.fused = partial(fused, listing)
    torch.testing.assert_close(pages(0, q, k, v), plain, rtol=0, atol=1e-5)
    pages.prompts.listed[1] = 1  # a page is no longer listed: tables are read at every call, not compiled in
    assert (pages(0, q, k, v) - plain)[:3].abs().min(-1).values.max() > 1e-3
    torch.testing.assert_close(pages(0, q, k, v)[3:], plain[3:], rtol=0, atol=1e-5)
