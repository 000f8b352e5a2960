"""F7: pass@k against pre-training tokens on a hard task."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.report import paper_curves, style
from foray.report.results import NotDrawable, Results

NAME = "f7_hard"
TITLE = "F7. pass@k on a harder task"
behind = paper_curves.grid


def data(results: Results) -> pd.DataFrame:
    task = results.hard_task
    if task is None or task == results.asked[0]:
        raise NotDrawable("no second task whose class says that it is a hard one (hard = True) has been evaluated")
    metrics = [f"pass@{k}" for k in results.ks]
    frame = results.curve(metrics, [task], ["base", "rl", "sft", "sft_rl", "parallel"], lenient_base=True)
    if frame.empty:
        raise NotDrawable(f"none of base, RL, SFT, SFT→RL and parallel has been evaluated on {task}")
    return frame.assign(trained_on=results.trained_on(task))


def caption(frame: pd.DataFrame) -> str:
    task, trained_on = frame["task"].iloc[0], frame["trained_on"].iloc[0]
    return (
        f"pass@k on {task}, a harder task, against pre-training tokens; models post-trained on "
        f"{'it' if trained_on in ('', task) else trained_on}. "
        f"The axis of each panel has its own range. {style.passk_notes(frame)}"
    )


def draw(frame: pd.DataFrame) -> Figure:
    task = frame["task"].iloc[0]
    return style.metric_panels(frame, [(task, metric, metric) for metric in frame["metric"].unique()])
