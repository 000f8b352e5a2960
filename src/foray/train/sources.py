"""Where a stream's tokens come from. ``draw(spec, step, run)`` is a function of (seed, stage, step) and the weights.

A new source is a frozen dataclass and a function registered here with ``@draw.register``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from foray.core import rng
from foray.core.batch import Batch, from_rows
from foray.core.canonical import require
from foray.core.objectives import group_advantages
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import Stream
from foray.core.task import Problem, Task
from foray.data.corpus import Shard, mixed_windows
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.engine import Completion, Engine, Sampling, sampling_flops
from foray.train.packing import forward_flops
from foray.train.ranks import shared_out
from foray.train.scoring import token_logprobs
from foray.train.sharding import weights_of

V = TypeVar("V")


@dataclass
class Run:
    """What draws need besides their spec. ``replay`` holds draws that several updates share, by stream (of a member of
    a joint one, by the name that ``drawing`` gives it): a checkpoint keeps it.
    """

    seed: int
    stage: str
    tokenizer: TextTokenizer
    model: Transformer
    engine: Engine | None
    reference: Transformer | None = None  # the stage's first weights
    shards: Mapping[str, Shard] = field(default_factory=dict)
    screened: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # the base's correct answers by question
    replay: dict[str, tuple[Batch, dict[str, float]]] = field(default_factory=dict)
    _cache: dict[object, Any] = field(default_factory=dict)

    def sampler(self, version: int) -> Engine:
        """The engine, with the model's weights as they are now."""
        assert self.engine is not None, "a stage with rollouts has an engine"
        self.engine.sync(weights_of(self.model), version)
        return self.engine

    def cached(self, name: object, make: Callable[[], V]) -> V:
        """Values that are pure functions of the specs, made once."""
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]


Drawn = tuple[Batch, dict[str, float]]


@singledispatch
def draw(source: Any, stream: Stream, step: int, run: Run) -> Drawn:
    """The batch of update ``step`` and what is worth logging about it."""
    raise ValueError(f"stream {stream.name}: {unregistered(type(source))}")


def registered(source: Any) -> bool:
    """Whether a draw is registered for the source."""
    return draw.dispatch(type(source)) is not draw.dispatch(object)


def drawn_by_others(source: Any) -> bool:
    """Whether the draw registered for the source is not Foray's own: of its rows nothing is known but by drawing."""
    return registered(source) and draw.dispatch(type(source)).__module__ != __name__


def unregistered(kind: type) -> str:
    return (
        f"no draw is registered for a source of the class {kind.__name__}: write @draw.register above a function "
        f"(source: {kind.__name__}, stream, step, run) that returns a batch and what is to be logged of it"
    )


def drawn(source: Any, stream: Stream, step: int, run: Run) -> Drawn:
    """``draw``, with what it returns looked at. Raises ValueError where that is nothing a model can be trained on: a
    row longer than the context, tokens that the model has not, tensors that do not fit each other.
    """
    found = draw(source, stream, step, run)
    where = f"stage {run.stage}, stream {stream.name}"
    pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Batch) and isinstance(found[1], dict)
    kind = type(source).__name__
    require(pair, f"{where}: the draw of {kind} returns a {type(found).__name__}: return (batch, dict of numbers)")
    _check_batch(found[0], where, run.model.config)
    for name, value in found[1].items():
        fine = isinstance(name, str) and isinstance(value, int | float)
        require(fine, f"{where}: the draw of {kind} logs {name!r}: {type(value).__name__}; log numbers by name")
    return found


def _check_batch(batch: Batch, where: str, config: ModelConfig) -> None:
    B, T = batch.tokens.shape if batch.tokens.dim() == 2 else (0, 0)
    require(B > 0 and T > 0, f"{where}: a batch holds rows of tokens, (B, T), not {tuple(batch.tokens.shape)}")
    for name in ("targets", "weight", "advantage", "behaviour"):
        shape = tuple(getattr(batch, name).shape)
        require(shape == (B, T), f"{where}: the batch's {name} are {shape}, its tokens {(B, T)}: give them one shape")
    whole = not (batch.tokens.is_floating_point() or batch.targets.is_floating_point())
    require(whole, f"{where}: the batch's tokens and targets must be whole numbers (torch.int64)")
    used = batch.weight != 0
    length = int(used.any(0).nonzero().max()) + 1 if used.any() else 0  # what is behind is padding
    require(
        length <= config.context,
        f"{where}: a row of {length} tokens is longer than the model's context ({config.context}): set "
        f"model.context={length} or more, or let the source make shorter rows",
    )
    least, most = (
        int(torch.minimum(batch.tokens, batch.targets).min()),
        int(torch.maximum(batch.tokens, batch.targets).max()),
    )
    size = config.vocab_size or most + 1
    require(
        least >= 0 and most < size,
        f"{where}: a batch holds the token {least if least < 0 else most}; the model's lie between 0 and {size - 1}",
    )
    fine = math.isfinite(batch.denominator) and batch.denominator > 0
    require(fine, f"{where}: a batch's denominator must be a number > 0, not {batch.denominator}")


