"""A3: pass@k along SFT from one checkpoint, against epochs over the demonstrations."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.core.spelling import per_parameter
from foray.report import paper_curves, style
from foray.report.measurements import TrainingLog
from foray.report.paper import paper_rows
from foray.report.paper_curves import Behind, Curve
from foray.report.results import ANY, RUN, NotDrawable, Results, busiest, inside_training, label, whole_runs

NAME = "a3_epochs"
TITLE = "A3. pass@k along SFT, against epochs"


def data(results: Results) -> pd.DataFrame:
    """One row a point. ``epoch`` is the number of passes over the demonstrations up to the point."""
    rows = results.passk_rows(results.main_task, results.end_ks, recipe=("sft", "sft_gold"), variant=ANY)
    epochs = _epochs(results)
    at = [epochs.get(place, np.nan) for place in zip(*(rows[name] for name in [*RUN, "stage_step"]))]
    rows = rows.assign(epoch=np.array(at, dtype=float)).dropna(subset=["epoch"])
    # Only runs with points inside: an end alone is no curve.
    watched = inside_training(rows)[["recipe", "variant", "tokens"]].drop_duplicates()
    rows = rows.merge(watched, on=["recipe", "variant", "tokens"])
    if rows.empty:
        raise NotDrawable("no checkpoint inside SFT has been evaluated, with its epochs in the training log")
    rows = whole_runs(rows[rows["tokens"] == busiest(rows)])
    return results.average(rows, ["variant", "epoch"]).drop(columns="chance")


def _epochs(results: Results) -> dict[tuple[object, ...], float]:
    """The epochs at every step of every run's SFT, from the training log."""
    found: dict[tuple[object, ...], float] = {}
    for log in results.select(TrainingLog, recipe=("sft", "sft_gold"), variant=ANY, split=ANY):
        place = [getattr(log, name) for name in RUN]
        logged = zip(log.metrics["step"], log.of("demonstrations", "epoch"))
        found |= {(*place, log.updates(int(step))): float(epoch) for step, epoch in logged}
    return found


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's SFT for 5 and for 10 epochs, from its M_t nearest to ours."""
    if results.main_task in results.hard:
        return None
    curves, sources, start = [], set[str](), 0.0
    for panel, metric in enumerate(frame["metric"].unique()):
        found = paper_rows("gsm8k", [metric], ["sft_5_epochs", "sft_10_epochs"])
        both = found.groupby("x").filter(lambda own: len(own) == 2)
        if both.empty:
            continue
        start = paper_curves.nearest(frame, both["x"])
        values = both[both["x"] == start].set_index("series")["value"]
        pair = [values["sft_5_epochs"], values["sft_10_epochs"]]
        curves.append(Curve(panel, [5.0, 10.0], pair, style.look("sft").color))
        sources |= set(both["source"])
    words = f" The paper's two runs, for 5 and for 10 epochs, start at {paper_curves.ratio_words(start)}."
    return Behind(curves, "GSM8K", sorted(sources), None, words) if curves else None


def caption(frame: pd.DataFrame) -> str:
    ratio = frame["tokens_per_parameter"].iloc[0]
    return (
        f"pass@k on {frame['task'].iloc[0]} along SFT from M_t at {per_parameter(ratio)} tokens per parameter. An "
        "epoch is once through all demonstrations; SFT-Gold has several solutions a question, so an epoch of it takes "
        "more updates. The points of a line are stops of the same runs under one learning-rate schedule, not runs of "
        "their own. " + style.shots_note(frame) + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    metrics = list(frame["metric"].unique())
    figure, axes = style.panels(1, len(metrics), width=4.0, height=3.1)
    series = list(frame[["recipe", "variant"]].drop_duplicates().itertuples(index=False, name=None))
    variants = sorted({v for _, v in series})
    dash = dict(zip(variants, ["-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2))] * len(variants)))
    handles = []
    for recipe, variant in sorted(series, key=lambda s: (s[0], s[1])):
        color, marker = style.look(recipe)
        line = {"linestyle": dash[variant]} | (
            {"markerfacecolor": "white", "markeredgecolor": color} if variant else {}
        )
        for place, metric in zip(axes, metrics):
            rows = frame[(frame["recipe"] == recipe) & (frame["variant"] == variant) & (frame["metric"] == metric)]
            style.band(place, rows.sort_values("epoch"), "epoch", color, marker, **line)
        name = label(recipe) + (f" ({variant})" if variant else "")
        handles.append(Line2D([], [], color=color, marker=marker, label=name, **line))
    for place, metric in zip(axes, metrics):
        place.set_title(metric)
        place.set_xlabel("epochs of SFT")
        place.set_xlim(left=0.0)
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    style.lower_legend(figure, handles, most=3)
    return figure
