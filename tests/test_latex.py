"""MATH's verifier: finding boxed answers, equality, and the cost of hostile text."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from foray.answers import judge, latex, numbers
from foray.core.task import STORED, Problem
from foray.tasks.gsm8k import GSM8K
from foray.tasks.math import MATH
from foray.tasks.openmath import OpenMathInstruct

SHARED = Path(__file__).parents[2] / "shared" / "data"

# What needs no algebra, so holds without math-verify too.
PLAIN_SAME = [
    (r"\frac{1}{2}", "0.5"), (r"\frac12", "1/2"), (r"\dfrac{3}{4}", r"\tfrac{3}{4}"), ("1,234", "1234"), ("5", "5."),
    ("1{,}234", "1234"), (r"1,\!234", "1234"), (r"10,\! 000,\!000", "10000000"), (r"50\%", "50"), (r"50\%", "0.5"),
    ("5", "x=5"), ("x=5", "5"), (r"\$5", "5"), ("5", "5.00"), ("5", "$5$"), ("5", r"\(5\)"), ("(1,2)", "(1, 2)"),
    ("(1,2)", r"\left(1,2\right)"), (r"\text{even}", "even"), (r"\text{Evelyn}", "Evelyn"), (r"\text{(C)}", "C"),
    ("(C)", r"\textbf{(C)}"), ("6", r"6 \text{ cm}"), ("12", "12 dollars"), (r"3\frac{1}{2}", "3.5"), ("1e3", "1000"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"), (r"-\frac12", "-0.5"), ("1011_2", "1011_{2}"), (r"11\sqrt2", r"11\sqrt{2}"),
    ("1000", r"1\,000"), ("1000", "1 000"), ("1,000", "1 000"), ("1000000", "1~000~000"), ("7/2", "3 1/2"),
    ("1000x", "1 000x"), (r"\frac12", r"\frac1 2"), ("0.25", r"25\%"), (r"0.5\%", "0.005"),
]  # fmt: skip
PLAIN_OTHER = [
    ("5", "6"), ("5", "-5"), ("5", "55"), ("1,234", "1,235"), (r"\text{even}", "odd"), (r"\text{Evelyn}", "Lynvee"),
    ("(C)", "D"), (r"50\%", "5"), (r"\frac{1}{3}", r"\frac{1}{4}"), ("0.5", "0.51"), ("5", ""), ("5", " . "),
    ("25", r"0.25\%"), (r"25\%", "2500"), ("50", r"0.5\%"), ("31/2", "3 1/2"), ("5100/200", "5 100/200"),
]  # fmt: skip
ALGEBRA_SAME = [
    ("x^2+2x+1", "(x+1)^2"), (r"\sqrt{8}", r"2\sqrt2"), ("1,2,3", "3,2,1"), (r"\pi/2", r"\frac{\pi}{2}"),
    ("1+2i", "2i+1"), (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)"), (r"x \in [1,2]", "[1,2]"),
    ("2^{10}", "1024"), (r"\frac{a}{b}", "a/b"), ("y=2x+1", "y=1+2x"), (r"\frac{1}{3}", "0.333333"),
    (r"90^\circ", "90"), ("b+a", "a+b"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"), (r"\{1,2\}", r"\{2,1\}"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt 2}"), ("1,2", r"1 \text{ and } 2"), (r"6\text{ cm}^2", "6"),
]  # fmt: skip
ALGEBRA_OTHER = [
    ("x=5", "y=5"), ("(1,2)", "(2,1)"), ("[0,1)", "[0,1]"), ("x+1", "x-1"), ("2", "2x"), ("0", "10^{-200}"),
    ("1,2", "1,2,3"), ("3", "3,4"), ("1", r"\frac{1}{0}"), ("1", "1/0"), (r"\sqrt{2}", "1.414"), ("5", r"\text{five}"),
    (r"\frac{1}{3}", "0.33"), ("5", "5 or 6"), ("11", "1 1"), ("12", r"1\ 2"), ("12x", "1 2x"), ("(12,3)", "(1 2,3)"),
    ("1", "__import__('os').getpid()"), ("1", r"\mathcal{Z"), ("1", "\x00"),
    ("1", "\ud800"), ("1", "½"), ("1", "{" * 50), ("1", "}" * 50),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), PLAIN_SAME)
def test_equal_without_algebra(gold: str, answer: str) -> None:
    assert latex.obvious(gold, answer) is True


@pytest.mark.parametrize(("gold", "answer"), PLAIN_OTHER)
def test_different_without_algebra(gold: str, answer: str) -> None:
    assert latex.obvious(gold, answer) is False


@pytest.mark.parametrize(("gold", "answer"), ALGEBRA_SAME)
def test_equal_by_algebra(gold: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    assert latex.equivalent(gold, answer) == (True, "equal")


@pytest.mark.parametrize(("gold", "answer"), ALGEBRA_OTHER)
def test_different_by_algebra(gold: str, answer: str) -> None:
    pytest.importorskip("math_verify")
    assert not latex.equivalent(gold, answer)[0]


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{5}", "5"), (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"), (r"a \boxed{1} b \boxed{2}", "2"),
        (r"\boxed{3", None), (r"\boxed{\boxed{4}}", r"\boxed{4}"), (r"so $\boxed 7$", "7"),
        (r"$\boxed\frac12$.", r"\frac12"),
        (r"x} \boxed{5}", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"), (r"\fbox{9}", "9"), (r"\boxed{ \boxed{5}", "5"), ("", None),
        ("boxed{5}", None),
    ],
)  # fmt: skip
def test_the_last_closed_box(text: str, box: str | None) -> None:
    assert latex.last_box(text) == box


def graded(answer: str, completion: str, lenient: bool = False) -> tuple[float, bool]:
    verdict = MATH().verify(Problem("p", "?", answer), completion, "lenient" if lenient else "strict")
    assert "\n" not in verdict.reason and len(verdict.reason) < 250
    return verdict.score, verdict.formatted


def test_strict_wants_the_box_and_lenient_looks_on() -> None:
    pytest.importorskip("math_verify")
    assert graded("42", r"Thus $\boxed{42}$.") == (1.0, True)
    assert graded("42", r"\boxed{41}, no: \boxed{42}") == (1.0, True)
    assert graded("42", r"\boxed{42}, no: \boxed{41}") == (0.0, True)
    assert graded("42", r"\boxed{}") == (0.0, True)
    for text in ("The answer is 42.", "The final answer is: $42$", "so $6 \\cdot 7 = 42$", "that is 42", "#### 42"):
        assert graded("42", text) == (0.0, False)
        assert graded("42", text, lenient=True) == (1.0, False), text
    assert graded(r"\frac{1}{2}", r"The answer is $\frac{1}{2}$.", lenient=True) == (1.0, False)
    assert graded("42", "The answer is 41, not 42.", lenient=True) == (0.0, False)
    assert graded("42", "", lenient=True) == (0.0, False)


def test_flexible_takes_the_last_box_alone_as_the_papers_test_of_math_does() -> None:
    pytest.importorskip("math_verify")
    for text in (r"\boxed{42}", r"\boxed{41}, no: \boxed{42}", r"\boxed{42} of 43", "The answer is 42.", "#### 42", ""):
        problem = Problem("p", "?", "42")
        assert MATH().verify(problem, text, "flexible") == MATH().verify(problem, text)


def test_equal_looks_and_equal_numbers_are_one_answer() -> None:
    pytest.importorskip("math_verify")
    same = [(r"\frac{1}{2}", "0.5", r"\dfrac12", "1/2", r"$\tfrac{1}{2}$"), ("1,200", "1200.0", r"1{,}200"),
            (r"\left(1, 2\right)", "(1,2)"), ("x + 1", "x+1"), ("50\\%", "50 %")]  # fmt: skip
    found = [{MATH().verify(Problem("p", "?", "7"), f"\\boxed{{{text}}}").answer for text in texts} for texts in same]
    assert all(len(texts) == 1 for texts in found) and len(set.union(*found)) == len(same)
    assert MATH().verify(Problem("p", "?", "7"), f"\\boxed{{{'9' * 2000}}}").answer == ""
    assert MATH().verify(Problem("p", "?", "7"), "It is 7").answer == ""


def test_the_gradings_of_a_completion_ask_for_one_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("math_verify")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(latex, "equivalent", lambda *pair: asked.append(pair) or (True, "equal"))
    for extraction in STORED:
        assert MATH().verify(Problem("p", "?", "gold of this test"), r"\boxed{x+1}", extraction).score == 1.0
    assert asked == [("gold of this test", "x+1", "?")]


def test_openmathinstruct_grades_flexibly_as_its_questions_are() -> None:
    pytest.importorskip("math_verify")
    like_gsm8k, like_math = OpenMathInstruct(2, "gsm8k"), OpenMathInstruct(2, "math")
    for text, gsm8k, math in [("It is 42", 1, 0), (r"\boxed{42} of 7", 1, 1), (r"#### 42 \boxed{7}", 1, 0)]:
        assert like_gsm8k.verify(Problem("p", "?", "42"), text, "flexible").score == gsm8k
        assert like_math.verify(Problem("p", "?", "42"), text, "flexible").score == math
    assert like_gsm8k.verify(Problem("p", "?", "x+1"), r"\boxed{1+x}", "flexible").score == 1.0, "no number: as LaTeX"


LIKE_GSM8K = [  # of the answer 12; the last two are what a solution computes, and no answer
    (r"\boxed{12}", 1), (r"\boxed{12\text{ times}}", 1), (r"\boxed{12\text{ left over}}", 1), (r"-\boxed{12}", 0),
    (r"\boxed{\text{12 apples}}", 1), (r"\boxed{\underline{12}}", 1), (r"\boxed{1} dozen", 1), (r"\boxed{12} dozen", 1),
    (r"\boxed{\frac{24}{2}}", 1), (r"\boxed{x = 12}", 1), (r"\boxed{\$12.00}", 1), (r"\boxed{13}", 0), (r"\boxed{}", 0),
    (r"\boxed{12 \text{ or } 13}", 0), (r"\boxed{3 \times 4}", 0), (r"\boxed{\sqrt{144}}", 0),
]  # fmt: skip


@pytest.mark.parametrize(("completion", "right"), LIKE_GSM8K)
def test_a_question_like_gsm8ks_is_graded_as_gsm8k_boxed_grades_it(completion: str, right: int) -> None:
    pytest.importorskip("math_verify")
    asked = "How many dozen?"
    labelled, bare = Problem("p", asked, "12", tags=("like=gsm8k",)), Problem("p", asked, "12")
    for extraction in ("strict", "lenient"):
        boxed = GSM8K(box=True).verify(bare, completion, extraction)
        for task, problem in ((OpenMathInstruct(2, "gsm8k"), bare), (OpenMathInstruct(2), labelled)):
            verdict = task.verify(problem, completion, extraction)
            assert verdict.score == boxed.score == right and verdict.formatted, extraction
    # A question like MATH's is asked for a value, however it is written: math-verify's convention.
    for problem in (bare, Problem("p", "?", "12", tags=("like=math",))):
        assert OpenMathInstruct(2).verify(problem, r"\boxed{3 \times 4}").score == 1.0


def test_the_version_of_openmathinstructs_verdicts_names_both_graders() -> None:
    assert OpenMathInstruct().verifier == f"{latex.VERIFIER}, {numbers.VERIFIER}"


# --- hostile text ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "9^{9^{9^{9}}}", "9**9**9**9", "9^{9^{9}}", "10000000!", r"\sum_{n=1}^{10^{10}} n^n", r"\binom{10^9}{10^8}",
    "(" * 400 + "1" + ")" * 400, r"\sqrt{" * 150 + "1" + "}" * 150, "x^" * 200 + "1", "(x+1)^{10000000}",
    r"\prod_{k=1}^{100000000} k", r"\int_0^1 e^{e^{e^x}} \sin(x^x) dx",
    "+".join(f"x_{{{i}}}^{{{i}}}" for i in range(80)),
    r"\frac{1}{" * 100 + "2" + "}" * 100, "|" * 300, "{" * 500, "1" * 1000, "x^{1000000}=1", r"\frac{1}{10^{10^{10}}}",
    r"\sin x + \cos(x^2) = e^x", r"\begin{pmatrix}" + r"1 & 2 \\" * 60 + r"\end{pmatrix}", "(a+b+c+d+e+f)^{60}",
]  # fmt: skip


@pytest.fixture
def started() -> None:
    pytest.importorskip("math_verify")
    judge.equal("a+b", "b+a")  # what importing costs is paid once in a process


@pytest.mark.parametrize("answer", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_answer_costs_a_second_at_most_and_scores_nothing(answer: str, started: None) -> None:
    begun = time.monotonic()
    assert graded("7", rf"\boxed{{{answer}}}")[0] == 0.0
    # 0.6 s of processor time; the rest is for whatever else this machine is doing.
    assert time.monotonic() - begun < 5
    begun = time.monotonic()
    assert not judge.equal("7", answer)[0], "nor where no look at it says that it is hostile"
    assert time.monotonic() - begun < 5
    begun = time.monotonic()
    assert judge.equal("a+b+c", f"c+b+a+0\\cdot {len(answer)}")[0], "and the next one is compared as ever"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("answer", [*HOSTILE[:2], "10000000!", "9^9^9^9", "x^{1000000}", "2^{3^{4^{5}}}"])
def test_the_enormous_is_seen_without_asking(answer: str) -> None:
    assert latex.obvious("7", answer) is False


def test_powers_of_people_are_not_enormous() -> None:
    for answer in ("x^2+y^2+z^2", "2^{10^{2}}", "2^{99999}", "e^{x^{2}}+e^{y^{2}}+e^{z^{2}}", "100!", "x^{a^{b}}"):
        assert latex.obvious("7", answer) is None


@pytest.mark.parametrize("part", [r"\boxed{", "}", "$", "{", "answer is ", r"\(", "9", "\\", "####", "1/", "a "])
def test_long_completions_take_linear_time(part: str) -> None:
    pytest.importorskip("math_verify")
    for text in (part * 50_000, r"\boxed{" + part * 50_000 + "}"):
        begun = time.process_time()
        for lenient in (False, True):
            graded("7", text, lenient)
        assert time.process_time() - begun < 2


@pytest.mark.slow
def test_neither_threads_nor_forks_are_in_the_way(started: None) -> None:
    found: list[tuple[bool, str]] = []

    def ask() -> None:
        found.append(judge.equal("2x+1", f"1+x+x+0\\cdot {threading.get_ident()}"))
        found.append(judge.equal("7", "8^{8^{8^{8}}}"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(equal for equal, _ in found) == [False] * 3 + [True] * 3
    child = os.fork()
    if child == 0:
        right = judge.equal("3x+1", "1+x+x+x")[0] and not judge.equal("7", "7^{7^{7^{7}}}")[0]
        judge._judge(os.getpid()).close()
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert judge.equal("4x+1", "1+4x")[0], "the parent's own process lives on"


def test_a_right_answer_is_right_though_the_process_is_killed(started: None) -> None:
    for number, stopped in enumerate((False, True)):
        process = judge._judge(os.getpid()).process
        assert process is not None
        if stopped:  # it has the question, and is killed before it answers
            os.killpg(process.pid, signal.SIGSTOP)
            threading.Timer(0.3, os.killpg, (process.pid, signal.SIGKILL)).start()
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert judge.equal("7x", f"8x-x+0\\cdot {number}") == (True, "equal")
        assert judge.equal("7x", f"8x-2x+0\\cdot {number}") == (False, "different")


def test_a_right_answer_is_right_though_the_worker_is_killed(started: None) -> None:
    process = judge._judge(os.getpid()).process
    assert process is not None
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    assert judge.equal("11x", "12x-x") == (True, "equal")
    assert judge._judge(os.getpid()).process is process, "which forked another"


@pytest.mark.slow
def test_a_comparison_that_is_lost_is_tried_twice_and_not_remembered(
    started: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def silent(process: subprocess.Popen[bytes], seconds: float) -> str:
        if seconds == judge._START_SECONDS:
            return line(process, seconds)
        asked.append("")
        return ""

    line = judge._line
    monkeypatch.setattr(judge, "_line", silent)
    assert judge.equal("13x", "14x-x") == (False, "the comparison broke off") and len(asked) == 2
    monkeypatch.undo()
    assert judge.equal("13x", "14x-x") == (True, "equal")


def test_a_comparison_that_takes_too_long_is_remembered(started: None) -> None:
    found = [judge.equal("7", "5^{8^{9^{8}}}")]
    begun = time.monotonic()
    found.append(judge.equal("7", "5^{8^{9^{8}}}"))
    assert found == [(False, "takes too long to compare")] * 2 and time.monotonic() - begun < 0.1


def test_the_process_ends_with_its_parent(started: None) -> None:
    code = "from foray.answers import judge; import os; judge.equal('a+b', 'b+a'); "
    code += "p = judge._judge(os.getpid()).process"
    code += "; print(p.pid, flush=True); os.kill(os.getpid(), 9)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(found.stdout)
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:4]:
            return  # ended; nobody has fetched its exit code
        time.sleep(0.05)
    raise AssertionError("the process outlived its parent")


def test_what_is_compared_can_neither_compile_nor_write_nor_start_programs(tmp_path: Path) -> None:
    """The audit hook needs a process of its own, because no process can remove the hook."""
    code = """
