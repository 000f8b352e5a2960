"""The report's figures, one file each. The report finds a new file in this folder; no other file needs an edit.

A figure is a module with

- ``NAME``: the stem of its files, such as ``"f1_overview"``; ``TITLE``: its heading in the report;
- ``data(results) -> DataFrame``: the figure's data, shares in [0, 1]. The report writes the frame beside the picture as
  CSV. Raises ``NotDrawable`` with a one-line reason if the study lacks the measurements;
- ``draw(frame) -> Figure``: the picture, made from the frame alone;
- ``caption(frame) -> str``: a plain text that explains the picture;
- where the paper has curves for it, ``behind(results, frame) -> Behind | None``: ``foray.report.paper_curves`` draws
  them.
"""

from __future__ import annotations

from typing import Protocol, cast

import pandas as pd
from matplotlib.figure import Figure

from foray.report.discovery import modules_of
from foray.report.results import Results


class FigureModule(Protocol):
    NAME: str
    TITLE: str

    def data(self, results: Results) -> pd.DataFrame: ...

    def draw(self, frame: pd.DataFrame) -> Figure: ...

    def caption(self, frame: pd.DataFrame) -> str: ...


def discover() -> list[FigureModule]:
    """Every figure module of this package: F1, F2, ..., then P1, R1, ... and A1, ..., as the paper numbers its own."""
    modules = [cast(FigureModule, m) for m in modules_of(__name__)]
    return sorted(modules, key=lambda m: ("fpra".find(m.NAME[0]), m.NAME))
