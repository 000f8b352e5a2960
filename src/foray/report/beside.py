"""What several figures need that show the main grid together with what is beside it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

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
    return rows[rows["trained_on"].isin(["", results.trained_on(task)])]


def same_model(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the study's own mix and model."""
    return rows[(rows["mix"] == "") & rows["model_parameters"].isna()]


def ends(results: Results) -> list[int]:
    """The smallest and the largest k."""
    return sorted({results.ks[0], results.ks[-1]})


def busiest(rows: pd.DataFrame) -> int:
    """The M_t with the most evaluated points; of equals, the latest."""
    points = rows.groupby("tokens").size()
    return int(points[points == points.max()].index.max())
