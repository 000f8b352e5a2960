"""Pre-training on a GPU: tokens/s and MFU of Foray's loop and of the plain ``transformers`` loop, and a profile.

MFU is the ledger's FLOPs (``foray.model.flops``: attention included, embeddings not; three times the forward pass)
over time and the datasheet's bf16 peak; beside it stands the share of the rate that plain products of the same run
reach.
"""

from __future__ import annotations

import gzip
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from gpu_parts import (
    PEAK,
    Found,
    Shape,
    files_folder,
    largest_that_fits,
    machine_for,
    memory_peak,
    noisy_model,
    timed,
    tokenizer_of,
    transformers_model,
)
from gpu_profile import busy, device_profile, idle
from parts import Noise

from foray.core.machine import Machine
from foray.core.objectives import CrossEntropy
from foray.core.stage import AdamW, Stage, Stream
from foray.model import flops
from foray.train.draw import Training
from foray.train.loop import Moments, run_stage

UPDATES, WARM = 7, 2
MOST_TRACE = 15 << 20  # bytes of a packed trace that still comes back from a lent machine


@dataclass
class Session:
    """A model in training; ``update`` makes one update of it and returns its seconds."""

    run: Training
    stage: Stage
    moments: dict[str, Moments]
    done: int = 0

    def update(self) -> float:
        seconds: list[float] = []
        run_stage(
            self.stage, self.run, self.moments, self.done, self.done + 1, lambda _, m: seconds.append(m["seconds"])
        )
        self.done += 1
        return seconds[0]


def training(shape: Shape, machine: Machine) -> Session:
    stream = Stream("pretrain", Noise(shape.sequences, shape.length), CrossEntropy(z_loss=1e-5), AdamW(1e-4), "bf16")
    model = noisy_model(shape.model, machine)
    run = Training(0, "pretrain", tokenizer_of(shape), model, None)
    return Session(run, Stage("pretrain", ((1.0, stream),), 1000), {"pretrain": Moments(model, stream.optimizer)})


def row(shape: Shape, seconds: float, limits: dict[str, float]) -> dict[str, float]:
    """What an update of so many seconds comes to."""
    tokens = shape.sequences * shape.length
    work = 3 * shape.sequences * flops.forward(shape.model, shape.length, flops.pairs(0, shape.length), shape.length)
    return {
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "mfu": work / seconds / PEAK,
        "share_of_measured_products": work / seconds / limits["products_flop_per_s"],
    }


def foray(shape: Shape, limits: dict[str, float], found: Found, **settings: Any) -> None:
    """Updates of the one training loop, at the largest microbatch that fits."""

    def measured(microbatch: int) -> dict[str, float]:
        made = training(shape, machine_for(microbatch_tokens=microbatch, **settings))
        seconds = [made.update() for _ in range(UPDATES)]
        return row(shape, statistics.median(seconds[WARM:]), limits) | {"first_update_s": seconds[0]} | memory_peak()

    microbatch, values = largest_that_fits(measured, shape.microbatches)
    found.put(microbatch_tokens=microbatch, **values)


def profiled(shape: Shape, limits: dict[str, float], found: Found) -> None:
    """Three updates under torch's profiler: busy and idle seconds, kinds of kernels, a table and a trace."""

    def measured(microbatch: int) -> tuple[Any, float, float]:
        made = training(shape, machine_for(microbatch_tokens=microbatch))
        for _ in range(WARM):
            made.update()
        plain = statistics.median(made.update() for _ in range(3))
        with device_profile(with_cpu=True) as profiler:
            seconds = sum(made.update() for _ in range(3))
        return profiler, seconds, plain

    microbatch, (profiler, seconds, plain) = largest_that_fits(measured, shape.microbatches)
    what = busy(profiler)
    found.put(
        microbatch_tokens=microbatch, seconds=plain, profiled_seconds=seconds / 3, **idle(what, 3 * plain), **what
    )  # fmt: skip
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=80)
    (files_folder() / "pretrain_profile.txt").write_text(table, encoding="utf-8")
    trace, packed = files_folder() / "pretrain_trace.json", files_folder() / "pretrain_trace.json.gz"
    profiler.export_chrome_trace(str(trace))
    with open(trace, "rb") as plain_file, gzip.open(packed, "wb", compresslevel=6) as f:
        shutil.copyfileobj(plain_file, f)
    trace.unlink()
    found.put(trace_bytes=packed.stat().st_size)
    if packed.stat().st_size > MOST_TRACE:
        packed.unlink()


def plain(shape: Shape, limits: dict[str, float], found: Found, compiled: bool = False) -> None:
    """The usual loop: autocast, SDPA, fused AdamW, the largest power of two of sequences a pass that fits."""
    machine = machine_for()
    model = transformers_model(shape.model, machine).float().train()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    passed: Callable[..., Any] = torch.compile(model) if compiled else model

    def update(at_once: int) -> None:
        adam.zero_grad()
        for _ in range(shape.sequences // at_once):
            rows = torch.randint(1, shape.model.vocab_size, (at_once, shape.length), device=machine.torch_device)
            with torch.autocast(machine.device, torch.bfloat16):
                loss = passed(input_ids=rows, labels=rows, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()

    # From four sequences down: beyond 16,384 tokens a pass nothing is gained, and each failure costs seconds.
    sizes = [n for n in (4, 2, 1) if n <= shape.sequences]
    at_once, seconds = largest_that_fits(lambda n: timed(lambda: update(n), 3, 2), sizes)
    found.put(sequences_a_pass=at_once, **row(shape, seconds, limits), **memory_peak())
