"""Questions that a person asks a model: sampled answers, graded where the task knows the question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from foray.core import rng
from foray.core.canonical import require
from foray.core.passk import check_asked
from foray.core.task import Extraction, Problem, Split, Task, few_shot_examples
from foray.data.tokenizer import TextTokenizer
from foray.evals.sampling import graded
from foray.rollout.engine import Engine, Sampling

_NUMBER = re.compile(r"\d+")
_SPLITS: tuple[Split, ...] = ("test", "validation", "train")
_PLAIN_STOP: tuple[str, ...] = ("\nQuestion:",)  # without a task: where a base model begins the next question


class Answers(NamedTuple):
    """What a model answered. ``problem``: with its reference answer; None where no task knows the question.

    ``samples``: a row each, as in ``completions.jsonl``, with a ``reason``; without a problem ``text``, ``stop`` and
    ``tokens`` alone.
    """

    question: str
    problem: Problem | None
    samples: list[dict[str, Any]]


def known_problem(task: Task, question: str) -> Problem | None:
    """The task's problem with this id or this question, spaces aside; None where the task has none.

    Raises ValueError for what is written like an id, and is none.
    """
    words = question.split()
    for split in _SPLITS:
        for problem in task.problems(split):
            if problem.id == question or problem.question.split() == words:
                return problem
    known = [p.id for split in _SPLITS for p in task.problems(split, 1)]
    form = _NUMBER.sub("0", question)
    meant = any(form == _NUMBER.sub("0", known_id) for known_id in known)
    require(not meant, f"{task.name} has no problem {question}; ids look like {', '.join(known)}")
    return None


def ask(
    engine: Engine,
    tokenizer: TextTokenizer,
    task: Task | None,
    question: str | Problem,
    n: int,
    *,
    shots: int = 0,
    seed: int = 0,
    grading: str = "strict",
    sampling: Mapping[str, Any],
) -> Answers:
    """Samples ``n`` answers to a question, a problem's id or a problem, and grades them where the task knows it.

    A known problem gets the random numbers of an evaluation with this seed. ``sampling``: the arguments of ``Sampling``
    but for ``stop``. ``grading``: whose reason is given. Without a task the prompt is the question in the form that
    most tasks have. Raises ValueError for settings that cannot be sampled with.
    """
    require(task is not None or (isinstance(question, str) and shots == 0), "examples and problems need a task")
    text = question.question if isinstance(question, Problem) else question
    require(bool(text.strip()), "the question is empty")
    require(type(n) is int and n > 0, f"the number of answers must be a positive whole number, not {n!r}")
    require(shots >= 0, f"shots must be >= 0, not {shots}")
    check_asked(1, n, shots, int(sampling["max_new_tokens"]), engine.config.context)
    require(sampling["temperature"] != 0 or n == 1, "temperature 0 gives one sample: ask for 1 or raise it")
    problem = question if isinstance(question, Problem) else known_problem(task, question) if task else None
    prompt, stop = f"Question: {text}\nAnswer:", _PLAIN_STOP
    if task is not None:
        prompt = task.prompt(problem.question if problem else text, few_shot_examples(task, shots, seed))
        stop = tuple(task.stop)
    place = ("evaluation", task.name, problem.id) if task and problem else ("question", text)
    keys = [rng.key(seed, *place)]
    [group] = engine.generate([tokenizer.encode_prompt(prompt)], n, Sampling(**sampling, stop=stop), keys)
    if task is None or problem is None:
        return Answers(text, None, [{"text": c.text, "stop": c.stop_reason, "tokens": len(c.tokens)} for c in group])
    rows = graded(task, problem, group)["samples"]
    for row in rows:
        cut = row["stop"] == "length"
        row["reason"] = (
            "cut off by the length limit"
            if cut
            else task.verify(problem, row["text"], cast(Extraction, grading)).reason
        )
    return Answers(problem.question, problem, rows)
