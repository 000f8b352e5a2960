"""Text where it lies: files of any usual kind, or a data set on the hub, cut into parts that can be read one by one."""

from __future__ import annotations

import gzip
import importlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from foray.core.rng import key
from foray.core.spec import require
from foray.data.corpus import EndlessText, TextSource, TextSplit, flaw
from foray.data.hub import datasets_library, loaded

PART_BYTES = 64 << 20  # of text a part, about
_ROWS = 256  # of a table, read together
_NUMBERS, _VALIDATION = 20_000, 1000  # documents of an endless source: a part's, and those kept for validation
_LINES = (".jsonl", ".ndjson")
_PACKED = (".gz", ".zst")  # of JSON Lines, whatever stands before: .json.gz, .jsonl.zst


@dataclass(frozen=True)
class Text:
    """Documents in one ``column``: files below ``root`` that match ``path``, a glob (JSON Lines, also compressed;
    Parquet; plain text, a document a file), or a data set on the hub (``hub``, ``config``, ``revision``, files that
    match ``path``).

    Every ``holdout``-th document of each file is kept for validation (0: none), and so none of a file that has fewer;
    of plain text, every ``holdout``-th file. Long JSON Lines are counted anew in every part behind the first, from a
    number drawn for that part: what stands before it is not read.
    """

    name: str
    path: str = ""
    hub: str = ""
    config: str = ""
    revision: str = "main"
    split: str = "train"
    column: str = "text"
    holdout: int = 1000
    root: str = field(default="", metadata={"hash": False})

    def __post_init__(self) -> None:
        require(bool(self.path or self.hub), f"source {self.name}: give a path of local files or a hub data set")
        require(self.holdout == 0 or self.holdout > 1, f"source {self.name}: holdout must be 0 or at least 2")

    def libraries(self) -> tuple[str, ...]:
        """As the files that are there, or are named, want them."""
        names = {".parquet": "pyarrow", ".zst": "zstandard"}
        found = (
            (self.path, *(p.name for p in Path(self.root).glob(self.path))) if _is_below(self.path) else (self.path,)
        )
        return ("datasets",) if self.hub else tuple({names[s] for n in found if (s := Path(n).suffix) in names})

    def documents(self, split: TextSplit) -> Iterator[str]:
        for part in parts(self):
            yield from (text for text, kept in documents(self, part) if kept == (split == "validation"))


def _is_below(path: str) -> bool:
    return bool(path) and not Path(path).is_absolute()


class Part(NamedTuple):
    """A piece of a source that one worker reads: ``start`` to ``end`` in bytes, row groups or hub shards."""

    kind: str  # lines, table, document, hub; of a source that is no Text: numbers of documents, or a whole split
    place: str
    start: int
    end: int
    before: int = 0  # documents counted before its first one, by which those for validation are chosen


def parts(source: TextSource) -> Iterator[Part]:
    """The pieces of a source, always the same and in the same order."""
    if isinstance(source, EndlessText):
        yield Part("numbers", "validation", 0, _VALIDATION)  # first: reading ends where there is enough to train on
        for first in count(0, _NUMBERS):
            yield Part("numbers", "train", first, first + _NUMBERS)
    elif not isinstance(source, Text):
        yield Part("split", "validation", 0, 0)
        yield Part("split", "train", 0, 0)
    else:
        yield from _text_parts(source)


def _text_parts(source: Text) -> Iterator[Part]:
    if source.hub:
        for number in range(_hub(source).num_shards):
            yield Part("hub", source.hub, number, number + 1)
        return
    root = Path(source.root)
    files = sorted(p for p in root.glob(source.path) if p.is_file()) if not Path(source.path).is_absolute() else [
        Path(source.path)
    ]  # fmt: skip
    require(bool(files) and files[0].exists(), f"source {source.name}: no file matches {root / source.path}")
    texts = count()
    for file in files:
        if file.suffix in _LINES:
            size = file.stat().st_size
            for start in range(0, size, PART_BYTES):
                drawn = key("holdout", source.name, file.name, start) % (source.holdout or 1) if start else 0
                yield Part("lines", str(file), start, min(start + PART_BYTES, size), drawn)
        elif file.suffix in _PACKED:
            yield Part("lines", str(file), 0, 1 << 62)  # cannot be entered in the middle
        elif file.suffix == ".parquet":
            described, rows = _parquet(file).metadata, 0
            for group in range(described.num_row_groups):
                yield Part("table", str(file), group, group + 1, rows)
                rows += described.row_group(group).num_rows
        else:
            yield Part("document", str(file), 0, file.stat().st_size, next(texts))


