"""The two formats of a final answer, as the half of a task that grades: a number behind ``####``, LaTeX in a box."""

from __future__ import annotations

from foray.answers import latex, numbers
from foray.core.task import Extraction, Problem, Verdict

#: What ends a completion whose solutions may have blank lines: the next question of a few-shot prompt.
NEXT_QUESTION = ("\n\nQuestion:", "Question:")


class NumberAnswers:
    """Answers are numbers behind ``####``, or with ``box`` in ``\\boxed{}``."""

    box: bool = False

    @property
    def verifier(self) -> str:
        return numbers.VERIFIER

    @property
    def stop(self) -> tuple[str, ...]:
        return NEXT_QUESTION if self.box else ("\n\n", "Question:")

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the number behind the first ``####`` that one follows; lenient: without it, the text's last one;
        flexible: behind the first ``####``, else in the last box, else the last one.
        """
        return numbers.graded_completion(problem.answer, completion, extraction, self.box, problem.question)

    def reference(self, text: str) -> str:
        """The answer in a bare number or a full solution. Raises ValueError where there is none."""
        return numbers.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Compares an answer that needs neither mark nor box."""
        return numbers.graded_answer(problem.answer, answer, extraction, problem.question)


class BoxedAnswers:
    """Answers are LaTeX in ``\\boxed{}``, compared by value."""

    @property
    def verifier(self) -> str:
        return latex.VERIFIER

    @property
    def stop(self) -> tuple[str, ...]:
        return NEXT_QUESTION

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the content of the last ``\\boxed{}``; lenient: else the answer that the text announces or ends in;
        flexible: the last box alone, as the paper's test of MATH does.

        Raises ValueError where math-verify is not installed.
        """
        latex.ready()
        answer, formatted = latex.found_answer(completion, extraction)
        return latex.verdict(problem.answer, answer, formatted, "no answer in \\boxed{}", problem.question)

    def reference(self, text: str) -> str:
        """The answer in a bare answer or a full solution. Raises ValueError where there is none."""
        return latex.reference(text)

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Compares an answer that needs no box; lenient: also one inside a sentence."""
        latex.ready()
        found = latex.verdict(problem.answer, latex.bare_answer(answer), True, "no answer", problem.question)
        if found.score or extraction != "lenient":
            return found
        inner = latex.stated_answer(answer)
        if inner is None:
            return found
        return latex.verdict(problem.answer, inner, False, "no answer", problem.question)
