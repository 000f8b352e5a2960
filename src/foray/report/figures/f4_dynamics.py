"""F4: pass@1 and pass@K along SFT→RL and along RL, from one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.paper import paper_rows
from foray.report.paper_curves import Behind, Curve, ratio_words
from foray.report.results import NotDrawable, Results, busiest, inside_training, label, whole_runs
from foray.report.second_stage import first_stage_ends
from foray.report.spending import add_axis

NAME = "f4_dynamics"
TITLE = "F4. pass@1 and pass@K along SFT→RL and along RL"

_PREFIX = {"sft_rl": "sft"}  # SFT→RL starts from the SFT node: the points of SFT are its first part


def data(results: Results) -> pd.DataFrame:
    """Columns as in F2, and ``stage``: the last stage of training before the point."""
    rows = results.passk_rows(results.main_task, results.end_ks, recipe=("base", "rl", "sft", "sft_rl"))
    inside = inside_training(rows)
    inside = inside[inside["tokens"].isin(rows.loc[rows["recipe"].isin(["rl", "sft_rl"]), "tokens"])]
    if inside.empty:
        raise NotDrawable("no checkpoint inside RL or SFT→RL has been evaluated")
    rows = whole_runs(rows[rows["tokens"] == busiest(inside)])
    starts = first_stage_ends(results, "sft_rl")
    recipes = [recipe for recipe in ("sft_rl", "rl") if recipe in set(rows["recipe"])]
    paths = {r: _path(results.average(_along(rows, r)).drop(columns="chance"), r, starts) for r in recipes}
    # A point of SFT costs what SFT cost until there, so the axis comes before the name of the whole path.
    return pd.concat([add_axis(results, path).assign(recipe=recipe) for recipe, path in paths.items()])


def _along(rows: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """The recipe's rows, those of its first stage and of its bases, all of the same pre-trainings."""
    own, first = (set(rows.loc[rows["recipe"] == r, "pretrain_seed"]) for r in (recipe, _PREFIX.get(recipe)))
    wanted = rows["recipe"].isin([recipe, "base", *([_PREFIX[recipe]] if first & own else [])])
    return rows[wanted & rows["pretrain_seed"].isin(first & own or own)]


def _path(frame: pd.DataFrame, recipe: str, starts: Mapping[int, int]) -> pd.DataFrame:
    """A recipe's points in order: M_t, the points of the recipe's first stage, the recipe's own points.

    ``starts``: the updates of the first stage by M_t. SFT may go on for longer than the one that RL starts from.
    """
    own = frame[frame["recipe"] == recipe].assign(stage=recipe.split("_")[-1])
    first = frame[frame["recipe"] == _PREFIX.get(recipe)].assign(stage=_PREFIX.get(recipe, ""))
    if len(first):
        end = starts.get(frame["tokens"].iloc[0], first["stage_step"].max())
        own.loc[own["stage_step"] <= end, "stage"] = _PREFIX[recipe]
        first = first[first["stage_step"] <= end]
        first = first[~first["stage_step"].isin(own["stage_step"])]
    path = pd.concat([part for part in (first, own) if len(part)])
    base = frame[frame["recipe"] == "base"].assign(stage="base")
    if len(base) and not (path["stage_step"] == 0).any():
        path = pd.concat([base, path])
    return path.sort_values("stage_step", kind="stable")


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's one start, 14B; each of its stages is stretched to the length of ours."""
    if style.axis_of(frame) != "tokens" or results.main_task in results.hard:
        return None
    curves, sources, metrics = [], set[str](), list(frame["metric"].unique())
    for panel, recipe in enumerate(frame["recipe"].unique()):
        path = frame[frame["recipe"] == recipe]
        end, start = path["stage_step"].max(), path.loc[path["stage"] != "rl", "stage_step"].max()
        for metric in metrics:
            stages = paper_rows("gsm8k", [metric], [f"{recipe}_from_14B"], "stage")
            steps = paper_rows("gsm8k", [metric], [f"{recipe}_from_14B"], "rl_step")
            if steps.empty or path[path["stage"] == "rl"].empty:
                continue
            if len(stages) > 1:
                curves.append(Curve(panel, [0.0, start], list(stages["value"]), style.look("sft").color))
            x = [start, *(start + (end - start) * step / steps["x"].max() for step in steps["x"])]
            values = [stages["value"].iloc[-1], *steps["value"]]
            curves.append(Curve(panel, x, values, style.look("rl").color, metric))
            sources |= {*stages["source"], *steps["source"]}
    words = (
        f" The paper's start is {ratio_words(14)}. Its stages are stretched to ours: RL of 600 draws after SFT, one "
        "update each, and of 1,000 alone, four updates each."
    )
    return Behind(curves, "GSM8K", sorted(sources), None, words) if curves else None


def caption(frame: pd.DataFrame) -> str:
    ratio = frame["tokens_per_parameter"].iloc[0]
    start = frame[frame["stage"] == "base"]
    text = (
        f"pass@k on {frame['task'].iloc[0]} along the updates of SFT→RL and of RL, both from M_t at "
        f"{per_parameter(ratio)} tokens per parameter. "
    )
    if len(start):
        text += f"The open marker is M_t itself, {start['shots'].iloc[0]}-shot. "
    return text + style.shots_note(frame[frame["stage"] != "base"]) + style.interval_note(frame, "problems")


def draw(frame: pd.DataFrame) -> Figure:
    recipes = list(frame["recipe"].unique())
    axis = style.axis_of(frame)
    frame = frame.assign(x=frame["stage_step"] if axis == "tokens" else frame[axis] - frame[axis].min())
    figure, axes = style.panels(1, len(recipes), width=4.0, height=3.1, sharey=True)
    metrics = list(frame["metric"].unique())
    dashes = dict(zip(metrics, ("-", (0, (4, 2)))))
    for place, recipe in zip(axes, recipes):
        for metric in metrics:
            _draw_path(place, frame[(frame["recipe"] == recipe) & (frame["metric"] == metric)], dashes[metric])
        place.set_title(label(recipe))
        if axis == "tokens":
            place.set_xlabel("updates since Mₜ")
        else:
            style.spent_axis(place, axis, "since Mₜ")
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    stages = [s for s in ("sft", "rl") if (frame["stage"] == s).any()]
    handles = [Line2D([], [], color="#444444", linestyle=dashes[m], label=m) for m in metrics]
    handles += [
        Line2D([], [], color=style.look(s).color, marker=style.look(s).marker, label=f"{label(s)} stage")
        for s in stages
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_path(axes: Axes, rows: pd.DataFrame, dash: object) -> None:
    """One metric along one recipe, stage by stage. Each stage begins at the end of the stage before."""
    before: pd.DataFrame | None = None
    for stage in ("base", "sft", "rl"):
        part = rows[rows["stage"] == stage]
        if part.empty:
            continue
        color, marker = style.look(stage)
        if before is not None:
            joint = pd.concat([before, part.iloc[:1]])
            fresh = before["stage"].iloc[0] == "base"
            axes.plot(joint["x"], joint["value"], color=color, linestyle=":" if fresh else dash, zorder=1)
        if before is not None and before["stage"].iloc[0] == "sft":
            axes.axvline(before["x"].iloc[0], color="#aaaaaa", linewidth=0.9, zorder=0)
        hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": color} if stage == "base" else {}
        style.band(axes, part, "x", color, marker, linestyle=dash, **hollow)
        before = part.iloc[-1:]
