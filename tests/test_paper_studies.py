"""The studies at the paper's scale: graphs and sizes, and runs of the same files, shrunk by settings, on stand-ins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from foray.core.task import few_shot_examples
from foray.data.prepare import load_mix, prepare
from foray.data.tokenizer import TextTokenizer
from foray.report import read_results
from foray.report.measurements import PassK
from foray.report.results import ANY
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.manifest import manifest_of
from foray.study.named_studies import load_study
from foray.study.store import Store
from test_study import compute

SMALL = (
    "model.width=32", "model.layers=1", "model.heads=2", "model.mlp_width=32", "model.vocab_size=0",
    "model.context=700",
    "pretrain.tokens=4000", "pretrain.checkpoints=1000,2000,3000,4000", "pretrain.stream.source.batch_size=2",
    "pretrain.stream.source.length=32", "post.rl.source.prompts=2", "post.rl.source.questions=20",
    "post.sft.source.questions=20", "post.rl.source.max_new_tokens=6", "post.rl.source.group_size=2",
    "post.rl.precision=fp32", "post.rl_steps=1", "post.sft_steps=1", "evaluation.problems=3", "evaluation.samples=2",
    "evaluation.k=1,2", "evaluation.max_new_tokens=6", "evaluation.base_shots=1", "evaluation.probes=none",
    "evaluation.heldout_tokens=200", "post.rl.source.validation=2",
)  # fmt: skip
PAPER = (
    *SMALL, "post.rl.source.prompts=4", "evaluation.base_shots=1",
    *(f"post.{of}.source.{name}" for of in ("together.rl", "after_sft.rl") for name in (
        "questions=20", "prompts=2", "group_size=2", "max_new_tokens=6", "validation=2")),
    "post.together.sft.source.questions=20", "post.together.sft.source.batch_size=4", "post.sft.source.batch_size=4",
    "post.together.rl.precision=fp32", "post.together.sft.precision=fp32", "post.after_sft.rl.precision=fp32",
    "post.together.steps=1", "post.after_sft.steps=1", "post.after_sft.sft_steps=1", "post.after_sft.gold_steps=1",
    "post.turns=2,1", "post.curriculum=2,1", "post.prime_steps=1",
)  # fmt: skip


def write(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for all files that the studies read, in the files' own forms."""
    root = tmp_path_factory.mktemp("data")
    solved = "We add and get \\boxed{%d}."
    write(root / "openmathinstruct2" / "train.jsonl", [
        {"problem": f"What is {i} plus {i + 1}?", "generated_solution": solved % (2 * i + 1),
         "expected_answer": str(2 * i + 1), "problem_source": "gsm8k" if i % 2 else "math"} for i in range(120)
    ])  # fmt: skip
    write(root / "gsm8k" / "train.jsonl", [
        {"question": f"Ann has {i} and gives 1?", "answer": f"So\n#### {i - 1}"} for i in range(1, 12)
    ])  # fmt: skip
    write(root / "gsm8k" / "test.jsonl", [
        {"question": f"Tom has {i} and buys {i}?", "answer": f"So\n#### {2 * i}"} for i in range(9)
    ])  # fmt: skip
    write(root / "math" / "test.jsonl", [{"problem": f"{i} + 2?", "solution": solved % (i + 2)} for i in range(9)])
    return root


