"""R4: pass@1 and pass@K of what RL made, against the entropy of its rollouts there."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.core.spelling import in_tokens
from foray.report import style
from foray.report.readings.rank_correlation import LEAST, spearman
from foray.report.results import NotDrawable, Results, busiest, label, whole_runs

NAME = "r4_entropy"
TITLE = "R4. pass@k against the entropy of RL's rollouts"
_WINDOW = 5  # updates that an entropy is the mean of, the evaluated one the last


def data(results: Results) -> pd.DataFrame:
    """One row an evaluated point of a stage with rollouts, and k: the mean over runs; ``entropy`` in nats a token."""
    recipes = tuple(dict.fromkeys(log.recipe for log in results.rl_runs()))
    rows = whole_runs(results.passk_rows(results.main_task, results.end_ks, recipe=recipes))
    entropies = _entropies(results, set(zip(rows["tokens"], rows["recipe"], rows["pretrain_seed"], rows["seed"])))
    frame = results.average(rows)
    places = list(zip(frame["tokens"], frame["recipe"], frame["stage_step"]))
    frame = frame.assign(entropy=[float(np.mean(entropies.get(p, [math.nan]))) for p in places]).dropna(
        subset="entropy"
    )
    if frame.empty:
        raise NotDrawable("no model with a logged entropy of its rollouts has been evaluated")
    return frame.drop(columns="chance")


def _entropies(
    results: Results, shown: Collection[tuple[int, str, int, int]]
) -> dict[tuple[int, str, int], list[float]]:
    """By tokens, recipe and update since M_t: every shown run's mean entropy over the last updates up to there."""
    found: dict[tuple[int, str, int], list[float]] = {}
    for log in results.rl_runs():
        if (log.tokens, log.recipe, *log.run) not in shown:
            continue
        entropy = log.of("rollouts", "entropy")
        for place in range(len(entropy)):
            last = entropy.iloc[max(0, place + 1 - _WINDOW) : place + 1].dropna()
            if len(last):
                at = log.updates(place + 1)
                found.setdefault((log.tokens, log.recipe, at), []).append(float(last.mean()))
    return found


def caption(frame: pd.DataFrame) -> str:
    watched = busiest(frame)
    text = (
        f"pass@k on {frame['task'].iloc[0]} against the entropy of RL's rollouts in nats a token (minus the "
        f"samples' mean log-probability, over the last {_WINDOW} updates). "
    )
    if frame.duplicated(["recipe", "tokens", "metric"]).any():
        text += "A line joins the points of one M_t in order of training. "
    if frame["tokens"].nunique() > 1:
        text += f"The paler, the earlier M_t: {' / '.join(map(in_tokens, sorted(frame['tokens'].unique())))} tokens. "
    at = f"Over all points of the M_t at {in_tokens(watched)} tokens the rank correlation with entropy is"
    said = []
    for metric, rows in frame[frame["tokens"] == watched].groupby("metric", sort=False):
        rho = spearman(rows["entropy"].to_numpy(float), rows["value"].to_numpy(float))
        if rho.n >= LEAST and not math.isnan(rho.value):
            said.append(f"{rho.value:+.2f} ({rho.lo:+.2f} to {rho.hi:+.2f}) for {metric}")
    text += f"{at} {', '.join(said)}, taking points as independent. " if said else ""
    return text + style.interval_note(frame, "problems")


def draw(frame: pd.DataFrame) -> Figure:
    metrics, recipes = list(frame["metric"].unique()), list(frame["recipe"].unique())
    figure, axes = style.panels(1, len(metrics), width=3.8, height=3.1)
    starts = sorted(frame["tokens"].unique())
    for place, metric in zip(axes, metrics):
        for (recipe, tokens), rows in frame[frame["metric"] == metric].groupby(["recipe", "tokens"], sort=False):
            color, marker = style.look(str(recipe))
            shade = style.paler(color, 0.75 * (1 - (starts.index(tokens) + 1) / len(starts)))
            style.band(place, rows.sort_values("stage_step"), "entropy", shade, marker, fill=False)
        place.set_title(metric)
        place.set_xlabel("entropy, nats a token")
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    handles = [Line2D([], [], color=style.look(r).color, marker=style.look(r).marker, label=label(r)) for r in recipes]
    style.lower_legend(figure, handles)
    return figure
