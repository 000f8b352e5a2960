"""The embedded world's word problems: right solutions, disjoint splits, a verifier that survives anything."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from itertools import islice

import pytest

from foray.core.task import STORED, Problem, Split, Task, few_shot_examples
from foray.world import Drills, StoryMath, WorldProblems, math_sources
from foray.world.math import problems
from foray.world.math.story_sampler import EASY_KINDS, EASY_STEPS, HARD_KINDS, HARD_STEPS, LARGEST, bucket

EASY, HARD = WorldProblems("easy"), WorldProblems("hard")
TIERS = pytest.mark.parametrize("task", [EASY, HARD], ids=["easy", "hard"])
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

NUMBER = r"([0-9]+)"
SYMBOLS = re.compile(rf"{NUMBER} ([-+*/]) {NUMBER} (?:=|gives) {NUMBER}")
WORDED = re.compile(rf"{NUMBER} (plus|minus|times|divided by) {NUMBER} is {NUMBER}")
TWOS = re.compile(rf"(twice|half of) {NUMBER} is {NUMBER}")
RUNNING = re.compile(rf"(Start with|Now take) {NUMBER}|(add|take away|multiply by|divide by) {NUMBER} to get {NUMBER}")
WORDS = {"half": 2, "twice": 2, "third": 3, "quarter": 4, "together": 2}  # together: two people
SIGN = {"plus": "+", "minus": "-", "times": "*", "divided by": "/", "add": "+", "take away": "-"}
SIGN |= {"multiply by": "*", "divide by": "/"}
COMPARED = re.compile(rf"{NUMBER} (more|fewer) than {NUMBER} is {NUMBER}")


def holds(a: int, op: str, b: int, value: int) -> bool:
    """``a op b = value``, evaluated apart from the code under test."""
    return {"+": a + b == value, "-": a - b == value, "*": a * b == value, "/": value * b == a}[op]


def check_arithmetic(text: str) -> int:
    """Asserts every computation found in the text; returns how many there were."""
    found = 0
    for a, op, b, value in SYMBOLS.findall(text):
        assert holds(int(a), op, int(b), int(value)), (a, op, b, value, text)
        found += 1
    for a, word, b, value in WORDED.findall(text):
        assert holds(int(a), SIGN[word], int(b), int(value)), (a, word, b, value, text)
        found += 1
    for word, a, value in TWOS.findall(text):
        assert holds(int(a), "*" if word == "twice" else "/", 2, int(value)), text
        found += 1
    for b, word, a, value in COMPARED.findall(text):
        assert holds(int(a), "+" if word == "more" else "-", int(b), int(value)), text
        found += 1
    now = 0
    for _, start, word, b, value in RUNNING.findall(text):
        if start:
            now = int(start)
        else:
            assert holds(now, SIGN[word], int(b), int(value)), text
            now, found = int(value), found + 1
    return found


def words(text: str) -> int:
    """About the number of tokens of a word-level tokenizer."""
    return len(re.findall(r"#+|\w+|[^\w\s]|\n", text))


def tag(problem: Problem, name: str) -> str:
    return next(t.split("=")[1] for t in problem.tags if t.startswith(name + "="))


@TIERS
def test_every_solution_is_right(task: WorldProblems) -> None:
    for problem in task.problems("train", 300):
        assert 8 <= len(problem.solutions) <= 16
        assert len(set(problem.solutions)) == len(problem.solutions)
        steps = int(tag(problem, "steps"))
        for solution in problem.solutions:
            verdict = task.verify(problem, task.target(solution))
            assert verdict.score == 1.0 and verdict.formatted, solution
            found = check_arithmetic(solution)
            # Every step is told; another route may take a step more, or fewer where it merges two.
            assert steps - 1 <= found <= steps + 1 and found >= 1, solution
            assert solution.endswith(f" #### {problem.answer}") and "\n" not in solution
            assert not any(s in task.target(solution) for s in task.stop)
        canonical = rf"([0-9]+ [-+*/] [0-9]+ = [0-9]+\. ){{{steps}}}#### [0-9]+ and [0-9]+"
        assert re.fullmatch(canonical, problem.solutions[0])


@TIERS
def test_solutions_vary_in_route_and_order(task: WorldProblems) -> None:
    several = 0
    problems = [p for p in task.problems("train", 300) if int(tag(p, "steps")) >= 3]
    for problem in problems:
        computations = {tuple(SYMBOLS.findall(s)) for s in problem.solutions} - {()}
        several += len({frozenset((op, frozenset((a, b)), v) for a, op, b, v in c) for c in computations}) > 1
    assert several > 0.5 * len(problems)


@TIERS
def test_the_canonical_solution_uses_the_numbers_of_the_question(task: WorldProblems) -> None:
    """Every operand is a number of the question, the value of an earlier step, or a number word's."""
    for problem in task.problems("train", 300):
        known = {int(n) for n in re.findall("[0-9]+", problem.question)}
        known |= {n for word, n in WORDS.items() if word in problem.question}
        for a, op, b, value in SYMBOLS.findall(problem.solutions[0]):
            # A remainder is found from the largest multiple that fits, whose factor is not in the text.
            assert int(b) in known and (int(a) in known or (tag(problem, "kind") == "remainder" and op == "*"))
            known.add(int(value))


