"""Two studies side by side: what is paired, with which problems, and what the page and the command say."""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foray.cli import main
from foray.core.files import seal
from foray.report import Results, comparison_page, read_results, stats
from foray.report.between_studies import ONLY_OURS, OTHER_SEEDS, PAIRED, THE_SAME, UNPAIRED, between
from foray.report.comparison_words import sentences
from foray.study.graph import expand
from foray.study.manifest import manifest_of
from foray.study.named_studies import load_study
from test_report import HOSTILE, Study

TOKENS = 900_000
SETTINGS = [{"part": "", "key": "post.rl.group_size", "value": "8"}, {"part": "", "key": "k", "value": "1,8"}]


class Keyed(Study):
    """A study whose folders tell by their names what the answers come from, as those of nodes do."""

    key = ""

    def add(self, kind: str, files: dict[str, Any], **where: Any) -> Path:
        folder = super().add(kind, files, **where)
        named = folder.rename(folder.with_name(f"{folder.name}{self.key}"))
        self.entries[-1]["folder"] = str(named.relative_to(self.root))
        return named


def study(
    root: Path, draw: int = 0, seed: int = 0, prefix: str = "", recipes: tuple[str, ...] = ("base", "rl"),
    redrawn: tuple[str, ...] = (), **given: Any,
) -> Path:  # fmt: skip
    """A small store: ``draw`` decides the answers (of ``redrawn``, others), ``prefix`` begins the problems' ids."""
    made = Keyed(root)
    for step, recipe in enumerate(recipes):
        made.random = np.random.default_rng([draw, recipe in redrawn, step])
        made.key = f"-{draw}{seed}{prefix}{'-redrawn' * (recipe in redrawn)}"
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


def test_a_study_against_itself_is_the_same_and_differs_by_nothing(ours: Path) -> None:
    rows = between(results(ours), results(ours))
    assert {r["compared"] for r in rows} == {THE_SAME} and all(set(r["value"][:3]) == {0.0} for r in rows)
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
    root = study(tmp_path / "b", draw=1)
    for path in root.glob("nodes/passk-*/completions.jsonl"):  # the texts of three problems are there
        path.write_text(path.read_text().replace('"answer": "3"', '"answer": "4"'))
        (path.parent / "DONE").unlink()
    rows = between(results(ours), read_results(_sealed(root)))
    assert {r["value"].n for r in rows if r["metric"] != "acc"} == {57}


def test_a_row_is_over_the_problems_that_both_asked(ours: Path, tmp_path: Path) -> None:
    theirs, out = study(tmp_path / "b", draw=1), tmp_path / "out"
    _asking(theirs, 10)
    assert main(["report", str(ours), str(theirs), "--out", str(out), "--tables", "markdown"]) == 0
    first, rest, rows = written(out)
    line = "On world_easy A asked 60 problems and B asked 10. A, B and A − B are over the 10 problems that both asked."
    assert line in first and rest.count('<td class="number">10</td>') == 3 * 3 * 2, "n of each model"
    for row in rows:
        value, a, b = (float(row[name]) for name in ("difference", "a", "b"))
        assert value == pytest.approx(a - b, abs=2e-6), "rounded in the file"
        if row["metric"] != "acc":
            assert (row["n"], row["a_asked"], row["b_asked"], row["compared"]) == ("10", "60", "10", PAIRED)
    few = {(r["recipe"], r["grading"], r["metric"]): r for r in between(results(ours), results(theirs))}
    counts = results(theirs).finals("rl", "world_easy")[0].counts["strict"]
    assert few["rl", "strict", "pass@8"]["theirs"] == pytest.approx(stats.passk_intervals(counts, [8])[0])


def _asking(root: Path, problems: int) -> None:
    """Leaves the first problems of every evaluation."""
    for path in root.glob("nodes/passk-*/problems.jsonl"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:problems]))
        (path.parent / "DONE").unlink()
    _sealed(root)


def test_a_row_is_over_the_runs_that_are_compared(ours: Path, tmp_path: Path) -> None:
    more = _with_runs_of(study(tmp_path / "b", draw=1), study(tmp_path / "c", draw=2, seed=1))
    rows = between(results(more), results(ours))
    assert {(r["compared"], r["runs"]) for r in rows} == {(PAIRED, 1)}
    assert all(r["value"].value == pytest.approx(r["ours"].value - r["theirs"].value) for r in rows)


