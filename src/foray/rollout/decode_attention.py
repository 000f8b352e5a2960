"""Attention of one new position a row on a CPU, in C (``core/c/decode_attention.c``).

Shapes: R rows, K heads of keys and values, G queries a head and row, d head width, S blocks, L positions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from foray.core.native import DECODE_ATTENTION, function
from foray.model.layer_in_c import LANES, TYPES

_MOST = 8  # queries that C takes at once


class Blocks(NamedTuple):
    """Keys (S, K, tiles, d, LANES), with LANES positions a tile, and values (S, K, L, d). Heads are contiguous."""

    keys: Tensor
    values: Tensor


class _Blocks(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        *((name, ctypes.c_int64) for name in ("keys_block", "keys_head", "values_block", "values_head")),
    )

    @classmethod
    def of(cls, x: Blocks) -> _Blocks:
        assert x.keys[0, 0].is_contiguous() and x.values[0, 0].is_contiguous()
        return cls(x.keys.data_ptr(), x.values.data_ptr(), *x.keys.stride()[:2], *x.values.stride()[:2])


def available(like: Tensor) -> bool:
    """Whether ``attend`` can take keys and values (..., d) of this device, dtype and width here."""
    fits = like.device.type == "cpu" and like.dtype in TYPES and like.shape[-1] % LANES == 0
    return fits and _function(like.dtype) is not None


def tiles(keys: Tensor) -> Tensor:
    """Keys (..., d, L) as ``Blocks`` has them: (..., tiles, d, LANES), with zeros behind the last."""
    keys = torch.nn.functional.pad(keys, (0, -keys.shape[-1] % LANES))
    return keys.unflatten(-1, (-1, LANES)).movedim(-2, -3).contiguous()


def attend(
    q: Tensor, k: Tensor, v: Tensor, prompts: Blocks, prompt: Tensor, lengths: Tensor, own: Blocks, now: int,
    before: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The attention of queries ``q`` (R, K, G, d), not yet scaled: (R, K, G, d).

    ``prompt`` (R,) is the block of each row among ``prompts``, of which ``lengths`` (S,) positions count. ``own`` are
    the rows' own: R blocks or more. Their positions before ``now`` count, and the new keys ``k`` and values ``v``
    (R, K, d) become position ``now``. ``before`` (K, R, G, L): the scores against a prefix that all rows share. They
    become its weights, and the result lacks the prefix's part.
    """
    compiled = _function(q.dtype)
    given = (k, v, *(() if before is None else (before,)), *prompts, *own)
    assert compiled is not None and {t.dtype for t in given} == {q.dtype}
    (R, K, G, d), prefix = q.shape, 0 if before is None else before.shape[-1]
    q, k, v, prompt, lengths = (t.contiguous() for t in (q, k, v, prompt, lengths))
    out, threads = torch.empty_like(q), torch.get_num_threads()
    order = torch.empty(2 * R + len(lengths) + 2, dtype=torch.long)
    rooms = torch.empty(threads, max(_MOST, G), prefix + prompts.values.shape[2] + now + 1 + 2 * LANES)
    theirs, mine = _Blocks.of(prompts), _Blocks.of(own)
    compiled(
        q.data_ptr(), out.data_ptr(), k.data_ptr(), v.data_ptr(), now,
        None if before is None else before.data_ptr(), prefix,
        R, K, G, d, d**-0.5, ctypes.addressof(theirs), prompt.data_ptr(), lengths.data_ptr(), len(lengths),
        ctypes.addressof(mine), order.data_ptr(), rooms.data_ptr(), rooms.shape[2], threads,
    )  # fmt: skip
    return out


def _function(dtype: torch.dtype) -> Callable[..., None] | None:
    return function(DECODE_ATTENTION, f"attend_{TYPES[dtype]}", "ppppnpnnnnnfpppnpppni")
