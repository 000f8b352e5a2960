"""What a study is priced on: accelerators by their datasheets, or this machine by a measurement.

``docs/hardware.md`` explains the constants, and ``foray plan`` prints them.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from foray.core.canonical import nearest, require
from foray.core.machine import MICROBATCH, Machine
from foray.model.config import ModelConfig

MACHINE = 8  # cards a machine
# Of the peak, in every matrix product. OLMo-core reports 55,000 tokens/s a card for OLMo 2 1B on H100s (its README,
# version 1.6), by this ledger's FLOPs 47%.
MFU = 0.45
# Shares of the rate of plain matrix products that the phases of `tiny` reach on two x86 cores, one thread each. Larger
# models reach more.
CPU_SHARES = {"update": 0.55, "prefill": 0.5, "decode": 0.25, "behaviour": 0.55, "score": 0.55}
# Of the datasheet's bandwidth, in decode. gpt-fast reports 1,397 of 2,039 GB/s, 69%, for one row of a 7B model on an
# A100 (its README); real batches have ragged rows.
BANDWIDTH_SHARE = 0.6
USABLE = 0.9  # of a card's memory; the rest goes to the driver and to fragments
LAUNCH_SECONDS = 50e-6  # a layer and pass: about ten kernels of 5 µs, however small they are
START_SECONDS = 30.0  # a node on a card: loading a model, saving a model
PROCESS_BYTES = 450e6  # main memory of Python with torch loaded


@dataclass(frozen=True)
class Card:
    """An accelerator by its datasheet: FLOPs a second of dense matrix products in bf16 and of fp32 without tensor
    cores, bytes of memory, bytes a second from memory.

    ``shares`` are those of the rate that phases reach. ``launch`` is the least time of a layer's pass and ``start`` a
    node's time besides its work, in seconds. ``process`` is what a process takes of the memory, in bytes. ``in_flight``
    is how many completions the engine for it samples together at most.
    """

    bf16: float
    fp32: float
    memory: float
    bandwidth: float
    shares: Mapping[str, float] | None = None  # None: MFU in all
    launch: float = LAUNCH_SECONDS
    start: float = START_SECONDS
    process: float = 0.0
    in_flight: int = 512

    def seconds(self, phases: Mapping[str, float], value: int) -> float:
        """Of matrix products, FLOPs by phase, in numbers of ``value`` bytes."""
        rate = self.bf16 if value == 2 else self.fp32
        return sum(n / rate / (self.shares[phase] if self.shares else MFU) for phase, n in phases.items())


# Datasheets give the rates of tensor cores with sparsity; the dense ones here are half of those.
CARDS = {
    "a100": Card(312e12, 19.5e12, 80e9, 2.039e12),  # NVIDIA A100 80GB SXM datasheet
    "h100": Card(989e12, 67e12, 80e9, 3.35e12),  # NVIDIA H100 SXM datasheet
    "h200": Card(989e12, 67e12, 141e9, 4.8e12),  # NVIDIA H200 SXM datasheet
    "b200": Card(2250e12, 75e12, 180e9, 7.7e12),  # NVIDIA HGX B200 datasheet, an eighth of its eight cards
    "l40s": Card(362e12, 91.6e12, 48e9, 0.864e12),  # NVIDIA L40S datasheet
    "rtx4090": Card(165e12, 82.6e12, 24e9, 1.008e12),  # NVIDIA Ada architecture whitepaper, fp32 sums
    "mi300x": Card(1307e12, 163e12, 192e9, 5.3e12),  # AMD Instinct MI300X data sheet
}


@dataclass(frozen=True)
class Hardware:
    """``count`` cards of one kind, and how a pass uses one (``foray.core.machine``).

    ``here``: the cards are the worker processes of this machine. Then every node takes one, the preparing ones too.
    """

    name: str
    card: Card
    count: int
    microbatch_tokens: int
    recompute: bool = False
    here: bool = False

    @property
    def ranks(self) -> list[int]:
        """Numbers of ranks that a node may have."""
        return [1] if self.here else powers_of_two(self.count)


def parse_hardware(text: str, machine: Machine | None = None) -> Hardware:
    """``h100x8``: eight H100, with the settings of ``machine``. Raises ValueError with the nearest valid card."""
    text = text.strip().lower()
    found = None if text in CARDS else re.fullmatch(r"(.+)x([0-9]{1,6})", text)
    name = found[1] if found else text
    require(name in CARDS, f"--hardware {text}: there is no card {name!r}{nearest(name, CARDS)}")
    count = int(found[2]) if found else 0
    require(count > 0, f"--hardware {text}: say how many cards, such as {name}x{MACHINE}")
    machine = machine or Machine()
    return Hardware(name, CARDS[name], count, machine.microbatch_tokens or MICROBATCH["cuda"], machine.recompute)


def cards_here(machine: Machine, name: str, memory: float, count: int) -> Hardware:
    """``count`` of this machine's GPUs, of the ``name`` and ``memory`` (bytes) that the driver gives.

    Raises ValueError where no datasheet is known: a measurement of the processors would price the wrong machine.
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    known = next((w for w in (*words, *map("".join, pairwise(words))) if w in CARDS), "")
    # Cards of one name have several sizes, and a part of a card is none: 40 GB of an A100, a slice of an H100.
    fits = known and 0.85 * CARDS[known].memory < memory < 1.15 * CARDS[known].memory
    sized = f"{name} of {memory / 1e9:.0f} GB"
    require(
        bool(fits),
        f"this machine computes on {sized}, for which there is no datasheet here: name the card to price with, such as "
        f"--hardware h100x{count}, or --machine device=cpu for the processors",
    )
    return parse_hardware(f"{known}x{count}", machine)


def processors(rate: float, workers: int = 1, machine: Machine | None = None) -> Hardware:
    """``workers`` processes of a machine whose matrix products make ``rate`` FLOPs a second in each."""
    machine = machine or Machine()
    card = Card(
        rate, rate, math.inf, math.inf, CPU_SHARES, launch=0.0, start=0.0, process=PROCESS_BYTES, in_flight=1024
    )  # fmt: skip
    tokens = machine.microbatch_tokens or MICROBATCH["cpu"]
    return Hardware("this machine", card, workers, tokens, machine.recompute, here=True)


def measured_rate(model: ModelConfig, threads: int = 1) -> float:
    """FLOPs a second of this machine's matrix products at the model's shapes, measured in about a second."""
    import torch

    shapes = {(model.width, model.width), (model.width, model.mlp_width), (model.width, model.vocab_size)}
    rows = max(64, min(1024, round(2e9 / sum(a * b for a, b in shapes))))  # few for large models
    pairs = [(torch.randn(rows, a), torch.randn(a, b)) for a, b in shapes]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = []
        for _ in range(9):
            begun = time.perf_counter()
            for x, w in pairs:
                x @ w
            seconds.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return 2.0 * rows * sum(a * b for a, b in shapes) / sorted(seconds)[len(seconds) // 2]


def powers_of_two(most: float) -> list[int]:
    """1, 2, 4, ... up to ``most``; 1 at least."""
    return [1 << i for i in range(max(1, int(most)).bit_length())]
