"""The draw of rollouts: questions, completions, marks, advantages, and the batch that GRPO trains on.

Shapes: P prompts, G completions of each prompt (the group size), B = P x G rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from foray.core import rng
from foray.core.batch import Batch, from_rows
from foray.core.objectives import group_advantages
from foray.core.sources import Rollouts
from foray.core.stage import Stream
from foray.core.task import Problem, sound_of, verdict_of
from foray.model.transformer import Transformer
from foray.rollout.engine import Completion, Sampling, sampling_flops
from foray.train.answering import answers, validate
from foray.train.draw import Drawn, Training, draw
from foray.train.packing import forward_flops
from foray.train.scoring import token_logprobs
from foray.train.supervised import epoch_order, training_questions

_ONCE = ("tokens", "samples", "validation")  # and all flops/: costs, logged with a draw's first update


class Mark(NamedTuple):
    """The value of a completion."""

    reward: float
    score: float
    formatted: bool


@dataclass(frozen=True)
class Group:
    """A prompt with its completions and a mark for each completion."""

    prompt: list[int]
    completions: list[Completion]
    marks: list[Mark]


@draw.register
def _(source: Rollouts, stream: Stream, step: int, training: Training) -> Drawn:
    number, part = divmod(step, source.updates_per_draw)
    if source.updates_per_draw == 1:
        return _new_draw(source, stream, number, step, training)
    if part == 0:
        training.replay[stream.name] = _new_draw(source, stream, number, step, training)
    batch, metrics = training.replay[stream.name]
    if part:
        metrics = {k: v for k, v in metrics.items() if k not in _ONCE and not k.startswith("flops/")}
    return _slice(batch, part, source), metrics


def _new_draw(source: Rollouts, stream: Stream, number: int, version: int, training: Training) -> Drawn:
    """Draw ``number`` of the stage, sampled from the current weights.

    ``version``: the number of updates of these weights.
    """
    engine = training.sampler(version)
    sampling = Sampling(
        source.temperature, source.max_new_tokens, source.task.stop, stream.precision, source.top_p, source.top_k,
        source.min_p,
    )  # fmt: skip
    problems = _questions(source, number, training)
    seeds = [rng.key(training.seed, "rollouts", training.stage, number, row) for row in range(source.prompts)]
    marked = answers(
        source.task, stream, training, engine, problems, sampling, source.group_size, seeds, partial(_mark, source)
    )
    groups = [Group(*of_prompt) for of_prompt in marked]
    _check_sampled(groups, version)
    rewards = np.array([[m.reward for m in g.marks] for g in groups])  # (P, G)
    metrics = _logged(groups, rewards) | _sampling_work(training, groups)
    if source.validation and number % source.validate_every == 0:
        metrics |= validate(source.task, source.validation, stream, training, engine, sampling, source.cut_off)
    advantages = group_advantages(rewards, source.advantage_std)
    if number % source.keep_every == 0:
        training.kept += _to_read(stream.name, problems, groups, advantages)[: source.keep_groups]
    batch = _to_batch(source, groups, advantages)
    if source.rescored(stream.precision):
        batch = _rescored(batch, source, stream, training, metrics)
    if training.reference is not None:
        batch = _with_reference(batch, source, stream, training, training.reference, metrics)
    return batch, metrics


def _questions(source: Rollouts, number: int, training: Training) -> list[Problem]:
    """The P questions of draw ``number``."""
    problems = training.cached(
        (source.task, source.questions, source.screen), lambda: _screened_questions(source, training)
    )
    order = epoch_order(len(problems), rng.key(training.seed, "rollouts"), number * source.prompts, source.prompts)
    return [problems[i] for i in order]


def _screened_questions(source: Rollouts, training: Training) -> list[Problem]:
    """The training questions that pass the source's screen, or all of them."""
    problems, screen = training_questions(source.task, source.questions), source.screen
    if screen is None:
        return problems
    kept = [p for p in problems if screen.low <= training.screened[p.id][screen.extraction] <= screen.high]
    kept = kept[: screen.most or None]
    if len(kept) < source.prompts:
        raise ValueError(
            f"{source.task.name}: of {len(problems)} questions the base answers {len(kept)} between {screen.low} and "
            f"{screen.high} times in {screen.samples}, {screen.extraction} grading; {source.prompts} are wanted"
        )
    return kept


def _mark(source: Rollouts, problem: Problem, completion: Completion) -> Mark:
    if completion.stop_reason == "length" and source.cut_off == "wrong":
        return Mark(0.0, 0.0, False)
    verdict = verdict_of(source.task, problem, completion.text)
    score = verdict.score
    if source.sound and score > 0 and not sound_of(source.task, problem, completion.text):
        score = 0.0
    return Mark(score + source.format_reward * verdict.formatted, score, verdict.formatted)


def _check_sampled(groups: list[Group], version: int) -> None:
    for c in (c for g in groups for c in g.completions):
        assert c.policy_version == version, f"rollouts of version {c.policy_version} at update {version}"
        if not np.isfinite(c.logprobs).all():
            raise FloatingPointError("a sampled token has a non-finite log-probability")


