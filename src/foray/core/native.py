"""C files of this package, compiled on this machine at their first use. Where that fails, callers do without."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from foray.core.processor import answer, compiler, cpu_model, instructions

FOLDER = Path(__file__).with_name("c")
LAYER, ATTENTION, ATTENTION_AMX, DECODE_ATTENTION, DRAW = (
    FOLDER / f"{name}.c" for name in ("layer", "attention", "attention_amx", "decode_attention", "draw")
)

_TYPES = {"p": ctypes.c_void_p, "n": ctypes.c_int64, "f": ctypes.c_float, "i": ctypes.c_int}

# The last two: equal bits from any compiler, whatever its habits are.
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-fast-math", "-ffp-contract=off")
_WIDE = ("-mprefer-vector-width=512",)  # GCC otherwise uses half of the machine's longest vectors


@lru_cache(maxsize=8)
def library(source: Path) -> ctypes.CDLL | None:
    """The compiled functions of a C file; None where it cannot be compiled.

    The library is kept in the user's cache folder, under a name that depends on all it was made from. It computes in
    torch's threads if torch is loaded: the loader takes torch's OpenMP, which has the name that is asked for.
    """
    try:
        cc = compiler()
        if not cc:
            return None
        command = (*cc, *_FLAGS, *(_WIDE if platform.machine() == "x86_64" else ()))
        headers = sorted(source.parent.glob("*.h"))
        machine = (cpu_model(), instructions(), platform.libc_ver(), answer(*cc, "--version"))
        made_from = ([f.read_text(encoding="utf-8") for f in (source, *headers)], command, machine)
        name = f"{source.stem}-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.so"
        folder = _cache()
        if folder is None:
            with tempfile.TemporaryDirectory() as scratch:  # a library that is loaded needs its file no more
                return ctypes.CDLL(str(_compiled(source, command, Path(scratch) / name)))
        kept = folder / name
        try:
            return ctypes.CDLL(str(kept))
        except OSError:  # not there yet, or damaged
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _compiled(source, command, Path(scratch) / name).replace(kept)
            return ctypes.CDLL(str(kept))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=64)
def function(source: Path, name: str, takes: str) -> Callable[..., None] | None:
    """A function of a C file that returns nothing; None where the file cannot be compiled.

    ``takes`` has a letter for each argument: p a pointer or None, n a whole number of 64 bits, f a float, i an int.
    """
    compiled = library(source)
    if compiled is None:
        return None
    found: Any = compiled[name]
    found.argtypes, found.restype = [_TYPES[letter] for letter in takes], None
    return cast(Callable[..., None], found)


def _compiled(source: Path, command: tuple[str, ...], to: Path) -> Path:
    subprocess.run([*command, str(source), "-o", str(to)], capture_output=True, timeout=300, check=True)
    with open(to, "rb") as f:
        os.fsync(f.fileno())
    return to


def _cache() -> Path | None:
    """The user's cache folder for Foray; None where it cannot be made or others may write into it."""
    try:
        asked = Path(os.environ.get("XDG_CACHE_HOME") or "")
        folder = (asked if asked.is_absolute() else Path.home() / ".cache") / "foray"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.stat()
    except (OSError, RuntimeError):
        return None
    safe = found.st_uid == os.geteuid() and not found.st_mode & 0o022 and os.access(folder, os.W_OK)
    return folder if safe else None
