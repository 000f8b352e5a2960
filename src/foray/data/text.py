"""Text in place: files of any usual kind, or a data set on the hub, cut into parts that can be read one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from foray.core.canonical import added, require
from foray.core.field_types import require_types
from foray.core.files import digest_of_input, not_utf8, parsed
from foray.core.rng import key
from foray.core.untrusted import LONGEST, PACKED, too_long
from foray.data.hub import DataSet
from foray.data.rows import Skipped, cell, document, existing, flaw, parquet, place, rows_of
from foray.data.text_source import EndlessText, TextSource, TextSplit, documents_of
from foray.data.unpacking import LIBRARIES, Format, Kind, all_of, kind_of, opened, structure

PART_BYTES = 64 << 20  # of text a part, about
_ROWS = 256  # of a table, read together
_NUMBERS, _VALIDATION = 20_000, 1000  # documents of an endless source: in a part, and for validation
_TO_THE_END = 1 << 62


class TextPart(NamedTuple):
    """A piece of a source for one worker: ``start`` to ``end`` in bytes, row groups or hub shards."""

    kind: str  # lines, rows, csv, tsv, parquet, table, document, hub; of other sources: numbers, or a whole split
    place: str
    start: int
    end: int
    before: int = 0  # documents before the part's first; the count chooses documents for validation


class _FileText:
    """The common half of sources of rows or files: documents of a split, with broken rows refused or counted."""

    name: str
    column: str
    holdout: int
    skip_broken: bool
    hub: str = ""
    format: Format = ""

    def parts(self) -> Iterator[TextPart]:
        raise NotImplementedError

    def read(self, part: TextPart) -> Iterator[tuple[str, bool, Callable[[], str] | None]]:
        """(text, whether it is for validation, words for what is wrong with the row) of every row of a part.

        Raises ValueError for the first broken row, unless the source passes broken rows over.
        """
        for number, (text, wrong) in enumerate(_texts(self, part), part.before + 1):
            if wrong is not None and not self.skip_broken:
                raise ValueError(wrong())
            yield text, bool(self.holdout) and number % self.holdout == 0, wrong

    def documents(self, split: TextSplit, skipped: Skipped | None = None) -> Iterator[str]:
        """The texts of a split. Raises ValueError naming file and line of a broken row, or counts that row."""
        for part in self.parts():
            for text, held, wrong in self.read(part):
                if held is not (split == "validation"):
                    continue
                if wrong is None:
                    yield text
                elif skipped is not None:
                    skipped.add(wrong)


@dataclass(frozen=True)
class Text(_FileText):
    """Documents in one ``column`` (``meta.text``: a column within one): files below ``root`` that match ``path``, a
    glob, or a data set on the hub (``hub``, ``config``, ``revision``, files that match ``path``). A file is JSON Lines
    (also named .json), JSON of one value, CSV, TSV, Parquet or one document, by its name and content or by ``format``.
    All but Parquet may be packed as .gz, .zst, .bz2 or .xz.

    Every ``holdout``-th document of each file is for validation (0: none). A file with fewer documents has none for
    validation. Every ``holdout``-th file of plain text is for validation. In long JSON Lines every part after the first
    counts from a number drawn for the part, because a part's reader does not read earlier parts. A row without a text
    stops everything, or is counted and passed over (``skip_broken``).
    """

    name: str  # the name of the source in the mixture
    path: str = ""
    hub: str = ""
    config: str = ""
    revision: str = "main"
    split: str = "train"  # of the data set on the hub
    column: str = "text"
    holdout: int = 1000
    root: str = field(default="", metadata={"hash": False})
    format: Format = added("")
    skip_broken: bool = added(False)

    def __post_init__(self) -> None:
        require_types(self)
        require(bool(self.path or self.hub), f"source {self.name}: give a path of local files or a hub data set")
        file = bool(self.hub or Path(self.path).name)
        require(file, f"source {self.name}: {self.path} is a folder: name files in it, such as *.jsonl")
        require(self.holdout == 0 or self.holdout > 1, f"source {self.name}: holdout must be 0 or at least 2")

    def libraries(self) -> tuple[str, ...]:
        """The libraries that reading needs, by the names of files that exist or that ``path`` names."""
        below = bool(self.path) and not Path(self.path).is_absolute()
        found = [Path(self.path), *(Path(self.root).glob(self.path) if below else ())]
        return ("datasets",) if self.hub else tuple({LIBRARIES[f.suffix] for f in found if f.suffix in LIBRARIES})

    def data(self) -> Any:
        """The data set on the hub as a stream, opened anew in every worker."""
        files = {"data_files": self.path} if self.path else {}
        asked = DataSet(self.hub, self.config, self.revision)
        return asked.rows(f"source {self.name} ({self.hub})", self.config, self.split, streaming=True, **files)

    def parts(self) -> Iterator[TextPart]:
        if self.hub:
            for number in range(self.data().num_shards):
                yield TextPart("hub", self.hub, number, number + 1)
            return
        root, whole = Path(self.root), Path(self.root, self.path)
        below = not Path(self.path).is_absolute()
        files = sorted(p for p in root.glob(self.path) if p.is_file()) if below else [whole]
        folder = not files and whole.is_dir()
        require(not folder, f"source {self.name}: {whole} is a folder: name files in it, such as {self.path}/*.jsonl")
        require(bool(files) and files[0].exists(), f"source {self.name}: no file matches {whole}")
        texts = count()
        for file in files:
            yield from _file_parts(self, file, texts)


@dataclass(frozen=True)
class JsonlText(_FileText):
    """A study's own text: one file of rows, as in ``Text``. The key holds a hash of the content.

    A relative ``path`` lies below ``root``. A study fills in an empty root from its ``data.root``. The hash does not
    depend on where the file lies. Every ``holdout``-th row is kept for validation (0: none).
    """

    name: str  # the name of the source in the mixture
    path: str
    column: str = "text"  # the column with the text
    holdout: int = 50
    root: str = field(default="", metadata={"hash": False})
    skip_broken: bool = added(False)  # pass over a row without a text

    def __post_init__(self) -> None:
        require_types(self)

    def fingerprint(self) -> str:
        return digest_of_input(self.file)

    @property
    def file(self) -> Path:
        return existing(Path(self.root) / self.path)

    def parts(self) -> Iterator[TextPart]:
        yield TextPart(kind_of(self.file, otherwise="jsonl"), str(self.file), 0, _TO_THE_END)


def parts(source: TextSource) -> Iterator[TextPart]:
    """The parts of a source, always the same and in the same order."""
    if isinstance(source, EndlessText):
        yield TextPart("numbers", "validation", 0, _VALIDATION)  # first: reading ends with enough to train on
        for first in count(0, _NUMBERS):
            yield TextPart("numbers", "train", first, first + _NUMBERS)
    elif isinstance(source, Text):
        yield from source.parts()
    else:
        yield TextPart("split", "validation", 0, 0)
        yield TextPart("split", "train", 0, 0)


def _file_parts(source: Text, file: Path, texts: Iterator[int]) -> Iterator[TextPart]:
    kind: Kind = kind_of(file, source.format)
    if kind == "lines" and file.suffix.lower() not in PACKED:
        size = file.stat().st_size
        for start in range(0, size, PART_BYTES):
            drawn = key("holdout", source.name, file.name, start) % (source.holdout or 1) if start else 0
            yield TextPart("lines", str(file), start, min(start + PART_BYTES, size), drawn)
    elif kind == "parquet":
        described, rows = parquet(file).metadata, 0
        for group in range(described.num_row_groups):
            yield TextPart("table", str(file), group, group + 1, rows)
            rows += described.row_group(group).num_rows
    elif kind == "text":
        yield TextPart("document", str(file), 0, file.stat().st_size, next(texts))
    else:
        yield TextPart(kind, str(file), 0, _TO_THE_END)  # a reader cannot begin in the middle


def origin(source: TextSource, part: TextPart) -> tuple[str, list[int]]:
    """A part's name below the root, and the size and time of its file. Only files have a size and a time."""
    if not isinstance(source, Text) or part.kind == "hub":
        return part.place, []
    file = Path(part.place)
    stat = file.stat()
    below = file.relative_to(source.root) if file.is_relative_to(source.root) else file
    return str(below), [stat.st_size, stat.st_mtime_ns]


