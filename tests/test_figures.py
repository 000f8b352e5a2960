"""The figures that show parts of a study (seeds, variants, mixes, sizes, screens), on synthetic results."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from foray.report import NotDrawable, Results, csv_text, read_results, write_report
from foray.report import figures as figure_package
from foray.report.figures import (
    a1_seeds,
    a3_epochs,
    a4_shots,
    f1_overview,
    f2_passk,
    f3_gold,
    f4_dynamics,
    f6_parallel,
    f7_hard,
    f8_mix_size,
    r1_rollouts,
    r4_entropy,
)
from foray.report.headline import finding
from foray.report.measurements import PassK
from foray.report.rules import CLAIMS, rule_on
from test_report import HOSTILE, PARAMETERS, TOKENS, Study, faint_words

NEW = (f3_gold, f7_hard, f8_mix_size, a1_seeds, a3_epochs, a4_shots, r1_rollouts)
STEPS = 40
FLOPS = 1e9  # of every logged step, in each of two columns
MAIN: dict[str, Any] = {"task": "world_easy"}
TRAINED: dict[str, Any] = {"trained_on": "world_easy", "shots": 0}
GOLD = {"sft_gold": 40, "sft_gold_rl": 80}


def log(study: Study, stage: str, steps: int = STEPS, epochs: float = 0.0, reward: float = 0.0, **where: Any) -> None:
    """The log of one stage, with the ``reward`` at the end and ``epochs`` over the demonstrations by the end."""
    rows = []
    for i in range(steps):
        part = (i + 1) / steps
        name = "rl" if reward else "sft" if epochs else "pretrain"
        row = {"step": i + 1, "seconds": 1.0, f"{name}/samples": 8.0}
        row |= {f"{name}/flops/update": FLOPS, f"{name}/flops/decode": FLOPS}
        row |= {"rl/reward": reward * part} if reward else {"sft/epoch": epochs * part} if epochs else {}
        rows.append(row)
    study.add("train", {"metrics.jsonl": rows}, stage=stage, **where)


def fill(study: Study) -> Study:
    """Small versions of all parts that a figure here asks for."""
    for (i, tokens), start in itertools.product(enumerate(TOKENS), (0, 1)):
        at: dict[str, Any] = {"tokens": tokens, "pretrain_seed": start}
        grown = (i + 1) / len(TOKENS)
        log(study, "pretrain", (i + 1) * STEPS, recipe="base", stage_step=(i + 1) * STEPS, seed=start, **at)
        for shots, skill in ((8, 1.0), (0, 0.4), (2, 0.8)):
            base = {"recipe": "base", "stage_step": 0, "seed": start, "shots": shots, "final": shots == 8}
            study.passk(maturity=grown * skill, **MAIN, **base, **at)
        base = {"recipe": "base", "stage_step": 0, "seed": start, "shots": 8}
        study.passk(maturity=0.4 * grown, task="world_hard", **base, **at)
        for seed in (0, 1, 2):
            run = {"recipe": "rl", "stage_step": STEPS, "seed": seed, **at}
            study.passk(maturity=grown * (0.8 + 0.1 * seed), **MAIN, **TRAINED, **run)
            log(study, "rl", reward=0.2 + 0.5 * grown + 0.02 * seed + 0.03 * start, trained_on="world_easy", **run)
        for recipe in ("rl", "sft", "sft_rl", "parallel"):
            run = {"recipe": recipe, "stage_step": STEPS, **at}
            study.passk(maturity=0.5 * grown, task="world_hard", trained_on="world_hard", shots=0, **run)
            log(study, recipe, epochs=5.0, trained_on="world_hard", **run)
        for recipe, steps in GOLD.items():
            for variant, factor in (("", 1), ("as many epochs as SFT", 3)):
                run = {"recipe": recipe, "variant": variant, "trained_on": "world_easy", **at}
                study.passk(
                    maturity=grown * (1.0 if variant else 0.8), stage_step=factor * steps, shots=0, **MAIN, **run
                )
                log(study, "sft_gold", factor * STEPS, epochs=factor * 2.0, stage_step=factor * STEPS, **run)
                if recipe == "sft_gold_rl":
                    log(study, "rl", factor * STEPS, reward=0.5, stage_step=factor * steps, **run)
    epochs(study)
    models(study)
    budgets(study)
    return study


def epochs(study: Study) -> None:
    """SFT watched from one M_t, at the main grid's length and for twice as long."""
    for variant, most in (("", 5.0), ("10 epochs", 10.0)):
        run = {"tokens": TOKENS[2], "recipe": "sft", "variant": variant}
        log(study, "sft", epochs=most, stage_step=STEPS, trained_on="world_easy", **run)
        for step in (4, 10, 20, STEPS):
            skill = 0.4 + 0.3 * (most * step / STEPS / 5) ** 0.5
            study.passk(maturity=skill, stage_step=step, final=step == STEPS, **MAIN, **TRAINED, **run)


