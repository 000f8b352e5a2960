"""The embedded engine for the CPU: batched sampling from a Foray model. It runs on any torch device.

A prompt is processed once for its group, the prefix that all prompts share is processed once, samples that agree so far
are one row, and finished rows leave the batch. Shapes: P prompts, n samples of each prompt, R rows, D width, V
vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.cascade import Cascade, Segment
from foray.rollout.embedded import EmbeddedEngine, read_prefix, read_prompts, sample, uniforms
from foray.rollout.engine import Sampling
from foray.rollout.packed_weights import packed_weights

_COMPACT_BELOW = 0.8  # drop finished rows when at most this share is left: a copy of the caches then pays
_MIN_PREFIX = 16  # a shorter shared prefix is cheaper to process with every prompt than as a segment of its own


class TorchEngine(EmbeddedEngine):
    """Samples with a copy of the weights, or with a model that the owner keeps up to date."""

    def __init__(
        self, config: ModelConfig, tokenizer: TextTokenizer, *, model: Transformer | None = None, max_rows: int = 1024
    ) -> None:
        super().__init__(model if model is not None else Transformer(config), tokenizer, max_rows)

    def samples(
        self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        tokens, logprobs = list[list[int]](), list[list[float]]()
        per_batch = max(1, self.max_rows // n)
        for start in range(0, len(prompts), per_batch):
            part = slice(start, start + per_batch)
            rows = self._batch(prompts[part], n, sampling, seeds[part])
            tokens += rows.until_end(rows.tokens)
            logprobs += rows.until_end(rows.logprobs)
        return tokens, logprobs

    def _batch(self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: Sequence[int]) -> _Samples:
        segments, hidden = self._prefill(prompts)
        with packed_weights(self.model, len(prompts) * n, sampling.max_new_tokens):
            return self._decoded(prompts, n, sampling, seeds, segments, hidden)

    def _decoded(
        self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: Sequence[int],
        segments: list[Segment], hidden: Tensor,
    ) -> _Samples:  # fmt: skip
        """Samples token after token behind the prompts, whose caches and last states are given."""
        P, device, steps = len(prompts), self.model.device, sampling.max_new_tokens
        samples = _Samples(P, n, steps, device)
        u = torch.from_numpy(uniforms(seeds, n, steps)).to(device)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        cascade = Cascade(segments, torch.arange(P, device=device))
        position = lengths - 1  # (R,) of the last token
        logits = self.model.lm_head(hidden)  # (R, V)
        for t in range(steps):
            token, logprob = sample(logits, u[samples.live, t], sampling, samples.row)
            samples.record(t, token, logprob)
            token = samples.finish(t, token, self._finished(samples, t, token, sampling.stop))
            if not len(token) or t + 1 == steps:
                break
            token, parent = samples.branch(token, self.config.vocab_size, cascade)
            position = position[parent] + 1
            h = self.model(token[:, None], position[:, None], cascade)
            cascade.length += 1
            logits = self.model.lm_head(h[:, 0])
        return samples

    def _prefill(self, prompts: list[list[int]]) -> tuple[list[Segment], Tensor]:
        """Segments of the shared prefix (if long enough) and of the rests of the prompts, and last states (P, D).

        Prompts are read in parts of ``microbatch_tokens``: behind a prefix a pass holds the weights of all attention.
        """
        shared, recorder = read_prefix(self.model, prompts, _MIN_PREFIX)
        prefix = Segment(recorder.keys, recorder.values) if shared else None
        rests = [p[shared:] for p in prompts]
        longest = max(map(len, rests))
        at_once = max(1, self.model.machine.microbatch_tokens // longest)
        keys, values, masks, last = [], [], [], []
        for start in range(0, len(rests), at_once):
            h, mask, recorder = read_prompts(self.model, rests[start : start + at_once], shared, prefix)
            last.append(h[torch.arange(len(h)), mask.sum(1) - 1])
            keys.append([_padded(k, 2, longest) for k in recorder.keys])
            values.append([_padded(v, 2, longest) for v in recorder.values])
            masks.append(_padded(mask, 1, longest))
        mask = torch.cat(masks)
        padding = None if bool(mask.all()) else mask.to(self.model.device)
        segment = Segment(_layers(keys), _layers(values), padding)
        return ([prefix, segment] if prefix else [segment]), torch.cat(last)

    def _finished(self, samples: _Samples, t: int, token: Tensor, stop: tuple[str, ...]) -> Tensor:
        """Whether each live sample (N,) ends with its token number ``t``."""
        done = self.endings.ends(token.device)[token]
        if stop:
            # Only a token with the last character of a stop string can complete the stop string.
            found = self.endings.closing(stop, token.device)[token].nonzero()[:, 0]
            ends = self.endings.stopped(samples.tokens[samples.live[found], : t + 1].tolist(), stop)
            done[found] |= torch.tensor(ends, dtype=torch.bool, device=done.device)
        return done


def _padded(x: Tensor, dim: int, length: int) -> Tensor:
    """``x`` with zeros behind, so that it has this length along a dimension."""
    missing = list(x.shape)
    missing[dim] = length - x.shape[dim]
    return torch.cat([x, x.new_zeros(missing)], dim) if missing[dim] else x


def _layers(parts: list[list[Tensor]]) -> list[Tensor]:
    """What parts of a batch (parts, layers) recorded, joined: a tensor a layer."""
    return parts[0] if len(parts) == 1 else [torch.cat(of_layer) for of_layer in zip(*parts)]


class _Samples:
    """The samples, and the rows that those still alive continue.

    Samples of a prompt that agree in all their tokens so far are one row of the model's batch, because the next token
    has the same distribution for all of them. Models of ``tiny`` leave out a quarter to three quarters of all rows so,
    at temperature 0.6. Shapes: S samples in prompt order, N of them alive.
    """

    def __init__(self, P: int, n: int, steps: int, device: torch.device) -> None:
        self.live = torch.arange(P * n, device=device)  # (N,)
        self.row = self.live // n  # (N,) the row that each continues; at first a row a prompt
        self.tokens = torch.zeros(P * n, steps, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(P * n, steps, device=device)
        self.lengths = torch.full((P * n,), steps, device=device)

    def record(self, t: int, token: Tensor, logprob: Tensor) -> None:
        self.tokens[self.live, t] = token
        self.logprobs[self.live, t] = logprob

    def finish(self, t: int, token: Tensor, done: Tensor) -> Tensor:
        """Ends the live samples that are done with token ``t``. Returns the tokens of those left."""
        self.lengths[self.live[done]] = t + 1
        left = ~done
        self.live, self.row = self.live[left], self.row[left]
        return token[left]

    def branch(self, token: Tensor, vocab_size: int, cascade: Cascade) -> tuple[Tensor, Tensor]:
        """Gives each pair of row and next token a row of its own. ``token`` (N,) is that of each live sample.

        The first pair of a row goes on in its place. The others copy its cache to rows that nobody continues, or to new
        ones. Returns the token of each row, and the earlier row that it continues: both (R,).
        """
        pairs, of = (self.row * vocab_size + token).unique(return_inverse=True)  # in the order of the rows
        parent, next_token = pairs // vocab_size, pairs % vocab_size
        rows = len(cascade.prompt)
        if len(pairs) <= _COMPACT_BELOW * rows:
            cascade.keep(parent)
            self.row = of
            return next_token, parent
        slot = parent.clone()
        again = torch.zeros_like(parent, dtype=torch.bool)
        again[1:] = parent[1:] == parent[:-1]
        if new := int(again.sum()):
            idle = torch.ones(rows, dtype=torch.bool, device=slot.device)
            idle[parent] = False
            free = idle.nonzero()[:new, 0]
            slot[again] = torch.cat([free, torch.arange(rows, rows + new - len(free), device=slot.device)])
            rows += new - len(free)
            cascade.copy(parent[again], slot[again], rows)
        self.row = slot[of]
        tokens, parents = torch.zeros(2, rows, dtype=torch.long, device=slot.device)
        tokens[slot], parents[slot] = next_token, parent
        return tokens, parents

    def until_end(self, values: Tensor) -> list[list[Any]]:
        """The values (S, steps) of every sample, up to the end of the sample."""
        return [row[:length] for row, length in zip(values.tolist(), self.lengths.tolist())]
