"""GSM8K from files in the published schema: loading, splits, the verifier, and the shrunken study on real input."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from foray.core.canonical import content_hash
from foray.core.task import STORED, Problem, few_shot_examples
from foray.data.prepare import load_mix, prepare
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.kinds.training import TrainNode
from foray.study.named_studies import load_study
from foray.study.run import run_study
from foray.study.spec import Study
from foray.study.store import Store
from foray.tasks.gsm8k import GSM8K, GSM8KText
from test_benchmarks import write_all

SHARED = Path(__file__).parents[2] / "shared" / "data"
IMPORTED = str(Path(__file__).parents[1] / "docs" / "results" / "gsm8k_small" / "imported.py")
NAMES = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn"]
THINGS = ["apples", "books", "coins", "dolls", "eggs"]


def row(i: int) -> dict[str, str]:
    """A row as published: calculator marks, thousands with commas, the answer on a line of its own."""
    r = random.Random(i)
    name, thing, a, b = r.choice(NAMES), r.choice(THINGS), 2 + i % 97, r.randint(2, 40)
    return {
        "question": f"{name} buys {a} boxes of {b} {thing} for shelf {i}. How many {thing} are that?",
        "answer": f"{name} has {a}*{b} = <<{a}*{b}={a * b}>>{a * b} {thing}.\n#### {a * b:,}",
    }


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "gsm8k" / "train.jsonl", [row(i) for i in range(200)])
    write(tmp_path / "gsm8k" / "test.jsonl", [row(i) for i in range(1000, 1040)])
    return tmp_path


# --- loading --------------------------------------------------------------------------------------------------------


def test_rows_become_problems(root: Path) -> None:
    write(root / "gsm8k" / "test.jsonl", [
        {"question": " How much? ", "answer": "She has 2*617=<<2*617=1234>>1234.\n#### 1,234"},
        {"question": "Less?", "answer": "It falls.\n#### -5"},
        {"question": "Money?", "answer": "Pay <<7/2=3.5>>3.50.\n#### $3.50"},
    ])  # fmt: skip
    problems = GSM8K(str(root)).problems("test")
    assert [p.question for p in problems] == ["How much?", "Less?", "Money?"]
    assert [float(p.answer) for p in problems] == [1234, -5, 3.5]
    assert problems[0].solutions == ("She has 2*617=1234.\n#### 1,234",)
    assert "<<" not in problems[2].solutions[0]


def test_no_solution_has_in_it_what_ends_a_completion(root: Path) -> None:
    """A few published solutions have blank lines.

    Boxed solutions may keep blank lines, because a blank line does not end a boxed completion.
    """
    answer = "It is 2.\n\nThen\n<<2*3=6>>\n\n6.\n\n#### 6"
    write(root / "gsm8k" / "test.jsonl", [{"question": "How much?", "answer": answer}])
    plain, boxed = "It is 2.\nThen\n6.\n#### 6", "It is 2.\n\nThen\n\n\n6.\nThe answer is \\boxed{6}."
    for box, solution in ((False, plain), (True, boxed)):
        task = GSM8K(str(root), box=box)
        (problem,) = task.problems("test")
        assert problem.solutions == (solution,) and not any(stop in solution for stop in task.stop)


def test_validation_is_carved_from_train_by_text(root: Path) -> None:
    task = GSM8K(str(root))
    parts = {s: [p.question for p in task.problems(s)] for s in ("train", "validation", "test")}
    assert len(parts["train"]) + len(parts["validation"]) == 200
    assert 8 <= len(parts["validation"]) <= 36  # a tenth, by a hash
    assert not set(parts["train"]) & set(parts["validation"])
    assert len(parts["test"]) == 40
    # The same question stays on its side whatever the file's order.
    write(root / "gsm8k" / "train.jsonl", [row(i) for i in reversed(range(200))])
    assert {p.question for p in task.problems("validation")} == set(parts["validation"])


def test_ids_are_distinct_and_counts_are_prefixes(root: Path) -> None:
    task = GSM8K(str(root))
    every = [p for s in ("train", "validation", "test") for p in task.problems(s)]
    assert len({p.id for p in every}) == len(every)
    assert list(task.problems("train", 5)) == list(task.problems("train"))[:5]


def test_pretraining_text_holds_no_validation_question(root: Path) -> None:
    task = GSM8K(str(root))
    source = GSM8KText(task=task, per_document=3)
    train, held = "\n".join(source.documents("train")), "\n".join(source.documents("validation"))
    assert all(p.question in train and p.question not in held for p in task.problems("train"))
    assert all(p.question in held and p.question not in train for p in task.problems("validation"))
    assert not any(p.question in train + held for p in task.problems("test"))


def test_prompt_and_target_are_the_format_of_the_examples(root: Path) -> None:
    task = GSM8K(str(root))
    examples = few_shot_examples(task, 2, 0)
    prompt = task.prompt("Why?", examples)
    assert prompt.endswith("Question: Why?\nAnswer:") and prompt.count("####") == 2
    assert task.prompt(examples[0].question) + task.target(examples[0].solutions[0]) in prompt
    assert all(s in prompt for s in task.stop), "a stop string is what follows an answer in the prompt"
    assert few_shot_examples(task, 2, 0) == examples != few_shot_examples(task, 2, 1)


@pytest.mark.parametrize("file", ["train", "test"])
@pytest.mark.parametrize(
    "bad",
    [
        {"question": "No answer?"},
        {"answer": "#### 3"},
        {"question": "A number?", "answer": 3},
        {"question": None, "answer": "#### 3"},
        ["question", "answer"],
        {"question": "No mark?", "answer": "It is 3."},
        {"question": "No number?", "answer": "It is three.\n#### three"},
        {"question": "Nothing?", "answer": ""},
        '{"question": "Cut off',
    ],
)
def test_bad_rows_are_named_by_file_and_row(root: Path, file: str, bad: Any) -> None:
    path = root / "gsm8k" / f"{file}.jsonl"
    write(path, [row(0), row(1), bad, row(2)])
    with pytest.raises(ValueError, match=r"(row|line) 3: ") as error:
        GSM8K(str(root)).problems("test" if file == "test" else "train")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.jsonl does not exist; .*data\.root=FOLDER"):
        GSM8K(str(tmp_path)).problems("train")


def test_the_hash_is_of_the_content_not_of_the_place(root: Path, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    for folder, rows in ((copy, range(200)), (other, range(199))):
        write(folder / "gsm8k" / "train.jsonl", [row(i) for i in rows])
        write(folder / "gsm8k" / "test.jsonl", [row(i) for i in range(1000, 1040)])
    assert content_hash(GSM8K(str(root))) != content_hash(GSM8K(str(other)))
    assert content_hash(GSM8K(str(root))) == content_hash(GSM8K(str(copy)))


# --- the verifier ---------------------------------------------------------------------------------------------------


def graded(answer: str, completion: str, extraction: Any = "strict") -> tuple[float, bool]:
    verdict = GSM8K().verify(Problem("p", "?", answer), completion, extraction)
    assert "\n" not in verdict.reason and len(verdict.reason) < 200
    return verdict.score, verdict.formatted


@pytest.mark.parametrize(
    ("answer", "completion"),
    [
        ("42", " So it is 42.\n#### 42"),
        ("42", "#### 42."),
        ("42", "####42"),
        ("42", "#### $42"),
        ("1234", "#### 1,234"),
        ("1234", "#### $1,234"),
        ("1234", "#### 1234.00"),
        ("1234567", "#### 1,234,567 dollars"),
        ("3.5", "#### 3.50"),
        ("3.50", "#### 3.5"),
        ("0.5", "#### .5"),
        ("-5", "#### -5"),
        ("-5", "#### -$5"),
        ("-5", "#### $-5"),
        ("0", "#### -0"),
        ("42", "#### 42\nand then #### 43"),
        ("42", "#### 42%"),
        ("42", "#### 042"),
        ("42", "#### 42.0000000000000000"),
    ],
)
def test_right_answers(answer: str, completion: str) -> None:
    assert graded(answer, completion) == (1.0, True)
    assert graded(answer, completion, "lenient") == (1.0, True)


@pytest.mark.parametrize(
    "completion",
    [
        "#### 43",
        "#### -42",
        "#### 42.5",
        "#### 420",
        "#### 4 2",
        "#### 4,2",
        "#### 42,000",
        "#### 43\n#### 42",
        "#### 1e42",
        "#### " + "4" * 5000,
        "#### 42" + "0" * 5000,
        "#### 42.3333333333333333",
    ],
)
def test_wrong_answers(completion: str) -> None:
    assert graded("42", completion)[0] == 0.0


@pytest.mark.parametrize(
    ("completion", "lenient"),
    [
        ("The answer is 42", 1.0),
        ("The answer is 42.", 1.0),
        ("First 7, then $42", 1.0),
        ("It costs 42 and not 41", 0.0),
        ("#### forty, that is 42", 1.0),
        ("####", 0.0),
        ("", 0.0),
        ("nothing", 0.0),
        ("### 42", 1.0),
        ("version 3.42", 0.0),
    ],
)
def test_strict_wants_the_format_and_lenient_takes_the_last_number(completion: str, lenient: float) -> None:
    assert graded("42", completion) == (0.0, False)
    assert graded("42", completion, "lenient") == (lenient, False)


HOSTILE = [
    "####" * 20_000,
    "#### " + "9" * 200_000,
    "#### " + "1," * 100_000,
    "#### " + "1,234" * 40_000,
    "#### " + "1.2." * 50_000,
    "#### " + "-" * 100_000 + "5",
    "#### " + " " * 200_000 + "42",
    "#### " + "\t" * 200_000,
    "#### $" * 50_000,
    "<<" * 100_000,
    "-$-" * 60_000,
    "1" * 19 + ("," + "1" * 19) * 5000,
    "." * 200_000,
    "0." * 100_000,
    "\x00####\x00 42\ud800",
    "#### ٤٢",  # Arabic-Indic digits
    "#### ４２",  # full-width digits
    "#### ²",
    "#### ½",
    "#### 1\u0660\u0661,\u0662\u0663\u0664",
    "#### NaN",
    "#### Infinity",
    "#### 1e999999999",
    "#### __import__('os').system('true')",
    "#### 10**10**10",
]


@pytest.mark.parametrize("completion", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("extraction", STORED)
def test_hostile_text_is_graded_quickly_and_without_an_error(completion: str, extraction: str) -> None:
    begun = time.process_time()
    score, _ = graded("42424", completion, extraction)
    assert time.process_time() - begun < 2, "not by anything quadratic"
    assert score == 0.0


def test_random_text_never_raises() -> None:
    r = random.Random(0)
    for _ in range(3000):
        text = "".join(r.choice("#### $-,.0123456789\n e٣½<>") for _ in range(r.randint(0, 40)))
        for extraction in STORED:
            graded("42", text, extraction)


@pytest.mark.skipif(not (SHARED / "gsm8k").is_dir(), reason="the published files are not here")
def test_every_published_solution_is_right_and_no_other_answer_is() -> None:
    task = GSM8K(str(SHARED))
    counts = {s: len(task.problems(s)) for s in ("train", "validation", "test")}
    assert counts["train"] + counts["validation"] == 7473 and counts["test"] == 1319
    assert 600 < counts["validation"] < 900
    for split in ("train", "validation", "test"):
        for p in task.problems(split):
            for extraction in STORED:
                verdict = task.verify(p, task.target(p.solutions[0]), extraction)
                assert (verdict.score, verdict.formatted) == (1.0, True), p.id
            assert task.verify(p, task.target(p.solutions[0]) + "1").score == 0.0, p.id


@pytest.mark.skipif(not (SHARED / "gsm8k_multi").is_dir(), reason="the published files are not here")
def test_published_model_solutions_are_graded_as_their_authors_did() -> None:
    """5,276 completions of real models. The test puts the answer after ``A:`` into the asked-for format."""
    task = GSM8K(str(SHARED))
    problems = {p.question: p for p in task.problems("test")}
    wrong = total = 0
    for line in (SHARED / "gsm8k_multi" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            text = found[name]["solution"].replace("\nA: ", "\n#### ")
            verdict = task.verify(problems[found["question"].strip()], text)
            wrong += (verdict.score > 0) != found[name]["is_correct"]
            total += 1
    assert total == 5276 and wrong == 0


# --- the study ------------------------------------------------------------------------------------------------------

PROSE = (
    "It is a truth universally acknowledged that a small model must be in want of data. “Indeed,” said she. "
    "The moor lay grey beneath a sky of no particular colour, and nobody spoke for some time. "
)

SHRUNKEN = [
    "model.width=16", "model.layers=1", "model.heads=2", "model.mlp_width=24", "model.context=384",
    "model.vocab_size=400", "data.vocab_size=400",
    "pretrain.batch_size=4", "pretrain.length=192", "pretrain.tokens=6144", "pretrain.checkpoints=3072,6144",
    "post.rl.prompts=2", "post.rl.group_size=2",
    "post.rl.max_new_tokens=8", "post.sft.batch_size=4", "post.rl_steps=2", "post.sft_steps=2",
    "evaluation.problems=2", "evaluation.samples=2", "evaluation.k=1,2", "evaluation.max_new_tokens=8",
    "evaluation.base_shots=1", "evaluation.heldout_tokens=500",
]  # fmt: skip


def prepared(root: Path) -> Path:
    """The study's data folder with everything in it: questions, prose, benchmarks and the prepared corpus."""
    write(root / "gsm8k" / "train.jsonl", [row(i) for i in range(2400)])
    chapters = [{"id": f"c{i}", "author": "Nobody", "title": "T", "text": PROSE * 4 + str(i)} for i in range(60)]
    write(root / "prose" / "standardebooks.jsonl", chapters)
    write_all(root / "general")
    mix = load_mix("gsm8k_small", ["vocab_size=400", "characters=20000", "tokens=20000"], str(root))
    prepare(mix, root / "gsm8k_small", 1, lambda _: None)
    return root