@draw.register
def _(source: Corpus, stream: Stream, step: int, run: Run) -> Drawn:
    mixture = [(w, s.name) for w, s in source.mixture]
    key = rng.key(run.seed, "corpus", run.stage)
    rows = mixed_windows(run.shards, mixture, source.length, key, step * source.batch_size, source.batch_size)
    metrics = {"tokens": float(rows[:, 1:].size), "samples": float(source.batch_size)}
    if source.separate:
        return _documents(rows, run.tokenizer), metrics
    tokens = torch.from_numpy(rows)
    zeros = torch.zeros(tokens.shape[0], source.length)
    return Batch(tokens[:, :-1], tokens[:, 1:], torch.ones_like(zeros), zeros, zeros, metrics["tokens"]), metrics


def _documents(windows: NDArray[np.int64], tokenizer: TextTokenizer) -> Batch:
    """Windows (B, T + 1) cut where documents begin: a row of the batch for each document, or part of one.

    A row begins as prompts do, with the tokenizer's ``start``. What stands before that between documents (the end
    token, unless documents start with it) is predicted at the end of the row before, and predicts nothing.
    """
    before = len(tokenizer.separator) - len(tokenizer.start)  # tokens
    pieces = []
    for window in windows:
        ends = np.flatnonzero(window[:-1] == tokenizer.end_id).tolist()
        begins = [at + before for at in ends]
        if not ends or ends[0] > 0:  # the window begins within a document
            begins, ends = [0, *begins], [0, *ends]
        # With the token behind it: the last thing that a document predicts is the end token.
        pieces += [window[a : b + 1] for a, b in zip(begins, [*ends[1:], len(window) - 1]) if b > a]
    tokens, targets = (np.zeros((len(pieces), max(len(p) for p in pieces) - 1), dtype=np.int64) for _ in range(2))
    weight = np.zeros(tokens.shape, dtype=np.float32)
    for row, piece in enumerate(pieces):
        n = len(piece) - 1
        tokens[row, :n], targets[row, :n], weight[row, :n] = piece[:-1], piece[1:], 1.0
    zeros = torch.zeros(weight.shape)
    x, y, w = (torch.from_numpy(a) for a in (tokens, targets, weight))
    return Batch(x, y, w, zeros, zeros, float(weight.sum()))


@draw.register
def _(source: Demonstrations, stream: Stream, step: int, run: Run) -> Drawn:
    pairs = run.cached(source, lambda: demonstrations(source, run.seed, run.tokenizer))
    indices = _epoch_order(len(pairs), rng.key(run.seed, "demonstrations"), step * source.batch_size, source.batch_size)
    prompts, targets = [pairs[i][0] for i in indices], [pairs[i][1] for i in indices]
    count = sum(len(t) for t in targets)
    batch = from_rows(prompts, targets, [1.0] * len(targets), float(count))
    epoch = (step + 1) * source.batch_size / len(pairs)
    return batch, {"tokens": float(count), "samples": float(len(targets)), "epoch": epoch}


@draw.register
def _(source: Rollouts, stream: Stream, step: int, run: Run) -> Drawn:
    number, part = divmod(step, source.updates_per_draw)
    if source.updates_per_draw == 1:
        return _rollout_draw(source, stream, number, step, run)
    if part == 0:
        run.replay[stream.name] = _rollout_draw(source, stream, number, step, run)
    batch, metrics = run.replay[stream.name]
    if part:  # what the draw cost is logged once, with its first update
        once = ("tokens", "samples", "validation")
        metrics = {k: v for k, v in metrics.items() if k not in once and not k.startswith("flops/")}
    return _slice(batch, part, source), metrics


def demonstrations(source: Demonstrations, seed: int, tokenizer: TextTokenizer) -> list[tuple[list[int], list[int]]]:
    """(prompt, target) token pairs. The one solution of a question depends on the seed and the question alone."""
    return [(prompt, target) for _, prompt, target in solved(source, seed, tokenizer)]


