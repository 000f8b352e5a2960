"""The common half of the two embedded engines: weights, random numbers, one pass over the prompts, the sampler.

Shapes: P prompts, n samples of each prompt, T tokens, D width, V vocabulary, R rows that a pass computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foray.core import rng
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout import draw_in_c
from foray.rollout.cascade import Recorder, Segment
from foray.rollout.engine import Completion, Sampling, check_prompts, common_prefix
from foray.rollout.stopping import Endings
from foray.rollout.truncation import truncated

_BLOCK = 64  # tokens of the vocabulary whose probabilities are summed first


class EmbeddedEngine:
    """Samples with ``model``. ``sync`` replaces the model's weights unless the model is the trained model itself."""

    cached_casts = True  # whether autocast keeps its bf16 copies of weights during a call

    def __init__(self, model: Transformer, tokenizer: TextTokenizer, max_rows: int) -> None:
        self.config, self.model, self.max_rows, self.version = model.config, model, max_rows, 0
        self.endings = Endings(tokenizer, model.config.vocab_size)

    def sync(self, weights: Mapping[str, Tensor], version: int) -> None:
        """Copies ``weights`` (names as in a checkpoint) into the model, except tensors that are the model's own."""
        own: dict[str, Tensor] = self.model.state_dict()
        assert own.keys() == set(weights), "weights of another model"
        for name, w in weights.items():
            if own[name].data_ptr() != w.data_ptr():
                own[name].copy_(w)
        self.version = version

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> list[list[Completion]]:
        check_prompts(prompts, sampling, self.config.context)
        bf16 = sampling.precision == "bf16"
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=bf16, cache_enabled=self.cached_casts):
            tokens, logprobs = self.samples([list(p) for p in prompts], n, sampling, seeds)
        return self.endings.completions(tokens, logprobs, n, sampling.stop, self.version)

    def samples(
        self, prompts: list[list[int]], n: int, sampling: Sampling, seeds: Sequence[int]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Tokens and their log-probabilities of ``n`` samples of every prompt, in the order of the prompts."""
        raise NotImplementedError


def uniforms(seeds: Sequence[int], n: int, steps: int) -> NDArray[np.float64]:
    """u[s, t] decides token t of sample s, whatever the other samples. (P n, steps)"""
    keys = np.array([rng.key(s, j) for s in seeds for j in range(n)], dtype=np.uint64)
    return rng.uniform(keys[:, None], np.arange(steps, dtype=np.uint64)[None, :])


def read_prefix(model: Transformer, prompts: list[list[int]], least: int, multiple: int = 1) -> tuple[int, Recorder]:
    """Reads the prefix that all prompts share. Returns the number of tokens read, and their keys and values.

    The number is a multiple of ``multiple``, or 0 if the multiple is less than ``least``.
    """
    recorder = Recorder()
    shared = common_prefix(prompts) if len(prompts) > 1 else 0
    shared -= shared % multiple
    if shared < least:
        return 0, recorder
    model(torch.tensor([prompts[0][:shared]], device=model.device), None, recorder)
    return shared, recorder


def read_prompts(
    model: Transformer, rests: list[list[int]], shared: int, prefix: Segment | None
) -> tuple[Tensor, Tensor, Recorder]:
    """One pass over the prompts, which follow a prefix of ``shared`` tokens. Rows are padded on the right.

    Returns hidden states (P, T, D), a mask of the tokens (P, T), and keys and values.
    """
    device, lengths = model.device, torch.tensor([len(r) for r in rests])
    T = int(lengths.max())
    tokens = torch.tensor([r + [0] * (T - len(r)) for r in rests], device=device)
    positions = torch.arange(shared, shared + T, device=device).expand(len(rests), T)
    recorder = Recorder(prefix)
    h = model(tokens, positions, recorder)  # causal: no token sees the padding
    return h, torch.arange(T) < lengths[:, None], recorder


def sample(logits: Tensor, u: Tensor, sampling: Sampling, row: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Tokens (N,) by inverse CDF at ``u`` (N,), and their log-probabilities as ``Completion`` has them. logits (R, V)

    ``row`` (N,): the row of logits that each is drawn from; when None, each from its own. On a CPU C computes them.
    """
    temperature = sampling.temperature
    if temperature == 0:
        logprobs = torch.log_softmax(logits.float(), -1)
        token = logprobs.argmax(-1)
        found = token, logprobs.gather(1, token[:, None])[:, 0]
        return found if row is None else (found[0][row], found[1][row])
    compiled = draw_in_c.available(logits)
    if compiled:
        p = draw_in_c.probabilities(logits, temperature)
    else:
        p = torch.softmax(logits.float() if temperature == 1 else logits.float() / temperature, -1)
    if sampling.truncates:
        p = truncated(p, sampling)
    if row is None:
        row = torch.arange(len(p), device=p.device)
    return draw_in_c.draw(p, u, row) if compiled else _drawn(p, u, row)


def _drawn(p: Tensor, u: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (N,) of rows ``row`` (N,) of p (R, V) by inverse CDF at ``u`` (N,), and the logs of their probabilities.

    Draws a block of the vocabulary, then a token within the block, because running sums over all of V would take longer
    than the softmax.
    """
    V = p.shape[1]
    if V % _BLOCK:
        p = torch.nn.functional.pad(p, (0, -V % _BLOCK))
    blocks = p.view(len(p), -1, _BLOCK)
    sums = blocks.sum(-1)
    cdf = sums.cumsum(-1)
    # The target is relative to the last entry and below it: rounding in the sums never leads beyond the end of a table.
    # The first entry above a target is larger than the entry before it, so its token has a probability above 0.
    below_one = 1 - 2.0**-24
    cdf, before = cdf[row], (cdf - sums)[row]
    target = u.to(cdf.dtype).clamp(max=below_one)[:, None] * cdf[:, -1:]
    block = torch.searchsorted(cdf, target, right=True).clamp_(max=cdf.shape[1] - 1)  # (N, 1); beyond it for NaN
    rest = (target - before.gather(1, block)).clamp_(min=0)
    within = blocks[row, block[:, 0]].cumsum(-1)  # (N, tokens of a block)
    rest = rest.minimum(within[:, -1:] * below_one)
    token = block * _BLOCK + torch.searchsorted(within, rest, right=True)
    token.clamp_(max=V - 1)
    return token[:, 0], p[row, token[:, 0]].log()
