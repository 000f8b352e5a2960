"""The report's figures, one file each. A new file here is found by itself; nothing else needs an edit.

A figure is a module with

- ``NAME``: the stem of its files, such as ``"f1_overview"``; ``TITLE``: its heading in the report;
- ``data(results) -> DataFrame``: what it shows, written beside the picture as CSV; shares in [0, 1]. Raises
  ``NotDrawable`` with a one-line reason when the study has not measured it;
- ``draw(frame) -> Figure``: the picture, made from that frame alone;
- ``caption(frame) -> str``: what the reader sees, plain text.
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
    """Every figure module of this package: F1, F2, ... then A1, ..., as the paper numbers them."""
    modules = [cast(FigureModule, m) for m in modules_of(__name__)]
    return sorted(modules, key=lambda m: ("fra".find(m.NAME[0]), m.NAME))
