"""Tasks over published data (MATH, OpenMathInstruct, SVAMP) and a user's rows: sources of rows, no leak."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from foray.core.canonical import content_hash
from foray.core.task import STORED, Split, Task, few_shot_examples
from foray.data import hub
from foray.data.row_source import RowSource
from foray.study.executors.local import LocalExecutor
from foray.study.named_studies import load_study
from foray.study.run import run_study
from foray.study.store import Store
from foray.tasks import named_tasks, openmath
from foray.tasks.file_task import plain
from foray.tasks.gsm8k import GSM8K
from foray.tasks.jsonl import OwnProblems
from foray.tasks.math import MATH
from foray.tasks.openmath import OpenMathInstruct, clean
from foray.tasks.svamp import SVAMP
from test_gsm8k import SHRUNKEN, prepared

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")


def math_row(i: int) -> dict[str, Any]:
    return {
        "problem": f"What is $\\frac{{{i}}}{{7}}$ of a whole?",
        "level": f"Level {1 + i % 5}",
        "type": "Algebra",
        "solution": f"Take it apart.\n\nIt is $\\boxed{{\\frac{{{i}}}{{7}}}}$.",
    }


def gsm_row(i: int) -> dict[str, Any]:
    return {
        "question": f"Ann has {i} + {i} eggs. How many?",
        "answer": f"{i}+{i}=<<{i}+{i}={2 * i}>>{2 * i}.\n#### {2 * i}",
    }


def open1(i: int, solution: str = "", **other: Any) -> dict[str, Any]:
    """A row of version 1 about GSM8K's question i."""
    return {
        "question": gsm_row(i)["question"], "expected_answer": str(2 * i), "predicted_answer": str(2 * i),
        "error_message": "<not_executed>", "is_correct": True, "generation_type": "masked_reference_solution",
        "dataset": "gsm8k", "generated_solution": solution or f"Twice {i} is $\\boxed{{{2 * i}}}$.", **other,
    }  # fmt: skip


def open2(i: int, solution: str = "", source: str = "augmented_math", **other: Any) -> dict[str, Any]:
    text = solution or f"It is \\boxed{{\\frac{{{i}}}{{7}}}}."
    row = {"problem": math_row(i)["problem"], "expected_answer": f"\\frac{{{i}}}{{7}}", "problem_source": source}
    return row | {"generated_solution": text} | other


def svamp_row(i: int) -> dict[str, Any]:
    return {
        "ID": f"chal-{i}", "Body": f"Bo had {i + 5} pens and lost {i}", "Question": "How many are left?",
        "Equation": f"( {i + 5}.0 - {i}.0 )", "Answer": 5.0, "Type": "Subtraction",
    }  # fmt: skip


