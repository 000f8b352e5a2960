"""An engine that draws from nearly the trainer's distribution: the gap is measured, and corrected by truncated
weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import Sums, wide
from foray.core.batch import Batch, from_rows
from foray.core.objectives import PolicyGradient
from foray.core.sources import Rollouts
from foray.core.stage import Stream
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.torch_engine import TorchEngine
from foray.study.price.cards import processors
from foray.study.price.work import Work, update_of
from foray.train.checked_draw import drawn
from foray.train.draw import Training
from foray.train.packing import forward_flops
from foray.train.scoring import backward, token_logprobs


class Toy:
    """One prompt and every token of the vocabulary as its completion: expectations over tokens are sums over rows."""

    def __init__(self, config: ModelConfig, tokenizer: TextTokenizer, temperature: float) -> None:
        self.model, self.V = wide(initialize(config, 0)), config.vocab_size
        self.prompt = tokenizer.encode_prompt("Q: 1 + 2 ?")
        self.temperature = temperature
        random = torch.Generator().manual_seed(0)
        self.advantage = torch.randn(self.V, generator=random)
        every = self.batch(torch.ones(self.V), torch.zeros(self.V))
        self.ours = token_logprobs(self.model, every)[:, -1]  # (V,) log-probabilities of the trainer
        self.engines = torch.log_softmax(self.ours + 0.7 * torch.randn(self.V, generator=random), 0)

    def batch(self, weight: torch.Tensor, behaviour: torch.Tensor, **changes: Any) -> Batch:
        """A token has ``weight`` (V,), its probability, so that the loss is an expectation."""
        made = from_rows(
            [self.prompt] * self.V, [[v] for v in range(self.V)], weight.tolist(), 1.0,
            advantage=self.advantage.tolist(), behaviour=[[b] for b in behaviour.tolist()],
            temperature=self.temperature,
        )  # fmt: skip
        return replace(made, **changes)

    def gradient(self, batch: Batch, cap: float) -> tuple[torch.Tensor, dict[str, float]]:
        self.model.zero_grad()
        metrics = backward(self.model, Stream("rl", object(), PolicyGradient(importance_cap=cap)), batch)
        return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]), metrics


@pytest.fixture(params=[1.0, 0.6])
def toy(request: pytest.FixtureRequest, config: ModelConfig, tokenizer: TextTokenizer) -> Toy:
    return Toy(config, tokenizer, request.param)


@pytest.mark.parametrize("kept", [False, True], ids=["pass", "stored"])
def test_weighted_by_importance_the_engines_tokens_give_the_on_policy_gradient(toy: Toy, kept: bool) -> None:
    on_policy, _ = toy.gradient(toy.batch(toy.ours.exp(), toy.ours), 0.0)
    drawn = toy.batch(toy.engines.exp(), toy.engines, on_policy=True)
    if kept:  # as when several updates share a draw
        drawn = toy.batch(toy.engines.exp(), toy.ours, drawn=drawn.behaviour)
    plain, _ = toy.gradient(drawn, 0.0)
    weighted, metrics = toy.gradient(drawn, 1e6)
    torch.testing.assert_close(weighted, on_policy, rtol=1e-4, atol=1e-6)
    assert (plain - on_policy).norm() > 0.1 * on_policy.norm(), "without weights the gradient is another"
    assert metrics["mismatch"] == pytest.approx(float((toy.ours - toy.engines).abs().mean()), rel=1e-4)


def test_the_cap_bounds_the_weight(toy: Toy) -> None:
    """pi_engine x min(pi_trainer / pi_engine, C) = min(pi_trainer, C pi_engine)."""
    for cap in (0.8, 1.5):
        capped, _ = toy.gradient(toy.batch(toy.engines.exp(), toy.engines, on_policy=True), cap)
        by_hand, _ = toy.gradient(toy.batch(toy.ours.exp().minimum(cap * toy.engines.exp()), toy.ours), 0.0)
        torch.testing.assert_close(capped, by_hand, rtol=1e-4, atol=1e-6)


def test_a_negative_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="importance_cap must be >= 0"):
        PolicyGradient(importance_cap=-1.0)


class Elsewhere(TorchEngine):
    """An engine with old weights. Its log-probabilities are true for its own draws, and differ from the trainer's."""

    def sync(self, weights: Any, version: int) -> None:
        self.model.load_state_dict({name: 0.98 * w for name, w in weights.items()})
        self.version = version


