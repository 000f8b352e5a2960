"""The costs of a study as the report sums them, and figures drawn against the costs."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from foray.core.files import read_json, read_jsonl, seal
from foray.report import read_results
from foray.report.figures import f2_passk
from foray.report.spending import PHASES, add_axis, of_steps
from foray.study.graph import expand
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.run import run_study
from foray.study.spec import Dynamics, Study
from foray.study.store import Store
from test_study import quiet, replace, study


def watched() -> Study:
    made = study(recipes=("sft_rl", "rl", "sft"))
    last = made.pretrain.checkpoints[-1]
    return replace(made, evaluation=replace(made.evaluation, dynamics=Dynamics(last, points=2)))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("ledger"))
    run_study(watched(), store, quiet())
    return store


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as f:
        return list(csv.DictReader(f))


def logs(store: Store) -> dict[tuple[int, str, str], list[dict[str, Any]]]:
    """The whole log of every (M_t, recipe, stage)."""
    return {
        (e.tokens, e.recipe, e.stage): read_jsonl(e.node.folder(store) / "metrics.jsonl")
        for e in expand(watched()).entries
        if isinstance(e.node, TrainNode)
    }


def spent(rows: list[dict[str, Any]], word: str) -> float:
    return sum(v for row in rows for k, v in row.items() if word in k)


def test_the_ledger_sums_the_logs(done: Store) -> None:
    found = {
        (int(r["tokens"]), r["recipe"], int(r["stage_step"])): r for r in table(done.root / "report" / "ledger.csv")
    }
    log, post = logs(done), watched().post
    for tokens in watched().pretrain.checkpoints:
        base = log[tokens, "base", "pretrain"]
        rl, sft = log[tokens, "sft_rl", "rl"], log[tokens, "sft_rl", "sft"]
        both = rl + sft
        row = found[tokens, "sft_rl", post.sft_steps + post.rl_steps]
        assert float(row["flops"]) == pytest.approx(spent(both, "/flops/"), rel=1e-5)
        assert float(row["flops_decode"]) == pytest.approx(spent(rl, "flops/decode"), rel=1e-5)
        assert float(row["samples"]) == spent(both, "/samples")
        assert float(row["total_flops"]) == pytest.approx(spent(both + base, "/flops/"), rel=1e-5)
        assert float(row["total_seconds"]) == pytest.approx(spent(both + base, "seconds"), rel=1e-5)
        assert float(found[tokens, "base", 0]["flops"]) == 0
        assert float(found[tokens, "base", 0]["total_flops"]) == pytest.approx(spent(base, "/flops/"), rel=1e-5)
    last, half = watched().pretrain.checkpoints[-1], post.sft_steps // 2
    inside = found[last, "sft_rl", half]
    assert float(inside["flops"]) == pytest.approx(spent(log[last, "sft_rl", "sft"][:half], "/flops/"), rel=1e-5)
    ends = {place for place, row in found.items() if row["final"] == "True"}
    assert (last, "sft_rl", post.sft_steps + post.rl_steps) in ends and (last, "base", 0) in ends
    assert (last, "sft_rl", half) not in ends and (last, "sft_rl", post.sft_steps) not in ends
    assert len({(tokens, recipe) for tokens, recipe, _ in ends}) == len(ends)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["flops", "samples", "seconds"])
def test_every_curve_can_be_drawn_against_what_it_cost(done: Store, axis: str) -> None:
    index = report_study(watched(), done, axis=axis)
    assert index.parent == done.root / f"report-{axis}"
    drawn = {p.stem for p in (done.root / "report" / "figures").glob("*.csv")}
    assert (
        {p.stem for p in (index.parent / "figures").glob("*.png")} == drawn >= {"f2_passk", "f4_dynamics", "a2_rewards"}
    )
    totals = {
        (r["tokens"], r["recipe"], r["stage_step"]): float(r[f"total_{axis}"])
        for r in table(index.parent / "ledger.csv")
    }
    for row in table(index.parent / "figures" / "f2_passk.csv"):
        assert float(row[axis]) == totals[row["tokens"], row["recipe"], row["stage_step"]] > 0
    for row in table(done.root / "report" / "figures" / "f2_passk.csv"):
        assert axis not in row


def test_logs_without_flops_say_so(done: Store, tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only("f2_passk")
    store = Store(tmp_path)
    manifest = read_json(done.root / "manifest.json")
    for entry in manifest["entries"]:
        folder = store.root / entry["folder"]
        folder.mkdir(parents=True, exist_ok=True)
        for file in (done.root / entry["folder"]).glob("*.json*"):
            rows = read_jsonl(file) if file.name == "metrics.jsonl" else []
            bare = [{k: v for k, v in row.items() if "/flops/" not in k} for row in rows]
            (folder / file.name).write_text("".join(json.dumps(r) + "\n" for r in bare) or file.read_text())
    for folder in (store.root / "nodes").iterdir():
        seal(folder)
    from foray.report import write_report

    (store.root / "manifest.json").write_text(json.dumps(manifest))
    assert write_report(store.root / "manifest.json", tmp_path / "report").exists()
    with pytest.raises(ValueError, match="do not hold the flops"):
        write_report(store.root / "manifest.json", tmp_path / "report", "flops")


def test_a_recipe_whose_end_no_log_knows_does_not_cost_what_its_base_did(done: Store) -> None:
    results = read_results(done.root / "manifest.json", "flops")
    frame = f2_passk.data(results)
    assert add_axis(results, frame)["flops"].notna().all()
    unknown = [m for m in results.measured if m.kind != "train" or m.recipe != "sft"]
    with pytest.raises(ValueError, match="do not hold the flops of every point"):
        add_axis(dataclasses.replace(results, measured=tuple(unknown)), frame)


def test_the_pass_for_the_behaviour_is_a_phase_of_its_own_and_older_logs_cost_what_they_did() -> None:
    old = {"rl/flops/decode": 2.0, "rl/flops/update": 1.0, "rl/samples": 4.0, "seconds": 1.0}
    new = old | {"rl/flops/behaviour": 8.0}
    phases = [dict(zip(PHASES, of_steps(pd.DataFrame([row])).work)) for row in (old, new)]
    assert [p["behaviour"] for p in phases] == [0.0, 8.0] and phases[0]["decode"] == phases[1]["decode"] == 2.0
    assert of_steps(pd.DataFrame([new])).flops == 11.0 and of_steps(pd.DataFrame([old])).flops == 3.0


def test_evaluations_write_what_they_cost(done: Store) -> None:
    for node in expand(watched()).nodes:
        if node.kind in ("passk", "probes", "perplexity", "task_text"):
            assert sum(read_json(node.folder(done) / "ledger.json").values()) > 0
    assert "All evaluations together: passk" in (done.root / "report" / "index.html").read_text()
