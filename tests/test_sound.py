"""Right answers from right reasons: the world's check of a chain, results that hold it, a reward that asks for it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from foray.core.sources import Rollouts
from foray.core.task import Problem
from foray.evals.sampling import _counts, graded
from foray.rollout.engine import Completion
from foray.tasks.gsm8k import GSM8K as GSM8KTask
from foray.train.rollouts import _mark
from foray.world import WorldProblems
from foray.world.math import chain

BUS = "There are 5 people on a train. Then 5 get on. Then 2 get off. How many were on it before that, and how many now?"
GSM8K = GSM8KTask("nowhere")
PROBLEM = Problem("p", BUS, "10 and 8", ("5 + 5 = 10. 10 - 2 = 8. #### 10 and 8",))


@pytest.mark.parametrize("tier", ["easy", "hard"])
def test_every_solution_of_the_world_is_sound(tier: Any) -> None:
    """And is not any more with another result, or with an operand from nowhere."""
    for problem in WorldProblems(tier).problems("test", 150):
        for text in problem.solutions:
            assert chain.sound(problem.question, text, problem.answer), text
            last = list(chain.computations(text))[-1]
            wrong = last._replace(value=last.value + 1)
            assert not wrong.right and last.right
            worse = text.replace(str(last.value), str(last.value + 977))
            assert not chain.sound(problem.question, worse, problem.answer)


@pytest.mark.parametrize(
    ("work", "sound"),
    [
        ("5 + 5 = 10. 10 - 2 = 8. #### 10 and 8", True),
        ("Start with 5, add 5 to get 10, take away 2 to get 8. #### 8", True),
        ("twice 5 is 10. 10 minus 2 is 8. #### 8", True),  # 2 stands in the question
        ("5 - 2 = 3. 5 + 3 = 8. #### 10 and 8", False),  # 10 comes up nowhere
        ("#### 8", False),
        ("The answer is 8. #### 8", False),
        ("5 + 5 = 11. 10 - 2 = 8. #### 8", False),  # a wrong result on the way
        ("5 + 3 = 8. #### 8", False),  # 3 stands nowhere
        ("10 - 2 = 8. 5 + 5 = 10. #### 8", False),  # 10 is used before it is known, and the last result is not 8
        ("10 - 2 = 8. #### 8", False),
        ("5 + 5 = 10. 10 - 2 = 8. 8 + 2 = 10. #### 8", False),
        ("5 + 5 + 2 = 12. 10 - 2 = 8. #### 8", False),  # a computation that is not read
        ("5 + 5 = 10. 10 - 2 = 8. x = 8. #### 8", False),
        ("5 / 0 = 5. #### 5", False),
        ("5 times 5 times 2 is 10. 10 - 2 = 8. #### 8", False),
        ("A boy has 5, add 3 to get 8. #### 8", False),  # nobody knows what 3 is added to
        (", add 9 to get 1000. 5 + 5 = 10. 10 - 2 = 8. #### 8", False),
        ("5 more than 5 is 10. 2 fewer than 10 is 8. #### 10 and 8", True),
        ("3 more than 5 is 99. 5 + 5 = 10. 10 - 2 = 8. #### 10 and 8", False),
        ("5 + 5 = 10. 10 - 2 = 8.5. #### 10 and 8", False),
        ("5 + 5 = 10,000. 10 - 2 = 8. #### 10 and 8", False),
        ("Start with 5, add 5 to get 10. 5 + 5 = 10, take away 2 to get 8. #### 10 and 8", True),
        ("Start with 5, add 5 to get 10. 10 - 5 = 5, take away 2 to get 8. #### 10 and 8", False),  # it is 5 by now
        ("Twice as many, so 5 + 5 = 10. 10 - 2 = 8. #### 8", False),
        ("It had 2 more than Ben's train, so 5 + 5 = 10. 10 - 2 = 8. #### 10 and 8", True),
        ("5 + 5 = 10. It had 2 fewer than Ben's. 10 - 2 = 8. #### 10 and 8", True),
        ("5 more than 5 equals 10. 5 + 5 = 10. 10 - 2 = 8. #### 10 and 8", False),
    ],
)
def test_what_is_sound(work: str, sound: bool) -> None:
    assert chain.sound(BUS, work, "10 and 8") is sound


def test_an_answer_without_a_number_has_no_sound_chain() -> None:
    assert not chain.sound(BUS, "5 + 5 = 10. 10 - 2 = 8.", "answer")
    assert WorldProblems().verify(replace(PROBLEM, answer="answer"), "5 + 5 = 10. #### 10").score == 0.0


@pytest.mark.parametrize(
    "text", ["5 + " * 50_000, "9" * 200_000, "5 + 3 = 8. " * 20_000, "Start with 3" + ", add 5 to get 8" * 20_000]
)
def test_hostile_text_is_judged_quickly(text: str) -> None:
    begun = time.process_time()
    assert not chain.sound(BUS, text, "10 and 8")
    assert time.process_time() - begun < 5


def completion(text: str, stop: Any = "end") -> Completion:
    return Completion([1], [-1.0], text, stop)


def test_a_sound_sample_is_right_and_whole() -> None:
    """Beside the verdicts of the three gradings; a task that cannot tell has no such field."""
    texts = [PROBLEM.solutions[0], "#### 10 and 8", "5 + 5 = 10. 10 - 2 = 8. #### 10 and 9"]
    group = [*map(completion, texts), completion(texts[0], "length")]
    row = graded(WorldProblems(), PROBLEM, group)
    assert [s["sound"] for s in row["samples"]] == [True, False, False, False]
    assert _counts(row)["correct"] == {"strict": 2, "lenient": 2, "flexible": 2, "sound": 1}
    other = graded(GSM8K, replace(PROBLEM, answer="8"), group)
    assert "sound" not in other["samples"][0] and "sound" not in _counts(other)["correct"]


def test_a_reward_can_ask_for_right_reasons() -> None:
    plain = Rollouts(WorldProblems(), questions=4)
    asking = replace(plain, sound=True)
    guessed, reasoned = completion("#### 10 and 8"), completion(PROBLEM.solutions[0])
    assert _mark(plain, PROBLEM, guessed).score == _mark(asking, PROBLEM, reasoned).score == 1.0
    assert _mark(asking, PROBLEM, guessed).score == 0.0 and _mark(asking, PROBLEM, guessed).formatted
    cut, kept = completion("#### 10 and 8", "length"), replace(plain, cut_off="graded")
    assert (_mark(plain, PROBLEM, cut).reward, _mark(kept, PROBLEM, cut).reward) == (0.0, 1.0)
    with pytest.raises(ValueError, match="has no method sound"):
        Rollouts(GSM8K, questions=4, sound=True)
