"""F8: pre-training mix against model size: base and RL at the last M_t of every model."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from foray.report import style
from foray.report.results import ANY, NotDrawable, Results, label

NAME = "f8_mix_size"
TITLE = "F8. Data mix and model size"


def data(results: Results) -> pd.DataFrame:
    """One row a task, mix, size, recipe and metric, at the last evaluated M_t of the mix and size."""
    frames = []
    for task in dict.fromkeys([results.main_task, results.hard_task or results.main_task]):
        asked: Any = {"final": True, "recipe": ("base", "rl"), "mix": ANY, "model_parameters": ANY}
        rows = results.passk_rows(task, results.end_ks, **asked)
        rows = rows.assign(model_parameters=rows["model_parameters"].fillna(results.model_parameters))
        last = rows.groupby(["mix", "model_parameters"])["tokens"].transform("max")
        frames.append(results.average(rows[rows["tokens"] == last], ["mix", "model_parameters"]))
    frame = pd.concat(frames, ignore_index=True)
    if len(frame[["mix", "model_parameters"]].drop_duplicates()) < 2:
        raise NotDrawable("only one pre-training mix and one model size have been evaluated")
    return frame.drop(columns="chance")


def caption(frame: pd.DataFrame) -> str:
    ratios = sorted(frame["tokens_per_parameter"].unique())
    where = f"{ratios[0]:.2g}" if len(ratios) == 1 else f"{ratios[0]:.2g} to {ratios[-1]:.2g}"
    return (
        f"pass@k on {' and '.join(frame['task'].unique())} of models of several sizes and pre-training mixes, each at "
        f"its last M_t ({where} tokens per parameter): the base (open markers) and after RL (filled). "
        + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    tasks, metrics = list(frame["task"].unique()), list(frame["metric"].unique())
    mixes, sizes = sorted(frame["mix"].unique()), sorted(frame["model_parameters"].unique())
    figure, axes = style.panels(len(tasks), len(metrics), width=max(3.4, 1.2 * len(mixes)), height=2.9)
    step = min(0.24, 0.7 / len(sizes))
    for i, (task, metric) in enumerate((t, m) for t in tasks for m in metrics):
        place = axes[i]
        for row in frame[(frame["task"] == task) & (frame["metric"] == metric)].itertuples():
            size = sizes.index(row.model_parameters)
            color, marker = style.series(size)
            side = 0.25 * step if row.recipe == "rl" else -0.25 * step
            x = mixes.index(row.mix) + step * (size - (len(sizes) - 1) / 2) + side
            place.vlines(x, row.lo, row.hi, color=color, alpha=0.6, linewidth=1.2)
            face = color if row.recipe == "rl" else "white"
            place.plot(x, row.value, color=color, marker=marker, markerfacecolor=face, markersize=6, clip_on=False)
        place.set_title(f"{task}, {metric}")
        place.xaxis.set_major_locator(FixedLocator(range(len(mixes))))
        place.xaxis.set_major_formatter(FixedFormatter([_short(mix) for mix in mixes]))
        place.set_xlim(-0.5, len(mixes) - 0.5)
        place.grid(False, axis="x")
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    handles = [
        Line2D(
            [], [], color=c, marker=m, linestyle="",
            label=f"{style.in_units(size, size)}{style.unit(size)[1]} parameters",
        )
        for size, (c, m) in ((s, style.series(i)) for i, s in enumerate(sizes))
    ]  # fmt: skip
    # Tasks may have different numbers of examples.
    shots = sorted({int(s) for s in frame.loc[frame["recipe"] == "base", "shots"].dropna()}, reverse=True)
    asked = f" ({' and '.join(map(str, shots))}-shot)" if shots else ""
    faces = {label("base") + asked: "white", label("rl"): "#444444"}
    handles += [
        Line2D([], [], color="#444444", marker="o", markerfacecolor=face, linestyle="", label=name)
        for name, face in faces.items()
    ]
    style.lower_legend(figure, handles, most=4)
    return figure


def _short(mix: str) -> str:
    return "main mix" if mix == "" else mix if len(mix) <= 16 else f"{mix[:15]}…"
