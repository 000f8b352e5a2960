"""Atomic writes, strict JSON, and folders sealed by a list of checksums: damage to a file is always found."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeGuard

from foray.core.canonical import content_hash
from foray.core.untrusted import expect, lines_of, not_a_pointer, ordinary, packing

SEAL = "DONE"
LOCK = ".lock"
DRAWING = ".foray-report"  # in a folder that a report is being drawn into
SLOTS = ("resume-a", "resume-b")  # of a node's rolling checkpoint, written in turn
SPEC = "spec.json"  # of a node: the name of the folder holds the hash of this file
NODE = re.compile(r".+-[0-9a-f]{16}")  # a node's folder: its kind and the hash of its spec
# A report reads these of a training node.
TRAINING_FILES = ("metrics.jsonl", "rollouts.jsonl", "health.json", "provenance.json")
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
GONE = ".gone"  # ends the name of a folder that is being removed


class Damaged(ValueError):
    """A file of the sealed ``folder`` is not as it was sealed."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{what}; delete {folder} and run again")
        self.folder, self.what = folder, what


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file beside the target and renames the file, so that a reader sees either the old or the new content.

    Raises OSError naming the target where the disk is full or broken.
    """
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as e:  # a failed write names no file, a failed rename two files
        with suppress(OSError):
            temporary.unlink()
        raise OSError(e.errno, e.strerror, str(path)) from None


def temporary_name(path: Path) -> Path:
    """A new name for what takes the place of ``path``. Processes of two machines may have one number."""
    return path.with_name(f".{path.name}.{os.getpid()}{secrets.randbelow(10**9):09}.tmp")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Inside, an OSError that names no file, such as that of a full disk, names ``path``."""
    try:
        yield
    except OSError as e:
        if e.errno is None or e.filename is not None:
            raise
        raise OSError(e.errno, e.strerror, str(path)) from None


@contextmanager
def alone_in(folder: Path, otherwise: str) -> Iterator[Path]:
    """The folder, made if need be: inside, no other process is in it. The lock ends with the process.

    Raises ValueError(otherwise) where another process is in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as f:
        if not locked(f):
            raise ValueError(otherwise)
        yield folder


def locked(file: IO[str]) -> bool:
    """Takes the lock of an open file. Returns False where another process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON. A float that is not finite becomes a text that ``float`` reads: NaN, Infinity or -Infinity."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_spelled(value), indent=indent, allow_nan=False)


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """``json_text`` and a line's end, written at once."""
    write_atomic(path, json_text(value, indent) + "\n")


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: _spelled(v) for k, v in value.items()}
    return [_spelled(v) for v in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, otherwise: str = "delete its folder and run again") -> Any:
    """The value in a JSON file. Raises ValueError where the file is damaged; ``otherwise`` says what to do then."""
    try:
        return json.loads(ordinary(path).read_bytes())
    except json.JSONDecodeError as e:
        not_a_pointer(path)
        raise ValueError(f"{path} is damaged (line {e.lineno}: {e.msg}); {otherwise}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged (not UTF-8 text); {otherwise}") from None
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, brackets without end
        raise ValueError(f"{path} is damaged ({type(e).__name__}); {otherwise}") from None


def read_object(path: Path, otherwise: str = "delete its folder and run again", /, **kinds: type) -> dict[str, Any]:
    """The object in a JSON file, with fields of the given kinds. Raises ValueError as ``read_json`` does."""
    found = read_json(path, otherwise)
    try:
        return expect(found, path, **kinds)
    except ValueError as e:
        raise ValueError(f"{e}; {otherwise}") from None


def read_jsonl(path: Path) -> list[Any]:
    """All rows of a JSON Lines file. Raises ValueError naming file and line."""
    return [row for _, row in iter_jsonl(path)]


def read_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a log such as ``metrics.jsonl``. Floats that ``json_text`` spelled out are floats again."""
    rows = [expect(row, f"{path}, line {number},") for number, row in iter_jsonl(path)]
    return [{k: float(v) if isinstance(v, str) and v in NOT_FINITE else v for k, v in row.items()} for row in rows]


def iter_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row) of a JSON Lines file, one at a time. Raises ValueError naming file and line.

    NaN, Infinity and 1e999 are read as ``loads`` reads them.
    """
    with open(ordinary(path), "rb") as f:
        for number, line in enumerate(lines_of(f, path), 1):
            if line.strip():
                row, wrong = parsed(line)
                if wrong:
                    raise ValueError(f"{path}, line {number}: {wrong}")
                yield number, row


def lines_in(path: Path) -> int:
    """The number of lines of a file; the last one may lack its end."""
    lines, last = 0, b"\n"
    with open(ordinary(path), "rb") as f:
        while block := f.read(1 << 20):
            lines, last = lines + block.count(b"\n"), block[-1:]
    return lines + (last != b"\n")


def parsed(line: bytes) -> tuple[Any, str]:
    """The value of a line of JSON Lines, and what is wrong with the line: an empty text where nothing is."""
    try:
        return loads(line), ""
    except json.JSONDecodeError as e:
        return None, f"not JSON ({e.msg})"
    except UnicodeDecodeError as e:
        return None, not_utf8(e)
    except (ValueError, RecursionError) as e:  # a number of thousands of digits, brackets without end
        return None, f"not JSON ({type(e).__name__})"


def not_utf8(e: UnicodeDecodeError) -> str:
    """A message about a text that is not UTF-8, with the first wrong byte."""
    if program := packing(e.object):
        return f"packed with {program}: unpack the file"
    return f"not UTF-8 text (byte 0x{e.object[e.start]:02x} at {e.start})"


