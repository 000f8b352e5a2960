"""Numbers as people write them, bare and in completions."""

from __future__ import annotations

import json
import math
import random
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from foray.answers import numbers
from foray.core.canonical import content_hash
from foray.core.sources import Demonstrations, Rollouts
from foray.core.task import STORED, Problem
from foray.study.kinds.measures import PassKNode
from foray.tasks.gsm8k import GSM8K
from foray.tasks.jsonl import OwnProblems
from foray.tasks.svamp import SVAMP
from foray.world import WorldProblems

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
    ["5 10", "5 or 6", "10:42", "6*7", "5–6", "12 apples and 3 pears", "x/2", "ln 2", "\\sqrt{2}", "-(1/2)",
     "\\frac{-1}{2}", "\\boxed{5 or 6}", "The answer is \\boxed{5 or 6}.", "x = 5 or 6", "[2, 3]"],
)  # fmt: skip
def test_what_is_more_than_a_number_is_no_reference(text: str) -> None:
    """The last number is not the answer, and Foray would trust a wrong reference."""
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


# --- what stands directly behind a number ---------------------------------------------------------------------------

COMPUTED = [
    ("5000000", "5 million"), ("5000000", "$5 million dollars"), ("5000000", "**5** million"), ("5000", "5 thousand"),
    ("500000", "5 hundred thousand"), ("2500000", "2 1/2 million"), ("2500000", "2.5 million"), ("60", "5 dozen"),
    ("5000000", r"5\text{ million}"), ("7000000000", "7 billion"), ("5000", "5k"), ("5000", "5K"), ("5000000", "$5M"),
    ("5000000000", "$5bn"), ("5000000", "$5 M"), ("2500000", r"2.5 \times 10^6"), ("2500000", r"2.5 \times 10^{6}"),
    ("2500000", r"$2.5$ \times 10^6"), ("2500000", r"2.5 \cdot 10^6"), ("2500000", "2.5*10^6"), ("2500000", "2.5e6"),
    ("2500000", "2.5 x 10^6"), ("2500000", "2.5 × 10⁶"), ("0.0025", "2.5 × 10⁻³"), ("25", "5²"), ("25", "5^2"),
    ("5000", "5 grand"),
    ("5000000", r"\$5 \text{ million}"), ("5000000", "5~million"), ("5000", "$5$k"), ("5000", "`5`k"),
    ("125", "5^{3}"), ("1024", "2¹⁰"), ("-25", "-5²"), ("5.5", "5 and a half"), ("2.5", "5/2"), ("1000000", "10^6"),
]  # fmt: skip
NO_NUMBER = [
    "5x", "5 x", "5y", "5i", "5π", "5 π", r"5\pi", r"5\sqrt{2}", r"5\times 2", r"5 \div 2", r"5\cdot x", "5√2", "5^x",
    "5^{x+1}", "5ⁿ", "5**2", "5+x", "5 + tax", "5+", "5 ± 1", "5-x", "5:3", "5 squared", "5 or more", "5 or 6",
    "5 to 6", "5 plus 2", "5 times 3", "5 minus 3", "5 out of 8", "5_8", r"5\overline{3}", "5 ft 11 in",
    "5 dollars and 20 cents", "5 hours 42 minutes", "5'11\"", "5 thousandths", "5(3)", "5‰", "5 M",
    "5 mil", "5 mio", "5 zillion",
    "5 score", "5 gross", "(5) million", "(5) k", "5.5...",
]  # fmt: skip
UNCHANGED = [
    "5 apples", "$5", "5%", "5 km", "5 m", "5m", "5 m²", "5 cm^2", r"5\text{ cm}^2", "5°", r"5^\circ", "5th", "5^{th}",
    "5 T-shirts", "5 M&Ms", "5-gallon jugs", "$5/hour", "5 apples a day", "5 (five)", "5 hundred-dollar bills",
    "5 third-graders", "5 per day", r"5 \%", "5 half-days", "5 kg",
]  # fmt: skip


