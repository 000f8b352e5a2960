"""The report: numbers against closed forms, files byte for byte, the page against hostile text."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from foray.core.files import seal, sealed
from foray.core.spelling import per_parameter
from foray.report import (
    COLUMNS,
    NotDrawable,
    Results,
    csv_text,
    drawn,
    figure_data,
    read_results,
    sample_data,
    sections,
    stats,
    style,
    write_report,
)  # fmt: skip
from foray.report import figures as figure_package
from foray.report.chart_data import chart
from foray.report.columns import Column, frame_of, table, tables_by_task
from foray.report.comparisons import compare
from foray.report.differences import Difference, Pairing, difference, pair
from foray.report.embedded_data import packed
from foray.report.figures import f2_passk, f5_general
from foray.report.gains import gains_of
from foray.report.headline import _CHANGE, _said, _Subject, _Term, finding
from foray.report.markup import intervals_apart, with_minus
from foray.report.measurements import PassK, TrainingLog
from foray.report.page import MISSING_SHOWN, grouped, page
from foray.report.results import ANY, ANY_MODEL
from foray.report.sample_data import browsed
from foray.report.sections import amplified, claims, controls, drawn_groups, heldout, main_table, samples, sound
from foray.report.stats import Counts, Interval
from foray.report.text_costs import hidden_cost
from foray.report.verdicts import transitions

PARAMETERS = 812_345
TOKENS = (900_000, 2_300_000, 4_600_000, 9_200_000)
RECIPES = {"base": 0, "rl": 50, "sft": 150, "sft_rl": 200, "parallel": 150}
# Share of problems that can be solved at all, and how often those are, at the last checkpoint.
SKILL = {"base": (0.65, 0.25), "rl": (0.7, 0.7), "sft": (0.85, 0.45), "sft_rl": (0.8, 0.8), "parallel": (0.9, 0.6)}
PROBES = {"arc_challenge": 0.25, "arc_easy": 0.25, "hellaswag": 0.25, "lambada": 0.0, "openbookqa": 0.25, "piqa": 0.5}
# What this study has measured; the other figures have tests of their own.
DRAWN = (
    "f1_overview", "f2_passk", "f4_dynamics", "f5_general", "f6_parallel", "a2_rewards", "r2_whole_curves",
    "r3_heldout_gain", "r4_entropy",
)  # fmt: skip
HOSTILE = '<script>alert("x")</script> & $\\frac{1}{2}'


class Study:
    """Writes a manifest and the folders that it names, with random results of a plausible shape."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.random = np.random.default_rng(0)
        self.entries: list[dict[str, Any]] = []

    def add(self, kind: str, files: dict[str, Any], **where: Any) -> Path:
        folder = self.root / "nodes" / f"{kind}-{len(self.entries):03d}"
        folder.mkdir(parents=True)
        for name, content in files.items():
            lines = map(json.dumps, content) if name.endswith("l") else [json.dumps(content)]
            (folder / name).write_text("\n".join(lines) + "\n")
        entry = {"kind": kind, "folder": str(folder.relative_to(self.root)), "seed": 0, "final": True, **where}
        self.entries.append(entry)
        return folder

    def passk(self, recipe: str, maturity: float, problems: int = 200, completions: bool = False, **where: Any) -> Path:
        reach, rate = SKILL.get(recipe, (0.5, 0.5))
        able = self.random.random(problems) < reach * maturity
        correct = self.random.binomial(
            32, np.where(able, self.random.beta(2, 2 / rate - 2 + 0.1, problems) * maturity, 0.0)
        )
        rows = [
            {
                "id": f"test-{i}", "tags": ["steps-2"], "samples": 32, "formatted": 30, "truncated": 1, "tokens": 1234,
                "correct": {"strict": int(c), "lenient": min(32, int(c) + 1), "flexible": min(32, int(c) + i % 2)},
            }
            for i, c in enumerate(correct)
        ]  # fmt: skip
        samples = [{"text": f"{HOSTILE} #### {i}", "correct": i == 3} for i in range(32)]
        texts = [{"id": f"test-{i}", "question": HOSTILE, "answer": "3", "samples": samples} for i in range(3)]
        files = {"problems.jsonl": rows} | ({"completions.jsonl": texts} if completions else {})
        return self.add("passk", files, recipe=recipe, **where)

    def probes(self, maturity: float, **where: Any) -> None:
        found = {}
        for name, chance in PROBES.items():
            right = (self.random.random(200) < chance + (0.9 - chance) * 0.6 * maturity).astype(int)
            found[f"world_{name}"] = {
                "metric": "acc", "value": float(right.mean()), "stderr": 0.03, "n": 200, "chance": chance,
                "per_doc": right.tolist(),
            }  # fmt: skip
        self.add("probes", {"probes.json": found}, **where)

    def training(self, steps: int, rise: float, stage: str, **where: Any) -> None:
        reward = 0.1 + rise * (1 - np.exp(-np.arange(steps) / 15)) + 0.03 * self.random.standard_normal(steps)
        rows = [
            {
                "step": i + 1,
                "rl/reward": r,
                "rl/format": 0.9,
                "rl/entropy": 1.0 - 0.01 * i,
                "seconds": 1.0,
                "rl/signal": 0.6,
            }
            for i, r in enumerate(reward)
        ]
        samples = [{"text": f" {text} {HOSTILE}", "reward": r, "advantage": a, "stop": "stop"}
                   for text, r, a in (("wrong", 0.0, -1.0), ("right", 1.0, 1.0))]  # fmt: skip
        kept = [{"step": 1, "stream": "rl", "id": "1", "question": HOSTILE, "answer": HOSTILE, "samples": samples}]
        self.add("train", {"metrics.jsonl": rows, "rollouts.jsonl": kept}, stage=stage, **where)

    def write(self, **changes: Any) -> Path:
        manifest = {
            "study": "tiny", "model_parameters": PARAMETERS, "k": [1, 8, 32],
            "notes": [f"sft_gold was left out: {HOSTILE}"],
            "provenance": {"commit": "abc", "versions": {"numpy": HOSTILE}}, "entries": self.entries, **changes,
        }  # fmt: skip
        for folder in {self.root / e["folder"] for e in self.entries}:
            if folder.is_dir() and not sealed(folder):
                seal(folder)
        path = self.root / "manifest.json"
        path.write_text(json.dumps(manifest))
        return path