def _to_read(stream: str, problems: list[Problem], groups: list[Group], advantages: np.ndarray) -> list[dict[str, Any]]:
    """A row a group: the question and its completions with what they were worth. advantages (P, G)"""
    rows = []
    for problem, group, values in zip(problems, groups, advantages.tolist()):
        samples = [
            {"text": c.text, "stop": c.stop_reason, "reward": mark.reward, "advantage": round(value, 4)}
            for c, mark, value in zip(group.completions, group.marks, values)
        ]
        asked = {"stream": stream, "id": problem.id, "question": problem.question, "answer": problem.answer}
        rows.append({**asked, "samples": samples})
    return rows


def _logged(groups: list[Group], rewards: np.ndarray) -> dict[str, float]:
    """The metrics of a draw. rewards (P, G)"""
    completions, marks = [c for g in groups for c in g.completions], [m for g in groups for m in g.marks]
    lengths = np.array([len(c.tokens) for c in completions])
    n = len(completions)
    return {
        "reward": float(rewards.mean()),
        "score": sum(m.score for m in marks) / n,
        "format": sum(m.formatted for m in marks) / n,
        "truncated": sum(c.stop_reason == "length" for c in completions) / n,
        "length": float(lengths.mean()),
        "entropy": -float(sum(sum(c.logprobs) for c in completions) / lengths.sum()),  # unbiased, from the samples
        "signal": float((rewards.max(1) != rewards.min(1)).mean()),
        "reward_variance": float(rewards.var(1).mean()),  # within groups; advantages come from this variance
        "tokens": float(lengths.sum()),
        "samples": float(n),
    }


def _sampling_work(training: Training, groups: list[Group]) -> dict[str, float]:
    lengths = [[len(c.tokens) for c in g.completions] for g in groups]
    return sampling_flops(training.model.config, [g.prompt for g in groups], lengths)


def _to_batch(source: Rollouts, groups: list[Group], advantages: np.ndarray) -> Batch:
    """advantages (P, G)"""
    flat = [c for g in groups for c in g.completions]
    return from_rows(
        [g.prompt for g in groups for _ in g.completions],
        [c.tokens for c in flat],
        [1.0 / len(c.tokens) if source.normalise == "sequence" else 1.0 for c in flat],
        _denominator(source, torch.tensor([float(len(c.tokens)) for c in flat])),
        advantage=advantages.flatten().tolist(),
        behaviour=[c.logprobs for c in flat],
        temperature=source.temperature,
        group_size=source.group_size,
    )


def _denominator(source: Rollouts, lengths: Tensor) -> float:
    """The count over every completion of the update, including completions of zero advantage. lengths (B,)"""
    if source.normalise == "token":
        return float(lengths.sum())
    if source.normalise == "sequence":
        return float(len(lengths))
    return float(len(lengths) * source.max_new_tokens)


def _slice(batch: Batch, part: int, source: Rollouts) -> Batch:
    """The rows of update ``part`` of a draw that several updates share. The denominator counts these rows."""
    size = batch.rows // source.updates_per_draw
    rows = batch.select(torch.arange(part * size, (part + 1) * size))
    return replace(rows, denominator=_denominator(source, (rows.weight != 0).sum(1).float()))


def _rescored(batch: Batch, source: Rollouts, stream: Stream, training: Training, metrics: dict[str, float]) -> Batch:
    """The batch with the trainer's log-probabilities as those of the behavior.

    Logs the work of a pass, if a pass is made.
    """
    if source.updates_per_draw == 1:
        return replace(batch, on_policy=True)
    metrics["flops/behaviour"] = forward_flops(training.model.config, batch, batch.weight != 0)
    return replace(batch, behaviour=token_logprobs(training.model, batch, stream.precision), drawn=batch.behaviour)


def _with_reference(
    batch: Batch, source: Rollouts, stream: Stream, training: Training, reference: Transformer,
    metrics: dict[str, float],
) -> Batch:  # fmt: skip
    """The batch with log-probabilities under the reference, if the objective needs them. Logs ``kl``."""
    # A KL term needs the reference of every token. Otherwise a row of every fourth prompt gives an estimate.
    needed = getattr(stream.objective, "needs_reference", False)
    rows = torch.arange(0, batch.rows, 1 if needed else 4 * source.group_size)
    piece = batch.select(rows)
    logprobs = torch.zeros_like(batch.behaviour)
    logprobs[rows] = token_logprobs(reference, piece, stream.precision)
    log_r = (logprobs[rows] - piece.behaviour)[piece.weight != 0].double()
    metrics["kl"] = float((log_r.exp() - 1 - log_r).mean())  # the k3 estimate, mean over tokens
    metrics["flops/reference"] = forward_flops(training.model.config, piece, piece.weight != 0)
    return replace(batch, reference=logprobs) if needed else batch
