"""The paper's curves behind those of a figure: thin, dashed, in the recipe's color, on the figure's own axes.

A figure with a function ``behind(results, frame)`` says what of the paper it has a place for. The report draws it after
the figure, below all that the figure has drawn, and adds a sentence to the caption. The figure's CSV is of our numbers
alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.paper import PARAMETERS, paper_rows, task_of
from foray.report.results import Results

ROOM = 0.4  # the part of an axis that stays ours, at least, when it is widened for the paper
GREY = "#666666"  # of what is not a recipe
_LINE: Any = {"linestyle": (0, (3, 2)), "linewidth": 0.9, "marker": ".", "markersize": 2.5, "alpha": 0.65}
_VERSIONS = {"June": "its June 2026 version", "February": "its February 2026 version", "repository": "its repository"}


class Curve(NamedTuple):
    """One line of the paper: the number of its panel, its points in the panel's units, a word at its end."""

    panel: int
    x: Sequence[float]
    y: Sequence[float]
    color: str
    label: str = ""


class Behind(NamedTuple):
    """The curves of one figure; ``on``: what the paper measured there; ``source``: of every point.

    ``parameters``: of our model, where the panels' axes are of tokens: they get an axis of tokens per parameter.
    ``words``: a sentence for the caption.
    """

    curves: Sequence[Curve]
    on: str
    source: Sequence[str]
    parameters: float | None = None
    words: str = ""

    @property
    def version(self) -> str:
        """Whose results the points are: June, February or repository. A figure has those of one."""
        (found,) = {s.rpartition("(")[2].rstrip(")") for s in self.source}
        return found


def over_tokens(
    frame: pd.DataFrame, on: str, panels: Sequence[tuple[int, pd.DataFrame]], words: str = ""
) -> Behind | None:
    """The paper's curves over pre-training for a figure's frame: in each panel those of rows that ``paper_rows`` found,
    of the recipes that the frame has too. None on another axis than tokens.
    """
    if style.axis_of(frame) != "tokens":
        return None
    parameters = float((frame["tokens"] / frame["tokens_per_parameter"]).iloc[0])
    curves, sources = [], set[str]()
    for panel, found in panels:
        for recipe, own in found[found["series"].isin(frame["recipe"])].groupby("series"):
            tokens = own["x"] * 1e9 / PARAMETERS * parameters
            curves.append(Curve(panel, tokens.tolist(), own["value"].tolist(), style.look(str(recipe)).color))
            sources |= set(own["source"])
    return Behind(curves, on, sorted(sources), parameters, words) if curves else None


def grid(results: Results, frame: pd.DataFrame) -> Behind | None:
    """``over_tokens`` for a frame of one task whose panels have a metric each."""
    task, recipes = task_of(frame["task"].iloc[0] in results.hard), list(frame["recipe"].unique())
    panels = [(i, paper_rows(task, [metric], recipes)) for i, metric in enumerate(frame["metric"].unique())]
    return over_tokens(frame, task.upper(), panels)


def nearest(frame: pd.DataFrame, tokens: Iterable[float]) -> float:
    """Of the paper's M_t, in billions of tokens, the one nearest in tokens per parameter to the frame's."""
    ratio = frame["tokens_per_parameter"].iloc[0]
    return min(sorted(tokens), key=lambda t: abs(math.log(t * 1e9 / PARAMETERS / ratio)))


def ratio_words(tokens: float) -> str:
    """``10B (6.7 tokens per parameter)``."""
    return f"{tokens:g}B ({tokens * 1e9 / PARAMETERS:.2g} tokens per parameter)"


def put_behind(figure: Figure, behind: Behind) -> str:
    """Draws the curves, widens the axes for them as far as ``ROOM`` allows, and returns the caption's words."""
    home = {axes: (axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    drawn = cut = False
    for panel in sorted({c.panel for c in behind.curves}):
        axes, curves = figure.axes[panel], [c for c in behind.curves if c.panel == panel]
        (left, right), (low, high) = home[axes]
        places = {x for c in curves for x in c.x}
        left, right = _widened(left, right, sorted(places), axes.get_xscale() == "log")
        if sum(left <= x <= right for x in places) < min(2, len(places)):
            continue  # one point of a curve at the edge says nothing of its course
        seen = [y for c in curves for x, y in zip(c.x, c.y) if left <= x <= right]
        drawn = True
        low, high = _widened(low, high, seen, False)
        axes.set_xlim(left, right)
        axes.set_ylim(min(low, axes.get_ylim()[0]), max(high, axes.get_ylim()[1]))  # a shared axis has been widened
        (low, high), points = axes.get_ylim(), [p for c in curves for p in zip(c.x, c.y)]
        cut |= not all(left <= x <= right and low <= y <= high for x, y in points)
        for curve in curves:
            axes.plot(curve.x, curve.y, color=curve.color, zorder=0.9, scalex=False, scaley=False, **_LINE)
            _write_label(axes, curve)
        if behind.parameters and not axes.child_axes:
            _ratio_axis(axes, behind.parameters)
    if drawn:
        name = f"the paper ({PARAMETERS / 1e9:.1f}B, {behind.on})"
        handle = Line2D([], [], color=GREY, label=name, **_LINE)
        figure.legend(handles=[handle], loc="outside upper right", fontsize=7, labelcolor=GREY, borderpad=0.0)
    return _note(behind, drawn, cut)


def _note(behind: Behind, drawn: bool, cut: bool) -> str:
    whose = f"the paper's model of {PARAMETERS / 1e9:.1f}B parameters on {behind.on}"
    if not drawn:
        return f" The curves of {whose} lie outside these axes."
    at = ", at the same tokens per parameter" if behind.parameters else ""
    edge = ", cut where they leave a panel" if cut else ""
    return f" Thin dashed lines: {whose} ({_VERSIONS[behind.version]}){at}{edge}.{behind.words}"


def _widened(low: float, high: float, values: Sequence[float], log: bool) -> tuple[float, float]:
    """The axis from ``low`` to ``high``, widened to hold the values while the old axis keeps ``ROOM`` of the new."""
    turn, back = (np.log, np.exp) if log else (float, float)
    a, b = float(turn(low)), float(turn(high))
    most, places = (b - a) * (1 / ROOM - 1), [float(turn(v)) for v in values]
    inside = [p for p in places if a - most <= p <= b + most]
    pad = 0.04 * (b - a)
    down = max([0.0, *(a - p + pad for p in inside if p < a)])
    up = max([0.0, *(p - b + pad for p in inside if p > b)])
    share = min(1.0, most / (down + up)) if down + up > 0 else 0.0
    return float(back(a - share * down)), float(back(b + share * up))


def _write_label(axes: Axes, curve: Curve) -> None:
    """Writes the curve's word beside its last point that is seen."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    seen = [(x, y) for x, y in zip(curve.x, curve.y) if left <= x <= right and low <= y <= high]
    if curve.label and seen:
        place: Any = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 7, "color": GREY}
        axes.annotate(curve.label, seen[-1], **place)


def _ratio_axis(axes: Axes, parameters: float) -> None:
    """Tokens per parameter above the panel: at 1, 2, 5, 10, ... or, on a short axis, at its ends."""
    left, right = (t / parameters for t in axes.get_xlim())
    steps = [m * 10.0**e for e in range(-9, 9) for m in (1, 2, 5)]
    places = [s for s in steps if left <= s <= right]
    places = places if len(places) > 1 else [left * 1.05, right / 1.05]
    style.ratio_axis(axes, [p * parameters for p in places], [per_parameter(p) for p in places])
