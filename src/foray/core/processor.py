"""The processor of this machine, and the compiler for it."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core, by field; empty elsewhere."""
    said: dict[str, str] = {}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return said
    for line in text.splitlines():
        name, _, value = line.partition(":")
        said.setdefault(name.strip(), value.strip())
    return said


@lru_cache(maxsize=1)
def cpu_model() -> tuple[str, str]:
    """The name of the processor, and its family and model if known: several processors may have one name."""
    said = _cpuinfo()
    if not said:
        return answer("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine(), ""
    detail = " ".join(f"{word} {said[k]}" for word, k in (("family", "cpu family"), ("model", "model")) if said.get(k))
    if said.get("model name"):
        return said["model name"], detail
    parts = " ".join(said[k] for k in ("CPU implementer", "CPU part") if said.get(k))
    return f"{platform.machine()} {parts}".strip(), detail


def instructions() -> str:
    """The names of the instruction sets that the processor has, where the system tells."""
    return " ".join(sorted(next((_cpuinfo()[k] for k in ("flags", "Features") if k in _cpuinfo()), "").split()))


@lru_cache(maxsize=1)
def compiler() -> tuple[str, ...]:
    """The command of the C compiler: ``CC`` from the environment, or cc. Empty if there is none."""
    words = shlex.split(os.environ.get("CC") or "cc")
    program = shutil.which(words[0]) if words and os.name == "posix" else None
    return () if program is None else (program, *words[1:])


def answer(*words: str) -> str:
    """What a program prints; nothing where it fails or is missing."""
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