import sys
from foray.answers.judge_process import _refuse
sys.addaudithook(_refuse)
for act in (lambda: eval("1+1"), lambda: open(sys.argv[1], "w"), lambda: __import__("os").system("true"),
            lambda: __import__("subprocess").Popen(["true"]), lambda: __import__("socket").socket()):
    try:
        act()
    except PermissionError:
        continue
    print("allowed")
"""
    words = [sys.executable, "-c", code, str(tmp_path / "x")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == ""
    assert not (tmp_path / "x").exists()


def test_without_math_verify_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge.importlib.util, "find_spec", lambda name: None)
    latex.ready.cache_clear()
    with pytest.raises(ValueError, match=r"pip install -e '\.\[math\]' in Foray's folder"):
        MATH().verify(Problem("p", "?", "1"), r"\boxed{1}")


@pytest.mark.skipif(not (SHARED / "math_generated").is_dir(), reason="the generated problems are not here")
def test_generated_answers_equal_themselves_and_not_their_neighbors(started: None) -> None:
    rows = json.loads((SHARED / "math_generated" / "deepmind-mathematics.json").read_text(encoding="utf-8"))[:150]
    answers = [r["answer"] for r in rows]
    assert all(graded(a, rf"\boxed{{{a}}}") == (1.0, True) for a in answers)
    confused = [(a, b) for a, b in itertools.pairwise(answers) if graded(a, rf"\boxed{{{b}}}")[0]]
    assert all(a == b or float(a) == float(b) for a, b in confused), confused
