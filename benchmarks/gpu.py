"""One measurement on a GPU, in a process of its own; ``gpu_evidence.py`` runs them in order, each within a limit.

    python benchmarks/gpu.py MEASUREMENT [--shape 1b] [--out FILE] [--rates FILE]

Weights and tokens are random: OLMo 2 1B, or on a CPU ``--shape tiny``, which shows that the program runs and no more.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_decode
import gpu_grpo
import gpu_pretrain
import torch
from gpu_parts import SHAPES, Found, Shape, machine_for, rates

from foray.core.files import read_json

Limits = dict[str, float]


def card(shape: Shape, limits: Limits, found: Found) -> None:
    """What machine this is, and its limits."""
    machine = machine_for()
    name = torch.cuda.get_device_name() if machine.device == "cuda" else "CPU"
    found.put(device=name, torch=torch.__version__, cuda=torch.version.cuda, cores=os.cpu_count())
    if machine.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found.put(memory_bytes=properties.total_memory, multiprocessors=properties.multi_processor_count)
    found.put(**rates(shape, machine))


def _grpo(prompts: int, group: int, **options: Any) -> Callable[[Shape, Limits, Found], None]:
    """At the shape's own number of rows, so that a small shape keeps to it: ``prompts`` shrink with the rows."""

    def run(shape: Shape, limits: Limits, found: Found) -> None:
        size = max(2, group * shape.rows[0] // 512)
        gpu_grpo.grpo(shape, found, max(2, shape.rows[0] // size), size, **options)

    return run


MEASUREMENTS: dict[str, Callable[[Shape, Limits, Found], None]] = {
    "card": card,
    "pretrain": gpu_pretrain.foray,
    "pretrain profiled": gpu_pretrain.profiled,
    "pretrain transformers": gpu_pretrain.plain,
    "pretrain transformers compiled": lambda s, r, f: gpu_pretrain.plain(s, r, f, compiled=True),
    "pretrain recompute": lambda s, r, f: gpu_pretrain.foray(s, r, f, recompute=True),
    "pretrain eager": lambda s, r, f: gpu_pretrain.foray(s, r, f, compile="off"),
    "decode paged": lambda s, r, f: gpu_decode.foray("paged", s, r, f),
    "decode torch": lambda s, r, f: gpu_decode.foray("torch", s, r, f),
    "decode generate": gpu_decode.generate,
    "grpo 64x8": _grpo(64, 8),
    "grpo 16x32": _grpo(16, 32),
    "grpo 64x8 recompute": _grpo(64, 8, recompute=True),
    "scoring": lambda s, r, f: gpu_grpo.scoring(s, f, s.rows[0]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measurement", choices=MEASUREMENTS)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rates", type=Path, help="what the measurement `card` has found; measured anew without it")
    args = parser.parse_args()
    torch.set_float32_matmul_precision("highest")
    shape, found = SHAPES[args.shape], Found(args.out)
    limits: Limits = {}
    if args.measurement != "card":
        known = args.rates is not None and args.rates.exists()
        limits = read_json(args.rates) if known else rates(shape, machine_for())
    MEASUREMENTS[args.measurement](shape, limits, found)
    print(found.values, flush=True)


if __name__ == "__main__":
    main()
