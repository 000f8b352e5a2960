"""F3: pass@k against pre-training tokens with SFT on all solutions. SFT-Gold has SFT's updates or SFT's epochs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from foray.report import paper_curves, style
from foray.report.results import ANY, NotDrawable, Results, label, recipe_rank
from foray.report.spending import add_axis

NAME = "f3_gold"
TITLE = "F3. pass@k with SFT on all solutions (SFT-Gold)"
behind = paper_curves.grid

_GOLD = ["sft_gold", "sft_gold_rl"]
_DASHES: Any = ((0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def data(results: Results) -> pd.DataFrame:
    """Columns as in F2. ``variant`` is empty for the main grid, else the label of SFT-Gold with SFT's epochs."""
    task = results.main_task
    main = results.curve([f"pass@{k}" for k in results.ks], [task], ["base", "rl", *_GOLD], lenient_base=True)
    rows = results.passk_rows(task, results.ks, final=True, recipe=tuple(_GOLD), variant=ANY)
    rows = rows[rows["variant"].str.contains("epochs")]
    if not main["recipe"].isin(_GOLD).any() and rows.empty:
        raise NotDrawable("neither SFT-Gold nor SFT-Gold→RL has been evaluated")
    frames = [add_axis(results, main).assign(variant="")]
    for name, own in rows.groupby("variant"):
        curve = add_axis(results, results.average(own), variant=str(name))
        frames.append(curve.assign(variant=name, extraction=results.extraction))
    frame = pd.concat([f for f in frames if len(f)], ignore_index=True)
    order = frame["recipe"].map(recipe_rank)
    frame = frame.assign(_o=order).sort_values(["_o", "variant", "tokens"], kind="stable", ignore_index=True)
    return frame.drop(columns="_o")


def caption(frame: pd.DataFrame) -> str:
    variants = [v for v in frame["variant"].unique() if v]
    text = f"pass@k on {frame['task'].iloc[0]} against pre-training tokens, with SFT on all solutions (SFT-Gold). "
    if variants:
        text += (
            "Solid: SFT-Gold with as many updates as SFT on one solution, so each solution is seen less often. "
            f"Dashed, open markers: SFT-Gold matched by epochs instead, with more updates ({'; '.join(variants)}). "
        )
    else:
        text += "SFT-Gold has as many updates as SFT on one solution, so each solution is seen less often. "
    return text + style.passk_notes(frame)


def draw(frame: pd.DataFrame) -> Figure:
    main = frame[frame["variant"] == ""]
    variants = [v for v in frame["variant"].unique() if v]
    dashes = {v: _DASHES[i % len(_DASHES)] for i, v in enumerate(variants)}
    metrics = list(frame["metric"].unique())
    figure, axes = style.panels(1, len(metrics))
    others = frame[frame["variant"] != ""]
    series = list(others[["recipe", "variant"]].drop_duplicates().itertuples(index=False, name=None))
    # A little to the right: with one M_t only, the points would lie on the main grid's points.
    span = max(frame["tokens"].max() / frame["tokens"].min(), 1.5) if style.axis_of(frame) == "tokens" else 1.0
    for place, metric in zip(axes, metrics):
        style.recipe_curves(place, main[main["metric"] == metric])
        style.chance_line(place, main[main["metric"] == metric])
        for i, (recipe, variant) in enumerate(series):
            at = (others["recipe"] == recipe) & (others["variant"] == variant) & (others["metric"] == metric)
            color, marker = style.look(recipe)
            look: dict[str, Any] = {"linestyle": dashes[variant], "markerfacecolor": "white", "markeredgecolor": color}
            shift = span ** (0.018 * (i + 1))
            style.band(place, others[at], style.axis_of(frame), color, marker, fill=False, shift=shift, **look)
        place.set_title(metric)
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
        style.x_axis(place, frame)
    handles = [
        Line2D(
            [], [], color=style.look(r).color, marker=style.look(r).marker, linestyle=dashes[v],
            markerfacecolor="white", label=f"{label(r)} ({v})",
        )
        for r, v in series
    ]  # fmt: skip
    style.recipe_legend(figure, main, handles)
    return figure
