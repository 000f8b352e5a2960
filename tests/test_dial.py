"""The figure of the dial: positions by the ratio of SFT's rate to RL's, one M_t, the paper's three beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from foray.report import NotDrawable, read_results
from foray.report.figures import p1_dial
from foray.report.results import AVERAGE
from test_report import Study

PARAMETERS = 1000
SKILL = {"base": (0.24, 0.8, 0.6), "rl": (0.4, 0.7, 0.6), "sft": (0.25, 0.75, 0.5), "sft_rl": (0.5, 0.7, 0.5)}
POSITIONS = {0.1: (0.35, 0.7, 0.6), 1.0: (0.3, 0.8, 0.55), 10.0: (0.2, 0.75, 0.4)}


def measure(made: Study, recipe: str, skill: tuple[float, float, float], tokens: int, **more: object) -> None:
    """pass@1, pass@32 and the share of the probes."""
    one, top, ability = skill
    right = np.where(np.arange(200) < top * 200, made.random.binomial(32, one / top, 200), 0)
    rows = [
        {"id": f"p{i}", "tags": [], "samples": 32, "correct": {"strict": int(c)}, "formatted": 32, "truncated": 0,
         "tokens": 9} for i, c in enumerate(right)
    ]  # fmt: skip
    where = {"tokens": tokens, "recipe": recipe, "stage_step": 9 * (recipe != "base"), **more}
    made.add("passk", {"problems.jsonl": rows}, task="t", shots=8 if recipe == "base" else 0, **where)
    probe = {"value": ability, "n": 200, "chance": 0.25, "per_doc": [int(i < 200 * ability) for i in range(200)]}
    made.add("probes", {"probes.json": {"piqa": probe}}, **where)


def dial(root: Path, tokens: tuple[int, ...] = (4000, 9000)) -> Study:
    made = Study(root)
    for t in tokens:
        for recipe, skill in SKILL.items():
            measure(made, recipe, skill, t)
        for ratio, skill in POSITIONS.items():
            main = {} if ratio == 1 else {"variant": f"SFT at {ratio:g}", "own": False}
            measure(
                made, "parallel", skill, t, **main, learning_rates={"rollouts": 1e-6, "demonstrations": ratio * 1e-6}
            )
    return made


def test_the_dial_has_a_position_a_ratio_at_the_last_m_t(tmp_path: Path) -> None:
    made = dial(tmp_path)
    measure(made, "parallel", (0.1, 0.2, 0.3), 9000, variant="weights", own=False, learning_rates={
        "rollouts": 1e-6, "demonstrations": 1e-6})  # fmt: skip
    results = read_results(made.write(model_parameters=PARAMETERS))
    frame = p1_dial.data(results)
    assert set(frame["tokens"]) == {9000} and set(frame["against"]) == {"pass@32", AVERAGE}
    top = frame[frame["against"] == "pass@32"]
    assert list(top["recipe"]) == ["base", "rl", "sft", "sft_rl", "parallel", "parallel", "parallel"]
    assert list(top["ratio"].dropna()) == [0.1, 1.0, 10.0]
    assert top["y"].tolist() == pytest.approx([0.8, 0.7, 0.75, 0.7, 0.7, 0.8, 0.75], abs=0.005)
    assert (top["x_lo"] < top["x"]).all() and (top["y_lo"] < top["y"]).all()
    assert frame[frame["against"] == AVERAGE]["y"].tolist() == pytest.approx([0.6, 0.6, 0.5, 0.5, 0.6, 0.55, 0.4])
    assert isinstance(p1_dial.draw(frame), Figure) and "learning rate to RL's" in p1_dial.caption(frame)


def test_the_papers_three_positions_stand_beside_the_dial(tmp_path: Path) -> None:
    results = read_results(dial(tmp_path).write(model_parameters=PARAMETERS))
    behind = p1_dial.behind(results, p1_dial.data(results))
    assert behind is not None and behind.version == "repository"
    top, average = behind.curves
    assert list(top.x) == pytest.approx([0.411, 0.362, 0.328], abs=0.001)
    assert list(top.y) == pytest.approx([0.728, 0.775, 0.812], abs=0.001)
    assert list(average.y) == pytest.approx([0.475, 0.473, 0.458], abs=0.001)


def test_all_of_the_dial_is_of_the_pretrainings_that_every_position_has(tmp_path: Path) -> None:
    made = dial(tmp_path, tokens=(9000,))
    for recipe, (_, top, ability) in SKILL.items():  # a pre-training without the dial, far better
        measure(made, recipe, (top, top, ability), 9000, pretrain_seed=1)
    frame = p1_dial.data(read_results(made.write(model_parameters=PARAMETERS)))
    assert set(frame["pretrainings"]) == {1} and set(frame["recipe"]) == {*SKILL, "parallel"}
    (base,) = frame.loc[(frame["recipe"] == "base") & (frame["against"] == AVERAGE), "x"]
    assert base < 0.4


def test_one_position_is_no_dial(tmp_path: Path) -> None:
    made = Study(tmp_path)
    measure(made, "parallel", (0.3, 0.8, 0.5), 4000, learning_rates={"rollouts": 1e-6, "demonstrations": 1e-6})
    measure(made, "base", (0.3, 0.8, 0.5), 4000)
    with pytest.raises(NotDrawable, match="two rates of SFT"):
        p1_dial.data(read_results(made.write(model_parameters=PARAMETERS)))
