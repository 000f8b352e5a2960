"""``foray grade``: the rows of a file come out graded, with a summary. No file is left half-written."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foray.cli import main
from foray.commands.on_checkpoints import _pass_at
from foray.core.files import iter_jsonl, read_jsonl
from foray.core.task import STORED, Problem, Task
from foray.data.text import Text
from foray.evals.grade import Gradable
from foray.evals.sampling import checksum_of
from foray.report.stats import mean_interval_of_many, mean_intervals
from foray.tasks import named_tasks
from foray.tasks.gsm8k import GSM8K
from foray.tasks.jsonl import OwnProblems
from foray.tasks.svamp import SVAMP
from foray.world import WorldProblems

SHARED = Path(__file__).parents[2] / "shared" / "data"
CASES = SHARED.parent / "cases" / "grading.jsonl"
Said = pytest.CaptureFixture[str]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def grade(tmp_path: Path, task: str, rows: list[Any], *words: str) -> list[dict[str, Any]]:
    """The graded rows of a command that works."""
    out = tmp_path / "out.jsonl"
    out.unlink(missing_ok=True)
    assert main(["grade", task, str(write(tmp_path / "in.jsonl", rows)), "--out", str(out), *words]) == 0
    return read_jsonl(out)


def test_bare_answers(tmp_path: Path, capsys: Said) -> None:
    rows = [
        {"gold": "1234", "answer": "1,234", "id": "a"},
        {"gold": "#### 5", "answer": "$5.00"},
        {"gold": 0.5, "answer": 50},
        {"answer": "1/2", "gold": "0.5", "note": "ünï"},
        {"gold": "7", "answer": "about 7"},
        {"gold": "9", "answer": "9**9**9**9"},
    ]
    found = grade(tmp_path, "gsm8k", rows)
    assert [{k: v for k, v in r.items() if k not in ("correct", "reason")} for r in found] == rows
    assert [r["correct"] for r in found] == [True, True, False, True, False, False]
    assert found[0]["reason"] == "right" and found[4]["reason"] == "not a number"
    said = capsys.readouterr().out
    assert "6 rows, 6 answers: 3 right" in said and "50.0" in said and "pass@8" not in said
    assert [r["correct"] for r in grade(tmp_path, "gsm8k", rows, "--lenient")][4] is True


def test_completions_and_full_reference_solutions(tmp_path: Path, capsys: Said) -> None:
    rows = [
        {
            "question": "2*3?",
            "gold": "2*3=<<2*3=6>>6.\n#### 6",
            "completions": ["#### 6", "It is 6", "#### 7", "", "6"],
        },
        {"question": "1+1?", "gold": "2", "completions": ["#### 2", "#### 2.0", "#### 3", "x", "#### 2 apples"]},
    ]
    found = grade(tmp_path, "gsm8k", rows, "--k", "1,2,5,8")
    assert [r["correct"] for r in found] == [[True, False, False, False, False], [True, True, False, False, True]]
    assert all(len(r["reason"]) == 5 for r in found)
    said = capsys.readouterr().out
    assert re.search(r"pass@1 +40\.0 ", said), "the mean of 1/5 and 3/5"
    assert re.search(r"pass@2 +65\.0 ", said), "the mean of 0.4 and 0.9"
    assert re.search(r"pass@5 +100\.0 ", said) and "For pass@8 every row needs 8" in said
    assert "2 rows, 10 answers: 4 right, 60.0%" in said
    assert "For pass@8 every row needs 8 completions: a row has only 5\n" in said
    found = grade(tmp_path, "gsm8k", rows, "--lenient")
    assert found[0]["correct"] == [True, True, False, False, True]
    said = capsys.readouterr().out
    assert re.findall(r"^pass@\d+", said, re.M) == ["pass@1", "pass@2", "pass@4"] and "a row has only 5" in said


def test_math_rows(tmp_path: Path, capsys: Said) -> None:
    pytest.importorskip("math_verify")
    rows = [
        {"gold": r"\frac{1}{2}", "answer": "0.5"},
        {"gold": r"So $\boxed{(x+1)^2}$.", "answer": "x^2+2x+1"},
        {"gold": r"\text{even}", "answer": r"\boxed{even}"},
        {"gold": "3", "answer": "9^{9^{9^{9}}}"},
        {"question": "q", "gold": "2", "completions": [r"\boxed{2}", "It is 2."]},
    ]
    assert [r["correct"] for r in grade(tmp_path, "math", rows)] == [True, True, True, False, [True, False]]
    assert grade(tmp_path, "math", rows, "--lenient")[4]["correct"] == [True, True]


def test_every_task_with_references_grades() -> None:
    names = {n for n, t in named_tasks().items() if isinstance(t, Gradable)}
    assert names >= {"gsm8k", "gsm8k_boxed", "math", "math500", "svamp", "jsonl", "openmath1", "openmath2"}
    assert names >= {"world_easy", "world_hard"}


def test_strange_text_comes_through(tmp_path: Path) -> None:
    rows = [{"gold": "1", "answer": "\ud800\x00 \u2028\n", "more": {"a": [None, 1e-7, 12345678901234567890]}}]
    found = grade(tmp_path, "gsm8k", [*rows, "", rows[0]])
    assert len(found) == 2 and found[1] == rows[0] | {"correct": False, "reason": "not a number"}
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 2


def test_a_graded_file_is_not_graded_over(tmp_path: Path, capsys: Said) -> None:
    """Existing columns belong to the user. Foray refuses a clash with advice.

    A suffix writes new columns beside the old ones.
    """
    for there in ("correct", "reason"):
        row = {"gold": "1", "answer": "1", there: "mine"}
        source, out = write(tmp_path / "in.jsonl", [{"gold": "1", "answer": "1"}, row]), tmp_path / "out.jsonl"
        assert main(["grade", "gsm8k", str(source), "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert f"line 2: the field {there} is there already: rename it" in said and "--suffix" in said
        assert said.count("\n") == 1 and not out.exists()
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        _, found = grade(tmp_path, "gsm8k", [{"gold": "1", "answer": "1"}, row], "--suffix", "_foray")
        assert found == row | {"correct_foray": True, "reason_foray": "right"}
        out.unlink()


def test_nothing_that_is_no_json_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Python reads NaN, which JSON lacks. As an answer NaN is the text "NaN"; as a gold it is refused."""
    pytest.importorskip("math_verify")
    rows = ['{"gold": "NaN", "answer": NaN, "more": [NaN, -Infinity, 1e999, 1.5]}', '{"gold": "1", "answer": Infinity}',
            '{"gold": Infinity, "answer": "3"}']  # fmt: skip
    found = grade(tmp_path, "math", rows)
    text = (tmp_path / "out.jsonl").read_text()
    assert [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()] == found
    assert found[0]["gold"] == "NaN" and found[0]["more"] == ["NaN", "-Infinity", "1e999", 1.5]
    assert [r["correct"] for r in found] == [True, False, False] and found[1]["answer"] == "Infinity"
    assert grade(tmp_path, "gsm8k", ['{"gold": 1e400, "answer": "1e400"}'])[0]["correct"] is True
    (tmp_path / "in.jsonl").write_text('{"gold": NaN, "answer": "3"}\n')
    assert main(["grade", "math", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "new.jsonl")]) == 1
    assert "in.jsonl, line 1: the field gold is not text" in capsys.readouterr().err


