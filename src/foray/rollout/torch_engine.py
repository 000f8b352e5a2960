"""The embedded engine: batched sampling from a Foray model on any torch device.

A prompt is processed once for its whole group, the prefix that all prompts share once for all, and finished rows leave
the batch. Shapes: P prompts, G samples a prompt, R = P x G rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from foray.core import rng
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.cascade import Cascade, Recorder, Segment
from foray.rollout.engine import Completion, Sampling, StopReason, check_context

_COMPACT_BELOW = 0.75  # rows left after dropping finished ones, as a share, at which copying the caches pays
_MIN_PREFIX = 16  # a shorter shared prefix is cheaper to process with every prompt than as a segment of its own


class TorchEngine:
    """Samples with its own copy of the weights, or with a model that somebody else keeps up to date."""

    def __init__(
        self, config: ModelConfig, tokenizer: TextTokenizer, *, model: Transformer | None = None, max_rows: int = 512
    ) -> None:
        self.config, self.tokenizer, self.max_rows = config, tokenizer, max_rows
        self.model = model if model is not None else Transformer(config)
        self.version = 0
        pieces = tokenizer.tokenizer.decode_batch([[i] for i in range(tokenizer.vocab_size)], skip_special_tokens=False)
        self._pieces: list[str] = pieces

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        own = self.model.state_dict()
        if any(own[name].data_ptr() != w.data_ptr() for name, w in weights.items()):  # else the model is shared
            self.model.load_state_dict(dict(weights), strict=True)
        self.version = version

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        check_context(max((len(p) for p in prompts), default=0), sampling, self.config.context)
        if any(not p for p in prompts):
            raise ValueError("a prompt must hold at least one token")
        out: list[list[Completion]] = []
        per_batch = max(1, self.max_rows // n)
        for start in range(0, len(prompts), per_batch):
            part = slice(start, start + per_batch)
            out += self._batch([list(p) for p in prompts[part]], n, sampling, list(seeds[part]))
        return out

    def _batch(self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: list[int]) -> list[list[Completion]]:
        segments, hidden = self._prefill(prompts)
        P, device = len(prompts), self.model.device
        steps = sampling.max_new_tokens
        rows = _Rows(P, n, steps)
        # u[r, t] decides token t of row r whoever shares its batch.
        keys = np.array([rng.key(s, j) for s in seeds for j in range(n)], dtype=np.uint64)
        u = torch.from_numpy(rng.uniform(keys[:, None], np.arange(steps, dtype=np.uint64)[None, :])).to(device)
        position = torch.tensor([len(p) for p in prompts], device=device).repeat_interleave(n)  # of the next token
        cascade = Cascade(segments, P * n, self.config.layers, segments[-1].keys[0])
        logits = self.model.lm_head(hidden).repeat_interleave(n, 0)  # (R, V)
        for t in range(steps):
            token, logprob = sample(logits, u[rows.index, t], sampling.temperature)
            rows.record(t, token, logprob)
            done = self._finished(rows, t, token, sampling.stop)
            if rows.finish(done) == 0 or t + 1 == steps:
                break
            if (compacted := rows.compact(_COMPACT_BELOW)) is not None:
                kept, blocks = compacted
                # Only the last shared segment has a block a prompt; the common prefix serves whoever is left.
                cascade.keep(kept, [None] * (len(cascade.shared) - 1) + [blocks])
                token, position = token[kept], position[kept]
            h = self.model(token[:, None], position[:, None], cascade)
            cascade.length += 1
            position = position + 1
            logits = self.model.lm_head(h[:, 0])
        return self._completions(rows, P, n, sampling.stop)

    def _prefill(self, prompts: list[list[int]]) -> tuple[list[Segment], Tensor]:
        """Segments of the shared prefix (if worth one) and of the prompts' rests, and the last hidden states (P, D)."""
        device = self.model.device
        shared = _common_prefix(prompts) if len(prompts) > 1 else 0
        prefix: Segment | None = None
        if shared >= _MIN_PREFIX:
            recorder = Recorder()
            self.model(torch.tensor([prompts[0][:shared]], device=device), None, recorder)
            prefix = Segment(recorder.keys, recorder.values)
        else:
            shared = 0
        rests = [p[shared:] for p in prompts]
        lengths = torch.tensor([len(r) for r in rests], device=device)
        T = int(lengths.max())
        tokens = torch.tensor([r + [0] * (T - len(r)) for r in rests], device=device)
        positions = torch.arange(shared, shared + T, device=device).expand(len(rests), T)
        recorder = Recorder(prefix)
        h = self.model(tokens, positions, recorder)  # padding on the right is causally invisible to what is read
        mask = torch.arange(T, device=device) < lengths[:, None]
        segment = Segment(recorder.keys, recorder.values, None if bool(mask.all()) else mask)
        last = h[torch.arange(len(rests), device=device), lengths - 1]
        return ([prefix, segment] if prefix else [segment]), last

    def _finished(self, rows: _Rows, t: int, token: Tensor, stop: tuple[str, ...]) -> Tensor:
        done = token == self.tokenizer.end_id
        if stop:
            tail = max(len(s) for s in stop)
            ids = token.tolist()
            for i, row in enumerate(rows.index.tolist()):
                text = rows.tails[row] + self._pieces[ids[i]]
                rows.tails[row] = text[-tail:]
                if any(s in text for s in stop):
                    done[i] = True
        return done

    def _completions(self, rows: _Rows, P: int, n: int, stop: tuple[str, ...]) -> list[list[Completion]]:
        tokens, logprobs = rows.tokens.tolist(), rows.logprobs.tolist()
        texts, flat = [], []
        for row in range(P * n):
            length = rows.lengths[row]
            ids = tokens[row][:length]
            ended = bool(ids) and ids[-1] == self.tokenizer.end_id
            flat.append((ids, logprobs[row][:length], ended))
            texts.append(ids[:-1] if ended else ids)
        decoded = self.tokenizer.tokenizer.decode_batch(texts, skip_special_tokens=False)
        out: list[Completion] = []
        for (ids, lp, ended), text in zip(flat, decoded):
            cut = min((at for s in stop if (at := text.find(s)) >= 0), default=None)
            reason: StopReason = "stop" if cut is not None else "end" if ended else "length"
            out.append(Completion(ids, lp, text[:cut], reason, self.version))
        return [out[p * n : (p + 1) * n] for p in range(P)]