@TIERS
def test_quantities_are_sensible(task: WorldProblems) -> None:
    for problem in task.problems("train", 600):
        numbers = [int(n) for n in re.findall("[0-9]+", problem.question + problem.solutions[0])]
        assert min(numbers) >= 2 and max(numbers) <= LARGEST[task.tier == "hard"]
        assert problem.question.endswith("?") and "  " not in problem.question and "{" not in problem.question
        assert not re.search(r"\b(a|A) [aeiou]", problem.question)


def test_splits_are_disjoint_and_without_duplicates() -> None:
    seen: dict[str, str] = {}
    numbers: dict[str, set[str]] = {split: set() for split in SPLITS}
    for task in (EASY, HARD):
        for split in SPLITS:
            for problem in task.problems(split, 600):
                assert problem.question not in seen
                seen[problem.question] = split
                assert bucket(problem.question) == split
                numbers[split].add(" ".join(re.findall("[0-9]+|half|third|quarter|twice", problem.question)))
    assert not numbers["train"] & numbers["test"] and not numbers["train"] & numbers["validation"]
    assert not numbers["validation"] & numbers["test"]
    assert len({p.id for t in (EASY, HARD) for s in SPLITS for p in t.problems(s, 600)}) == len(seen)


def test_pretraining_text_holds_no_test_or_validation_question() -> None:
    for split in ("train", "validation"):
        text = "\n".join(islice(StoryMath(asked_format_share=1.0).documents(split), 300))
        questions = re.findall(r"Question: (.*\?)", text)
        assert len(questions) > 500
        assert {bucket(q) for q in questions} == {"train"}
        held_out = {p.question for t in (EASY, HARD) for s in SPLITS[1:] for p in t.problems(s, 600)}
        assert not held_out & set(questions)