def test_a_pointer_of_git_lfs_is_called_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("in.jsonl", "x.jsonl", "x.parquet", "x.jsonl.gz"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    assert main(["grade", "gsm8k", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 1
    assert "in.jsonl is a pointer of Git LFS, not the file itself: git lfs pull" in capsys.readouterr().err
    for name in ("x.jsonl", "x.parquet", "x.jsonl.gz"):
        with pytest.raises(ValueError, match=rf"{name} is a pointer of Git LFS"):
            list(Text("x", name, root=str(tmp_path)).documents("train"))


def test_golds_that_are_floats_of_a_machine_stop_no_file(tmp_path: Path) -> None:
    rows = [{"gold": g, "answer": "1/3"} for g in (1 / 3, 1e-7, 2.718281828459045, 12345678901234567890, 1e300)]
    assert [r["correct"] for r in grade(tmp_path, "gsm8k", rows)] == [True, False, False, False, False]


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not here")
def test_the_cases_that_failed_once(tmp_path: Path) -> None:
    cases = [case for case in read_jsonl(CASES) if case["task"] == "gsm8k"]
    for mode in ("strict", "lenient"):
        asked = [case for case in cases if case["mode"] == mode]
        rows = [
            {"gold": c["gold"]} | ({"answer": c["answer"]} if "answer" in c else {"completions": [c["completion"]]})
            for c in asked
        ]
        found = grade(tmp_path, "gsm8k", rows, *(["--lenient"] if mode == "lenient" else []))
        for case, row in zip(asked, found, strict=True):
            correct = row["correct"] if "answer" in case else row["correct"][0]
            assert case["expected"] in (correct, "graded"), (case, row)


# --- Foray's own completions ----------------------------------------------------------------------------------------


def sample(task: Task, problem: Problem, text: str, stop: str = "end") -> dict[str, Any]:
    verdicts = {mode: task.verify(problem, text, mode) for mode in STORED}
    whole = stop != "length"
    graded = {STORED[mode]: verdict.score > 0 and whole for mode, verdict in verdicts.items()}
    formatted = verdicts["strict"].formatted and whole
    return {"text": text, "stop": stop, "tokens": 3, **graded, "formatted": formatted}


def own_row(task: Task, problem: Problem) -> dict[str, Any]:
    a = problem.answer
    texts = [
        (f"So\n#### {a}", "end"),
        (f"It is {a}", "stop"),
        (f"#### {a}", "length"),
        ("#### 1 x", "end"),
        ("", "end"),
    ]
    samples = [sample(task, problem, text, stop) for text, stop in texts]
    return {"id": "p", "tags": [], "question": problem.question, "answer": a, "samples": samples}


TASKS: list[Task] = [WorldProblems("easy"), GSM8K(), OwnProblems(answers="number", name="mine", test=""), SVAMP()]


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
@pytest.mark.parametrize("beside", ["spec.json", "settings.json", ""])
def test_own_completions_are_graded_again_as_they_were(task: Task, beside: str, tmp_path: Path, capsys: Said) -> None:
    if not beside and task.name == "mine":
        pytest.skip("a task of one's own is known from beside it alone")
    rows = [own_row(task, Problem("p", "Why?", answer)) for answer in ("7", "1200", "-3")]
    source, out = write(tmp_path / "completions.jsonl", rows), tmp_path / "graded.jsonl"
    if beside:
        spec = {f.name: getattr(task, f.name) for f in fields(task) if f.metadata.get("hash", True)}  # type: ignore[arg-type]
        words = {"kind": "passk", "task": {"type": type(task).__name__, **spec, "fingerprint": "abc"}}
        (tmp_path / beside).write_text(json.dumps(words))
    for mode, stored in STORED.items():
        for name in [task.name, *(["-"] if beside else [])]:
            flags = [] if mode == "strict" else [f"--{mode}"]
            out.unlink(missing_ok=True)
            assert main(["grade", name, str(source), "--out", str(out), *flags]) == 0
            found = read_jsonl(out)
            assert [r["correct"] for r in found] == [[s[stored] for s in row["samples"]] for row in rows]
            assert [{k: v for k, v in r.items() if k not in ("correct", "reason")} for r in found] == rows
            assert found[0]["reason"][2] == "cut off by the length limit"
            assert "; 0 of the 15 stored verdicts have changed" in " ".join(capsys.readouterr().out.split())


def test_samples_that_were_cut_off_and_graded_are_graded_again(tmp_path: Path) -> None:
    row = own_row(GSM8K(), Problem("p", "Why?", "7"))
    source = write(tmp_path / "completions.jsonl", [row | {"cut_off": "graded"}])
    assert main(["grade", "gsm8k", str(source), "--out", str(tmp_path / "graded.jsonl")]) == 0
    assert read_jsonl(tmp_path / "graded.jsonl")[0]["correct"] == [True, False, True, False, False]


def test_rows_of_a_version_without_flexible_grading_have_no_verdict_that_changed(tmp_path: Path, capsys: Said) -> None:
    row = own_row(GSM8K(), Problem("p", "Why?", "7"))
    for kept in row["samples"]:
        del kept["flexible"]
    (found,) = grade(tmp_path, "gsm8k", [row], "--flexible")
    assert found["correct"] == [True, True, False, False, False] and "stored" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "message"),
    [("whole", ""), ("correct", "line 2: the row has changed"), ("twice", "line 4: problem p1 has a row already")],
)
def test_own_rows_that_changed_or_come_twice_are_not_graded(
    how: str, message: str, tmp_path: Path, capsys: Said
) -> None:
    rows = [own_row(GSM8K(), Problem("p", "Why?", "7")) | {"id": f"p{n}"} for n in range(3)]
    rows = [{**row, "checksum": checksum_of(row)} for row in rows]
    if how == "correct":
        rows[1]["samples"][0]["correct"] = not rows[1]["samples"][0]["correct"]
    rows += rows[1:2] if how == "twice" else []
    source, out = write(tmp_path / "completions.jsonl", rows), tmp_path / "graded.jsonl"
    assert main(["grade", "gsm8k", str(source), "--out", str(out)]) == bool(message)
    assert message in capsys.readouterr().err and out.exists() != bool(message)


def test_own_completions_are_graded_by_their_labels(tmp_path: Path) -> None:
    """OpenMathInstruct's label says whether an answer is compared as a number or by algebra."""
    pytest.importorskip("math_verify")
    row = {"id": "p", "question": "Why?", "answer": "12", "samples": [{"text": r"\boxed{3 \times 4}", "stop": "end"}]}
    found = grade(tmp_path, "openmath2", [row | {"tags": ["like=gsm8k"]}, row | {"tags": ["like=math"]}, row])
    assert [r["correct"] for r in found] == [[False], [True], [True]]


def test_own_completions_under_another_name_or_of_another_task(tmp_path: Path, capsys: Said) -> None:
    row = own_row(GSM8K(), Problem("p", "Why?", "7"))
    row["samples"][0]["correct"] = False  # as an earlier verifier had it
    source, out = write(tmp_path / "completions.jsonl", [row]), str(tmp_path / "graded.jsonl")
    assert main(["grade", "gsm8k", str(source), "--out", out]) == 0
    assert "1 of the 5 stored verdicts have changed" in " ".join(capsys.readouterr().out.split())
    Path(out).unlink()
    bad = {"id": "p", "question": "Why?", "answer": "7", "samples": [{"stop": "end"}]}
    for words, lines, message in [
        ("-", [row], "neither spec.json nor settings.json beside"),
        ("gsm8k", [row, bad], "line 2: the field samples is not a list of objects with text"),
        ("gsm8k", [row | {"answer": "x"}], "line 1: no number in the reference answer"),
        ("gsm8k", [row | {"correct": 1}], "line 1: the field correct is there already"),
    ]:
        assert main(["grade", words, str(write(source, lines)), "--out", out]) == 1
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    (tmp_path / "spec.json").write_text(json.dumps({"task": {"type": "SVAMP"}}))
    write(source, [row])
    for words, message in [("gsm8k", "completions.jsonl is of svamp: grade it by that, or -"), ("gsm", "did you mean")]:
        assert main(["grade", words, str(source), "--out", out]) == 1
        assert message in capsys.readouterr().err
    for spec in ({"type": "mine:Riddles", "depth": 3}, {"type": "GSM8K", "depth": 3}):
        (tmp_path / "spec.json").write_text(json.dumps({"task": spec}))
        assert main(["grade", "gsm8k", str(source), "--out", out]) == 0, "the command line says it"
        Path(out).unlink()
        capsys.readouterr()
        assert main(["grade", "-", str(source), "--out", out]) == 1
        said = capsys.readouterr().err
        assert "name a task" in said and said.count("\n") == 1


def test_the_worlds_answers_by_anybody(tmp_path: Path) -> None:
    rows = [
        {"gold": "1,200", "answer": "1200 apples"},
        {"gold": " 3 * 4 = 12. #### 12", "completions": [" 3 * 4 = 12. #### 12", "#### 13", "It is 12"]},
        {"gold": 7.0, "answer": "7"},
        {"gold": "#### 12 and 7", "answer": "12, 7"},
        {"gold": "12 and 7", "completions": ["#### 12 and 7", "#### 7 and 12", "#### 7", "They are 12 and 7"]},
    ]
    first = [True, [True, False, False], True, True, [True, False, False, False]]
    assert [r["correct"] for r in grade(tmp_path, "world_easy", rows)] == first
    lenient = [r["correct"] for r in grade(tmp_path, "world_hard", rows, "--lenient")]
    assert lenient == [True, [True, False, True], True, True, [True, False, False, True]]


BAD = [
    ('{"gold": "1", "answer"', "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("7" * 5000, "not JSON"),
    (["gold", "answer"], "expected an object"),
    ({"answer": "1"}, "the field gold is missing"),
    ({"gold": "1"}, "the field answer or completions is missing"),
    ({"gold": None, "answer": "1"}, "the field gold is not text"),
    ({"gold": "1", "answer": None}, "the field answer is not text"),
    ({"gold": True, "answer": "1"}, "the field gold is not text"),
    ({"gold": "1", "completions": "1"}, "not a list of texts"),
    ({"gold": "1", "completions": []}, "not a list of texts"),
    ({"gold": "1", "completions": ["1", 2]}, "not a list of texts"),
    ({"gold": "none", "answer": "1"}, "no number in the reference answer"),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: Said, bad: Any, message: str) -> None:
    good = {"gold": "1", "answer": "1"}
    source, out = write(tmp_path / "in.jsonl", [good, "", bad, good]), tmp_path / "out.jsonl"
    assert main(["grade", "gsm8k", str(source), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert f"{source}, line 3: " in said.err and message in said.err and said.err.count("\n") == 1
    assert said.out == "" and [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, capsys: Said) -> None:
    source, other = write(tmp_path / "in.jsonl", ["no JSON"]), write(tmp_path / "other.jsonl", ["mine"])
    for out, message in [(source, "in.jsonl is the file to grade"), (other, "other.jsonl is there already")]:
        before = out.read_text()
        assert main(["grade", "gsm8k", str(source), "--out", str(out)]) == 1
        said = capsys.readouterr().err
        assert f"{message}: name a new file with --out" in said and said.count("\n") == 1
        assert out.read_text() == before


def test_bytes_that_are_no_text(tmp_path: Path, capsys: Said) -> None:
    row = b'{"gold": "1", "answer": "1"}\n'
    for content, said in [(row + b'{"gold": "\xff"}\n', "2: not UTF-8"), (gzip.compress(row), "1: packed with gzip")]:
        (tmp_path / "in.jsonl").write_bytes(content)
        assert main(["grade", "gsm8k", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "o")]) == 1
        assert f"in.jsonl, line {said}" in capsys.readouterr().err


def test_mistakes_of_the_command(tmp_path: Path, capsys: Said) -> None:
    source, out = str(write(tmp_path / "in.jsonl", [{"gold": "1", "answer": "1"}])), str(tmp_path / "out.jsonl")
    empty = str(write(tmp_path / "empty.jsonl", []))
    for words, message in [
        (["gsm8", source, "--out", out], "there is no task 'gsm8' to grade by; did you mean 'gsm8k'?"),
        (["gsm8k", "none.jsonl", "--out", out], "there is no file none.jsonl"),
        (["gsm8k", source, "--out", str(tmp_path / "no" / "out.jsonl")], "there is no folder"),
        (["gsm8k", source, "--out", str(tmp_path)], "is a folder"),
        (["gsm8k", source, "--out", out, "--k", "x"], "whole numbers"),
        (["gsm8k", source, "--out", out, "--k", "0"], "positive"),
        (["gsm8k", empty, "--out", out], "has no rows"),
        (["gsm8k", str(tmp_path), "--out", out], "is a folder: name a file of rows"),
    ]:
        assert main(["grade", *words]) == 1
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert not Path(out).exists()
    with pytest.raises(SystemExit):
        main(["grade", "gsm8k", source])
    assert "--out" in capsys.readouterr().err


def test_a_killed_run_leaves_no_graded_file(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"gold": "1", "answer": "1"}\n' * 400_000)
    command = [sys.executable, "-m", "foray", "grade", "gsm8k", str(source), "--out", str(tmp_path / "out.jsonl")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if any(p.stat().st_size for p in tmp_path.glob(".out.jsonl.*")):
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "out.jsonl").exists()


def test_the_file_is_read_row_by_row(tmp_path: Path) -> None:
    """The first rows of a file are there before the last, broken one is looked at."""
    source = write(tmp_path / "in.jsonl", [{"gold": "1"}, {"gold": "2"}, "{"])
    rows = iter_jsonl(source)
    assert [next(rows), next(rows)] == [(1, {"gold": "1"}), (2, {"gold": "2"})]
    with pytest.raises(ValueError, match="line 3"):
        next(rows)


# --- the interval ---------------------------------------------------------------------------------------------------


def test_few_rows_have_the_reports_interval_and_many_the_normal_one() -> None:
    counts = Counter({(4, 0): 300, (4, 1): 200, (4, 2): 100, (4, 4): 400})
    values = np.repeat([0.0, 0.25, 0.5, 1.0], [300, 200, 100, 400])
    assert _pass_at(counts, 1) == mean_intervals(values[:, None])[0][:3]
    many = mean_interval_of_many(np.array([0.0, 0.25, 0.5, 1.0]), np.array([300, 200, 100, 400]))
    few = mean_intervals(values[:, None])[0]
    assert many.value == pytest.approx(few.value) and many.n == few.n == 1000
    assert many.lo == pytest.approx(few.lo, abs=0.002) and many.hi == pytest.approx(few.hi, abs=0.002)


def test_the_interval_of_many_is_never_of_zero_width_and_covers() -> None:
    for values in ([1.0], [0.0], [0.5]):
        found = mean_interval_of_many(np.array(values), np.array([5000]))
        assert 0.0 <= found.lo <= found.value <= found.hi <= 1.0 and found.hi > found.lo
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        c = generator.binomial(8, generator.beta(0.5, 1.5, size=2000))  # mean 1/4
        levels, times = np.unique(c / 8, return_counts=True)
        found = mean_interval_of_many(levels, times)
        hits += found.lo <= 0.25 <= found.hi
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.skipif(not (SHARED / "gsm8k_multi").is_dir(), reason="the published model solutions are not here")
def test_the_published_model_solutions_as_a_file(tmp_path: Path, capsys: Said) -> None:
    names = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    published = read_jsonl(SHARED / "gsm8k_multi" / "example_model_solutions.jsonl")
    golds = {p.question: p.solutions[0] for p in GSM8K(str(SHARED)).problems("test")}
    rows = [
        {
            "question": r["question"],
            "gold": golds[r["question"].strip()],
            "completions": [r[n]["solution"] for n in names],
        }
        for r in published
    ]
    found = grade(tmp_path, "gsm8k", rows, "--lenient")
    assert [r["correct"] for r in found] == [[r[n]["is_correct"] for n in names] for r in published]
    assert "1319 rows, 5276 answers: 2001 right" in capsys.readouterr().out
