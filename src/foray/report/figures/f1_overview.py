"""F1: the gain of RL over a pre-training checkpoint, and the gain of RL over SFT.

``starts_there`` in its data: whether the model starts from the reference. RL after SFT may start from an earlier SFT.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.report import paper_curves, style
from foray.report.gains import gains_of
from foray.report.paper import paper_gains, task_of
from foray.report.paper_curves import Behind
from foray.report.results import NotDrawable, Results, label
from foray.report.second_stage import continues

NAME = "f1_overview"
TITLE = "F1. What RL adds to pass@1, from every M_t"


def data(results: Results) -> pd.DataFrame:
    pairs = (("rl", "base"), ("sft_rl", "sft"))
    task, found = results.main_task, (results.extraction, results.model_parameters)
    frames = [gains_of(results.pairs(recipe, reference, task), 1, *found) for recipe, reference in pairs]
    frame = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
    if frame.empty:
        raise NotDrawable("neither RL with its base nor SFT→RL with its SFT has been evaluated")
    frame.insert(2, "task", results.main_task)
    return frame.assign(starts_there=(frame["recipe"] == "rl") | continues(results, "sft_rl", "sft"))


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    pairs = frame[["recipe", "reference"]].drop_duplicates().itertuples(index=False, name=None)
    task = task_of(results.main_task in results.hard)
    found = [paper_gains(task, "pass@1", recipe, reference) for recipe, reference in pairs]
    return paper_curves.over_tokens(frame, task.upper(), [(0, gain) for gain in found])


def caption(frame: pd.DataFrame) -> str:
    after = "SFT→RL over the SFT model it starts from" if frame["starts_there"].all() else "SFT→RL against SFT"
    return (
        f"Gain in pass@1 on {frame['task'].iloc[0]}, in percentage points: RL over the checkpoint M_t it starts "
        f"from, and {after}. Differences are paired by problem. " + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    figure, (axes,) = style.panels(1, 1, width=5.2, height=3.4)
    handles = []
    for recipe, reference in frame[["recipe", "reference"]].drop_duplicates().itertuples(index=False, name=None):
        rows = frame[frame["recipe"] == recipe]
        look = style.look(recipe)
        style.band(axes, rows, style.axis_of(frame), *look)
        word = "over" if rows["starts_there"].all() else "against"
        name = f"{label(recipe)} {word} {label(reference, rows['reference_shots'].max())}"
        handles.append(Line2D([], [], color=look.color, marker=look.marker, markeredgecolor="white", label=name))
    axes.axhline(0.0, color="#444444", linewidth=0.9)
    style.percent_axis(axes, points=True)
    style.x_axis(axes, frame, ratio=True)
    axes.set_ylabel("gain in pass@1 (points)")
    axes.legend(handles=handles, loc="best")
    return figure
