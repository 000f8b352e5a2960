"""Tokenized text on disk, and windows of it as a function of (seed, step).

A shard holds the tokens of one text source in memory-mapped files, with an end token before each document.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foray.core import rng
from foray.core.files import json_text, read_object, write_atomic, writing
from foray.data.prepared import mapped
from foray.data.rows import Skipped
from foray.data.text_source import TextSource, TextSplit, documents_of, no_documents, skips
from foray.data.tokenizer import TextTokenizer


def write_shard(source: TextSource, split: TextSplit, tokenizer: TextTokenizer, folder: Path, max_tokens: int) -> int:
    """Tokenizes up to ``max_tokens`` or the end of the source. Returns the number of tokens. Memory: one batch."""
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    total, skipped = 0, Skipped()
    documents = documents_of(source, split, skipped)
    with writing(folder / "tokens.bin"), open(folder / "tokens.bin", "wb") as f:
        while total < max_tokens and (texts := list(itertools.islice(documents, 256))):
            for ids in tokenizer.encode_batch(texts):
                row = np.array([*tokenizer.separator, *ids], dtype=dtype)[: max_tokens - total]
                f.write(row.tobytes())
                total += len(row)
    if total == 0:
        raise ValueError(no_documents(source, split, skipped))
    meta = {"source": source.name, "split": split, "tokens": total, "dtype": np.dtype(dtype).name}
    if skips(source):
        meta |= {"skipped": skipped.count, "first skipped": skipped.first}
    write_atomic(folder / "meta.json", json_text(meta) + "\n")
    return total


class Shard:
    """Windows of ``length`` inputs and their targets, without overlap of inputs.

    ``base``: the folder of a prepared source's files.
    """

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        meta = read_object(folder / "meta.json", source=str, dtype=str)
        self.name: str = meta["source"]
        dtype = np.dtype(meta["dtype"])
        if base is None:
            self._parts: list[NDArray[Any]] = [np.memmap(folder / "tokens.bin", dtype=dtype, mode="r")]
        else:
            self._parts = [mapped(base, name, dtype, *counts) for name, *counts in meta["files"]]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.size = int(self._starts[-1])

    def read(self, start: int, stop: int) -> NDArray[np.integer[Any]]:
        """Tokens ``start`` to ``stop``, or to the end. They may lie in several files."""
        stop = min(stop, self.size)
        first, last = (int(np.searchsorted(self._starts, at, side="right")) - 1 for at in (start, max(start, stop - 1)))
        pieces = [
            self._parts[i][max(0, start - self._starts[i]) : stop - self._starts[i]] for i in range(first, last + 1)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def windows(self, length: int) -> int:
        count = (self.size - 1) // length
        if count < 1:
            raise ValueError(f"text source {self.name} has {self.size} tokens: too few for a window of {length}")
        return count

    def window(self, index: int, length: int) -> NDArray[np.int64]:
        """(length + 1,) tokens: inputs and, shifted by one, targets."""
        return self.read(index * length, index * length + length + 1).astype(np.int64)

    def documents(self, end_id: int, first: int = 0, stop: int | None = None) -> Iterator[list[int]]:
        """The tokens of every document in turn, without its end token. The last document may be cut short.

        Of tokens ``first`` to ``stop``, by default all.
        """
        stop = self.size if stop is None else stop
        rest = np.zeros(0, dtype=self._parts[0].dtype)
        for start in range(first, stop, 1 << 20):
            part = np.concatenate([rest, self.read(start, min(start + (1 << 20), stop))])
            *whole, rest = np.split(part, np.flatnonzero(part == end_id))
            yield from (d[d != end_id].tolist() for d in whole if len(d))
        yield rest[rest != end_id].tolist()


def mixed_windows(
    shards: Mapping[str, Shard],
    mixture: Sequence[tuple[float, str]],
    length: int,
    seed_key: int,
    first: int,
    count: int,
) -> NDArray[np.int64]:
    """Rows ``first`` to ``first + count`` of an endless shuffled mixture, (count, length + 1)."""
    order = window_order(shards, mixture, length, seed_key, first, count)
    return np.stack([shards[name].window(window, length) for name, window, _ in order])


def window_order(
    shards: Mapping[str, Shard],
    mixture: Sequence[tuple[float, str]],
    length: int,
    seed_key: int,
    first: int,
    count: int,
) -> list[tuple[str, int, int]]:
    """(source, window of its shard, number of earlier draws of that window) of rows ``first`` to ``first + count``.

    Each row's source is drawn by weight. The windows of a source come in a random order. Each window comes once before
    any window comes again.
    """
    weights = np.array([w for w, _ in mixture])
    names = [name for _, name in mixture]
    choice, use = _plan(tuple(weights / weights.sum()), seed_key, first + count)
    rows = []
    for g in range(first, first + count):
        shard = shards[names[choice[g]]]
        epoch, at = divmod(int(use[g]), shard.windows(length))
        order = _order(seed_key, names[choice[g]], epoch, shard.windows(length))
        rows.append((names[choice[g]], int(order[at]), epoch))
    return rows


def _plan(weights: tuple[float, ...], seed_key: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The source of every row, and the number of its earlier draws. Grows by doubling, so each step is cheap."""
    return _plan_of_size(weights, seed_key, 1 << max(10, (rows - 1).bit_length()))


@lru_cache(maxsize=4)
def _plan_of_size(weights: tuple[float, ...], seed_key: int, rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    u = rng.uniform(seed_key, np.arange(rows, dtype=np.uint64))
    choice = np.searchsorted(np.cumsum(weights)[:-1], u, side="right")
    use = np.zeros(rows, dtype=np.int64)
    for s in range(len(weights)):
        mine = choice == s
        use[mine] = np.arange(mine.sum())
    return choice, use


@lru_cache(maxsize=64)
def _order(seed_key: int, name: str, epoch: int, windows: int) -> NDArray[np.int64]:
    return rng.permutation(rng.key(seed_key, name, epoch), windows)
