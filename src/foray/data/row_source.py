"""A source of rows: a file or folder below a root, or a data set on the hub by its id. Each row names its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foray.core.files import digest_of_input, is_text
from foray.core.untrusted import PACKED, ordinary
from foray.data.hub import DataSet, datasets_library, loaded
from foray.data.rows import existing, flaw, place, rows_of
from foray.data.unpacking import LIBRARIES, kind_of

PlacedRow = tuple[str, dict[str, Any]]  # words for the place of the row, and its columns

_FILES = (".jsonl", ".ndjson", ".json", ".txt", ".csv", ".tsv", ".parquet", ".arrow", *PACKED)


@dataclass(frozen=True)
class RowSource:
    """``name`` is a path below ``root``, or a hub id if no file has that path."""

    root: str
    name: str

    @property
    def path(self) -> Path:
        return Path(self.root) / self.name

    @property
    def data_set(self) -> DataSet | None:
        """The data set on the hub, or None for files that lie, or should lie, below the root."""
        return None if self.path.exists() or self.name.endswith(_FILES) else DataSet.named(self.name)

    def rows(self, split: str) -> Iterator[PlacedRow]:
        """Every row, in order. ``split`` matters on the hub and in folders with several splits.

        Raises ValueError naming the missing or broken thing, with the file and line if there is a line.
        """
        if self.path.is_dir():
            yield from _folder(self.path, split)
        elif data_set := self.data_set:
            for config in data_set.configs(self.name):
                where = f"{data_set.id}{f':{config}' if config else ''} on the hub, split {split}"
                yield from _numbered(where, data_set.rows(self.name, config, split))
        else:
            yield from _file(existing(self.path))

    def fingerprint(self) -> str:
        """A string that changes when the rows do: digests of local files, the commit of a data set on the hub."""
        if self.path.is_dir():
            files = sorted(p for p in self.path.rglob("*") if p.is_file())
            parts = "".join(f"{p.relative_to(self.path)} {digest_of_input(p)}\n" for p in files)
            return hashlib.sha256(parts.encode()).hexdigest()
        if data_set := self.data_set:
            return f"{data_set.id}:{data_set.config}@{data_set.commit()}"
        return digest_of_input(existing(self.path))

    def libraries(self) -> tuple[str, ...]:
        """The libraries that reading needs: none for JSON files."""
        if self.path.is_dir():
            return () if _one_a_problem(self.path) else ("datasets",)
        needed = LIBRARIES.get(Path(self.name).suffix)
        return (needed,) if needed else ("datasets",) if self.data_set else ()

    def changed(self) -> int:
        """The time of the newest file in nanoseconds: for caches, never for results."""
        files = self.path.rglob("*") if self.path.is_dir() else [self.path] if self.path.exists() else []
        return max((p.stat().st_mtime_ns for p in files), default=0)


def text_of(where: str, row: dict[str, Any], *columns: str) -> str:
    """The text of the first named column that the row has. Raises ValueError naming the row and the columns."""
    for column in columns:
        value = row.get(column)
        if is_text(value) and value.strip():
            if words := flaw(value, column):
                raise ValueError(f"{where}: {words}")
            return value.strip()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    raise ValueError(f"{where}: expected the field {' or '.join(columns)} with text in it")


def _file(path: Path) -> Iterator[PlacedRow]:
    ordinary(path)
    if path.suffix == ".arrow":
        settings = {"data_files": str(path), "split": "train", "streaming": True}
        read = loaded(str(path), datasets_library().load_dataset, "arrow", **settings)
        yield from _numbered(str(path), _guarded(str(path), read))
        return
    kind = kind_of(path, otherwise="jsonl")
    for number, row, wrong in rows_of(path, kind):
        where = place(path, kind, number)
        if wrong:
            raise ValueError(f"{where}: {wrong}")
        yield _placed(where, row)


def _folder(path: Path, split: str) -> Iterator[PlacedRow]:
    """A folder of one JSON file a problem (as MATH was published), saved by ``datasets``, or as on the hub."""
    if files := _one_a_problem(path):
        for file in files:
            yield from _file(file)
        return
    library = datasets_library()
    if _saved(path):
        read = loaded(str(path), library.load_from_disk, str(path))
        if (path / "dataset_dict.json").exists():
            if split not in read:
                raise ValueError(f"{path} has no split {split!r} (it has {', '.join(read)})")
            read = read[split]
    else:
        read = loaded(str(path), library.load_dataset, str(path), split=split)
    yield from _numbered(str(path), read)


def _saved(path: Path) -> bool:
    return any((path / name).exists() for name in ("dataset_dict.json", "state.json"))


def _one_a_problem(path: Path) -> list[Path]:
    """The JSON files of a folder with one file a problem, in the order of their numbers. Empty for another folder."""
    tables = (".jsonl", ".csv", ".tsv", ".parquet", ".arrow")
    if _saved(path) or any(p.is_file() and p.suffix in tables for p in path.rglob("*")):
        return []
    return sorted(path.rglob("*.json"), key=_natural)


def _guarded(source: str, read: Any) -> Iterator[Any]:
    iterator = iter(read)
    while (row := loaded(source, next, iterator, None)) is not None:
        yield row


def _numbered(where: str, read: Any) -> Iterator[PlacedRow]:
    for number, row in enumerate(read, 1):
        yield _placed(f"{where}, row {number}", row)


def _placed(where: str, row: Any) -> PlacedRow:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object with named fields")
    return where, row


def _natural(path: Path) -> list[Any]:
    """Files in the order of their numbers: 2.json before 10.json."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", str(path)) if p]