def solved(
    source: Demonstrations, seed: int, tokenizer: TextTokenizer
) -> Iterator[tuple[Problem, list[int], list[int]]]:
    """(problem, prompt, target) of every demonstration, one at a time."""
    for p in training_questions(source.task, source.questions):
        if not p.solutions:
            raise ValueError(f"{source.task.name}: problem {p.id} has no solution to train on")
        chosen = [p.solutions[rng.key(seed, "one solution", p.id) % len(p.solutions)]]
        prompt = tokenizer.encode_prompt(source.task.prompt(p.question))
        for solution in chosen if source.solutions == "one" else p.solutions:
            yield p, prompt, [*tokenizer.encode_continuation(source.task.target(solution)), tokenizer.end_id]


def training_questions(task: Task, count: int) -> list[Problem]:
    """The questions that SFT and RL share."""
    problems = list(task.problems("train", count))
    if len(problems) < count:
        raise ValueError(f"{task.name} has {len(problems)} training questions; {count} were asked for")
    return problems


def _epoch_order(size: int, key: int, first: int, count: int) -> list[int]:
    """Items ``first`` to ``first + count`` of endless epochs, each epoch in an order of its own."""
    return [int(rng.permutation(rng.key(key, g // size), size)[g % size]) for g in range(first, first + count)]


def _rollout_draw(source: Rollouts, stream: Stream, number: int, version: int, run: Run) -> Drawn:
    problems = run.cached((source.task, source.questions, source.screen), lambda: _rl_questions(source, run))
    order = _epoch_order(len(problems), rng.key(run.seed, "rollouts"), number * source.prompts, source.prompts)
    chosen = [problems[i] for i in order]
    prompts = [run.tokenizer.encode_prompt(source.task.prompt(p.question)) for p in chosen]
    seeds = [rng.key(run.seed, "rollouts", run.stage, number, row) for row in range(source.prompts)]
    sampling = Sampling(source.temperature, source.max_new_tokens, source.task.stop, stream.precision)
    _check_prompts(prompts, source, stream, run)
    engine = run.sampler(version)

    def sampled(part: slice) -> list[Graded]:
        groups = engine.generate(prompts[part], source.group_size, sampling, seeds[part])
        return list(zip(groups, grade(source, chosen[part], groups)))

    graded = shared_out(len(prompts), max(1, engine.max_rows // source.group_size), sampled)
    groups, rewards = [g for g, _ in graded], np.array([[m.reward for m in marks] for _, marks in graded])
    metrics = _logged(groups, [m for _, marks in graded for m in marks], rewards)
    metrics |= sampling_flops(run.model.config, prompts, [[len(c.tokens) for c in g] for g in groups])
    for group in groups:
        for c in group:
            assert c.policy_version == version, f"rollouts of version {c.policy_version} at update {version}"
            if not np.isfinite(c.logprobs).all():
                raise FloatingPointError("a sampled token has a non-finite log-probability")
    if source.validation and number % source.validate_every == 0:
        metrics |= _validate(source, stream, run, engine, sampling)
    advantages = group_advantages(rewards, source.advantage_std)
    batch = _rollout_batch(source, prompts, groups, advantages)
    if source.rescored(stream.precision) and source.updates_per_draw == 1:
        batch = replace(batch, on_policy=True)
    elif source.rescored(stream.precision):
        ours = token_logprobs(run.model, batch, stream.precision)
        metrics["flops/behaviour"] = forward_flops(run.model.config, batch, batch.weight != 0)
        batch = replace(batch, behaviour=ours, drawn=batch.behaviour)
    if run.reference is not None:
        # For a KL term every token needs its reference; without one, a row of every fourth prompt gives an estimate.
        needed = getattr(stream.objective, "needs_reference", False)
        rows = torch.arange(0, batch.rows, 1 if needed else 4 * source.group_size)
        metrics["kl"], reference = _against_reference(batch, rows, run.reference, stream.precision)
        piece = batch.select(rows)
        metrics["flops/reference"] = forward_flops(run.model.config, piece, piece.weight != 0)
        if needed:
            batch = replace(batch, reference=reference)
    return batch, metrics


def _check_prompts(prompts: list[list[int]], source: Rollouts, stream: Stream, run: Run) -> None:
    longest, context = max(map(len, prompts)), run.model.config.context
    need = longest + source.max_new_tokens
    require(
        need <= context,
        f"stage {run.stage}, stream {stream.name}: a prompt of {longest} tokens and {source.max_new_tokens} new ones "
        f"are longer than the model's context ({context}): set model.context={need} or more, or a smaller "
        "max_new_tokens",
    )


def _rl_questions(source: Rollouts, run: Run) -> list[Problem]:
    """The training questions, or those of them that pass the source's screen."""
    problems, screen = training_questions(source.task, source.questions), source.screen
    if screen is None:
        return problems
    kept = [p for p in problems if screen.low <= run.screened[p.id][screen.extraction] <= screen.high]
    if len(kept) < source.prompts:
        raise ValueError(
            f"{source.task.name}: of {len(problems)} questions the base answers {len(kept)} between {screen.low} and "
            f"{screen.high} times in {screen.samples}, {screen.extraction} grading; {source.prompts} are wanted"
        )
    return kept


def _validate(source: Rollouts, stream: Stream, run: Run, engine: Engine, sampling: Sampling) -> dict[str, float]:
    """Score of greedy answers to validation problems, where the task has any."""
    task = source.task
    problems = run.cached((source, "validation"), lambda: list(task.problems("validation", source.validation)))
    if not problems:
        return {}
    prompts = [run.tokenizer.encode_prompt(task.prompt(p.question)) for p in problems]
    _check_prompts(prompts, source, stream, run)
    greedy = replace(sampling, temperature=0.0)

    def answered(part: slice) -> list[tuple[bool, int]]:
        answers = [group[0] for group in engine.generate(prompts[part], 1, greedy, [0] * len(prompts[part]))]
        return [
            (c.stop_reason != "length" and task.verify(p, c.text).score > 0, len(c.tokens))
            for p, c in zip(problems[part], answers)
        ]

    marked = shared_out(len(prompts), engine.max_rows, answered)
    work = sampling_flops(run.model.config, prompts, [[length] for _, length in marked])
    return {"validation": sum(right for right, _ in marked) / len(marked), "flops/validation": sum(work.values())}


class Mark(NamedTuple):
    """What a completion is worth."""

    reward: float
    score: float
    formatted: bool


Graded = tuple[list[Completion], list[Mark]]  # a prompt's completions and what each is worth


def grade(source: Rollouts, problems: list[Problem], groups: list[list[Completion]]) -> list[list[Mark]]:
    """A mark for every completion. A truncated one scores 0, whatever it holds."""
    return [[_mark(source, problem, c) for c in group] for problem, group in zip(problems, groups)]


def _mark(source: Rollouts, problem: Problem, completion: Completion) -> Mark:
    if completion.stop_reason == "length":
        return Mark(0.0, 0.0, False)
    verdict = source.task.verify(problem, completion.text)
    return Mark(verdict.score + source.format_reward * verdict.formatted, verdict.score, verdict.formatted)


def _logged(groups: list[list[Completion]], marks: list[Mark], rewards: np.ndarray) -> dict[str, float]:
    """What is logged of a draw, whose rewards are (P, G)."""
    completions = [c for g in groups for c in g]
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
        "reward_variance": float(rewards.var(1).mean()),  # within groups: what advantages are made of
        "tokens": float(lengths.sum()),
        "samples": float(n),
    }


def _rollout_batch(
    source: Rollouts, prompts: list[list[int]], groups: list[list[Completion]], advantages: np.ndarray
) -> Batch:
    flat = [c for g in groups for c in g]
    return from_rows(
        [p for p in prompts for _ in range(source.group_size)],
        [c.tokens for c in flat],
        [1.0 / len(c.tokens) if source.normalise == "sequence" else 1.0 for c in flat],
        _denominator(source, torch.tensor([float(len(c.tokens)) for c in flat])),
        advantage=advantages.flatten().tolist(),
        behaviour=[c.logprobs for c in flat],
        temperature=source.temperature,
        group_size=source.group_size,
    )


def _denominator(source: Rollouts, lengths: torch.Tensor) -> float:
    """Counts every completion, with a signal or without: lengths (B,) of all completions of the update."""
    if source.normalise == "token":
        return float(lengths.sum())
    if source.normalise == "sequence":
        return float(len(lengths))
    return float(len(lengths) * source.max_new_tokens)


def _slice(batch: Batch, part: int, source: Rollouts) -> Batch:
    """The rows of update ``part`` of a draw that serves several, with a denominator of their own."""
    size = batch.rows // source.updates_per_draw
    rows = batch.select(torch.arange(part * size, (part + 1) * size))
    return replace(rows, denominator=_denominator(source, (rows.weight != 0).sum(1).float()))


def _against_reference(
    batch: Batch, rows: torch.Tensor, reference: Transformer, precision: str
) -> tuple[float, torch.Tensor]:
    """Mean k3 estimate of KL(behaviour || reference) a token over ``rows``, and reference log-probabilities (B, T)."""
    out = torch.zeros_like(batch.behaviour)
    piece = batch.select(rows)
    out[rows] = token_logprobs(reference, piece, precision)
    log_r = (out[rows] - piece.behaviour)[piece.weight != 0].double()
    return float((log_r.exp() - 1 - log_r).mean()), out
