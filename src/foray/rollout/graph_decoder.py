"""Decoding with static tensors. A GPU records a step once and replays the step as a CUDA graph.

Shapes: R slots, T new tokens at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from foray.core.machine import free_memory
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer
from foray.rollout.embedded import sample
from foray.rollout.engine import Precision, Sampling
from foray.rollout.pages import LANES, Pages

_MOST_MEMORY, _LEAST_MEMORY = 0.85, 0.25  # shares of a GPU's free memory that keys and values may take
_PAGES = 64  # a decoder has a multiple of this many pages, because each number of pages compiles anew


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder's tensors: slots, bunches, pages, positions a page, and new tokens at most."""

    slots: int
    bunches: int
    pages: int
    size: int
    steps: int
    dtype: torch.dtype

    @classmethod
    def wanted(cls, most_rows: int, size: int, prompts: Sequence[Sequence[int]], n: int, sampling: Sampling) -> Shape:
        slots = min(most_rows, len(prompts) * n)
        own = -(-sampling.max_new_tokens // size)
        prompt = -(-max(len(p) for p in prompts) // size)
        # Room for the prompts of the rows in slots: twice the prompts that fill the slots, because some groups have
        # only a last row left.
        groups = min(len(prompts), 2 * (slots // n + 1))
        dtype = torch.bfloat16 if sampling.precision == "bf16" else torch.float32
        pages = 1 + slots * own + (groups + 1) * (prompt + 1)
        # As many bunches as rows would always be enough.
        bunches = 1 + min(slots, 2 * (slots // n + 1) * -(-n // LANES))
        return cls(slots, bunches, -(-pages // _PAGES) * _PAGES, size, sampling.max_new_tokens, dtype)

    def holds(self, other: Shape) -> bool:
        """Whether a decoder of this shape serves the other shape. The number of slots does not matter."""
        wide = self.pages >= other.pages and self.bunches >= other.bunches
        return wide and self.steps >= other.steps and self.dtype == other.dtype

    def covering(self, other: Shape) -> Shape:
        names = ("slots", "bunches", "pages", "steps")
        return replace(self, **{name: max(getattr(self, name), getattr(other, name)) for name in names})

    def fitted(self, config: ModelConfig, device: torch.device, reserve: float) -> Shape:
        """The part of the shape that a GPU's free memory holds beside ``reserve`` bytes."""
        if device.type != "cuda":
            return self
        free_memory()
        free = torch.cuda.mem_get_info()[0]
        page = 2 * config.layers * config.groups * config.head_dim * self.size * self.dtype.itemsize
        room = min(_MOST_MEMORY * free, max(_LEAST_MEMORY * free, free - reserve))
        most = max(1, int(room / page) // _PAGES) * _PAGES
        if most >= self.pages:
            return self
        return replace(self, slots=max(1, self.slots * most // self.pages), pages=most)


class Decoder:
    """The static tensors of decoding, and the step on them."""

    def __init__(self, model: Transformer, trained: Transformer, wanted: Shape, shape: Shape, ends: Tensor) -> None:
        self.model, self.trained, self.ends, self.stale = model, trained, ends, True
        self.wanted, self.shape = wanted, shape
        self.device = trained.device
        sizes = (shape.slots, shape.bunches, shape.pages, shape.size)
        self.pages = Pages(model.config, *sizes, shape.dtype, self.device)
        R, T, device = shape.slots, shape.steps, self.device
        self.live = torch.zeros(R, dtype=torch.bool, device=device)
        self.token, self.position, self.count = (torch.zeros(R, dtype=torch.long, device=device) for _ in range(3))
        self.own = torch.zeros(R, -(-T // shape.size), dtype=torch.long, device=device)  # the row's own pages
        self.u = torch.zeros(R, T, dtype=torch.float64, device=device)
        self.tokens = torch.zeros(R, T, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(R, T, device=device)
        self.limit = torch.zeros((), dtype=torch.long, device=device)
        self.index = torch.arange(R, device=device)
        self._graphs: dict[tuple[float, ...], torch.cuda.CUDAGraph] = {}  # by the law of sampling

    def refresh(self) -> None:
        """Copies the trained weights into the bf16 copies of matrices, if these copies exist."""
        if self.stale and self.model is not self.trained:
            theirs = dict(self.trained.named_parameters(remove_duplicate=False))
            for name, p in self.model.named_parameters(remove_duplicate=False):
                if p is not theirs[name]:
                    p.copy_(theirs[name])
        self.stale = False

    def steps(self, number: int, sampling: Sampling) -> None:
        if self.device.type != "cuda":
            for _ in range(number):
                self.step(sampling)
            return
        graph = self._graphs[sampling.law]
        for _ in range(number):
            graph.replay()

    def ready(self, sampling: Sampling) -> None:
        """Records the step for ``sampling``. No slot holds a row then, so the recorded steps change nothing."""
        self.live.zero_()
        if self.device.type != "cuda" or sampling.law in self._graphs:
            return
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # compiles, and lets libraries allocate their workspaces
                self.step(sampling)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may be saving
            self.step(sampling)
        self._graphs[sampling.law] = graph

    def step(self, sampling: Sampling) -> None:
        """One more token for every live row. The host waits for no value."""
        pages, live, index = self.pages, self.live, self.index
        place = (self.count - 1).clamp_(min=0)  # index of the input token among the row's own tokens
        number, offset = place // pages.size, place % pages.size
        page = self.own[index, number] * live
        pages.at.copy_(page * pages.size + offset * live)
        pages.own.seen[index, page] = ((offset + 1) * live + ~live).int()
        pages.own.listed.copy_((number + 1) * live + ~live)
        h = self.model(self.token[:, None], self.position[:, None], pages)
        at = self.count.clamp(max=self.shape.steps - 1)
        token, logprob = sample(self.model.lm_head(h[:, 0]), self.u[index, at], sampling)
        self.tokens[index, at] = torch.where(live, token, self.tokens[index, at])
        self.logprobs[index, at] = torch.where(live, logprob, self.logprobs[index, at])
        self.token.copy_(torch.where(live, token, self.token))
        self.count += live
        self.position += live
        live &= ~self.ends[token] & (self.count < self.limit)


def decoding_model(trained: Transformer, precision: Precision) -> Transformer:
    """The model itself, or in bf16 a model with bf16 copies of the matrices that shares all other tensors.

    The model with copies computes what autocast would compute, without casting fp32 weights at every step.
    """
    if precision == "fp32":
        return trained
    with torch.device("meta"):
        model = Transformer(trained.config)
    for name, p in trained.named_parameters(remove_duplicate=False):
        *path, leaf = name.split(".")
        owner = model.get_submodule(".".join(path))
        copied = isinstance(owner, nn.Linear) and p.dim() == 2
        setattr(owner, leaf, nn.Parameter(p.detach().to(torch.bfloat16), requires_grad=False) if copied else p)
    model.cos, model.sin = trained.cos, trained.sin
    return model.eval().move(trained.machine)
