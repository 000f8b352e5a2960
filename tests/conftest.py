"""Common parts of several tests: a small tokenizer, a small model, a task without a world."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # workers inherit the setting: results are equal at the same thread count
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from foray.core.task import Extraction, Problem, Split, Verdict
from foray.data.tokenizer import TextTokenizer, train_tokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts a background command with SIGINT ignored


@dataclass(frozen=True)
class Sums:
    """Adding two digits: the smallest task with all methods of a task."""

    name: str = "sums"
    stop: tuple[str, ...] = ("\n\n",)

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        offset = {"train": 0, "validation": 1, "test": 2}[split]
        pairs = [(a, b) for a in range(10) for b in range(10) if (a * 10 + b) % 3 == offset][:count]
        return [
            Problem(f"{split}-{a}+{b}", f"{a} + {b} ?", str(a + b), (f"{a + b}", f"{a} and {b} make {a + b}"))
            for a, b in pairs
        ]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        shown = "".join(f"Q: {p.question}\nA:{self.target(p.solutions[0])}\n\n" for p in examples)
        return f"{shown}Q: {question}\nA:"

    def target(self, solution: str) -> str:
        return f" {solution}"

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        words = completion.split()
        said = words[-1] if words else ""
        return Verdict(float(said == problem.answer), said.isascii() and said.isdigit(), said[:20])


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    texts = [f"Q: {a} + {b} ?\nA: {a} and {b} make {a + b}\n\n" for a in range(10) for b in range(10)]
    return train_tokenizer(texts, 320)


@pytest.fixture(scope="session")
def config(tokenizer: TextTokenizer) -> ModelConfig:
    return ModelConfig(width=32, layers=2, heads=2, mlp_width=48, vocab_size=tokenizer.vocab_size, context=128)


@pytest.fixture
def model(config: ModelConfig) -> Transformer:
    return initialize(config, seed=0)


def figures(*names: str) -> Callable[[], list[Any]]:
    """Replaces the report's ``discover``: drawing takes most of a small study's time."""
    from foray.report.figures import discover

    chosen = [f for f in discover() if f.NAME in names]
    return lambda: chosen


@pytest.fixture
def draw_only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``draw_only("f2_passk")`` leaves all other figures out of reports."""
    return lambda *names: monkeypatch.setattr("foray.report.discover", figures(*names))


def wide(model: Transformer, scale: float = 8.0) -> Transformer:
    """The model with larger weights, so that its distribution is far from uniform."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(scale)
    return model


def plainly_truncated(
    p: Sequence[float], top_p: float = 1.0, top_k: int = 0, min_p: float = 0.0, equal: float = 0.0
) -> dict[int, float]:
    """The tokens of a distribution that truncated sampling keeps, by plain loops, and their probabilities.

    ``equal``: the share by which equally likely tokens may differ.
    """
    left = {i: x for i, x in enumerate(p) if x >= min_p * max(p)}
    if top_k:
        least = sorted(left.values())[-min(top_k, len(left))]
        left = {i: x for i, x in left.items() if x >= least}
    kept: dict[int, float] = {}
    whole, share, last = sum(left.values()), 0.0, 0.0
    for i, x in sorted(left.items(), key=lambda entry: -entry[1]):
        if top_p == 1 or share < top_p * whole or x >= last * (1 - equal):
            kept[i], share, last = x, share + x, x
    return {i: x / share for i, x in kept.items()}


@pytest.fixture
def only_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's operations and the draw of tokens by torch, as where nothing can be compiled."""
    from foray.model import attention_in_c, layer_in_c
    from foray.rollout import draw_in_c

    for module in (attention_in_c, layer_in_c, draw_in_c):
        monkeypatch.setattr(module, "available", lambda *_: False)
