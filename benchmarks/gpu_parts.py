"""What the GPU's measurements share: shapes, the card's limits, random models, timing, results on disk."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

from foray.core.files import json_text, write_atomic
from foray.core.machine import Machine, free_memory
from foray.data.tokenizer import END, TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.train.sharding import blank

PEAK = 989e12  # FLOP/s in bf16, dense: NVIDIA's datasheets of the H100 SXM and the H200
T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """A model, and how much work each measurement does with it."""

    model: ModelConfig
    length: int  # tokens of a pre-training sequence
    sequences: int  # of an update
    microbatches: tuple[int, ...]  # tokens of a forward pass; the largest that fits is used
    prompt: int
    new: int
    rows: tuple[int, ...]  # decoded at once
    page: int  # positions of a page of keys and values
    square: int  # width of the matrices whose product gives the card's rate


SHAPES = {
    "1b": Shape(
        ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100_352, context=4096),
        4096, 16, (16384, 8192, 4096), 512, 512, (512, 256, 64), 128, 8192,
    ),
    "trial": Shape(  # the kernels of "1b" in seconds: shows that they run, and no more
        ModelConfig(width=2048, layers=2, heads=16, mlp_width=8192, vocab_size=100_352, context=4096),
        4096, 2, (4096,), 128, 64, (64, 32), 128, 2048,
    ),
    "tiny": Shape(
        ModelConfig(width=32, layers=1, heads=2, mlp_width=32, vocab_size=256, context=32),
        16, 2, (32, 16), 8, 4, (16, 8), 4, 64,
    ),
}  # fmt: skip


class Found:
    """The results of one measurement. Every value is on disk as soon as it is known: the process may be killed."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.values = path, dict[str, Any]()

    def put(self, **values: Any) -> None:
        self.values |= values
        if self.path is not None:
            write_atomic(self.path, json_text(self.values, indent=1) + "\n")


def machine_for(device: str = "auto", **settings: Any) -> Machine:
    return Machine(device, **settings).found()  # type: ignore[arg-type]


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], repeats: int = 5, warm: int = 2, most: float = 1e9) -> float:
    """Median seconds, the device's work included. No repeat begins ``most`` seconds after the first one began."""
    seconds: list[float] = []
    for _ in range(warm):
        run()
    settle()
    first = time.perf_counter()
    while len(seconds) < repeats and (not seconds or time.perf_counter() - first < most):
        begun = time.perf_counter()
        run()
        settle()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def rates(shape: Shape, machine: Machine) -> dict[str, float]:
    """FLOP/s of plain bf16 products, and bytes/s of reading and of copying, as this card has them."""
    n, device = shape.square, machine.torch_device
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    block = torch.randn(n * n * 16, device=device).to(torch.bfloat16)
    copy = torch.empty_like(block)
    product, read = timed(lambda: a @ b, 20, 5), timed(lambda: block.sum(dtype=torch.float32), 20)
    moved = timed(lambda: copy.copy_(block), 20)
    size = block.numel() * 2
    return {
        "products_flop_per_s": 2 * n**3 / product,
        "read_bytes_per_s": size / read,
        "copy_bytes_per_s": 2 * size / moved,
        "bytes_per_s": max(size / read, 2 * size / moved),
    }


def largest_that_fits(run: Callable[[int], T], sizes: Sequence[int]) -> tuple[int, T]:
    """The first of ``sizes`` at which ``run`` does not run out of the card's memory, and its result."""
    for size in sizes:
        try:
            return size, run(size)
        except torch.cuda.OutOfMemoryError:
            print(f"out of memory at {size}", flush=True)
        free_memory()  # behind the handler, which holds the frames and their tensors
        torch._dynamo.reset()  # or the second size would make compiled code take any size
    raise MemoryError(f"none of {list(sizes)} fits the card's memory")


def memory_peak() -> dict[str, float]:
    """Bytes of the card's memory at the peak so far; nothing on a CPU."""
    return {"memory_peak_bytes": float(torch.cuda.max_memory_allocated())} if torch.cuda.is_available() else {}


def tokenizer_of(shape: Shape) -> TextTokenizer:
    """One token a word: t1, t2 and so on. The end token is 0, which a model of random weights all but never draws."""
    names = {END: 0} | {f"t{i}": i for i in range(1, shape.model.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="t1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([END])
    return TextTokenizer(tokenizer)


def noisy_model(config: ModelConfig, machine: Machine) -> Transformer:
    """Random weights, drawn where they are used: ``initialize`` draws a billion of them on the CPU."""
    torch.manual_seed(0)
    model = blank(config, machine)
    for p in model.parameters():
        nn.init.normal_(p, std=0.02) if p.dim() > 1 else nn.init.ones_(p)
    return model


def transformers_model(config: ModelConfig, machine: Machine) -> Any:
    """OLMo 2 of the same shape by ``transformers``. Raises ImportError where that is not installed."""
    from transformers import Olmo2Config, Olmo2ForCausalLM

    shape = Olmo2Config(
        hidden_size=config.width, num_hidden_layers=config.layers, num_attention_heads=config.heads,
        intermediate_size=config.mlp_width, vocab_size=config.vocab_size, max_position_embeddings=config.context,
        pad_token_id=None, eos_token_id=0,
    )  # fmt: skip
    with machine.torch_device:
        return Olmo2ForCausalLM(shape)


def files_folder() -> Path:
    """Where a measurement leaves files of its own; the driver names the folder."""
    folder = Path(os.environ.get("GPU_FILES", "benchmarks/out"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