def test_seeds_that_one_study_alone_has_are_left_out(ours: Path, tmp_path: Path) -> None:
    more = _with_runs_of(study(tmp_path / "b", draw=1), study(tmp_path / "c", draw=2, seed=1))
    content = json.loads((more / "manifest.json").read_text())
    content["entries"] = [e | {"pretrain_seed": 0} for e in content["entries"]]
    (more / "manifest.json").write_text(json.dumps(content))
    for rows in (between(results(more), results(ours)), between(results(ours), results(more))):
        assert {(r["compared"], r["runs"]) for r in rows} == {(PAIRED, 1)}


def _sealed(root: Path) -> Path:
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
    said = capsys.readouterr()
    assert said.out.splitlines() == [f"table: {out / 'comparison.csv'}", str(out / "index.html")]
    assert said.err == "A lacks results of 1 model that B has, and does not ask for them: SFT at 0.9M.\n"
    rows, settings = (list(csv.DictReader((out / f"{stem}.csv").open())) for stem in ("comparison", "settings"))
    assert {r["compared"] for r in rows} == {PAIRED, "only in the second"} and (out / "comparison.md").exists()
    first = rows[0]
    assert float(first["difference"]) == pytest.approx(float(first["a"]) - float(first["b"]), abs=1e-6)
    assert settings == [{"part": "", "key": "post.rl.group_size", "a": "8", "b": HOSTILE}]
    page = (out / "index.html").read_text()
    assert HOSTILE.split("&")[0] not in page and "&lt;script&gt;alert" in page
    assert "Content-Security-Policy" in page and "http://" not in page.partition("<script>")[0]
    assert main(["report", str(ours), str(theirs), "--out", str(out)]) == 0, "an earlier report is written over"


def test_a_damaged_comparison_is_drawn_again_by_the_command_that_a_repair_names(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(ours), str(study(tmp_path / "b", draw=1))]
    assert main(words) == 0
    for name in ("comparison.csv", "index.html"):
        (ours / "report-against-b" / name).unlink()
        assert main(["check", str(ours), "--repair"]) == 1
        said = "report-against-b is damaged still: `foray report STUDY OTHER` draws it again"
        assert said in capsys.readouterr().err
        assert main(words) == 0 and main(["check", str(ours)]) == 0


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


# --- what is the same, and what is lacking -----------------------------------------------------------------------


def said_first(page: Path) -> list[str]:
    """The lines of the page above its chart: of what is lacking, then the sentences."""
    text = page.read_text().partition('id="finding-title"')[2].partition("<nav")[0]
    found = re.findall(r'<(?:p class="finding"|div class="note")>(.*?)</(?:p|div)>', text)
    return [html.unescape(re.sub("<[^>]*>", " ", line)) for line in found]


def written(out: Path) -> tuple[list[str], str, list[dict[str, str]]]:
    """The page's first lines, the rest of the page without its scripts, and the rows of the CSV."""
    page = (out / "index.html").read_text().partition("<script")[0]
    with (out / "comparison.csv").open() as file:
        return said_first(out / "index.html"), page.partition("<nav")[2], list(csv.DictReader(file))


def test_one_and_the_same_model_is_left_out_and_counted(ours: Path, tmp_path: Path) -> None:
    theirs, out = study(tmp_path / "b", redrawn=("rl",)), tmp_path / "out"
    assert main(["report", str(ours), str(theirs), "--out", str(out), "--tables", "markdown"]) == 0
    first, rest, rows = written(out)
    assert [line.partition(" of ")[2].partition(",")[0] for line in first[:-1]] == ["1 model"] * 4
    assert first[-1] == "1 model is the same in both, by its key: left out."
    assert {(r["recipe"], r["compared"]) for r in rows} == {("base", "the same"), ("rl", PAIRED)}
    same = [r for r in rows if r["compared"] == "the same"]
    assert {(r["difference"], r["difference_lo"], r["difference_hi"]) for r in same} == {("0", "0", "0")}
    assert all(r["a"] == r["b"] for r in same)
    assert ">RL" in rest and ">Base" not in rest, "tables"
    assert "| RL " in (out / "comparison.md").read_text() and "Base" not in (out / "comparison.md").read_text()
    assert [row["recipe"] for row in drawn(ours, theirs)] == ["rl"] * 3 * 32, "the chart"


