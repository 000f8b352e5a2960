"""F5: the general-ability probes and their average against pre-training tokens, all recipes."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.report import paper_curves, style
from foray.report.paper import paper_rows
from foray.report.paper_curves import Behind
from foray.report.results import AVERAGE, NotDrawable, Results

NAME = "f5_general"
TITLE = "F5. General abilities after every recipe"


def data(results: Results) -> pd.DataFrame:
    frame = results.curve(["acc"], sorted(results.rows(metric="acc")["task"].unique()))
    if frame.empty:
        raise NotDrawable("no general-ability probe has been run")
    return frame


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's six benchmarks behind those, or behind the embedded world's probes that are made like them."""
    names = [(i, t.removeprefix("world_").removesuffix("_openai")) for i, t in enumerate(_panels(frame))]
    recipes = list(frame["recipe"].unique())
    return paper_curves.over_tokens(
        frame, "six benchmarks", [(i, paper_rows(name, ["acc"], recipes)) for i, name in names]
    )


def _panels(frame: pd.DataFrame) -> list[str]:
    return [*(t for t in frame["task"].unique() if t != AVERAGE), AVERAGE]


def caption(frame: pd.DataFrame) -> str:
    probes = frame["task"].nunique() - 1
    return (
        f"Accuracy on {probes} probes of what pre-training taught, and their plain average. The dotted line is chance. "
        + style.interval_note(frame, "questions (the average: all of them)")
    )


def draw(frame: pd.DataFrame) -> Figure:
    tasks = _panels(frame)
    columns = min(4, len(tasks) + 1)
    rows = -(-(len(tasks) + 1) // columns)  # one more cell for the legend
    figure, axes = style.panels(rows, columns, width=2.9, height=2.5)
    # Probes of one family share a prefix ("world_"). A title does not need the prefix.
    families = {task.partition("_")[0] for task in tasks[:-1]}
    prefix = f"{families.pop()}_" if len(families) == 1 and len(tasks) > 2 else ""
    for place, task in zip(axes, tasks):
        shown = frame[frame["task"] == task]
        style.recipe_curves(place, shown)
        style.chance_line(place, shown)
        place.set_title("average" if task == AVERAGE else task.removeprefix(prefix).replace("_", " "))
        style.percent_axis(place)
        style.x_axis(place, frame)
    for place in axes[len(tasks) :]:
        place.set_axis_off()
    handle = Line2D([], [], color="#444444", linestyle=":", label="chance")
    style.recipe_legend(figure, frame, [handle], inside=axes[len(tasks)])
    return figure
