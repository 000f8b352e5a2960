"""F2: pass@k against pre-training tokens for the base, RL, SFT and SFT→RL."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.report import paper_curves, style
from foray.report.paper import task_of
from foray.report.paper_curves import Behind
from foray.report.results import NotDrawable, Results

NAME = "f2_passk"
TITLE = "F2. pass@k of base, RL, SFT and SFT→RL from every M_t"


def data(results: Results) -> pd.DataFrame:
    metrics = [f"pass@{k}" for k in results.ks]
    frame = results.curve(metrics, [results.main_task], ["base", "rl", "sft", "sft_rl"], lenient_base=True)
    if frame.empty:
        raise NotDrawable("none of base, RL, SFT and SFT→RL has been evaluated")
    return frame


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    task = task_of(frame["task"].iloc[0] in results.hard)
    return paper_curves.grid(frame, task, frame["metric"].unique())


def caption(frame: pd.DataFrame) -> str:
    return (
        f"pass@k on {frame['task'].iloc[0]} against pre-training tokens. "
        + style.shots_note(frame)
        + style.lenient_note(frame)
        + style.guess_note(frame)
        + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    task = frame["task"].iloc[0]
    return style.metric_panels(frame, [(task, metric, metric) for metric in frame["metric"].unique()])