class NotFinite(str):
    """NaN, Infinity or 1e999 where a JSON text has a value: JSON has no such numbers. It is no text of anybody's."""


def is_text(value: Any) -> TypeGuard[str]:
    """Whether a value out of a JSON text is a text."""
    return isinstance(value, str) and not isinstance(value, NotFinite)


def loads(content: bytes) -> Any:
    """The value of a JSON text, with ``NotFinite`` for what JSON has no numbers for."""
    return _DECODER.decode(content.decode(json.detect_encoding(content), "surrogatepass"))


def _finite(text: str) -> float | NotFinite:
    value = float(text)
    return value if math.isfinite(value) else NotFinite(text)


_DECODER = json.JSONDecoder(parse_constant=NotFinite, parse_float=_finite)  # made once: making one is slow


def digest(path: Path) -> str:
    with open(ordinary(path), "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest_of_input(path: Path) -> str:
    """``digest``, computed once a process unless size or time of the file changes: inputs of studies may be large."""
    stat = path.stat()
    return _digest_at(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _digest_at(path: Path, changed: int, size: int) -> str:
    return digest(path)


def seal(folder: Path, **facts: Any) -> None:
    """Declares a folder complete: writes ``DONE``, the last file, with the SHA-256 of every file below.

    Rolling checkpoints are no part of it: they stay until the seal is there, since a kill may come before.
    """
    there = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in (SEAL, LOCK, DRAWING)]
    names = {p: p.relative_to(folder) for p in there}
    files = {str(name): digest(p) for p, name in names.items() if name.parts[0].removesuffix(GONE) not in SLOTS}
    write_atomic(folder / SEAL, json.dumps({**facts, "files": files}, indent=1, allow_nan=False) + "\n")


def sealed(folder: Path) -> bool:
    return (folder / SEAL).exists()


def sealed_files(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a sealed folder, by path. Raises Damaged where the list cannot be read."""
    if not sealed(folder):
        raise ValueError(f"{folder} is incomplete: it has no {SEAL}")
    try:
        files = dict(read_json(folder / SEAL)["files"])
    except (ValueError, KeyError, TypeError):
        files = {"": 0}
    if not all(isinstance(text, str) for pair in files.items() for text in pair):
        raise Damaged(folder, f"{folder / SEAL} is damaged")
    return files


def verify(folder: Path, under: str | tuple[str, ...] = "") -> None:
    """Raises Damaged naming the first file that is not as sealed, among the paths that start with ``under``.

    Also checks that the name of a node's folder belongs to its spec: two folders that changed places are both damaged.
    """
    files = sealed_files(folder)
    for name, expected in files.items():
        if name.startswith(under) or name == SPEC:
            verify_file(folder, name, expected)
    check_identity(folder, files)


def verify_file(folder: Path, name: str, expected: str) -> int:
    """The size in bytes of a file of a sealed folder. Raises Damaged where the file is not as sealed, PermissionError
    where this user may not read it.
    """
    path = folder / name
    try:
        if digest(path) != expected:
            raise Damaged(folder, f"{path} is damaged (its checksum has changed)")
        return path.stat().st_size
    except FileNotFoundError:
        raise Damaged(folder, f"{path} is missing") from None
    except PermissionError:  # whole, perhaps: only somebody else may tell
        raise
    except OSError as e:  # a folder in place of the file, a disk that cannot read
        raise Damaged(folder, f"{path} cannot be read ({e.strerror})") from None


def check_identity(folder: Path, files: Mapping[str, str]) -> None:
    """Raises Damaged where a folder has the name of a node and holds the spec of another node."""
    if SPEC not in files or not NODE.fullmatch(folder.name):
        return
    if content_hash(read_json(folder / SPEC)) != folder.name.rpartition("-")[2]:
        raise Damaged(folder, f"{folder} holds another node's results (its spec.json is not that of its name)")


def kept(folder: Path, under: str) -> bool:
    """Whether a sealed folder lists a file whose path starts with ``under``. Such files may have been pruned."""
    return any(name.startswith(under) for name in sealed_files(folder))


def prune(folder: Path, name: str) -> None:
    """Removes a file or folder from a sealed folder. The list of files is shortened first, so the seal stays valid."""
    facts = read_object(folder / SEAL)
    left = {n: d for n, d in sealed_files(folder).items() if n != name and not n.startswith(f"{name}/")}
    if left != facts["files"]:
        write_atomic(folder / SEAL, json.dumps({**facts, "files": left}, indent=1, allow_nan=False) + "\n")
    remove(folder / name)


def require_own(folder: Path, ours: bool, names: Sequence[str], otherwise: str) -> None:
    """Raises ValueError where a folder that is not ``ours`` has files of ``names``, which Foray would write over.

    ``otherwise`` says what to do.
    """
    others = [name for name in names if (folder / name).exists()]
    if others and not ours:
        raise ValueError(f"{folder} holds {others[0]}, and Foray has not worked there; {otherwise}")


def remove(path: Path) -> None:
    """Removes a file or a folder. A kill during the removal leaves no partial folder under the old name."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
        return
    gone = path
    if path.suffix != GONE:
        gone = path.with_name(path.name + GONE)
        shutil.rmtree(gone, ignore_errors=True)
        os.rename(path, gone)
    shutil.rmtree(gone)


def replace_folder(folder: Path) -> Path:
    """An empty folder in place of anything that was there."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