@pytest.mark.parametrize(("gold", "written"), COMPUTED)
def test_what_scales_a_number_is_computed(gold: str, written: str) -> None:
    sentence = f"It is {written}"
    for mode in ("strict", "lenient"):
        assert numbers.graded_answer(gold, written, mode).score == 1.0  # type: ignore[arg-type]
        assert numbers.graded_answer("5", written, mode).score == 0.0  # type: ignore[arg-type]
        assert numbers.graded_completion(gold, f"So\n#### {written}\n7", mode).score == 1.0  # type: ignore[arg-type]
    assert numbers.graded_completion(gold, sentence, "lenient").score == 1.0
    assert numbers.graded_completion(numbers.reference(written), f"#### {gold}", "strict").score == 1.0


@pytest.mark.parametrize("written", NO_NUMBER)
def test_what_changes_a_number_and_is_not_computed_leaves_none(written: str) -> None:
    gold = "5.5" if "..." in written else "5"
    for mode in ("strict", "lenient"):
        assert numbers.graded_answer(gold, written, mode).score == 0.0  # type: ignore[arg-type]
        assert numbers.graded_completion(gold, f"#### {written}", mode).score == 0.0  # type: ignore[arg-type]
    assert numbers.graded_completion(gold, f"It is {written}.", "lenient").score == 0.0


@pytest.mark.parametrize("written", UNCHANGED)
def test_units_and_words_leave_a_number_as_it_is(written: str) -> None:
    for mode in ("strict", "lenient"):
        assert numbers.graded_answer("5", written, mode).score == 1.0  # type: ignore[arg-type]
        assert numbers.graded_completion("5", f"#### {written}", mode).score == 1.0  # type: ignore[arg-type]
    assert numbers.graded_completion("5", f"It is {written}.", "lenient").score == 1.0


def test_a_rate_is_no_second_unit() -> None:
    assert numbers.graded_completion("5", "#### 5 in 3 days", "strict").score == 1.0
    assert numbers.graded_completion("5", "#### 5 days 3 hours", "strict").score == 0.0


def test_a_factorial_is_computed_where_an_answer_stands_and_a_shout_in_a_sentence() -> None:
    assert numbers.graded_answer("120", "5!", "strict").score == 1.0
    assert numbers.graded_answer("120", numbers.reference("5!"), "strict").score == 1.0
    assert numbers.graded_completion("5", "She has 5!", "lenient").score == 1.0
    for gold in ("21!", "5!!", "2.5!"):
        with pytest.raises(ValueError, match="no number"):
            numbers.reference(gold)


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("How many dozens of eggs will she eat?", 1), ("What is the cost in dozen?", 1), ("How many eggs?", 0), ("", 0),
        ("She buys 7 dozen. How many are left?", 0), ("How many eggs are in 3 dozen?", 0),
        ("How many more dozens are needed?", 1), ("What is the number of dozens?", 1),
        ("How many dozen?", 1), ("What is that in dozens of eggs?", 1), ("What is it in dozen of eggs?", 1),
        ("How many dozenal digits are there?", 0), ("How many dozen-packs did she buy?", 0), ("Sold in Dozen Oaks.", 0),
    ],
)  # fmt: skip
def test_a_scale_word_counts_unless_the_question_asks_for_such_a_number(question: str, right: int) -> None:
    assert numbers.graded_answer("7", "7 dozen", "strict", question).score == right


@pytest.mark.parametrize(
    ("question", "written", "right"),
    [
        ("How many millionaires are there?", "7 million", 0), ("How many millions does he have?", "7 million", 1),
        ("She lived in Thousand Oaks. How many rooms?", "7 thousand", 0), ("What is it in thousands?", "7 thousand", 1),
        ("How much is it in grand total?", "7 grand", 0), ("How many hundred-dollar bills?", "7 hundred", 0),
    ],
)  # fmt: skip
def test_a_word_that_begins_as_a_scale_word_asks_for_none(question: str, written: str, right: int) -> None:
    assert numbers.graded_completion("7", f"#### {written}", "strict", question=question).score == right


