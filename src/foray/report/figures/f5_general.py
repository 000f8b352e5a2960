"""F5: the general-ability probes and their average against pre-training tokens, all recipes."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.report import paper_curves, style
from foray.report.paper import paper_rows
from foray.report.paper_curves import Behind
from foray.report.results import AVERAGE, WORLD_PROBE, NotDrawable, Results

NAME = "f5_general"
TITLE = "F5. General abilities after every recipe"
_FORMS = {
    "lambada": "LAMBADA", "hellaswag": "HellaSwag", "arc_easy": "ARC Easy", "arc_challenge": "ARC Challenge",
    "piqa": "PIQA", "openbookqa": "OpenBookQA",
}  # fmt: skip


def data(results: Results) -> pd.DataFrame:
    frame = results.curve(["acc"], sorted(results.rows(metric="acc")["task"].unique()))
    if frame.empty:
        raise NotDrawable("no general-ability probe has been run")
    return frame


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's six benchmarks behind those, or behind the embedded world's probes that are made like them."""
    recipes = list(frame["recipe"].unique())
    panels = [(i, paper_rows(_form(task), ["acc"], recipes)) for i, task in enumerate(_panels(frame))]
    words = " The paper ran the benchmarks themselves: compare directions, not heights." if _of_the_world(frame) else ""
    return paper_curves.over_tokens(frame, "six benchmarks", panels, words)


def _panels(frame: pd.DataFrame) -> list[str]:
    return [*(t for t in frame["task"].unique() if t != AVERAGE), AVERAGE]


def _form(task: str) -> str:
    """The benchmark that a probe is, or has the form of."""
    return task.removeprefix(WORLD_PROBE).removesuffix("_openai")


def _of_the_world(frame: pd.DataFrame) -> bool:
    return all(task.startswith(WORLD_PROBE) for task in _panels(frame)[:-1])


def _title(task: str, family: str) -> str:
    """A probe of the world says so: its form's name alone would stand for the benchmark."""
    if task == AVERAGE:
        return "average"
    name = _FORMS.get(_form(task), task.removeprefix(family).replace("_", " "))
    return f"world probe\nin the form of {name}" if task.startswith(WORLD_PROBE) else name


def caption(frame: pd.DataFrame) -> str:
    probes = frame["task"].nunique() - 1
    asked = (
        f"{probes} probes of the invented world in the forms of known benchmarks (those themselves were not run)"
        if _of_the_world(frame)
        else f"{probes} probes of general abilities"
    )
    return f"Accuracy on {asked}, and their plain average. The dotted line is chance. " + style.interval_note(
        frame, "questions (the average: all of them)"
    )


def draw(frame: pd.DataFrame) -> Figure:
    tasks = _panels(frame)
    columns = min(4, len(tasks) + 1)
    rows = -(-(len(tasks) + 1) // columns)  # one more cell for the legend
    figure, axes = style.panels(rows, columns, width=2.9, height=2.5)
    # Probes of one family share a prefix. A title does not need the prefix.
    families = {task.partition("_")[0] for task in tasks[:-1]}
    prefix = f"{families.pop()}_" if len(families) == 1 and len(tasks) > 2 else ""
    for place, task in zip(axes, tasks):
        shown = frame[frame["task"] == task]
        style.recipe_curves(place, shown)
        style.chance_line(place, shown)
        place.set_title(_title(task, prefix))
        style.percent_axis(place)
        style.x_axis(place, frame)
    for place in axes[len(tasks) :]:
        place.set_axis_off()
    handle = Line2D([], [], color="#444444", linestyle=":", label="chance")
    style.recipe_legend(figure, frame, [handle], inside=axes[len(tasks)])
    return figure
