"""The content-addressed store: spec hash -> folder, complete once ``DONE`` is written; running again is resuming."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from socket import gethostname
from typing import Any

from foray.core.files import SPEC, alone_in, locked, sealed, write_json
from foray.core.machine import Machine
from foray.core.made_from import MADE_FROM, weights_of
from foray.core.provenance import PROVENANCE, read_made, record

ASIDE = re.compile(r"\.damaged(-\d+)?$")  # ends the name of a folder that was set aside
# In a store's root.
ASKED = "studies.json"  # the commands that ran studies there
MANIFEST = "manifest.json"  # what the last report shows
AGAINST = "report-against-"  # begins the name of a folder of two studies side by side


class Store:
    """A folder of node folders, and the machine that computes what is missing. No result depends on where it lies."""

    def __init__(self, root: Path, machine: Machine | None = None) -> None:
        self.root, self.machine = root, machine or Machine("cpu")

    def folder(self, kind: str, key: str) -> Path:
        return self.root / "nodes" / f"{kind}-{key}"

    def done(self, kind: str, key: str) -> bool:
        return sealed(self.folder(kind, key))

    def open(
        self, kind: str, key: str, spec: dict[str, Any], shared: bool = False, parents: Iterable[Path] = ()
    ) -> Path:
        """The node's folder, made if need be, with spec and provenance; ``shared``: several ranks compute it.

        The provenance names the weights that lie in the folders of its ``parents`` now.
        """
        folder = self.folder(kind, key)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.tmp"):  # by a process that was killed as it wrote
            left.unlink()
        write_json(folder / SPEC, spec, indent=1)
        made = record(self.machine.found(), shared=shared)
        if found := weights_of(parents):
            made[MADE_FROM] = found
        if earlier := _earlier(folder, made):
            made["earlier"] = earlier
        write_json(folder / PROVENANCE, made, indent=1)
        return folder

    def set_aside(self, folder: Path) -> str:
        """Takes a damaged node's folder out of the way, whole, and says what follows.

        Raises OSError where the folder can be neither moved nor passed over: nothing can be made in its place.
        """
        if folder.parent != self.root / "nodes":  # not a node of this store's
            return f"delete {folder} and run again"
        for number in count(1):
            aside = folder.with_name(folder.name + ".damaged" + (f"-{number}" if number > 1 else ""))
            if aside.exists():  # from an earlier time
                continue
            try:
                folder.rename(aside)
            except FileNotFoundError:
                return "its folder has been set aside already, and the same command makes it anew"
            except OSError as e:
                if aside.exists():  # another worker was first
                    continue
                raise OSError(f"{folder} is damaged and cannot be set aside ({e.strerror}); delete it") from None
            return f"its folder is now {aside}, and the same command makes it anew"
        raise AssertionError("counting has no end")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One runner at a time; the lock goes with the process that holds it."""
        words = f"another foray is running on the store {self.root}; wait for it or use --store"
        with alone_in(self.root, words):
            yield

    @contextmanager
    def claim(self, key: str, patience: float) -> Iterator[None]:
        """One process at a node, on whatever machine; the claim goes with the process that holds it.

        Waits ``patience`` seconds for another to let go. Raises ValueError after it.
        """
        place = self.root / "claims" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        with open(place, "a+", encoding="utf-8") as f:
            while not locked(f):
                if time.monotonic() - begun > patience:
                    f.seek(0)
                    raise ValueError(f"{f.read() or 'another process'} is at work on it; wait for that or end it")
                time.sleep(0.1)
            try:
                os.truncate(f.fileno(), 0)
                os.write(f.fileno(), f"process {os.getpid()} on {gethostname()}".encode())
            except OSError as e:  # which names no file
                raise OSError(e.errno, e.strerror, str(place)) from None
            yield


def _earlier(folder: Path, made: dict[str, Any]) -> list[dict[str, Any]]:
    """What worked on an unfinished node before, where that was something else."""
    read = read_made(folder)
    if read is None:
        return []
    before = read[1]
    found: list[dict[str, Any]] = before.pop("earlier", [])
    return [*found, before] if before != made and before not in found else found
