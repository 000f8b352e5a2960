"""Rows of files with columns, one at a time, and the text in a column."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foray.core.files import NotFinite, is_text, loads, not_utf8, parsed
from foray.core.untrusted import LONGEST, lines_of, ordinary
from foray.data.unpacking import BOM, Kind, all_of, opened

WHERE_DATA_LIES = "say where the data lies: --set data.root=FOLDER for a study, --data-root FOLDER for foray eval"
_TOGETHER = 256  # rows of a Parquet file, read together


Row = tuple[int, Any, str]  # number of its line, or of the row; its content; what is wrong with it, or empty


class MissingFile(ValueError):
    """A file that a study's settings name is not there. ``what`` says which."""

    def __init__(self, what: str, cure: str = WHERE_DATA_LIES) -> None:
        super().__init__(f"{what}; {cure}")
        self.what = what


def existing(path: Path) -> Path:
    """The path itself. Raises MissingFile, which names the fix, if nothing has this path."""
    if not path.exists():
        raise MissingFile(f"{path} does not exist")
    return path


def place(path: Path, kind: Kind, number: int) -> str:
    """Words for the place of a row of that number."""
    return f"{path}, {'line' if kind in ('lines', 'csv', 'tsv') else 'row'} {number}"


@dataclass
class Skipped:
    """Broken rows that were passed over: their number, and words for the first row."""

    count: int = 0
    first: str = ""

    def add(self, words: Callable[[], str]) -> None:
        if not self.count:
            self.first = words()
        self.count += 1


def cell(row: Any, column: str) -> Any:
    """The content of a column of that name, or within a column (``meta.text``); None if no column has the name."""
    if not isinstance(row, dict):
        return None
    if column in row:
        return row[column]
    head, dot, rest = column.partition(".")
    return cell(row.get(head), rest) if dot else None


def flaw(text: Any, column: str) -> str:
    """Why the content of a column is no document; empty for a document. For an error that names the row."""
    if not is_text(text):
        return f"{f'{text}, and ' if isinstance(text, NotFinite) else ''}no text in column {column!r}"
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as e:  # JSON can spell codes that are no characters, and no tokenizer takes these
        half = ascii(text[e.start])
        return f"the text in column {column!r} has half a surrogate pair ({half}): write the whole character, or none"
    return ""


def document(row: Any, column: str) -> tuple[str, str]:
    """The text in a row's column, and why the text is no document; empty for a document."""
    if not isinstance(row, dict):
        return "", f"no text in column {column!r}: not a JSON object"
    text = row.get(column)
    if type(text) is str and text.isascii():  # the usual case, millions of times
        return text, ""
    text = cell(row, column)
    words = flaw(text, column)
    if not words:
        return text, ""
    if text is None:
        names = ", ".join(map(str, list(row)[:20]))
        words += " (it is empty)" if column in row else f" (the row has {names})" if names else ""
    return "", words


def rows_of(path: Path, kind: Kind, column: str = "") -> Iterator[Row]:
    """All rows of a file in order. ``column``: a column that the rows have, if one is known.

    Raises ValueError, naming the file and perhaps the line, if nothing after a place can be read.
    """
    if kind == "lines":
        yield from _lines(path)
    elif kind == "rows":
        for number, row in enumerate(_one_value(path, column), 1):
            yield number, row, ""
    elif kind == "parquet":
        table = parquet(path)
        for number, row in enumerate((r for b in table.iter_batches(_TOGETHER) for r in b.to_pylist()), 1):
            yield number, row, ""
    else:
        assert kind in ("csv", "tsv"), f"{kind} has no rows"
        yield from _table(path, "," if kind == "csv" else "\t")


def _lines(path: Path) -> Iterator[Row]:
    with opened(path) as f:
        for number, line in enumerate(lines_of(f, path), 1):
            if line.strip():
                try:
                    row = loads(line)
                except (ValueError, RecursionError):
                    yield number, *parsed(line)  # ``parsed`` says what is wrong
                else:
                    yield number, row, ""


def _one_value(path: Path, column: str) -> list[Any]:
    """The rows of a JSON file of one value, read whole: an array, an object that has one in a field, or one row."""
    packed = all_of(path)
    try:
        content = loads(packed)
    except json.JSONDecodeError as e:
        more = "a second value begins here; write one array, or a value a line" if e.msg == "Extra data" else e.msg
        raise ValueError(f"{path}, line {e.lineno}: not JSON ({more})") from None
    except UnicodeDecodeError as e:
        line = packed.count(b"\n", 0, e.start) + 1
        raise ValueError(f"{path}, line {line}: {not_utf8(e)}") from None
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path}: not JSON ({type(e).__name__})") from None
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        alone = len(lists) != 1 or (column and cell(content, column) is not None)
        content = [content] if alone else lists[0]
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected an array of rows")
    return content


def _table(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows by the column names of a table's first line. A row's number is that of its first line.

    An empty field is None.
    """
    bad: list[str] = []
    csv.field_size_limit(LONGEST)  # documents are longer than the library's own limit

    def decoded() -> Iterator[str]:
        for number, line in enumerate(lines_of(f, path), 1):
            try:
                yield (line.removeprefix(BOM) if number == 1 else line).decode()
            except UnicodeDecodeError as e:
                bad.append(not_utf8(e))
                yield line.decode(errors="replace")

    with opened(path) as f:
        reader = csv.reader(decoded(), delimiter=delimiter, strict=True)
        names: list[str] | None = None
        while True:
            line = reader.line_num + 1
            bad.clear()
            try:
                fields = next(reader, None)
            except csv.Error as e:
                if "unexpected end" in str(e):
                    raise ValueError(f"{path}, line {line}: a quote that is opened here is not closed") from None
                if names is None:
                    raise ValueError(f"{path}, line {line}: no names of columns ({e})") from None
                yield line, None, f"not a row of a table ({e})"
                continue
            if fields is None:
                return
            if not fields:
                continue
            if names is None:
                names = fields
                if bad or len(set(names)) < len(names):
                    raise ValueError(f"{path}, line {line}: {bad[0] if bad else 'two columns have one name'}")
                continue
            wrong = bad[0] if bad else ""
            if not wrong and len(fields) != len(names):
                wrong = f"{len(fields)} fields, where the first line names {len(names)}"
            yield line, {n: v or None for n, v in zip(names, fields)}, wrong


def parquet(path: Path) -> Any:
    """The opened file. Raises ValueError if it is no Parquet file, or if the library is missing."""
    try:
        pq = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError("reading Parquet needs pyarrow: pip install -e '.[data]' in Foray's folder") from None
    try:
        return pq.ParquetFile(ordinary(path))
    except OSError:
        raise
    except Exception as e:  # pyarrow raises many kinds of its own
        raise ValueError(f"{path}: not a Parquet file ({e})") from None