def own_row(i: int) -> dict[str, Any]:
    return {"question": f"Halve {i}.", "answer": f"{i}/2", "solutions": [f"Half of {i}.", f"It is $\\boxed{{{i}/2}}$."]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Every named task's files, with a hundred training questions each. Two of them are also in the test set."""
    for name, make, end in (("gsm8k", gsm_row, "jsonl"), ("math", math_row, "jsonl"), ("svamp", svamp_row, "json")):
        write(tmp_path / name / f"train.{end}", [make(i) for i in range(1, 101)])
        write(tmp_path / name / f"test.{end}", [make(i) for i in range(99, 120)])
    unique = [math_row(i) | {"answer": f"\\frac{{{i}}}{{7}}", "unique_id": str(i)} for i in range(99, 110)]
    write(tmp_path / "math500" / "test.jsonl", unique)
    write(tmp_path / "train.jsonl", [own_row(i) for i in range(1, 101)])
    write(tmp_path / "test.jsonl", [own_row(i) for i in range(99, 120)])
    more = [open1(i, f"Add {i} and {i}: $\\boxed{{{2 * i}}}$.") for i in range(1, 101)]
    hard = [open1(0) | {k: v for k, v in open2(i).items() if k != "problem"} | {"question": math_row(i)["problem"],
            "dataset": "math"} for i in range(1, 101)]  # fmt: skip
    write(tmp_path / "openmathinstruct1" / "train.jsonl", [open1(i) for i in range(1, 101)] + more + hard)
    easy = [open2(i) | {"problem": gsm_row(i)["question"], "expected_answer": str(2 * i), "problem_source": "gsm8k",
            "generated_solution": f"\\boxed{{{2 * i}}}"} for i in range(1, 101)]  # fmt: skip
    write(tmp_path / "openmathinstruct2" / "train.jsonl", [open2(i) for i in range(1, 101)] + easy)
    return tmp_path


NAMES = ["gsm8k", "gsm8k_boxed", "math", "math500", "svamp", "jsonl"]
NAMES += [f"openmath{v}{like}" for v in (1, 2) for like in ("", "_gsm8k", "_math")]


def test_the_names(root: Path) -> None:
    assert list(named_tasks(str(root))) == ["world_easy", "world_hard", *NAMES[:4], *NAMES[6:], *NAMES[4:6]]


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_fixed_and_free_of_the_test_set(root: Path, name: str) -> None:
    task = named_tasks(str(root))[name]
    assert isinstance(task, Task)
    parts = {s: [plain(p.question) for p in task.problems(s)] for s in SPLITS}
    assert all(len(set(part)) == len(part) for part in parts.values())
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(parts[a]) & set(parts[b])
    assert len(parts["train"]) + len(parts["validation"]) >= 98 and 2 <= len(parts["validation"]) <= 40
    every = [p.id for s in SPLITS for p in task.problems(s)]
    assert len(set(every)) == len(every)
    assert list(task.problems("train", 7)) == list(task.problems("train"))[:7]


@pytest.mark.parametrize("name", NAMES)
def test_every_solution_is_right_in_the_tasks_own_eyes(root: Path, name: str) -> None:
    pytest.importorskip("math_verify")
    task: Any = named_tasks(str(root))[name]
    for split in SPLITS:
        for p in task.problems(split, 12):
            assert p.solutions
            for solution in p.solutions:
                for extraction in STORED:
                    verdict = task.verify(p, task.target(solution), extraction)
                    assert (verdict.score, verdict.formatted) == (1.0, True), solution
                assert task.reference(solution) == task.reference(p.answer)
            assert task.verify_answer(p, p.answer).score == 1.0
            assert task.verify(p, "").score == task.verify_answer(p, "").score == 0.0
    prompt = task.prompt("Why?", few_shot_examples(task, 2, 0))
    assert prompt.endswith("Question: Why?\nAnswer:") and prompt.count("Question:") == 3
    assert any(s in prompt for s in task.stop)


@pytest.mark.parametrize("name", NAMES)
def test_the_hash_is_of_the_content(root: Path, name: str, tmp_path: Path) -> None:
    task: Any = named_tasks(str(root))[name]
    before = content_hash(task)
    where = root / (task.source if isinstance(task, OpenMathInstruct) else task.train)
    where.write_text(where.read_text() + "\n")
    assert content_hash(task) != before


def test_a_question_is_validation_in_every_data_set_or_in_none(root: Path) -> None:
    tasks = named_tasks(str(root))
    for name in ("gsm8k", "math"):
        held = {p.question for p in tasks[name].problems("validation")}
        for version in (1, 2):
            assert {p.question for p in tasks[f"openmath{version}_{name}"].problems("validation")} == held


def test_spellings_of_a_question_stay_together(tmp_path: Path) -> None:
    rows = [own_row(i) for i in range(1, 60)]
    rows += [r | {"question": r["question"].upper().replace(" ", "   ")} for r in rows]
    write(tmp_path / "own.jsonl", rows)
    write(tmp_path / "test.jsonl", [own_row(3) | {"question": "  hALVE\t3. "}])
    task = OwnProblems("own.jsonl", root=str(tmp_path))
    questions = [plain(p.question) for s in SPLITS for p in task.problems(s)]
    assert len(questions) == 59 == len(set(questions))


# --- OpenMathInstruct -----------------------------------------------------------------------------------------------


def test_questions_are_grouped_and_bad_solutions_dropped(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    good = "Twice 4 is $\\boxed{8}$."
    write(tmp_path / "o.jsonl", [
        open1(4, good),
        open1(4, good),  # twice the same
        open1(4, "8 it is: \\boxed{8}. And then I went on, and on.\nQuestion: What?"),
        open1(4, "<llm-code>\nprint(8)\n</llm-code>\n\\boxed{8}"),
        open1(4, "```python\nprint(8)\n```\n\\boxed{8}"),
        open1(4, "By a program: \\boxed{8}", error_message=""),
        open1(4, "It failed: \\boxed{8}", error_message="NameError"),
        open1(4, "No: \\boxed{9}"),
        open1(4, "Said to be wrong: \\boxed{8}", is_correct=False),
        open1(4, "First \\boxed{7}, then \\boxed{8}"),
        open1(4, "No box, but 8"),
        open1(4, "Cut off: \\boxed{8"),
        open1(4, "Round and round. " * 600 + "\\boxed{8}"),
        open1(5, "Only a wrong one: \\boxed{9}"),
        open1(4, "In other words: \\boxed{8.0}"),
    ])  # fmt: skip
    task = OpenMathInstruct(1, root=str(tmp_path), train="o.jsonl")
    both = [*task.problems("train"), *task.problems("validation")]
    assert [p.question for p in both] == [open1(4)["question"]], "a question without a clean solution is no question"
    ran_without = "By a program: \\boxed{8}"  # an empty message is what a data set without programs has
    assert both[0].solutions == (good, "8 it is: \\boxed{8}.", ran_without, "In other words: \\boxed{8.0}")
    assert both[0].tags == ("like=gsm8k", "source=gsm8k")


def test_clean_ends_a_solution_after_its_answer() -> None:
    pytest.importorskip("math_verify")
    assert clean("So $x = \\boxed{0.5}$. Check it.", "\\frac{1}{2}") == "So $x = \\boxed{0.5}$."
    assert clean("\\boxed{0.5}\nI hope it is right.", "1/2") == "\\boxed{0.5}"
    assert clean("\\boxed{1.5}\nI hope it is right.", "1/2") is None
    assert clean("\\boxed{2} or again \\boxed{2}!", "2") == "\\boxed{2} or again \\boxed{2}!"
    assert clean("\\[\\boxed{9^{9^{9^{9}}}}\\]", "2") is None


@pytest.mark.parametrize(
    ("kept", "behind"),
    [
        ("So\n\\[\n\\boxed{5}\n\\]", "\nDone."), ("So $$\\boxed{5}$$.", " Check."), ("So\n$$\n\\boxed{5}\n$$", "\nIt."),
        ("\\begin{align*}\nx&=\\boxed{5}\n\\end{align*}", "\nIt."), ("So \\(\n\\boxed{5}\n\\).", "\nX"),
        ("\\[\\boxed{5}. \\]", " Now"), ("\\[\n\\boxed{5}.\n\\]", "\nNow"), ("So $x = \\boxed{5}$.", " Check"),
        ("It is $\\boxed{5}$ apples.", " Check"), ("It is \\(\\boxed{5}\\) apples.", " Check"),
        ("\\[x = 2 + 3\\]\nIt is \\boxed{5}.", " \\[2+3=5\\]"), ("\\[\n\\boxed{5}", "\nand no end"),
        ("\\[\n\\begin{aligned}\nx&=2+3\\\\[2pt]\n&=\\boxed{5}\n\\end{aligned}\n\\]", "\nok"),
        ("So\n\\begin{align*}\nb&=\\boxed{5}\\\\\nc&=6\n\\end{align*}", "\nIt."),
        ("\\[b=\\boxed{5}\\\\c=6\\].", " Now"), ("\\[b=\\boxed{5}\\text{ at \\$3}\\]", " Now \\[c\\]"),
        ("\\[\n\\begin{aligned}\nb&=\\boxed{5}\\\\\nc&=6\n\\end{aligned}\n\\]", "\nok"),
        ("\\[b=\\boxed{5}\\begin{cases}1\\\\2\\end{cases}\\]", "\nok"),
        ("\\[\n\\boxed{5}", "\n\\begin{align}\n2\n\\end{align}"),
        ("\\[\n\\boxed{5}", "\nthen\n\\[ 2 \\]"), ("It costs $5. So \\boxed{5}.", " At $3 it is less.\n$$x$$"),
    ],
)  # fmt: skip
def test_no_formula_of_a_solution_is_cut_in_two(kept: str, behind: str) -> None:
    pytest.importorskip("math_verify")
    assert clean(kept + behind, "5") == clean(kept, "5", like_gsm8k=True) == kept


def test_a_solution_of_a_question_like_gsm8ks_ends_in_a_number() -> None:
    pytest.importorskip("math_verify")
    for text, kept in ((r"\boxed{\text{60 apples}}", 1), (r"\boxed{5} dozen", 1), (r"\boxed{12 \times 5}", 0)):
        assert (clean(text, "60", like_gsm8k=True) == text) == bool(kept)
    assert clean(r"\boxed{1+x}", "x+1", like_gsm8k=True) == r"\boxed{1+x}", "no number: as LaTeX"


def test_subsets_and_how_many_solutions(root: Path) -> None:
    task = OpenMathInstruct(1, root=str(root))
    assert len({len(p.solutions) for p in task.problems("train")}) == 2
    assert all(len(p.solutions) == 1 for p in dataclasses.replace(task, solutions=1).problems("train"))
    tags = {
        like: {p.tags[0] for p in dataclasses.replace(task, like=like).problems("train")} for like in ("gsm8k", "math")
    }
    assert tags == {"gsm8k": {"like=gsm8k"}, "math": {"like=math"}}
    second = OpenMathInstruct(2, root=str(root))
    assert {p.tags[1] for p in second.problems("train")} == {"source=augmented_math", "source=gsm8k"}
    assert {p.tags[1] for p in dataclasses.replace(second, augmented=False).problems("train")} == {"source=gsm8k"}


def test_sft_and_rl_have_the_same_questions(root: Path) -> None:
    from foray.train.supervised import training_questions

    task = OpenMathInstruct(1, root=str(root))
    assert all(p.solutions for p in training_questions(task, 150)), "SFT can use every question that RL can"


def test_without_test_sets_there_is_no_test_split(root: Path) -> None:
    with pytest.raises(ValueError, match="openmath2 has no test split of its own: evaluate on gsm8k_boxed or math"):
        OpenMathInstruct(2, root=str(root)).problems("test")


@pytest.mark.parametrize("settings", [{"version": 3}, {"like": "svamp"}, {"solutions": 0}])
def test_impossible_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OpenMathInstruct(**settings)


# --- the others -----------------------------------------------------------------------------------------------------


def test_svamp_reads_as_people_write(root: Path) -> None:
    p = SVAMP(str(root)).problems("test")[0]
    assert p.question == "Bo had 104 pens and lost 99. How many are left?"
    assert (p.answer, p.solutions, p.tags) == ("5", ("104 - 99 = 5\n#### 5",), ("kind=Subtraction",))


def test_own_solutions_get_the_mark_they_lack(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"question": "1+1?", "answer": 2, "solutions": ["Two.", "It is\n#### 2"]}])
    task = OwnProblems("a.jsonl", "a.jsonl", answers="number", root=str(tmp_path))
    assert task.problems("test")[0].solutions == ("Two.\n#### 2", "It is\n#### 2")
    task = dataclasses.replace(task, answers="math")
    assert task.problems("test")[0].solutions[0] == "Two.\nThe answer is $\\boxed{2}$."


