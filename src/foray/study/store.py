"""The content-addressed store: spec hash -> folder, complete once ``DONE`` is written; running again is resuming."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from socket import gethostname
from typing import Any

from foray.core.files import alone_in, locked, sealed, write_atomic
from foray.core.machine import Machine

DAMAGED = ".damaged"  # ends the name of a folder that was set aside


class Store:
    """A folder of node folders, and the machine that computes what is missing. No result depends on where it lies."""

    def __init__(self, root: Path, machine: Machine | None = None) -> None:
        self.root, self.machine = root, machine or Machine("cpu")

    def folder(self, kind: str, key: str) -> Path:
        return self.root / "nodes" / f"{kind}-{key}"

    def done(self, kind: str, key: str) -> bool:
        return sealed(self.folder(kind, key))

    def open(self, kind: str, key: str, spec: dict[str, Any]) -> Path:
        """The node's folder, made if need be, with its spec and where the result came from."""
        folder = self.folder(kind, key)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "spec.json", json.dumps(spec, indent=1, allow_nan=False) + "\n")
        write_atomic(
            folder / "provenance.json",
            json.dumps(provenance() | {"machine": asdict(self.machine.found())}, indent=1, allow_nan=False) + "\n",
        )
        return folder

    def set_aside(self, folder: Path) -> str:
        """Takes a damaged node's folder out of the way, whole, and says what follows."""
        aside = folder.with_name(folder.name + DAMAGED)
        if folder.parent != self.root / "nodes":  # not a node of this store's
            return f"delete {folder} and run again"
        try:
            folder.rename(aside)
        except OSError:  # another worker was first, or one is there from before
            return f"if {folder} is still there, delete it; the same command makes it anew"
        return f"its folder is now {aside}, and the same command makes it anew"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One runner at a time; the lock goes with the process that holds it."""
        words = f"another foray is running on the store {self.root}; wait for it or use --store"
        with alone_in(self.root, words):
            yield

    @contextmanager
    def claim(self, key: str, patience: float) -> Iterator[bool]:
        """One process at a node, on whatever machine; the claim goes with the process that holds it.

        Waits ``patience`` seconds for another to let go, and gives whether it had to wait. Raises ValueError after it.
        """
        place = self.root / "claims" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        begun, waited = time.monotonic(), False
        with open(place, "a+", encoding="utf-8") as f:
            while not locked(f):
                if time.monotonic() - begun > patience:
                    f.seek(0)
                    raise ValueError(f"{f.read() or 'another process'} is at work on it; wait for that or end it")
                waited = True
                time.sleep(0.1)
            f.truncate(0)
            f.write(f"process {os.getpid()} on {gethostname()}")
            f.flush()
            yield waited


def provenance() -> dict[str, Any]:
    """Commit and versions, recorded beside a result and never part of its key."""
    return {"commit": _commit(), "versions": _versions(), "threads": os.environ.get("OMP_NUM_THREADS", "default")}


def _commit() -> str:
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"


def _versions() -> dict[str, str]:
    out = {"python": platform.python_version()}
    for package in ("foray", "torch", "numpy", "tokenizers", "safetensors", "lm-eval", "transformers"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            continue
    return out
