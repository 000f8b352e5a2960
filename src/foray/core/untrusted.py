"""Checks of files that anybody may have made: ordinary files, lines of bounded length, JSON with expected fields."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

LONGEST = 1 << 28  # bytes of a line, a row or a document: 256 MiB
PACKED = {  # by the ending of the name: the program that packs, and how a file of it begins
    ".gz": ("gzip", rb"\x1f\x8b"),
    ".zst": ("Zstandard", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
    ".bz2": ("bzip2", rb"BZh[1-9](1AY&SY|\x17rE8P)"),
    ".xz": ("xz", rb"\xfd7zXZ\x00"),
}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def ordinary(path: Path) -> Path:
    """The path itself. Raises OSError for a folder, pipe, device or socket: opening or reading one may never end."""
    mode = path.stat().st_mode
    what = next((name for is_such, name in _KINDS if is_such(mode)), "")
    if what:
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, f"{what}, and no ordinary file", str(path))
    return path


def lines_of(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The lines of an opened file. Raises ValueError naming the first line longer than ``LONGEST``."""
    for number, line in enumerate(iter(partial(file.readline, LONGEST + 1), b""), 1):
        if len(line) > LONGEST:
            raise ValueError(f"{path}, line {number}: {too_long()}")
        yield line


def whole(file: IO[bytes], path: Path, most: int = LONGEST) -> bytes:
    """The content of an opened file. Raises ValueError for more than ``most`` bytes."""
    content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path}: {too_long(most)}")
    return content


def not_a_pointer(path: Path) -> Path:
    """The path itself. Raises ValueError where a clone without Git LFS has left a pointer in the file's place."""
    with open(ordinary(path), "rb") as f:
        pointer = f.read(40).startswith(b"version https://git-lfs.github.com/")
    if pointer:
        raise ValueError(f"{path} is a pointer of Git LFS, not the file itself: git lfs pull brings that")
    return path


def packing(first: bytes) -> str:
    """The program that packed a file which begins so; an empty text for any other file."""
    return next((program for program, magic in PACKED.values() if re.match(magic, first)), "")


def encodable(text: str) -> bool:
    """Whether a text is of whole characters. JSON and Python can spell halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def too_long(most: int = LONGEST) -> str:
    return f"more than {most >> 20:,} MiB in one piece, which no row or document has: cut it into rows of its own"


def expect(value: Any, where: object, **kinds: type) -> dict[str, Any]:
    """``value`` as an object with fields of the given kinds. A whole number is a float too.

    Raises ValueError that names ``where`` the object stands.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} is damaged: it holds no settings by name")
    for name, kind in kinds.items():
        if name not in value:
            raise ValueError(f"{where} is damaged: it lacks the field {name}")
        found = value[name]
        fits = isinstance(found, (int, float) if kind is float else kind)
        if not fits or isinstance(found, bool):
            raise ValueError(f"{where} is damaged: {name} is {str(found)[:40]!r}, where {_WORDS[kind]} is needed")
    return value


_WORDS = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
