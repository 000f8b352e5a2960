"""Rows of a batch as one flat sequence: a shared prompt is processed once, and there is little padding.

A packed sequence holds the prompts of some groups, and then blocks of rows of about equal length. A row attends to its
prompt and causally to itself.

Two ways of counting: a *position* is a (row, time) of the batch; a *place* counts the tokens of a packed sequence.

Shapes: B rows, T positions, M packed tokens, P prompts, H heads, K heads of keys and values, d head width, N scored
positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foray.core.batch import Batch
from foray.core.lora import LoRA
from foray.model import attention_in_c, flops
from foray.model.attention_in_c import Rows
from foray.model.config import ModelConfig
from foray.model.operators import attention

_SAME_BLOCK = 0.8  # a row shorter than this share of the longest row of a block starts the next block

V = TypeVar("V")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """``rows`` rows, padded to ``length`` tokens each, in a packed sequence."""

    rows: int
    length: int
    prompts: Tensor | None = None  # (rows,) index of the prompt that each row continues
    shared: Tensor | None = None  # (rows,) tokens of that prompt
    longest: int = 0  # tokens of the longest prompt of the sequence

    def to(self, device: torch.device) -> Block:
        prompts, shared = (None if x is None else x.to(device) for x in (self.prompts, self.shared))
        return Block(self.rows, self.length, prompts, shared, self.longest)

    @cached_property
    def bias(self) -> Tensor | None:
        """(rows, 1, length, longest prompt + length): 0 if a query may see a key of [prompt, own], else -inf."""
        if self.shared is None:
            return None
        n, device = self.length, self.shared.device
        before = (torch.arange(self.longest, device=device) < self.shared[:, None])[:, None, :].expand(-1, n, -1)
        own = torch.ones(n, n, dtype=torch.bool, device=device).tril().expand(self.rows, -1, -1)
        seen = torch.cat([before, own], 2)[:, None]
        return torch.zeros(seen.shape, device=device).masked_fill_(~seen, -torch.inf)


@dataclass(frozen=True)
class Packed:
    """A packed sequence with its attention. The scored position (row[i], time[i]) has the place place[i]."""

    tokens: Tensor  # (1, M)
    positions: Tensor  # (1, M)
    blocks: tuple[Block, ...]  # in order; if rows continue prompts, the first block is the prompts
    units: Rows  # the same rows without padding: each prompt and the rows that continue it
    place: Tensor  # (N,)
    row: Tensor  # (N,)
    time: Tensor  # (N,)

    def to(self, device: torch.device) -> Packed:
        """A copy with the tensors that the model needs on ``device``."""
        if device.type == "cpu":
            return self
        tokens, positions, place = (x.to(device) for x in (self.tokens, self.positions, self.place))
        return Packed(
            tokens, positions, tuple(b.to(device) for b in self.blocks), self.units, place, self.row, self.time
        )

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        H, d = q.shape[1], q.shape[3]
        q, k, v = (x.squeeze(0).transpose(0, 1) for x in (q, k, v))  # (M, H or K, d)
        if attention_in_c.available(q):
            return attention_in_c.attend(q, k, v, self.units).transpose(0, 1)[None]
        sizes = [b.rows * b.length for b in self.blocks]
        outs = []
        before: tuple[Tensor, Tensor] | None = None
        for b, *parts in zip(self.blocks, *(x.split(sizes) for x in (q, k, v))):
            # (rows x length, H or K, d) -> (rows, H or K, length, d)
            bq, bk, bv = (x.reshape(b.rows, b.length, -1, d).transpose(1, 2) for x in parts)
            if b.prompts is None:
                before = bk, bv
                out = attention(bq, bk, bv)
            else:
                assert before is not None
                pk, pv = (x.index_select(0, b.prompts) for x in before)
                out = attention(bq, torch.cat([pk, bk], 2), torch.cat([pv, bv], 2), b.bias)
            outs.append(out.transpose(1, 2).reshape(-1, H, d))
        return torch.cat(outs).transpose(0, 1)[None]  # (1, H, M, d)


@dataclass(frozen=True)
class Layout:
    """The spans of a batch's rows: times [0, shared) are the prompt, times [shared, ends) are the row's own. (B,) each

    Rows of one ``group`` share the prompt. ``ends``: one past the last scored time.
    """

    ends: Ints
    group: Ints
    shared: Ints

    @classmethod
    def of(cls, batch: Batch, scored: NDArray[np.bool_]) -> Layout:
        ends = scored.shape[1] - scored[:, ::-1].argmax(1)
        if batch.group is not None and batch.shared is not None:
            return cls(ends, batch.group.numpy(), batch.shared.numpy())
        return cls(ends, np.arange(batch.rows), np.zeros(batch.rows, dtype=np.int64))

    @cached_property
    def own(self) -> Ints:
        """Tokens of each row after its prompt; <= 0 if only the prompt is scored. (B,)"""
        return self.ends - self.shared


def pack(batch: Batch, where: Tensor, limit: int, rank: int = 0, ranks: int = 1) -> Iterator[Packed]:
    """All scored positions ``where`` (B, T) of a batch, in sequences of about ``limit`` tokens at most.

    Each of several ranks gets its share of the prompts. All ranks get equally many sequences: a rank with fewer gets
    sequences of one token that score nothing.
    """
    scored = where.numpy()
    layout = Layout.of(batch, scored)
    units = _units(np.flatnonzero(scored.any(1)), layout, limit)
    units.sort(key=lambda rows: (layout.shared[rows[0]], layout.ends[rows[0]]), reverse=True)

    def size(rows: list[int]) -> int:
        return int(layout.shared[rows[0]] + layout.own[rows].sum())

    shares = [list(_filled(units[r::ranks], size, limit)) for r in range(ranks)]
    for taken in shares[rank]:
        yield _packed(batch, scored, taken, layout)
    for _ in range(max(map(len, shares)) - len(shares[rank])):
        one, none = torch.zeros(1, 1, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        yield Packed(one, one, (Block(1, 1),), Rows.of([[(0, 1)]]), none, none, none)


def forward_flops(config: ModelConfig, batch: Batch, where: Tensor) -> float:
    """FLOPs of a forward pass that scores ``where`` (B, T), as the ledger counts: a group's prompt once, no padding."""
    return flops.forward(config, *_work(batch, where))


