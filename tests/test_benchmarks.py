"""The real benchmarks: rows as published, scored by lm-eval's definitions for Foray's model and for lm-eval's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foray.core.canonical import content_hash
from foray.evals import lm_eval_model
from foray.evals.benchmarks import SETS, Benchmarks
from test_lm_eval_model import CONTEXT, Codec, pair, reference, scorer  # noqa: F401

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"  # real files beside the project, where there are any
WORDS = ("stone", "lion", "red", "kettle", "flag", "Mara")


def published(name: str, count: int = 6) -> list[dict[str, Any]]:
    """Made-up rows in the schema of the set's first publication."""
    rows: list[dict[str, Any]] = []
    for i in range(count):
        a, b, c, d = (f"the {WORDS[(i + j) % 6]} is {WORDS[(i + 2 * j) % 6]}" for j in range(4))
        choices = [{"text": t, "label": x} for t, x in zip((a, b, c, d), "ABCD")]
        nested = {"id": str(i), "question": {"stem": f"What is {i}?", "choices": choices}, "answerKey": "ABCD"[i % 4]}
        rows.append({
            "lambada_openai": {"text": f"{a} and {b}"},
            "hellaswag": {"ind": i, "activity_label": "Work [title] here", "ctx_a": a, "ctx_b": b, "ctx": f"{a} {b}",
                          "label": i % 4, "endings": [a, b, c, d], "split": "val"},
            "piqa": {"goal": a, "sol1": b, "sol2": c},
            "arc_easy": {"id": str(i), "question": a, "choices": {"text": [b, c], "label": ["1", "2"]},
                         "answerKey": "2"},
            "arc_challenge": nested,
            "openbookqa": nested,
        }[name])  # fmt: skip
    return rows


FILES = {
    "lambada_openai": "lambada_test.jsonl", "hellaswag": "hellaswag_val.jsonl", "arc_easy": "arc_easy_validation.jsonl",
    "arc_challenge": "ARC-Challenge-Dev.jsonl", "piqa": "piqa_valid.jsonl", "openbookqa": "dev.jsonl",
}  # fmt: skip


def write_all(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, file in FILES.items():
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in published(name)))
    (folder / "piqa_valid-labels.lst").write_text("0\n1\n1\n0\n1\n0\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_all(tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_results_are_those_of_lm_eval_own_model(
    pair: tuple[Any, Codec],  # noqa: F811
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
) -> None:
    model, codec = pair
    probes = Benchmarks((name,), root=str(folder), folder=".")
    files = probes.prepare(tmp_path_factory.mktemp("rows"))
    ours = lm_eval_model.run_probes(lm_eval_model.foray_lm(codec, scorer(model), CONTEXT), [name], files)[name]
    theirs = lm_eval_model.run_probes(reference(model, codec, start=False), [name], files)[name]
    assert ours.n == 6 and ours.per_doc["acc"] == theirs.per_doc["acc"]
    assert ours.stderr["acc"] == pytest.approx(theirs.stderr["acc"])
    assert ours.per_doc.get("acc_norm") == theirs.per_doc.get("acc_norm")
    assert probes.chance(name) == pytest.approx({"lambada_openai": 0.0, "piqa": 0.5, "arc_easy": 0.5}.get(name, 0.25))


def test_labels_may_stand_in_a_file_of_their_own(folder: Path) -> None:
    probes = Benchmarks(("piqa",), root=str(folder), folder=".")
    assert [row["label"] for row in probes.rows("piqa")] == [0, 1, 1, 0, 1, 0]
    assert len(Benchmarks(("piqa",), limit=2, root=str(folder), folder=".").rows("piqa")) == 2
    (folder / "piqa_valid-labels.lst").write_text("0\n")
    with pytest.raises(ValueError, match="has 1 labels for the 6 rows"):
        probes.rows("piqa")


@pytest.mark.parametrize("label", [None, -1, "2", True, ""])
def test_a_choice_without_its_label_is_named(folder: Path, label: Any) -> None:
    rows = [{**row, "label": i % 2} for i, row in enumerate(published("piqa"))]
    (folder / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    probes = Benchmarks(("piqa",), root=str(folder), folder=".")
    assert [row["label"] for row in probes.rows("piqa")] == [0, 1, 0, 1, 0, 1]
    rows[3] = published("piqa")[3] | ({} if label is None else {"label": label})
    (folder / "piqa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"piqa\.jsonl, row 4: not a row of piqa \(.*label"):
        probes.rows("piqa")
    (folder / "piqa.jsonl").unlink()
    (folder / "piqa_valid-labels.lst").write_text("0 1 1 0 -1 0")
    with pytest.raises(ValueError, match=r"piqa_valid\.jsonl, row 5: .*label -1 is neither 0 nor 1"):
        probes.rows("piqa")


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "openbookqa"])
def test_the_test_file_goes_before_the_validation_file(folder: Path, name: str) -> None:
    """lm-eval scores the test split of these sets from the hub."""
    probes = Benchmarks((name,), root=str(folder), folder=".")
    assert len(probes.rows(name)) == 6, "without a test file"
    published_as = {"arc_easy": "ARC-Easy-Test.jsonl", "arc_challenge": "ARC-Challenge-Test.jsonl"}
    for count, file in ((2, published_as.get(name, "test.jsonl")), (1, f"{name}_test.jsonl")):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in published(name, count)))
        assert len(probes.rows(name)) == count


def test_the_key_is_of_the_content_of_the_files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def key(root: Path) -> str:
        return content_hash(Benchmarks(("arc_easy",), root=str(root), folder="."))

    before, other = key(folder), tmp_path_factory.mktemp("elsewhere")
    (other / "arc_easy.jsonl").write_bytes((folder / "arc_easy_validation.jsonl").read_bytes())
    assert key(other) == before
    (other / "arc_easy.jsonl").write_text(json.dumps(published("arc_easy")[0]) + "\n")
    assert key(other) != before


def test_mistakes_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="there is no benchmark 'arc_eesy'; did you mean 'arc_easy'"):
        Benchmarks(("arc_eesy",))
    with pytest.raises(ValueError, match=r"has none of arc_easy\.jsonl, arc_easy_test\.jsonl"):
        content_hash(Benchmarks(("arc_easy",), root=str(folder), folder="nowhere"))
    (folder / "arc_easy_validation.jsonl").write_text(json.dumps({"id": "1", "question": "x"}) + "\n")
    with pytest.raises(ValueError, match=r"arc_easy_validation\.jsonl, row 1: not a row of arc_easy \(KeyError"):
        Benchmarks(("arc_easy",), root=str(folder), folder=".").rows("arc_easy")

    def offline(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach the Hub\nmore")

    monkeypatch.setattr("datasets.load_dataset", offline)
    with pytest.raises(ValueError, match=r"the data of piqa cannot be had \(Couldn't reach the Hub\); give a folder"):
        lm_eval_model.run_probes(lm_eval_model.foray_lm(Codec.__new__(Codec), lambda *_: [], CONTEXT), ["piqa"], {})


@pytest.mark.skipif(not (SHARED_DATA / "general").exists(), reason="the shared data files are not here")
@pytest.mark.parametrize("name", SETS)
def test_the_published_files_are_read(name: str) -> None:
    rows = Benchmarks((name,), root=str(SHARED_DATA), folder="general").rows(name)
    assert len(rows) > 200