def models(study: Study) -> None:
    """Other mixes and another size, from two M_t. The last M_t counts."""
    for mix, size, tokens in itertools.product(("", "math-rich"), (PARAMETERS, 4 * PARAMETERS), TOKENS[-2:]):
        if mix == "" and size == PARAMETERS:
            continue
        where = {"mix": mix, "tokens": tokens} | ({"model_parameters": size} if size != PARAMETERS else {})
        for task, skill in (("world_easy", 0.9), ("world_hard", 0.5)):
            grown = skill * tokens / TOKENS[-1]
            study.passk("base", 0.8 * grown, task=task, shots=8, stage_step=0, **where)
            study.passk("rl", grown, task=task, trained_on=task, shots=0, stage_step=STEPS, **where)


def budgets(study: Study) -> None:
    """RL with 5 and 64 rollouts a prompt on Easy and on Hard questions, and a trial that no figure may show."""
    for screen, rollouts, seed in itertools.product(([16, 64, "strict"], [0, 8, "lenient"]), (5, 64), (0, 1)):
        run = {"recipe": "rl", "tokens": TOKENS[2], "seed": seed, "variant": f"{screen[0]}-{screen[1]} n={rollouts}"}
        log(study, "rl", reward=0.6, stage_step=STEPS, trained_on="world_easy", **run)
        prompts = 320 // rollouts
        for step in (5, 10, 20, STEPS):
            skill = 0.3 + 0.4 * (step / STEPS) ** 0.5 * (1.0 if screen[0] else 0.8)
            seen = {"rollouts": rollouts, "examples": step * prompts, "screen": screen}
            place = {"stage_step": step, "final": step == STEPS}
            study.passk(maturity=skill, **place, **MAIN, **TRAINED, **run, **seen)
    trial = MAIN | {"split": "validation", "tokens": TOKENS[2], "stage_step": STEPS, "trained_on": "world_easy"}
    for recipe, seen in (("rl", {"rollouts": 7, "examples": 3, "screen": [0, 8, "strict"]}), ("sft_gold", {})):
        study.passk(recipe, 1.0, shots=0, variant="trial of 3 epochs", **trial, **seen)
    study.passk("base", 0.0, shots=16, **MAIN | {"split": "validation", "tokens": TOKENS[0], "stage_step": 0})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(Study(tmp_path_factory.mktemp("parts"))).write()


@pytest.fixture(scope="module")
def results(manifest: Path) -> Results:
    return read_results(manifest)