def test_the_models_are_those_of_the_paper(data: Path) -> None:
    made = load_study("paper_1b", [f"data.root={data}"])
    assert made.model.parameters == 1_484_916_736
    assert [t // 10**9 for t in made.starts] == [2, 4, 6, 10, 12, 14, 20, 28, 44]
    names = [
        "main", "math", "seeds", "dynamics", "shots", "temperatures", "epochs", "dial", "mixtures", "disputed",
        "primed", "rollout_budget", "math_heavy",
    ]  # fmt: skip
    assert list(dict.fromkeys(name for name, _ in made.grids())) == names
    (start,) = {grid.starts for _, grid in made.grids("rollout_budget")}
    assert start == (4_001_000_000_000,) and made.grids("math_heavy")[0][1].pretrain.tokens == 60_000_000_000
    larger = load_study("paper_4b", [f"data.root={data}"])
    assert 4.0e9 < larger.model.parameters < 4.3e9
    (heavy,) = (grid for _, grid in larger.grids("math_heavy"))
    (same,) = (grid for _, grid in made.grids("math_heavy"))
    assert (heavy.model, heavy.pretrain, heavy.starts) == (same.model, same.pretrain, same.starts)
    assert [grid.starts for _, grid in made.grids("disputed")] == [(20 * 10**9, 44 * 10**9), (20 * 10**9,)]


def test_the_settings_are_those_of_the_papers_code(data: Path) -> None:
    """The table of post-training in the study's description (PAPER.md): a row a line."""
    made = load_study("paper_1b", [f"data.root={data}"])
    post, (first, second), (third, last) = made.post, made.stages("sft_rl"), made.stages("sft_gold_rl")
    (direct,), (side,), (sft,) = (made.stages(r) for r in ("rl", "parallel", "sft"))
    rl, after, plain, rows = (
        s.streams[i][1] for s, i in ((direct, 0), (second, 0), (side, 0), (side, 1))
    )  # fmt: skip
    assert [s.optimizer.lr for s in (rl, sft.streams[0][1], after, plain, rows)] == [1e-6, 4e-5, 4e-5, 1e-6, 1e-6]
    assert [(s.source.prompts, s.source.group_size) for s in (rl, after, plain)] == [(512, 32)] * 3
    assert post.sft.source.batch_size == rows.source.batch_size == 512
    assert [s.source.updates_per_draw for s in (rl, after, plain)] == [4, 1, 1]
    assert [s.objective.kl for s in (rl, after, plain)] == [1e-3, 0, 0]
    assert {s.objective.dual_clip for s in (rl, after, plain)} == {3.0}
    assert {s.objective.clip_low for s in (rl, after, plain)} == {0.2}
    assert [s.source.max_new_tokens for s in (rl, after, plain)] == [2048, 512, 512]
    assert {(s.source.normalise, s.source.format_reward, s.source.temperature) for s in (rl, after, plain)} == {
        ("token", 0.0, 1.0)
    }
    assert {s.source.normalise for s in (post.sft, rows)} == {"sum"}
    assert [s.steps for s in (first, second, third, last, sft, side)] == [2000, 600, 9500, 600, 9500, 2200]
    for stream in (rl, after, plain, rows, post.sft):
        adam = stream.optimizer
        assert (adam.betas, adam.weight_decay, adam.no_decay, adam.clip) == ((0.9, 0.999), 0.01, (), 1.0)
        assert (adam.schedule, adam.warmup) == ("constant", 0.0)
    asked = made.bound().evaluation
    assert (asked.samples, asked.temperature, asked.top_p, asked.max_new_tokens) == (32, 0.6, 0.95, 1024)
    assert asked.grading == "flexible" and asked.probes.limit == 1000  # type: ignore[union-attr]
    prompt = asked.task.prompt("How many?", few_shot_examples(asked.task, 8, 0))
    assert prompt.count("####") == 8 and "\\boxed" not in prompt
    assert asked.task.prompt("How many?").endswith("within \\boxed{}.\nAnswer:")
    (hard,) = (grid for _, grid in made.grids("math"))
    assert hard.post.sft.optimizer.lr == 5e-4 and hard.evaluation.problems == 5000 and hard.post.questions == 400_000
    rates = [v.settings[0] for v in made.grids("dial")[0][1].recipes]
    assert rates == ["together.sft.optimizer.lr=4e-05", "together.sft.optimizer.lr=1e-07"]
    for _, grid in made.grids("rollout_budget"):
        screen = grid.post.rl.source.screen
        assert (screen.extraction, screen.most, grid.post.questions) == ("flexible", 10_000, 71_000)
        assert grid.pretrain.checkpoints == (4_001_000_000_000,)
    assert [grid.excursions for _, grid in made.grids("mixtures")] == [(2 * 10**9, 20 * 10**9), (14 * 10**9,)]
    (heavy,) = (grid for _, grid in made.grids("math_heavy"))
    assert (heavy.pretrain.tokens, heavy.pretrain.checkpoints) == (60 * 10**9, (56 * 10**9,))
    assert {s.source.cut_off for s in (rl, after, plain)} == {asked.cut_off} == {"graded"}


@pytest.mark.slow
def test_the_same_file_shrunk_by_settings_runs_on_stand_ins(
    data: Path, tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    write(data / "text.jsonl", [{"text": f"{i} and {i} make {2 * i}, and more of it"} for i in range(400)])
    (tmp_path / "tok").mkdir()
    tokenizer.save(tmp_path / "tok", 700)
    local = [f"tokenizer={tmp_path / 'tok'}", "tokens=2000000"]
    for i in range(12):  # a local copy in the place of the hub
        local += [f"sources.{i}.1.{name}" for name in ("hub=", "path=text.jsonl", f"root={data}", "holdout=20")]
    prepare(load_mix("dolmino_50b", local), data / "dolmino_50b", 1, lambda _: None)
    made = load_study("paper_1b", [*PAPER, f"data.root={data}"])
    graph, store = expand(made), Store(tmp_path / "store")
    missing = [n for n in graph.nodes if "dolmino_math_60b" in str(n)]
    assert missing, "the other mix has not been prepared"
    for part in ("main", "math"):
        compute(made.grids(part)[0][1], store)
    for part in ("dial", "mixtures", "disputed", "primed"):
        for grid in (grid for _, grid in made.grids(part)):
            compute(replace(grid, excursions=grid.starts[-1:]), store)
    (tmp_path / "store" / "manifest.json").write_text(json.dumps(manifest_of(made, graph)))
    results = read_results(tmp_path / "store" / "manifest.json")
    assert results.tasks == ["openmath2_gsm8k", "openmath2"] and results.hard_task == "openmath2"
    assert results.extraction == "flexible"
    main = ["base", "rl", "sft", "sft_rl", "sft_gold", "sft_gold_rl", "parallel", "parallel_gold", "primed"]
    assert results.recipes("openmath2_gsm8k") == main
    larger = load_study("paper_4b", [*PAPER, "excursions=4000", f"data.root={data}"])
    compute(replace(larger.grids("main")[0][1], recipes=("sft_rl",)), store)
    beside = {e.variant for e in results.select(PassK, variant=ANY)} - {""}
    assert {"SFT at 1e-07", "combined", "curriculum, Gold", "RL after SFT at RL's own rate"} <= beside


def test_the_study_for_a_gpu_shrunk_by_settings_runs_on_its_own_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study is in bf16 throughout, including evaluation."""
    monkeypatch.setattr("foray.data.text._NUMBERS", 50)
    monkeypatch.setattr("foray.data.text._VALIDATION", 20)
    whole = load_study("gpu", [f"data.root={tmp_path}"])
    assert 48e6 < whole.model.parameters < 52e6 and whole.starts[-1] == 10**9
    small = ["tokens=12000", "vocab_size=600", "characters=60000", "whole_numbers=20"]
    prepare(load_mix("world_1b", small), tmp_path / "world_1b", 1, lambda _: None)
    shrunk = [*SMALL, "evaluation.dynamics=none", "post.sft.precision=bf16", "post.rl.precision=bf16"]
    made = load_study("gpu", [*shrunk, "recipes=rl,parallel", f"data.root={tmp_path}"])
    assert [name for name, _ in made.grids()] == ["main", "hard", "seeds"]
    one = replace(made.grids("main")[0][1], excursions=made.starts[-1:])
    compute(one, Store(tmp_path / "store"))
    samples = {n.precision for n in expand(one).nodes if isinstance(n, PassKNode)}
    assert samples == {"bf16"} and "bf16" in str(next(n.spec for n in expand(one).nodes if isinstance(n, PassKNode)))
