"""Foray on one GPU: pre-training, decoding and a GRPO step of OLMo 2 1B beside ``transformers`` and the limits.

    python benchmarks/gpu.py [PART ...] [--shape 1b] [--out FILE]

Parts: pretrain, decode, grpo. Weights and tokens are random. MFU is the ledger's FLOPs (``foray.model.flops``:
attention included, embeddings not; three times the forward pass) over time, over the datasheet's bf16 peak and over the
rate that plain products of the same run reach. The bandwidth limit of decoding is the bytes that every step must read
(matrices in bf16 once; keys and values of each prompt once for its group and of each row's own tokens) over the rate at
which a large block is read. On a CPU, with ``--shape tiny``, it shows that the program runs, and no more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from parts import Noise
from tokenizers import Tokenizer, models
from torch import nn

from foray.core.batch import from_rows
from foray.core.machine import Machine, free_memory
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.stage import AdamW, Stage, Stream
from foray.data.tokenizer import END, TextTokenizer
from foray.model import flops
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.engine import Sampling
from foray.rollout.paged_engine import PagedEngine
from foray.train.activations import activation_bytes
from foray.train.draw import Training
from foray.train.loop import Moments, run_stage
from foray.train.scoring import backward, token_logprobs
from foray.train.sharding import blank

PEAK = 989e12  # bf16, dense: NVIDIA's datasheets of the H100 SXM and the H200


@dataclass(frozen=True)
class Shape:
    """A model, and how much work each part does with it."""

    model: ModelConfig
    length: int  # of pre-training sequences
    sequences: int  # an update
    prompt: int
    new: int
    rows: tuple[int, ...]  # decoded at once
    square: int  # of the matrices whose product is the measured peak


SHAPES = {
    "1b": Shape(
        ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100_352, context=4096),
        4096, 16, 512, 512, (64, 256, 512), 8192,
    ),
    "tiny": Shape(
        ModelConfig(width=64, layers=2, heads=2, mlp_width=128, vocab_size=512, context=256),
        64, 4, 32, 32, (8, 16), 256,
    ),
}  # fmt: skip


def timed(run: Callable[[], Any], repeats: int = 5, warm: int = 2) -> float:
    """Median seconds, the device's work included."""
    seconds = []
    for i in range(warm + repeats):
        settle()
        begun = time.perf_counter()
        run()
        settle()
        if i >= warm:
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rates(shape: Shape, machine: Machine) -> dict[str, float]:
    """FLOP/s of plain bf16 products, bytes/s of reading, as this card has them."""
    n, device = shape.square, machine.torch_device
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    block = torch.zeros(n * n * 16, dtype=torch.bfloat16, device=device)
    product, read = timed(lambda: a @ b, 20), timed(lambda: block.sum(dtype=torch.float32), 20)
    return {"products_per_s": 2 * n**3 / product, "bytes_per_s": block.numel() * 2 / read}


def pretrain(shape: Shape, machine: Machine, limits: dict[str, float]) -> dict[str, Any]:
    """Updates of the one training loop, then the plain loop of ``transformers``."""
    tokens = shape.sequences * shape.length
    work = 3 * shape.sequences * flops.forward(shape.model, shape.length, flops.pairs(0, shape.length), shape.length)

    def row(seconds: float) -> dict[str, float]:
        rate = work / seconds
        of_own = rate / limits["products_per_s"]
        return {"seconds": seconds, "tokens_per_s": tokens / seconds, "mfu": rate / PEAK, "of_measured_peak": of_own}

    stream = Stream("pretrain", Noise(shape.sequences, shape.length), CrossEntropy(z_loss=1e-5), AdamW(1e-4), "bf16")
    stage, seconds = Stage("pretrain", ((1.0, stream),), 7), list[float]()
    model = noisy_model(shape.model, machine)
    run = Training(0, "pretrain", words(), model, None)
    moments = {"pretrain": Moments(model, stream.optimizer)}
    run_stage(stage, run, moments, 0, 7, lambda step, m: seconds.append(m["seconds"]))
    out: dict[str, Any] = {"foray": row(statistics.median(seconds[2:])) | {"compiling_s": seconds[0]}}
    del model, run, moments
    free_memory()
    theirs = plain_loop(shape, machine)
    out["transformers"] = row(theirs) if theirs else "not installed"
    return out


