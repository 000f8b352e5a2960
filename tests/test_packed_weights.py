"""Weights laid out for bf16 decoding on a CPU: the same samples, and a model that is as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from foray.core.lora import LoRA
from foray.data.tokenizer import TextTokenizer
from foray.model.adapters import adapted
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout import packed_weights
from foray.rollout.engine import Sampling
from foray.rollout.packed_weights import packed_weights as packed
from foray.rollout.torch_engine import TorchEngine

SHAPE = ModelConfig(
    width=96, layers=2, heads=3, mlp_width=256, vocab_size=512, context=128, norm="pre", qk_norm="none", qkv_bias=True
)  # fmt: skip
BF16 = Sampling(1.0, 16, precision="bf16")


@pytest.fixture
def model() -> Transformer:
    return initialize(SHAPE, 1)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many products took a laid-out weight."""
    calls = []
    product = packed_weights._product
    monkeypatch.setattr(packed_weights, "_product", lambda *args: calls.append(1) or product(*args))
    return lambda: len(calls)


def test_samples_are_those_of_plain_products(
    model: Transformer, tokenizer: TextTokenizer, replaced: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TorchEngine(SHAPE, tokenizer, model=model)
    prompts = [[5, 9, 40, 7 + i] for i in range(6)]
    ours = engine.generate(prompts, 8, BF16, range(6))
    if hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        assert replaced() > 0
    monkeypatch.setattr(packed_weights, "_MOST_ROWS", 0)
    before = replaced()
    plain = engine.generate(prompts, 8, BF16, range(6))
    assert replaced() == before
    assert [[c.tokens for c in g] for g in ours] == [[c.tokens for c in g] for g in plain]
    for a, b in zip((c for g in ours for c in g), (c for g in plain for c in g), strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=0.05)


def test_new_weights_are_those_that_are_sampled_with(
    model: Transformer, tokenizer: TextTokenizer, replaced: Callable[[], int]
) -> None:
    engine, other = TorchEngine(SHAPE, tokenizer), initialize(SHAPE, 2)
    engine.sync(model.state_dict(), 0)
    first = engine.generate([[5, 9, 40]], 8, BF16, [0])
    engine.sync(other.state_dict(), 1)
    second = engine.generate([[5, 9, 40]], 8, BF16, [0])
    fresh = TorchEngine(SHAPE, tokenizer, model=other).generate([[5, 9, 40]], 8, BF16, [0])
    assert [c.tokens for c in second[0]] == [c.tokens for c in fresh[0]] != [c.tokens for c in first[0]]


def test_a_model_is_as_it_was_after_an_error_too(model: Transformer) -> None:
    with (
        pytest.raises(RuntimeError, match="inside"),
        torch.no_grad(),
        torch.autocast("cpu", torch.bfloat16),
        packed(model, 48, 64),
    ):
        raise RuntimeError("inside")
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize(
    ("rows", "steps", "autocast"),
    [(48, 64, False), (48, 4, True), (1024, 64, True)],
    ids=["fp32", "few steps", "many rows"],
)
def test_nothing_happens_where_it_does_not_pay(model: Transformer, rows: int, steps: int, autocast: bool) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast), packed(model, rows, steps):
        assert not any("forward" in module.__dict__ for module in model.modules())


def test_products_with_adapters_stay_as_they_are(model: Transformer) -> None:
    with_adapters = adapted(model, LoRA(rank=2), 0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), packed(with_adapters, 48, 64):
        own = [m for m in with_adapters.modules() if isinstance(m, nn.Linear) and type(m) is not nn.Linear]
        assert own and not any("forward" in m.__dict__ for m in own)
