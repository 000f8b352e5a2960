"""The authors' post-training settings against plain loops: several updates a draw with KL, dual clip, summed losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from foray.core.objectives import PolicyGradient, Scored
from foray.core.sources import Demonstrations
from foray.core.stage import AdamW, Stage, Stream
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.torch_engine import TorchEngine
from foray.train.checked_draw import drawn
from foray.train.scoring import backward
from test_laws import RL, SFT, assert_close, moved, start, train

# A large epsilon: where gradients are rounding alone, Adam would make steps of their signs.
ADAM = AdamW(lr=4e-3, betas=(0.9, 0.999), weight_decay=0.01, clip=1.0, eps=1e-3)


def copied(model: Transformer) -> Transformer:
    other = Transformer(model.config)
    other.load_state_dict(model.state_dict())
    return other


def logprobs_of(model: Transformer, tokens: Tensor, targets: Tensor) -> Tensor:
    """Without packing. (B, T)"""
    return model.logits(tokens).log_softmax(-1).gather(2, targets[..., None])[..., 0]


def test_four_updates_a_draw_with_kl_and_dual_clip_are_a_plain_loop(
    config: ModelConfig, tokenizer: TextTokenizer
) -> None:
    source = replace(RL.source, prompts=8, validation=0)
    objective = PolicyGradient(kl=1e-3, dual_clip=3.0)
    stream = Stream("rl", replace(source, updates_per_draw=4), objective, ADAM)
    run = start(config, tokenizer)
    run.reference = copied(run.model)
    theirs, first = copied(run.model), copied(run.model)
    ours, log = train(run, Stage("s", ((1.0, stream),), 8))

    no_decay = [p for n, p in theirs.named_parameters() if "embed_tokens" in n]
    decay = [p for n, p in theirs.named_parameters() if "embed_tokens" not in n]
    adam = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}],
        lr=ADAM.lr, betas=(0.9, 0.999), eps=ADAM.eps, foreach=False,
    )  # fmt: skip
    samples = start(config, tokenizer)
    samples.model, samples.engine = theirs, TorchEngine(config, tokenizer, model=theirs)
    whole = replace(stream, source=source)  # one update a draw: all rows at once
    for number in range(2):
        draw, _ = drawn(source, whole, number, samples)
        with torch.no_grad():
            sampled, reference = (logprobs_of(m, draw.tokens, draw.targets) for m in (theirs, first))
        for part in range(4):
            rows = slice(8 * part, 8 * part + 8)  # two prompts of four
            logprobs = logprobs_of(theirs, draw.tokens[rows], draw.targets[rows])
            total, count = logprobs.new_zeros(()), 0
            for b, t in (draw.weight[rows] != 0).nonzero().tolist():
                x, a = logprobs[b, t], float(draw.advantage[rows][b, t])
                ratio = (x - sampled[rows][b, t]).exp()
                surrogate = torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a)
                if a < 0:
                    surrogate = torch.maximum(surrogate, torch.tensor(3.0 * a))
                log_r = reference[rows][b, t] - x
                total, count = total - surrogate + 1e-3 * (log_r.exp() - 1 - log_r), count + 1
            adam.zero_grad()
            (total / count).backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            adam.step()
    assert moved(first.state_dict(), ours) > 5e-3
    assert any(row["rl/clipped"] > 0 for row in log) and all("rl/dual_clipped" in row for row in log)
    assert_close(ours, theirs.state_dict(), 2e-5)


def test_dual_clip_bounds_the_loss_of_negative_advantages() -> None:
    """Ratios up to 20, both signs; the loss and its gradient token by token."""
    ratio = torch.tensor([0.5, 1.0, 1.15, 2.0, 2.9, 3.1, 20.0] * 3)
    advantage = torch.tensor([-1.5] * 7 + [2.0] * 7 + [0.0] * 7)
    logprobs = (ratio.log() - 2).requires_grad_()
    zero = torch.zeros(21)
    scored = Scored(logprobs, zero, advantage, zero - 2, None, zero - 2)
    loss = PolicyGradient(dual_clip=3.0)(scored)
    loss.sum().backward()
    assert logprobs.grad is not None
    for r, a, got, gradient in zip(ratio.tolist(), advantage.tolist(), loss.tolist(), logprobs.grad.tolist()):
        plain = max(-r * a, -min(max(r, 0.8), 1.2) * a)
        bounded = min(plain, -3.0 * a) if a < 0 else plain
        assert got == pytest.approx(bounded, abs=1e-6)
        if a < 0 and r > 3:
            assert gradient == 0 and bounded == 4.5
        elif a < 0 and r > 0.8:
            assert gradient == pytest.approx(-r * a, rel=1e-5)
    found = PolicyGradient(dual_clip=3.0).metrics(scored)
    assert found["dual_clipped"].tolist() == [r > 3 and a < 0 for r, a in zip(ratio.tolist(), advantage.tolist())]
    assert torch.equal(found["clipped"], PolicyGradient().metrics(scored)["clipped"])
    assert set(PolicyGradient().metrics(scored)) == {"clipped"}, "without a bound nothing new is logged"


@pytest.mark.parametrize("value", [-1.0, 0.5, 1.0])
def test_a_dual_clip_that_binds_at_sampling_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="dual_clip must be"):
        PolicyGradient(dual_clip=value)


def test_a_sum_of_losses_has_the_summed_gradient_of_a_plain_loop(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    assert isinstance(SFT.source, Demonstrations)
    stream = replace(SFT, source=replace(SFT.source, normalise="sum"))
    run = start(config, tokenizer)
    batch, logged = drawn(stream.source, stream, 0, run)
    metrics = backward(run.model, stream, batch)
    ours = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    run.model.zero_grad()
    total = torch.zeros(())
    for tokens, targets, weight in zip(batch.tokens, batch.targets, batch.weight):
        logits = run.model.logits(tokens[None])[0]
        for t in weight.nonzero()[:, 0].tolist():
            log_z = logits[t].logsumexp(-1)
            total = total + log_z - logits[t, targets[t]] + 1e-4 * log_z**2
    total.backward()
    plain = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    torch.testing.assert_close(ours, plain, rtol=2e-4, atol=1e-5)
    assert metrics["loss"] == pytest.approx(total.item(), rel=1e-5)
    assert plain.norm() > 5, "a clip at 1 binds"
    mean, _ = drawn(SFT.source, SFT, 0, run)
    assert mean.denominator == logged["tokens"] and batch.denominator == 1