def test_every_figure_has_a_title_in_words_and_a_row_in_the_docs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8")
    figures = figure_package.discover()
    listed = re.findall(r"^\| `([fpra]\d\w*)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(f.NAME for f in figures)
    assert all(len(f.TITLE.split()) > 4 for f in figures)


@pytest.mark.parametrize("figure", NEW, ids=lambda m: m.NAME)
def test_figure_contract(figure: figure_package.FigureModule, results: Results, tmp_path: Path) -> None:
    assert figure in figure_package.discover() and figure.TITLE.startswith(figure.NAME[:2].upper())
    frame = figure.data(results)
    assert len(frame) and {"tokens", "tokens_per_parameter", "recipe"} <= set(frame.columns)
    shares = frame[frame["reference"] == ""] if "reference" in frame else frame
    assert shares[["value", "lo", "hi"]].stack().between(0.0, 1.0).all()
    assert not frame.duplicated().any() and "trial" not in csv_text(frame)
    assert len(figure.caption(frame)) > 40 and "  " not in figure.caption(frame)
    drawn = figure.draw(frame.copy())
    assert isinstance(drawn, Figure) and any(axes.lines for axes in drawn.axes)
    with pytest.raises(NotDrawable) as reason:
        figure.data(read_results(Study(tmp_path).write()))
    assert str(reason.value) and "\n" not in str(reason.value)


@pytest.mark.parametrize("figure", NEW, ids=lambda m: m.NAME)
def test_text_of_a_figure_stands_out_from_its_ground(figure: figure_package.FigureModule, results: Results) -> None:
    assert faint_words(figure, results) == set()


def test_figures_come_in_the_papers_order() -> None:
    names = [m.NAME.partition("_")[0] for m in figure_package.discover()]
    numbered = {"f": 8, "p": 1, "r": 5, "a": 4}
    assert names == [f"{kind}{i}" for kind, last in numbered.items() for i in range(1, last + 1)]


def test_gold_by_epochs_is_dashed_and_the_main_grid_is_not(results: Results) -> None:
    frame = f3_gold.data(results)
    assert set(frame["variant"]) == {"", "as many epochs as SFT"}
    assert set(frame.loc[frame["variant"] != "", "recipe"]) == set(GOLD)
    assert set(frame["metric"]) == {"pass@1", "pass@8", "pass@32"} and set(frame["tokens"]) == set(TOKENS)
    one = frame[(frame["recipe"] == "sft_gold") & (frame["metric"] == "pass@1") & (frame["variant"] != "")]
    assert list(one["runs"]) == [2] * len(TOKENS)
    assert "Dashed" in f3_gold.caption(frame) and "Dashed" not in f3_gold.caption(frame[frame["variant"] == ""])


@pytest.mark.parametrize("figure", [f2_passk, f3_gold, f6_parallel, f7_hard], ids=lambda m: m.NAME)
def test_bases_are_drawn_leniently_graded_too(figure: figure_package.FigureModule, results: Results) -> None:
    with_parallel = results.rows(recipe="rl").assign(recipe="parallel")
    both = replace(results, table=pd.concat([results.table, with_parallel]))
    parallel = tuple(replace(e, recipe="parallel") for e in results.select(PassK, recipe="rl"))
    both = replace(both, measured=results.measured + parallel)
    frame = figure.data(both)
    rows = frame[(frame["extraction"] == "lenient") & (frame["metric"] == "pass@1")]
    task, shown = rows["task"].iloc[0], results.rows(final=True, recipe="base")
    shown = shown[(shown["task"] == task) & (shown["extraction"] == "lenient") & (shown["metric"] == "pass@1")]
    assert set(rows["recipe"]) == {"base"} and list(rows["tokens"]) == list(TOKENS)
    assert np.allclose(rows["value"], shown.groupby("tokens")["value"].mean())
    for drawn, dashed in ((frame, True), (frame[frame["extraction"] != "lenient"], False)):
        graphs = [axes for axes in figure.draw(drawn).axes if axes.lines and axes.get_title() == "pass@1"]
        at_base = [line for axes in graphs for line in axes.lines if line.get_color() == "#666666"]
        assert [line.get_linestyle() for line in at_base] == ["-", "--"][: 1 + dashed]
        assert ("last number accepted" in figure.caption(drawn)) == dashed


def test_gold_costs_what_its_own_variant_cost(manifest: Path) -> None:
    frame = f3_gold.data(read_results(manifest, "flops"))
    once = frame[(frame["metric"] == "pass@1") & (frame["extraction"] == "strict")]
    own = once.set_index(["recipe", "variant", "tokens"])["flops"]
    for i, tokens in enumerate(TOKENS):
        stage = STEPS * 2 * FLOPS
        assert own[("base", "", tokens)] == (i + 1) * stage
        assert own[("sft_gold", "", tokens)] == (i + 2) * stage
        assert own[("sft_gold_rl", "as many epochs as SFT", tokens)] == (i + 1 + 2 * 3) * stage


def test_the_hard_task_is_the_second_one(results: Results) -> None:
    frame = f7_hard.data(results)
    assert set(frame["task"]) == {"world_hard"}
    assert list(frame["recipe"].unique()) == ["base", "rl", "sft", "sft_rl", "parallel"]


def test_every_model_is_shown_at_its_last_start(results: Results) -> None:
    frame = f8_mix_size.data(results)
    assert set(frame["tokens"]) == {TOKENS[-1]} and set(frame["mix"]) == {"", "math-rich"}
    assert set(frame["model_parameters"]) == {PARAMETERS, 4 * PARAMETERS}
    levels, gains = frame[frame["reference"] == ""], frame[frame["reference"] == "base"]
    # Two tasks, two metrics, base and RL, four models; the gains on the last task.
    assert len(levels) == 2 * 2 * 2 * 4 and len(gains) == 2 * 4 and set(gains["task"]) == {"world_hard"}
    at = ["task", "metric", "mix", "model_parameters"]
    means = levels.pivot(index=at, columns="recipe", values="value")
    assert np.allclose((means["rl"] - means["base"])[pd.MultiIndex.from_frame(gains[at])], gains["value"])
    assert set(frame["pretrainings"]) == {1}, "the main mix has a pre-training that the others lack"
    large = frame[frame["model_parameters"] == 4 * PARAMETERS]
    assert set(large["tokens_per_parameter"]) == {TOKENS[-1] / (4 * PARAMETERS)}


def test_a_hard_task_that_is_asked_but_not_measured_yet_hides_no_gain(results: Results) -> None:
    easy = tuple(m for m in results.measured if m.task != "world_hard")
    early = replace(results, measured=easy, table=results.table[results.table["task"] != "world_hard"])
    assert early.hard_task == "world_hard"
    frame = f8_mix_size.data(early)
    assert set(frame["task"]) == {"world_easy"} and len(frame[frame["reference"] == "base"]) == 2 * 4


def test_bases_of_several_mixes_without_rl_are_said_to_be_that(results: Results) -> None:
    bases = replace(
        results,
        table=results.table[results.table["recipe"] == "base"],
        measured=tuple(m for m in results.measured if m.recipe == "base"),
    )
    frame = f8_mix_size.data(bases)
    assert "RL" not in f8_mix_size.caption(frame) and "the base (open markers). " in f8_mix_size.caption(frame)
    assert not any("RL" in t.get_text() for legend in f8_mix_size.draw(frame).legends for t in legend.texts)
    assert "after RL (filled). Below, the gain" in f8_mix_size.caption(f8_mix_size.data(results))


def test_every_run_is_a_dot_with_its_reward(results: Results) -> None:
    frame = a1_seeds.data(results)
    runs = frame[frame["recipe"] == "rl"]
    assert len(runs) == len(TOKENS) * 2 * 3 and not runs.duplicated(["tokens", "pretrain_seed", "seed"]).any()
    ends = runs[runs["tokens"] == TOKENS[-1]]
    reached = 0.7 + 0.02 * ends["seed"] + 0.03 * ends["pretrain_seed"]
    assert ends["reward"].to_numpy() == pytest.approx(
        reached.to_numpy() * np.mean([(STEPS - i) / STEPS for i in range(5)])
    )
    bases = frame[frame["recipe"] == "base"]
    assert bases["reward"].isna().all() and len(bases) == 2 * len(TOKENS) and set(bases["shots"]) == {8}


def test_epochs_are_those_of_the_log(results: Results) -> None:
    frame = a3_epochs.data(results)
    for variant, most in (("", 5.0), ("10 epochs", 10.0)):
        own = frame[(frame["variant"] == variant) & (frame["metric"] == "pass@32") & (frame["recipe"] == "sft")]
        assert list(own["epoch"]) == pytest.approx([most * step / STEPS for step in (4, 10, 20, STEPS)])
    assert set(frame["recipe"]) == {"sft"}  # SFT-Gold was not watched: its end alone is no curve


def test_a_curve_is_of_the_runs_that_have_all_of_it(tmp_path: Path) -> None:
    """Run 0 is watched, run 1 of another pre-training is not, and is far better at the end."""
    study = Study(tmp_path)
    for start, skill in ((0, 0.2), (1, 1.0)):
        at: dict[str, Any] = {"tokens": TOKENS[0], "pretrain_seed": start}
        study.passk("base", skill, stage_step=0, shots=8, seed=start, **MAIN, **at)
        for recipe, more in (("sft", {"epochs": 4.0}), ("rl", {"reward": 0.5})):
            where = {"recipe": recipe, **at}
            log(study, recipe, **more, stage_step=STEPS, trained_on="world_easy", **where)
            folder = study.root / study.entries[-1]["folder"] / "metrics.jsonl"
            rows = [json.loads(line) for line in folder.read_text().splitlines()]
            logged = [row | {"rl/entropy": 1.0 + start - row["step"] / 99} for row in rows]
            folder.write_text("".join(json.dumps(row) + "\n" for row in logged))
            for step in (10, 20, STEPS) if start == 0 else (STEPS,):
                study.passk(maturity=skill, stage_step=step, final=step == STEPS, **MAIN, **TRAINED, **where)
    results = read_results(study.write())
    for figure in (a3_epochs, f4_dynamics, r4_entropy):
        frame = figure.data(results)
        assert set(frame["runs"]) == {1} and set(frame["pretrainings"]) == {1}, figure.NAME
        ends = results.rows(pretrain_seed=0, stage_step=STEPS, metric="pass@1", extraction="strict")
        shown = frame[(frame["stage_step"] == STEPS) & (frame["metric"] == "pass@1")].set_index("recipe")["value"]
        assert shown.to_dict() == {r: v for r, v in zip(ends["recipe"], ends["value"]) if r in shown}
    assert r4_entropy.data(results)["entropy"].max() < 1.0, "of run 0 alone"


def test_rollouts_of_another_mix_are_drawn_beside_its_own_base(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for mix, rollouts in itertools.product(("", "public"), (5, 64)):
        at: dict[str, Any] = {"tokens": TOKENS[0], "mix": mix, **MAIN}
        if rollouts == 5:
            study.passk("base", 0.9 if mix else 0.1, stage_step=0, shots=8, **at)
        for step in (10, STEPS):
            run = {"variant": f"n={rollouts}", "rollouts": rollouts, "examples": step, "final": step == STEPS}
            study.passk("rl", 1.0, stage_step=step, **run, **TRAINED, **at)
        log(study, "rl", reward=0.5, stage_step=STEPS, recipe="rl", variant=f"n={rollouts}", mix=mix,
            tokens=TOKENS[0], trained_on="world_easy")  # fmt: skip
    whole = read_results(study.write())
    frame = r1_rollouts.data(whole)
    assert list(frame["mix"].unique()) == ["", "public"] and frame[frame["recipe"] == "rl"]["flops"].notna().all()
    bases = frame[(frame["recipe"] == "base") & (frame["metric"] == "pass@32")].set_index("mix")["value"]
    assert len(bases) == 2 and bases["public"] > bases[""] + 0.3
    titles = [axes.get_title() for axes in r1_rollouts.draw(frame).axes]
    assert titles == [f"all questions, {name}" for name in ("main mix", "main mix", "public", "public")]
    assert r1_rollouts.behind(whole, frame) is None, "the paper has Easy and Hard questions alone"
    study.entries = [e for e in study.entries if e.get("mix") or e["recipe"] == "base"]
    alone = r1_rollouts.data(read_results(study.write()))
    assert {axes.get_title() for axes in r1_rollouts.draw(alone).axes} == {"all questions"}


def test_models_that_were_trained_on_another_task_are_said_to_be(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for task, recipe in itertools.product(("world_easy", "world_hard"), ("base", "rl", "sft_rl")):
        where = {"trained_on": "world_easy"} if recipe != "base" else {}
        study.passk(recipe, 0.5, tokens=TOKENS[0], task=task, stage_step=STEPS, shots=0, **where)
    results = read_results(study.write())
    assert "models post-trained on world_easy." in f7_hard.caption(f7_hard.data(results))
    ruling = rule_on(CLAIMS[2], results)
    assert "pass@1 on world_hard, trained on world_easy" in ruling.effect


def test_shots_of_bases_alone(results: Results) -> None:
    frame = a4_shots.data(results)
    assert set(frame["recipe"]) == {"base"} and list(frame["shots"].unique()) == [0, 2, 8]
    assert set(frame["runs"]) == {2} and len(frame) == 3 * 3 * len(TOKENS)


def test_a_line_of_shots_is_of_the_same_pretrainings(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for start, shots in ((0, 8), (0, 0), (1, 8)):
        where = {"tokens": TOKENS[0], "stage_step": 0, "pretrain_seed": start, "final": shots == 8}
        study.passk("base", 1.0, shots=shots, **MAIN, **where)
    assert set(a4_shots.data(read_results(study.write()))["pretrainings"]) == {1}


def test_another_number_of_shots_at_the_end_is_no_point_inside_training(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.passk("base", 1.0, stage_step=0, shots=8, tokens=TOKENS[0], **MAIN)
    for recipe in ("rl", "sft"):
        run: dict[str, Any] = {"recipe": recipe, "tokens": TOKENS[0], "trained_on": "world_easy"}
        log(study, recipe, epochs=2.0, stage_step=STEPS, **run)
        for shots in (0, 8):
            study.passk(maturity=0.5, stage_step=STEPS, shots=shots, final=shots == 0, **MAIN, **run)
    for figure in (f4_dynamics, a3_epochs):
        with pytest.raises(NotDrawable, match="no checkpoint inside"):
            figure.data(read_results(study.write()))


def test_rl_that_leaves_sft_early_is_drawn_from_there_and_not_said_to_start_at_its_end(tmp_path: Path) -> None:
    """SFT has 40 updates and is watched; SFT→RL starts after 20 of them and is not watched until then."""
    study, at = Study(tmp_path), {"tokens": TOKENS[0], "seed": 0}
    log(study, "pretrain", recipe="base", stage_step=STEPS, **at)
    study.passk("base", 1.0, stage_step=0, shots=8, **MAIN, **at)
    log(study, "sft", epochs=4.0, recipe="sft", stage_step=STEPS, trained_on="world_easy", **at)
    for step in (10, 20, 30, STEPS):
        study.passk("sft", 0.5, stage_step=step, final=step == STEPS, **MAIN, **TRAINED, **at)
    for stage, kind, step in (("sft", {"epochs": 2.0}, 20), ("rl", {"reward": 0.5}, 30)):
        log(study, stage, step - 20 or 20, **kind, recipe="sft_rl", stage_step=step, trained_on="world_easy", **at)
    study.passk("sft_rl", 0.5, stage_step=25, final=False, **MAIN, **TRAINED, **at)
    study.passk("sft_rl", 0.5, stage_step=30, **MAIN, **TRAINED, **at)
    manifest = study.write()
    frame = f4_dynamics.data(read_results(manifest, "flops"))
    path = frame[(frame["recipe"] == "sft_rl") & (frame["metric"] == "pass@1")]
    assert list(path["stage"]) == ["base", "sft", "sft", "rl", "rl"] and list(path["stage_step"]) == [0, 10, 20, 25, 30]
    assert list(path["flops"]) == [2 * FLOPS * (STEPS + step) for step in path["stage_step"]]
    results = read_results(manifest)
    overview = f1_overview.data(results)
    assert "and SFT→RL against SFT." in f1_overview.caption(overview)
    assert "the SFT model it starts from" in f1_overview.caption(overview.assign(starts_there=True))
    assert any("SFT→RL against SFT" in s for s in finding(results).sentences)
    unknown = replace(results, planned=())  # of a manifest without the first stage
    assert set(f4_dynamics.data(unknown)["recipe"]) == {"sft_rl"}
    assert any("RL after SFT" in s for s in finding(unknown).sentences)


def test_rollouts_have_examples_and_flops(results: Results) -> None:
    frame = r1_rollouts.data(results)
    assert list(frame["screen"].unique()) == ["16-64", "0-8 lenient"]
    assert [r1_rollouts.name_of(s) for s in ("16-64", "0-8", "4-12", "")] == [
        "Easy (16-64 of 64)", "Hard (0-8 of 64)", "4-12 of 64", "all questions",
    ]  # fmt: skip
    points = frame[frame["recipe"] == "rl"]
    assert set(points["rollouts"]) == {5, 64} and set(points["runs"]) == {2}
    assert (points["total_rollouts"] == points["rollouts"] * points["examples"]).all()
    assert (points["total_rollouts"] == points["stage_step"] * 320).all()
    assert points["flops"].to_numpy() == pytest.approx(points["stage_step"].to_numpy() * 2 * FLOPS)
    bases = frame[frame["recipe"] == "base"]
    assert len(bases) == 2 * 2  # a screen and a metric
    assert set(bases["pretrainings"]) == {1}, "of the pre-training that RL began from"


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["tokens", "flops"])
def test_they_are_drawn_on_every_axis(
    axis: str, manifest: Path, tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    drawn = NEW if axis == "tokens" else (f8_mix_size, a3_epochs, r1_rollouts)
    draw_only(*(figure.NAME for figure in drawn))
    text = write_report(manifest, tmp_path / axis, axis).read_text()
    for figure in drawn:
        assert f'"figures/{figure.NAME}.png"' in text
        frame = pd.read_csv(tmp_path / axis / "figures" / f"{figure.NAME}.csv")
        assert len(frame)


def test_one_start_hostile_names_and_logs_that_are_not_there(
    tmp_path: Path, draw_only: Callable[..., None], recwarn: pytest.WarningsRecorder
) -> None:
    study, at = Study(tmp_path), {"tokens": TOKENS[0], **MAIN}
    study.passk("base", 1.0, stage_step=0, shots=8, **at)
    study.passk("base", 1.0, stage_step=0, shots=8, mix=HOSTILE, **at)
    study.passk("sft_gold", 1.0, stage_step=STEPS, variant=f"{HOSTILE} epochs", **TRAINED, **at)
    for seed, rollouts in itertools.product((0, 1), (5, 64)):
        if rollouts == 5:
            study.passk("rl", 1.0, stage_step=STEPS, seed=seed, **TRAINED, **at)
        run = {"variant": HOSTILE + str(rollouts), "rollouts": rollouts, "examples": 320, "seed": seed}
        study.passk("rl", 1.0, stage_step=STEPS, **run, **TRAINED, **at)
    names = [f.NAME for f in (f3_gold, f8_mix_size, a1_seeds, r1_rollouts)]
    draw_only(*names)
    manifest = study.write()
    text = write_report(manifest, tmp_path / "report").read_text()
    assert "<script>alert" not in text and all(f'"figures/{name}.png"' in text for name in names)
    frame = r1_rollouts.data(read_results(manifest))
    assert set(frame["screen"]) == {""} and frame["flops"].isna().all()
    assert not [w for w in recwarn if issubclass(w.category, UserWarning | FutureWarning)]
