"""Tokenised text on disk, and windows of it as a function of (seed, step).

A text source is a frozen dataclass with a ``name`` and ``documents(split)``, an iterator that may be endless. A shard
is its tokens, each document after an end token, in one memory-mapped file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from foray.core import rng
from foray.core.canonical import added, content_hash, require
from foray.core.files import digest_of_input, read_object, write_atomic, writing
from foray.core.untrusted import expect
from foray.data.rows import Skipped, document, place, rows_of
from foray.data.tokenizer import TextTokenizer
from foray.data.unpacking import kind_of

WHERE_DATA_LIES = "say where the data lies: --set data.root=FOLDER for a study, --data-root FOLDER for foray eval"

TextSplit = Literal["train", "validation"]
TokenKind = Literal["tokens", "validation"]  # of a prepared part: to train on, and kept back


class TextSource(Protocol):
    @property
    def name(self) -> str: ...

    def documents(self, split: TextSplit) -> Iterator[str]: ...


@runtime_checkable
class EndlessText(Protocol):
    """A source without end that can begin anywhere: document number i is a function of (settings, split, i)."""

    endless: ClassVar[bool]

    @property
    def name(self) -> str: ...

    def documents(self, split: TextSplit, first: int = 0) -> Iterator[str]: ...


@dataclass(frozen=True)
class JsonlText:
    """Documents in one column of a file of JSON Lines, JSON, CSV, TSV or Parquet, also packed; ``meta.text`` is a
    column within one. Every ``holdout``-th row is kept for validation (0: none).

    A relative ``path`` lies below ``root``, which the study fills in from its ``data.root`` when empty. The hash is of
    the file's content, not of where it lies. A row without a text stops the study, or is counted and passed over
    (``skip_broken``).
    """

    name: str
    path: str
    column: str = "text"
    holdout: int = 50
    root: str = field(default="", metadata={"hash": False})
    skip_broken: bool = added(False)

    def fingerprint(self) -> str:
        return digest_of_input(self.file)

    @property
    def file(self) -> Path:
        file = Path(self.root) / self.path
        if not file.exists():
            raise ValueError(f"{file} does not exist; {WHERE_DATA_LIES}")
        return file

    def documents(self, split: TextSplit, skipped: Skipped | None = None) -> Iterator[str]:
        """The texts of a split. Raises ValueError naming file and line of a row that has none; or counts that row."""
        file, column, holdout, held = self.file, self.column, self.holdout, split == "validation"
        kind = kind_of(file, otherwise="jsonl")
        for number, (at, row, wrong) in enumerate(rows_of(file, kind, column), 1):
            text, words = ("", wrong) if wrong else document(row, column)
            if words and not self.skip_broken:
                raise ValueError(f"{place(file, kind, at)}: {words}")
            if (number % holdout == 0 if holdout else False) is held:
                if not words:
                    yield text
                elif skipped is not None:
                    skipped.add(lambda at=at, words=words: f"{place(file, kind, at)}: {words}")  # type: ignore[misc]


@runtime_checkable
class Skipping(Protocol):
    """A source that can count broken rows and pass them over."""

    skip_broken: bool

    def documents(self, split: TextSplit, skipped: Skipped | None = None) -> Iterator[str]: ...


def documents_of(source: TextSource, split: TextSplit, skipped: Skipped) -> Iterator[str]:
    """A source's documents; ``skipped`` hears of the broken rows where the source passes such over."""
    return source.documents(split, skipped) if skips(source) else source.documents(split)


def skips(source: TextSource) -> TypeGuard[Skipping]:
    return isinstance(source, Skipping) and source.skip_broken


