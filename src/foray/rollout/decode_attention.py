"""Attention of one new position a row on a CPU, in C (``core/c/decode_attention.c``).

Shapes: R rows, K heads of keys and values, G queries a head and row, d head width, S blocks, L positions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from foray.core.native import DECODE_ATTENTION, function
from foray.model.layer_in_c import LANES, TYPES


class Blocks(NamedTuple):
    """Keys (S, K, d, L) and values (S, K, L, d), whose last two dimensions are contiguous.

    ``of_row`` (R,) is the block of each row, and ``lengths`` (S,) are the positions that count. Blocks that are the
    rows' own have neither: row r has block r.
    """

    keys: Tensor
    values: Tensor
    of_row: Tensor | None = None
    lengths: Tensor | None = None


class _Segment(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        *((name, ctypes.c_int64) for name in ("of_block", "of_head", "capacity")),
        *((name, ctypes.c_void_p) for name in ("block", "length")),
    )

    @classmethod
    def of(cls, x: Blocks) -> _Segment:
        block, length = (None if t is None else t.data_ptr() for t in (x.of_row, x.lengths))
        k = x.keys
        return cls(k.data_ptr(), x.values.data_ptr(), k.stride(0), k.stride(1), k.shape[3], block, length)


def available(like: Tensor) -> bool:
    """Whether ``attend`` can take keys and values (..., d) of this device, dtype and width here, and is faster."""
    fits = like.device.type == "cpu" and like.dtype in TYPES and like.shape[-1] % LANES == 0
    return fits and _function(like.dtype) is not None


def attend(q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[Blocks], now: int, before: Tensor | None = None) -> Tensor:
    """The attention of queries ``q`` (R, K, G, d), not yet scaled: (R, K, G, d).

    The last of ``blocks`` are the rows' own. Their positions before ``now`` count, and the new keys ``k`` and values
    ``v`` (R, K, d) become position ``now``. ``before`` (K, R, G, L): the scores against a prefix that all rows share.
    They become its weights, and the result lacks the prefix's part.
    """
    compiled = _function(q.dtype)
    given = (k, v, *(() if before is None else (before,)), *(t for x in blocks for t in (x.keys, x.values)))
    assert compiled is not None and {t.dtype for t in given} == {q.dtype}
    (R, K, G, d), prefix = q.shape, 0 if before is None else before.shape[-1]
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out = torch.empty_like(q)
    segments = (_Segment * len(blocks))(*map(_Segment.of, blocks))
    threads = torch.get_num_threads()
    scores = torch.empty(threads, prefix + sum(x.keys.shape[3] for x in blocks) + 2 * LANES)
    compiled(
        q.data_ptr(), out.data_ptr(), k.data_ptr(), v.data_ptr(), now,
        None if before is None else before.data_ptr(), prefix,
        R, K, G, d, d**-0.5, segments, len(blocks), scores.data_ptr(), scores.shape[1], threads,
    )  # fmt: skip
    return out


def _function(dtype: torch.dtype) -> Callable[..., None] | None:
    return function(DECODE_ATTENTION, f"attend_{TYPES[dtype]}", "ppppnpnnnnnfpnpni")
