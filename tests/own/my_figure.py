"""A figure in a file of the user's own, which a study names: `report=("my_figure.py",)`."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.report import NotDrawable, Results

NAME, TITLE = "my_figure", "Mine: pass@1 of each checkpoint"


def data(results: Results) -> pd.DataFrame:
    rows = results.rows(metric="pass@1", extraction="strict")
    if rows.empty:
        raise NotDrawable("no pass@1 has been measured")
    return rows[["tokens", "recipe", "value"]].reset_index(drop=True)


def draw(frame: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    for recipe, rows in frame.groupby("recipe"):
        axes.plot(rows["tokens"], rows["value"], "o", label=recipe)
    axes.legend()
    return figure


def caption(frame: pd.DataFrame) -> str:
    return f"{len(frame)} evaluations."
