"""Two studies side by side: what is paired, with which problems, and what the page and the command say."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foray.cli import main
from foray.report import Results, read_results, stats
from foray.report.between_studies import ONLY_OURS, OTHER_SEEDS, PAIRED, UNPAIRED, between
from test_report import HOSTILE, Study

TOKENS = 900_000
SETTINGS = [{"part": "", "key": "post.rl.group_size", "value": "8"}, {"part": "", "key": "k", "value": "1,8"}]


def study(
    root: Path, draw: int = 0, seed: int = 0, prefix: str = "", recipes: tuple[str, ...] = ("base", "rl"), **given: Any
) -> Path:
    """A small store: ``draw`` decides the answers, ``prefix`` begins the problems' ids."""
    made = Study(root)
    made.random = np.random.default_rng(draw)
    for step, recipe in enumerate(recipes):
        where = {"tokens": TOKENS, "recipe": recipe, "stage_step": step, "pretrain_seed": seed, "seed": seed}
        folder = made.passk(maturity=1.0, problems=60, completions=True, task="world_easy", shots=0, **where)
        rows = [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()]
        (folder / "problems.jsonl").write_text("\n".join(json.dumps(r | {"id": prefix + r["id"]}) for r in rows))
        made.probes(1.0, **where)
    made.write(settings={"study": SETTINGS}, **given)
    return root


def results(root: Path) -> Results:
    return read_results(root / "manifest.json")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("ours") / "a")


def test_a_study_against_itself_is_paired_and_differs_by_nothing(ours: Path) -> None:
    rows = between(results(ours), results(ours))
    assert {r["compared"] for r in rows} == {PAIRED} and all(r["value"].value == 0.0 for r in rows)
    assert {r["metric"] for r in rows} == {"pass@1", "pass@8", "pass@32", "acc"}
    assert {r["grading"] for r in rows} == {"strict", "lenient", "flexible", ""}


def test_values_and_differences_are_those_of_the_statistics(ours: Path, tmp_path: Path) -> None:
    theirs = results(study(tmp_path / "b", draw=1, seed=1))
    rows = between(results(ours), theirs)
    row = next(r for r in rows if (r["recipe"], r["grading"], r["metric"]) == ("rl", "strict", "pass@8"))
    a, b = (r.finals("rl", "world_easy")[0].counts["strict"] for r in (results(ours), theirs))
    # Several k at once are rounded in another order than one.
    assert row["value"] == pytest.approx(stats.paired_difference(a, b, 8)) and row["compared"] == OTHER_SEEDS
    for name, counts in (("ours", a), ("theirs", b)):
        assert row[name] == pytest.approx(stats.passk_intervals(counts, [8])[0])


def test_other_problems_are_not_paired(ours: Path, tmp_path: Path) -> None:
    rows = between(results(ours), results(study(tmp_path / "b", prefix="other-")))
    for row in rows:
        if row["metric"] != "acc":
            assert row["compared"] == UNPAIRED
            assert row["value"] == stats.difference_of_independent(row["ours"], row["theirs"])


def test_an_id_that_names_another_question_is_not_paired(ours: Path, tmp_path: Path) -> None:
    root = study(tmp_path / "b")
    for path in root.glob("nodes/passk-*/completions.jsonl"):  # the texts of three problems are there
        path.write_text(path.read_text().replace('"answer": "3"', '"answer": "4"'))
        (path.parent / "DONE").unlink()
    rows = between(results(ours), read_results(_sealed(root)))
    assert {r["value"].n for r in rows if r["metric"] != "acc"} == {57}


def _sealed(root: Path) -> Path:
    from foray.core.files import seal

    for folder in root.glob("nodes/*"):
        if not (folder / "DONE").exists():
            seal(folder)
    return root / "manifest.json"


def test_the_command_writes_a_page_and_its_numbers(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [SETTINGS[0] | {"value": HOSTILE}, SETTINGS[1]]
    theirs = study(tmp_path / "b", draw=1, recipes=("base", "rl", "sft"))
    manifest = json.loads((theirs / "manifest.json").read_text()) | {"settings": {"study": changed}}
    (theirs / "manifest.json").write_text(json.dumps(manifest))
    assert main(["report", str(ours), str(theirs), "--tables", "markdown"]) == 0
    out = ours / "report-against-b"
    assert capsys.readouterr().out.splitlines() == [f"table: {out / 'comparison.csv'}", str(out / "index.html")]
    rows, settings = (list(csv.DictReader((out / f"{stem}.csv").open())) for stem in ("comparison", "settings"))
    assert {r["compared"] for r in rows} == {PAIRED, "only in the second"} and (out / "comparison.md").exists()
    first = rows[0]
    assert float(first["difference"]) == pytest.approx(float(first["a"]) - float(first["b"]), abs=1e-6)
    assert settings == [{"part": "", "key": "post.rl.group_size", "a": "8", "b": HOSTILE}]
    page = (out / "index.html").read_text()
    assert HOSTILE.split("&")[0] not in page and "&lt;script&gt;alert" in page
    assert "Content-Security-Policy" in page and "http://" not in page.partition("<script>")[0]
    assert main(["report", str(ours), str(theirs), "--out", str(out)]) == 0, "an earlier report is written over"


def test_mistakes_are_one_line(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, other = tmp_path / "empty", study(tmp_path / "c", recipes=("sft",))
    empty.mkdir()
    bare = Study(tmp_path / "bare")
    bare.root.mkdir()
    bare.write()
    for words, said in (
        ((str(ours), str(empty)), "holds no manifest.json"),
        ((str(ours), str(bare.root)), "has no finished evaluation in"),
        ((str(ours), str(other)), "share no model on one task and M_t"),
        ((str(ours), str(ours), "--set", "k=1"), "is a store: name the study's file"),
        ((str(ours), str(ours), "--store", str(ours)), "leave --store out"),
        ((str(ours), "tinyy"), "no study of that name; did you mean 'tiny'?"),
        ((str(ours), str(ours), "--x", "flops"), "--x and --paper are of one study's report"),
    ):
        assert main(["report", *words]) == 1, words
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error


def test_a_model_of_one_study_alone_is_named(ours: Path, tmp_path: Path) -> None:
    rows = between(results(ours), results(study(tmp_path / "b", recipes=("base",))))
    assert {r["compared"] for r in rows if r["recipe"] == "rl"} == {ONLY_OURS}
