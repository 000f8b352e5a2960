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
from foray.rollout.engine import Completion, Sampling, check_prompts, common_prefix
from foray.rollout.stopping import Endings

_COMPACT_BELOW = 0.8  # rows left after dropping finished ones, as a share, at which copying the caches pays
_ROW_IN_POSITIONS = 128  # what else a row costs a step, in positions attended to; more for larger models
_BLOCK = 64  # tokens of the vocabulary whose probabilities are summed first
_MIN_PREFIX = 16  # a shorter shared prefix is cheaper to process with every prompt than as a segment of its own


class TorchEngine:
    """Samples with its own copy of the weights, or with a model that somebody else keeps up to date."""

    def __init__(
        self, config: ModelConfig, tokenizer: TextTokenizer, *, model: Transformer | None = None, max_rows: int = 512
    ) -> None:
        self.config, self.tokenizer, self.max_rows = config, tokenizer, max_rows
        self.model = model if model is not None else Transformer(config)
        self.version = 0
        self.endings = Endings(tokenizer, config.vocab_size)

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        take_over(self.model, weights)
        self.version = version

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        check_prompts(prompts, sampling, self.config.context)
        out: list[list[Completion]] = []
        per_batch = max(1, self.max_rows // n)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=sampling.precision == "bf16"):
            for start in range(0, len(prompts), per_batch):
                part = slice(start, start + per_batch)
                out += self._batch([list(p) for p in prompts[part]], n, sampling, list(seeds[part]))
        return out

    def _batch(self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: list[int]) -> list[list[Completion]]:
        segments, hidden = self._prefill(prompts)
        P, device, steps = len(prompts), self.model.device, sampling.max_new_tokens
        rows = _Rows(P, n, steps, device)
        # u[r, t] decides token t of row r whoever shares its batch.
        keys = np.array([rng.key(s, j) for s in seeds for j in range(n)], dtype=np.uint64)
        u = torch.from_numpy(rng.uniform(keys[:, None], np.arange(steps, dtype=np.uint64)[None, :])).to(device)
        position = torch.tensor([len(p) for p in prompts], device=device).repeat_interleave(n)  # of the next token
        cascade = Cascade(segments, P * n)
        logits = self.model.lm_head(hidden).repeat_interleave(n, 0)  # (R, V)
        for t in range(steps):
            token, logprob = sample(logits, u[:, t], sampling.temperature)
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
        return self._completions(rows, P, n, sampling.stop)

    def _prefill(self, prompts: list[list[int]]) -> tuple[list[Segment], Tensor]:
        """Segments of the shared prefix (if worth one) and of the prompts' rests, and the last hidden states (P, D)."""
        device = self.model.device
        shared = common_prefix(prompts) if len(prompts) > 1 else 0
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
        """Which slots (R,) end with their token number ``t``."""
        done = self.endings.ends(token.device)[token]
        if stop:
            # Only a token that holds the last character of a stop string can complete it.
            slots = (rows.live & self.endings.closing(stop, token.device)[token]).nonzero()[:, 0]
            ends = self.endings.stopped(rows.tokens[rows.index[slots], : t + 1].tolist(), stop)
            done[slots] |= torch.tensor(ends, dtype=torch.bool, device=done.device)
        return done

    def _completions(self, rows: _Rows, P: int, n: int, stop: tuple[str, ...]) -> list[list[Completion]]:
        lengths = rows.lengths.tolist()
        tokens, logprobs = (
            [row[:length] for row, length in zip(x.tolist(), lengths)] for x in (rows.tokens, rows.logprobs)
        )
        out = self.endings.completions(tokens, logprobs, stop, self.version)
        return [out[p * n : (p + 1) * n] for p in range(P)]


class _Rows:
    """Which rows are still sampled and what they have got so far. Slots sit in prompt order, equally many a prompt."""

    def __init__(self, P: int, n: int, steps: int, device: torch.device) -> None:
        self.index = torch.arange(P * n, device=device)  # slot -> row
        self.live = torch.ones(P * n, dtype=torch.bool, device=device)  # (slots,)
        self.prompts = P
        self.tokens = torch.zeros(P * n, steps, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(P * n, steps, device=device)
        self.lengths = torch.full((P * n,), steps, device=device)

    def record(self, t: int, token: Tensor, logprob: Tensor) -> None:
        """Of all slots: what a finished row gets lies behind its end."""
        self.tokens[self.index, t] = token
        self.logprobs[self.index, t] = logprob

    def finish(self, t: int, done: Tensor) -> int:
        """Ends the slots that are done with token ``t``; returns how many are left."""
        self.lengths[self.index[done & self.live]] = t + 1
        self.live &= ~done
        return int(self.live.sum())

    def compact(self, left: int, prompt_length: int) -> tuple[Tensor, Tensor] | None:
        """Drops finished slots; returns the slots kept and, for equally many of them each, the prompts they continue.

        Groups stay together, padded to the largest with slots that stay dead, unless computing those would cost more
        than a copy of its prompt's keys and values for every row. None, and nothing happens, where too little would go.
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


def take_over(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Copies ``weights`` (names as in a checkpoint) into the model, one at a time, unless they are its own already."""
    own: dict[str, Tensor] = model.state_dict()
    assert own.keys() == set(weights), "weights of another model"
    for name, w in weights.items():
        if own[name].data_ptr() != w.data_ptr():
            own[name].copy_(w)


def sample(logits: Tensor, u: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tokens (R,) by inverse CDF at ``u`` (R,) and their log-probabilities under logits / temperature. logits (R, V)

    In two steps, a block of the vocabulary and a token within it: running sums over all of V would take longer than
    the softmax.
    """
    if temperature == 0:
        logprobs = torch.log_softmax(logits.float(), -1)
        token = logprobs.argmax(-1)
        return token, logprobs.gather(1, token[:, None])[:, 0]
    p = torch.softmax(logits.float() if temperature == 1 else logits.float() / temperature, -1)
    if p.shape[1] % _BLOCK:
        p = torch.nn.functional.pad(p, (0, -p.shape[1] % _BLOCK))
    blocks = p.view(len(p), -1, _BLOCK)
    sums = blocks.sum(-1)
    cdf = sums.cumsum(-1)
    # Relative to the last entry and below it, so that rounding in the sums never leads beyond the end of a table; a
    # table's first entry above a target rises there, so what it stands for is not impossible.
    below_one = 1 - 2.0**-24
    target = u.to(cdf.dtype).clamp(max=below_one)[:, None] * cdf[:, -1:]
    block = torch.searchsorted(cdf, target, right=True).clamp_(max=cdf.shape[1] - 1)  # (R, 1); beyond it for NaN
    rest = (target - (cdf - sums).gather(1, block)).clamp_(min=0)
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK))[:, 0].cumsum(-1)  # (R, block)
    rest = rest.minimum(within[:, -1:] * below_one)
    token = block * _BLOCK + torch.searchsorted(within, rest, right=True)
    token.clamp_(max=logits.shape[1] - 1)
    return token[:, 0], p.gather(1, token)[:, 0].log()