@pytest.mark.parametrize(
    ("gold", "written", "right"),
    [
        ("7", "7 dozen", 1), ("84", "7 dozen", 1), ("7", r"7\text{ dozen}", 1), ("12", r"12\text{ million}", 1),
        ("12000000", r"12\text{ million}", 1), ("-7", "-7 dozen", 1), ("7", "-7 dozen", 0), ("2.5", "2.5 million", 1),
        ("3.5", "3 1/2 thousand", 1), ("5", r"\boxed{5} dozen", 1), ("60", r"\boxed{5} dozen", 1),
        ("-5", r"-\boxed{5} dozen", 1), ("7", "8 dozen", 0), ("7", "7k", 0), ("7", "7 hundred thousand", 0),
        ("700", "7 hundred thousand", 0), ("2.5", r"2.5 \times 10^6", 0), ("7 dozen", "84", 1), ("7 dozen", "7", 0),
        ("1 dozen", "12 dozen", 0), ("7 dozen", "7 dozen", 1), ("5", "$5 million", 1),
        ("20", "20!", 1), ("2432902008176640000", "20!", 1), ("42", "42!", 1), ("18", "18!!!", 1), ("1", "0!", 1),
        ("2.5", "2.5!", 1), ("25", "20!", 0), ("-5", "-5!", 1), ("120", "(5!)", 1), ("5", "5!=120", 0),
        ("120", "5! + 1", 0), ("5", "5! + 1", 0),
    ],
)  # fmt: skip
def test_a_scale_word_may_be_the_questions_unit_and_a_factorial_a_shout(gold: str, written: str, right: int) -> None:
    for extraction in ("strict", "lenient", "flexible"):
        asked = "How many dozens are there? How many thousands? How many millions?"
        found = numbers.graded_completion(gold, f"#### {written}", extraction, question=asked)
        assert found.score == right, extraction
        # Votes count answers: equal texts have equal verdicts.
        wanted = numbers.bare(gold)
        assert wanted is not None and (not right or found.answer == wanted.normal)


# --- frames, signs, marks -------------------------------------------------------------------------------------------

FRAMES = [
    "$\\boxed{%s}$", "$$%s$$", "(%s)", "[%s]", "`%s`", "```%s```", "**%s**", "*%s*", "__%s__", "_%s_", "\\text{%s}",
    "\\textbf{%s}", "$\\text{%s}$", "\\boxed{\\text{%s}}", "$$\\boxed{%s}$$", "**\\boxed{%s}**", "\\[\\boxed{%s}\\]",
    "\\(%s\\)", "\\[ %s \\]", "%s.", "**%s**.", "\"%s\"", "“%s”", "$(%s)$", "**$%s**", "**($%s)**", "\\fbox{%s}",
    "{%s}", "%s\u200b", "x = **%s**", "$x = %s$", "\\mathbf{%s}", "(%s apples)",
    "((%s))", "(**%s**)", "$\\displaystyle %s$",
]  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_are_taken_off(frame: str) -> None:
    for said in ("180", "1,180", "１８０", "1'180", "1_180"):
        gold, written = ("1180" if len(said) > 3 else "180"), frame % said
        assert numbers.graded_answer(gold, written, "strict").score == 1.0, written
        assert numbers.graded_completion(gold, f"So\n#### {written}\n7", "strict").score == 1.0, written
        assert numbers.graded_answer("80", written, "lenient").score == 0.0, written
    assert numbers.graded_answer("180", frame % "180 million", "lenient").score == 0.0


def test_a_frame_around_two_numbers_holds_none() -> None:
    for written in ("(1, 2)", "[1, 2]", "(1)(2)", "(1) + 2", "**1** + 2", "`1` or 2", "\\boxed{1} or 2"):
        assert numbers.graded_answer("1", written, "strict").score == 0.0, written
        assert numbers.graded_completion("1", f"#### {written}", "strict").score == 0.0, written


@pytest.mark.parametrize(
    "written",
    ["minus 5", "negative 5", "Minus 5", "-\\boxed{5}", "$-\\boxed{5}$", "- \\boxed{5}", "minus \\boxed{5}",
     "\\boxed{-5}", "\u20115", "\u22125", "\u20135", "－5", "($-5)", "-$5", "$-$5", "-\\text{5}", "negative $5",
     "-**5**", "-`5`", "minus **5**"],
)  # fmt: skip
def test_no_sign_is_lost(written: str) -> None:
    for mode in ("strict", "lenient"):
        assert numbers.graded_answer("-5", written, mode).score == 1.0  # type: ignore[arg-type]
        assert numbers.graded_answer("5", written, mode).score == 0.0  # type: ignore[arg-type]
        assert numbers.graded_completion("-5", f"#### {written}", mode).score == 1.0  # type: ignore[arg-type]
    for sentence in (f"It is = {written}.", f"So x = {written}", f"It is {written}."):
        assert numbers.graded_completion("-5", sentence, "lenient").score == 1.0
        assert numbers.graded_completion("5", sentence, "lenient").score == 0.0
    if "boxed" in written and written != "- \\boxed{5}":
        assert numbers.graded_completion("-5", f"It is {written}", "strict", box=True).score == 1.0


