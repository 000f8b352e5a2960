"""A whole GRPO step on a GPU, the training loop's own, and where its time goes.

Clocks stand around what the loop calls, each waiting for the card before and behind. What they leave of the step is
overhead: grading, laying out batches, logging. Idle is the share of the step in which the card has no kernel.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from gpu_parts import Found, Shape, largest_that_fits, machine_for, memory_peak, noisy_model, settle, tokenizer_of
from gpu_profile import busy, device_profile, idle
from parts import Endless, Words

from foray.core.machine import Machine
from foray.core.objectives import PolicyGradient
from foray.core.sources import Rollouts
from foray.core.stage import AdamW, Stage, Stream
from foray.rollout.paged_engine import PagedEngine
from foray.train import loop, rollouts
from foray.train.activations import activation_bytes
from foray.train.draw import Training
from foray.train.loop import Moments, run_stage

STEPS = 3  # the first, which compiles, does not count
CLOCKS = ("rollout", "scoring", "backward", "optimizer")
LARGE = 100e9  # bytes; a card with less begins at half the microbatch, so that keys and values have room


class Clock:
    """Seconds by name, of functions that it is put around."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            settle()
            begun = time.perf_counter()
            try:
                return f(*arguments, **named)
            finally:
                settle()
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

        return run

    @contextmanager
    def of(self, engine: Any) -> Iterator[None]:
        """In the context, it stands around what a step calls."""
        with (
            patch.object(engine, "generate", self.around("rollout", engine.generate)),
            patch.object(engine, "sync", self.around("rollout", engine.sync)),
            patch.object(rollouts, "token_logprobs", self.around("scoring", rollouts.token_logprobs)),
            patch.object(loop, "backward", self.around("backward", loop.backward)),
            patch.object(loop, "clip_gradients", self.around("optimizer", loop.clip_gradients)),
            patch.object(loop, "apply_proposals", self.around("optimizer", loop.apply_proposals)),
            patch.object(rollouts, "_mark", self.around("grading", rollouts._mark)),
        ):
            yield


def engine_of(shape: Shape, model: Any, rows: int, machine: Machine) -> Any:
    """The engine as a study opens it, with the memory that training is still to take left free."""
    reserve = activation_bytes(shape.model, machine.microbatch_tokens, 2, machine.recompute)
    reserve += 12.0 * shape.model.parameters
    return Endless(PagedEngine(model, tokenizer_of(shape), slots=rows, page=shape.page, reserve=reserve))


def steps_of(shape: Shape, prompts: int, group: int, machine: Machine) -> tuple[Any, Callable[[], dict[str, float]]]:
    """The engine, and a function that makes one step and returns what the step logged."""
    model, reference = (noisy_model(shape.model, machine) for _ in range(2))
    engine = engine_of(shape, model, prompts * group, machine)
    texts = torch.randint(1, shape.model.vocab_size, (prompts, shape.prompt - 1)).tolist()
    task = Words(tuple(map(tuple, texts)))
    source = Rollouts(
        task, questions=prompts, prompts=prompts, group_size=group, max_new_tokens=shape.new, format_reward=0.0,
        validation=0,
    )  # fmt: skip
    stream = Stream("rl", source, PolicyGradient(), AdamW(lr=1e-6), precision="bf16")
    run = Training(0, "rl", tokenizer_of(shape), model, engine, reference.eval())
    stage, moments = Stage("rl", ((1.0, stream),), 1000), {"rl": Moments(model, stream.optimizer)}
    logged: list[dict[str, float]] = []

    def step() -> dict[str, float]:
        run_stage(stage, run, moments, len(logged), len(logged) + 1, lambda _, values: logged.append(values))
        return logged[-1]

    return engine, step


def grpo(shape: Shape, found: Found, prompts: int, group: int, recompute: bool = False) -> None:
    """Steps of ``prompts`` x ``group`` rows; the median of each part, in seconds and as a share of the step."""
    small = torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory < LARGE
    sizes = shape.microbatches[1:] if small and not recompute else shape.microbatches

    def measured(microbatch: int) -> None:
        machine = machine_for(microbatch_tokens=microbatch, recompute=recompute)
        engine, step = steps_of(shape, prompts, group, machine)
        parts: dict[str, list[float]] = {}
        for number in range(STEPS):
            clock = Clock()
            with clock.of(engine):
                settle()
                begun = time.perf_counter()
                logged = step()
                settle()
                clock.seconds["whole"] = time.perf_counter() - begun
            print(number, clock.seconds, flush=True)
            for name, seconds in clock.seconds.items():
                parts.setdefault(name, []).append(seconds)
            if number:
                found.put(microbatch_tokens=microbatch, rows=prompts * group, **_split(parts), **_told(logged))
                found.put(slots=engine.engine.slots("bf16"), **memory_peak())
        with device_profile() as profiler:
            settle()
            begun = time.perf_counter()
            step()
            settle()
            profiled = time.perf_counter() - begun
        what, whole = busy(profiler), found.values["whole_s"]
        found.put(**idle(what, whole), profile={"profiled_s": profiled, **what})

    largest_that_fits(measured, sizes)


def _split(parts: dict[str, list[float]]) -> dict[str, Any]:
    middle = {name: statistics.median(seconds[1:]) for name, seconds in parts.items()}
    whole = middle.pop("whole")
    named = {name: middle.get(name, 0.0) for name in CLOCKS}
    named["overhead"] = whole - sum(named.values())
    return {
        "whole_s": whole,
        "seconds": named,
        "grading_s": middle.get("grading", 0.0),
        "shares": {name: seconds / whole for name, seconds in named.items()},
        "share_neither_sampling_nor_gradients": 1 - (named["rollout"] + named["backward"]) / whole,
    }


def _told(logged: dict[str, float]) -> dict[str, float]:
    names = ("rl/mismatch", "rl/tokens", "rl/signal", "rl/kl", "rl/flops/update", "rl/flops/decode")
    return {name: logged[name] for name in names if name in logged}


def scoring(shape: Shape, found: Found, rows: int) -> None:
    """A pass that scores a whole draw, which a step with several updates a draw makes, beside forward and backward."""
    from foray.core.batch import from_rows
    from foray.train.scoring import backward, token_logprobs

    def measured(microbatch: int) -> dict[str, float]:
        model = noisy_model(shape.model, machine_for(microbatch_tokens=microbatch))
        prompts = torch.randint(1, shape.model.vocab_size, (rows // 8, shape.prompt)).tolist()
        texts = torch.randint(1, shape.model.vocab_size, (rows, shape.new)).tolist()
        batch = from_rows(
            [p for p in prompts for _ in range(8)], texts, [1.0] * rows, float(rows * shape.new),
            advantage=torch.randn(rows).tolist(), behaviour=[[-11.0] * shape.new] * rows, group_size=8,
        )  # fmt: skip
        stream = Stream("rl", object(), PolicyGradient(), AdamW(lr=1e-6), precision="bf16")
        forward, both = Clock(), Clock()
        for _ in range(3):
            forward.seconds, both.seconds = {}, {}
            forward.around("s", token_logprobs)(model, batch, "bf16")
            both.around("s", backward)(model, stream, replace(batch, on_policy=True))
        return {"scoring_s": forward.seconds["s"], "forward_and_backward_s": both.seconds["s"]}

    microbatch, values = largest_that_fits(measured, shape.microbatches)
    found.put(microbatch_tokens=microbatch, rows=rows, **values, **memory_peak())
