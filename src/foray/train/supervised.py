"""Draws of text and demonstrations: batches whose targets are given. B rows, T positions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from foray.core import rng
from foray.core.batch import Batch, from_rows
from foray.core.sources import Corpus, Demonstrations
from foray.core.stage import Stream
from foray.core.task import Problem, Task
from foray.data.corpus import mixed_windows
from foray.data.tokenizer import TextTokenizer
from foray.rollout.engine import Sampling
from foray.train.answering import validate
from foray.train.draw import Drawn, Training, draw


@draw.register
def _(source: Corpus, stream: Stream, step: int, training: Training) -> Drawn:
    mixture = [(w, s.name) for w, s in source.mixture]
    key = rng.key(training.seed, "corpus", training.stage)
    rows = mixed_windows(training.shards, mixture, source.length, key, step * source.batch_size, source.batch_size)
    metrics = {"tokens": float(rows[:, 1:].size), "samples": float(source.batch_size)}
    if source.separate:
        return _documents(rows, training.tokenizer), metrics
    tokens = torch.from_numpy(rows)  # (B, T + 1)
    zeros = torch.zeros(tokens.shape[0], source.length)
    return Batch(tokens[:, :-1], tokens[:, 1:], torch.ones_like(zeros), zeros, zeros, metrics["tokens"]), metrics


def _documents(windows: NDArray[np.int64], tokenizer: TextTokenizer) -> Batch:
    """Windows (B, T + 1) cut where documents begin. Each document, or part of one, is a row of the batch.

    A row begins like a prompt, with the tokenizer's ``start``. The tokens between two documents before ``start`` (the
    end token, unless ``start`` is the end token) are targets at the end of the earlier row, and inputs of no row.
    """
    before = len(tokenizer.separator) - len(tokenizer.start)  # tokens
    pieces = []
    for window in windows:
        ends = np.flatnonzero(window[:-1] == tokenizer.end_id).tolist()
        begins = [at + before for at in ends]
        if not ends or ends[0] > 0:  # the window begins within a document
            begins, ends = [0, *begins], [0, *ends]
        # The slice includes the next token: a document's last target is the end token.
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
def _(source: Demonstrations, stream: Stream, step: int, training: Training) -> Drawn:
    pairs = training.cached(source, lambda: demonstrations(source, training.seed, training.tokenizer))
    key = rng.key(training.seed, "demonstrations")
    indices = epoch_order(len(pairs), key, step * source.batch_size, source.batch_size)
    prompts, targets = [pairs[i][0] for i in indices], [pairs[i][1] for i in indices]
    count = sum(len(t) for t in targets)
    batch = from_rows(prompts, targets, [1.0] * len(targets), float(count) if source.normalise == "token" else 1.0)
    epoch = (step + 1) * source.batch_size / len(pairs)
    metrics = {"tokens": float(count), "samples": float(len(targets)), "epoch": epoch}
    if source.validation and step % source.validate_every == 0:
        sampling = Sampling(0.0, source.max_new_tokens, source.task.stop, stream.precision)
        metrics |= validate(source.task, source.validation, stream, training, training.sampler(step), sampling)
    return batch, metrics


def demonstrations(source: Demonstrations, seed: int, tokenizer: TextTokenizer) -> list[tuple[list[int], list[int]]]:
    """(prompt, target) token pairs. Only the seed and the question choose the one solution of a question."""
    return [(prompt, target) for _, prompt, target in solved(source, seed, tokenizer)]


def solved(
    source: Demonstrations, seed: int, tokenizer: TextTokenizer
) -> Iterator[tuple[Problem, list[int], list[int]]]:
    """(problem, prompt, target) of every demonstration, one at a time."""
    for p in training_questions(source.task, source.questions):
        if not p.solutions:
            raise ValueError(f"{source.task.name}: problem {p.id} has no solution to train on")
        place = rng.key(seed, "one solution", p.id) % len(p.solutions) if source.solutions == "one" else 0
        prompt = tokenizer.encode_prompt(source.task.prompt(p.question))
        for solution in p.solutions if source.solutions == "all" else p.solutions[place : place + 1]:
            yield p, prompt, [*tokenizer.encode_continuation(source.task.target(solution)), tokenizer.end_id]


def training_questions(task: Task, count: int) -> list[Problem]:
    """The first ``count`` training questions, which SFT and RL share. Raises ValueError if the task has fewer."""
    problems = list(task.problems("train", count))
    if len(problems) < count:
        raise ValueError(f"{task.name} has {len(problems)} training questions; {count} were asked for")
    return problems


def epoch_order(size: int, key: int, first: int, count: int) -> list[int]:
    """Items ``first`` to ``first + count`` of endless epochs over ``size`` items. Each epoch has its own order."""
    return [int(_order(key, g // size, size)[g % size]) for g in range(first, first + count)]


@lru_cache(maxsize=4)
def _order(key: int, epoch: int, size: int) -> NDArray[np.int64]:
    return rng.permutation(rng.key(key, epoch), size)
