"""Predictors of RL's gain: a planted predictor wins, a useless one loses, and the page says if data are too few."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foray.report import read_results, write_report
from foray.report.sections import readiness
from foray.report.sections.readiness import MEAN, PLAIN, errors, rows, too_little
from test_report import PARAMETERS, Study

PROBLEMS, SAMPLES = 50, 32


def graded(correct: Any) -> dict[str, Any]:
    """problems.jsonl with the given numbers of right answers in 32 samples."""
    return {
        "problems.jsonl": [
            {"id": f"p{i}", "tags": [], "samples": SAMPLES, "formatted": 9, "truncated": 0, "tokens": 1,
             "correct": {"strict": int(c)}}
            for i, c in enumerate(correct)
        ]
    }  # fmt: skip


def study(root: Path, pretrainings: int, checkpoints: int = 4, seeds: int = 2, **where: Any) -> Study:
    """The gain grows with base pass@1, but not by it alone; ``signal`` is the gain itself, ``entropy`` is nothing."""
    made, random = Study(root), np.random.default_rng(7)
    for start in range(pretrainings):
        for i in range(checkpoints):
            place = {"tokens": 10**6 * (i + 1), "pretrain_seed": start, "task": "t", **where}
            right = 2 * i + random.integers(1, 4, PROBLEMS)
            made.add("passk", graded(right), recipe="base", stage_step=0, shots=8, **place)
            made.add("passk", graded(right * 0 + 32), recipe="base", stage_step=0, shots=0, **place | {"final": False})
            mean = 2 * i + int(random.integers(0, 5))
            for seed in range(seeds):
                gain, sign = mean + 2 * seed - seeds + 1, 1 if seeds > 1 else 0
                end = {"recipe": "rl", "stage_step": 9, "seed": seed, "trained_on": "t", **place}
                made.add("passk", graded(right + gain), shots=0, **end)
                first = {"step": 1, "rl/reward": 0.2, "rl/score": 0.1, "rl/format": 0.3 + 0.1 * sign * seed}
                first |= {"rl/signal": mean / SAMPLES, "rl/entropy": float(random.normal())}
                later = dict.fromkeys(first, 99.0) | {"step": 2}
                made.add("train", {"metrics.jsonl": [later, first]}, stage="rl", **end)
    return made


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return rows(read_results(study(tmp_path_factory.mktemp("ready"), 6).write()))


def test_a_row_is_an_m_t(frame: pd.DataFrame) -> None:
    assert len(frame) == 24 and set(frame["rl_seeds"]) == {2} and set(frame["model_parameters"]) == {PARAMETERS}
    assert frame["gain"].to_numpy() == pytest.approx(frame["rl/signal"].to_numpy()), "the mean over paired seeds"
    assert set(frame["rl/reward"]) == {0.2}, "of the first update alone"
    assert frame["rl/format"].to_numpy() == pytest.approx(0.35), "averaged over RL's seeds"
    assert frame["pass@1"].max() < 0.3, "the base as it is evaluated in the end, few-shot"
    assert frame["rl/reward_variance"].isna().all() and "rl/reward_variance" not in readiness.predictors(frame)
    assert frame["log pass@1"].min() >= math.log(0.5 / (PROBLEMS * SAMPLES))


def test_a_validation_base_does_not_stand_in(tmp_path: Path) -> None:
    made = study(tmp_path, 1, 1, 1)
    base = next(e for e in made.entries if e["recipe"] == "base" and e["final"])
    made.entries.remove(base)
    made.entries.append(base | {"split": "validation"})
    assert rows(read_results(made.write())).empty


def test_the_planted_predictor_wins_and_a_useless_one_loses(frame: pd.DataFrame) -> None:
    found = {e.predictor: e for e in errors(frame)}
    assert list(found)[:3] == [MEAN, PLAIN, "rl/signal"]
    assert found["rl/signal"].rmse < 1e-9 and found["rl/signal"].hi < 0
    assert found[PLAIN].difference == 0.0 and found[PLAIN].rmse < found[MEAN].rmse
    assert found["rl/entropy"].rmse > found[PLAIN].rmse and found["rl/entropy"].lo > 0
    assert found["rl/reward"].rmse == pytest.approx(found[MEAN].rmse), "a constant says no more than the mean"
    assert all(e.lo <= e.difference <= e.hi for e in found.values() if e.predictor != PLAIN)
    shown = readiness.html_of(frame, errors(frame))
    assert "6 pre-trainings" in shown and "left out: rl/reward_variance" in shown and 'class="range"' in shown


def test_errors_agree_with_fitting_each_line_by_hand(frame: pd.DataFrame) -> None:
    squares = []
    for seed in range(6):
        fit, held = frame[frame["pretrain_seed"] != seed], frame[frame["pretrain_seed"] == seed]
        line = np.polyfit(fit["rl/entropy"], fit["gain"], 1)
        squares += list((held["gain"] - np.polyval(line, held["rl/entropy"])) ** 2)
    (found,) = [e for e in errors(frame) if e.predictor == "rl/entropy"]
    assert found.rmse == pytest.approx(100 * math.sqrt(np.mean(squares)))


def test_a_checkpoint_never_predicts_another_of_its_own_pretraining() -> None:
    """Two pre-trainings with opposite lines: each predicts the other wrongly, though both are perfectly straight."""
    x = np.tile(np.arange(4.0), 2)
    frame = pd.DataFrame({"model_parameters": 1, "mix": ["a"] * 4 + ["b"] * 4, "pretrain_seed": 0, "tokens": x,
                          "pass@1": x, "gain": np.concatenate([x[:4], 3 - x[4:]]) / 100, "rl_seeds": 1})  # fmt: skip
    found = {e.predictor: e for e in errors(frame)}
    assert found["pass@1"].rmse == pytest.approx(math.sqrt(np.mean((2 * np.arange(4.0) - 3) ** 2)))
    assert math.isnan(found[MEAN].lo) and "too few for intervals" in readiness.html_of(frame, errors(frame))


@pytest.mark.parametrize(("pretrainings", "checkpoints"), [(1, 6), (3, 1), (0, 0)])
def test_too_little_is_said(
    pretrainings: int, checkpoints: int, tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    manifest = study(tmp_path, pretrainings, checkpoints).write()
    frame = rows(read_results(manifest))
    assert errors(frame) == []
    assert f"there are {pretrainings * checkpoints} M_t of {pretrainings} pre-training" in too_little(frame)
    page = write_report(manifest, tmp_path / "report").read_text()
    assert 'id="readiness"' not in page and "needs base and RL from at least 4 M_t" in page


def test_mixes_and_sizes_beside_the_main_grid_count_and_variants_do_not(
    tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    made = study(tmp_path / "a", 1, 2)
    others: list[dict[str, Any]] = [{"mix": "math"}, {"model_parameters": 5 * PARAMETERS}, {"variant": "rl.lr=1"}]
    for name, where in zip("bcd", others):
        other = study(tmp_path / "a" / name, 1, 2, **where)
        made.entries += [e | {"folder": f"{name}/{e['folder']}"} for e in other.entries]
    manifest = made.write()
    frame = rows(read_results(manifest))
    assert sorted(zip(frame["mix"], frame["model_parameters"])) == sorted(
        [("", PARAMETERS)] * 2 + [("math", PARAMETERS)] * 2 + [("", 5 * PARAMETERS)] * 2
    )
    page = write_report(manifest, tmp_path / "report").read_text()
    assert 'id="readiness"' in page and readiness.TITLE in page
    lines = (tmp_path / "report" / "readiness_errors.csv").read_text().splitlines()
    assert lines[0] == "predictor,rmse,difference,lo,hi,pretrainings,rows" and lines[1].startswith("mean alone,")
