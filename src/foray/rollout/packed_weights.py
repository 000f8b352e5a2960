"""Weights laid out for oneDNN's bf16 kernels while a CPU decodes.

A product in bf16 brings its weight into the kernels' layout first. For the few rows of a decoding step that takes as
long as a good part of the product, and every step does it again for all weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from foray.model.transformer import Transformer

_MOST_ROWS = 256  # of more rows the layout is a small part of a product
_FEWEST_STEPS = 8  # of fewer it does not pay to lay the weights out


@contextmanager
def packed_weights(model: Transformer, rows: int, steps: int) -> Iterator[None]:
    """Inside, the model's products of bf16 on a CPU take weights that were laid out once, for so many ``rows``.

    Weights must not change inside. Nothing happens where it does not pay, or where torch has no such product.
    """
    linears = _linears(model) if rows <= _MOST_ROWS and steps >= _FEWEST_STEPS and _on_cpu_in_bf16(model) else []
    try:
        for linear in linears:
            weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(torch.bfloat16), rows)
            bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16)
            linear.forward = partial(_product, weight, bias)  # type: ignore[method-assign]
        yield
    finally:
        for linear in linears:
            linear.__dict__.pop("forward", None)


def _linears(model: Transformer) -> list[nn.Linear]:
    """A subclass, such as one with adapters, computes something else."""
    return [module for module in model.modules() if type(module) is nn.Linear]


def _on_cpu_in_bf16(model: Transformer) -> bool:
    asked = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    eager = model.machine.compile != "on" and not model.sharded
    return asked and there and eager and model.device.type == "cpu" and not torch.is_grad_enabled()


def _product(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(torch.bfloat16), weight, bias, "none", [], "")
    return out
