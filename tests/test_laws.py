"""The laws of CONTRIBUTING.md: what the training loop promises for all streams. (Law 3 on many ranks: test_ranks.py)"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import Sums, wide
from foray.core.batch import Batch
from foray.core.objectives import CrossEntropy, PolicyGradient, Scored, group_advantages, kl_k3
from foray.core.schedules import Follow, Ramp, Shift, Turns
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import AdamW, Joint, Plateau, Stage, Stream
from foray.data.corpus import Shard
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.torch_engine import TorchEngine
from foray.train.checked_draw import drawn
from foray.train.checkpoint import load_state, save_checkpoint, save_state
from foray.train.draw import Training
from foray.train.loop import Metrics, Moments, TrainingStopped, run_stage
from foray.train.scoring import backward, token_logprobs
from foray.train.supervised import demonstrations

ADAM = AdamW(lr=3e-3, weight_decay=0.1, clip=0.5, warmup=0.3, schedule="cosine")
SFT = Stream("sft", Demonstrations(Sums(), 20, batch_size=6), CrossEntropy(z_loss=1e-4), ADAM)
RL = Stream(
    "rl",
    Rollouts(Sums(), 20, prompts=6, group_size=4, max_new_tokens=8, format_reward=0.5),
    PolicyGradient(),
    replace(ADAM, lr=2e-3),
)
TWICE = replace(RL, source=replace(RL.source, updates_per_draw=2))
CUT = replace(RL, source=replace(RL.source, top_p=0.7))
TEXT = Stream("text", Corpus(((1.0, SimpleNamespace(name="x")),), batch_size=2, length=30), CrossEntropy(), ADAM)


def start(config: ModelConfig, tokenizer: TextTokenizer, seed: int = 0, scale: float = 8.0) -> Training:
    model = wide(initialize(config, 5), scale)
    # Numbers and the end are made likely after a prompt, so that groups of rollouts carry a signal and lengths differ.
    prompts = [tokenizer.encode_prompt(Sums().prompt(p.question)) for p in Sums().problems("train", 20)]
    with torch.no_grad():
        hidden = torch.stack([model(torch.tensor([p]))[0, -1] for p in prompts]).mean(0)
        push = hidden / hidden.square().sum()
        model.lm_head.weight[tokenizer.end_id] += 6 * push
        for number in range(10):
            model.lm_head.weight[tokenizer.encode(f" {number}")[-1]] += 5 * push
    return Training(seed, "stage", tokenizer, model, TorchEngine(config, tokenizer, model=model))


def with_text(run: Training, folder: Path) -> Training:
    """The run with the one text source of ``TEXT``."""
    text = [run.tokenizer.encode(f"Q: {i} + {i} ?\nA: {2 * i}") for i in range(9)]
    flat = np.array([t for ids in text for t in (run.tokenizer.end_id, *ids)], dtype=np.uint16)
    flat.tofile(folder / "tokens.bin")
    meta = {"source": "x", "split": "train", "tokens": len(flat), "dtype": "uint16"}
    (folder / "meta.json").write_text(json.dumps(meta))
    run.shards = {"x": Shard(folder)}
    return run


def train(run: Training, stage: Stage, until: int | None = None) -> tuple[dict[str, torch.Tensor], list[Metrics]]:
    log: list[Metrics] = []
    moments = {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}
    run_stage(stage, run, moments, 0, until or stage.steps, lambda _, m: log.append(m))
    return {k: v.clone() for k, v in run.model.state_dict().items()}, log


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], atol: float) -> None:
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def test_law_1_one_stream_is_torch_adamw(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    stage = Stage("s", ((1.0, SFT),), 6)
    run = start(config, tokenizer)
    theirs = Transformer(config)
    theirs.load_state_dict(run.model.state_dict())
    before = {k: v.clone() for k, v in theirs.state_dict().items()}
    ours, _ = train(run, stage)
    decayed = [p for n, p in theirs.named_parameters() if "embed_tokens" not in n]
    plain = [p for n, p in theirs.named_parameters() if "embed_tokens" in n]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, betas=ADAM.betas, eps=ADAM.eps, foreach=False, fused=False)
    run.model = theirs
    for step in range(6):
        batch, _ = drawn(SFT.source, SFT, step, run)
        adam.zero_grad(set_to_none=False)
        backward(theirs, SFT, batch)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), ADAM.clip)
        for g in adam.param_groups:
            g["lr"] = ADAM.lr_at(step, 6)
        adam.step()
    assert moved(before, ours) > 5e-3
    assert_close(ours, theirs.state_dict(), 2e-6)


def test_law_2_identical_streams_at_half_are_one_stream(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    twin = replace(SFT, name="twin")
    one, _ = train(start(config, tokenizer), Stage("s", ((1.0, SFT),), 4))
    two, log = train(start(config, tokenizer), Stage("s", ((0.5, SFT), (0.5, twin)), 4))
    assert_close(one, two, 2e-6)
    assert log[-1]["cosine/sft-twin"] == pytest.approx(1.0, abs=1e-6)


def test_law_2_weights_one_and_zero_are_the_first_stream(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    alone, _ = train(start(config, tokenizer), Stage("s", ((1.0, RL),), 4))
    both, _ = train(start(config, tokenizer), Stage("s", ((1.0, RL), (0.0, SFT)), 4))
    assert all(torch.equal(alone[n], both[n]) for n in alone)


def test_law_2_order_does_not_matter(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    a, _ = train(start(config, tokenizer), Stage("s", ((0.3, RL), (0.7, SFT)), 3), until=1)
    b, _ = train(start(config, tokenizer), Stage("s", ((0.7, SFT), (0.3, RL)), 3), until=1)
    assert_close(a, b, 2e-6)


def test_the_sum_of_proposals_is_the_stated_formula(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    """weights += sum_i w_i (-lr_i u_i - lr_i decay_i weights), with u_i the sign-like first step of Adam."""
    stage = Stage("s", ((0.25, SFT), (1.5, RL)), 5)
    run = start(config, tokenizer)
    old = {k: v.clone() for k, v in run.model.state_dict().items()}
    gradients = []
    for _, stream in stage.streams:
        batch, _ = drawn(stream.source, stream, 0, run)
        run.model.zero_grad()
        backward(run.model, stream, batch)
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), stream.optimizer.clip)
        gradients.append({n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None})
    expected = {}
    for name, theta in old.items():
        change = torch.zeros_like(theta)
        for (w, stream), g in zip(stage.streams, gradients):
            lr = stream.optimizer.lr_at(0, 5)
            u = g[name] / (g[name].abs() + stream.optimizer.eps)  # bias-corrected first step
            decay = 0.0 if "embed_tokens" in name else stream.optimizer.weight_decay
            change += w * (-lr * u - lr * decay * theta)
        expected[name] = theta + change
    new, _ = train(run, stage, until=1)
    assert_close(new, expected, 1e-6)


def test_one_member_at_one_is_the_stream_itself(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    alone, _ = train(start(config, tokenizer), Stage("s", ((1.0, SFT),), 3))
    joint, log = train(start(config, tokenizer), Stage("s", ((1.0, Joint("j", ((1.0, SFT),), ADAM)),), 3))
    assert all(torch.equal(alone[n], joint[n]) for n in alone)
    assert {"sft/loss", "j/gradient_norm", "j/lr"} <= set(log[0])


def test_a_stream_and_its_like_inside_a_joint_stream_are_both_logged(
    config: ModelConfig, tokenizer: TextTokenizer
) -> None:
    watched = replace(SFT, source=replace(SFT.source, validation=2))
    joint = Joint("j", ((1.0, watched), (1.0, RL)), ADAM)
    stage = Stage("s", ((1.0, joint), (0.5, SFT)), 3, Plateau(2))
    assert [stage.logged(joint, m) for _, m in joint.members] == ["j.sft", "rl"] and stage.logged(SFT, SFT) == "sft"
    assert stage.watched == "j.sft/validation"
    _, log = train(start(config, tokenizer), replace(stage, stop=None), until=1)
    assert {"j.sft/loss", "sft/loss", "rl/loss", "j/lr", "sft/lr"} <= set(log[0])


def test_a_joint_stream_steps_on_the_weighted_sum_of_gradients(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = start(config, tokenizer)
    total: dict[str, torch.Tensor] = {}
    for weight, stream in ((0.25, RL), (2.0, SFT)):
        batch, _ = drawn(stream.source, stream, 0, run)
        run.model.zero_grad()
        backward(run.model, stream, batch)
        for name, p in run.model.named_parameters():
            assert p.grad is not None
            total[name] = total.get(name, torch.zeros_like(p)) + weight * p.grad
    norm = torch.stack([g.norm() for g in total.values()]).norm()
    old = {k: v.clone() for k, v in run.model.state_dict().items()}
    plain = replace(ADAM, weight_decay=0.0, warmup=0.0, schedule="constant")
    stage = Stage("s", ((1.0, Joint("j", ((0.25, RL), (2.0, SFT)), plain)),), 5)
    new, log = train(start(config, tokenizer), stage, until=1)
    assert log[0]["j/gradient_norm"] == pytest.approx(float(norm), rel=1e-4)
    scale = min(1.0, ADAM.clip / float(norm))
    expected = {n: old[n] - plain.lr * (g := total[n] * scale) / (g.abs() + plain.eps) for n in old}
    assert_close(new, expected, 2e-5)


def test_weights_may_ramp_take_turns_or_follow_a_metric(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    def one_step(*streams: Any) -> dict[str, torch.Tensor]:
        return train(start(config, tokenizer), Stage("s", streams, 5), until=1)[0]

    def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(a[n], b[n]) for n in a)

    both = one_step((0.25, RL), (0.75, SFT))
    assert same(both, one_step((Ramp(0.25, 1.0), RL), (Ramp(0.75, 0.0), SFT)))
    assert same(one_step((1.0, SFT)), one_step((Turns(2, 1), RL), (Turns(2, 0), SFT)))
    _, log = train(start(config, tokenizer), Stage("s", ((1.0, RL),), 5), until=1)
    signal = log[0]["rl/signal"]
    assert 0 < signal < 1
    followed = one_step((Follow("rl/signal"), RL), (Follow("rl/signal", rest=True), SFT))
    assert same(followed, one_step((signal, RL), (1.0 - signal, SFT)))
    stage = Stage("s", ((Ramp(0.0, 1.0), RL), (Ramp(1.0, 0.0), SFT)), 5)
    turns = [[(s.name, n) for w, s in stage.working(i) for _, _, n in stage.draws(w, s, i)] for i in (0, 2, 4)]
    assert turns == [
        [("sft", 0)], [("rl", 1), ("sft", 2)], [("rl", 3)]
    ]  # fmt: skip


@pytest.mark.parametrize("metric", ["rl/signl", "rl/validation"])
def test_a_metric_that_is_not_logged_at_an_update_cannot_be_followed(
    config: ModelConfig, tokenizer: TextTokenizer, metric: str
) -> None:
    with pytest.raises(ValueError, match=rf"'{metric}', which is not logged at update \d: .*rl/signal") as error:
        train(start(config, tokenizer), Stage("s", ((Follow(metric), RL), (1.0, SFT)), 2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("streams", "message"),
    [
        (lambda: ((1.0, Joint("j", (), ADAM)),), "joint stream j has no member"),
        (
            lambda: ((1.0, Joint("j", ((-1.0, SFT),), ADAM)),),
            "the weight of sft .* must be finite and >= 0, not -1",
        ),
        (
            lambda: ((1.0, Joint("j", ((float("nan"), SFT),), ADAM)),),
            r"members\[0\]\[0\] is nan: write a finite number or a Ramp",
        ),
        (lambda: ((1.0, Joint("j", ((1.0, SFT), (1.0, SFT)), ADAM)),), "two streams share a name: j, j.sft, j.sft"),
        (lambda: ((1.0, SFT), (1.0, SFT)), "two streams share a name: sft, sft"),
    ],
)
def test_impossible_streams_say_what_is_wrong(streams: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage("s", streams(), 2)


def test_a_ramp_ends_at_its_end() -> None:
    for first, last in ((0.3, 0.0), (0.1, 0.0), (0.9, 0.2), (0.0, 1.0)):
        ramp = Ramp(first, last)
        assert {(ramp.at(0, n, {}), ramp.at(n - 1, n, {})) for n in range(2, 60)} == {(first, last)}


def test_a_resting_stream_keeps_its_moments(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run, stage = start(config, tokenizer), Stage("s", ((Turns(2, 0), RL), (Turns(2, 1), SFT)), 4)
    moments = {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}
    seen = []
    run_stage(stage, run, moments, 0, 4, lambda *_: seen.append({n: _steps_of(m) for n, m in moments.items()}))
    assert seen == [{"rl": 1, "sft": 0}, {"rl": 1, "sft": 1}, {"rl": 2, "sft": 1}, {"rl": 2, "sft": 2}]


def test_streams_that_take_turns_see_what_they_would_have_seen(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    frozen = replace(ADAM, lr=0.0)  # so that only the draws matter
    rl = replace(TWICE, optimizer=frozen)
    sft = replace(SFT, optimizer=frozen)
    _, side = train(start(config, tokenizer), Stage("s", ((1.0, rl), (1.0, sft)), 3))
    _, turns = train(start(config, tokenizer), Stage("s", ((Turns(2, 0), rl), (Turns(2, 1), sft)), 6))
    assert [m["rl/loss"] for m in turns[0::2]] == [m["rl/loss"] for m in side]
    assert [m["sft/loss"] for m in turns[1::2]] == [m["sft/loss"] for m in side]


def test_a_stream_alone_and_in_a_joint_one_has_draws_of_its_own_in_each(
    config: ModelConfig, tokenizer: TextTokenizer
) -> None:
    frozen = replace(ADAM, lr=0.0)  # so that only the draws matter
    rl = replace(TWICE, optimizer=frozen)
    joint = (Turns(3, 0), Joint("joint", ((1.0, rl),), frozen))

    def norms(of: str, *streams: Any) -> list[float]:
        _, log = train(start(config, tokenizer), Stage("s", streams, 6))
        return [m[f"{of}/gradient_norm"] for m in log if f"{of}/gradient_norm" in m]

    assert norms("joint", joint, (1.0, rl)) == norms("joint", joint)
    assert norms("rl", joint, (1.0, rl)) == norms("rl", (1.0, rl))


def _steps_of(moments: Moments) -> int:
    return next((int(v) for k, v in moments.tensors().items() if k.startswith("step/")), 0)


@pytest.mark.parametrize("stream", [SFT, RL], ids=["sft", "rl"])
def test_law_3_accumulation_does_not_matter(config: ModelConfig, tokenizer: TextTokenizer, stream: Stream) -> None:
    run = start(config, tokenizer)
    batch, _ = drawn(stream.source, stream, 0, run)

    def gradient(microbatch: int) -> torch.Tensor:
        run.model.zero_grad()
        backward(run.model, stream, batch, microbatch)
        return torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])

    whole, rows = gradient(1 << 20), gradient(1)
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(whole, rows, rtol=1e-4, atol=1e-6)


def test_a_bf16_training_pass_has_nearly_the_gradient_of_fp32(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = start(config, tokenizer)
    batch, _ = drawn(SFT.source, SFT, 0, run)
    gradients = []
    for stream in (SFT, replace(SFT, precision="bf16")):
        run.model.zero_grad()
        backward(run.model, stream, batch)
        assert all(p.dtype == torch.float32 == p.grad.dtype for p in run.model.parameters() if p.grad is not None)
        gradients.append(torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None]))
    fp32, bf16 = gradients
    assert not torch.equal(fp32, bf16)
    assert torch.nn.functional.cosine_similarity(fp32, bf16, dim=0) > 0.999


@pytest.mark.parametrize("updates", [1, 2])
def test_bf16_rl_on_policy_has_ratios_of_one(config: ModelConfig, tokenizer: TextTokenizer, updates: int) -> None:
    """The gap between the engine's bf16 and the trainer's is measured, and is not treated as a change of policy."""
    stream = replace(RL, precision="bf16", source=replace(RL.source, updates_per_draw=updates))
    run = start(config, tokenizer)
    batch, _ = drawn(stream.source, stream, 0, run)
    gradients = []
    for trained in (stream, replace(stream, precision="fp32")):
        run.model.zero_grad()
        metrics = backward(run.model, trained, batch)
        assert metrics["clipped"] == 0
        assert 0 < metrics["mismatch"] < 0.05
        gradients.append(torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize(
    "weights",
    [
        ((1.0, replace(RL, source=replace(RL.source, updates_per_draw=3))),),
        ((1.0, CUT),),
        ((1.0, replace(CUT, source=replace(CUT.source, updates_per_draw=3))),),
        ((0.5, RL), (0.5, SFT)),
        ((Turns(2, 0), Joint("both", ((1.0, RL), (1.0, SFT)), ADAM)), (Follow("rl/signal"), RL), (Ramp(1.0, 0.0), SFT)),
        ((Turns(3, 0), Joint("both", ((1.0, TWICE), (1.0, SFT)), ADAM)), (1.0, TWICE)),
        ((1.0, Joint("turns", ((Turns(3, 2), TWICE), (Turns(3, 0, length=2), SFT)), ADAM)),),
        ((1.0, Joint("shift", ((Shift(2, 1, True), TWICE), (Shift(2, 1), SFT)), ADAM)),),
    ],
)
def test_law_4_killed_and_resumed_is_bit_equal(
    config: ModelConfig, tokenizer: TextTokenizer, weights: Any, tmp_path: Path
) -> None:
    stage = Stage("s", weights, 7)
    straight, log = train(start(config, tokenizer), stage)
    for killed_at in (1, 4):
        run = start(config, tokenizer)
        moments = {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}
        run_stage(stage, run, moments, 0, killed_at, lambda *_: None)
        save_checkpoint(tmp_path, run.model, tokenizer)
        save_state(tmp_path, run, moments, killed_at)
        again = start(config, tokenizer)
        from foray.model.hf import load_model

        again.model.load_state_dict(load_model(tmp_path / "model").state_dict())
        fresh = {s.name: Moments(again.model, s.optimizer) for _, s in stage.streams}
        assert load_state(tmp_path, again, fresh) == killed_at
        resumed: list[Metrics] = []
        run_stage(stage, again, fresh, killed_at, 7, lambda _, m, keep=resumed: keep.append(m))
        assert all(torch.equal(straight[n], p) for n, p in again.model.state_dict().items())
        drop = {"seconds"}
        for a, b in zip(log[killed_at:], resumed):
            assert {k: v for k, v in a.items() if k not in drop} == {k: v for k, v in b.items() if k not in drop}


def test_documents_of_a_window_do_not_see_one_another_if_asked(
    config: ModelConfig, tokenizer: TextTokenizer, tmp_path: Path
) -> None:
    run = with_text(start(config, tokenizer), tmp_path)
    batch, logged = drawn(replace(TEXT.source, separate=True), TEXT, 0, run)
    together, _ = drawn(TEXT.source, TEXT, 0, run)
    assert batch.denominator == logged["tokens"] == together.denominator == 60 == float(batch.weight.sum())
    ours = token_logprobs(run.model, batch)[batch.weight != 0]
    alone = []
    for window in torch.cat([together.tokens, together.targets[:, -1:]], 1).tolist():
        begins = [0, *(i for i in range(1, 30) if window[i] == tokenizer.end_id), 30]
        for a, b in pairwise(begins):
            logits = run.model.logits(torch.tensor([window[a:b]]))[0].log_softmax(-1)
            alone.append(logits.gather(1, torch.tensor(window[a + 1 : b + 1])[:, None])[:, 0])
    torch.testing.assert_close(ours, torch.cat(alone).detach(), rtol=0, atol=1e-5)
    assert len(alone) > 4 and moved({"x": ours}, {"x": token_logprobs(run.model, together).flatten()}) > 1e-3


def test_law_6_on_policy_grpo_is_reinforce(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = start(config, tokenizer)
    batch, metrics = drawn(RL.source, RL, 0, run)
    assert 0 < metrics["signal"] < 1, "both kinds of group must occur"
    backward(run.model, RL, batch)
    ours = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    run.model.zero_grad()
    where = batch.weight != 0
    every = run.model.logits(batch.tokens).log_softmax(-1).gather(2, batch.targets[..., None])[..., 0]  # no packing
    logprobs = every[where]
    (-(logprobs * batch.advantage[where]).sum() / where.sum()).backward()
    reinforce = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    assert reinforce.abs().max() > 1e-3
    torch.testing.assert_close(ours, reinforce, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("truncation", [{"top_p": 0.7}, {"top_k": 4}, {"min_p": 0.3}], ids=str)
def test_of_truncated_rollouts_the_whole_policy_is_trained(
    config: ModelConfig, tokenizer: TextTokenizer, updates: int, truncation: dict[str, Any]
) -> None:
    """The ratios are those of the trainer's own log-probabilities: truncation is not taken for a change of policy."""
    stream = replace(RL, source=replace(RL.source, temperature=1.3, updates_per_draw=updates, **truncation))
    run = start(config, tokenizer)
    batch, _ = drawn(stream.source, stream, 0, run)
    metrics = backward(run.model, stream, batch)
    ours = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    run.model.zero_grad()
    where = batch.weight != 0
    logits = run.model.logits(batch.tokens) / 1.3  # no packing, no truncation
    logprobs = logits.log_softmax(-1).gather(2, batch.targets[..., None])[..., 0][where]
    ratio = (logprobs - logprobs.detach()).exp()
    (-(ratio * batch.advantage[where]).sum() / where.sum()).backward()
    plain = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
    assert plain.abs().max() > 1e-3 and metrics["clipped"] == 0
    torch.testing.assert_close(ours, plain, rtol=2e-4, atol=1e-6)
    said = batch.behaviour if updates == 1 else batch.drawn
    assert said is not None
    kept = logprobs.detach() - said[where]  # log of the share of probability that is kept
    assert kept.max() < 1e-5 and kept.mean() < -0.01 and metrics["mismatch"] > 0.01
    if "top_p" in truncation:
        assert kept.min() > np.log(0.7) - 1e-5


