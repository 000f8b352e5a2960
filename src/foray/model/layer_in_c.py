"""The small operations of a layer and of a loss in C on a CPU (``core/c/layer.c``), with their gradients.

Shapes: B batch, T time, D width, H heads, d head width, N positions, V vocabulary. Operands are fp32 or bf16, weights
fp32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from foray.core.native import LAYER, function

LANES = 16  # of the C code's vectors
TYPES = {torch.float32: "float", torch.bfloat16: "bf16"}
_PARTS = 64  # of the rows: the gradients of a norm's weight are summed in each, and then the sums


def available(x: Tensor, width: int, weight: Tensor | None = None, add: Tensor | None = None) -> bool:
    """Whether C can take ``x``, with rows or halves of heads of ``width``, here."""
    plain = type(x) is Tensor and x.device.type == "cpu" and x.dtype in TYPES and not width % LANES
    fits = plain and (weight is None or weight.dtype == torch.float32)
    fits = fits and (add is None or add.dtype == torch.float32)
    return fits and not torch.compiler.is_compiling() and _function("gate", "pppni", x.dtype) is not None


def norm(x: Tensor, weight: Tensor, eps: float, add: Tensor | None = None) -> Tensor:
    """``add`` + weight x / rms(x) over the last dimension: (..., D), with the dtype of ``add`` or ``x``."""
    if torch.is_grad_enabled():
        return _Norm.apply(x, weight, eps, add)
    return _norm(x.contiguous(), weight, eps, add, None)


def norm_and_rotate(x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor, head_dim: int) -> Tensor:
    """Heads (B, T, H, d) of ``x`` (B, T, H d), rotated. A weight (H d,) or (d,) asks for a norm of so many before."""
    if torch.is_grad_enabled():
        return _Rotate.apply(x, weight, eps, cos, sin, head_dim)
    return _rotate(x.contiguous(), weight, eps, cos, sin, head_dim, None)


def gated(a: Tensor, b: Tensor) -> Tensor:
    """silu(a) b, of any shape."""
    if torch.is_grad_enabled():
        return _Gate.apply(a, b)
    return _gated(a.contiguous(), b.contiguous())


def target_logprob(logits: Tensor, targets: Tensor, spare: bool = False) -> tuple[Tensor, Tensor]:
    """Log-probabilities (N,) of ``targets`` (N,) under ``logits`` (N, V), and the logits' log-partitions, in fp32.

    ``spare``: nobody else reads the logits, so their memory may be used.
    """
    if torch.is_grad_enabled():
        return _Target.apply(logits, targets, spare)
    return _target(logits.contiguous(), targets)


def cast_for(x: Tensor, products: int) -> tuple[Tensor, ...]:
    """``x`` (fp32) in bf16, for each of two or three products. Their gradients add up in fp32."""
    return _Cast.apply(x, products)


class _Cast(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, products: int) -> tuple[Tensor, ...]:
        cast = x.to(torch.bfloat16)
        return cast, *(cast.detach() for _ in range(products - 1))

    @staticmethod
    def backward(ctx: Any, *g: Tensor) -> tuple[Tensor, None]:
        a, b, *c = (one.contiguous() for one in g)
        out = torch.empty_like(a, dtype=torch.float32)
        third = c[0] if c else None
        _call("sum", "ppppni", a.dtype)(
            a.data_ptr(), b.data_ptr(), _pointer(third), out.data_ptr(), a.numel(), _threads()
        )
        return out, None


class _Norm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, add: Tensor | None) -> Tensor:
        x = x.contiguous()
        inverse = torch.empty(x.numel() // x.shape[-1])
        ctx.save_for_backward(x, weight, inverse)
        ctx.adds = add is not None
        return _norm(x, weight, eps, add, inverse)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, Tensor | None]:
        to_x, to_w = _norm_back(g.contiguous(), *ctx.saved_tensors)
        return to_x, to_w, None, g if ctx.adds else None


class _Rotate(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor, head_dim: int
    ) -> Tensor:
        x = x.contiguous()
        inverse = None if weight is None else torch.empty(x.numel() // len(weight))
        ctx.save_for_backward(cos, sin, *((x, weight, inverse) if weight is not None else ()))
        return _rotate(x, weight, eps, cos, sin, head_dim, inverse)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor | None, None, None, None, None]:
        cos, sin, *normed = ctx.saved_tensors
        g, (B, T, H, d) = g.contiguous(), g.shape
        back = g.new_empty(B, T, H * d)
        _call("rotate_back", "ppppnnnni", g.dtype)(
            g.data_ptr(), cos.data_ptr(), sin.data_ptr(), back.data_ptr(), B * T, H, d, cos.numel() // d, _threads()
        )
        if not normed:
            return back, None, None, None, None, None
        to_x, to_w = _norm_back(back, *normed)
        return to_x, to_w, None, None, None, None


class _Gate(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = a.contiguous(), b.contiguous()
        ctx.save_for_backward(a, b)
        return _gated(a, b)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        g, to_a, to_b = g.contiguous(), torch.empty_like(a), torch.empty_like(b)
        _call("gate_back", "pppppni", a.dtype)(*(x.data_ptr() for x in (g, a, b, to_a, to_b)), a.numel(), _threads())
        return to_a, to_b


class _Target(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, spare: bool) -> tuple[Tensor, Tensor]:
        logits = logits.contiguous()
        logprobs, log_z = _target(logits, targets)
        ctx.save_for_backward(logits.detach(), targets, log_z)  # detached: they may become their own gradient
        ctx.spare = spare
        return logprobs, log_z

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_z: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, log_z = ctx.saved_tensors
        g, g_z = g.contiguous(), g_z.contiguous()
        # In their place if it may be, because autograd refuses a second backward pass through a graph.
        out = logits if ctx.spare else torch.empty_like(logits)
        _call("target_back", "ppppppnni", logits.dtype)(
            *(x.data_ptr() for x in (g, g_z, targets, logits, log_z, out)), *logits.shape, _threads()
        )
        return out, None, None


def _norm(x: Tensor, weight: Tensor, eps: float, add: Tensor | None, inverse: Tensor | None) -> Tensor:
    D, dtype = x.shape[-1], x.dtype if add is None else add.dtype
    out = torch.empty_like(x, dtype=dtype)
    add = None if add is None else add.contiguous()
    _call("norm", "pppppnnfi", x.dtype, dtype)(
        x.data_ptr(), weight.data_ptr(), _pointer(add), out.data_ptr(), _pointer(inverse), x.numel() // D, D, eps,
        _threads(),
    )  # fmt: skip
    return out


def _norm_back(g: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    rows, D = len(inverse), len(weight)
    to_x, to_w = torch.empty_like(x), torch.empty(max(1, min(rows, _PARTS)), D)
    _call("norm_back", "ppppppnnni", x.dtype, g.dtype)(
        *(t.data_ptr() for t in (g, x, weight, inverse, to_x, to_w)), len(to_w), rows, D, _threads()
    )
    return to_x, to_w.sum(0)


def _rotate(
    x: Tensor, weight: Tensor | None, eps: float, cos: Tensor, sin: Tensor, d: int, inverse: Tensor | None
) -> Tensor:
    B, T, width = x.shape
    out = x.new_empty(B, T, width // d, d)
    _call("rotate", "ppppppnnnnnfi", x.dtype)(
        x.data_ptr(), _pointer(weight), cos.data_ptr(), sin.data_ptr(), out.data_ptr(), _pointer(inverse), B * T,
        width // d, d, d if weight is None else len(weight), cos.numel() // d, eps, _threads(),
    )  # fmt: skip
    return out


def _gated(a: Tensor, b: Tensor) -> Tensor:
    out = torch.empty_like(a)
    _call("gate", "pppni", a.dtype)(a.data_ptr(), b.data_ptr(), out.data_ptr(), a.numel(), _threads())
    return out


def _target(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    (N, V), threads = logits.shape, _threads()
    if N and not 0 <= int(targets.min()) <= int(targets.max()) < V:  # C would read beyond the row
        raise IndexError(f"a target lies outside of the vocabulary of {V}")
    logprobs, log_z = torch.empty(2, N)
    rooms = torch.empty(threads, -(-V // LANES) * LANES)
    _call("target", "ppppnnpi", logits.dtype)(
        *(x.data_ptr() for x in (logits, targets, logprobs, log_z)), N, V, rooms.data_ptr(), threads
    )
    return logprobs, log_z


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _threads() -> int:
    return torch.get_num_threads()


def _function(name: str, takes: str, *dtypes: torch.dtype) -> Callable[..., None] | None:
    return function(LAYER, "_".join((name, *(TYPES[t] for t in dtypes))), takes)


def _call(name: str, takes: str, *dtypes: torch.dtype) -> Callable[..., None]:
    found = _function(name, takes, *dtypes)
    assert found is not None, "ask `available` first"
    return found
