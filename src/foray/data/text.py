"""Text where it lies: files of any usual kind, or a data set on the hub, cut into parts that can be read one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from foray.core.canonical import added, require
from foray.core.files import not_utf8, parsed
from foray.core.rng import key
from foray.core.untrusted import LONGEST, too_long
from foray.data.corpus import EndlessText, TextSource, TextSplit, documents_of
from foray.data.hub import datasets_library, loaded
from foray.data.rows import Skipped, cell, document, flaw, parquet, place, rows_of
from foray.data.unpacking import PACKED, Format, Kind, all_of, kind_of, known, opened, structure

PART_BYTES = 64 << 20  # of text a part, about
_ROWS = 256  # of a table, read together
_NUMBERS, _VALIDATION = 20_000, 1000  # documents of an endless source: a part's, and those kept for validation


@dataclass(frozen=True)
class Text:
    """Documents in one ``column`` (``meta.text``: a column within one): files below ``root`` that match ``path``, a
    glob, or a data set on the hub (``hub``, ``config``, ``revision``, files that match ``path``). A file is JSON Lines
    (also named .json), JSON of one value, CSV, TSV, Parquet or one document, by its name and content, or what
    ``format`` says; all but Parquet also packed as .gz, .zst, .bz2 or .xz.

    Every ``holdout``-th document of each file is kept for validation (0: none), and so none of a file that has fewer;
    of plain text, every ``holdout``-th file. Long JSON Lines are counted anew in every part behind the first, from a
    number drawn for that part: what stands before it is not read. A row without a text stops everything, or is counted
    and passed over (``skip_broken``).
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
    format: Format = added("")
    skip_broken: bool = added(False)

    def __post_init__(self) -> None:
        require(bool(self.path or self.hub), f"source {self.name}: give a path of local files or a hub data set")
        require(not known(self.format), f"source {self.name}: {known(self.format)}")
        require(self.holdout == 0 or self.holdout > 1, f"source {self.name}: holdout must be 0 or at least 2")

    def libraries(self) -> tuple[str, ...]:
        """As the files that are there, or are named, want them."""
        names = {".parquet": "pyarrow", ".zst": "zstandard"}
        found = (
            (self.path, *(p.name for p in Path(self.root).glob(self.path))) if _is_below(self.path) else (self.path,)
        )
        return ("datasets",) if self.hub else tuple({names[s] for n in found if (s := Path(n).suffix) in names})

    def documents(self, split: TextSplit, skipped: Skipped | None = None) -> Iterator[str]:
        for part in parts(self):
            yield from (text for text, kept in documents(self, part, skipped) if kept == (split == "validation"))


def _is_below(path: str) -> bool:
    return bool(path) and not Path(path).is_absolute()


class Part(NamedTuple):
    """A piece of a source that one worker reads: ``start`` to ``end`` in bytes, row groups or hub shards."""

    kind: str  # lines, rows, csv, tsv, table, document, hub; of a source that is no Text: numbers, or a whole split
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
        kind: Kind = kind_of(file, source.format)
        if kind == "lines" and file.suffix.lower() not in PACKED:
            size = file.stat().st_size
            for start in range(0, size, PART_BYTES):
                drawn = key("holdout", source.name, file.name, start) % (source.holdout or 1) if start else 0
                yield Part("lines", str(file), start, min(start + PART_BYTES, size), drawn)
        elif kind == "parquet":
            described, rows = parquet(file).metadata, 0
            for group in range(described.num_row_groups):
                yield Part("table", str(file), group, group + 1, rows)
                rows += described.row_group(group).num_rows
        elif kind == "text":
            yield Part("document", str(file), 0, file.stat().st_size, next(texts))
        else:
            yield Part(kind, str(file), 0, 1 << 62)  # cannot be entered in the middle


def origin(source: TextSource, part: Part) -> tuple[str, list[int]]:
    """What a part is read from: its name below the root, and the size and time of its file where it has one."""
    if not isinstance(source, Text) or part.kind == "hub":
        return part.place, []
    file = Path(part.place)
    stat = file.stat()
    below = file.relative_to(source.root) if file.is_relative_to(source.root) else file
    return str(below), [stat.st_size, stat.st_mtime_ns]


def documents(source: TextSource, part: Part, skipped: Skipped | None = None) -> Iterator[tuple[str, bool]]:
    """The texts of a part, each with whether it is kept for validation.

    Raises ValueError naming the file and the line, or row, that has none, or counts it in ``skipped``.
    """
    skipped = Skipped() if skipped is None else skipped
    if isinstance(source, Text):
        for number, (text, wrong) in enumerate(_texts(source, part), part.before + 1):
            if wrong is None:
                yield text, bool(source.holdout) and number % source.holdout == 0
            elif source.skip_broken:
                skipped.add(wrong)
            else:
                raise ValueError(wrong())
        return
    split: TextSplit = "validation" if part.place == "validation" else "train"
    texts: Iterator[str]
    if isinstance(source, EndlessText):
        texts = islice(source.documents(split, part.start), part.end - part.start)
    else:
        texts = documents_of(source, split, skipped)
    yield from ((text, split == "validation") for text in texts)


_Read = tuple[str, Callable[[], str] | None]  # a text, or the words for what is wrong with a row: made where wanted


def _texts(source: Text, part: Part) -> Iterator[_Read]:
    if part.kind == "document":
        yield _whole(source, Path(part.place))
    elif part.kind == "lines":
        yield from _lines(source, part)
    elif part.kind == "table":
        yield from _row_group(source, part)
    elif part.kind == "hub":
        data = _hub(source)
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


def _whole(source: Text, path: Path) -> _Read:
    """A file that is one document, with the line ends of this world. Raises ValueError where it plainly is a table."""
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


def _row_group(source: Text, part: Part) -> Iterator[_Read]:
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


def _lines(source: Text, part: Part) -> Iterator[_Read]:
    """Of the lines that begin within the part's bytes."""
    path = Path(part.place)
    with opened(path) as f:
        begins = 0
        if part.start:
            f.seek(part.start - 1)
            f.readline(LONGEST + 1)  # the rest of a line that began before, or the line end just before this part
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


def _hub(source: Text) -> Any:
    """The data set as a stream, opened anew in every worker."""
    files = {"data_files": source.path} if source.path else {}
    return loaded(
        f"source {source.name} ({source.hub})", datasets_library().load_dataset, source.hub, source.config or None,
        split=source.split, revision=source.revision, streaming=True, **files,
    )  # fmt: skip