def drawn(ours: Path, theirs: Path) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = comparison_page._chart(results(ours), results(theirs))["rows"]
    return found


def test_runs_that_only_one_side_has_do_not_make_two_models_of_one(ours: Path, tmp_path: Path) -> None:
    several = _with_runs_of(study(tmp_path / "b"), study(tmp_path / "c", seed=1))
    assert {len(r.finals("rl", "world_easy")) for r in (results(ours), results(several))} == {1, 2}
    rows = between(results(ours), results(several))
    assert {(r["compared"], r["runs"]) for r in rows} == {(THE_SAME, 1)}
    assert all(r["ours"] == r["theirs"] for r in rows), "both are of the one run that both have"


def _with_runs_of(root: Path, other: Path) -> Path:
    """The store ``root`` with the runs of ``other`` too."""
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (root, other)]
    for entry in manifests[1]["entries"]:
        (other / entry["folder"]).rename(root / entry["folder"])
    joined = {**manifests[0], "entries": [e for m in manifests for e in m["entries"]]}
    (root / "manifest.json").write_text(json.dumps(joined))
    return root


def test_a_part_that_is_the_same_is_named(ours: Path, tmp_path: Path) -> None:
    theirs, out = study(tmp_path / "b"), tmp_path / "out"
    text = (theirs / "manifest.json").read_text()
    for folder in theirs.glob("nodes/passk-*"):  # as after --set evaluation.temperature=...
        folder.rename(folder.with_name(f"{folder.name}-other"))
        text = text.replace(f'{folder.name}"', f'{folder.name}-other"')
    (theirs / "manifest.json").write_text(text)
    assert main(["report", str(ours), str(theirs), "--out", str(out)]) == 0
    first, rest, _ = written(out)
    assert first[0] == "pass@1: A is above B in 0 of 2 models, below in 0, no clear difference in 2."
    assert first[-1] == "Of 2 models a part is the same in both, by its key: the general average. It is left out."
    assert "General average" not in rest and "pass@1 on world_easy" in rest


