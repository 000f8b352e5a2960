"""F8: pre-training mix against model size: base, RL and RL's gain at the last M_t of every model."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.differences import pair, passk_difference
from foray.report.paper import PARAMETERS, PARAMETERS_4B, paper_rows
from foray.report.paper_curves import GREY, Behind, Curve
from foray.report.results import ANY, NotDrawable, Results, label, records, shared_pretrainings

NAME = "f8_mix_size"
TITLE = "F8. Pre-training mix against model size, before and after RL"

_MODEL = ["mix", "model_parameters"]


def data(results: Results) -> pd.DataFrame:
    """One row a task, mix, size, recipe and metric, at the last evaluated M_t of the mix and size.

    Rows with the ``reference`` base are RL's gains over it on the last task. All rows are of the pre-trainings that
    every mix and size has.
    """
    frames, starts = [], set[int]()
    for task in dict.fromkeys([results.main_task, results.hard_task or results.main_task]):
        asked: Any = {"final": True, "recipe": ("base", "rl"), "mix": ANY, "model_parameters": ANY}
        rows = results.passk_rows(task, results.end_ks, **asked)
        rows = rows.assign(model_parameters=rows["model_parameters"].fillna(results.model_parameters))
        rows = rows[rows["tokens"] == rows.groupby(_MODEL)["tokens"].transform("max")]
        starts = shared_pretrainings(rows, _MODEL) or starts  # a task that is not measured yet has none
        frames.append(results.average(rows[rows["pretrain_seed"].isin(starts)], _MODEL))
    frame = pd.concat(frames, ignore_index=True)
    if len(frame[_MODEL].drop_duplicates()) < 2:
        raise NotDrawable("only one pre-training mix and one model size have been evaluated")
    levels = frame.drop(columns="chance").assign(reference="")
    return pd.concat([levels, *_gains(results, levels, starts)], ignore_index=True)


def _gains(results: Results, levels: pd.DataFrame, starts: set[int]) -> list[pd.DataFrame]:
    """RL minus base on the last task, from these pre-trainings, paired by problem and run."""
    found = []
    for row in records(levels[(levels["recipe"] == "rl") & (levels["task"] == levels["task"].iloc[-1])]):
        size = None if row.model_parameters == results.model_parameters else row.model_parameters
        where: Any = {"mix": row.mix, "model_parameters": size}
        asked: Any = {**where, "pretrain_seed": tuple(starts)}
        runs, bases = (results.finals(recipe, row.task, **asked) for recipe in ("rl", "base"))
        if pairs := pair(runs, bases).get(row.tokens):
            gain = passk_difference(pairs, int(row.metric.partition("@")[2]), results.extraction)
            counts = {"runs": len(gain.runs), "pretrainings": len(gain.by_pretraining())}
            found.append(row._replace(reference="base", **gain.interval._asdict(), **counts))
    return [pd.DataFrame(found)] if found else []


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's gains of RL on MATH, of a 1B model on two mixes and of a 4B model."""
    curves, sources = [], set[str]()
    names = {"1b": "1B", "1b_math_mix": "1B, math mix", "4b": "4B"}
    gains, levels = frame[frame["reference"] != ""], frame[frame["reference"] == ""]
    first = levels["task"].nunique() * levels["metric"].nunique()
    for i, metric in enumerate(gains["metric"].unique()):
        for model, name in names.items():
            found = paper_rows("math", [metric], [f"rl_minus_base_{model}"])
            x = found["x"] * 1e9 / (PARAMETERS_4B if model == "4b" else PARAMETERS)
            if len(found):
                curves.append(Curve(first + i, x.tolist(), found["value"].tolist(), GREY, name))
                sources |= set(found["source"])
    words = " The paper's other model has 4.1B parameters and one start."
    return Behind(curves, "MATH", sorted(sources), None, words) if curves else None


def caption(frame: pd.DataFrame) -> str:
    ratios = sorted(frame["tokens_per_parameter"].unique())
    where = " to ".join(map(per_parameter, ratios[:1] + ratios[1:][-1:]))
    shown = "the base (open markers)"
    if (frame["recipe"] == "rl").any():
        shown += " and after RL (filled)"
    if (frame["reference"] != "").any():
        shown += f". Below, the gain of RL over the base on {frame['task'].iloc[-1]}, paired by problem"
    return (
        f"pass@k on {' and '.join(frame['task'].unique())} of models of several sizes and pre-training mixes, each at "
        f"its last M_t ({where} tokens per parameter): {shown}. " + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    gains, frame = frame[frame["reference"] != ""], frame[frame["reference"] == ""]
    tasks, metrics = list(frame["task"].unique()), list(frame["metric"].unique())
    mixes, sizes = sorted(frame["mix"].unique()), sorted(frame["model_parameters"].unique())
    rows = len(tasks) + (len(gains) > 0)
    figure, axes = style.panels(rows, len(metrics), width=max(3.4, 1.2 * len(mixes)), height=2.9)
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
        style.fixed_ticks(place, range(len(mixes)), [_short(mix) for mix in mixes])
        place.set_xlim(-0.5, len(mixes) - 0.5)
        place.grid(False, axis="x")
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    for place, metric in zip(axes[len(tasks) * len(metrics) :], metrics):
        _draw_gains(place, gains[gains["metric"] == metric], sizes)
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
    faces = {label("base") + asked: "white"} | ({label("rl"): "#444444"} if (frame["recipe"] == "rl").any() else {})
    handles += [
        Line2D([], [], color="#444444", marker="o", markerfacecolor=face, linestyle="", label=name)
        for name, face in faces.items()
    ]
    style.lower_legend(figure, handles, most=4)
    return figure


def _draw_gains(place: Axes, gains: pd.DataFrame, sizes: list[int]) -> None:
    """RL minus base of every model against its tokens per parameter, the mix beside it."""
    ratios = gains["tokens_per_parameter"]
    middle = math.sqrt(ratios.min() * ratios.max())
    for row in records(gains):
        color, marker = style.series(sizes.index(row.model_parameters))
        place.vlines(row.tokens_per_parameter, row.lo, row.hi, color=color, alpha=0.6, linewidth=1.2)
        place.plot(row.tokens_per_parameter, row.value, color=color, marker=marker, markersize=6)
        left = row.tokens_per_parameter < middle  # words point outward, away from the other points
        at: Any = {"xytext": (-6 if left else 6, 0), "ha": "right" if left else "left", "color": "#444444"}
        at |= {"textcoords": "offset points", "va": "center", "fontsize": 7}
        place.annotate(_short(row.mix), (row.tokens_per_parameter, row.value), **at)
    place.set_title(f"gain of RL on {gains['task'].iloc[0]}, {gains['metric'].iloc[0]}")
    place.set_xscale("log")
    place.set_xlim(ratios.min() / 3, ratios.max() * 3)
    place.set_ylim(min(0.0, gains["lo"].min()) - 0.05, max(0.0, gains["hi"].max()) + 0.05)  # a few points look like few
    place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    place.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    place.xaxis.set_minor_locator(NullLocator())
    place.set_xlabel("tokens per parameter")
    place.axhline(0.0, color="#444444", linewidth=0.9)
    style.percent_axis(place, points=True)


def _short(mix: str) -> str:
    return "main mix" if mix == "" else mix if len(mix) <= 16 else f"{mix[:15]}…"