def plain_loop(shape: Shape, machine: Machine) -> float | None:
    """Seconds an update: autocast, SDPA, fused AdamW, the largest power of two of sequences that fits."""
    model = transformers_model(shape.model, machine)
    if model is None:
        return None
    model = model.float().train()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    at_once = shape.sequences

    def update() -> None:
        adam.zero_grad()
        for _ in range(shape.sequences // at_once):
            rows = torch.randint(1, shape.model.vocab_size, (at_once, shape.length), device=machine.torch_device)
            with torch.autocast(machine.device, torch.bfloat16):
                loss = model(input_ids=rows, labels=rows, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()

    while True:
        try:
            update()
            return timed(update, 3, 1)
        except torch.cuda.OutOfMemoryError:
            if at_once == 1:
                return None
            at_once //= 2
            adam.zero_grad()
            torch.cuda.empty_cache()


def decode(shape: Shape, machine: Machine, limits: dict[str, float]) -> dict[str, Any]:
    """New tokens a second of groups of eight, prompts read first and apart, beside ``generate()``."""
    model = noisy_model(shape.model, machine)
    sampling, none = Sampling(1.0, shape.new, precision="bf16"), words()
    reading = replace(sampling, max_new_tokens=1)
    out: dict[str, Any] = {}
    for rows in shape.rows:
        engine = PagedEngine(model, none, slots=rows)
        prompts = torch.randint(1, shape.model.vocab_size, (rows // 8, shape.prompt)).tolist()
        seeds = range(len(prompts))
        whole = timed(lambda e=engine, p=prompts, s=seeds: e.generate(p, 8, sampling, s), 3, 1)
        first = timed(lambda e=engine, p=prompts, s=seeds: e.generate(p, 8, reading, s), 3, 1)
        least = (shape.new - 1) * step_bytes(shape, rows) / limits["bytes_per_s"]
        made = rows * (shape.new - 1)
        out[str(rows)] = {
            "seconds": whole, "reading_s": first, "tokens_per_s": made / (whole - first),
            "of_bandwidth_limit": least / (whole - first),
        }  # fmt: skip
        del engine
    theirs = transformers_model(shape.model, machine)
    if theirs is not None:
        theirs = theirs.to(torch.bfloat16).eval()
        ids = torch.randint(1, shape.model.vocab_size, (shape.rows[0], shape.prompt), device=machine.torch_device)
        options = {"do_sample": True, "top_k": 0, "min_new_tokens": shape.new, "max_new_tokens": shape.new}
        options |= {"cache_implementation": "static", "disable_compile": True, "pad_token_id": 0}
        least = {"min_new_tokens": 1, "max_new_tokens": 1}
        whole, first = (
            timed(lambda o=o: theirs.generate(ids, attention_mask=torch.ones_like(ids), **options | o), 1, 1)
            for o in ({}, least)
        )
        made = ids.shape[0] * (shape.new - 1)
        out["generate"] = {
            "rows": shape.rows[0], "seconds": whole, "reading_s": first, "tokens_per_s": made / (whole - first),
        }  # fmt: skip
    return out


def step_bytes(shape: Shape, rows: int) -> float:
    """Bytes that a decoding step must read, at the mean length."""
    m = shape.model
    weights = m.layers * m.layer_matrices + m.vocab_size * m.width
    position = 2 * m.layers * m.groups * m.head_dim
    return 2.0 * (weights + position * (rows / 8 * shape.prompt + rows * shape.new / 2))


def grpo(shape: Shape, machine: Machine, limits: dict[str, float]) -> dict[str, float]:
    """Where the time of an update goes, and the gap between the engine's log-probabilities and the trainer's."""
    model = noisy_model(shape.model, machine)
    rows, stream = shape.rows[-1], Stream("rl", None, PolicyGradient(), AdamW(1e-6), "bf16")
    moments = Moments(model, stream.optimizer)
    reserve = 12.0 * shape.model.parameters + activation_bytes(shape.model, model.machine.microbatch_tokens, 2)
    engine = PagedEngine(model, words(), slots=rows, reserve=reserve)
    prompts = torch.randint(1, shape.model.vocab_size, (rows // 8, shape.prompt)).tolist()
    parts: dict[str, list[float]] = {"rollout": [], "forward": [], "forward_backward": [], "optimizer": [], "whole": []}
    gap = 0.0
    for step in range(3):
        settle()
        begun = last = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal last
            settle()
            now = time.perf_counter()
            parts[name].append(now - last)
            last = now

        engine.sync(model.state_dict(), step)
        flat = [
            c
            for g in engine.generate(prompts, 8, Sampling(1.0, shape.new, precision="bf16"), range(len(prompts)))
            for c in g
        ]
        lap("rollout")
        batch = from_rows(
            [p for p in prompts for _ in range(8)], [c.tokens for c in flat], [1.0] * rows, float(rows * shape.new),
            advantage=torch.randn(rows).tolist(), behaviour=[c.logprobs for c in flat], group_size=8,
        )  # fmt: skip
        last = time.perf_counter()  # laying out the batch is what is left of the whole
        logprobs = token_logprobs(model, batch, "bf16")
        lap("forward")
        gap = float((logprobs - batch.behaviour)[batch.weight != 0].abs().mean())
        last = time.perf_counter()
        backward(model, stream, replace(batch, on_policy=True))
        lap("forward_backward")
        moments.step({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, 1e-6)
        lap("optimizer")
        model.zero_grad(set_to_none=True)
        parts["whole"].append(time.perf_counter() - begun - parts["forward"][-1])  # that pass is for the gap alone
    out = {name: statistics.median(seconds[1:]) for name, seconds in parts.items()}
    out["backward"] = out.pop("forward_backward") - out["forward"]
    named = ("rollout", "forward", "backward", "optimizer")
    out["overhead"] = out["whole"] - sum(out[name] for name in named)
    # Rows decoded at once are fewer than wanted where training leaves too little memory.
    return out | {"rows": rows, "slots": engine.slots("bf16"), "mean_logprob_gap_bf16": gap}


def words() -> TextTokenizer:
    """A tokenizer of one token a word, whose end token is all but never drawn."""
    return TextTokenizer(Tokenizer(models.WordLevel({END: 0, "t": 1}, unk_token="t")))


def noisy_model(config: ModelConfig, machine: Machine) -> Transformer:
    """Random weights, drawn where they are used: ``initialise`` draws a billion of them on the CPU."""
    model = blank(config, machine)
    for p in model.parameters():
        nn.init.normal_(p, std=0.02) if p.dim() > 1 else nn.init.ones_(p)
    return model


def transformers_model(config: ModelConfig, machine: Machine) -> Any:
    try:
        from transformers import Olmo2Config, Olmo2ForCausalLM
    except ImportError:
        return None
    shape = Olmo2Config(
        hidden_size=config.width, num_hidden_layers=config.layers, num_attention_heads=config.heads,
        intermediate_size=config.mlp_width, vocab_size=config.vocab_size, max_position_embeddings=config.context,
        pad_token_id=None, eos_token_id=0,
    )  # fmt: skip
    with machine.torch_device:
        return Olmo2ForCausalLM(shape)


PARTS: dict[str, Callable[..., Any]] = {"pretrain": pretrain, "decode": decode, "grpo": grpo}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    machine, shape = Machine("auto").found(), SHAPES[args.shape]
    torch.set_float32_matmul_precision("highest")
    name = torch.cuda.get_device_name() if machine.device == "cuda" else "CPU"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "machine": str(machine)}
    found["rates"] = rates(shape, machine)
    for part in args.parts or PARTS:
        try:
            found[part] = PARTS[part](shape, machine, found["rates"])
        except Exception as e:  # what the other parts measure is not lost
            found[part] = f"failed: {type(e).__name__}: {e}"
        print(json.dumps({part: found[part]}, indent=1), flush=True)
        if args.out:
            args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        free_memory()
    print(json.dumps({k: found[k] for k in ("device", "torch", "machine", "rates")}, indent=1))
    if any(isinstance(value, str) for part, value in found.items() if part in PARTS):
        sys.exit(1)


if __name__ == "__main__":
    main()