def build(root: Path, seeds: int = 1) -> Study:
    study = Study(root)
    for (i, tokens), (recipe, step), seed in itertools.product(enumerate(TOKENS), RECIPES.items(), range(seeds)):
        if recipe == "base" and seed:
            continue
        maturity = (i + 1) / len(TOKENS)
        where = {"tokens": tokens, "recipe": recipe, "stage_step": step, "seed": seed}
        shots = 8 if recipe == "base" else 0
        study.passk(maturity=maturity, task="world_easy", shots=shots, completions=i == 3, **where)
        study.probes(maturity=maturity - 0.1 * recipe.startswith("sft"), **where)
        sources = {s: {"nats_per_token": 4.0 / (i + 1), "tokens": 12345} for s in ("web", "math")}
        study.add("perplexity", {"perplexity.json": sources}, **where)
        if recipe in ("rl", "sft_rl", "parallel"):
            study.training(50, 0.5 * maturity, "rl", **where)
    inside = [("rl", 10), ("rl", 25), ("sft", 50), ("sft", 100), ("sft_rl", 165), ("sft_rl", 180)]
    for recipe, step in inside:
        study.passk(
            recipe, 0.5 + step / 400, tokens=TOKENS[2], stage_step=step, final=False, task="world_easy", shots=0
        )
    return study


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The manifest of a complete study and the folder of its report."""
    root = tmp_path_factory.mktemp("study")
    manifest = build(root).write()
    return manifest, write_report(manifest, root / "report").parent


@pytest.fixture(scope="module")
def results(report: tuple[Path, Path]) -> Results:
    return read_results(report[0])


def rows_of(out: Path) -> list[dict[str, str]]:
    with open(out / "results.csv", newline="") as f:
        return list(csv.DictReader(f))


def graded(correct: Any, samples: int = 32) -> Counts:
    counts = np.asarray(correct)
    return Counts(tuple(f"p{i}" for i in range(len(counts))), counts, np.full(len(counts), samples))


def test_results_csv_has_the_schema_and_every_number(report: tuple[Path, Path]) -> None:
    _, out = report
    rows = rows_of(out)
    assert tuple(rows[0]) == COLUMNS
    metrics = {r["metric"] for r in rows}
    assert metrics == {f"pass@{k}" for k in (1, 2, 4, 8, 16, 32)} | {
        "format_rate",
        "truncated_rate",
        "acc",
        "perplexity",
    }
    for row in rows:
        passk = row["metric"].startswith("pass@")
        assert (row["extraction"] in ("strict", "lenient", "flexible")) == passk and (row["extraction"] == "") != passk
        if row["metric"] == "perplexity":
            assert row["lo"] == row["hi"] == row["shots"] == "" and row["n"] == "12345"
        else:
            assert float(row["lo"]) <= float(row["value"]) <= float(row["hi"]) and float(row["lo"]) < float(row["hi"])
            assert row["n"] == ("1200" if row["task"] == "general_average" else "200")
        error = 0.03 / 6**0.5 if row["task"] == "general_average" else 0.03  # of a mean of six
        assert row["stderr"] == (f"{error:.6g}" if row["metric"] == "acc" else ""), "lm-eval's, carried through"
    probes = [
        float(r["value"])
        for r in rows
        if r["metric"] == "acc" and r["tokens"] == str(TOKENS[0]) and r["recipe"] == "rl"
    ]
    average = [
        r for r in rows if r["task"] == "general_average" and r["tokens"] == str(TOKENS[0]) and r["recipe"] == "rl"
    ]
    assert len(probes) == 7 and float(average[0]["value"]) == pytest.approx(
        (sum(probes) - float(average[0]["value"])) / 6, abs=1e-6
    )


def test_results_csv_tells_the_ends_of_recipes_from_points_inside_them(report: tuple[Path, Path]) -> None:
    """A mean over mixed rows has no meaning. ``final`` selects the ends."""
    rows = [r for r in rows_of(report[1]) if r["metric"] == "pass@1" and r["extraction"] == "strict"]
    for tokens, recipe in itertools.product(TOKENS, RECIPES):
        found = [r for r in rows if (r["tokens"], r["recipe"]) == (str(tokens), recipe)]
        ends = [r for r in found if r["final"] == "True"]
        assert [r["stage_step"] for r in ends] == [str(RECIPES[recipe])]
        assert all(r["final"] == "False" for r in found if r not in ends)
    assert sum(r["final"] == "False" for r in rows) == 6


def test_results_csv_gives_the_level_of_chance_and_tokens_per_parameter(report: tuple[Path, Path]) -> None:
    rows = rows_of(report[1])
    chances = {f"world_{name}": chance for name, chance in PROBES.items()}
    chances["general_average"] = sum(PROBES.values()) / len(PROBES)
    for row in rows:
        wanted = f"{chances[row['task']]:.6g}" if row["metric"] == "acc" else ""
        assert row["chance"] == wanted
        assert float(row["tokens_per_parameter"]) == pytest.approx(int(row["tokens"]) / PARAMETERS, rel=1e-5)
    assert {r["tokens_per_parameter"] for r in rows} and {r["chance"] for r in rows} > {""}


def test_another_models_rows_have_its_own_tokens_per_parameter(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.probes(0.5, tokens=1000, recipe="base", stage_step=0)
    study.probes(0.5, tokens=1000, recipe="base", stage_step=0, model_parameters=500, mix="other")
    found = read_results(study.write())
    assert set(found.rows(**ANY_MODEL)["tokens_per_parameter"]) == {1000 / PARAMETERS, 2.0}
    assert set(found.rows()["tokens_per_parameter"]) == {1000 / PARAMETERS}


def test_passk_agrees_with_counting_every_subset(tmp_path: Path) -> None:
    study = Study(tmp_path)
    rows = [
        {"id": str(i), "tags": [], "samples": 6, "correct": {"strict": c}, "formatted": 6, "truncated": 0, "tokens": 1}
        for i, c in enumerate((0, 1, 3, 6))
    ]
    study.add("passk", {"problems.jsonl": rows}, recipe="rl", tokens=10, stage_step=5, task="t", shots=0)
    table = read_results(study.write(k=[1, 3])).table.set_index("metric")
    for k in (1, 2, 3, 4):
        subsets = list(itertools.combinations(range(6), k))
        expected = np.mean([np.mean([any(i < c for i in s) for s in subsets]) for c in (0, 1, 3, 6)])
        assert table.loc[f"pass@{k}", "value"] == pytest.approx(expected)
    assert set(table.index) == {"pass@1", "pass@2", "pass@3", "pass@4", "format_rate", "truncated_rate"}


def test_two_reports_of_one_study_are_equal_byte_for_byte(
    report: tuple[Path, Path], results: Results, tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    """One figure stands for all figures. The other figures are compared by their numbers."""
    draw_only("f2_passk")
    manifest, out = report
    content = json.loads(manifest.read_text())
    content["entries"].reverse()  # as another schedule of the same nodes would list them
    shuffled = manifest.with_name("shuffled.json")
    shuffled.write_text(json.dumps(content))
    again = write_report(shuffled, tmp_path / "again").parent
    drawn = [p.relative_to(again) for p in again.rglob("*") if p.is_file() and p.name != "index.html"]
    assert len(drawn) == 9 + 4 and len(list((out / "figures").iterdir())) == len(DRAWN) * 3
    for name in drawn:
        assert (out / name).read_bytes() == (again / name).read_bytes(), name
    second = read_results(shuffled)
    assert chart(results) == chart(second) and browsed(results) == browsed(second)
    for section in sections.discover():
        assert section.section(results).html == section.section(second).html, section.NAME
    for figure in figure_package.discover():
        if figure.NAME in DRAWN:
            assert csv_text(figure.data(results)) == csv_text(figure.data(second)), figure.NAME


@pytest.mark.parametrize("problems", [1, 50, 200])
@pytest.mark.parametrize("correct", [0, 32, 7])
def test_no_interval_has_zero_width(problems: int, correct: int) -> None:
    for interval in stats.passk_intervals(graded([correct] * problems), [1, 8, 32]):
        assert 0.0 <= interval.lo <= interval.value <= interval.hi <= 1.0 and interval.lo < interval.hi
    if problems == 200 and correct == 0:
        assert interval.hi == pytest.approx(0.018845, abs=1e-6)  # Wilson's bound for 0 of 200: z² / (n + z²)
    same = stats.paired_difference(graded([correct] * problems), graded([correct] * problems), 1)
    assert same.value == 0.0 and same.lo < 0.0 < same.hi


def test_bootstrap_covers_what_it_says() -> None:
    random = np.random.default_rng(1)
    skill = random.beta(0.5, 1.5, (400, 150))
    outcome = [stats.passk_intervals(graded(random.binomial(32, s)), [1])[0] for s in skill]
    covered = np.mean([i.lo <= 0.25 <= i.hi for i in outcome])
    assert 0.928 <= covered <= 0.972  # 0.95 within two standard errors


def test_paired_difference_follows_the_normal_approximation() -> None:
    random = np.random.default_rng(2)
    skill = random.beta(1, 2, 400)
    a, b = random.binomial(32, np.clip(skill + 0.05, 0, 1)), random.binomial(32, skill)
    found = stats.paired_difference(graded(a), graded(b), 1)
    difference = (a - b) / 32
    half = 1.96 * difference.std(ddof=1) / np.sqrt(400)
    assert found.value == pytest.approx(difference.mean())
    assert found.lo == pytest.approx(difference.mean() - half, abs=half * 0.1)
    assert found.hi == pytest.approx(difference.mean() + half, abs=half * 0.1)
    alone = stats.passk_intervals(graded(a), [1])[0]
    assert found.hi - found.lo < 0.5 * (alone.hi - alone.lo)


def test_paired_difference_matches_problems_by_their_id() -> None:
    a = Counts(("x", "y", "z"), np.array([4, 0, 2]), np.full(3, 4))
    b = Counts(("z", "x", "w"), np.array([1, 4, 0]), np.full(3, 4))
    assert stats.paired_difference(a, b, 1)[0] == pytest.approx(0.125)
    assert stats.paired_difference(a, b, 1).n == 2
    with pytest.raises(ValueError, match="share no problem"):
        stats.paired_difference(a, Counts(("q",), np.array([1]), np.array([4])), 1)


def test_seeds_widen_by_students_t() -> None:
    runs = [Interval(v, v - 0.01, v + 0.02, 100) for v in (0.40, 0.50, 0.45)]
    mean = stats.over_seeds(runs, 0.0, 1.0)
    assert mean.value == pytest.approx(0.45)
    assert mean.value - mean.lo == pytest.approx(np.hypot(4.3027 * 0.05 / np.sqrt(3), 0.01))
    assert mean.hi - mean.value == pytest.approx(np.hypot(4.3027 * 0.05 / np.sqrt(3), 0.02))
    assert stats.over_seeds(runs[:1], 0.0, 1.0) == runs[0]
    assert stats.t_quantile(20) == pytest.approx(2.0860, abs=1e-3)
    assert stats.t_quantile(11) == pytest.approx(2.2010, abs=1e-3)


def test_wilson_and_trend() -> None:
    assert stats.wilson(0.0, 50)[:3] == pytest.approx((0.0, 0.0, 0.07135), abs=1e-5)
    assert stats.wilson(0.41, 200)[:3] == pytest.approx((0.41, 0.34413, 0.47925), abs=1e-4)
    noise = np.random.default_rng(3).normal(0, 0.01, 40)
    assert stats.trend(np.linspace(0.1, 0.6, 40) + noise).verdict == "rose"
    assert stats.trend(np.linspace(0.6, 0.1, 40) + noise).verdict == "fell"
    assert stats.trend(noise).verdict == "unclear"
    assert stats.trend(np.array([0.3])).verdict == "unclear"


def test_gains_are_paired_and_several_seeds_are_averaged(tmp_path: Path) -> None:
    results = read_results(build(tmp_path, seeds=3).write())
    gains = gains_of(results.pairs("rl", "base", "world_easy"), 1, results.extraction, results.model_parameters)
    curve = results.curve(["pass@1"], ["world_easy"]).set_index(["recipe", "tokens"])
    assert list(gains["tokens"]) == list(TOKENS) and set(gains["runs"]) == {3} and set(curve.loc["base", "runs"]) == {1}
    for row in gains.itertuples():
        expected = curve.loc[("rl", row.tokens), "value"] - curve.loc[("base", row.tokens), "value"]
        assert row.value == pytest.approx(expected)
        assert row.lo < row.value < row.hi


def test_crossed_shots_leave_the_headline_alone(tmp_path: Path) -> None:
    study = build(tmp_path)
    before = read_results(study.write()).curve(["pass@1"], ["world_easy"])
    study.passk("base", 0.1, tokens=TOKENS[0], stage_step=0, task="world_easy", shots=0)
    study.passk("rl", 0.1, tokens=TOKENS[0], stage_step=50, task="world_easy", shots=8)
    pd.testing.assert_frame_equal(read_results(study.write()).curve(["pass@1"], ["world_easy"]), before)


def test_a_variant_is_compared_with_its_base_too(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for recipe, variant, right, seed in (("base", "", 8, 0), ("rl", "", 7, 0), ("rl", "lr", 6, 0), ("rl", "lr", 4, 1)):
        where = {"tokens": 10, "recipe": recipe, "stage_step": 0 if recipe == "base" else 5, "seed": seed}
        where |= {"variant": variant, "against": "rl"} if variant else {}
        study.passk(maturity=0.5, task="t", shots=0, **where)
        probe = {"value": right / 10, "n": 10, "chance": 0.5, "per_doc": [int(i < right) for i in range(10)]}
        study.add("probes", {"probes.json": {"piqa": probe}}, **where)
    row = frame_of(controls.rows(read_results(study.write()))).iloc[0]
    assert row["d_general"] == pytest.approx(-0.1), "the seed that RL has"
    assert row["d_base_general"] == pytest.approx((-0.2 - 0.4) / 2), "every seed came from the one base"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(1, 1)], "one seed, so they say nothing"),
        ([(1, 1), (3, 1)], "means over up to 3 seeds."),
        ([(2, 2), (6, 2)], "means over up to 6 runs from 2 pre-trainings."),
        ([(2, 2), (5, 2)], "means over up to 5 runs from 2 pre-trainings."),
        ([(1, 1), (2, 2)], "means over up to 2 pre-trainings, one seed each: they say nothing of the spread"),
    ],
)
def test_a_caption_says_what_was_averaged(rows: list[tuple[int, int]], words: str) -> None:
    frame = pd.DataFrame([(200, *row) for row in rows], columns=["n", "runs", "pretrainings"])
    assert words in style.interval_note(frame, "problems")


def test_a_variant_has_no_verdict_with_one_sample_and_is_not_sharpened_without_room() -> None:
    up, down = Interval(0.2, 0.1, 0.3, 9), Interval(-0.05, -0.1, -0.01, 9)
    row = {"d_one": up, "d_top": down, "k": 32, "room": True}
    changed = [row, row | {"room": False}, row | {"k": 1}, row | {"k": 1, "d_top": up}]
    assert [controls._verdict(r) for r in changed] == ["sharpening", *["cannot tell"] * 3]
    assert controls._verdict(row | {"d_top": up, "room": False}) == "expansion"


def test_a_folder_that_several_entries_name_has_its_flops_once(tmp_path: Path) -> None:
    study, at = Study(tmp_path), {"tokens": TOKENS[0], "task": "t", "shots": 0}
    for recipe, step in (("base", 0), ("sft", 6)):
        folder = study.passk(recipe, 0.5, stage_step=step, **at)
        (folder / "ledger.json").write_text('{"decode": 5.0, "prefill": 2.0}')
    study.entries.append(study.entries[-1] | {"recipe": "sft_rl", "final": False})
    results = read_results(study.write())
    assert len(results.select(PassK)) == 3 and results.evaluation_flops == {"passk": 14.0}


def test_tokens_per_parameter_are_whole_numbers_from_a_hundred_on() -> None:
    ratios = (0.351, 2.77, 19.2, 99.4, 99.6, 2694.3)
    assert [per_parameter(x) for x in ratios] == ["0.35", "2.8", "19", "99", "100", "2,694"]


def test_the_page_counts_pretrainings_apart_from_seeds_of_what_came_after(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for start, (recipe, seed) in itertools.product((0, 1), (("base", None), ("rl", 0))):
        where = {"stage_step": 9 * (recipe == "rl"), "task": "t", "shots": 0, "pretrain_seed": start}
        study.passk(recipe, 0.5, tokens=TOKENS[0], seed=start if seed is None else seed, **where)
    text = " ".join(page(read_results(study.write()), []).split())
    assert "1 checkpoint M_t; 2 pre-trainings; 1 post-training seed; 4 pass@k evaluations." in text


def test_from_four_pretrainings_on_numbers_without_intervals_average_within_each_first(tmp_path: Path) -> None:
    """Pre-training 0 has four seeds of RL and gains nothing; the three others have one and gain all problems."""
    study = Study(tmp_path)
    for start, recipe in itertools.product(range(4), ("base", "rl")):
        for seed in range(4 if (recipe, start) == ("rl", 0) else 1):
            gains = recipe == "rl" and start > 0
            counts = {"strict": 32 * gains, "lenient": 32, "sound": 16 * gains, "flexible": 32 if gains else 16}
            rows = [{"id": f"p{i}", "tags": [], "samples": 32, "formatted": 32, "truncated": 0, "tokens": 9,
                     "correct": counts} for i in range(10)]  # fmt: skip
            where = {"tokens": 1000, "recipe": recipe, "stage_step": 9 * (recipe == "rl"), "pretrain_seed": start}
            where |= {"seed": seed}
            study.add("passk", {"problems.jsonl": rows}, task="t", shots=0, **where)
            bits = {"nats_per_token": 1.0, "tokens": 7, "bytes": 9, "bits_per_byte": 2.0 if gains else 1.0}
            study.add("perplexity", {"perplexity.json": {"web": bits}}, **where)
    results = read_results(study.write())
    (rl,) = (row for row in heldout.rows(results) if row["recipe"] == "rl")
    assert rl["bits_per_byte"] == 1.75 and rl["change"] == 0.75
    assert "RL +0.750 on web" in hidden_cost(results)
    (found,) = (t for t in transitions(results) if not t.other_grading)
    assert found.gained == 7.5 and found.lost == 0.0 and found.curve[1].value == 0.75
    (row,) = (r for r in sound.rows(results, "t") if r["recipe"] == "rl")
    assert row["sound_of_right"] == pytest.approx(0.75 * 0.5 / (0.75 + 0.25 * 0.5))
    frame = amplified.section(results).files["amplified"]
    assert set(frame["newly_solved"]) == {7.5} and set(frame["held"]) == {0.0}


def test_many_that_are_missing_for_one_reason_are_one_line() -> None:
    few = [(f"a{i}", "not there") for i in range(MISSING_SHOWN)]
    assert grouped(few) == few
    assert grouped([*few, ("b", "not there"), ("c", "damaged")]) == [
        (f"a0, and {MISSING_SHOWN} more", "not there"), ("c", "damaged")
    ]  # fmt: skip


def test_what_is_missing_is_listed_and_the_rest_is_reported(tmp_path: Path) -> None:
    study = Study(tmp_path)
    place = {"tokens": TOKENS[0], "stage_step": 0, "task": "world_easy", "shots": 8}
    study.passk("base", 0.5, **place)
    place |= {"stage_step": 50, "shots": 0}
    (study.passk("rl", 0.5, **place) / "problems.jsonl").unlink()
    (study.passk("sft", 0.5, **place) / "problems.jsonl").write_text('{"id": "test-0", "samp')
    (study.passk("parallel", 0.5, **place) / "problems.jsonl").write_text('{"id": "test-0"}\n')
    study.entries.append(study.entries[0] | {"folder": "nodes/elsewhere"})
    out = tmp_path / "report"
    (out / "figures").mkdir(parents=True)
    (out / "figures" / "f6_parallel.png").write_bytes(b"from an earlier run")
    text = write_report(study.write(), out).read_text()
    assert {r["recipe"] for r in rows_of(out)} == {"base"}
    reasons = [reason for _, reason in read_results(tmp_path / "manifest.json").missing]
    assert len(reasons) == 4
    for word in ("problems.jsonl is not there (yet)", "not JSON", "lacks the field", "repeats a measurement"):
        assert any(word in reason for reason in reasons) and word in text
    assert "parallel averaging has not been evaluated" in text
    assert not (out / "figures" / "f6_parallel.png").exists() and (out / "figures" / "f2_passk.png").exists()


def test_tables_claims_and_figures_show_the_grading_that_the_study_names(tmp_path: Path) -> None:
    made = build(tmp_path)
    ours, plain = read_results(made.write(grading="flexible")), read_results(made.write())
    (rl,) = plain.finals("rl", plain.main_task, tokens=TOKENS[0])
    assert rl.counts["flexible"].correct.sum() != rl.counts["strict"].correct.sum()
    for results, rule in ((ours, "flexible"), (plain, "strict")):
        expected = rl.counts[rule].correct.mean() / 32
        shown = results.curve(["pass@1"], [results.main_task], ["rl"])
        assert shown["value"].iloc[0] == pytest.approx(expected)
        html = main_table.section(results).html
        assert f"{rule} grading" in html and f">{100 * expected:.1f}" in html
        base, _ = next(iter(results.pairs("rl", "base", results.main_task)[TOKENS[0]].values()))[::-1]
        (first, *_) = compare(results, "rl", "base", 1, results.main_task)
        gain = (rl.counts[rule].correct - base.counts[rule].correct).mean() / 32
        assert first.difference.interval.value == pytest.approx(gain)
        assert f"graded alike: {rule}" in claims.section(results).html
        assert f"claims show {rule} grading" in page(results, [])
        drawn = f2_passk.data(results)
        assert set(drawn["extraction"]) == ({"flexible"} if rule == "flexible" else {"strict", "lenient"})


def test_a_sample_is_shown_as_right_by_the_grading_that_the_study_names(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.passk("rl", 0.5, tokens=10, stage_step=5, task="t", shots=0, completions=True)
    path = study.root / study.entries[0]["folder"] / "completions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["samples"] = [{"text": f"said {i}", "correct": False, "flexible": i == 7} for i in range(32)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for grading, right in (("flexible", 1), ("strict", 0)):
        html = samples.section(read_results(study.write(grading=grading))).html
        assert ("said 7" in html) == bool(right) and f"{right} of 32" in html


def test_results_without_flexible_grading_are_read_and_what_they_lack_is_said(tmp_path: Path) -> None:
    study = Study(tmp_path)
    place = {"tokens": 10, "stage_step": 0, "task": "t"}
    for recipe, shots in (("base", 8), ("rl", 0)):
        folder = study.passk(recipe, 0.5, shots=shots, **place)
        rows = [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()]
        for row in rows:
            del row["correct"]["flexible"]
        (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_results(study.write())
    assert not found.missing and len(found.select(PassK)) == 2
    lacking = "flexible grading of 2 pass@k evaluations"
    assert lacking in page(found, []) and "it has no" not in page(found, [])
    found = read_results(study.write(grading="flexible"))
    assert not found.select(PassK) and {why for _, why in found.missing} == {
        "it has no flexible grading, which the study shows; it is of an earlier version"
    }


def test_an_empty_study_is_reported_and_a_broken_manifest_is_named(tmp_path: Path) -> None:
    study = Study(tmp_path)
    assert "No pass@k evaluation has finished yet" in write_report(study.write(), tmp_path / "report").read_text()
    (tmp_path / "manifest.json").write_text('{"study": "x"}')
    with pytest.raises(ValueError, match="not a study's manifest"):
        write_report(tmp_path / "manifest.json", tmp_path / "report")


def test_what_rl_drew_stands_with_its_rewards_and_advantages(report: tuple[Path, Path]) -> None:
    text = (report[1] / "index.html").read_text()
    part = text[text.index('id="rollouts"') :]
    assert "update 1: mean reward 0.50, 2 completions" in part
    right, wrong = part.index("+1.00"), part.index("−1.00")
    assert right < part.index("right &lt;script&gt;") < wrong < part.index("wrong &lt;script&gt;"), "the best first"


def test_hostile_text_is_escaped(report: tuple[Path, Path], tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only("f2_passk")
    text = (report[1] / "index.html").read_text()
    assert HOSTILE[:8] + "alert" not in text and text.count("&lt;script&gt;") >= 2 + len(RECIPES) * 2 * 3
    assert text.count("<script") == text.count("</script>") == 4, "the data, two libraries and the page's own"
    study = Study(tmp_path)
    for recipe, tokens in itertools.product((HOSTILE, "base", "rl"), TOKENS[:2]):
        study.passk(recipe, 1.0, 20, tokens=tokens, stage_step=0, task=HOSTILE, shots=0)
        study.training(6, 0.1, HOSTILE, tokens=tokens, recipe=recipe, stage_step=0)
        study.add(
            "perplexity",
            {"perplexity.json": {HOSTILE: {"nats_per_token": 1.0, "tokens": 3}}},
            tokens=tokens,
            recipe=recipe,
            stage_step=0,
        )
    manifest = study.write(study=HOSTILE, notes=["a\x1b[2Jb", "c\u202ed"])
    text = write_report(manifest, tmp_path / "report").read_text()
    assert "a\\x1b[2Jb" in text and "c\\u202ed" in text and not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e]", text)
    assert "<script>alert" not in text and text.count("<script") == 4 and "script&gt;" in text


def test_the_page_links_what_was_drawn(report: tuple[Path, Path]) -> None:
    _, out = report
    text = (out / "index.html").read_text()
    for path in (out / "figures").iterdir():
        assert f'"figures/{path.name}"' in text
    written = {path.name for path in out.glob("*.csv")}
    assert set(re.findall(r'<a href="(\w+\.csv)"', text)) == written - {"readiness.csv"}, "its section is not shown"
    assert "rose" in text and "SFT→RL" in text
    assert "src=" not in text.replace('src="data:', "").split("<script type")[0], "nothing is loaded from elsewhere"


def test_the_policy_of_the_page_names_each_script_and_nothing_else(report: tuple[Path, Path]) -> None:
    text = (report[1] / "index.html").read_text()
    rules = text.split('Content-Security-Policy" content="')[1].split('"')[0]
    scripts = [part.split("</script>")[0] for part in text.split("<script>")[1:]]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    assert rules.replace("&#39;", "'").startswith(f"default-src 'none'; script-src {allowed}; ")
    assert len(hashes) == 3 and len(text) < 3_000_000


def test_the_page_begins_with_four_sentences_with_intervals(results: Results) -> None:
    lead, found = finding(results)
    assert lead == "From M_t at 9.2M tokens (one seed), in points with 95% intervals:"
    assert [s.partition(" ")[0] for s in found] == ["RL", "SFT", "RL", "Parallel"]
    assert all(re.search(r" \d+\.\d \[\d+\.\d, \d+\.\d\]", s) for s in found)
    assert found[0].startswith("RL on the base raises pass@1 by 30.1 [") and found[2].startswith("RL after SFT raises")
    fallen = -results.ability_differences("sft", "base")[TOKENS[-1]].interval.value
    assert f"lowers general abilities by {100 * fallen:.1f} [" in found[1]


def test_what_does_not_clearly_change_is_joined_by_or() -> None:
    unclear, risen = (Difference(Interval(0.01, lo, 0.03, 9), (), ()) for lo in (-0.02, 0.005))
    asked = [_Term(name, "", {TOKENS[0]: unclear}) for name in ("pass@1", "pass@8", "abilities")]
    subject = _Subject("RL", _CHANGE, asked)
    number = "(1.0 [−2.0, 3.0])"
    assert _said(subject) == f"does not clearly change pass@1 {number}, pass@8 {number} or abilities {number}"
    both = subject._replace(asked=[_Term(f"pass@{k}", "", {TOKENS[0]: risen}) for k in (1, 8)])
    assert _said(both) == "raises pass@1 by 1.0 [0.5, 3.0] and pass@8 by 1.0 [0.5, 3.0]"


def test_the_contents_name_the_sections_in_their_order(report: tuple[Path, Path]) -> None:
    text = (report[1] / "index.html").read_text()
    named = re.findall(r'<a href="#([\w-]+)">', text.partition("<nav")[2].partition("</nav>")[0])
    places = [
        text.index(f'<section id="{name}"' if name in ("finding", "problems") else f'<h2 id="{name}"') for name in named
    ]
    assert "problems" in named and places == sorted(places)


def test_the_page_sets_intervals_apart_and_says_what_general_abilities_are(report: tuple[Path, Path]) -> None:
    text = (report[1] / "index.html").read_text()
    headline = text.split('<p class="headline">')[1].split("</p>")[0]
    assert re.match(
        r"RL on the base raises pass@1 by 30\.1 <span class=\"interval\">\[[\d., ]+\]</span>, and does ", headline
    )
    assert intervals_apart("<b> [1.0, 2.0] [x]") == '&lt;b&gt; <span class="interval">[1.0, 2.0]</span> [x]'
    meant = text.split("<dt>general abilities</dt><dd>")[1].split("</dd>")[0]
    assert meant.startswith("the mean accuracy on 6 probes of the invented world") and "were not run" in meant


def test_panels_of_the_worlds_probes_do_not_pass_for_the_benchmarks(results: Results) -> None:
    frame = figure_data(f5_general, results)
    with matplotlib.rc_context(style.RC):
        titles = {axes.get_title() for axes in f5_general.draw(frame).axes}
        hub = frame.assign(task=frame["task"].str.removeprefix("world_").replace("lambada", "lambada_openai"))
        real = {axes.get_title() for axes in f5_general.draw(hub).axes}
    assert {"world probe\nin the form of ARC Easy", "world probe\nin the form of LAMBADA", "average"} <= titles
    assert {"ARC Easy", "LAMBADA", "PIQA", "average"} <= real and not any("world" in title for title in real)
    assert "not run" in f5_general.caption(frame) and "not run" not in f5_general.caption(hub)


def test_minus_signs_on_the_page_are_minus_signs_and_hyphens_in_its_files(report: tuple[Path, Path]) -> None:
    text = (report[1] / "index.html").read_text()
    shown = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    assert re.findall(r"(?<![\w.-])-\.?\d", shown) == [] and re.search(r"−\d", shown)
    assert (
        "−" not in (report[1] / "transitions.csv").read_text() and ",-0" in (report[1] / "transitions.csv").read_text()
    )
    assert with_minus("-1.5 to -.5, e-3, 2026-07-01, a-1, --2") == "−1.5 to −.5, e-3, 2026-07-01, a-1, --2"
    assert with_minus("-0.0 to +0.7, +0.00, -0.01, +0.05") == "0.0 to +0.7, 0.00, −0.01, +0.05", "zero has no sign"
    words = Column("completion", "text").cell({"text": "5 -3"})
    assert words == "5 -3", "a model's own words are not changed"


def test_the_question_of_a_training_group_says_that_it_was_cut() -> None:
    row = {"step": 1, "question": "long " * 40, "answer": "1", "samples": [{"text": "x", "reward": 1.0}]}
    opener = drawn_groups._group(row).split("</summary>")[0]
    assert (
        opener.endswith("long…") and "…" not in drawn_groups._group(row | {"question": "short"}).split("</summary>")[0]
    )


def test_what_was_not_measured_is_named_and_each_sentence_names_its_own_checkpoint(tmp_path: Path) -> None:
    study = build(tmp_path)
    study.entries = [e for e in study.entries if e["recipe"] not in ("parallel", "sft_rl")]
    study.entries = [e for e in study.entries if e["recipe"] != "sft" or e["tokens"] < TOKENS[-1]]
    lead, found = finding(read_results(study.write()))
    assert lead == "In points with 95% intervals:" and found[-1] == "Not measured: RL after SFT, Parallel averaging."
    assert found[0].startswith("From M_t at 9.2M tokens (one seed): RL on the base raises pass@1 by ")
    assert found[1].startswith("From M_t at 4.6M tokens (one seed): SFT on the base ") and len(found) == 3
    (tmp_path / "none").mkdir()
    lead, found = finding(read_results(Study(tmp_path / "none").write()))
    assert lead == "No pass@k evaluation of the main task has finished yet." and not found


def test_the_chart_has_every_k_and_the_numbers_of_the_table(report: tuple[Path, Path], results: Results) -> None:
    found = chart(results)
    assert found["ks"] == list(range(1, 33)) and [r["name"] for r in found["recipes"]] == list(RECIPES)
    assert len(found["rows"]) == 3 * 32 * len(TOKENS) * len(RECIPES)
    drawn = {(r["recipe"], r["tokens"], r["grading"], r["k"]): (r["value"], r["lo"], r["hi"]) for r in found["rows"]}
    for row in rows_of(report[1]):
        if row["metric"].startswith("pass@") and row["final"] == "True":
            place = (row["recipe"], int(row["tokens"]), row["extraction"], int(row["metric"][5:]))
            assert drawn[place] == tuple(float(row[name]) for name in ("value", "lo", "hi")), place


def test_tables_have_captions_and_the_fewest_headers_that_tell_rows_apart() -> None:
    rows = [{"a": a, "b": b, "c": "x"} for a in "12" for b in "34"]
    html = table(rows, [Column(name, name) for name in "abc"], HOSTILE)
    assert html.count("<caption>&lt;script&gt;") == 1 and html.count('<th scope="col">') == 3
    assert html.count('<th scope="row">') == 2 * len(rows) and html.count("<td>") == len(rows)


def test_tables_by_task_are_tables() -> None:
    html = tables_by_task([{"task": "easy", "a": 1}, {"task": "hard", "a": 2}], [Column("a", "a")], "numbers")
    assert html.count("</table>") == 2 and "<caption>hard: numbers</caption>" in html


def test_the_browser_counts_what_is_right_and_says_what_it_leaves_out(results: Results) -> None:
    found = browsed(results)
    assert len(found["problems"]) == 3 and len(found["models"]) == len(RECIPES)
    problem = found["problems"][0]
    assert problem["counts"]["0"] == [1, 32, 0, 0] and len(problem["texts"]["0"]) == 8
    assert "at most 8 distinct" in found["left_out"]


def test_the_browser_shows_fewer_completions_of_all_problems_before_it_leaves_problems_out(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = browsed(results)
    monkeypatch.setattr(sample_data, "ROOM", len(packed({p["id"]: p["texts"] for p in whole["problems"]})) - 1)
    found = browsed(results)
    assert "left out" not in found["left_out"] and "at most 8" not in found["left_out"]
    for before, after in zip(whole["problems"], found["problems"]):
        for model, texts in after["texts"].items():
            all_ = before["texts"][model]
            assert 0 < len(texts) <= len(all_)
            assert any(good for _, _, good, _ in texts) == any(good for _, _, good, _ in all_), "a right one stays"
    monkeypatch.setattr(sample_data, "ROOM", 10)
    assert "left out" in browsed(results)["left_out"]


def test_the_file_of_a_figure_says_what_it_shows(report: tuple[Path, Path], results: Results) -> None:
    told = Image.open(report[1] / "figures" / "f2_passk.png").info
    assert told["Title"] == f2_passk.TITLE and told["Description"].startswith("pass@k on world_easy against")
    assert b"/Title" in (report[1] / "figures" / "f2_passk.pdf").read_bytes()


def faint_words(figure: figure_package.FigureModule, results: Results) -> set[tuple[str, str]]:
    """Words of a figure, and the paper's behind it, whose contrast with white is below 4.5 (WCAG 2.2)."""
    with matplotlib.rc_context(style.RC):
        drawing = drawn(figure, results, figure_data(figure, results))[0]
        words = {(t.get_text(), to_hex(t.get_color())) for t in drawing.findobj(Text) if t.get_text()}
    assert words
    return {(text, color) for text, color in words if 1.05 / (_luminance(color) + 0.05) < 4.5}


