"""Probabilities and the draw of tokens on a CPU, in C (``core/c/draw.c``).

Shapes: R rows, V vocabulary, N samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foray.core.native import DRAW, function
from foray.model.layer_in_c import LANES, TYPES

_DRAW = "pnpppppnnni"
_BLOCK = 64  # tokens that are summed first


def available(logits: Tensor) -> bool:
    """Whether C can take ``logits`` of this device and dtype here."""
    fits = logits.device.type == "cpu" and logits.dtype in TYPES
    return fits and function(DRAW, "draw", _DRAW) is not None


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature) in fp32: (R, V) -> (R, V), whose rows have a few idle entries behind them."""
    (R, V), logits = logits.shape, logits.contiguous()
    p = _rows(R, V)
    compiled = function(DRAW, f"probabilities_{TYPES[logits.dtype]}", "pfpnnni")
    assert compiled is not None, "ask `available` first"
    compiled(logits.data_ptr(), temperature, p.data_ptr(), p.shape[1], R, V, torch.get_num_threads())
    return p[:, :V]


def keep_top(p: Tensor, share: float) -> Tensor:
    """Of ``p`` (R, V) the fewest likely tokens that have a ``share``, and those as likely as the last of them: (R, V)

    They are scaled to sum to 1; the others get 0.
    """
    (R, V), p = p.shape, p if p.stride(1) == 1 else p.contiguous()
    out = _rows(R, V)
    compiled = function(DRAW, "keep_top", "pnpnfnni")
    assert compiled is not None, "ask `available` first"
    compiled(p.data_ptr(), p.stride(0), out.data_ptr(), out.shape[1], 1 - share, R, V, torch.get_num_threads())
    return out[:, :V]


def draw(p: Tensor, u: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """A token of row ``row`` (N,) of ``p`` (R, V) by inverse CDF at ``u`` (N,), and the log of its probability."""
    compiled = function(DRAW, "draw", _DRAW)
    assert compiled is not None and p.dtype == torch.float32 and p.stride(1) == 1
    (R, V), N = p.shape, len(row)
    u, row = u.to(torch.float64).contiguous(), row.contiguous()
    token, logprob, cdf = torch.empty(N, dtype=torch.long), torch.empty(N), torch.empty(R, -(-V // _BLOCK))
    compiled(
        p.data_ptr(), p.stride(0), u.data_ptr(), row.data_ptr(), token.data_ptr(), logprob.data_ptr(), cdf.data_ptr(),
        R, V, N, torch.get_num_threads(),
    )  # fmt: skip
    return token, logprob


def _rows(R: int, V: int) -> Tensor:
    """Room for ``R`` rows of ``V`` entries and so many more that vectors end with the row."""
    return torch.empty(R, -(-V // LANES) * LANES)
