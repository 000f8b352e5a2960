"""The draw of tokens in C against the same by torch."""

from __future__ import annotations

import pytest
import torch

from foray.rollout import draw_in_c
from foray.rollout.embedded import sample
from foray.rollout.engine import Sampling

pytestmark = pytest.mark.skipif(not draw_in_c.available(torch.zeros(1, 16)), reason="no C compiler here")


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.6, top_p=0.95), Sampling(top_k=3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("V", [1, 5, 64, 700, 1792])
def test_both_ways_draw_the_same(
    monkeypatch: pytest.MonkeyPatch, V: int, dtype: torch.dtype, sampling: Sampling
) -> None:
    torch.manual_seed(0)
    logits, u = (2 * torch.randn(40, V)).to(dtype), torch.rand(500, dtype=torch.float64)
    u[:3] = torch.tensor([0, 1 - 2.0**-53, 0.5])
    row = torch.randint(0, 40, (500,))
    token, logprob = sample(logits, u, sampling, row)
    monkeypatch.setattr(draw_in_c, "available", lambda _: False)
    by_torch, theirs = sample(logits, u, sampling, row)
    same = token == by_torch
    assert same.float().mean() > 0.99  # where u lies on the border of two tokens, rounding decides
    torch.testing.assert_close(logprob[same], theirs[same], rtol=1e-5, atol=2e-6)
    assert logprob.isfinite().all()  # what is drawn has a probability


def test_threads_change_no_bit_and_no_number_is_no_crash() -> None:
    torch.manual_seed(0)
    logits, u = torch.randn(300, 700), torch.rand(300, dtype=torch.float64)
    logits[7, 3] = torch.nan
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(sample(logits, u, Sampling(top_p=0.9)))
    finally:
        torch.set_num_threads(before)
    for token, logprob in found:
        assert torch.equal(token, found[0][0]) and torch.equal(logprob.nan_to_num(), found[0][1].nan_to_num())
        assert 0 <= int(token.min()) <= int(token.max()) < 700 and logprob[7].isnan()
