"""Operations with hand-written backward passes. They need fewer passes over memory than autograd, for equal numbers.

On a CPU most of them are C, where it can be compiled.

Shapes: D width, d head width, N positions, V vocabulary, B batch, H heads, K heads of keys and values (each serves
G = H / K heads of queries), T queries, S keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.nn.attention import SDPBackend, sdpa_kernel

from foray.model import attention_in_c, layer_in_c

_QUERIES = 128  # a block of queries in causal attention
# Queries from which causal attention in bf16 is cuDNN's: 6% of an update of 1B at 4096 on an H200. cuDNN takes about a
# second for every new shape, so it gets the windows of pre-training, and no texts of any length.
_CUDNN_FROM, _CUDNN_MULTIPLE = 1024, 128
_LONGEST = 1024  # keys; the kept weights of longer attention cost more memory than they save time


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        h, r = _normed(x, eps)
        ctx.save_for_backward(h, r, weight)
        return (weight * h).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        h, r, weight = ctx.saved_tensors
        dtype, g = g.dtype, g.float()
        gh = g * h
        weight = weight.float()  # a sharded layer may hold bf16
        along = (gh @ weight).unsqueeze(-1) / h.shape[-1]
        return (g * weight).addcmul_(h, along, value=-1).mul_(r).to(dtype), gh.flatten(0, -2).sum(0), None


def _normed(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # In fp32, with the weight multiplied before the cast, so that bf16 equals transformers bit for bit.
    h = x.float()
    r = torch.rsqrt(h.square().mean(-1, keepdim=True) + eps)
    return h * r, r


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(g, cos, sin, -1), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """Rotates by ``sign`` x the angles of cos and sin."""
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin, value=sign).to(x.dtype)


class _TargetLogprob(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.softmax(logits, -1)
        at, top = targets[:, None], logits.amax(-1)
        log_most = p.amax(-1).log()  # the likeliest entry's log: minus the log-partition of logits - top
        ctx.save_for_backward(p, at)
        return logits.gather(1, at)[:, 0] - top + log_most, top - log_most

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_z: Tensor) -> tuple[Tensor, None]:
        p, at = ctx.saved_tensors
        # In place, because autograd refuses a second backward pass through a graph.
        return p.mul_((g_z - g)[:, None]).scatter_add_(1, at, g[:, None]), None


class _FusedTargetLogprob(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_z = _compiled(_log_partition)(logits)
        ctx.save_for_backward(logits, targets, log_z)
        return logits.gather(1, targets[:, None])[:, 0].float() - log_z, log_z

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_z: Tensor) -> tuple[Tensor, None]:
        return _compiled(_logits_gradient)(*ctx.saved_tensors, g, g_z), None


@lru_cache
def _compiled(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(f, dynamic=True)  # the last block of a batch is shorter


def _log_partition(logits: Tensor) -> Tensor:
    logits = logits.float()
    top = logits.amax(-1)
    return top + (logits - top[:, None]).exp().sum(-1).log()


def _logits_gradient(logits: Tensor, targets: Tensor, log_z: Tensor, g: Tensor, g_z: Tensor) -> Tensor:
    p = (logits.float() - log_z[:, None]).exp()
    hit = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    return (p * (g_z - g)[:, None] + hit * g[:, None]).to(logits.dtype)


class _Attention(Function):
    """Attention that keeps its weights. Blocks of queries skip keys beyond the causal diagonal."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        B, H, T, d = q.shape
        K = k.shape[1]
        q = (q * d**-0.5).reshape(B * K, -1, T, d)  # (B K, G, T, d): G queries share a key
        k, v = (x.reshape(B * K, -1, d) for x in (k, v))
        out = torch.empty_like(q)
        later = torch.full((_QUERIES, _QUERIES), -torch.inf).triu(1)
        kept = []
        for first, last, keys in _query_blocks(T, k.shape[1], bias is None):
            scores = torch.bmm(_rows(q, first, last), k[:, :keys].transpose(1, 2))  # (B K, G x queries, keys)
            if bias is None:
                scores.view(B * K, -1, last - first, keys)[..., first:] += later[: last - first, : last - first]
            else:
                scores.view(B, H, T, keys).add_(bias)
            kept.append(torch.softmax(scores, -1))
            out[:, :, first:last] = torch.bmm(kept[-1], v[:, :keys]).view(B * K, -1, last - first, d)
        ctx.save_for_backward(q, k, v, out, *kept)
        ctx.causal = bias is None
        return out.view(B, H, T, d)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, *kept = ctx.saved_tensors
        (B, H, T, d), g = g.shape, g.reshape(q.shape)
        to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        along = torch.linalg.vecdot(g, out).unsqueeze(-1)  # (B K, G, T, 1): sum over keys of weight x its gradient
        for p, (first, last, keys) in zip(kept, _query_blocks(T, k.shape[1], ctx.causal)):
            part, sums = _rows(g, first, last), _rows(along, first, last)
            to_v[:, :keys].baddbmm_(p.transpose(1, 2), part)
            to_scores = torch.baddbmm(sums, part, v[:, :keys].transpose(1, 2), beta=-1).mul_(p)
            to_q[:, :, first:last] = torch.bmm(to_scores, k[:, :keys]).view(len(q), -1, last - first, d)
            to_k[:, :keys].baddbmm_(to_scores.transpose(1, 2), _rows(q, first, last))
        to_q *= d**-0.5
        return to_q.view(B, H, T, d), to_k.view(B, -1, k.shape[1], d), to_v.view(B, -1, k.shape[1], d), None