@dataclass(frozen=True)
class Prepared:
    """One source of a corpus that ``foray prepare`` made in ``folder``, below ``root``.

    Its tokens are read where they lie; studies copy none of them. The hash is of the corpus's content, once it is
    there: a study can be planned before.
    """

    name: str
    folder: str = field(metadata={"hash": False})
    root: str = field(default="", metadata={"hash": False})

    def fingerprint(self) -> str:
        return str(self.index()["fingerprint"]) if (self.place / "index.json").exists() else "not prepared yet"

    @property
    def place(self) -> Path:
        return Path(self.root) / self.folder

    def documents(self, split: TextSplit) -> Iterator[str]:
        raise ValueError(f"{self.name} is a prepared corpus: its text is there as tokens only")

    def index(self) -> dict[str, Any]:
        """What the corpus holds. Raises ValueError where it is not there, or not whole."""
        file = self.place / "index.json"
        if not file.exists():
            raise ValueError(f"{self.place} holds no prepared corpus; make it with foray prepare MIX --out DIR")
        again = f"put it back, or make it anew: foray prepare MIX --out {self.place}"
        found = read_object(file, again, fingerprint=str, tokenizer=str, sources=list)
        part: dict[str, type] = {"stem": str, "dtype": str, "sha256_tokens": str, "sha256_validation": str}
        part |= dict.fromkeys(("used", "tokens", "validation"), int)
        try:
            for source in found["sources"]:
                for each in expect(source, file, name=str, files=list)["files"]:
                    expect(each, file, **part)
        except ValueError as e:
            raise ValueError(f"{e}; {again}") from None
        said = content_hash({k: v for k, v in found.items() if k != "fingerprint"})
        require(said == found["fingerprint"], f"{file} is damaged (its checksum has changed); {again}")
        return found

    def tokenizer(self) -> Path:
        """The folder of the tokenizer that its tokens are of. Raises ValueError where another one lies there."""
        folder = self.place / "tokenizer"
        if tokenizer_digest(folder) != self.index()["tokenizer"]:
            raise ValueError(f"{folder} is not the tokenizer that the corpus was made with; put that back")
        return folder


def tokenizer_digest(folder: Path) -> str:
    return content_hash({p.name: digest_of_input(p) for p in sorted(folder.glob("*")) if p.is_file()})