def update_flops(config: ModelConfig, batch: Batch, where: Tensor, lora: LoRA | None) -> float:
    """FLOPs of that pass and of the backward pass."""
    return flops.update(config, *_work(batch, where), lora)


def _work(batch: Batch, where: Tensor) -> tuple[float, float, float]:
    """Tokens, attending pairs and scored positions of a pass."""
    scored = where.numpy()
    layout = Layout.of(batch, scored)
    ends, shared, rows = layout.ends, layout.shared, np.flatnonzero(scored.any(1))
    _, first = np.unique(layout.group[rows], return_index=True)  # a row of each group
    prompts = shared[rows[first]]
    tokens = prompts.sum() + np.maximum(layout.own, 0)[rows].sum()
    seen = flops.pairs(0, prompts).sum() + flops.pairs(shared, np.maximum(ends, shared))[rows].sum()
    return float(tokens), float(seen), float(scored.sum())


def _units(rows: Ints, layout: Layout, limit: int) -> list[list[int]]:
    """Rows that share one pass over their prompt: a group, or a part of a group that exceeds ``limit`` tokens."""
    groups: dict[int, list[int]] = {}
    for r in rows.tolist():
        groups.setdefault(int(layout.group[r]), []).append(r)
    units: list[list[int]] = []
    for members in groups.values():
        members.sort(key=lambda r: layout.ends[r], reverse=True)
        units += _filled(members, lambda r: int(layout.own[r]), limit, int(layout.shared[members[0]]))
    return units


def _filled(items: Iterable[V], size: Callable[[V], int], limit: int, start: int = 0) -> Iterator[list[V]]:
    """Consecutive items in parts.

    ``start`` plus the sizes of a part's items exceed ``limit`` only if the part has a single item.
    """
    part: list[V] = []
    total = start
    for item in items:
        if part and total + size(item) > limit:
            yield part
            part, total = [], start
        part.append(item)
        total += size(item)
    if part:
        yield part


