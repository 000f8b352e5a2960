"""Tests for a GPU: agreement with the CPU, the laws, and a whole study. ``make gpu-evidence STEPS=1`` runs these tests.

test_engine.py has the contract of rollout engines, and its fixture has a GPU too. A machine without a GPU can rehearse
these tests: ``FORAY_GPU_TESTS_ON=cpu pytest -m gpu tests/test_gpu.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from conftest import wide
from foray.core.batch import Batch, from_rows
from foray.core.machine import Machine
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.stage import AdamW, Stage, Stream
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.engine import Sampling
from foray.rollout.paged_engine import PagedEngine
from foray.rollout.torch_engine import TorchEngine
from foray.train import scoring
from foray.train.loop import Moments, clip_gradients
from foray.train.scoring import backward, token_logprobs
from test_laws import SFT as DEMONSTRATIONS
from test_laws import start, train

pytestmark = pytest.mark.gpu
DEVICE: Literal["cpu", "cuda"] = "cpu" if os.environ.get("FORAY_GPU_TESTS_ON") == "cpu" else "cuda"
LARGER = ModelConfig(width=256, layers=4, heads=4, mlp_width=512, vocab_size=1000, context=512)
EAGER, COMPILED = Machine(DEVICE, compile="off"), Machine(DEVICE, compile="on")
SFT, RL = (Stream(name, object(), loss) for name, loss in (("sft", CrossEntropy(1e-5)), ("rl", PolicyGradient())))


def rollouts(rows: int = 16, prompt: int = 40, new: int = 60) -> Batch:
    """Groups of four behind prompts they share, of unequal lengths."""
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 1000, prompt).tolist() for _ in range(rows // 4)]
    texts = [random.integers(0, 1000, random.integers(5, new)).tolist() for _ in range(rows)]
    old = [random.normal(-5, 1, len(t)).tolist() for t in texts]
    batch = from_rows(
        [p for p in prompts for _ in range(4)], texts, [1.0] * rows, float(sum(map(len, texts))),
        advantage=random.normal(size=rows).tolist(), behaviour=old, group_size=4,
    )  # fmt: skip
    return replace(batch, reference=0.9 * batch.behaviour)


def windows() -> Batch:
    tokens = torch.from_numpy(np.random.default_rng(1).integers(0, 1000, (4, 257)))
    zeros = torch.zeros(4, 256)
    return Batch(tokens[:, :-1], tokens[:, 1:], torch.ones(4, 256), zeros, zeros, 1024.0)


def gradients(
    machine: Machine, stream: Stream, batch: Batch, microbatch: int = 0, config: ModelConfig = LARGER
) -> dict[str, torch.Tensor]:
    model = initialize(config, 0).move(machine)
    backward(model, stream, batch, microbatch)
    return {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}


def differ(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of any parameter's gradients, over its own norm."""
    return max(float((a[name] - b[name]).norm() / a[name].norm()) for name in a)


@pytest.mark.parametrize("stream", [SFT, replace(RL, objective=PolicyGradient(kl=0.1))], ids=["sft", "rl"])
@pytest.mark.parametrize(
    "machine",
    [EAGER, COMPILED, replace(EAGER, recompute=True), replace(COMPILED, recompute=True)],
    ids=["eager", "compiled", "recomputed", "compiled and recomputed"],
)
def test_gradients_are_the_cpus(machine: Machine, stream: Stream) -> None:
    batch = rollouts() if stream.name == "rl" else windows()
    assert differ(gradients(Machine("cpu"), stream, batch), gradients(machine, stream, batch)) < 1e-3
    in_bf16 = gradients(machine, replace(stream, precision="bf16"), batch)
    assert differ(gradients(Machine("cpu"), replace(stream, precision="bf16"), batch), in_bf16) < 0.1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_queries_that_share_keys_and_values(precision: Literal["fp32", "bf16"]) -> None:
    """Attention behind prompts has a bias. With a bias, a GPU repeats keys and values."""
    stream = replace(RL, precision=precision)
    for config in (replace(LARGER, kv_heads=2), replace(LARGER, kv_heads=1)):
        on_cpu, here = (gradients(m, stream, rollouts(), config=config) for m in (Machine("cpu"), EAGER))
        assert differ(on_cpu, here) < (1e-3 if precision == "fp32" else 0.1)


