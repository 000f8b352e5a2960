"""The embedded engine for the CPU: batched sampling from a Foray model. It runs on any torch device.

A prompt is processed once for its group, the prefix that all prompts share is processed once, and finished rows leave
the batch. Shapes: P prompts, G samples of each prompt, R = P x G rows, D width, V vocabulary.
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

_COMPACT_BELOW = 0.8  # drop finished rows when at most this share is left: a copy of the caches then pays
_ROW_IN_POSITIONS = 128  # the cost of a row in a step, in positions attended to; more for larger models
_MIN_PREFIX = 16  # a shorter shared prefix is cheaper to process with every prompt than as a segment of its own


class TorchEngine(EmbeddedEngine):
    """Samples with a copy of the weights, or with a model that the owner keeps up to date."""

    def __init__(
        self, config: ModelConfig, tokenizer: TextTokenizer, *, model: Transformer | None = None, max_rows: int = 512
    ) -> None:
        super().__init__(model if model is not None else Transformer(config), tokenizer, max_rows)

    def rows(
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

    def _batch(self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: Sequence[int]) -> _Rows:
        segments, hidden = self._prefill(prompts)
        P, device, steps = len(prompts), self.model.device, sampling.max_new_tokens
        rows = _Rows(P, n, steps, device)
        u = torch.from_numpy(uniforms(seeds, n, steps)).to(device)
        position = torch.tensor([len(p) for p in prompts], device=device).repeat_interleave(n)  # of the next token
        cascade = Cascade(segments, P * n)
        logits = self.model.lm_head(hidden).repeat_interleave(n, 0)  # (R, V)
        for t in range(steps):
            token, logprob = sample(logits, u[:, t], sampling)
            rows.record(t, token, logprob)
            left = rows.finish(t, self._finished(rows, t, token, sampling.stop))
            if left == 0 or t + 1 == steps:
                break
            if (compacted := rows.compact(left, cascade.shared[-1].length)) is not None:
                kept, blocks = compacted
                cascade.keep(kept, blocks)
                token, position, u = token[kept], position[kept], u[kept]
            h = self.model(token[:, None], position[:, None], cascade)
            cascade.length += 1
            position = position + 1
            logits = self.model.lm_head(h[:, 0])
        return rows

    def _prefill(self, prompts: list[list[int]]) -> tuple[list[Segment], Tensor]:
        """Segments of the shared prefix (if long enough) and of the rests of the prompts, and last states (P, D)."""
        shared, recorder = read_prefix(self.model, prompts, _MIN_PREFIX)
        prefix = Segment(recorder.keys, recorder.values) if shared else None
        h, mask, recorder = read_prompts(self.model, [p[shared:] for p in prompts], shared, prefix)
        padding = None if bool(mask.all()) else mask.to(self.model.device)
        segment = Segment(recorder.keys, recorder.values, padding)
        last = h[torch.arange(len(prompts)), mask.sum(1) - 1]
        return ([prefix, segment] if prefix else [segment]), last

    def _finished(self, rows: _Rows, t: int, token: Tensor, stop: tuple[str, ...]) -> Tensor:
        """Whether each slot (R,) ends with its token number ``t``."""
        done = self.endings.ends(token.device)[token]
        if stop:
            # Only a token with the last character of a stop string can complete the stop string.
            slots = (rows.live & self.endings.closing(stop, token.device)[token]).nonzero()[:, 0]
            ends = self.endings.stopped(rows.tokens[rows.index[slots], : t + 1].tolist(), stop)
            done[slots] |= torch.tensor(ends, dtype=torch.bool, device=done.device)
        return done


class _Rows:
    """The rows that are still sampled, and their tokens. Slots are in prompt order, equally many a prompt."""

    def __init__(self, P: int, n: int, steps: int, device: torch.device) -> None:
        self.index = torch.arange(P * n, device=device)  # slot -> row
        self.live = torch.ones(P * n, dtype=torch.bool, device=device)  # (slots,)
        self.prompts = P
        self.tokens = torch.zeros(P * n, steps, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(P * n, steps, device=device)
        self.lengths = torch.full((P * n,), steps, device=device)

    def record(self, t: int, token: Tensor, logprob: Tensor) -> None:
        """Writes to all slots. The tokens that a finished row gets lie after its end."""
        self.tokens[self.index, t] = token
        self.logprobs[self.index, t] = logprob

    def finish(self, t: int, done: Tensor) -> int:
        """Ends the slots that are done with token ``t``. Returns the number of slots left."""
        self.lengths[self.index[done & self.live]] = t + 1
        self.live &= ~done
        return int(self.live.sum())

    def compact(self, left: int, prompt_length: int) -> tuple[Tensor, Tensor] | None:
        """Drops finished slots. Returns the slots kept and the prompts that they continue, equally many slots each.

        Groups stay together, padded to the largest group with dead slots, unless the dead slots would cost more than a
        copy of the prompt's keys and values for every row. Returns None, and drops nothing, if few slots would go.
        """
        if left > _COMPACT_BELOW * len(self.live):
            return None
        groups = self.live.view(self.prompts, -1)
        counts = groups.sum(1)
        prompts = counts.nonzero()[:, 0]
        width = int(counts.max())
        dead = len(prompts) * width - left
        if left * prompt_length > _ROW_IN_POSITIONS * dead:
            if left + dead > _COMPACT_BELOW * len(self.live):
                return None
            # Live slots first within each prompt.
            order = (~groups[prompts]).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
            slots = (prompts[:, None] * groups.shape[1] + order).flatten()
        else:
            slots = self.live.nonzero()[:, 0]
            prompts = slots // groups.shape[1]
        self.index, self.live, self.prompts = self.index[slots], self.live[slots], len(prompts)
        return slots, prompts

    def until_end(self, values: Tensor) -> list[list[Any]]:
        """The values (R, steps) of every row, up to the end of the row."""
        return [row[:length] for row, length in zip(values.tolist(), self.lengths.tolist())]
