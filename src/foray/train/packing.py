"""Rows of a batch as one flat sequence: a prompt that rows share is processed once, and little is padding.

A packed sequence holds the prompts of some groups and, behind them, blocks of rows of about equal length. A row attends
to its prompt and causally to itself. Shapes: M packed tokens, P prompts, H heads, K heads of keys and values, d head
width, N scored positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foray.core.batch import Batch
from foray.model import flops
from foray.model.config import ModelConfig
from foray.model.operators import attention

_SAME_BLOCK = 0.8  # a row shorter than this share of a block's longest starts a block of its own

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """``rows`` rows, padded to ``length`` tokens each, in a packed sequence."""

    rows: int
    length: int
    prompts: Tensor | None = None  # (rows,) index of the prompt that each row continues
    bias: Tensor | None = None  # (rows, 1, length, longest prompt + length), -inf where a key does not count


@dataclass(frozen=True)
class Packed:
    """A packed sequence; an ``Attend`` of its own. ``place`` says where in it the scored (row, time) of a batch lie."""

    tokens: Tensor  # (1, M)
    positions: Tensor  # (1, M)
    blocks: tuple[Block, ...]  # in order; where rows continue prompts, the first block is the prompts
    place: Tensor  # (N,)
    row: Tensor  # (N,)
    time: Tensor  # (N,)

    def to(self, device: torch.device) -> Packed:
        """The same with the tensors that the model needs on ``device``."""
        if device.type == "cpu":
            return self
        blocks = tuple(
            Block(b.rows, b.length, *(None if x is None else x.to(device) for x in (b.prompts, b.bias)))
            for b in self.blocks
        )
        return Packed(
            self.tokens.to(device), self.positions.to(device), blocks, self.place.to(device), self.row, self.time
        )

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        H, d = q.shape[1], q.shape[3]
        sizes = [b.rows * b.length for b in self.blocks]
        outs = []
        before: tuple[Tensor, Tensor] | None = None
        for b, *parts in zip(self.blocks, *(x[0].transpose(0, 1).split(sizes) for x in (q, k, v))):
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


def pack(
    batch: Batch, where: Tensor, limit: int, rank: int = 0, ranks: int = 1, device: torch.device | None = None
) -> Iterator[Packed]:
    """All scored positions ``where`` (B, T) of a batch, in sequences of about ``limit`` tokens at most.

    Of several ranks each gets its share of the prompts, and as many sequences as the one with the most: what is missing
    has one token, and none that is scored. ``device``: where their largest tensors, the biases, are made.
    """
    scored = where.numpy()
    ends, group, shared = _layout(batch, scored)
    units = _units(np.flatnonzero(scored.any(1)), group, shared, ends, limit)
    units.sort(key=lambda rows: (shared[rows[0]], ends[rows[0]]), reverse=True)
    shares = [_together(units[r::ranks], shared, ends, limit) for r in range(ranks)]
    for taken in shares[rank]:
        yield _packed(batch, scored, taken, shared, ends, device)
    for _ in range(max(map(len, shares)) - len(shares[rank])):
        one, none = torch.zeros(1, 1, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        yield Packed(one, one, (Block(1, 1),), none, none, none)


def _together(units: list[list[int]], shared: Ints, ends: Ints, limit: int) -> list[list[list[int]]]:
    """Units by the sequence that they share."""
    out: list[list[list[int]]] = []
    size = 0
    for rows in units:
        more = int(shared[rows[0]] + sum(ends[r] - shared[r] for r in rows))
        if not out or size + more > limit:
            out.append([])
            size = 0
        out[-1].append(rows)
        size += more
    return out


def forward_flops(config: ModelConfig, batch: Batch, where: Tensor) -> float:
    """The ledger's count for a forward pass that scores ``where`` (B, T): a group's prompt once, no padding."""
    scored = where.numpy()
    ends, group, shared = _layout(batch, scored)
    rows = np.flatnonzero(scored.any(1))
    _, first = np.unique(group[rows], return_index=True)  # a row of each group
    prompts = shared[rows[first]]
    tokens = prompts.sum() + np.maximum(ends - shared, 0)[rows].sum()
    seen = flops.pairs(0, prompts).sum() + flops.pairs(shared, np.maximum(ends, shared))[rows].sum()
    return flops.forward(config, float(tokens), float(seen), float(scored.sum()))


def _layout(batch: Batch, scored: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Of every row: one past its last scored position, its group, and the tokens it shares with that. (B,) each"""
    ends = scored.shape[1] - scored[:, ::-1].argmax(1)
    if batch.group is not None and batch.shared is not None:
        return ends, batch.group.numpy(), batch.shared.numpy()
    return ends, np.arange(batch.rows), np.zeros(batch.rows, dtype=np.int64)