def test_problem_i_does_not_depend_on_the_count_or_the_process() -> None:
    first = EASY.problems("test", 40)
    assert EASY.problems("test", 7) == first[:7]
    code = (
        "from foray.world import *; from itertools import islice\n"
        "print([WorldProblems(t).problems('test', 40)[5:] for t in ('hard', 'easy')][1])\n"
        "print([list(islice(s.documents('train'), 9)) for s in math_sources().values()])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [list(islice(s.documents("train"), 9)) for s in math_sources().values()]
    assert run.stdout == f"{first[5:]}\n{here}\n"


def test_settings_change_the_problems_and_only_as_they_should() -> None:
    assert WorldProblems("easy", world_seed=1).problems("train", 5) != EASY.problems("train", 5)
    fewer = WorldProblems("easy", solutions_per_problem=8).problems("train", 20)
    assert [p.question for p in fewer] == [p.question for p in EASY.problems("train", 20)]
    assert all(len(p.solutions) == 8 for p in fewer)
    assert len(WorldProblems("easy", train_size=17).problems("train")) == 17
    for bad in ({"tier": "medium"}, {"train_size": 0}, {"solutions_per_problem": 3}):
        with pytest.raises(ValueError):
            WorldProblems(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="split"):
        EASY.problems("dev")  # type: ignore[arg-type]


def test_shares_of_steps_kinds_and_distractors() -> None:
    for task, shares, kinds in ((EASY, EASY_STEPS, EASY_KINDS), (HARD, HARD_STEPS, HARD_KINDS)):
        problems = task.problems("train", 1500)
        steps = Counter(int(tag(p, "steps")) for p in problems)
        for count, share in shares.items():
            assert abs(steps[count] / 1500 - share) < 0.04
        assert {tag(p, "kind") for p in problems} == {kind.__name__ for kind in kinds}
        assert abs(sum(tag(p, "distractor") == "1" for p in problems) / 1500 - 0.2) < 0.04
        assert {tag(p, "tier") for p in problems} == {task.tier}
    assert abs(sum(s * share for s, share in EASY_STEPS.items()) - 3.26) < 0.01
    assert len(EASY_KINDS) >= 6 and len(HARD_KINDS) >= 6


def test_lengths_fit_the_token_budget() -> None:
    problems = EASY.problems("train", 600)
    assert 36 < sum(words(p.question) for p in problems) / 600 < 45
    lengths = [words(s) for p in problems for s in p.solutions]
    assert 24 < sum(lengths) / len(lengths) < 33
    prompts = [words(EASY.prompt(problems[0].question, few_shot_examples(EASY, 8, s))) for s in range(20)]
    assert sum(prompts) / 20 < 540 and max(prompts) < 600
    hard = HARD.problems("train", 300)
    assert sum(words(p.question) for p in hard) / 300 < 60
    vocabulary = {w for p in (*problems, *hard) for t in (p.question, *p.solutions) for w in re.findall("[A-Za-z]+", t)}
    assert 200 < len(vocabulary) < 350


def test_prompt_and_target_have_one_format() -> None:
    assert isinstance(EASY, Task) and EASY.name == "world_easy" and HARD.name == "world_hard"
    example, problem = EASY.problems("train", 2)
    zero, one = EASY.prompt(problem.question), EASY.prompt(problem.question, (example,))
    shown = EASY.prompt(example.question) + EASY.target(example.solutions[0])
    assert one == f"{shown}\n\n{zero}"
    assert zero == f"Question: {problem.question}\nAnswer:"
    # What a base model goes on with after the answer is cut off by a stop string.
    after = f"{EASY.target(example.solutions[0])}\n\n{zero}"
    assert after[: min(after.index(s) for s in EASY.stop)] == EASY.target(example.solutions[0])


ASKED = Problem("x", "?", "30 and 1200", ())


@pytest.mark.parametrize(
    "text, strict, lenient, formatted",
    [
        ("#### 30 and 1200", 1, 1, True),
        (" 30 * 40 = 1200. #### 30 and 1,200.", 1, 1, True),
        ("#### $30 and $1200", 1, 1, True),
        ("#### 30.0 and 1200.0", 1, 1, True),
        ("#### 30, 1200", 1, 1, True),
        ("#### 30, and 1200", 1, 1, True),
        ("####30 and 1200\n", 1, 1, True),
        ("#### 30 and 1200 dollars", 1, 1, True),
        ("#### 30 and 1200 #### 5 and 6", 1, 1, True),
        ("#### 5 and 6 #### 30 and 1200", 0, 0, True),
        ("#### 1200 and 30", 0, 0, True),
        ("#### 30 and -1200", 0, 0, True),
        ("#### 30 and 12001", 0, 0, True),
        ("#### 30,1200", 0, 1, False),
        ("#### 1200", 0, 0, False),
        ("30 #### 1200", 0, 1, False),
        ("#### 30 pears and 1200", 0, 1, False),
        ("The answers are 30 and 1200.", 0, 1, False),
        ("30-1200", 0, 1, False),
        ("1200 or 30", 0, 0, False),
        ("#### 30 and 1200.5", 0, 0, False),
        ("#### 30.5 and 1200", 0, 0, False),
        ("#### 30 and 3 * 400", 0, 0, True),
        ("#### 30 and 3*400", 0, 0, False),
        ("#### 30 and 1200x", 0, 1, False),
        ("#### thirty and 1200", 0, 0, False),
        ("#### ٣٠ and ١٢٠٠", 0, 0, False),
        ("#### 30 and 1²00", 0, 0, False),
        ("", 0, 0, False),
    ],
)
def test_verify_reads_the_two_numbers_after_the_first_mark(
    text: str, strict: int, lenient: int, formatted: bool
) -> None:
    assert EASY.verify(ASKED, text).score == strict
    assert EASY.verify(ASKED, text, "lenient").score == lenient
    assert EASY.verify(ASKED, text).formatted is formatted


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 * 400 = 1200. #### 30 and 1,200.", "30 and 1200"), ("#### 5 and 6 #### 30 and 1200", "5 and 6"),
        ("#### 30 pears and 1200 plums", "30 and 1200"), ("#### 30 and", ""), ("#### thirty: 30, 1200, 5", ""),
        ("The answers are 30 and 1,200.0", "30 and 1200"), ("5, 30 or 7", "30 and 7"), ("7", ""), ("", ""),
        ("\\boxed{30, 1200} of 7", "30 and 1200"), ("\\boxed{1200} of 30", ""),
    ],
)  # fmt: skip
def test_flexible_reads_a_mark_else_a_box_else_the_last_two_numbers(text: str, answer: str) -> None:
    found, strict = EASY.verify(ASKED, text, "flexible"), EASY.verify(ASKED, text)
    assert (found.answer, found.score) == (answer, float(answer == "30 and 1200"))
    assert found.formatted == strict.formatted and (found == strict or not strict.formatted)


@TIERS
def test_wrong_answers_score_nothing(task: WorldProblems) -> None:
    for problem in task.problems("validation", 100):
        first, last = map(int, problem.answer.split(" and "))
        near = ((first, last + 1), (first + 1, last), (first, 10 * last), (-first, last))
        for wrong in (f"{one} and {other}" for one, other in near):
            verdict = task.verify(problem, f" 1 + 1 = 2. #### {wrong}")
            assert verdict.score == 0.0 and verdict.formatted
            assert task.verify(problem, f" so it is {wrong}", "lenient").score == 0.0


