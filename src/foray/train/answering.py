"""Answers of the model in training: completions of problems' prompts, and the score of greedy answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from foray.core.canonical import require
from foray.core.stage import Stream
from foray.core.task import CutOff, Problem, Task, verdict_of
from foray.rollout.engine import Completion, Engine, Sampling, sampling_flops
from foray.train.draw import Training
from foray.train.ranks import map_over_ranks

M = TypeVar("M")
Answers = tuple[list[int], list[Completion], list[M]]  # a prompt, its completions, and what each is worth


def answers(
    task: Task, stream: Stream, training: Training, engine: Engine, problems: Sequence[Problem], sampling: Sampling,
    n: int, seeds: Sequence[int], mark: Callable[[Problem, Completion], M],
) -> list[Answers[M]]:  # fmt: skip
    """``n`` completions of every problem, marked. The ranks share the work, and every rank gets all answers."""
    prompts = [training.tokenizer.encode_prompt(task.prompt(p.question)) for p in problems]
    longest, context = max(map(len, prompts)), training.model.config.context
    need = longest + sampling.max_new_tokens
    require(
        need <= context,
        f"stage {training.stage}, stream {stream.name}: a prompt of {longest} tokens and {sampling.max_new_tokens} new "
        f"ones are longer than the model's context ({context}): set model.context={need} or more, or a smaller "
        "max_new_tokens",
    )

    def answered(part: slice) -> list[Answers[M]]:
        sampled = engine.generate(prompts[part], n, sampling, seeds[part])
        return [
            (prompt, completions, [mark(problem, c) for c in completions])
            for problem, prompt, completions in zip(problems[part], prompts[part], sampled)
        ]

    return map_over_ranks(len(prompts), max(1, engine.max_rows // n), answered)


def validate(
    task: Task, count: int, stream: Stream, training: Training, engine: Engine, sampling: Sampling,
    cut_off: CutOff = "wrong",
) -> dict[str, float]:  # fmt: skip
    """The score of greedy answers to ``count`` validation problems; nothing where the task has none."""
    problems = training.cached((task, count, "validation"), lambda: list(task.problems("validation", count)))
    if not problems:
        return {}
    greedy = replace(sampling, temperature=0.0)
    found = answers(task, stream, training, engine, problems, greedy, 1, [0] * len(problems), right(task, cut_off))
    lengths = [[len(c.tokens) for c in completions] for _, completions, _ in found]
    work = sampling_flops(training.model.config, [prompt for prompt, _, _ in found], lengths)
    return {"validation": sum(r for _, _, (r,) in found) / len(found), "flops/validation": sum(work.values())}


def right(task: Task, cut_off: CutOff = "wrong") -> Callable[[Problem, Completion], bool]:
    """Grades strictly. ``cut_off``: what a completion without an end is worth."""
    graded = cut_off == "graded"
    return lambda p, c: (graded or c.stop_reason != "length") and verdict_of(task, p, c.text).score > 0
