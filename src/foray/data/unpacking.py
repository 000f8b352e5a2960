"""The format of a file of text, by its name and first bytes, and the unpacked bytes. Unknown formats are refused."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from foray.core.untrusted import LONGEST, PACKED, lines_of, not_a_pointer, ordinary, whole

Format = Literal["", "jsonl", "json", "csv", "tsv", "parquet", "text"]  # as a setting; empty: by name and content
Kind = Literal["lines", "rows", "csv", "tsv", "parquet", "text"]  # lines: a JSON value a line; rows: one JSON value

_BY_NAME: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".txt": "text", ".text": "text", ".md": "text",
}  # fmt: skip
LIBRARIES = {".parquet": "pyarrow", ".arrow": "datasets", ".zst": "zstandard"}  # needed for files of these names
_OTHERS = {
    "Parquet": rb"PAR1", "Arrow": rb"ARROW1\x00", "zip": rb"PK[\x03\x05][\x04\x06]", "7z": rb"7z\xbc\xaf\x27\x1c",
    "UTF-16": rb"\xff\xfe|\xfe\xff", "UTF-32": rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff",
}  # fmt: skip
BOM = b"\xef\xbb\xbf"  # some programs begin UTF-8 with it
_HEAD = 1 << 16


def unpacked_name(path: Path) -> str:
    """The name without the ending of the packing."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() in PACKED else path.name


def kind_of(path: Path, given: Format = "", otherwise: Format = "") -> Kind:
    """The kind of a file: by ``given``, else by its name. ``otherwise`` holds if the name is of no kind of rows.

    The content tells whether JSON is one value a line or one value. Raises ValueError for an unknown name, and for
    content that the name does not tell.
    """
    said: Format = given or _BY_NAME.get(Path(unpacked_name(path)).suffix.lower(), "")
    if said in ("", "text") and otherwise:
        said = otherwise
    if not said and path.suffix.lower() in PACKED:
        said = "jsonl"  # part-00001.gz, as corpora are published
    head = _head(path, said)
    if not said:
        ending = path.suffix or "without an ending"
        raise ValueError(
            f"{path}: what is in a file {ending}? Name it .jsonl, .json, .csv, .tsv or .parquet if it has columns, "
            ".txt if it is one document, or set format of its source"
        )
    if said == "parquet":
        if path.suffix.lower() in PACKED:
            raise ValueError(f"{path}: Parquet is packed within; unpack the file")
        return said
    if b"\0" in head:
        raise ValueError(f"{path}: there are zero bytes in it, as in UTF-16 or in no text at all; make it UTF-8 text")
    if said == "csv" or said == "tsv" or said == "text":
        return said
    return _json_kind(path, head, said)


def _head(path: Path, said: str) -> bytes:
    """The first bytes, unpacked. Raises ValueError if the name tells another format."""
    with open(not_a_pointer(path), "rb") as f:
        first = f.read(_HEAD)
    suffix = path.suffix.lower()
    if suffix in PACKED:
        what, magic = PACKED[suffix]
        if first and not re.match(magic, first):
            raise ValueError(f"{path}: damaged, or not packed with {what} at all; name it by what it is")
        with opened(path) as f:
            first = f.read(_HEAD)
    known = dict(PACKED.values()) | _OTHERS
    found = next((what for what, magic in reversed(known.items()) if re.match(magic, first)), "")
    if found in ("UTF-16", "UTF-32"):
        raise ValueError(f"{path}: not UTF-8 text but {found}; make it UTF-8, as iconv -f {found} -t UTF-8 does")
    if found and found.lower() != said:
        raise ValueError(f"{path}: what is in it is {found}, which its name does not say; unpack it or rename it")
    return first


def _json_kind(path: Path, head: bytes, said: str) -> Kind:
    """Whether JSON has a value a line or is one value, by the first character and the first two lines."""
    if head.removeprefix(BOM).lstrip()[:1] == b"[":
        return "rows"
    if said == "jsonl":
        return "lines"
    with opened(path) as f:
        first = list(islice((line for line in lines_of(f, path) if line.strip()), 2))
    objects = [isinstance(_value(line), dict) for line in first]
    return "lines" if not first or (any(objects) and len(first) > 1) else "rows"


def _value(line: bytes | str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def structure(text: str, column: str) -> str:
    """The kind of table in a text file that its name calls one document; empty if the text is no table."""
    lines = [line for line in text.lstrip().split("\n", 20)[:20] if line.strip()]
    if lines and lines[0].lstrip()[0] in "[{":
        rows = sum(isinstance(_value(line), dict) for line in lines)
        if len(lines) > 1 and 2 * rows >= len(lines):
            return "JSON Lines"
        if isinstance(_value(text), dict | list):
            return "JSON"
    first, second = [*lines, "", ""][:2]
    for delimiter, what in ((",", "CSV"), ("\t", "TSV"), (";", "CSV"), ("|", "CSV")):
        names = [name.strip().strip('"') for name in first.split(delimiter)]
        alike = all(re.fullmatch(r"[\w.-]+", name) for name in names) or second.count(delimiter) == len(names) - 1
        if second and len(names) > 1 and column in names and alike:
            return what
    return ""


def all_of(path: Path) -> bytes:
    """A file's content, unpacked. Raises ValueError if a packed file is too large for main memory."""
    with opened(path) as f:
        return whole(f, path, max(LONGEST, path.stat().st_size))


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked on reading. The end of the name tells the packing.

    Raises ValueError naming the file if the file is damaged or cut short.
    """
    suffix = ordinary(path).suffix.lower()
    what = PACKED.get(suffix, ("",))[0]
    ways: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _frames}
    try:
        with ways.get(suffix, lambda file: open(file, "rb"))(path) as f:
            yield f
    except EOFError:
        raise ValueError(
            f"{path}: damaged: it is cut short within its {what} data; copy it, or download it, again"
        ) from None
    except Exception as e:  # zstandard's own exception is known only if zstandard is installed
        broken = isinstance(e, zlib.error | lzma.LZMAError) or type(e).__name__ == "ZstdError"
        if what and (broken or (isinstance(e, OSError) and e.errno is None)):
            raise ValueError(f"{path}: damaged: not {what} data ({e}); copy it, or download it, again") from None
        raise


def _frames(path: Path) -> IO[bytes]:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise ValueError(f"{path}: reading .zst needs zstandard: pip install -e '.[data]' in Foray's folder") from None
    return io.BufferedReader(_Frames(path, zstandard.ZstdDecompressor(max_window_size=1 << 31)), 1 << 17)


class _Frames(io.RawIOBase):
    """All frames of a Zstandard file in a row. The library's own reader takes the end of the file for a frame's end.

    Raises EOFError if the file ends within a frame.
    """

    def __init__(self, path: Path, library: Any) -> None:
        self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115
        self._library = library
        self._frame: Any = None  # the frame that is being read
        self._packed, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            block = self._packed or self._file.read(1 << 12)  # a block unpacks to at most 128 MiB
            if not block:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or self._library.decompressobj()
            self._ready, self._packed = memoryview(self._frame.decompress(block)), b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
