"""What several figures need that show the main grid together with what is beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from foray.report.claims import HARD
from foray.report.results import NotDrawable, Results


def passk(results: Results, task: str, ks: Sequence[int]) -> pd.DataFrame:
    """Every row of pass@k on the task, of the main grid and beside it, graded and trained as the figures show it.

    Not those of another split: trials of learning rates, which no figure shows.
    """
    frames = [f for f in (results.table, results.beside) if len(f)]
    if not frames:
        raise NotDrawable("no pass@k evaluation has finished")
    rows = pd.concat(frames, ignore_index=True)
    rows = rows[(rows["task"] == task) & rows["metric"].isin([f"pass@{k}" for k in ks])]
    rows = rows[(rows["extraction"] == results.extraction) & (rows["split"] == "")]
    trained_on = results.trained_on(task) or next((t for t in rows["trained_on"] if t), "")
    return rows[rows["trained_on"].isin(["", trained_on])]


def same_model(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the study's own mix and model."""
    return rows[(rows["mix"] == "") & rows["model_parameters"].isna()]


def ends(results: Results) -> list[int]:
    """The smallest and the largest k."""
    return sorted({results.ks[0], results.ks[-1]})


def hard_task(results: Results) -> str | None:
    """The first task after the main one with a hard task's word in its name."""
    names = [t for t in results.tasks if t != results.main_task and any(word in t.lower() for word in HARD)]
    return names[0] if names else None


def busiest(rows: pd.DataFrame) -> int:
    """The M_t with the most evaluated points; of equals, the latest."""
    points = rows.groupby("tokens").size()
    return int(points[points == points.max()].index.max())