def test_a_minus_between_two_terms_is_no_sign() -> None:
    for text in ("10 minus 5", "10 - 5", "$10$ -\\boxed{5}", "10 - \\boxed{5}", "x-\\boxed{5}", "pages 4\u20135",
                 "10 -(5)", "- **5**"):  # fmt: skip
        assert numbers.graded_completion("5", text, "lenient").score == 1.0, text
    assert numbers.graded_completion("-5", "It is -(5)", "lenient").score == 1.0
    assert numbers.graded_completion("5", "- \\boxed{5}", "strict", box=True).score == 1.0, "an item of a list"


@pytest.mark.parametrize(
    ("text", "number"),
    [("#### Step 1: add\n5+7=12\n#### 12", "12"), ("#### Solution\n12 apples in 3 bags.\n#### 12\n2 steps", "12"),
     ("####\n#### 12", "12"), ("#### -\n#### **12**", "12"), ("######## 12", "12"), ("#### 12\n#### 13", "12"),
     ("##### 12", "12"),
     ("#### a\n\n#### b\n\n#### 12\n#### 7", "12"), ("#### 5 or 6\n#### 6", None), ("#### 5+7\n#### 12", None),
     ("#### none\n\nQuestion: And?\nAnswer: #### 12", None), ("#### 1/0\n#### 12", None),
     ("#### " * 5000 + "12", "12")],
)  # fmt: skip
def test_the_first_mark_that_a_number_follows_counts(text: str, number: str | None) -> None:
    found = numbers.marked(text)
    assert (found and found.text) == number
    assert numbers.graded_completion("12", text, "strict").formatted == (number is not None)


def test_floats_of_a_machine_are_references_and_are_compared_to_fifteen_digits() -> None:
    third = repr(1 / 3)
    for gold, answer, right in [
        (third, "1/3", 1), (third, third, 1), (third, "0.33", 0), (third, "0.333333333333", 0),
        (repr(0.1 + 0.2), "0.3", 1), ("1e-07", "0.0000001", 1), ("1.5e-05", "0.000015", 1), ("5e-324", "0", 0),
        ("0.5", "0.5000000000000001", 0), ("1e+16", "10000000000000000", 1), (repr(2e300), "2e300", 1),
        ("12345678901234567890", "12345678901234567891", 0), ("12345678901234567890", "12345678901234567890", 1),
        ("2.718281828459045", "2.718281828459", 0),
    ]:  # fmt: skip
        assert numbers.graded_answer(numbers.reference(gold), answer, "strict").score == right, (gold, answer)


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So #### 42", "42"), ("####42", "42"), ("#### 42\n#### 7", "42"), ("#### 7\n#### 42", "7"),
        ("#### 42 \\boxed{7}", "42"), ("\\boxed{7} #### 42", "42"), ("\\boxed{42}", "42"),
        ("\\boxed{7} no, \\boxed{42}", "42"), ("\\boxed{42}, after 7 steps", "42"), ("\\boxed{\\boxed{42}}", "42"),
        ("\\boxed{\\text{42 apples}} 7", "42"), ("\\boxed{x = 42, y = 7}", "42"), ("\\boxed{\\frac{84}{2}}", "42"),
        ("It is 42.", "42"), ("7 and then 42 apples", "42"), ("42 of 7", "7"), ("1. Add.\n2. So 42.\n", "42"),
        ("#### The answer is 42", "42"), ("#### 42 apples and 7 pears", "42"), ("####\n\n 42", "42"), ("42 ####", "42"),
        ("\\boxed{} so 42", "42"), ("\\boxed{42", "42"), ("\\boxed 7 42", "42"), ("#### \\boxed{42} 7", "42"),
        ("#### none\n42", ""), ("#### none\n#### 42", ""), ("\\boxed{x} 42", ""), ("\\boxed{42} \\boxed{x}", ""),
        ("", ""), ("no number", ""), ("#### forty-two", ""), ("#### ４２", "42"), ("It is ４２", "42"), ("٤٢", ""),
        ("#### 1,200.0", "1200"), ("It is $1,200.", "1200"), ("#### -0.50", "-1/2"), ("#### 50 %", "50%"),
        ("x " * 50_000 + "42", "42"), ("7\n" * 50_000 + "#### 42", "42"), ("#### " + "x " * 50_000 + "42", "42"),
    ],
)  # fmt: skip
def test_flexible_reads_the_first_mark_else_the_last_box_else_the_last_number(text: str, answer: str) -> None:
    for box in (False, True):
        found = numbers.graded_completion("42", text, "flexible", box)
        assert (found.answer, found.score) == (answer, float(answer == "42")), text[:80]
        assert found.formatted == numbers.graded_completion("42", text, "strict", box).formatted


