"""A1: pass@1 of RL runs that differ in the seed alone, beside their training rewards."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.report import style
from foray.report.paper import PARAMETERS, paper_rows
from foray.report.paper_curves import GREY, Behind, Curve, ratio_words
from foray.report.results import NotDrawable, Results, label, records

NAME = "a1_seeds"
TITLE = "A1. Seeds of RL: test pass@1 and training reward"

_LAST = 5  # the steps that ``TrainingLog.last_reward`` averages


def data(results: Results) -> pd.DataFrame:
    """One row a run or base. ``reward`` is the mean over the run's last steps, or NaN without a log."""
    rows = results.passk_rows(results.main_task, [1], final=True, recipe=("base", "rl"))
    frame = results.average(rows, ["pretrain_seed", "seed"])
    frame = frame.drop(columns=["chance", "runs", "pretrainings"])
    runs = frame[frame["recipe"] == "rl"].groupby("tokens").size()
    if runs.empty or runs.max() < 2:
        raise NotDrawable("no M_t has RL runs of two seeds")
    rewards = {(r.tokens, *r.run): r.last_reward for r in results.rl_runs() if r.recipe == "rl"}
    places = zip(frame["tokens"], frame["pretrain_seed"], frame["seed"], frame["recipe"])
    return frame.assign(reward=[rewards.get((t, p, s), np.nan) if r == "rl" else np.nan for t, p, s, r in places])


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's two seeds at 4B: over M_t at their ends, over reward at the last update that both were tested at."""
    if style.axis_of(frame) != "tokens" or results.main_task in results.hard:
        return None
    names = ["rl_seed_favorable", "rl_seed_unfavorable"]
    tests, rewards = (paper_rows("gsm8k", [metric], names, "rl_step") for metric in ("pass@1", "reward"))
    ends = tests.groupby("series").tail(1)
    same = tests.merge(rewards, on=["series", "x"], suffixes=("", "_reward")).query("x == 1000")
    place = 4e9 / PARAMETERS * float((frame["tokens"] / frame["tokens_per_parameter"]).iloc[0])
    curves = [
        Curve(0, [place] * len(ends), ends["value"].tolist(), GREY),
        Curve(1, same["value_reward"].tolist(), same["value"].tolist(), GREY, "4B"),
    ]
    words = f" The paper's are two seeds from {ratio_words(4)}, of equal reward."
    return Behind(curves, "GSM8K", sorted({*tests["source"], *rewards["source"]}), None, words)


def caption(frame: pd.DataFrame) -> str:
    runs = frame[frame["recipe"] == "rl"]
    starts = runs["pretrain_seed"].nunique()
    return (
        f"Every RL run's pass@1 on {frame['task'].iloc[0]}, a dot each ({len(runs)} runs from {starts} pre-training "
        f"{'run' if starts == 1 else 'runs'}), and against the mean reward of its last {_LAST} training steps. Open "
        f"markers are the bases. Bars are 95% intervals over {frame['n'].max():,} problems: each of one run, so they "
        "do not hold the spread between seeds, which the dots show. Dots of one M_t are moved sideways to be seen."
    )


def draw(frame: pd.DataFrame) -> Figure:
    figure, (left, right) = style.panels(1, 2, width=4.3, height=3.5, sharey=True)
    starts = sorted(frame["pretrain_seed"].unique())
    looks = {start: style.series(i) for i, start in enumerate(starts)}
    colors = style.token_colors(sorted(frame["tokens"].unique()))
    reach = []
    for tokens in colors:
        group = frame[frame["tokens"] == tokens]
        places = _side_by_side(frame, group)
        reach += [places.min(), places.max()]
        for place, row in zip(places, records(group)):
            color, marker = looks[row.pretrain_seed]
            _dot(left, place, row, color, marker)
            if row.recipe == "rl" and not np.isnan(row.reward):
                _dot(right, row.reward, row, colors[tokens], marker)
    style.percent_axis(left)
    left.set_ylim(bottom=0.0)
    style.x_axis(left, frame)
    margin = max(max(reach) / min(reach), 1.5) ** 0.04
    left.set_xlim(min(reach) / margin, max(reach) * margin)
    left.set_ylabel("pass@1")
    right.set_xlabel(f"mean training reward, last {_LAST} steps")
    right.margins(x=0.08)
    if frame["reward"].isna().all():
        style.say_empty(right, "not logged")
    shots = frame.loc[frame["recipe"] == "base", "shots"].max()
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="", label=f"RL, pre-training seed {start}")
        for start, (c, m) in looks.items()
    ]
    if (frame["recipe"] == "base").any():
        gray = style.look("base").color
        handles.append(
            Line2D([], [], color=gray, marker="o", markerfacecolor="white", linestyle="", label=label("base", shots))
        )
    style.lower_legend(figure, handles, most=4)
    style.token_legend(figure, colors, marker="o")
    return figure


def _dot(axes: Axes, x: float, row: object, color: object, marker: str) -> None:
    value, lo, hi, hollow = (getattr(row, name) for name in ("value", "lo", "hi", "recipe"))
    axes.vlines(x, lo, hi, color=color, alpha=0.45, linewidth=1.0)
    face = "white" if hollow == "base" else color
    axes.plot(x, value, marker=marker, color=color, markerfacecolor=face, linestyle="", clip_on=False, zorder=3)


def _side_by_side(frame: pd.DataFrame, group: pd.DataFrame) -> np.ndarray:
    """Each run's place on the logarithmic axis, moved sideways by at most a third of the distance to the next M_t."""
    axis = style.axis_of(frame)
    centers = np.sort(np.log(frame.groupby("tokens")[axis].mean().to_numpy(float)))
    width = 0.35 * (np.diff(centers).min() if len(centers) > 1 else 0.5)
    offsets = np.linspace(-width, width, len(group)) if len(group) > 1 else np.zeros(1)
    return group[axis].to_numpy(float) * np.exp(offsets)