class _Rows:
    """Which rows are still sampled and what they have got so far. Rows sit in prompt order, G' slots a prompt."""

    def __init__(self, P: int, n: int, steps: int) -> None:
        self.index = torch.arange(P * n)  # slot -> row
        self.live = torch.ones(P * n, dtype=torch.bool)
        self.prompts = P
        self.tokens = torch.zeros(P * n, steps, dtype=torch.long)
        self.logprobs = torch.zeros(P * n, steps, dtype=torch.float32)
        self.lengths = [0] * (P * n)
        self.tails = [""] * (P * n)

    def record(self, t: int, token: Tensor, logprob: Tensor) -> None:
        rows = self.index[self.live]
        self.tokens[rows, t] = token[self.live].cpu()
        self.logprobs[rows, t] = logprob[self.live].float().cpu()
        for row in rows.tolist():
            self.lengths[row] = t + 1

    def finish(self, done: Tensor) -> int:
        self.live &= ~done.cpu()
        return int(self.live.sum())

    def compact(self, below: float) -> tuple[Tensor, Tensor] | None:
        """Drops prompts without live rows and pads the others to the largest live group; (slots, prompts) kept.

        None, and nothing happens, where more than ``below`` of the slots would stay.
        """
        groups = self.live.view(self.prompts, -1)
        left = groups.sum(1)
        kept_prompts = left.nonzero()[:, 0]
        width = int(left.max())
        if len(kept_prompts) * width > below * len(self.live):
            return None
        # Live slots first within each prompt; the rest of the width is filled with finished ones, which stay dead.
        order = (~groups[kept_prompts]).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        slots = (kept_prompts[:, None] * groups.shape[1] + order).flatten()
        self.index, self.live, self.prompts = self.index[slots], self.live[slots], len(kept_prompts)
        return slots, kept_prompts


def sample(logits: Tensor, u: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens (R,) by inverse CDF at ``u`` (R,) and their log-probabilities under logits / temperature. logits (R, V)"""
    if temperature == 0:
        logprobs = torch.log_softmax(logits.float(), -1)
        token = logprobs.argmax(-1)
        return token, logprobs.gather(1, token[:, None])[:, 0]
    scaled = logits.float() if temperature == 1 else logits.float() / temperature
    p = torch.softmax(scaled, -1)
    cdf = p.cumsum(-1)
    # Relative to the last entry, so that rounding in the sum never leaves u beyond the end of the table.
    target = u.to(cdf.dtype).clamp(max=1 - 2.0**-24)[:, None] * cdf[:, -1:]
    token = torch.searchsorted(cdf, target, right=True)[:, 0].clamp_(max=logits.shape[1] - 1)
    return token, p.gather(1, token[:, None])[:, 0].log()


def _common_prefix(prompts: list[list[int]]) -> int:
    """Tokens that all prompts start with, leaving each at least one of its own."""
    low, high = min(prompts), max(prompts)
    most = min(len(p) for p in prompts) - 1
    shared = 0
    while shared < most and low[shared] == high[shared]:
        shared += 1
    return shared