def test_one_question_has_one_answer(tmp_path: Path) -> None:
    def row(answer: str) -> dict[str, Any]:
        return {"question": "2+3?", "answer": answer, "solutions": [f"That is {answer}."]}

    def read(answers: Any, *rows: str) -> list[Any]:
        file = f"{answers}-{len(rows)}.jsonl"
        write(tmp_path / file, [row(answer) for answer in rows])
        task = OwnProblems(file, file, answers=answers, root=str(tmp_path))
        return [(p.answer, len(p.solutions)) for p in task.problems("test")]

    assert read("number", "5", "5.0") == [("5", 2)] and read("math", "\\frac{1}{2}", "0.5") == [("\\frac{1}{2}", 2)]
    for answers in ("number", "math"):
        file = tmp_path / f"{answers}-3.jsonl"
        with pytest.raises(ValueError) as error:
            read(answers, "5", "5", "6")
        assert str(error.value) == f"{file}, line 3: the answer is '6', but {file}, line 1 has '5' for this question"


def test_own_validation_file(tmp_path: Path) -> None:
    for name, numbers in (("train", range(9)), ("validation", range(7, 14)), ("test", range(12, 20))):
        write(tmp_path / f"{name}.jsonl", [own_row(i) for i in numbers])
    task = OwnProblems(validation="validation.jsonl", root=str(tmp_path))
    counts = {s: len(task.problems(s)) for s in SPLITS}
    assert counts == {"train": 7, "validation": 5, "test": 8}, "the test file goes before the others, validation next"
    with pytest.raises(ValueError, match="has no test file"):
        OwnProblems(test="", root=str(tmp_path)).problems("test")


