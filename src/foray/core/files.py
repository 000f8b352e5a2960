"""Files that are either whole or detectably not: atomic writes, and folders sealed by a list of checksums."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

SEAL = "DONE"
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
GONE = ".gone"  # ends the name of a folder that is being removed


class Damaged(ValueError):
    """A file of the sealed ``folder`` is not as it was sealed."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{what}; delete {folder} and run again")
        self.folder, self.what = folder, what


def write_atomic(path: Path, text: str) -> None:
    """Writes beside the target and renames, so that a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)


@contextmanager
def alone_in(folder: Path, otherwise: str) -> Iterator[None]:
    """One process at a time in a folder, made if need be; its ``.lock`` goes with the process that holds it.

    Raises ValueError with the words of ``otherwise`` where another one is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as f:
        if not locked(f):
            raise ValueError(otherwise)
        yield


def locked(file: IO[str]) -> bool:
    """Takes the lock of an open file unless another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON. A float that is not finite is a text that ``float`` reads: NaN, Infinity or -Infinity."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_spelled(value), indent=indent, allow_nan=False)


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {k: _spelled(v) for k, v in value.items()}
    return [_spelled(v) for v in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, otherwise: str = "delete its folder and run again") -> Any:
    """Raises ValueError where the file is damaged, with what to do then: ``otherwise``."""
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as e:
        raise ValueError(f"{path} is damaged (line {e.lineno}: {e.msg}); {otherwise}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is damaged (not UTF-8 text); {otherwise}") from None


def read_jsonl(path: Path) -> list[Any]:
    """All rows of a JSON Lines file. Raises ValueError naming file and line."""
    return [row for _, row in iter_jsonl(path)]


def read_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a log such as ``metrics.jsonl``, with what ``json_text`` spelled out as floats again."""
    return [{k: float(v) if v in NOT_FINITE else v for k, v in row.items()} for row in read_jsonl(path)]


def iter_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row) of a JSON Lines file, one at a time. Raises ValueError naming file and line.

    What JSON has no numbers for (NaN, Infinity, 1e999) is the text that stands there.
    """
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if line.strip():
                try:
                    row = json.loads(line, parse_constant=str, parse_float=_finite)
                except json.JSONDecodeError as e:
                    raise ValueError(f"{path}, line {number}: not JSON ({e.msg})") from None
                except UnicodeDecodeError:
                    raise ValueError(f"{path}, line {number}: not UTF-8 text") from None
                except (ValueError, RecursionError) as e:  # a number of thousands of digits, brackets without end
                    raise ValueError(f"{path}, line {number}: not JSON ({type(e).__name__})") from None
                yield number, row


def _finite(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def digest(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest_of_input(path: Path) -> str:
    """The same of a file that studies read, which may be large: once a process unless its size or time changes."""
    stat = path.stat()
    return _digest_at(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4096)
def _digest_at(path: Path, changed: int, size: int) -> str:
    return digest(path)


def seal(folder: Path, **facts: Any) -> None:
    """Declares a folder complete: writes ``DONE`` last, with the SHA-256 of every file below."""
    files = {str(p.relative_to(folder)): digest(p) for p in sorted(folder.rglob("*")) if p.is_file() and p.name != SEAL}
    write_atomic(folder / SEAL, json.dumps({**facts, "files": files}, indent=1, allow_nan=False) + "\n")


def sealed(folder: Path) -> bool:
    return (folder / SEAL).exists()


def verify(folder: Path, under: str = "") -> None:
    """Raises Damaged naming the first file (of those whose path starts with ``under``) that is not as sealed."""
    if not sealed(folder):
        raise ValueError(f"{folder} is incomplete: it has no {SEAL}")
    try:
        files = dict(read_json(folder / SEAL)["files"])
    except (ValueError, KeyError, TypeError):
        raise Damaged(folder, f"{folder / SEAL} is damaged") from None
    for name, expected in files.items():
        if name.startswith(under):
            path = folder / name
            if not path.exists():
                raise Damaged(folder, f"{path} is missing")
            if digest(path) != expected:
                raise Damaged(folder, f"{path} is damaged (its checksum has changed)")


def kept(folder: Path, under: str) -> bool:
    """Whether a sealed folder lists a file whose path starts with ``under``: it may have been pruned."""
    return any(name.startswith(under) for name in read_json(folder / SEAL)["files"])


def prune(folder: Path, name: str) -> None:
    """Takes a file or folder out of a sealed folder, which stays whole: the list of files is shortened first."""
    facts = read_json(folder / SEAL)
    left = {n: d for n, d in facts["files"].items() if n != name and not n.startswith(f"{name}/")}
    if left != facts["files"]:
        write_atomic(folder / SEAL, json.dumps({**facts, "files": left}, indent=1, allow_nan=False) + "\n")
    remove(folder / name)


def remove(path: Path) -> None:
    """Removes a file or a folder. A kill during the removal leaves no half of a folder that looks whole."""
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
    """An empty folder in place of whatever was there."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder
