"""Samples at several temperatures: what runs, what the report makes of them, and that nothing else changes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import foray
from foray.report import read_results, write_report
from foray.report.figures import r5_temperatures
from foray.report.readings.own_temperature import own_best
from foray.report.sections import firmness, main_table, temperatures, transitions
from foray.report.stats import Counts
from foray.studies import smoke
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.manifest import manifest_of
from test_report import Study, build

RANDOM = np.random.default_rng(0)
HOT = (1.0, 1.5)


def graded(correct: object, samples: int = 32) -> Counts:
    counts = np.asarray(correct)
    return Counts(tuple(f"p{i:04d}" for i in range(len(counts))), counts, np.full(len(counts), samples))


def hot(study: Study) -> Study:
    """Every end again at other temperatures. At 1.5 SFT→RL solves every problem, and all others solve none."""
    for entry in [e for e in study.entries if e["kind"] == "passk" and e["final"]]:
        where = {name: v for name, v in entry.items() if name not in ("kind", "folder", "recipe")}
        for t in HOT:
            folder = study.passk(entry["recipe"], 0.5, temperature=t, **where)
            if t == HOT[-1]:
                _all_as(folder / "problems.jsonl", 32 if entry["recipe"] == "sft_rl" else 0)
    return study


def _all_as(path: Path, right: int) -> None:
    rows = pd.read_json(path, lines=True)
    rows["correct"] = [{"strict": right, "lenient": right, "flexible": right}] * len(rows)
    rows.to_json(path, orient="records", lines=True)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study at one temperature, and the same with others."""
    plain = build(tmp_path_factory.mktemp("plain"), seeds=2)
    several = hot(build(tmp_path_factory.mktemp("several"), seeds=2))
    return plain.write(temperature=0.6), several.write(temperature=0.6)


def test_every_end_answers_at_every_temperature_and_what_ran_before_keeps_its_key() -> None:
    plain = smoke.study()
    several = replace(plain, evaluation=replace(plain.evaluation, temperatures=(0.6, 1, 1.5, 1.0)))
    before, after = (expand(study) for study in (plain, several))
    new = {n.key: n for n in after.nodes if n.key not in {b.key for b in before.nodes}}
    assert {n.key for n in before.nodes} <= {n.key for n in after.nodes}
    assert all(isinstance(n, PassKNode) for n in new.values())
    ends = [e for e in before.entries if isinstance(e.node, PassKNode) and e.final and e.node.split == "test"]
    made = {(n.checkpoint.key, n.temperature) for n in new.values() if isinstance(n, PassKNode)}
    assert made == {(e.node.checkpoint.key, t) for e in ends for t in HOT if isinstance(e.node, PassKNode)}
    named = [e["temperature"] for e in manifest_of(several, after)["entries"] if "temperature" in e]
    assert sorted(set(named)) == [1.0, 1.5] and len(named) == len(new)
    assert not any("temperature" in e for e in manifest_of(plain, before)["entries"])


@pytest.mark.parametrize(
    ("temperatures", "why"), [((-1.0,), "temperatures must be >= 0"), ((0.0,), "gives one sample")]
)
def test_a_temperature_that_cannot_be_is_refused(temperatures: tuple[float, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(smoke.study().evaluation, temperatures=temperatures)


def test_on_each_half_the_best_of_the_other_half_counts() -> None:
    """By hand: 0.6 is the best on the even problems and 1 on the odd ones, so each counts where it is the worse."""
    cold, warm = graded([32, 0, 32, 0]), graded([8, 16, 8, 16])
    found = own_best({1.0: [warm], 0.6: [cold]}, (1,))
    assert found.temperatures == ((0.6, 1.0),)
    assert found.values[0, :, 0].tolist() == [0.25, 0.0, 0.25, 0.0]


def test_equal_temperatures_gain_nothing_by_being_many() -> None:
    """The plain best of ten is too high; that of the other half is not."""
    rates = RANDOM.beta(0.5, 1.5, 60)
    ours, naive = [], []
    for _ in range(200):
        tried = {t / 10: [graded(RANDOM.binomial(8, rates), 8)] for t in range(1, 11)}
        ours.append(own_best(tried, (1,)).values.mean())
        naive.append(max(of[0].pass_at(1).mean() for of in tried.values()))
    error = np.std(ours) / np.sqrt(len(ours))
    assert abs(np.mean(ours) - rates.mean()) < 4 * error < np.mean(naive) - rates.mean()


def test_one_problem_has_no_halves_and_none_is_refused() -> None:
    assert own_best({0.6: [graded([4])], 1.0: [graded([8])]}, (1,)).values.item() == 0.25
    with pytest.raises(ValueError, match="share no problem"):
        own_best({0.6: [graded([4])], 1.0: [Counts(("other",), np.array([1]), np.array([8]))]}, (1,))


def test_the_main_grid_is_that_of_the_study_s_temperature(manifests: tuple[Path, Path]) -> None:
    plain, several = (read_results(m) for m in manifests)
    for of in (main_table, transitions):
        a, b = (of.section(results).files[of.NAME].reset_index(drop=True) for results in (plain, several))
        pd.testing.assert_frame_equal(a, b)
    assert sorted(main_table.section(several).files["beside"]["temperature"].unique()) == list(HOT)


def test_the_page_shows_them_where_they_are(
    manifests: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foray.report.discover", lambda: [r5_temperatures])
    monkeypatch.setattr("foray.report.sections.discover", lambda: [temperatures])
    pages = [write_report(m, tmp_path / m.parent.name).read_text() for m in manifests]
    for words in (r5_temperatures.TITLE, temperatures.TITLE):
        assert words in pages[1]
    assert f'id="{temperatures.NAME}"' not in pages[0] and "no model was sampled at two temperatures" in pages[0]


def test_a_fall_at_one_temperature_can_be_a_rise_at_each_model_s_own(
    manifests: tuple[Path, Path], tmp_path: Path
) -> None:
    results = read_results(hot(build(tmp_path)).write(temperature=0.6))
    found = {(r["tokens"], r["from"], r["to"]): r for r in temperatures.rows(results, "world_easy")}
    assert len(found) == 4 * (4 + 3)  # from the base, and pairs
    row = found[9_200_000, "sft", "sft_rl"]
    assert row["own_verdict"] == "expansion" and row["passk_temperatures"].endswith("→ 1.5†")
    model = temperatures.models(results, "world_easy")["sft_rl", 9_200_000]
    assert model.best.values.min() == 1.0 and len(model.runs) == 1
    assert row["passk"].value == pytest.approx(1 - temperatures.models(results, "world_easy")["sft", 9_200_000]
                                               .best.values[:, :, 1].mean())  # fmt: skip
    assert temperatures.rows(read_results(manifests[0]), "world_easy") == []


def test_the_rules_are_asked_again_at_every_temperature(manifests: tuple[Path, Path]) -> None:
    lines = [change.what for change in firmness.changes(read_results(manifests[1]))]
    assert [line for line in lines if "temperature" in line] == ["temperature 1", "temperature 1.5"]
    changed = {c.what: c.results for c in firmness.changes(read_results(manifests[1]))}["temperature 1.5"]
    assert {float(e.counts["strict"].pass_at(1).mean()) for e in changed.finals("sft_rl", "world_easy")} == {1.0}


def test_python_takes_a_temperature_and_means_the_study_s_without_one(manifests: tuple[Path, Path]) -> None:
    plain, several = (foray.load(m.parent) for m in manifests)
    pd.testing.assert_frame_equal(plain.gains("rl"), several.gains("rl"))
    sure = several.gains("sft_rl", over="sft", temperature=1.5)
    assert sure["value"].eq(1.0).all() and len(sure) == len(several.gains("sft_rl", over="sft"))
    with pytest.raises(ValueError, match=r"has no temperature 2: there is 0.6, 1.0 and 1.5"):
        several.gains("rl", temperature=2)
    with pytest.raises(ValueError, match="no field 'temperature'"):
        foray.load(build_without(manifests[0])).gains("rl", temperature=1.0)


def build_without(manifest: Path) -> Path:
    """The store as an earlier version wrote it: its manifest has no temperature."""
    root = manifest.parent / "earlier"
    root.mkdir(exist_ok=True)
    text = manifest.read_text().replace('"temperature"', '"unknown"').replace('"nodes/', '"../nodes/')
    (root / manifest.name).write_text(text)
    return root


def test_runs_that_lack_a_temperature_are_left_out(tmp_path: Path) -> None:
    study = hot(build(tmp_path, seeds=2))
    gone = next(e for e in study.entries if e.get("temperature") == 1.0 and e["recipe"] == "rl" and e["seed"] == 1)
    study.entries.remove(gone)
    found = temperatures.models(read_results(study.write(temperature=0.6)), "world_easy")
    assert len(found["rl", gone["tokens"]].runs) == 1
    assert all(len(m.runs) == 2 for place, m in found.items() if place != ("rl", gone["tokens"]) and place[0] != "base")
    assert set(found) == set(
        itertools.product(("base", "rl", "sft", "sft_rl", "parallel"), {e["tokens"] for e in study.entries})
    )
