"""Causal attention in C on a CPU (``core/c/attention.c``), with its gradients.

In bf16 the products are those of the CPU's matrix unit where it has AMX (``core/c/attention_amx.c``).

Shapes: M tokens, H heads, K heads of keys and values, d head width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from foray.core.native import ATTENTION, ATTENTION_AMX, function
from foray.model.layer_in_c import LANES, TYPES

_QUERIES, _QUERIES_AMX, _DEEP = 32, 64, 32  # of a block of queries, and the depth of a tile, as the C code says


class Rows(NamedTuple):
    """Rows among M tokens, by units.

    The tokens of a row see each other causally. Those of every row of a unit but its first see the whole first row too.
    """

    spans: Tensor  # (rows, 2), int64: first token and number of tokens
    units: Tensor  # (units + 1,), int64: where each unit begins in ``spans``
    most: int  # keys that a token sees at most
    tokens: int  # of all rows

    @classmethod
    def of(cls, units: Sequence[Sequence[tuple[int, int]]]) -> Rows:
        """The rows (first token, number of tokens) of each unit."""
        spans = torch.tensor([span for unit in units for span in unit]).view(-1, 2)
        starts = torch.tensor([0, *map(len, units)]).cumsum(0)
        longest = (unit[0][1] + max((n for _, n in unit[1:]), default=0) for unit in units)
        return cls(spans, starts, max(longest, default=0), int(spans[:, 1].sum()))


@lru_cache(maxsize=32)
def alike(rows: int, length: int) -> Rows:
    """As many rows of one length, each a unit."""
    return Rows.of([[(i * length, length)] for i in range(rows)])


def available(q: Tensor) -> bool:
    """Whether ``attend`` can take queries (..., d) of this device, dtype and width here."""
    plain = type(q) is Tensor and q.device.type == "cpu" and q.dtype in TYPES and not q.shape[-1] % LANES
    return plain and _forward(q.dtype) is not None


@lru_cache(maxsize=1)
def matrix_unit() -> bool:
    """Whether bf16 is computed by AMX here."""
    ready, yes = function(ATTENTION_AMX, "ready", "p"), ctypes.c_int(0)
    if ready is not None:
        ready(ctypes.addressof(yes))
    return bool(yes)


def faster(dtype: torch.dtype) -> bool:
    """Whether ``attend`` is faster here than torch's own function."""
    return dtype == torch.float32 or torch.is_grad_enabled() or matrix_unit()


def attend(q: Tensor, k: Tensor, v: Tensor, rows: Rows) -> Tensor:
    """softmax(q k' / sqrt(d)) v within rows; 0 for tokens without one. (M, H, d), (M, K, d) x 2 -> (M, H, d)"""
    return _Attention.apply(q, k, v, rows)


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Rows) -> Tensor:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        (M, H, d), capacity = q.shape, _capacity(rows)
        (out,) = _results(rows, q)
        log_sums, rooms = torch.empty(M, H), _rooms(q.dtype, d, capacity, back=False)
        compiled = _forward(q.dtype)
        assert compiled is not None, "ask `available` first"
        compiled(*(x.data_ptr() for x in (q, k, v, out, log_sums)), H, k.shape[1], d, *_places(rows, capacity, rooms))
        ctx.save_for_backward(q, k, v, out, log_sums)
        ctx.rows = rows
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        saved = ctx.saved_tensors  # once: a pass that is computed again gives them once
        q, k, v, *_ = saved
        H, d = q.shape[1:]
        capacity, found = _capacity(ctx.rows), _results(ctx.rows, q, k, v)
        rooms = _rooms(q.dtype, d, capacity, back=True)
        compiled = _backward(q.dtype)
        assert compiled is not None
        tensors = (g.contiguous(), *saved, *found)
        compiled(*(x.data_ptr() for x in tensors), H, k.shape[1], d, *_places(ctx.rows, capacity, rooms))
        to_q, to_k, to_v = found
        return to_q, to_k, to_v, None


def _results(rows: Rows, *like: Tensor) -> tuple[Tensor, ...]:
    make = torch.empty_like if rows.tokens == len(like[0]) else torch.zeros_like
    return tuple(make(x) for x in like)


def _capacity(rows: Rows) -> int:
    return -(-rows.most // _DEEP) * _DEEP


def _rooms(dtype: torch.dtype, d: int, capacity: int, back: bool) -> Tensor:
    """Memory for each thread, as the C code lays it out."""
    if _by_amx(dtype):
        Q, wide = _QUERIES_AMX, -(-d // _DEEP) * _DEEP  # numbers of 4 bytes: fp32, pairs of bf16
        if back:
            size = capacity * (2 * d + wide + d // 2) + Q * (3 * capacity + capacity // 2 + 2 * d + wide)
        else:
            size = capacity * (wide // 2 + d // 2) + Q * (capacity + capacity // 2 + d + wide // 2)
    else:
        Q = _QUERIES
        size = capacity * 5 * d + Q * (3 * d + 2 * capacity) if back else capacity * 2 * d + Q * (2 * d + capacity)
    return torch.empty(torch.get_num_threads(), size + LANES)


def _places(rows: Rows, capacity: int, rooms: Tensor) -> tuple[int, ...]:
    spans, units = rows.spans.data_ptr(), rows.units.data_ptr()
    return spans, units, len(rows.units) - 1, capacity, rooms.data_ptr(), rooms.shape[1], len(rooms)


def _by_amx(dtype: torch.dtype) -> bool:
    return dtype == torch.bfloat16 and matrix_unit()


def _forward(dtype: torch.dtype) -> Callable[..., None] | None:
    takes = "pppppnnnppnnpni"
    if _by_amx(dtype):
        return function(ATTENTION_AMX, "attention_amx", takes)
    return function(ATTENTION, f"attention_{TYPES[dtype]}", takes)


def _backward(dtype: torch.dtype) -> Callable[..., None] | None:
    takes = "pppppppppnnnppnnpni"
    if _by_amx(dtype):
        return function(ATTENTION_AMX, "attention_amx_back", takes)
    return function(ATTENTION, f"attention_back_{TYPES[dtype]}", takes)