def _luminance(color: str) -> float:
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot((0.2126, 0.7152, 0.0722), channels))


@pytest.mark.parametrize("figure", [m for m in figure_package.discover() if m.NAME in DRAWN], ids=lambda m: m.NAME)
def test_figure_contract(figure: figure_package.FigureModule, results: Results, tmp_path: Path) -> None:
    assert figure.NAME.replace("_", "").isalnum() and figure.TITLE and figure.__doc__
    assert [m.NAME for m in figure_package.discover()].count(figure.NAME) == 1
    frame = figure.data(results)
    assert len(frame) and {"tokens", "tokens_per_parameter", "recipe"} <= set(frame.columns)
    assert len(figure.caption(frame)) > 40
    assert faint_words(figure, results) == set()
    # The picture comes from the CSV's numbers alone.
    drawn = figure.draw(frame.copy())
    assert isinstance(drawn, Figure) and any(axes.lines or axes.collections for axes in drawn.axes)
    with pytest.raises(NotDrawable) as reason:
        figure.data(read_results(Study(tmp_path).write()))
    assert str(reason.value) and "\n" not in str(reason.value)


def test_the_report_imports_core_alone() -> None:
    code = (
        "import sys, foray.report; from foray.report.figures import discover; discover();"
        "own = {m.split('.')[1] for m in sys.modules if m.startswith('foray.')} - {'core', 'report'};"
        "print(sorted(own | {'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_select_keeps_to_the_main_grid_unless_a_field_is_named(tmp_path: Path) -> None:
    study = Study(tmp_path)
    at = {"tokens": 10, "recipe": "rl", "stage_step": 5, "task": "t", "shots": 0}
    for seed, beside in enumerate(
        ({}, {"variant": "v"}, {"split": "validation"}, {"mix": "m"}, {"model_parameters": 9})
    ):
        study.passk(maturity=0.5, seed=seed, **at, **beside)
    results = read_results(study.write())

    def seeds(**where: Any) -> list[int]:
        chosen = [e.seed for e in results.select(PassK, **where)]
        assert set(results.rows(**where)["seed"]) == set(chosen), "the table's rows are chosen alike"
        return chosen

    assert seeds() == [0] and seeds(variant=ANY) == [0, 1] and seeds(variant="v") == [1]
    assert seeds(mix=("m", "")) == [0, 3] and seeds(model_parameters=9) == [4] and seeds(recipe="sft") == []
    assert seeds(**ANY_MODEL) == [0, 1, 2, 3, 4] and not results.select(TrainingLog)


def test_a_model_is_paired_with_its_own_seed_else_with_the_base_of_its_pretraining(tmp_path: Path) -> None:
    study = Study(tmp_path)
    for start, seed, recipe in ((0, 0, "base"), (0, 0, "rl"), (0, 1, "rl"), (1, 0, "rl"), (0, 1, "sft")):
        where = {"tokens": 10, "stage_step": 5, "task": "t", "shots": 0}
        study.passk(recipe, 0.5, pretrain_seed=start, seed=seed, **where)
    base, rl, sft = (read_results(study.write()).select(PassK, recipe=r) for r in ("base", "rl", "sft"))

    def paired(*asked: Any, **how: bool) -> list[tuple[int, int, int]]:
        found = pair(*asked, **how).get(10, {})
        assert all((p.run, p.reference) == (a.run, b.run) for p, (a, b) in found.items())
        return [tuple(p) for p in found]

    assert paired(rl, base) == [(0, 0, 0), (0, 1, 0)], "pre-training 1 has no base"
    assert paired(rl, base, same_seed=True) == [(0, 0, 0)]
    assert paired(rl, rl) == [(0, 0, 0), (0, 1, 1), (1, 0, 0)]
    assert paired(sft, rl) == [(0, 1, 0), (0, 1, 1)], "no run of RL is left out"


def test_a_difference_of_other_seeds_is_that_of_the_means_whichever_side_has_more() -> None:
    """The spread is that of both sides (Scheffé); a side of one run is taken as given."""
    x, y = [0.50, 0.56, 0.53], [0.40, 0.46, 0.41, 0.45, 0.38]
    for ours, theirs in ((x, y), (y, x), (x[:1], y), (x, y[:1]), (x, y[:3])):
        pairs = {
            Pairing(0, i, 10 + j): Interval(a - b, a - b - 0.01, a - b + 0.02, 100)
            for i, a in enumerate(ours)
            for j, b in enumerate(theirs)
        }
        found = difference(pairs)
        few, many = sorted((len(ours), len(theirs)))
        assert found.interval.value == pytest.approx(np.mean(ours) - np.mean(theirs))
        assert len(found.runs) == (many if few == 1 else few) and found.degrees == len(found.runs) - 1
        spread = stats.t_quantile(found.degrees) * np.std(found.each, ddof=1) / np.sqrt(len(found.runs))
        low, high = np.hypot(0.01, spread), np.hypot(0.02, spread)
        assert found.interval.hi - found.interval.value == pytest.approx(high)
        assert found.interval.value - found.interval.lo == pytest.approx(low)
    # Over many draws the spread is what the two means vary by.
    draws, random = [], np.random.default_rng(0)
    for _ in range(2000):
        ours, theirs = random.normal(0, 0.03, 2), random.normal(0, 0.01, 4)
        gaps = {
            Pairing(0, i, j): Interval(a - b, a - b, a - b, 1) for i, a in enumerate(ours) for j, b in enumerate(theirs)
        }
        draws.append(np.var(difference(gaps).each, ddof=1) / 2)
    assert np.mean(draws) == pytest.approx(0.03**2 / 2 + 0.01**2 / 4, rel=0.1)


def test_sections_are_found_by_themselves_in_the_order_of_the_page() -> None:
    found = sections.discover()
    files = {p.stem for p in Path(sections.__file__).parent.glob("*.py")} - {"__init__"}
    assert {m.__name__.rpartition(".")[2] for m in found} == files  # type: ignore[attr-defined]
    assert len({m.NAME for m in found}) == len({m.PLACE for m in found}) == len(found)
    assert [m.NAME for m in found[:4]] == ["claims", "firmness", "transitions", "temperatures"]


def test_a_broken_section_is_named_and_the_rest_of_the_page_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Callable[..., None]
) -> None:
    draw_only()
    file = tmp_path / "mine.py"
    file.write_text("NAME, TITLE, PLACE = 'mine', '<b>Mine', 15\ndef section(results):\n    return {}['gone']\n")
    spec = importlib.util.spec_from_file_location("mine", file)
    assert spec and spec.loader
    broken = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(broken)
    found = [*sections.discover(), broken]
    monkeypatch.setattr(sections, "discover", lambda: found)
    with pytest.raises(ValueError, match=r"mine.py, line 3: KeyError: 'gone'"):
        write_report(Study(tmp_path).write(), tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text()
    assert "mine.py, line 3" in text and "&lt;b&gt;Mine" in text and "No pass@k evaluation has finished yet" in text


def test_what_guessing_reaches_stands_in_tables_and_figures(tmp_path: Path) -> None:
    """pass@k of answers drawn at random: 1 - (1 - p)^k for each problem."""
    study = Study(tmp_path)
    for recipe in ("base", "rl"):
        for tokens in TOKENS[:2]:
            where = {"tokens": tokens, "stage_step": 9 * (recipe == "rl"), "task": "t", "shots": 8}
            folder = study.passk(recipe, 0.8, problems=4, **where)
            rows = [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()]
            for i, row in enumerate(rows):
                row["guess"] = 0.1 * i
            (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = read_results(study.write())
    for k in (1, 8, 32):
        level = sum(1 - (1 - 0.1 * i) ** k for i in range(4)) / 4
        assert set(results.rows(metric=f"pass@{k}")["chance"].round(12)) == {round(level, 12)}
    assert "reach 15.0 / 58.6 / 74.1 (pass@1 / pass@8 / pass@32)" in " ".join(main_table.section(results).html.split())
    frame = f2_passk.data(results)
    drawn = f2_passk.draw(frame)
    assert [t.get_text() for t in drawn.legends[0].texts][-1] == "guessing" and "dotted" in f2_passk.caption(frame)
    unknown = frame.assign(chance=math.nan)
    assert "guessing" not in [t.get_text() for t in f2_passk.draw(unknown).legends[0].texts]
    assert "dotted" not in f2_passk.caption(unknown)


def test_bits_per_byte_stand_beside_perplexity_with_each_recipes_change_against_its_own_base(
    tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    study = build(tmp_path)  # its perplexities are of a version without bits per byte
    for recipe, start, seed, bits in (("base", 0, 0, 1.0), ("base", 1, 0, 2.0), ("rl", 0, 0, 1.5), ("rl", 1, 0, 3.0)):
        text = {"world_easy test": {"nats_per_token": 2.0, "tokens": 70, "bytes": 250, "bits_per_byte": bits}}
        where = {"tokens": TOKENS[0], "recipe": recipe, "stage_step": RECIPES[recipe], "task": "world_easy"}
        study.add("task_text", {"perplexity.json": text}, **where, pretrain_seed=start, seed=seed)
    page = write_report(study.write(), tmp_path / "report").read_text()
    assert not read_results(tmp_path / "manifest.json").missing
    rows = [r for r in rows_of(tmp_path / "report") if r["metric"] == "bits_per_byte"]
    assert {(r["recipe"], r["value"], r["n"], r["lo"]) for r in rows} == {
        ("base", "1", "250", ""), ("base", "2", "250", ""), ("rl", "1.5", "250", ""), ("rl", "3", "250", ""),
    }  # fmt: skip
    with open(tmp_path / "report" / "perplexity.csv", newline="") as f:
        table = list(csv.DictReader(f))
    own = {r["recipe"]: r for r in table if r["source"] == "world_easy test"}
    assert set(own) == {"base", "rl"} and {r["source"] for r in table} == {"web", "math", "world_easy test"}
    assert (own["rl"]["bits_per_byte"], own["rl"]["change"], own["rl"]["runs"]) == ("2.25", "0.75", "2")
    assert own["base"]["change"] == "" and float(own["base"]["perplexity"]) == pytest.approx(np.exp(2.0), abs=1e-4)
    assert all(r["bits_per_byte"] == r["change"] == "" for r in table if r["source"] in ("web", "math"))
    assert '2.250<span class="range">+0.750</span>' in page and "7.39" in page


def test_a_section_of_an_earlier_report_takes_its_file_along(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only()
    study, out = build(tmp_path), tmp_path / "report"
    write_report(study.write(), out)
    assert (out / "perplexity.csv").exists()
    study.entries = [e for e in study.entries if e["kind"] != "perplexity"]
    write_report(study.write(), out)
    assert not (out / "perplexity.csv").exists()