def documents(source: TextSource, part: TextPart, skipped: Skipped | None = None) -> Iterator[tuple[str, bool]]:
    """The texts of a part, each with whether it is for validation.

    Raises ValueError naming file and line of a broken row, or counts that row in ``skipped``.
    """
    skipped = Skipped() if skipped is None else skipped
    if isinstance(source, Text):
        for text, held, wrong in source.read(part):
            if wrong is None:
                yield text, held
            else:
                skipped.add(wrong)
        return
    split: TextSplit = "validation" if part.place == "validation" else "train"
    texts: Iterator[str]
    if isinstance(source, EndlessText):
        texts = islice(source.documents(split, part.start), part.end - part.start)
    else:
        texts = documents_of(source, split, skipped)
    yield from ((text, split == "validation") for text in texts)


_Read = tuple[str, Callable[[], str] | None]  # a text, or a maker of words for what is wrong with a row


def _texts(source: _FileText, part: TextPart) -> Iterator[_Read]:
    if part.kind == "document":
        yield _whole(source, Path(part.place))
    elif part.kind == "lines":
        yield from _lines(source, part)
    elif part.kind == "table":
        yield from _row_group(source, part)
    elif part.kind == "hub":
        assert isinstance(source, Text)
        data = source.data()
        for number, row in enumerate(data.shard(num_shards=data.num_shards, index=part.start), 1):
            yield _read(f"{source.hub}, shard {part.start}, row {number}", *document(row, source.column))
    else:
        kind: Any = part.kind
        path = Path(part.place)
        for number, content, wrong in rows_of(path, kind, source.column):
            text, words = ("", wrong) if wrong else document(content, source.column)
            yield _read(place(path, kind, number) if words else "", text, words)