def by_the_authors_rule(text: str) -> str | None:
    """verl/utils/reward_score/gsm8k.py, method "flexible", of the authors' code, as far as plain whole numbers go."""
    marked = re.search(r"####\s*(.+?)(?:\n|$)", text)
    boxed = re.findall(r"\\boxed\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}", text)
    if marked or (boxed and boxed[-1].strip()):
        first = re.search(r"-?\d+", marked[1] if marked else boxed[-1])
        return first.group() if first else None
    return next(reversed(re.findall(r"-?\d+", text)), None)


def test_flexible_is_the_authors_rule_on_plain_numbers() -> None:
    r, pieces = random.Random(0), ["#### ", "\\boxed{", "} ", "\n", "so ", "is ", "apples ", "The answer ", ". "]
    kinds = {"marked": 0, "boxed": 0, "last": 0}
    for _ in range(4000):
        text = "".join(r.choice([*pieces, f"{r.randrange(4, 7)} "]) for _ in range(r.randrange(12)))
        if text.rstrip().endswith("####") or re.search(r"\d \\boxed\{|\d\s+\.", text):
            continue  # a mark with nothing behind it; what Foray reads as no number
        if text.count("{") == text.count("}"):
            kinds["marked" if "####" in text else "boxed" if "\\boxed{" in text else "last"] += 1
            theirs = by_the_authors_rule(text)
            assert numbers.graded_completion("5", text, "flexible").answer == (theirs or ""), text
    assert min(kinds.values()) > 100, kinds


def test_strict_and_lenient_say_which_answer_they_found() -> None:
    for text, strict, lenient in [("#### 1,200", "1200", "1200"), ("It is 7", "", "7"), ("#### x\n#### 7", "7", "7")]:
        assert numbers.graded_completion("42", text, "strict").answer == strict
        assert numbers.graded_completion("42", text, "lenient").answer == lenient
    assert numbers.graded_answer("42", "it is 42 of 7", "flexible").answer == "7"


REPEATED = [
    "9", "9,", "1/", "-", "$", " ", "\\frac{1}{2}", "½", "\\boxed{", "\\boxed{5}", "{", "}", "e5", "%", "= ", "**",
    "100 ", "{,}000", "\\,", "\u00a0", "- ", "$ ", "\\frac12", "5% ", "1 1/2 ", "–", " x 5", "a", "a ", "A: ", "####",
    "minus ", "#### 5 or ", "\\text{", "5^2 ", "²", "million ", "5 million ", "(", "`", "1'000", "10^", "\n", "5\n",
    "#", "is - ", "-*", "~", "illion ", "_", "5 and ", "\\(", "Question:", "!", "5!", "dozen ", "7 dozen ",
]  # fmt: skip


def seconds(text: str) -> float:
    """The seconds of every way of reading the text."""
    begun = time.process_time()
    for extraction in STORED:
        for box in (False, True):
            numbers.graded_completion("42", text, extraction, box)
        numbers.graded_answer("42", text, extraction)
    with suppress(ValueError):
        numbers.reference(text)
    return time.process_time() - begun


