"""What a study asks of general-ability probes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class ProbeSet(Protocol):
    """Probes as a spec: lm-eval tasks by ``names``, of which ``limit`` takes the first rows (None: all).

    ``questions`` is about how many a probe has. ``metric`` is lm-eval's name of the accuracy that is reported.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def questions(self) -> int: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def metric(self) -> str: ...

    def chance(self, name: str) -> float:
        """Accuracy of guessing."""

    def prepare(self, scratch: Path) -> Mapping[str, Path]:
        """A file of rows for each probe whose rows are local, written into ``scratch``."""