def test_law_6_skipping_groups_without_signal_changes_nothing(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    class Everything(PolicyGradient):
        def contributes(self, weight: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
            return weight != 0

    run = start(config, tokenizer)
    batch, _ = drawn(RL.source, RL, 0, run)
    gradients = []
    for objective in (PolicyGradient(), Everything()):
        run.model.zero_grad()
        backward(run.model, replace(RL, objective=objective), batch)
        gradients.append(torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_law_6_a_draw_without_signal_still_steps_the_optimizer(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    blind = replace(RL, source=replace(RL.source, task=_NeverRight(), format_reward=0.0))
    run = start(config, tokenizer)
    stage = Stage("s", ((1.0, blind),), 4)
    moments = {"rl": Moments(run.model, blind.optimizer)}
    log: list[Metrics] = []
    run_stage(stage, run, moments, 0, 2, lambda _, m: log.append(m))
    assert [m["rl/signal"] for m in log] == [0.0, 0.0] and log[0]["rl/gradient_norm"] == 0.0
    state = moments["rl"].tensors()
    assert all(float(v) == 2 for k, v in state.items() if k.startswith("step/"))


class _NeverRight(Sums):
    def verify(self, problem: Any, completion: str, extraction: Any = "strict") -> Any:
        return replace(super().verify(problem, completion, extraction), score=0.0)


def test_advantages() -> None:
    rewards = np.array([[1.0, 0.0, 0.0, 0.0], [0.1] * 4, [1.1, 0.1, 1.1, 0.1]])
    a = group_advantages(rewards, divide_by_std=False)
    np.testing.assert_allclose(a[0], [0.75, -0.25, -0.25, -0.25])
    assert (a[1] == 0).all()
    b = group_advantages(rewards, divide_by_std=True)
    np.testing.assert_allclose(b[0], a[0] / (0.5 + 1e-4))


def test_golden_clipped_loss() -> None:
    """Computed by hand: ratios 2, 1/2, 1.1; advantages 1, -1, 2; clip 0.2 below and 0.3 above; KL weight 0.1."""
    ratio, advantage = torch.tensor([2.0, 0.5, 1.1]), torch.tensor([1.0, -1.0, 2.0])
    new, ref = ratio.log(), torch.tensor([2.0, 0.5, 2.2]).log()
    s = Scored(new, torch.zeros(3), advantage, torch.zeros(3), ref, torch.zeros(3))
    loss = PolicyGradient(clip_low=0.2, clip_high=0.3, kl=0.1)(s)
    k3 = 2.0 - 1 - np.log(2.0)
    torch.testing.assert_close(loss, torch.tensor([-1.3, 0.8, -2.2 + 0.1 * k3], dtype=torch.float32))


@pytest.mark.parametrize("normalise", ["token", "sequence", "constant"])
def test_normalizations(config: ModelConfig, tokenizer: TextTokenizer, normalise: Any) -> None:
    source = replace(RL.source, normalise=normalise)
    batch, _ = drawn(source, replace(RL, source=source), 0, start(config, tokenizer))
    scored = batch.weight != 0
    lengths = scored.sum(1)
    assert lengths.min() < lengths.max()
    effective = batch.weight / batch.denominator  # what a token's loss counts for
    if normalise == "token":
        assert torch.allclose(effective[scored], 1 / lengths.sum())
    if normalise == "sequence":
        torch.testing.assert_close(effective.sum(1), torch.full((24,), 1 / 24))
    if normalise == "constant":
        assert torch.allclose(effective[scored], torch.tensor(1 / (24 * 8)))


def test_kl_pulls_towards_the_reference(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    anchored = replace(RL, objective=PolicyGradient(kl=5.0))
    ends = {}
    for stream in (RL, anchored):
        run = start(config, tokenizer)
        run.reference = Transformer(config)
        run.reference.load_state_dict(run.model.state_dict())
        _, log = train(run, Stage("s", ((1.0, stream),), 12))
        assert log[0]["rl/kl"] < 1e-6
        ends[stream.objective.kl] = log[-1]["rl/kl"]
    assert ends[5.0] < 0.7 * ends[0.0]


def test_a_loss_of_ones_own_gets_the_reference_that_it_asks_for(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    class Reads(PolicyGradient):
        def __call__(self, s: Scored) -> torch.Tensor:
            return super().__call__(s) + 0.5 * kl_k3(s)

        def contributes(self, weight: torch.Tensor, advantage: torch.Tensor) -> torch.Tensor:
            return weight != 0

    class Asks(Reads):
        needs_reference = True  # type: ignore[assignment]

    def one_step(stream: Stream) -> dict[str, torch.Tensor]:
        run = start(config, tokenizer)
        run.reference = initialize(config, 1)
        return train(run, Stage("s", ((1.0, stream),), 3), until=1)[0]

    ours, theirs = (one_step(replace(RL, objective=o)) for o in (Asks(), PolicyGradient(kl=0.5)))
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    for stream in (replace(RL, objective=Reads()), replace(SFT, objective=Asks())):
        with pytest.raises(ValueError, match=r"only rollouts have, and only where .* needs_reference = True"):
            one_step(stream)


def test_several_updates_per_draw_replay_one_draw(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    source = replace(RL.source, updates_per_draw=3)
    stream = replace(RL, source=source)
    run = start(config, tokenizer)
    slices: list[Batch] = []
    log: list[Metrics] = []
    for step in range(4):
        batch, _ = drawn(source, stream, step, run)
        slices.append(batch)
    assert [s.rows for s in slices] == [8, 8, 8, 8]
    first = run.replay  # of the second draw by now
    assert first["rl"][0].rows == 24
    _, log = train(start(config, tokenizer), Stage("s", ((1.0, stream),), 3))
    assert log[0]["rl/reward"] == log[2]["rl/reward"]


def test_one_solution_is_the_same_in_every_epoch_and_depends_on_the_seed(tokenizer: TextTokenizer) -> None:
    one = Demonstrations(Sums(), 30)
    a, again, b = (demonstrations(one, seed, tokenizer) for seed in (0, 0, 1))
    assert a == again != b
    gold = demonstrations(replace(one, solutions="all"), 0, tokenizer)
    assert len(gold) == 2 * len(a) and all(pair in gold for pair in a)
    assert all(target[-1] == tokenizer.end_id for _, target in gold)


def test_sft_masks_the_prompt(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = start(config, tokenizer)
    batch, _ = drawn(SFT.source, SFT, 0, run)
    pairs = demonstrations(SFT.source, 0, tokenizer)
    for b in range(batch.rows):
        scored = batch.targets[b][batch.weight[b] != 0].tolist()
        assert any(scored == target for _, target in pairs)
    assert batch.denominator == float((batch.weight != 0).sum())


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(SFT.source, id="demonstrations"),
        pytest.param(TEXT.source, id="text"),
        pytest.param(replace(TEXT.source, batch_size=1), id="one_window"),
        pytest.param(replace(TEXT.source, separate=True), id="documents"),
    ],
)
def test_a_non_finite_gradient_stops_before_the_weights_change(
    config: ModelConfig, tokenizer: TextTokenizer, tmp_path: Path, source: Any
) -> None:
    class Broken(CrossEntropy):
        def __call__(self, s: Scored) -> torch.Tensor:
            return super().__call__(s) * float("nan")

    run = with_text(start(config, tokenizer), tmp_path)
    stage = Stage("s", ((0.5, SFT), (0.5, Stream("bad", source, Broken()))), 3)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    moments = {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}
    with pytest.raises(TrainingStopped, match="stream 'bad'"):
        run_stage(stage, run, moments, 0, 3, lambda *_: None, tmp_path)
    assert all(torch.equal(before[n], p) for n, p in run.model.state_dict().items())
    batch, metrics = drawn(source, SFT, 0, run)
    saved = load_file(tmp_path / "stopped_batch.safetensors")
    assert {name for name, x in vars(batch).items() if isinstance(x, torch.Tensor)} == set(saved)
    assert all(torch.equal(getattr(batch, name), x) for name, x in saved.items())
    run.replay["bad"] = batch, metrics
    save_state(tmp_path, run, {}, 1)
    run.replay = {}
    load_state(tmp_path, run, {})
    assert all(torch.equal(getattr(run.replay["bad"][0], name), x) for name, x in saved.items())


def test_non_finite_log_probabilities_stop_the_run(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = start(config, tokenizer)
    with torch.no_grad():
        run.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(TrainingStopped, match="non-finite log-probability"):
        run_stage(Stage("s", ((1.0, RL),), 2), run, {"rl": Moments(run.model, ADAM)}, 0, 2, lambda *_: None)


@dataclass(frozen=True)
class Fickle(CrossEntropy):
    """A loss whose metrics have names that depend on the tokens."""

    def metrics(self, s: Scored) -> dict[str, torch.Tensor]:
        return {"sure": -s.logprobs} if len(s.logprobs) else {}


def test_a_loss_logs_the_same_metrics_at_every_update(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    run = start(config, tokenizer)
    batch, _ = drawn(SFT.source, SFT, 0, run)
    with pytest.raises(ValueError, match=r"the loss Fickle\.metrics returns \['sure'\] and, of no tokens, \[\]"):
        backward(run.model, replace(SFT, objective=Fickle()), batch)