def origin(source: TextSource, part: Part) -> tuple[str, list[int]]:
    """What a part is read from: its name below the root, and the size and time of its file where it has one."""
    if not isinstance(source, Text) or part.kind == "hub":
        return part.place, []
    file = Path(part.place)
    stat = file.stat()
    below = file.relative_to(source.root) if file.is_relative_to(source.root) else file
    return str(below), [stat.st_size, stat.st_mtime_ns]


def documents(source: TextSource, part: Part) -> Iterator[tuple[str, bool]]:
    """The texts of a part, each with whether it is kept for validation.

    Raises ValueError naming the file and the line, or row, that has none.
    """
    if isinstance(source, Text):
        for number, text in enumerate(_texts(source, part), part.before + 1):
            yield text, bool(source.holdout) and number % source.holdout == 0
        return
    split: TextSplit = "validation" if part.place == "validation" else "train"
    texts: Iterator[str]
    if isinstance(source, EndlessText):
        texts = islice(source.documents(split, part.start), part.end - part.start)
    else:
        texts = source.documents(split)
    yield from ((text, split == "validation") for text in texts)


def _texts(source: Text, part: Part) -> Iterator[str]:
    if part.kind == "document":
        try:
            yield Path(part.place).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{part.place}: not UTF-8 text") from None
    elif part.kind == "lines":
        yield from _lines(source, part)
    elif part.kind == "table":
        table = _parquet(Path(part.place))
        if source.column not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise ValueError(f"{part.place}: no column {source.column!r} (it has {names})")
        rows = (batch.column(0).to_pylist() for batch in table.iter_batches(_ROWS, [part.start], [source.column]))
        for number, text in enumerate(chain.from_iterable(rows), part.before + 1):
            if words := flaw(text, source.column):
                raise ValueError(f"{part.place}, row {number}: {words}")
            yield text
    else:
        data = _hub(source)
        for number, row in enumerate(data.shard(num_shards=data.num_shards, index=part.start), 1):
            if words := flaw(row.get(source.column), source.column):
                raise ValueError(
                    f"{source.hub}, shard {part.start}, row {number}: {words} (the row has {', '.join(row)})"
                )
            yield row[source.column]


def _lines(source: Text, part: Part) -> Iterator[str]:
    """Of the lines that begin within the part's bytes."""
    with _opened(Path(part.place)) as f:
        if part.start:
            f.seek(part.start - 1)
            f.readline()  # the rest of a line that began before, or the line end just before this part
        while (at := f.tell()) < part.end and (line := f.readline()):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            words = flaw(row.get(source.column), source.column) if isinstance(row, dict) else "not a JSON object"
            if words:
                raise ValueError(f"{part.place}, line {_line_number(part.place, at)}: {words}")
            yield row[source.column]


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file of lines, unpacked as it is read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                yield packed  # type: ignore[misc]
        elif path.suffix == ".zst":
            try:
                zstandard = importlib.import_module("zstandard")
            except ImportError:
                raise ValueError(f"{path}: reading .zst needs zstandard: pip install 'foray[data]'") from None
            with zstandard.open(path, "rb") as packed:
                yield io.BufferedReader(packed)
        else:
            with open(path, "rb") as plain:
                yield plain
    except Exception as e:  # zstandard's own kind is known only where it is installed
        if isinstance(e, gzip.BadGzipFile | EOFError) or type(e).__name__ == "ZstdError":
            raise ValueError(f"{path}: damaged ({e})") from None
        raise


def _line_number(path: str, offset: int) -> int:
    with _opened(Path(path)) as f:
        number = 1
        while offset > 0 and (block := f.read(min(offset, 1 << 20))):
            number += block.count(b"\n")
            offset -= len(block)
    return number


def _parquet(path: Path) -> Any:
    try:
        pq = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError("reading Parquet needs pyarrow: pip install 'foray[data]'") from None
    try:
        return pq.ParquetFile(path)
    except Exception as e:  # pyarrow's own kinds, none of them narrower than this
        raise ValueError(f"{path}: not a Parquet file ({e})") from None


def _hub(source: Text) -> Any:
    """The data set as a stream, opened anew in every worker."""
    files = {"data_files": source.path} if source.path else {}
    return loaded(
        f"source {source.name} ({source.hub})", datasets_library().load_dataset, source.hub, source.config or None,
        split=source.split, revision=source.revision, streaming=True, **files,
    )  # fmt: skip
