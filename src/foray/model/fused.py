"""Three operations with backward passes of their own: fewer trips through memory than autograd's, the same numbers.

Shapes: D width, d head width, N positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


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
        to_weight = (g * h).flatten(0, -2).sum(0).to(weight.dtype)
        g = g * weight
        along = torch.linalg.vecdot(g, h).unsqueeze(-1) / h.shape[-1]
        return torch.addcmul(g, h, along, value=-1).mul_(r).to(dtype), to_weight, None


def _normed(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # In fp32 with the weight multiplied before the cast: this is what makes bf16 match transformers bit for bit.
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
    """Both halves of ``sin`` are equal, so turning back is turning by -sin."""
    out = x * cos
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    out[..., :half].addcmul_(b, sin[..., :half], value=-sign)
    out[..., half:].addcmul_(a, sin[..., half:], value=sign)
    return out.to(x.dtype)


class _TargetLogprob(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = torch.log_softmax(logits, -1)
        at = targets[:, None]
        picked = logprobs.gather(1, at)[:, 0]
        ctx.save_for_backward(logprobs, at)
        return picked, logits.gather(1, at)[:, 0] - picked

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_z: Tensor) -> tuple[Tensor, None]:
        logprobs, at = ctx.saved_tensors
        out = logprobs.exp().mul_((g_z - g)[:, None])
        return out.scatter_add_(1, at, g[:, None]), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight x / rms(x) over the last dimension (arXiv 1910.07467). (..., D), (D,) -> (..., D)"""
    if not torch.is_grad_enabled():  # decoding is made of small steps, in which the bookkeeping would show
        return (weight * _normed(x, eps)[0]).to(x.dtype)
    return _RMSNorm.apply(x, weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (arXiv 2104.09864), rotate-half. cos and sin stay fp32; the result has x's dtype."""
    return _Rotate.apply(x, cos, sin) if torch.is_grad_enabled() else _rotated(x, cos, sin, 1)


def target_logprob(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of ``targets`` (N,) under fp32 ``logits`` (N, V), and the logits' log-partitions (N,)."""
    return _TargetLogprob.apply(logits, targets)
