"""Where a GPU's time goes: its busy seconds, by kind of kernel, out of torch's profiler."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

# The first pattern that a kernel's name matches says what the kernel is.
KINDS = {
    "attention": r"flash|fmha|attention|attn|flex_dec|sdpa|cudnn_generated",
    "matrix products": r"gemm|cutlass|nvjet|xmma|cublas|_mm_|splitk",
    "optimizer": r"multi_tensor|fused_adam|adam|lpnorm",
    "copies": r"memcpy|memset|copy_kernel|direct_copy",
    "softmax of the vocabulary": r"softmax|cumsum|scan|searchsorted|gather|scatter|logsumexp|index",
    "compiled elementwise": r"triton",
    "reductions": r"reduce",
    "other elementwise": r"elementwise|vectorized|foreach",
}


def device_profile(with_cpu: bool = False) -> Any:
    """A profiler that is used as a context. ``with_cpu``: for tables and traces; without, for long regions."""
    activities = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    return profile(activities=[*activities, ProfilerActivity.CPU] if with_cpu or not activities else activities)


def kind_of(kernel: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, kernel, re.IGNORECASE)), "other")


def busy(profiler: Any) -> dict[str, Any]:
    """Seconds in which the card did something, by kind of kernel, and how many kernels ran.

    Read from the profiler's raw events: torch's own tables take minutes for a million of them.
    """
    # The card's line also has annotations, which span from their first kernel to their last.
    every = profiler.profiler.kineto_results.events()
    events = [e for e in every if "CUDA" in str(e.device_type()) and not _annotates(e)]
    seconds: dict[str, float] = {}
    names: dict[str, float] = {}
    for e in events:
        took = e.duration_ns() / 1e9
        names[e.name()] = names.get(e.name(), 0.0) + took
    for name, took in names.items():
        seconds[kind_of(name)] = seconds.get(kind_of(name), 0.0) + took
    return {
        "busy_s": covered((e.start_ns(), e.start_ns() + e.duration_ns()) for e in events) / 1e9,
        "kernels": len(events),
        "by_kind_s": dict(sorted(seconds.items(), key=lambda x: -x[1])),
        "longest_s": {name[:90]: took for name, took in sorted(names.items(), key=lambda x: -x[1])[:15]},
    }


def _annotates(event: Any) -> bool:
    said = getattr(event, "is_user_annotation", None)
    return bool(said and said()) or re.match(r"##|Optimizer\.|ProfilerStep|Torch-Compiled", event.name()) is not None


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The length of the union of intervals (begin, end)."""
    total, reached = 0, -1
    for begin, end in sorted(spans):
        if end > reached:
            total += end - max(begin, reached)
            reached = end
    return total


def idle(what: dict[str, Any], seconds: float) -> dict[str, float]:
    """The share of so many seconds in which no kernel ran; nothing where there is no card.

    ``seconds`` are those of the same work without the profiler, which slows the host down and hardly the kernels.
    """
    return {"idle_share": max(0.0, 1 - what["busy_s"] / seconds)} if what["kernels"] else {}
