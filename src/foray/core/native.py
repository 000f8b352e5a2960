"""C files of this package, compiled on this machine at their first use. Where no compiler is, callers do without."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from foray.core.processor import compiler, cpu_model

# None of them lets the compiler reorder sums.
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
_WIDE = ("-mprefer-vector-width=512",)  # GCC otherwise uses half of the machine's longest vectors


@lru_cache(maxsize=8)
def library(source: Path) -> ctypes.CDLL | None:
    """The compiled functions of a C file; None where it cannot be compiled.

    The library is kept in the user's cache folder, under a name that depends on all it was made from. It computes in
    torch's threads if torch is loaded: the loader takes torch's OpenMP, which has the name that is asked for.
    """
    program = compiler()
    if program is None:
        return None
    flags = (*_FLAGS, *(_WIDE if platform.machine() == "x86_64" else ()))
    made_from = (source.read_text(encoding="utf-8"), os.path.realpath(program), flags, cpu_model(), platform.libc_ver())
    name = f"{source.stem}-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:16]}.so"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foray"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = folder / name
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                fresh = Path(scratch) / name
                command = [program, *flags, str(source), "-o", str(fresh)]
                subprocess.run(command, capture_output=True, timeout=60, check=True)
                fresh.replace(kept)
        return ctypes.CDLL(str(kept))
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None