class _Sequence:
    """A packed sequence that grows by blocks.

    It knows the places of every row's first prompt token and first own token.
    """

    def __init__(self, text: Ints) -> None:
        self.text = text  # (B, T)
        self.blocks: list[Block] = []
        self.tokens, self.positions = list[Ints](), list[Ints]()
        self.length = 0
        self.prompt_place, self.own_place = (np.zeros(len(text), dtype=np.int64) for _ in range(2))

    def add(self, rows: list[int], first: Ints, last: Ints, block: Block) -> Ints:
        """Appends times ``first`` to ``last`` of rows, padded, as a block; returns the place of each row's first token.

        first, last, result: (rows,)
        """
        tokens = np.zeros((len(rows), block.length), dtype=np.int64)
        for i, (r, a, b) in enumerate(zip(rows, first, last)):
            tokens[i, : b - a] = self.text[r, a:b]
        begin = self.length
        self.length += tokens.size
        self.blocks.append(block)
        self.tokens.append(tokens.ravel())
        self.positions.append((first[:, None] + np.arange(block.length)).ravel())
        return begin + np.arange(len(rows)) * block.length


def _packed(batch: Batch, scored: NDArray[np.bool_], units: list[list[int]], layout: Layout) -> Packed:
    ends, shared = layout.ends, layout.shared
    sequence = _Sequence(batch.tokens.numpy())
    firsts = [rows[0] for rows in units]
    longest = int(shared[firsts].max())
    if longest:
        block = Block(len(units), longest)
        places = sequence.add(firsts, np.zeros(len(units), dtype=np.int64), shared[firsts], block)
        for rows, place in zip(units, places):
            sequence.prompt_place[rows] = place
    prompt_of = {r: i for i, rows in enumerate(units) for r in rows}
    for members in _alike(sorted(prompt_of, key=lambda r: layout.own[r], reverse=True), layout.own):
        length = int(layout.own[members[0]])
        which = torch.tensor([prompt_of[r] for r in members]) if longest else None
        before = torch.from_numpy(shared[members]) if longest else None
        block = Block(len(members), length, which, before, longest)
        sequence.own_place[members] = sequence.add(members, shared[members], ends[members], block)
    spans = [_spans(rows, sequence, shared, layout.own, bool(longest)) for rows in units]
    of_units = np.array(list(prompt_of))
    row, time = np.nonzero(scored[of_units])
    row = of_units[row]
    own = sequence.own_place[row] + time - shared[row]
    place = np.where(time < shared[row], sequence.prompt_place[row] + time, own)
    # Padding may lie beyond the context. Nothing reads padding, so any position does.
    at = np.minimum(np.concatenate(sequence.positions), max(int(ends.max()) - 1, 0))
    return Packed(
        torch.from_numpy(np.concatenate(sequence.tokens))[None], torch.from_numpy(at)[None], tuple(sequence.blocks),
        Rows.of(list(chain.from_iterable(spans))), *(torch.from_numpy(x) for x in (place, row, time)),
    )  # fmt: skip


def _spans(
    rows: list[int], sequence: _Sequence, shared: Ints, own: Ints, continues: bool
) -> Iterator[list[tuple[int, int]]]:
    """The units of rows that share a prompt: the prompt and its rows, or each row by itself if there are no prompts."""
    each = [(int(sequence.own_place[r]), int(own[r])) for r in rows if own[r] > 0]
    if continues:
        yield [(int(sequence.prompt_place[rows[0]]), int(shared[rows[0]])), *each]
    else:
        yield from ([span] for span in each)


def _alike(rows: list[int], length: Ints) -> Iterator[list[int]]:
    """Parts of the rows with tokens of their own, given longest first. A part ends where rows become much shorter."""
    block: list[int] = []
    for r in rows:
        if length[r] <= 0:
            break
        if block and length[r] < _SAME_BLOCK * length[block[0]]:
            yield block
            block = []
        block.append(r)
    if block:
        yield block