def _rows(x: Tensor, first: int, last: int) -> Tensor:
    """Queries ``first`` to ``last`` of every group as rows of one matrix: (N, G, T, d) -> (N, G x queries, d)"""
    return x[:, :, first:last].reshape(len(x), -1, x.shape[-1])


def _query_blocks(T: int, S: int, causal: bool) -> list[tuple[int, int, int]]:
    """(first query, one past the last query, number of keys that the queries can see) of each block."""
    if not causal:
        return [(0, T, S)]
    return [(i, min(i + _QUERIES, T), min(i + _QUERIES, T)) for i in range(0, T, _QUERIES)]


def rms_norm(x: Tensor, weight: Tensor, eps: float, add: Tensor | None = None) -> Tensor:
    """``add`` + weight x / rms(x) over the last dimension (arXiv 1910.07467). (..., D), (D,) -> (..., D)"""
    if layer_in_c.available(x, x.shape[-1], weight, add):
        return layer_in_c.norm(x, weight, eps, add)
    normed = _rms_norm(x, weight, eps)
    return normed if add is None else add + normed


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    if torch.compiler.is_compiling():  # the compiler fuses and differentiates the plain formula
        return (weight * _normed(x, eps)[0]).to(x.dtype)
    if torch.is_grad_enabled():
        return _RMSNorm.apply(x, weight, eps)
    # Decoding has small steps, in which each operation and autograd's bookkeeping cost time.
    if x.dtype == torch.float32:
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5)
        return (x / rms.hypot_(rms.new_full((), eps**0.5))).mul_(weight)
    h = x.float()
    return h.mul_(h.square().mean(-1, keepdim=True).add_(eps).rsqrt_()).mul_(weight).to(x.dtype)


def cast_for(x: Tensor, products: int) -> tuple[Tensor, ...]:
    """``x`` once for each of two or three products, as autocast would give it to them.

    The gradients that come back are bf16 and add up in fp32. Without C every product keeps its own cast for that.
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return (x,) * products
    dtype = torch.get_autocast_dtype(device)
    if not torch.is_grad_enabled():
        return (x.to(dtype),) * products
    if x.dtype == torch.float32 and dtype == torch.bfloat16 and layer_in_c.available(x, x.shape[-1]):
        return layer_in_c.cast_for(x, products)
    return (x,) * products


def norm_and_rotate(x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor, head_dim: int) -> Tensor:
    """Heads with rotary position embeddings (arXiv 2104.09864), rotate-half: (B, T, H d) -> (B, T, H, d)

    Before it comes a norm of all heads together for a weight (H d,), of each head for one (d,), or none. cos and sin
    (T or B T, 1, d) are fp32; ``sin`` is negative in its first half: this gives the signs when the halves of a head
    change places.
    """
    if layer_in_c.available(x, head_dim // 2, weight):
        return layer_in_c.norm_and_rotate(x, weight, eps, cos, sin, head_dim)
    split = (*x.shape[:-1], -1, head_dim)
    if weight is not None:
        x = _rms_norm(x if len(weight) == x.shape[-1] else x.view(split), weight, eps)
    x = x.view(split)
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return _rotated(x, cos, sin, 1)
    return _Rotate.apply(x, cos, sin)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) up (SwiGLU, arXiv 2002.05202), of any shape."""
    if layer_in_c.available(gate, gate.shape[-1]) and gate.dtype == up.dtype:
        return layer_in_c.gated(gate, up)
    return F.silu(gate) * up


def target_logprob(logits: Tensor, targets: Tensor, fused: bool = False, spare: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of ``targets`` (N,) under ``logits`` (N, V), and the logits' log-partitions (N,), in fp32.

    ``fused``: compiled, for a GPU. There the plain operations take a tenth of an update of pre-training, the compiled
    ones read and write the logits once each, in their own precision. ``spare``: nobody else reads the logits, so their
    memory may be used.
    """
    if fused:
        return _FusedTargetLogprob.apply(logits, targets)
    if layer_in_c.available(logits, 0):
        return layer_in_c.target_logprob(logits, targets, spare)
    return _TargetLogprob.apply(logits.float(), targets)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(d) + bias) v; without ``bias`` (B or 1, 1, T, S), causal. (B, H, T, d), (B, K, S, d) x 2

    On a CPU, C computes causal attention, but for bf16 with neither gradients nor AMX, where torch is faster. Without
    C, short sequences in fp32 keep the attention weights for the backward pass, which is faster than computing them
    twice. All other cases use torch's own function.
    """
    if bias is None and attention_in_c.available(q) and attention_in_c.faster(q.dtype):
        B, H, T, d = q.shape
        q, k, v = (x.transpose(1, 2).reshape(B * T, -1, d) for x in (q, k, v))
        return attention_in_c.attend(q, k, v, attention_in_c.alike(B, T)).view(B, T, H, d).transpose(1, 2)
    if q.device.type == "cpu" and q.dtype == torch.float32 and k.shape[2] <= _LONGEST and torch.is_grad_enabled():
        return _Attention.apply(q, k, v, bias)
    shared = q.shape[1] != k.shape[1]
    if shared and bias is not None and q.device.type == "cuda":
        # No fast kernel of torch has both. Torch's plain kernel would lay out all attention weights in memory.
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        shared = False
    if bias is None and q.device.type == "cuda" and _suits_cudnn(q):
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=bias is None, enable_gqa=shared)


def _suits_cudnn(q: Tensor) -> bool:
    T = q.shape[2]
    return torch.is_grad_enabled() and q.dtype == torch.bfloat16 and T >= _CUDNN_FROM and T % _CUDNN_MULTIPLE == 0
