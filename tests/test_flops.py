"""The ledger's formulas against torch's own count of the executed operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from foray.core.batch import from_rows
from foray.core.objectives import CrossEntropy
from foray.core.stage import Stream
from foray.data.tokenizer import TextTokenizer
from foray.model import flops
from foray.model.config import ModelConfig
from foray.model.transformer import initialize
from foray.rollout.engine import Sampling, sampling_flops
from foray.rollout.torch_engine import TorchEngine
from foray.train.packing import forward_flops
from foray.train.scoring import backward


def counted(counter: FlopCounterMode) -> tuple[float, float]:
    """The FLOPs of products with weights, and the FLOPs of attention."""
    by_name = {str(op): float(n) for op, n in counter.get_flop_counts()["Global"].items()}
    products = sum(n for op, n in by_name.items() if op in ("aten.mm", "aten.addmm"))
    return products, sum(by_name.values()) - products


def without_attention(config: ModelConfig, total: float, pairs: float) -> float:
    return total - flops.forward(config, 0, pairs, 0)


@pytest.mark.usefixtures("only_torch")  # torch counts nothing in C
def test_an_update_costs_what_torch_counts(config: ModelConfig) -> None:
    model, groups, size, prompt, own = initialize(config, 0), 3, 4, 5, 7
    rows = groups * size
    batch = from_rows(
        [[g + 1] * prompt for g in range(groups) for _ in range(size)], [[2] * (own + 1)] * rows, [1.0] * rows, 1.0,
        group_size=size,
    )  # fmt: skip
    counter = FlopCounterMode(display=False)
    with counter:
        work = backward(model, Stream("sft", object(), CrossEntropy()), batch)["flops/update"]
    tokens, scored = groups * prompt + rows * own, rows * (own + 1)
    seen = groups * flops.pairs(0, prompt) + rows * flops.pairs(prompt, prompt + own)
    assert work == pytest.approx(3 * flops.forward(config, tokens, seen, scored))
    products, attention = counted(counter)
    assert products == pytest.approx(without_attention(config, work / 3, seen) * 3)
    # Attention is computed in whole squares, every query against all keys of its block; of its six products torch's
    # counter overlooks the two that add to a tensor in place.
    squares = groups * prompt**2 + rows * own * (prompt + own)
    assert attention == pytest.approx(4 / 6 * 3 * flops.forward(config, 0, squares, 0))
    assert seen <= squares <= 2 * seen


def test_rows_without_a_gradient_are_not_counted(config: ModelConfig) -> None:
    batch = from_rows([[1, 2], [1, 2], [3], [3]], [[4, 5], [6, 7], [8, 9], [8, 9]], [1.0] * 4, 1.0, group_size=2)
    where = batch.weight != 0
    where[2:] = False
    half = from_rows([[1, 2], [1, 2]], [[4, 5], [6, 7]], [1.0] * 2, 1.0, group_size=2)
    assert forward_flops(config, batch, where) == forward_flops(config, half, half.weight != 0) > 0
    assert forward_flops(config, batch, torch.zeros_like(where)) == 0


def test_sampling_costs_what_torch_counts(
    config: ModelConfig, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foray.rollout.cascade.available", lambda like: False)  # torch does not count what is in C
    tokenizer = TextTokenizer(tokenizer.tokenizer)
    tokenizer.end_id = -1  # nobody stops early
    config = replace(config, vocab_size=max(config.vocab_size, tokenizer.vocab_size))
    engine = TorchEngine(config, tokenizer, model=initialize(config, 0))
    prompts = [[7] * 20 + [i, i + 1, i + 2] for i in range(3)]
    counter = FlopCounterMode(display=False)
    with counter:
        groups = engine.generate(prompts, 4, Sampling(1.0, 9), range(3))
    work = sampling_flops(config, prompts, [[len(c.tokens) for c in g] for g in groups])
    seen = flops.pairs(0, 20) + 3 * flops.pairs(20, 23) + 12 * flops.pairs(23, 31)
    total = work["flops/prefill"] + work["flops/decode"]
    assert total == pytest.approx(flops.forward(config, 20 + 9 + 12 * 8, seen, 3 + 12 * 8))
    products, attention = counted(counter)
    assert products == pytest.approx(without_attention(config, total, seen))
    assert flops.forward(config, 0, seen, 0) <= attention <= 1.6 * flops.forward(config, 0, seen, 0)