def _units(rows: Ints, group: Ints, shared: Ints, ends: Ints, limit: int) -> list[list[int]]:
    """Rows that are processed behind one prompt: a group, or parts of it where all of it exceeds ``limit`` tokens."""
    groups: dict[int, list[int]] = {}
    for r in rows.tolist():
        groups.setdefault(int(group[r]), []).append(r)
    units = []
    for members in groups.values():
        members.sort(key=lambda r: ends[r], reverse=True)
        part: list[int] = []
        size = int(shared[members[0]])
        for r in members:
            own = int(ends[r] - shared[r])
            if part and size + own > limit:
                units.append(part)
                part, size = [], int(shared[members[0]])
            part.append(r)
            size += own
        units.append(part)
    return units


def _packed(
    batch: Batch,
    scored: NDArray[np.bool_],
    units: list[list[int]],
    shared: Ints,
    ends: Ints,
    device: torch.device | None,
) -> Packed:
    text = batch.tokens.numpy()
    blocks: list[Block] = []
    tokens: list[Ints] = []
    positions: list[Ints] = []
    prompt_of = {r: i for i, rows in enumerate(units) for r in rows}
    T = max(int(shared[rows[0]]) for rows in units)  # longest prompt
    if T:
        prompts = np.zeros((len(units), T), dtype=np.int64)
        for i, rows in enumerate(units):
            prompts[i, : shared[rows[0]]] = text[rows[0], : shared[rows[0]]]
        tokens.append(prompts.ravel())
        positions.append(np.tile(np.arange(T), len(units)))
        blocks.append(Block(len(units), T))
    start = len(units) * T
    begins: dict[int, int] = {}  # row -> where its own tokens begin
    for members in _alike(sorted(prompt_of, key=lambda r: ends[r] - shared[r], reverse=True), ends - shared):
        L = int(ends[members[0]] - shared[members[0]])
        own = np.zeros((len(members), L), dtype=np.int64)
        for i, r in enumerate(members):
            own[i, : ends[r] - shared[r]] = text[r, shared[r] : ends[r]]
            begins[r] = start + i * L
        tokens.append(own.ravel())
        positions.append((shared[members][:, None] + np.arange(L)).ravel())
        which = torch.tensor([prompt_of[r] for r in members]) if T else None
        bias = _bias(torch.from_numpy(shared[members]).to(device), T, L) if T else None
        blocks.append(Block(len(members), L, which, bias))
        start += own.size
    row, time = np.nonzero(scored[list(prompt_of)])
    row = np.array(list(prompt_of))[row]
    own_start = np.array([begins.get(r, 0) for r in range(len(shared))])
    prompt_start = np.array([prompt_of.get(r, 0) * T for r in range(len(shared))])
    place = np.where(time < shared[row], prompt_start[row] + time, own_start[row] + time - shared[row])
    # Padding may stand beyond the context; it is never read, so any position does.
    at = np.minimum(np.concatenate(positions), max(int(ends.max()) - 1, 0))
    return Packed(
        torch.from_numpy(np.concatenate(tokens))[None], torch.from_numpy(at)[None], tuple(blocks),
        *(torch.from_numpy(x) for x in (place, row, time)),
    )  # fmt: skip


def _alike(rows: list[int], length: Ints) -> Iterator[list[int]]:
    """Rows with tokens of their own, longest first, cut where they become much shorter."""
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


def _bias(shared: Tensor, longest: int, length: int) -> Tensor:
    """0 for what of [prompt, own] keys the rows of a block may see. shared (rows,) -> (rows, 1, length, both)"""
    before = (torch.arange(longest, device=shared.device) < shared[:, None])[:, None, :].expand(-1, length, -1)
    own = torch.ones(length, length, dtype=torch.bool, device=shared.device).tril().expand(len(shared), -1, -1)
    seen = torch.cat([before, own], 2)[:, None]
    return torch.zeros(seen.shape, device=shared.device).masked_fill_(~seen, -torch.inf)