def test_rows_without_solutions_are_for_rl(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [{"question": "q?", "answer": "2"}])
    task = OwnProblems(test="", root=str(tmp_path))
    assert [p.solutions for s in ("train", "validation") for p in task.problems(s)] == [()]  # type: ignore[arg-type]


BAD = [
    (MATH(train="f.jsonl", test="f.jsonl"), {"problem": "Why?", "solution": "Because."}, r"no \\boxed\{\} answer"),
    (MATH(train="f.jsonl", test="f.jsonl"), {"problem": "Why?"}, "the field solution"),
    (MATH(train="f.jsonl", test="f.jsonl"), ["a", "list"], "an object with named fields"),
    (SVAMP(train="f.jsonl", test="f.jsonl"), {"Body": "b", "Question": "q", "Answer": "some"}, "not a number"),
    (SVAMP(train="f.jsonl", test="f.jsonl"), {"Body": "b", "Answer": 3}, "Question or question"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q"}, "the field answer"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "", "answer": "1"}, "the field question"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q \ud83d", "answer": "1"}, "column 'question' has half a surr"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q", "answer": "1", "solutions": "\udc00"}, "solution 1.* half a"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q", "answer": "1", "solutions": ["1", "Question: 1"]}, "2 has"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q", "answer": "1", "solutions": [3]}, "a list of texts"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q", "answer": "1", "solutions": {"a": 1}}, "a list of texts"),
    (OwnProblems("f.jsonl", "f.jsonl"), {"question": "q", "answer": "1", "solutions": "\\boxed{2}"}, "solution 1 ends"),
    (OwnProblems("f.jsonl", "f.jsonl", answers="number"), {"question": "q", "answer": "x"}, "set answers=math"),
    (OpenMathInstruct(1, train="f.jsonl"), {"question": "q", "expected_answer": "1"}, "dataset or problem_source"),
    (OpenMathInstruct(2, train="f.jsonl"), {"problem": "q", "problem_source": "math"}, "expected_answer"),
    (OpenMathInstruct(2, train="f.jsonl"), '{"problem": "cut', "not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "bad", "message"), BAD, ids=range(len(BAD)))
def test_bad_rows_are_named_by_file_and_line(tmp_path: Path, task: Any, bad: Any, message: str) -> None:
    good = {"MATH": math_row, "SVAMP": svamp_row, "OwnProblems": own_row}.get(type(task).__name__)
    made = good(1) if good else open1(1) if task.version == 1 else open2(1)
    write(tmp_path / "f.jsonl", [made, made, bad])
    with pytest.raises(ValueError, match=message) as error:
        dataclasses.replace(task, root=str(tmp_path)).problems("train")
    assert f"{tmp_path / 'f.jsonl'}, line 3" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_names_the_fix(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"does not exist; .*--data-root FOLDER"):
        named_tasks(str(tmp_path))[name].problems("train")


def test_no_clean_solution_at_all_is_said(tmp_path: Path) -> None:
    write(tmp_path / "o.jsonl", [open1(4, "No: \\boxed{9}")])
    with pytest.raises(ValueError, match=r"o\.jsonl: no question of it has a clean solution"):
        OpenMathInstruct(1, root=str(tmp_path), train="o.jsonl").problems("train")


# --- where rows come from -------------------------------------------------------------------------------------------


def questions(task: Task) -> list[str]:
    return [p.question for p in task.problems("test")]


def test_json_arrays_objects_and_lines(tmp_path: Path) -> None:
    rows = [own_row(i) for i in range(12)]
    write(tmp_path / "a.json", rows)
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": rows}))
    (tmp_path / "c.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name in "abc":
        assert len(questions(OwnProblems(test=f"{name}.json", root=str(tmp_path)))) == 12
    (tmp_path / "d.json").write_text('[{"question": "q",\n "answer" 3}]')
    with pytest.raises(ValueError, match=r"d\.json, line 2: not JSON"):
        questions(OwnProblems(test="d.json", root=str(tmp_path)))
    (tmp_path / "e.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"e\.json: not JSON"):
        questions(OwnProblems(test="e.json", root=str(tmp_path)))


def test_math_as_it_was_published(tmp_path: Path) -> None:
    """A folder of one file a problem, in the order of the files' numbers."""
    for i in (10, 2, 1):
        file = tmp_path / "MATH" / "test" / "algebra" / f"{i}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(math_row(i)))
    task = MATH(str(tmp_path), "MATH/train", "MATH/test")
    assert [p.answer for p in task.problems("test")] == [f"\\frac{{{i}}}{{7}}" for i in (1, 2, 10)]
    assert task.problems("test")[0].tags == ("level=2", "subject=Algebra")
    assert len(RowSource(str(tmp_path), "MATH/test").fingerprint()) == 64


@pytest.fixture
def datasets_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, caching below the test's folder."""
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


def test_tables_and_saved_data_sets(tmp_path: Path, datasets_here: Any) -> None:
    rows = [{"question": f"Halve {i}.", "answer": f"{i}/2"} for i in range(12)]
    data = datasets_here.Dataset.from_list(rows)
    data.to_parquet(tmp_path / "a.parquet")
    data.to_csv(tmp_path / "a.csv")
    data.save_to_disk(str(tmp_path / "saved"))
    datasets_here.DatasetDict({"test": data}).save_to_disk(str(tmp_path / "dict"))
    write(tmp_path / "layout" / "test.jsonl", rows)
    for source in ("a.parquet", "a.csv", "saved", "dict", "layout"):
        assert questions(OwnProblems(test=source, root=str(tmp_path))) == [r["question"] for r in rows], source
    with pytest.raises(ValueError, match=r"dict has no split 'train' \(it has test\)"):
        OwnProblems(train="dict", test="", root=str(tmp_path)).problems("train")
    (tmp_path / "b.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"b\.parquet: not a Parquet file") as error:
        questions(OwnProblems(test="b.parquet", root=str(tmp_path)))
    assert "\n" not in str(error.value)


class Hub:
    """Stands in for the library's access to the hub, and remembers the requests."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def load_dataset(self, name: str, config: str | None, *, split: str, revision: str | None) -> Iterator[Any]:
        self.asked.append((name, config, split, revision))
        make = math_row if "math" in name.lower() else gsm_row
        start = {"train": 0, "test": 200}[split] + 10 * len(config or "")
        return iter([make(i) for i in range(start, start + 20)])

    def get_dataset_config_names(self, name: str, revision: str | None) -> list[str]:
        return ["geometry", "algebra"]


def test_the_hub_by_id_configuration_and_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rows are of the commit that the key names, whatever the branch is by then."""
    library, commits = Hub(), {"v2": "2" * 40, "main": "a" * 40}
    monkeypatch.setattr(hub, "datasets_library", lambda: library)
    monkeypatch.setattr(hub, "_commit", lambda _, revision: commits.get(revision, revision))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert len(GSM8K(train="some/gsm8k:main@v2", test="some/gsm8k:main@v2").problems("test")) == 20
    assert library.asked == [("some/gsm8k", "main", "test", "2" * 40)]
    math = MATH(train="some/math:*", test="some/math:*")
    assert len(math.problems("train")) + len(math.problems("validation")) == 40 - 10
    assert library.asked[1:3] == [("some/math", c, "train", "a" * 40) for c in ("algebra", "geometry")]
    commit = "0123456789" * 4
    assert RowSource("", f"some/math:*@{commit}").fingerprint() == f"some/math:*@{commit}"
    noted = tmp_path / "foray" / "datasets--some--math" / "main"
    assert noted.read_text() == "a" * 40, "for a run without a network"
    assert not (tmp_path / "hub").exists(), "its refs name what it has files of"


def test_rows_of_another_commit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the library takes whatever its cache has, and says nothing."""
    kept = SimpleNamespace(cache_files=[{"filename": f"/cache/some___rows/default/0.0.0/{'b' * 40}/rows-test.arrow"}])
    monkeypatch.setattr(hub, "datasets_library", lambda: SimpleNamespace(load_dataset=lambda *_, **__: kept))
    monkeypatch.setattr(hub, "_commit", lambda *_: "a" * 40)
    with pytest.raises(
        ValueError, match="has the rows of commit bbbbbbbbbbbb, and main of some/rows is commit aaaaaaa"
    ):
        OwnProblems(train="", test="some/rows").problems("test")


def test_named_tasks_of_the_hub() -> None:
    tasks: Any = named_tasks("hub")
    assert tasks["gsm8k"].train == "openai/gsm8k:main" and tasks["math500"].test == "HuggingFaceH4/MATH-500"
    assert tasks["openmath1_gsm8k"].source == "nvidia/OpenMathInstruct-1"
    assert all(RowSource("", s).data_set for s in (tasks["math"].train, tasks["svamp"].test, tasks["openmath2"].source))


@pytest.mark.parametrize("kind", [ConnectionError, PermissionError, RuntimeError, KeyError])
def test_what_the_hub_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise kind("no way\nto get there")

    monkeypatch.setattr(hub, "datasets_library", lambda: SimpleNamespace(load_dataset=refuse))
    monkeypatch.setattr(hub, "_commit", lambda *_: "a" * 40)
    with pytest.raises(
        ValueError, match=r"no/such: the data set could not be loaded \(.*no way.*; check the name"
    ) as e:
        OwnProblems(train="no/such", test="").problems("train")
    assert "\n" not in str(e.value)


def test_a_data_set_that_was_never_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub._commit.cache_clear()
    with pytest.raises(ValueError, match="some/thing: the data set could not be loaded"):
        RowSource("", "some/thing").fingerprint()
    for place, commit in (("hub/datasets--some--thing/refs", "abc"), ("foray/datasets--some--thing", "def")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "main").write_text(f"{commit}\n")
        hub._commit.cache_clear()
        assert RowSource("", "some/thing:main").fingerprint() == f"some/thing:main@{commit}", "the last that was read"
    hub._commit.cache_clear()


def test_tasks_import_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys; from foray.tasks import named_tasks; named_tasks(); "
    code += "print(sorted({'torch', 'datasets', 'math_verify', 'sympy', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_no_earlier_key_has_changed() -> None:
    """GSM8K's settings are in the keys of kept results. A later setting is left out of a key at its default."""
    from foray.core.canonical import to_json

    made = {k: v for k, v in to_json(_Unread()).items() if k != "type"}
    assert made == {"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl", "fingerprint": "files"}


class _Unread(GSM8K):
    def fingerprint(self) -> str:
        return "files"


def test_openmath_marks_code() -> None:
    assert all(clean(f"{mark} \\boxed{{1}}", "1") is None for mark in openmath._TOOLS)


# --- in a study -----------------------------------------------------------------------------------------------------


def swapped(value: Any, task: Any) -> Any:
    """A spec with another task in place of GSM8K."""
    if type(value) is GSM8K:
        return task
    if isinstance(value, tuple):
        return tuple(swapped(v, task) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: swapped(getattr(value, f.name), task) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    return value


@pytest.mark.slow
def test_a_study_of_another_task_runs_in_its_forked_workers(root: Path, draw_only: Callable[..., None]) -> None:
    pytest.importorskip("math_verify")
    draw_only()
    write(root / "math" / "train.jsonl", [math_row(i) for i in range(1, 2400)])
    write(root / "math" / "test.jsonl", [math_row(i) for i in range(3000, 3010)])
    settings = [s for s in SHRUNKEN if "rl_steps" not in s and "max_new" not in s]
    study = load_study(
        "gsm8k_small",
        [f"data.root={prepared(root)}", *settings, "recipes=rl", "pretrain.checkpoints=6144", "probes=none"],
    )
    study = swapped(study, MATH())
    index = run_study(study, Store(root / "store"), Console(file=io.StringIO()), LocalExecutor(2))
    lines = (index.parent / "results.csv").read_text().splitlines()
    assert any("pass@1" in line and "math" in line for line in lines)
