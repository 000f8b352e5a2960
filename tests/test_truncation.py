"""Truncated sampling: the kept tokens against plain loops and against Hugging Face's warpers, and where it can be said.

What every engine owes stands in test_engine.py, what RL does with truncated samples in test_laws.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper
from transformers.generation import MinPLogitsWarper

from conftest import Sums, plainly_truncated, wide
from foray.core.override import override
from foray.core.sources import Rollouts
from foray.data.tokenizer import TextTokenizer
from foray.evals.sampling import evaluate
from foray.model.config import ModelConfig
from foray.model.transformer import initialize
from foray.rollout.engine import Sampling
from foray.rollout.torch_engine import TorchEngine
from foray.rollout.truncation import truncated
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.spec import Evaluation
from test_study import study

CASES: list[dict[str, Any]] = [
    {"top_p": 0.95}, {"top_p": 0.3}, {"top_p": 1e-9}, {"top_p": 1 - 1e-9}, {"top_k": 1}, {"top_k": 7}, {"top_k": 10**6},
    {"min_p": 0.05}, {"min_p": 0.999}, {"top_p": 0.8, "top_k": 9}, {"top_p": 0.9, "top_k": 30, "min_p": 0.1},
]  # fmt: skip


@pytest.fixture(params=[0.3, 2.0, 6.0])
def logits(request: pytest.FixtureRequest) -> torch.Tensor:
    """From nearly flat to steep. (R, V)"""
    return request.param * torch.randn(40, 700, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["C", "torch"], autouse=True)
def way(request: pytest.FixtureRequest) -> None:
    if request.param == "torch":
        request.getfixturevalue("only_torch")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kept_tokens_and_their_probabilities_are_those_of_plain_loops(
    logits: torch.Tensor, case: dict[str, Any]
) -> None:
    p = logits.softmax(-1)
    for row, ours in zip(p.tolist(), truncated(p, Sampling(**case)).tolist()):
        expected = plainly_truncated(row, **case)
        assert {i for i, x in enumerate(ours) if x} == set(expected)
        assert all(ours[i] == pytest.approx(x, rel=1e-5) for i, x in expected.items())


@pytest.mark.parametrize("case", CASES[1:3] + CASES[4:-1], ids=str)
def test_kept_tokens_are_those_of_hugging_face(logits: torch.Tensor, case: dict[str, Any]) -> None:
    """Without ``min_p`` beside ``top_p``, where the orders differ."""
    makers = {"top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper, "min_p": MinPLogitsWarper}
    warp = LogitsProcessorList([maker(case[name]) for name, maker in makers.items() if name in case])
    theirs = warp(None, logits.clone()).softmax(-1)
    torch.testing.assert_close(truncated(logits.softmax(-1), Sampling(**case)), theirs, rtol=1e-5, atol=1e-9)


def test_min_p_comes_before_top_p_as_in_vllm() -> None:
    """Of 0.5 and 0.3 left by ``min_p``, 0.5 has 60%: enough. Of all tokens it would not be."""
    p = torch.tensor([[0.1, 0.5, 0.1, 0.3]])
    assert truncated(p, Sampling(top_p=0.6, min_p=0.5)).tolist() == [[0, 1, 0, 0]]
    assert (truncated(p, Sampling(top_p=0.6)) > 0).tolist() == [[False, True, False, True]]


def test_equal_tokens_stay_together_or_go_together() -> None:
    p = torch.tensor([[0.2, 0.4, 0.2, 0.2]])
    for case, kept in (({"top_p": 0.5}, 4), ({"top_p": 0.4}, 1), ({"top_k": 2}, 4), ({"top_k": 1}, 1)):
        assert int((truncated(p, Sampling(**case)) > 0).sum()) == kept, case


def test_a_broken_row_is_not_repaired() -> None:
    p = torch.tensor([[0.5, float("nan"), 0.5]])
    for case in ({"top_p": 0.5}, {"top_k": 1}, {"min_p": 0.5}):
        assert truncated(p, Sampling(**case)).isnan().any()


@pytest.mark.parametrize("kind", ["sampling", "rollouts", "evaluation"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("top_p", 0.0), ("top_p", 1.5), ("top_p", float("nan")), ("top_k", -1), ("top_k", 2.5), ("top_k", True),
     ("min_p", -0.1), ("min_p", 1.0), ("min_p", float("nan"))],
)  # fmt: skip
def test_what_cannot_truncate_is_refused_in_one_line(kind: str, name: str, value: Any) -> None:
    make: Any = {
        "sampling": Sampling,
        "rollouts": lambda **changes: Rollouts(Sums(), 20, **changes),
        "evaluation": lambda **changes: Evaluation(Sums(), **changes),
    }[kind]
    with pytest.raises(ValueError, match=rf"^{name} (must be .*, not {value}$|is {value}: write a )"):
        make(**{name: value})


def test_a_studys_evaluation_truncates_and_its_training_keeps_its_keys() -> None:
    plain, changed = (
        expand(override(study(recipes=("rl",)), *settings)).nodes
        for settings in ((), ("evaluation.top_p=0.95", "evaluation.top_k=40", "evaluation.min_p=0.01"))
    )
    asked = [n for n in changed if isinstance(n, PassKNode)]
    assert asked and all((n.top_p, n.top_k, n.min_p) == (0.95, 40, 0.01) for n in asked)
    new = {n.key for n in changed} - {n.key for n in plain}
    assert new == {n.key for n in asked}
    assert "top_p" not in json.dumps([n.spec for n in plain if isinstance(n, PassKNode)])


def test_an_evaluation_draws_truncated_samples(config: ModelConfig, tokenizer: TextTokenizer, tmp_path: Path) -> None:
    engine = TorchEngine(config, tokenizer, model=wide(initialize(config, 0)))
    texts = {}
    for name, case in {"k": {"top_k": 1}, "p": {"top_p": 1e-6}, "min": {"min_p": 0.999}, "all": {}}.items():
        (tmp_path / name).mkdir()
        evaluate(
            engine, tokenizer, Sums(), tmp_path / name, split="test", problems=4, shots=0, samples=3, temperature=1.0,
            max_new_tokens=6, seed=0, **case,
        )  # fmt: skip
        rows = [json.loads(line) for line in (tmp_path / name / "completions.jsonl").read_text().splitlines()]
        texts[name] = [[s["text"] for s in r["samples"]] for r in rows]
    assert texts["k"] == texts["p"] == texts["min"] and all(len(set(row)) == 1 for row in texts["k"])
    assert all(len(set(row)) > 1 for row in texts["all"])