def _read(where: str, text: str, words: str) -> _Read:
    return text, (lambda: f"{where}: {words}") if words else None


def _whole(source: _FileText, path: Path) -> _Read:
    """A file that is one document, with plain line ends. Raises ValueError if the file plainly is a table."""
    content = all_of(path)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        return _read(f"{path}, line {line}", "", not_utf8(e))
    if not source.format and (what := structure(text, source.column)):
        raise ValueError(
            f"{path}: by its name one document, but its content is {what}; name it so, or set format of source "
            f"{source.name} ('text' for one document a file)"
        )
    return text, None


def _row_group(source: _FileText, part: TextPart) -> Iterator[_Read]:
    table, column = parquet(Path(part.place)), source.column
    names = table.schema_arrow.names
    if column not in names and column.partition(".")[0] not in names:
        raise ValueError(f"{part.place}: no column {column!r} (it has {', '.join(names)})")
    row = part.before
    for batch in table.iter_batches(_ROWS, [part.start], [column if column in names else column.partition(".")[0]]):
        found = batch.schema.names
        if column in found:
            texts = batch.column(found.index(column)).to_pylist()
        else:
            texts = [cell(r, column) for r in batch.to_pylist()]
        for text in texts:
            row, words = row + 1, flaw(text, column)
            yield _read(f"{part.place}, row {row}", "", words) if words else (text, None)


def _lines(source: _FileText, part: TextPart) -> Iterator[_Read]:
    """The texts of the lines that begin within the part's bytes."""
    path = Path(part.place)
    with opened(path) as f:
        begins = 0
        if part.start:
            f.seek(part.start - 1)
            f.readline(LONGEST + 1)  # the rest of a line that began earlier, or the line end just before this part
            begins = f.tell()
        while begins < part.end and (line := f.readline(LONGEST + 1)):
            at, begins = begins, begins + len(line)
            if len(line) > LONGEST:
                raise ValueError(_placed(path, at, too_long())())
            if not line.strip():
                continue
            row, words = parsed(line)
            text, words = ("", words) if words else document(row, source.column)
            yield text, _placed(path, at, words) if words else None


def _placed(path: Path, offset: int, words: str) -> Callable[[], str]:
    return lambda: f"{path}, line {_line_number(path, offset)}: {words}"


def _line_number(path: Path, offset: int) -> int:
    with opened(path) as f:
        number = 1
        while offset > 0 and (block := f.read(min(offset, 1 << 20))):
            number += block.count(b"\n")
            offset -= len(block)
    return number
