"""The general-ability probes that a study asks for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class ProbeSet(Protocol):
    """Probes as a spec: lm-eval tasks by ``names``, of which ``limit`` takes the first rows (None: all).

    ``questions`` is the approximate number of a probe's questions. ``metric`` is lm-eval's name of the reported
    accuracy.
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
        """A file of rows in ``scratch`` for each probe whose rows are local."""
