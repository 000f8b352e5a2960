"""Logs and results with flags, and logs and results without flags."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from foray.core.files import read_json, read_jsonl
from foray.core.health import sampling_flags, training_flags
from foray.study.graph import expand
from foray.study.kinds.training import TrainNode
from foray.study.run import run_study
from foray.study.store import Store
from test_study import brief

STEPS = 60
Rows = list[dict[str, float]]


def rl(**columns: list[float]) -> Rows:
    """A healthy RL log with the given columns changed."""
    healthy = {
        "rl/loss": [0.0] * STEPS,
        "rl/entropy": [1.0 - 0.005 * i for i in range(STEPS)],
        "rl/reward": [0.1 + 0.005 * i + 0.01 * math.sin(i) for i in range(STEPS)],
        "rl/truncated": [0.02] * STEPS,
    } | {f"rl/{k}": v for k, v in columns.items()}
    rows = [{k: v[i] for k, v in healthy.items() if i < len(v)} for i in range(STEPS)]
    for i, score in enumerate((0.1, 0.2, 0.25, 0.3)):
        rows[16 * i].setdefault("rl/validation", score)
    return rows


def test_a_healthy_run_has_no_flag() -> None:
    assert training_flags(rl()) == []
    assert training_flags([{"sft/loss": 2.0 / (1 + 0.1 * i) + 0.1 * math.sin(7 * i)} for i in range(STEPS)]) == []
    assert training_flags(rl()[:2]) == [] == training_flags([])
    assert sampling_flags(6400, 1280) == []


def test_entropy_collapse() -> None:
    assert training_flags(rl(entropy=[1.0 / (1 + i) for i in range(STEPS)])) == [
        "rl: entropy collapsed from 0.41 to 0.017 nats a token"
    ]
    assert len(training_flags(rl(entropy=[0.3] * 30 + [0.04] * 30))) == 1


def test_reward_that_validation_does_not_follow() -> None:
    rows = rl()
    for i, score in enumerate((0.25, 0.3, 0.2, 0.25)):
        rows[16 * i]["rl/validation"] = score
    (flag,) = training_flags(rows)
    assert "reward rose" in flag and "from 25% to 22%" in flag
    flat = rl(reward=[0.2 + 0.01 * math.sin(i) for i in range(STEPS)])
    for i in range(4):
        flat[16 * i]["rl/validation"] = 0.25 - 0.01 * i
    assert training_flags(flat) == [], "a reward that does not rise is no such case"


def test_loss_spikes() -> None:
    losses = [1.0 + 0.05 * math.sin(i) for i in range(STEPS)]
    losses[40], losses[41] = 3.0, 2.0
    assert training_flags([{"sft/loss": x} for x in losses]) == [
        "sft: the loss spiked at 2 steps, most at step 41 (3.00)"
    ]


def test_truncation() -> None:
    (flag,) = training_flags(rl(truncated=[0.0] * 50 + [0.3] * 10))
    assert flag.startswith("rl: 30% of samples are cut off")
    assert sampling_flags(1000, 201) == ["20% of samples are cut off by max_new_tokens"]


@pytest.mark.slow
def test_flags_stand_on_the_node_and_in_the_terminal(tmp_path: Path) -> None:
    study = brief()
    source = replace(study.post.rl.source, max_new_tokens=2)  # nothing can be said in two tokens
    study = replace(study, post=replace(study.post, rl=replace(study.post.rl, source=source)), recipes=("rl",))
    store, said = Store(tmp_path), io.StringIO()
    run_study(study, store, Console(file=said, width=200))
    (node,) = [n for n in expand(study).nodes if isinstance(n, TrainNode) and n.stage.name == "rl"]
    flags = read_json(node.folder(store) / "health.json")
    assert any("cut off by max_new_tokens" in f for f in flags)
    assert all(f"    ! {f}" in said.getvalue() for f in flags)
    rows = read_jsonl(node.folder(store) / "metrics.jsonl")
    assert "rl/validation" in rows[0] and all("rl/validation" not in r for r in rows[1:])
