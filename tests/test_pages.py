"""Keys and values in pages: the GPU's kernel, compiled for the CPU, against plain attention to every position."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from foray.model.config import ModelConfig
from foray.rollout.pages import Pages

GROUPED = ModelConfig(
    width=64, heads=4, kv_heads=2, mlp_width=128, vocab_size=256, layers=1, norm="pre", qk_norm="none"
)
PLAIN = ModelConfig(width=64, heads=4, mlp_width=128, vocab_size=256, layers=1)


@pytest.mark.slow
@pytest.mark.parametrize("config", [PLAIN, GROUPED])
@torch.no_grad()
def test_the_fused_kernel_reads_the_pages_listed_and_what_is_seen_of_them(config: ModelConfig) -> None:
    torch.manual_seed(0)
    pages, slots = Pages(config, 6, 20, 32, torch.float32, torch.device("cpu")), torch.arange(6)
    pages.keys[0].normal_(), pages.values[0].normal_()
    own = [8, 9, 10, 11, 12, 13]
    pages.show(slots, [[3, 5]] * 3 + [[7]] * 3, [40] * 3 + [32] * 3, [[page] for page in own])
    pages.at.copy_(torch.tensor(own) * 32)
    pages.seen[slots, torch.tensor(own)] = 1
    pages.listed.copy_(torch.tensor([3, 3, 3, 2, 2, 2]))
    q, k, v = (torch.randn(6, n, 1, config.head_dim) for n in (config.heads, config.groups, config.groups))
    plain = pages(0, q, k, v)
    pages.fused = torch.compile(flex_attention, dynamic=False)
    torch.testing.assert_close(pages(0, q, k, v), plain, rtol=0, atol=1e-5)
    pages.listed[3:] = 1  # the row's own page is no longer listed: tables are read at every call, not compiled in
    assert (pages(0, q, k, v) - plain)[3:].abs().min(-1).values.max() > 1e-3
    torch.testing.assert_close(pages(0, q, k, v)[:3], plain[:3], rtol=0, atol=1e-5)