def test_what_is_the_same_altogether_is_said(ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "Everything that both have is the same, by its key: 2 models. There is no difference to show."
    out = tmp_path / "out"
    assert main(["report", str(ours), str(ours), "--out", str(out), "--tables", "markdown,latex"]) == 0
    assert capsys.readouterr().err == f"{line}\n"
    first, rest, rows = written(out)
    assert first == [line] and "<table" not in rest.partition("Settings that differ</h2>")[0]
    assert {r["compared"] for r in rows} == {"the same"} and "or none differs" in (out / "comparison.md").read_text()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every end of the bundled study, and RL from the first M_t with another number of updates."""
    root = tmp_path_factory.mktemp("store")
    made = Study(root)
    for settings in ([], ["post.rl.group_size=4"]):
        spec = load_study("tiny", settings)
        for entry in manifest_of(spec, expand(spec))["entries"]:
            folder = root / entry["folder"]
            wanted = not settings or (entry["recipe"], entry["tokens"]) == ("rl", 1_800_000)
            if entry["kind"] == "passk" and entry["final"] and wanted and not folder.exists():
                asked = {"completions": True, "problems": 20, "task": entry["task"]}
                seal(made.passk(entry["recipe"], 1.0, **asked).rename(folder))
    return root


def test_what_one_lacks_comes_first_with_the_command_that_computes_it(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, settings = tmp_path / "out", ["--set", "post.rl.group_size=4"]
    assert main(["report", "tiny", "tiny", *settings, "--store", str(tiny), "--out", str(out)]) == 0
    lacks = "B lacks results of 5 models that A has: SFT→RL at 1.8M, Parallel at 1.8M, RL at 2.1M, SFT→RL at 2.1M and "
    command = f"foray run tiny --set post.rl.group_size=4 --store {tiny}"
    assert capsys.readouterr().err == f"{lacks}1 more. This command computes them: {command}\n"
    first, rest, rows = written(out)
    assert first[0].split() == f"{lacks}1 more. This command computes them: {command}".split()
    assert re.match("pass@1: A is above B in [01] of 1 model, ", first[1])
    assert "6 models are the same in both, by their keys: left out." in first
    tables, _, folded = rest.partition("<summary>Only in one of the two (5)</summary>")
    assert "Parallel" not in tables and "Parallel at 2.1M" in folded, "one side's models are in the folded list alone"
    assert {r["recipe"] for r in rows if r["compared"] == ONLY_OURS} == {"rl", "sft_rl", "parallel"}
    assert not [line for line in first if "Missing in B: passk" in line], "it is said once"


def test_models_that_a_study_does_not_ask_for_have_no_command(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["report", "tiny", "tiny", "--set", "recipes=rl", "--store", str(tiny), "--out", str(out)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("B lacks results of 8 models that A has, and does not ask for them: SFT at 1.8M, ")
    assert said[1].startswith("Everything that both have is the same, by its key: 4 models.") and len(said) == 2
    assert "foray run" not in "".join(said)


def test_probes_that_a_study_does_not_ask_for_are_not_promised(ours: Path, tmp_path: Path) -> None:
    theirs, out = study(tmp_path / "b", draw=1), tmp_path / "out"
    manifest = json.loads((theirs / "manifest.json").read_text())
    training = {"kind": "train", "folder": "nodes/train-1", "task": "", "shots": None}  # of no task, as probes are
    kept = [e if e["kind"] == "passk" else e | training for e in manifest["entries"]]
    (theirs / "manifest.json").write_text(json.dumps(manifest | {"entries": kept}))
    assert main(["report", str(ours), str(theirs), "--out", str(out)]) == 0
    models = "Base at 0.9M (general average), RL at 0.9M (general average)"
    assert written(out)[0][0] == f"B lacks results of 2 models that A has, and does not ask for them: {models}."


def test_what_is_lacking_of_a_model_that_both_have_is_named(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = study(tmp_path / "b", draw=1)
    manifest = json.loads((theirs / "manifest.json").read_text())
    passk = {e["recipe"]: e for e in manifest["entries"] if e["kind"] == "passk"}
    further = [passk["base"] | {"shots": 2}, passk["base"] | {"shots": 4}, passk["rl"] | {"split": "train"}]
    further.append(passk["rl"] | {"task": "world_hard"})
    (theirs / "manifest.json").write_text(json.dumps(manifest | {"entries": manifest["entries"] + further}))
    assert main(["report", str(ours), str(theirs), "--out", str(tmp_path / "out")]) == 0
    lacks = "lacks results of 2 models that B has, and does not ask for them"
    base, rl = "Base at 0.9M (2-shot, 4-shot)", "RL at 0.9M (training questions, world_hard)"
    assert capsys.readouterr().err == f"A {lacks}: {base}, {rl}.\n"
    assert f"A has no results of: {base}, {rl}." in written(tmp_path / "out")[1]


def test_a_model_counts_once_whatever_else_it_was_asked(ours: Path, tmp_path: Path) -> None:
    of_ours = results(ours)
    rows = between(of_ours, results(study(tmp_path / "b", draw=1)))
    further = [{**r, **other} for r in rows for other in ({"split": "train"}, {"shots": -1})]
    said = sentences(rows, of_ours)
    assert "of 2 models" in said[0] and sentences([*further, *rows], of_ours) == said


def test_a_store_that_lacks_models_has_no_command(ours: Path, tmp_path: Path) -> None:
    theirs, out = study(tmp_path / "b", draw=1), tmp_path / "out"
    for path in theirs.glob("nodes/*-00[23]*/DONE"):  # of rl
        path.unlink()
    assert main(["report", str(ours), str(theirs), "--out", str(out)]) == 0
    first = written(out)[0]
    lacks = "B lacks results of 1 model that A has: RL at 0.9M."
    assert first[0] == f"{lacks} They are not finished, or cannot be read."


def test_a_study_without_a_result_is_told_what_to_type(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = "evaluation.problems=30"
    assert main(["report", "tiny", "tiny", "--set", changed, "--store", str(tiny)]) == 1
    error = capsys.readouterr().err
    assert error.endswith(f": run it first: foray run tiny --set {changed} --store {tiny}\n") and error.count("\n") == 1