@pytest.mark.parametrize("updates", [1, 2])
def test_of_another_programs_rollouts_the_trainer_takes_its_own_ratios(
    config: ModelConfig, tokenizer: TextTokenizer, updates: int
) -> None:
    source = Rollouts(Sums(), 20, prompts=6, group_size=4, max_new_tokens=8, format_reward=0.5, validation=0)
    stream = Stream("rl", replace(source, engine="vllm", updates_per_draw=updates), PolicyGradient())
    model = wide(initialize(config, 5))
    run = Training(0, "stage", tokenizer, model, Elsewhere(config, tokenizer, model=Transformer(config)))
    batch, _ = drawn(stream.source, stream, 0, run)
    batch = replace(batch, advantage=(batch.weight != 0).float())
    metrics = backward(model, stream, batch)
    assert metrics["clipped"] == 0, "the engine's distance is not taken for a change of policy"
    where = batch.weight != 0
    said = batch.behaviour if updates == 1 else batch.drawn
    assert said is not None
    apart = (token_logprobs(model, batch) - said)[where].abs().mean()
    assert metrics["mismatch"] == pytest.approx(float(apart), rel=1e-4) and apart > 1e-3


@pytest.mark.parametrize(
    ("changes", "precision", "passes"),
    [
        ({"updates_per_draw": 2}, "fp32", 0),
        ({"updates_per_draw": 1}, "bf16", 0),
        ({"updates_per_draw": 1, "engine": "vllm"}, "fp32", 0),
        ({"updates_per_draw": 2}, "bf16", 1),
        ({"updates_per_draw": 1, "top_p": 0.9}, "fp32", 0),
        ({"updates_per_draw": 2, "top_p": 0.9}, "fp32", 1),
        ({"updates_per_draw": 3, "engine": "vllm"}, "fp32", 1),
    ],
)
def test_the_ledger_and_the_plan_count_the_pass_that_gives_the_behaviour(
    config: ModelConfig, tokenizer: TextTokenizer, changes: dict[str, Any], precision: Any, passes: int
) -> None:
    source = Rollouts(Sums(), 20, prompts=6, group_size=4, max_new_tokens=8, format_reward=0.5, validation=0)
    stream = Stream("rl", replace(source, **changes), PolicyGradient(), precision=precision)
    model = wide(initialize(config, 5))
    run = Training(0, "stage", tokenizer, model, TorchEngine(config, tokenizer, model=Transformer(config)))
    counter = FlopCounterMode(display=False)
    logged = []
    for step in range(stream.source.updates_per_draw):
        _, metrics = drawn(stream.source, stream, step, run)
        logged.append(metrics.get("flops/behaviour", 0.0))
    assert sum(1 for x in logged if x) == passes and logged[0] == sum(logged), "once a draw, with its first update"
    if passes:
        whole, _ = run.replay["rl"]
        with counter:
            token_logprobs(model, whole, precision)
        products = sum(
            n for op, n in counter.get_flop_counts()["Global"].items() if "mm" in str(op) and "bmm" not in str(op)
        )
        assert 0.5 * logged[0] < products <= logged[0], "the products with weights are most of it"
        assert sum(logged) == forward_flops(config, whole, whole.weight != 0)
    planned, updates = update_of(stream, config).phases, stream.source.updates_per_draw
    assert planned.get("behaviour", 0.0) == pytest.approx(passes * planned["update"] / 3), updates
    card = processors(1e9).card
    assert Work(planned).flops == sum(planned.values()) and card.seconds(planned, 4) > 0
    without = {k: v for k, v in planned.items() if k != "behaviour"}
    assert passes == 0 or card.seconds(planned, 4) > card.seconds(without, 4)
