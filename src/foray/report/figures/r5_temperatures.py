"""R5: pass@k of every recipe against the temperature of its samples, at the last M_t that was sampled at several."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.results import ANY, NotDrawable, Results, recipe_rank

NAME = "r5_temperatures"
TITLE = "R5. pass@k at other temperatures"


def data(results: Results) -> pd.DataFrame:
    """One row a recipe, temperature and metric: the mean over the runs that have every temperature."""
    rows = results.passk_rows(results.main_task, results.ks, final=True, temperature=ANY)
    rows = rows.assign(temperature=rows["temperature"].fillna(results.temperature))
    model = ["recipe", "tokens", "pretrain_seed", "seed"]
    several = rows.groupby(model)["temperature"].transform("nunique")
    rows = rows[(several > 1) & (several == several.groupby([rows["recipe"], rows["tokens"]]).transform("max"))]
    rows = rows[rows["tokens"] == rows["tokens"].max()]
    if rows.empty:
        raise NotDrawable("no model was sampled at two temperatures (evaluation.temperatures)")
    frame = results.average(rows, ["temperature"])
    return frame.sort_values("recipe", key=lambda names: names.map(recipe_rank), kind="stable", ignore_index=True)


def caption(frame: pd.DataFrame) -> str:
    ratio = frame["tokens_per_parameter"].iloc[0]
    return (
        f"pass@k on {frame['task'].iloc[0]} of every model from M_t at {per_parameter(ratio)} tokens per parameter, "
        "against the temperature of its samples. Few samples ask for a low one, many for a higher one. "
        + style.shots_note(frame) + style.guess_note(frame)
        + style.interval_note(frame, "problems")
    )  # fmt: skip


def draw(frame: pd.DataFrame) -> Figure:
    metrics = list(dict.fromkeys(frame["metric"]))
    figure, axes = style.panels(1, len(metrics))
    for place, metric in zip(axes, metrics):
        rows = frame[frame["metric"] == metric]
        for recipe in rows["recipe"].unique():
            style.band(place, rows[rows["recipe"] == recipe], "temperature", *style.look(recipe), fill=False)
        style.chance_line(place, rows)
        hot = sorted(frame["temperature"].unique())
        style.fixed_ticks(place, hot, [f"{t:g}" for t in hot])
        place.set_title(metric)
        place.set_xlabel("temperature")
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    style.recipe_legend(figure, frame)
    return figure
