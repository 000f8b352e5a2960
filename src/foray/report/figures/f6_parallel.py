"""F6: parallel averaging beside the recipes that it joins, in pass@k and the general average."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.report import paper_curves, style
from foray.report.paper import AVERAGE_OF_5, paper_rows, task_of
from foray.report.paper_curves import Behind
from foray.report.results import AVERAGE, NotDrawable, Results

NAME = "f6_parallel"
TITLE = "F6. Parallel averaging beside RL, SFT and SFT→RL"


def data(results: Results) -> pd.DataFrame:
    if "parallel" not in results.recipes(results.main_task):
        raise NotDrawable("parallel averaging has not been evaluated")
    recipes = ["base", "rl", "sft", "sft_rl", "parallel"]
    frames = [
        results.curve([f"pass@{k}" for k in results.ks], [results.main_task], recipes, lenient_base=True),
        results.curve(["acc"], [AVERAGE], recipes).assign(extraction=""),
    ]
    return pd.concat([f for f in frames if len(f)], ignore_index=True)


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    recipes = list(frame["recipe"].unique())
    like = task_of(results.main_task in results.hard)
    panels = [
        (i, paper_rows(AVERAGE_OF_5, ["acc"], recipes) if task == AVERAGE else paper_rows(like, [metric], recipes))
        for i, (task, metric, _) in enumerate(_panels(frame))
    ]
    if like != "gsm8k":  # the paper has parallel averaging on GSM8K alone, and the probes after that
        panels = [(i, found) for i, found in panels if (found["task"] == like).all()]
    general = any(len(found) and found["task"].iloc[0] == AVERAGE_OF_5 for _, found in panels)
    words = " The paper's general average has five probes, without ARC-Challenge." if general else ""
    return paper_curves.over_tokens(frame, like.upper(), panels, words)


def _panels(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Task, metric and title of every panel."""
    pairs = frame[["task", "metric"]].drop_duplicates().itertuples(index=False, name=None)
    return [(task, metric, "general average" if task == AVERAGE else metric) for task, metric in pairs]


def caption(frame: pd.DataFrame) -> str:
    task = next(t for t in frame["task"] if t != AVERAGE)
    asked = frame[frame["task"] == task]
    return (
        f"Parallel averaging (both gradients at the same weights, each through its own optimizer, their changes "
        f"averaged) beside the other recipes: pass@k on {task} and the average of the general probes. "
        + style.lenient_note(asked)
        + style.guess_note(asked)
        + style.interval_note(asked, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    return style.metric_panels(frame, _panels(frame))
