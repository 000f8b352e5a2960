"""Tasks: problems, a prompt format and a verifier. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from foray.core.spelling import in_words, with_article
from foray.core.untrusted import encodable

Split = Literal["train", "validation", "test"]
Extraction = Literal["strict", "lenient", "flexible"]
#: What a completion is worth that ``max_new_tokens`` cut off: nothing, or what its text says.
CutOff = Literal["wrong", "graded"]
#: The field of a sample in ``completions.jsonl`` that holds the verdict of each extraction.
STORED: Mapping[Extraction, str] = {"strict": "correct", "lenient": "lenient", "flexible": "flexible"}


@dataclass(frozen=True)
class Problem:
    """One question with its reference answer and the solutions known for it.

    ``solutions`` are complete target texts in the format of the task. SFT trains on them, and the first is canonical.
    A task may make them when they are first read.
    ``tags`` are free labels such as ``("steps=3", "tier=easy")``.
    """

    id: str
    question: str
    answer: str
    solutions: Sequence[str] = ()
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # There are many thousands of problems: ``require_types`` would take a second for them.
        for name in ("id", "question", "answer"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"a Problem has a text as its {name}, not {value!r:.60}")
        for name in ("solutions", "tags"):
            if isinstance(value := getattr(self, name), str) or not isinstance(value, Sequence):
                raise ValueError(f"a Problem has a tuple of texts as its {name}, not {value!r:.60}")


@dataclass(frozen=True)
class Verdict:
    """The verdict of a verifier on one completion.

    ``score`` is 1.0 for a correct final answer, else 0.0. ``formatted``: whether the answer has the asked-for format,
    right or wrong. ``reason`` is one short line for people.

    ``answer`` is the final answer that was found, in a form that is the same text for equal answers: ``1200`` for
    1,200.0. It is empty where none was found. Votes over samples count it, and nothing else reads it. Two equal answers
    in LaTeX may have two texts: no algebra is done for it.
    """

    score: float
    formatted: bool
    reason: str
    answer: str = ""


@runtime_checkable
class Task(Protocol):
    """A frozen dataclass of settings. Every method is a pure function of the settings and the arguments."""

    @property
    def name(self) -> str:
        """Short name for tables, e.g. ``world_easy``."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end a completion, e.g. the start of the next question in a few-shot prompt."""
        ...

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split (all when None), always in the same order. Splits are disjoint."""
        ...

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        """The text given to the model. Examples, each with its first solution, stand before the question."""
        ...

    def target(self, solution: str) -> str:
        """The text that SFT trains on after ``prompt``: the solution as a good completion would print it."""
        ...

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Grades untrusted text: never raises, never runs the text, never hangs.

        Strict demands the format. Lenient looks on where the format is missing. Flexible grades as the paper's test
        does: the first ``####``, else the last box, else the last number; LaTeX: the last box. A task of one's own
        without a third rule gives flexible the verdict of one of the others.
        """
        ...


def verdict_of(task: Task, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
    """The task's verdict. Raises ValueError where the task, which anybody may have written, gives none."""
    return checked_verdict(task.verify(problem, completion, extraction), type(task).__name__)


def checked_verdict(verdict: Any, whose: str) -> Verdict:
    """The verdict itself. Raises ValueError, naming ``whose``, for anything that is no whole verdict."""
    given = f"{whose}: verify() gives"
    if not isinstance(verdict, Verdict):
        raise ValueError(f"{given} {in_words(verdict)}: return Verdict(score, formatted, reason)")
    if not isinstance(verdict.score, int | float) or verdict.score not in (0, 1):
        raise ValueError(f"{given} the score {verdict.score!r}: it is 1.0 for a right answer, else 0.0, of type float")
    if not isinstance(verdict.formatted, bool):
        raise ValueError(f"{given} {verdict.formatted!r:.60} as formatted: make it True or False")
    for name in ("reason", "answer"):
        if not isinstance(text := getattr(verdict, name), str):
            raise ValueError(f"{given} {text!r:.60} as the {name}: make it a text")
    return verdict


def require_problems(whose: str, problems: Any) -> None:
    """Raises ValueError, naming ``whose``, unless these are problems of distinct ids and of texts that can be encoded.

    Results are kept and compared by id.
    """
    listed = isinstance(problems, Sequence)
    other = next((p for p in problems if not isinstance(p, Problem)), None) if listed else None
    if not listed or not all(isinstance(p, Problem) for p in problems):
        found = f"{with_article(type(problems).__name__)} with {other!r:.40} in it" if listed else in_words(problems)
        raise ValueError(f"{whose}: problems() gives {found}: return a list of foray.core.task.Problem")
    seen = set[str]()
    for p in problems:
        if p.id in seen:
            raise ValueError(f"{whose}: two problems have the id {p.id!r}: give each an id of its own")
        seen.add(p.id)
        known = p.solutions if isinstance(p.solutions, tuple | list) else ()  # others are made when they are first read
        for text in (p.id, p.question, p.answer, *known, *p.tags):
            if not isinstance(text, str):
                raise ValueError(f"{whose}: problem {p.id!r} has {text!r:.40} where a text belongs")
            if not encodable(text):
                raise ValueError(f"{whose}: problem {p.id!r} holds half a surrogate pair: {text!a:.60}")


def verifier_of(task: Task) -> str:
    """The version of a task's verdicts: the attribute ``verifier`` of the task, or an empty text.

    A task changes its version when a completion gets another verdict than before. The version is part of the keys of
    graded results, and of no other keys.
    """
    return str(getattr(task, "verifier", ""))


def sound_of(task: Task, problem: Problem, completion: str) -> bool | None:
    """Whether right reasons led to the completion's answer, by the task's method ``sound(problem, completion)``.

    None if the task has no such method: most tasks cannot tell. The method never raises and never hangs, as ``verify``.
    """
    judge = getattr(task, "sound", None)
    return None if judge is None else bool(judge(problem, completion))


def question_answer_prompt(task: Task, question: str, examples: Sequence[Problem]) -> str:
    """``Question: ...\\nAnswer:``, after the examples, each with its first solution and a blank line."""
    shown = "".join(f"Question: {e.question}\nAnswer:{task.target(e.solutions[0])}\n\n" for e in examples)
    return f"{shown}Question: {question}\nAnswer:"


def few_shot_examples(task: Task, count: int, seed: int) -> tuple[Problem, ...]:
    """``count`` training problems fixed by ``seed``, the same for every question and every checkpoint.

    A task with a method ``few_shot(count)`` gives its own, unless the method returns None.
    """
    import random

    if count == 0:
        return ()
    own = getattr(task, "few_shot", lambda _: None)(count)
    if own is not None:
        if len(own) < count:
            raise ValueError(f"{task.name}: {count} examples asked for, there are {len(own)}")
        return tuple(own)
    pool = [p for p in task.problems("train", 64 * count) if p.solutions]
    if len(pool) < count:
        cure = "give more of them solutions, or ask without examples (--set evaluation.base_shots=0; --shots 0)"
        raise ValueError(
            f"{task.name}: {count} solved examples in a prompt need as many training problems with solutions, and "
            f"there are {len(pool)}: {cure}"
        )
    return tuple(random.Random(f"few-shot {seed}").sample(pool, count))
