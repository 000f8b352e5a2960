"""What a study asks of whatever gives its M_t."""

from __future__ import annotations

from typing import Protocol


class Bases(Protocol):
    """Where the M_t of a study come from. ``checkpoints`` are their token counts, ``tokens`` the last of a schedule.

    ``mix`` is what the report calls the mixture where a study has several; the main one has no name. ``math_heavy``
    says that it holds far more mathematics than the study's other ones, which the report's claim C4 asks about.
    """

    @property
    def tokens(self) -> int: ...
    @property
    def checkpoints(self) -> tuple[int, ...]: ...
    @property
    def seeds(self) -> tuple[int, ...]: ...
    @property
    def mix(self) -> str: ...
    @property
    def math_heavy(self) -> bool: ...