def test_law_2_weights_combine_proposals(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    """Two equal streams at ½ equal one stream, and a stream at 0 changes nothing.

    Every backward pass may sum in its own order.
    """

    def after(*weights: float) -> torch.Tensor:
        run = start(config, tokenizer)
        run.model.move(EAGER)
        stage = Stage("s", tuple((w, replace(DEMONSTRATIONS, name=f"s{i}")) for i, w in enumerate(weights)), 4)
        return torch.cat([p.flatten().cpu() for p in train(run, stage)[0].values()])

    before = torch.cat([p.detach().flatten() for p in start(config, tokenizer).model.state_dict().values()])
    alone = after(1.0)
    moved = float((alone - before).norm())
    assert moved > 0.1
    assert max(float((after(*w) - alone).norm()) for w in ((0.5, 0.5), (1.0, 0.0))) < 1e-2 * moved


def test_law_6_on_policy_grpo_is_reinforce() -> None:
    """The expected gradient comes from plainly computed logits. Rows without a signal change nothing."""
    batch = replace(rollouts(), on_policy=True)
    advantage = batch.advantage.clone()
    advantage[:4] = 0.0
    batch = replace(batch, advantage=advantage)
    model, device = initialize(LARGER, 0).move(EAGER), EAGER.torch_device
    logits = model.logits(batch.tokens.to(device)).log_softmax(-1)
    logprobs = logits.gather(2, batch.targets[..., None].to(device))[..., 0].cpu()
    (-(logprobs * batch.advantage * batch.weight).sum() / batch.denominator).backward()
    plain = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    assert differ(plain, gradients(EAGER, RL, batch)) < 1e-3


def test_law_3_microbatches_change_nothing_but_rounding() -> None:
    assert differ(gradients(EAGER, RL, rollouts()), gradients(EAGER, RL, rollouts(), 200)) < 1e-4


def test_the_head_takes_a_large_vocabulary_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gradients(EAGER, SFT, windows())
    monkeypatch.setattr(scoring, "LOGITS", 100_000)
    assert differ(whole, gradients(EAGER, SFT, windows())) < 1e-4


def test_law_1_one_stream_is_adamw() -> None:
    spec, model = AdamW(lr=1e-3), initialize(LARGER, 0).move(EAGER)
    other = initialize(LARGER, 0).move(EAGER)
    theirs = torch.optim.AdamW(other.parameters(), lr=1e-3, betas=spec.betas, eps=spec.eps, weight_decay=0.0)
    ours = Moments(model, spec)
    for _ in range(3):
        model.zero_grad(set_to_none=True)
        backward(model, SFT, windows())
        clip_gradients(model, 1.0)
        # One backward for both: on a GPU a second may sum in another order, and at the first step Adam's update of a
        # tiny gradient depends on its last digits.
        for p, q in zip(model.parameters(), other.parameters()):
            q.grad = None if p.grad is None else p.grad.clone()
        ours.step({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, 1e-3)
        theirs.step()
    for a, b in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_moments_survive_a_checkpoint() -> None:
    model = initialize(LARGER, 0).move(EAGER)
    moments, again = Moments(model, AdamW()), Moments(model, AdamW())
    backward(model, SFT, windows())
    moments.step({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, 1e-3)
    again.load(moments.tensors().items())
    assert all(torch.equal(x, again.tensors()[name]) for name, x in moments.tensors().items())


@pytest.fixture
def sharp(config: ModelConfig) -> Transformer:
    return wide(initialize(config, 3), 12.0)


def test_the_gpu_draws_what_the_cpu_draws(sharp: Transformer, tokenizer: TextTokenizer) -> None:
    """Both use the same uniforms. A token may differ if a uniform falls between two sums that round differently."""
    ids = [tokenizer.encode_prompt(f"Q: {i} + {j} ?\nA:") for i in range(5) for j in range(5)]
    on_cpu = TorchEngine(sharp.config, tokenizer, model=sharp).generate(ids, 8, Sampling(1.0, 24), range(25))
    model = wide(initialize(sharp.config, 3), 12.0).move(Machine(DEVICE))
    on_gpu = PagedEngine(model, tokenizer, slots=64).generate(ids, 8, Sampling(1.0, 24), range(25))
    same = [a.tokens == b.tokens for x, y in zip(on_cpu, on_gpu) for a, b in zip(x, y)]
    assert np.mean(same) > 0.99


@pytest.mark.parametrize(("precision", "mean", "most"), [("fp32", 1e-5, 1e-3), ("bf16", 0.02, 0.5)])
def test_law_5_at_a_larger_shape(precision: str, mean: float, most: float, tokenizer: TextTokenizer) -> None:
    """In bf16 a gap remains, so the trainer takes the behavior's log-probabilities from its own passes."""
    model = initialize(LARGER, 0).move(Machine(DEVICE))
    ids = np.random.default_rng(2).integers(5, 300, (8, 200)).tolist()
    sampling = Sampling(1.0, 150 if DEVICE == "cuda" else 12, precision=precision)  # type: ignore[arg-type]
    groups = PagedEngine(model, tokenizer, slots=48).generate(ids, 8, sampling, range(8))
    rows = [c for g in groups for c in g]
    batch = from_rows(
        [p for p in ids for _ in range(8)],
        [c.tokens for c in rows],
        [1.0] * 64,
        1.0,
        behaviour=[c.logprobs for c in rows],
    )
    gap = (token_logprobs(model, batch, precision) - batch.behaviour)[batch.weight != 0].abs()
    print(f"{precision}: mean gap {gap.mean():.2g}, largest {gap.max():.2g}")
    assert gap.mean() < mean and gap.max() < most


@pytest.mark.parametrize("width", [64, 48])  # heads of 32 and, which is no power of two, of 24
def test_a_study_runs_on_the_gpu(width: int, tmp_path: Path) -> None:
    """The study runs in a process of its own, because a process that holds a GPU cannot fork workers."""
    study = tmp_path / "on_gpu.py"
    study.write_text(
        "from dataclasses import replace\nfrom foray.studies import smoke\n\n\n"
        "def study():\n    made = smoke.study()\n"
        f"    made = replace(made, model=replace(made.model, width={width}))\n"
        "    return replace(made, evaluation=replace(made.evaluation, probes=None, precision='bf16'))\n"
    )
    words = [sys.executable, "-m", "foray", "run", str(study)]
    for _ in range(2):  # the second finds nothing to do
        done = subprocess.run(
            [*words, "--store", str(tmp_path / "store"), "--machine", f"device={DEVICE}"],
            capture_output=True, text=True, env=os.environ, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert "0 to run" in done.stdout


def test_many_heads_may_share_a_key(tokenizer: TextTokenizer) -> None:
    """Inductor's decoding kernel holds all queries of a key in one tile, which must divide the mask's blocks."""
    shape = ModelConfig(width=512, layers=1, heads=16, kv_heads=1, mlp_width=512, vocab_size=1000, context=512)
    on_cpu, model = initialize(shape, 0), initialize(shape, 0).move(Machine(DEVICE))
    ids = np.random.default_rng(2).integers(5, 300, (4, 40)).tolist()
    asked = (ids, 4, Sampling(0.0, 8), range(4))
    expected = TorchEngine(shape, tokenizer, model=on_cpu).generate(*asked)
    found = PagedEngine(model, tokenizer, slots=16).generate(*asked)
    assert [c.tokens for g in found for c in g] == [c.tokens for g in expected for c in g]
