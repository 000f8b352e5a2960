"""F2: pass@k against pre-training tokens for the base, RL, SFT and SFT→RL."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.report import paper_curves, style
from foray.report.results import NotDrawable, Results

NAME = "f2_passk"
TITLE = "F2. pass@k of base, RL, SFT and SFT→RL from every M_t"
behind = paper_curves.grid


def data(results: Results) -> pd.DataFrame:
    metrics = [f"pass@{k}" for k in results.ks]
    frame = results.curve(metrics, [results.main_task], ["base", "rl", "sft", "sft_rl"], lenient_base=True)
    if frame.empty:
        raise NotDrawable("none of base, RL, SFT and SFT→RL has been evaluated")
    return frame


def caption(frame: pd.DataFrame) -> str:
    return f"pass@k on {frame['task'].iloc[0]} against pre-training tokens. {style.passk_notes(frame)}"


def draw(frame: pd.DataFrame) -> Figure:
    task = frame["task"].iloc[0]
    return style.metric_panels(frame, [(task, metric, metric) for metric in frame["metric"].unique()])