def sample_texts(mixture: Sequence[tuple[float, TextSource]], characters: int, whole_numbers: int = 0) -> list[str]:
    """What a tokenizer is trained on: the first training documents of every source, about ``characters`` in all,
    shared out by the weights, and every number up to ``whole_numbers`` often enough to become one token.
    """
    total = sum(w for w, _ in mixture)
    texts: list[str] = []
    for weight, source in mixture:
        budget = characters * weight / total
        for text in source.documents("train"):
            if budget <= 0:
                break
            texts.append(text)
            budget -= len(text)
    if whole_numbers:
        texts += [f" {number}" * (characters // 1000) for number in range(whole_numbers + 1)]
    return texts


def link_shard(source: Prepared, split: TextSplit, folder: Path, max_tokens: int) -> None:
    """A shard that says where a prepared source's tokens lie: as many as are wanted, or all of them.

    Reads the files once, at the speed of the disk, before hours are spent on them. Raises ValueError naming the first
    that is not as it was made.
    """
    found = next((s for s in source.index()["sources"] if s["name"] == source.name), None)
    if found is None:
        raise ValueError(f"{source.place} has no source {source.name}")
    files, total, digests = [], 0, {}
    kind: TokenKind = "tokens" if split == "train" else "validation"
    for file in found["files"]:
        count = min(file["used"] if split == "train" else file["validation"], max_tokens - total)
        if count > 0:
            name = f"{source.name}/{file['stem']}" + ("" if split == "train" else ".validation") + ".bin"
            if words := damage(source.place / name, file, kind):
                raise _to_mend(source.place, name, words)
            files.append([name, count, file[kind]])
            digests[name] = file[f"sha256_{kind}"]
            total += count
    if total == 0:
        raise ValueError(f"text source {source.name} has no {split} documents")
    meta = {"source": source.name, "split": split, "tokens": total, "dtype": found["files"][0]["dtype"], "files": files}
    meta |= {"place": str(source.place.resolve()), "sha256": digests}  # for foray check; a study says the place itself
    write_atomic(folder / "meta.json", json.dumps(meta, allow_nan=False) + "\n")


def linked(folder: Path) -> tuple[Path | None, dict[str, str]]:
    """Of a shard that only says where its tokens lie: that place, if it was written down, and SHA-256 by file."""
    meta = read_object(folder / "meta.json")
    if "files" not in meta:
        return None, {}
    digests = meta.get("sha256", {name: "" for name, *_ in meta["files"]})
    return Path(meta["place"]) if "place" in meta else None, digests


def damage(path: Path, part: Mapping[str, Any], kind: TokenKind) -> str:
    """What is wrong with a file of tokens by what was written down of its part; empty where nothing is."""
    if words := _wrong_size(path, part[kind] * np.dtype(part["dtype"]).itemsize):
        return words
    return "" if digest_of_input(path) == part[f"sha256_{kind}"] else "is damaged (its checksum has changed)"


def _wrong_size(path: Path, size: int, or_more: bool = False) -> str:
    if not path.exists():
        return "is missing"
    found = path.stat().st_size
    if found == size or (or_more and found > size):
        return ""
    return f"is damaged (it has {found:,} bytes, and {size:,} are wanted)"


def _to_mend(place: Path, name: str, words: str) -> ValueError:
    return ValueError(
        f"{place / name} {words}; the command that made it makes it again: foray prepare MIX --out {place}"
    )


def write_shard(source: TextSource, split: TextSplit, tokenizer: TextTokenizer, folder: Path, max_tokens: int) -> int:
    """Tokenises until ``max_tokens`` or the end of the source; returns the number of tokens. Memory: one batch."""
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
        raise ValueError(f"text source {source.name} has no {split} documents{all_broken(skipped)}")
    meta = {"source": source.name, "split": split, "tokens": total, "dtype": np.dtype(dtype).name}
    if skips(source):
        meta |= {"skipped": skipped.count, "first skipped": skipped.first}
    write_atomic(folder / "meta.json", json.dumps(meta, allow_nan=False) + "\n")
    return total


def all_broken(skipped: Skipped) -> str:
    """Words behind those for a source without documents, where broken rows were passed over."""
    return f": {skipped.count:,} broken rows were skipped, the first: {skipped.first}" if skipped.count else ""


class Shard:
    """Windows of ``length`` inputs and their targets, without overlap of inputs.

    ``base``: where the files of a prepared source lie.
    """

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        meta = read_object(folder / "meta.json", source=str, dtype=str)
        self.name: str = meta["source"]
        dtype = np.dtype(meta["dtype"])
        if base is None:
            self._parts: list[NDArray[Any]] = [np.memmap(folder / "tokens.bin", dtype=dtype, mode="r")]
        else:
            self._parts = [_mapped(base, name, dtype, *counts) for name, *counts in meta["files"]]
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.size = int(self._starts[-1])

    def read(self, start: int, stop: int) -> NDArray[np.integer[Any]]:
        """Tokens ``start`` to ``stop`` (or the end), from however many files."""
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

    def documents(self, end_id: int) -> Iterator[list[int]]:
        """The tokens of every document in turn, without the end token before it; the last one may be cut short."""
        rest = np.zeros(0, dtype=self._parts[0].dtype)
        for start in range(0, self.size, 1 << 20):
            part = np.concatenate([rest, self.read(start, start + (1 << 20))])
            *whole, rest = np.split(part, np.flatnonzero(part == end_id))
            yield from (d[d != end_id].tolist() for d in whole if len(d))
        yield rest[rest != end_id].tolist()


def _mapped(base: Path, name: str, dtype: np.dtype[Any], count: int, whole: int = 0) -> NDArray[np.integer[Any]]:
    """The first ``count`` tokens of a file of ``whole``, which shards of an earlier version do not say."""
    if words := _wrong_size(base / name, (whole or count) * dtype.itemsize, or_more=not whole):
        raise _to_mend(base, name, words)
    return np.memmap(base / name, dtype=dtype, mode="r", shape=(count,))


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
    """(source, window of its shard, how often that was drawn before) of rows ``first`` to ``first + count``.

    Each row's source is drawn by weight; a source's windows come in a random order, each once before any comes again.
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
    """Source of every row, and how often that source was drawn before; grown by doubling so that each step is cheap."""
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
