"""Numbers as people write them, bare and in completions."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest

from foray.tasks import numbers
from foray.tasks.gsm8k import GSM8K

SHARED = Path(__file__).parents[2] / "shared" / "data"

SAME = [
    ("1234", "1,234"), ("5", "$5.00"), ("50", "50%"), ("50%", "50"), ("0.5", "50%"), ("50%", "0.5"), ("1/2", "0.5"),
    ("0.5", "1/2"), ("3.5", "3 1/2"), ("42", "42."), ("42", "#### 42."), ("42", "42 apples"), ("42", "\\boxed{42}"),
    ("42", "$42$"), ("42", "**42**"), ("42", "x = 42"), ("-5", "−5"), ("-5", "-$5"), ("1000", "1e3"), ("42", "= 42"),
    ("0.75", "\\frac{3}{4}"), ("3.5", "3\\frac{1}{2}"), ("2.5", "2½"), ("42", "42 cm^2"), ("5", "5 km/h"),
    ("42", "+42"),
    ("-5", "- 5"), ("-5", "–5"), ("-5", "- $ 5"), ("-5", "$ -5"), ("18", "$ 18"), ("18", "\\$ 18"), ("18", "€ 18"),
    ("0.5", "\\frac12"), ("-0.5", "-\\frac{1}{2}"), ("-0.5", "$-\\dfrac12$"), ("18.5", "18\\frac12"), ("-1.5", "-1½"),
    ("0.5", "\\frac1{2}"), ("3.5", "3\\,\\tfrac{1}{2}"), ("-0.5", "−½"), ("2.125", "2⅛"), ("5100/1000", "5 100/1000"),
    ("1000", "1{,}000"), ("1000", "1,\\!000"), ("1000", "1\\,000"), ("1000", "1 000"), ("1000", "1\u00a0000"),
    ("1000000", "1\u202f000\u2009000"), ("-12500.5", "-$12 500.50"), ("10000000", "10,\\! 000,\\!000"),
    ("1000", "1 000 m2"),
    ("1234567.5", "$1,234,567.50 dollars"), ("42", "US$42"), ("42", "€42"), ("42", "042"), ("20", "20 percent"),
    ("2", "4/2"), ("42", "\\$42"), ("42", "\\(42\\)"), ("100", "100 m2"), ("3.5", "3 and 1/2"), ("42", "$42.00."),
]  # fmt: skip
OTHER = [
    ("42", "43"), ("42", "4 2"), ("9", "9**9**9**9"), ("9", "9^9"), ("6", "6 * 7"), ("42", "6*7"), ("42", ""),
    ("42", "forty-two"), ("1", "1/0"), ("42", "42,000"), ("0.5", "1/3"), ("42", "1e42"), ("1", "1e9999"), ("50%", "5"),
    ("12", "12-3"), ("1", "1/2/2020"), ("3", "3,4"), ("1", "__import__('os')"), ("42", "9" * 5000), ("0.5", "-1/2"),
    ("50", "50% - 20% = 30%"), ("3", "3 1/2 + 1"), ("5", "5–6"), ("5", "5 – 6"), ("6", "6 x 7"), ("50", "€50 - €20"),
    ("50", "$ 50 - $ 20"), ("5", "5\\% + 1"), ("0.5", "½ + ½"), ("1", "1{,}00"), ("510", "5 10"),
    ("12345", "12 345 67"), ("5", "5\\frac{x}{2}"), ("0.04", "\\frac{1}{2}5"), ("5", "5½5"), ("2.55", "5.½"),
    ("25.5", "5 100/200"), ("12200", "12 200-gram bars"), ("100200", "x^2 100 200"), ("0.5", "-\\frac12"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "written"), SAME)
def test_the_same_number_in_other_writing(gold: str, written: str) -> None:
    gold = numbers.reference(gold)
    assert numbers.graded_answer(gold, written, "strict").score == 1.0
    said = written if "####" in written else f"That makes\n#### {written}\nand so on 7"
    verdict = numbers.graded_completion(gold, said, "strict")
    assert (verdict.score, verdict.formatted) == (1.0, True)


@pytest.mark.parametrize(("gold", "written"), OTHER)
def test_another_number_or_none(gold: str, written: str) -> None:
    gold = numbers.reference(gold)
    assert numbers.graded_answer(gold, written, "strict").score == 0.0
    assert numbers.graded_completion(gold, f"#### {written}", "strict").score == 0.0


@pytest.mark.parametrize("written", ["42 or 43", "5 hours 42 minutes", "42 43", "10:42", "about 42"])
def test_a_bare_answer_is_one_number_and_nothing_else(written: str) -> None:
    assert numbers.graded_answer("42", written, "strict").score == 0.0
    assert not numbers.graded_answer("42", written, "strict").formatted


@pytest.mark.parametrize(
    ("text", "number"),
    [("#### 1,234", "1234"), ("1,234", "1234"), ("She has 5.\nA: 18", "18"), ("It is \\boxed{7}.", "7"),
     ("-.5", "-0.5"),
     ("3 1/2 cups", "3 1/2"), ("a\n#### $5", "5"), ("-\\frac{1}{2}", "-1/2"), ("- 5", "-5"), ("1{,}000", "1000"),
     ("1 000", "1000"), ("18\\frac12", "18 1/2"), ("It is -½.", "-1/2"), ("So it is $100 000.", "100000"),
     ("A: 18", "18"), ("The answer is 18", "18"), ("10 - 4 = 6 apples", "6"), ("5 and 3 more, so she has 8", "8"),
     ("She has 100 - 50.", "50"), ("It is on pages 5–6.", "6"), ("答案是18", "18")],
)  # fmt: skip
def test_references_bare_or_in_a_solution(text: str, number: str) -> None:
    assert numbers.reference(text) == number
    assert numbers.reference(numbers.reference(text)) == number


def test_a_reference_without_a_number_is_refused() -> None:
    for text in ("", "forty-two", "#### none", "\\boxed{x}", "#### 50% - 20% = 30%"):
        with pytest.raises(ValueError, match="no number"):
            numbers.reference(text)


@pytest.mark.parametrize(
    "text",
    ["5 10", "5 or 6", "10:42", "6*7", "5–6", "12 apples and 3 pears", "x/2", "ln 2", "\\sqrt{2}", "-(1/2)", "minus 5",
     "\\frac{-1}{2}", "\\boxed{5 or 6}", "The answer is \\boxed{5 or 6}.", "x = 5 or 6", "[2, 3]"],
)  # fmt: skip
def test_what_is_more_than_a_number_is_no_reference(text: str) -> None:
    """Its last number is not the answer, and a wrong reference would be trusted."""
    with pytest.raises(ValueError, match="no number"):
        numbers.reference(text)


def test_a_boxed_format_reads_the_last_box() -> None:
    task = GSM8K(box=True)
    assert task.name == "gsm8k_boxed"
    for text, strict, lenient in [
        ("So \\boxed{42}.", 1, 1), ("\\boxed{41} no, \\boxed{42}", 1, 1), ("\\boxed{42} no, \\boxed{41}", 0, 0),
        ("#### 42", 0, 1), ("It is 42", 0, 1), ("\\boxed{42 \\text{ apples}}", 1, 1), ("\\boxed{42", 0, 1),
        ("\\boxed{42} after 7 steps", 1, 1), ("\\boxed{}", 0, 0),
    ]:  # fmt: skip
        assert numbers.graded_completion("42", text, "strict", box=True).score == strict, text
        assert numbers.graded_completion("42", text, "lenient", box=True).score == lenient, text


@pytest.mark.parametrize(
    "part", ["9", "9,", "1/", "-", "$", " ", "\\frac{1}{2}", "½", "\\boxed{", "{", "}", "e5", "%", "= ", "**", "100 ",
             "{,}000", "\\,", "\u00a0", "- ", "$ ", "\\frac12", "5% ", "1 1/2 ", "–", " x 5", "a", "a ", "A: "]
)  # fmt: skip
def test_long_repetitions_take_linear_time(part: str) -> None:
    for text in (part * 50_000, "#### " + part * 50_000, "#### 1" + part * 50_000):
        begun = time.process_time()
        for extraction in ("strict", "lenient"):
            for box in (False, True):
                numbers.graded_completion("42", text, extraction, box)  # type: ignore[arg-type]
            numbers.graded_answer("42", text, extraction)  # type: ignore[arg-type]
        with suppress(ValueError):
            numbers.reference(text)
        assert time.process_time() - begun < 2


@pytest.mark.skipif(not (SHARED / "gsm8k_multi").is_dir(), reason="the published model solutions are not here")
def test_every_published_flag_is_reproduced() -> None:
    """Leniently from the models' own texts (``A: 26``), strictly with that line in the asked-for format."""
    task = GSM8K(str(SHARED))
    problems = {p.question: p for p in task.problems("test")}
    total = 0
    for line in (SHARED / "gsm8k_multi" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        problem = problems[row["question"].strip()]
        assert numbers.reference(row["ground_truth"]) == problem.answer
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"):
            text, flag = row[name]["solution"], row[name]["is_correct"]
            assert (task.verify(problem, text, "lenient").score > 0) == flag, text
            assert (task.verify(problem, text.replace("\nA: ", "\n#### ")).score > 0) == flag, text
            total += 1
    assert total == 5276