def test_answers_cannot_be_guessed() -> None:
    """Answers drawn from the training answers, the question unread, stay under 1, 6 and 15% at pass@1, 8 and 32."""
    for task in (EASY, HARD):
        given = Counter(p.answer for p in task.problems("train", 2000))
        chance = [given[p.answer] / 2000 for p in task.problems("test", 1000)]
        for k, most in ((1, 0.01), (8, 0.06), (32, 0.15)):
            assert sum(1 - (1 - p) ** k for p in chance) / 1000 < most


def test_a_reference_is_two_whole_numbers_or_as_in_world_4_one() -> None:
    assert EASY.reference("#### 1,200 dollars") == "1200"
    assert EASY.verify(Problem("x", "?", "12"), "3 * 4 = 12. #### 12").score == 1.0
    assert EASY.verify(Problem("x", "?", "12"), "so 12", "flexible").score == 1.0
    assert EASY.reference("30 and 1,200") == EASY.reference("3 * 4 = 12. #### 30 and 1200") == "30 and 1200"
    assert EASY.verify_answer(ASKED, " 30, 1200. ").score == EASY.verify_answer(ASKED, "#### 30 and 1200").score == 1.0
    for text in ("1, 2 and 3", "", "#### 30 and a half", "twelve"):
        assert EASY.verify_answer(ASKED, text).score == 0.0
        with pytest.raises(ValueError, match="two whole numbers"):
            EASY.reference(text)


def test_solutions_are_made_when_they_are_read_and_are_always_the_same() -> None:
    first, again = (WorldProblems("easy").problems("train", 20) for _ in range(2))
    assert [tuple(p.solutions) for p in first] == [tuple(p.solutions) for p in again]
    fresh = problems._stream("easy", 0, 12, "train")
    assert [next(fresh) for _ in range(20)] == list(first) and len({*first}) == 20


def test_the_examples_of_a_prompt_are_short_and_of_every_kind() -> None:
    for task, kinds in ((EASY, EASY_KINDS), (HARD, HARD_KINDS)):
        examples = few_shot_examples(task, 10, seed=3)
        assert len({tag(p, "kind") for p in examples[: len(kinds)]}) == min(len(kinds), 10)
        assert max(int(tag(p, "steps")) for p in examples) <= problems.EXAMPLE_STEPS[task.tier]
        assert few_shot_examples(task, 4, seed=5) == examples[:4]


@pytest.mark.parametrize(
    "unit", ["9", ",", "-", " ", "#", "#### ", "1,", "9.", "$", "\0", "\ud800", "٣", "(", "\n", "e9"]
)
def test_hostile_completions_neither_raise_nor_hang(unit: str) -> None:
    start = time.process_time()
    for text in (unit * 200_000, "#### " + unit * 200_000, "#### 1 and 1" + unit * 200_000 + "x"):
        for extraction in STORED:
            assert EASY.verify(ASKED, text, extraction).score == 0.0
    assert time.process_time() - start < 5, "not by anything quadratic"


def test_sources_are_endless_deterministic_and_right() -> None:
    for source in math_sources().values():
        train, again = (list(islice(source.documents("train"), 250)) for _ in range(2))
        validation = list(islice(source.documents("validation"), 250))
        assert train == again and not set(train) & set(validation)
        assert sum(check_arithmetic(d) for d in train) > 500
        assert all(d and d == d.strip() and "{" not in d for d in train)
        with pytest.raises(ValueError, match="split"):
            next(source.documents("test"))
    assert {name: s.name for name, s in math_sources().items()} == {"stories": "stories", "drills": "drills"}


def test_the_asked_format_is_as_rare_as_asked_for() -> None:
    documents = list(islice(StoryMath(asked_format_share=0.08).documents("train"), 1500))
    assert abs(sum("####" in d for d in documents) / 1500 - 0.08) < 0.02
    assert not any("####" in d for d in islice(StoryMath(asked_format_share=0.0).documents("train"), 300))
    openings = Counter(re.split(r"[ :]", d)[0] for d in documents)
    assert all(openings[word] > 50 for word in ("Question", "Q", "Problem"))
    sheets = [d for d in documents if d.count("####") >= 3]
    assert sheets and all(d.count("Question:") == d.count("####") for d in sheets)


def test_bad_shares_are_refused() -> None:
    for make in (lambda: StoryMath(hard_share=1.5), lambda: StoryMath(asked_format_share=-1), lambda: Drills(2.0)):
        with pytest.raises(ValueError, match="between 0 and 1"):
            make()