def completions(study: Study, store: Store) -> dict[tuple[int, str], str]:
    found = [e for e in expand(study).entries if isinstance(e.node, PassKNode)]
    return {(e.tokens, e.recipe): (e.node.folder(store) / "completions.jsonl").read_text() for e in found}


@pytest.mark.slow
def test_the_shrunken_study_runs_on_files_to_its_report_and_again_from_its_own_checkpoints(
    root: Path, draw_only: Callable[..., None]
) -> None:
    """The second time the M_t are foreign folders in Hugging Face's format. Every completion is the same."""
    pytest.importorskip("lm_eval")
    draw_only()
    settings, store = [f"data.root={prepared(root)}", *SHRUNKEN], Store(root / "store")
    study = load_study("gsm8k_small", settings)
    index = run_study(study, store, Console(file=io.StringIO()))
    lines = (index.parent / "results.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]
    assert {(r["tokens"], r["recipe"]) for r in rows if r["metric"] == "pass@1"} == {
        (t, r) for t in ("3072", "6144") for r in ("base", "rl", "sft", "sft_rl", "parallel")
    }
    assert {r["task"] for r in rows if r["metric"] == "bits_per_byte"} == {"prose", "gsm8k", "gsm8k test"}
    assert {r["task"] for r in rows if r["metric"] == "acc"} >= {"lambada_openai", "hellaswag", "piqa"}
    assert "one solution a question" in index.read_text(), "why there is no sft_gold"
    for e in expand(study).entries:
        if e.recipe == "base" and isinstance(e.node, TrainNode):
            (root / f"M_{e.tokens}").symlink_to(e.node.folder(store) / "model")
    kept = [s for s in settings if not s.startswith("pretrain.")]
    models = json.dumps([[f"M_{t}", "", t] for t in (3072, 6144)])
    imported = load_study(IMPORTED, [*kept, f"pretrain.models={models}", "pretrain.heldout.length=192"])
    run_study(imported, Store(root / "imported"), Console(file=io.StringIO()))
    assert completions(imported, Store(root / "imported")) == completions(study, store)