@pytest.mark.parametrize("part", REPEATED)
def test_the_time_of_reading_grows_with_the_text_and_not_with_its_square(part: str) -> None:
    """Eight times the text: a quadratic cost would take 64 times as long.

    The test measures both lengths up to four times, because other processes work beside it.
    """
    for before in ("", "#### ", "#### 1"):
        for _ in range(4):
            once, eight = (seconds(before + part * (size // len(part))) for size in (1_500, 12_000))
            if eight < 24 * once + 0.01:
                break
        assert eight < 24 * once + 0.01, (before, once, eight)


@pytest.mark.skipif(not (SHARED / "gsm8k_multi").is_dir(), reason="the published model solutions are not here")
def test_every_published_flag_is_reproduced() -> None:
    """Lenient grading reads the models' texts (``A: 26``), strict grading that line in the asked-for format."""
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


# --- the tasks that share this --------------------------------------------------------------------------------------


def own_numbers(root: Path, rows: list[dict[str, object]]) -> OwnProblems:
    (root / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return OwnProblems(answers="number", test="", root=str(root))


@pytest.mark.parametrize("task", [GSM8K(), SVAMP(), OwnProblems(answers="number")], ids=lambda t: type(t).__name__)
def test_tasks_of_numbers_read_them_alike(task: GSM8K | SVAMP | OwnProblems) -> None:
    for gold, answer, right in [("5", "5 million", 0), ("25", "5²", 1), ("180", "$\\boxed{180}$", 1), ("5", "5k", 0)]:
        problem = Problem("p", "?", gold)
        assert task.verify_answer(problem, answer).score == right
        assert task.verify(problem, f"#### Step 1\nThen.\n#### {answer}").score == right
        assert task.verify(problem, f"It is {answer}", "lenient").score == right
    assert task.verify(Problem("p", "?", "5"), "-\\boxed{5}", "lenient").score == 0.0
    assert task.reference("5 million") == "5000000"


def test_own_problems_and_svamp_take_the_same_golds(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": "A?", "answer": "5 million", "solutions": ["#### Step 1\nIt is so.\n#### 5,000,000"]},
        {"question": "B?", "answer": 1 / 3},
    ]
    first, second = own_numbers(tmp_path, rows).problems("train")
    assert first.answer == "5000000" and first.solutions == ("#### Step 1\nIt is so.\n#### 5,000,000",)
    assert SVAMP().verify(second, "#### 1/3").score == 1.0
    for bad in (math.nan, math.inf, "NaN", "5 or 6", "5x"):
        with pytest.raises(
            ValueError, match=r"line 1: (the answer .* is not a number|expected the field answer with text)"
        ):
            own_numbers(tmp_path, [{"question": "A?", "answer": bad}]).problems("train")
        path = tmp_path / "svamp.json"
        path.write_text(json.dumps([{"Body": "", "Question": "Q?", "Answer": bad}]))
        with pytest.raises(ValueError, match=r"row 1: (the answer is not a number|expected the field Answer)"):
            SVAMP(str(tmp_path), "svamp.json", "svamp.json").problems("test")


def test_a_boxed_solution_keeps_what_stands_before_the_mark_that_is_read(tmp_path: Path) -> None:
    row = {"question": "A?", "answer": "#### Step 1\n2+3\n#### 5"}
    (tmp_path / "gsm8k").mkdir()
    for name in ("train", "test"):
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text(json.dumps(row))
    (problem,) = GSM8K(str(tmp_path), box=True).problems("test")
    assert problem.answer == "5" and problem.solutions == ("#### Step 1\n2+3\nThe answer is \\boxed{5}.",)


def test_the_verifiers_version_is_in_the_key_of_what_is_graded_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = own_numbers(tmp_path, [{"question": "A?", "answer": "5"}])

    def keys() -> dict[str, str]:
        return {
            "rollouts": content_hash(Rollouts(task, questions=2)),
            "demonstrations": content_hash(Demonstrations(task, questions=2)),
            "watched demonstrations": content_hash(Demonstrations(task, questions=2, validation=2)),
            "task": content_hash(task),
            "passk": PassKNode(None, task, "test", 1, 0, 1, 1.0, 8, 0).key,  # type: ignore[arg-type]
            "world": PassKNode(None, WorldProblems(), "test", 1, 0, 1, 1.0, 8, 0).key,  # type: ignore[arg-type]
            "world rollouts": content_hash(Rollouts(WorldProblems(), questions=2)),
        }

    before = keys()
    monkeypatch.setattr(numbers, "VERIFIER", "numbers 0")
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {"rollouts", "watched demonstrations", "passk"}
