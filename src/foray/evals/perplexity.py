"""Held-out loss of a model on tokenized text and on a task's own text, per token and per byte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from foray.core.batch import Batch, from_rows
from foray.core.task import Split, Task
from foray.data.corpus import Shard
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.train.packing import forward_flops
from foray.train.scoring import token_logprobs


class TextLoss(NamedTuple):
    """The loss on a text: nats in all, tokens scored, the UTF-8 bytes that these tokens decode to, and FLOPs.

    Perplexity is exp of the nats a token. Bits a byte do not depend on the tokenizer. End tokens are no bytes.
    """

    nats: float
    tokens: int
    bytes: int
    flops: float

    def row(self) -> dict[str, float]:
        """What ``perplexity.json`` has of a text."""
        return {
            "nats_per_token": self.nats / self.tokens,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "bits_per_byte": self.nats / math.log(2) / self.bytes,
        }


def perplexity(model: Transformer, tokenizer: TextTokenizer, shard: Shard, length: int) -> TextLoss:
    """The loss over all windows of the shard. A window's first token is given, not scored; end tokens are scored.

    Raises ValueError where the shard holds no text.
    """
    nats, work, windows = 0.0, 0.0, shard.windows(length)
    for start in range(0, windows, 8):
        rows = torch.stack([torch.from_numpy(shard.window(i, length)) for i in range(start, min(start + 8, windows))])
        ones = torch.ones(rows.shape[0], length)
        batch = Batch(rows[:, :-1], rows[:, 1:], ones, ones, torch.zeros_like(ones), 1.0)
        nats -= float(token_logprobs(model, batch).double().sum())
        work += forward_flops(model.config, batch, ones != 0)
    # The targets of all windows lie in a row. A document is decoded whole, as a character may be many tokens.
    tokens = windows * length
    documents = shard.documents(tokenizer.end_id, 1, tokens + 1)
    size = sum(_bytes(tokenizer, document) for document in documents)
    if not size:
        raise ValueError(f"text source {shard.name} holds no text: its tokens decode to nothing")
    return TextLoss(nats, tokens, size, work)


def task_perplexity(
    model: Transformer, tokenizer: TextTokenizer, task: Task, split: Split, count: int
) -> TextLoss | None:
    """The loss on question and first solution of the first ``count`` problems of a split, each as a document.

    A document is the prompt without examples and the target, as SFT has them. The tokens before a document are given.
    No end token is scored: SFT alone learns where a solution ends. Longer documents than the context are cut. None
    where no problem has a solution.
    """
    given, room = tokenizer.separator, model.config.context
    texts = [
        [*tokenizer.encode(task.prompt(p.question)), *tokenizer.encode_continuation(task.target(p.solutions[0]))]
        for p in task.problems(split, count)
        if p.solutions
    ]
    texts = [kept for text in texts if (kept := text[: room + 1 - len(given)])]
    if not texts:
        return None
    nats, work = 0.0, 0.0
    for start in range(0, len(texts), 32):
        rows = texts[start : start + 32]
        batch = from_rows([given] * len(rows), rows, [1.0] * len(rows), 1.0)
        nats -= float(token_logprobs(model, batch).double().sum())
        work += forward_flops(model.config, batch, batch.weight != 0)
    return TextLoss(nats, sum(map(len, texts)), sum(_bytes(tokenizer, text) for text in texts), work)


def _bytes(tokenizer: TextTokenizer, tokens: Sequence[int]) -> int:
    return len(tokenizer.decode(tokens).encode())
