"""Decoding on a GPU: new tokens a second of Foray's two engines and of ``generate()``, against the bandwidth.

The roofline is the bytes that every step must read (matrices in bf16 once; keys and values of each prompt once for its
group of eight, and of each row's own tokens) over the rate at which the card reads a large block. Beside it stands the
roofline of an engine that reads a prompt for every row of its group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from gpu_parts import (
    Found,
    Shape,
    largest_that_fits,
    machine_for,
    memory_peak,
    noisy_model,
    timed,
    tokenizer_of,
    transformers_model,
)
from gpu_profile import busy, device_profile, idle

from foray.core.machine import free_memory
from foray.rollout.engine import Sampling
from foray.rollout.graph_decoder import decoding_model
from foray.rollout.paged_engine import PagedEngine
from foray.rollout.torch_engine import TorchEngine

GROUP = 8


def step_bytes(shape: Shape, rows: int, group: int = GROUP) -> float:
    """Bytes that a decoding step reads, at the mean length. ``group``: rows that a prompt is read once for."""
    m = shape.model
    weights = m.layers * m.layer_matrices + m.vocab_size * m.width
    position = 2 * m.layers * m.groups * m.head_dim
    return 2.0 * (weights + position * (rows / group * shape.prompt + rows * shape.new / 2))


def row(shape: Shape, rows: int, whole: float, reading: float, limits: dict[str, float]) -> dict[str, float]:
    """What ``rows`` come to. ``reading``: seconds of the same call for one new token."""
    steps, seconds = shape.new - 1, whole - reading
    least, each = (steps * step_bytes(shape, rows, g) / limits["bytes_per_s"] for g in (GROUP, 1))
    return {
        "seconds": whole,
        "reading_s": reading,
        "tokens_per_s": rows * steps / seconds,
        "step_ms": 1e3 * seconds / steps,
        "share_of_roofline": least / seconds,
        "share_of_roofline_reading_prompts_for_each_row": each / seconds,
    }


def _engine(name: str, shape: Shape, rows: int) -> Any:
    model = noisy_model(shape.model, machine_for())
    if name == "paged":
        return PagedEngine(model, tokenizer_of(shape), slots=rows, page=shape.page)
    # With bf16 copies of the matrices, as the paged engine has them: autocast would cast fp32 weights at every step.
    return TorchEngine(shape.model, tokenizer_of(shape), model=decoding_model(model, "bf16"), max_rows=rows)


def foray(name: str, shape: Shape, limits: dict[str, float], found: Found) -> None:
    """An engine at every number of rows, the largest first: prompts are read, then ``new`` tokens decoded."""
    for rows in shape.rows:
        _at(rows, name, shape, limits, found)
        free_memory()
        torch._dynamo.reset()  # or the next number of rows would make compiled code take any number


def _at(rows: int, name: str, shape: Shape, limits: dict[str, float], found: Found) -> None:
    sampling = Sampling(1.0, shape.new, precision="bf16")
    engine = _engine(name, shape, rows)
    prompts = torch.randint(1, shape.model.vocab_size, (rows // GROUP, shape.prompt)).tolist()

    def run(asked: Sampling) -> None:
        made = engine.generate(prompts, GROUP, asked, list(range(len(prompts))))
        short = sum(len(c.tokens) < asked.max_new_tokens for g in made for c in g)
        assert short <= rows // 10 + 2, f"{short} of {rows} rows ended early"

    first = timed(lambda: run(sampling), 1, 0)
    whole = timed(lambda: run(sampling), 2, 0, 20.0)
    reading = timed(lambda: run(replace(sampling, max_new_tokens=1)), 2, 1, 10.0)
    values = row(shape, rows, whole, reading, limits) | {"first_call_s": first} | memory_peak()
    found.put(**{str(rows): values})
    print(rows, values, flush=True)
    if rows == shape.rows[0]:
        found.put(**{f"profile at {rows}": _profile(shape, run)})
        few = replace(sampling, max_new_tokens=max(2, shape.new // 4))
        of_few = {f"top_p={share}": _seconds_of(run, replace(few, top_p=share)) for share in (1.0, 0.95)}
        found.put(**{f"truncated sampling at {rows}": of_few})


def _seconds_of(run: Callable[[Sampling], None], sampling: Sampling) -> float:
    """The second call: the first one records the step."""
    return timed(lambda: run(sampling), 1, 1)


def _profile(shape: Shape, run: Callable[[Sampling], None]) -> dict[str, Any]:
    """Kinds of kernels of one call with a quarter of the tokens, which a profiler holds."""
    few = Sampling(1.0, max(2, shape.new // 4), precision="bf16")
    plain = timed(lambda: run(few), 1, 1)
    with device_profile() as profiler:
        run(few)
    what = busy(profiler)
    return {"seconds": plain, **idle(what, plain), **what}


def generate(shape: Shape, limits: dict[str, float], found: Found) -> None:
    """``transformers``' own, with a static cache and sampling from the whole distribution; it shares no prompts."""
    machine = machine_for()
    model = transformers_model(shape.model, machine).to(torch.bfloat16).eval()
    options: dict[str, Any] = {"do_sample": True, "top_k": 0, "top_p": 1.0, "pad_token_id": 0, "disable_compile": True}
    options |= {"cache_implementation": "static"}

    def tokens(rows: int, new: int) -> None:
        ids = torch.randint(1, shape.model.vocab_size, (rows, shape.prompt), device=machine.torch_device)
        model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=new, max_new_tokens=new, **options)

    def measured(rows: int) -> dict[str, float]:
        tokens(rows, 2)
        reading = timed(lambda: tokens(rows, 1), 1, 0)
        return row(shape, rows, timed(lambda: tokens(rows, shape.new), 1, 0), reading, limits)

    for rows in reversed(shape.rows):  # the smallest first: what fits the limit of time is kept
        fits, values = largest_that_fits(measured, [rows, rows // 2])
        found.put(**{str(rows): values | {"rows_that_fit": fits} | memory_peak()})
        print(rows, values, flush=True)
        if fits < rows:
            break
