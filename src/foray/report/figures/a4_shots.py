"""A4: pass@k of base models against the number of examples in the prompt."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.report import style
from foray.report.paper import paper_rows
from foray.report.paper_curves import GREY, Behind, Curve
from foray.report.results import ANY, NotDrawable, Results

NAME = "a4_shots"
TITLE = "A4. pass@k of base models with few and many examples"


def data(results: Results) -> pd.DataFrame:
    ks = sorted({results.ks[0], results.ks[-1]} | ({8} & set(results.ks)))
    rows = results.passk_rows(results.main_task, ks, recipe="base", variant=ANY)
    rows = rows[rows.groupby("tokens")["shots"].transform("nunique") >= 2]
    # A line is of the same pre-trainings at every point.
    counts = [rows.groupby(at)["shots"].transform("nunique") for at in ("tokens", ["tokens", "pretrain_seed"])]
    rows = rows[counts[0] == counts[1]]
    if rows.empty:
        raise NotDrawable("no base model has been evaluated with two numbers of shots")
    frames = [results.average(same) for _, same in rows.groupby("shots")]
    frame = pd.concat(frames, ignore_index=True).sort_values(["tokens", "shots"], kind="stable", ignore_index=True)
    return frame.drop(columns="chance")


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's bases at four M_t, at the numbers of examples that ours have too."""
    if results.main_task in results.hard:
        return None
    curves, sources, shots = [], set[str](), sorted(frame["shots"].unique())
    for panel, metric in enumerate(frame["metric"].unique()):
        found = paper_rows("gsm8k", [metric], [f"base_{n}_shot" for n in shots])
        found = found.assign(place=[shots.index(int(name.split("_")[1])) for name in found["series"]])
        for start in (2, 10, 20, 44):
            own = found[found["x"] == start].sort_values("place")
            if len(own) > 1:
                curves.append(Curve(panel, own["place"].tolist(), own["value"].tolist(), GREY, f"{start}B"))
                sources |= set(own["source"])
    words = " The paper's M_t are 2B to 44B tokens (1.3 to 30 a parameter)."
    return Behind(curves, "GSM8K", sorted(sources), None, words) if curves else None


def caption(frame: pd.DataFrame) -> str:
    return (
        f"pass@k on {frame['task'].iloc[0]} of base models against the number of solved examples in the prompt "
        "(evenly spaced, not to scale). One line per checkpoint M_t; darker is earlier in pre-training. "
        + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    metrics = list(frame["metric"].unique())
    figure, axes = style.panels(1, len(metrics))
    colors = style.token_colors(sorted(frame["tokens"].unique()))
    shots = sorted(frame["shots"].unique())
    # Side by side: the bars of one line would hide the bars of another.
    shift = {t: 0.06 * (i - (len(colors) - 1) / 2) for i, t in enumerate(colors)}
    for place, metric in zip(axes, metrics):
        for tokens, color in colors.items():
            rows = frame[(frame["metric"] == metric) & (frame["tokens"] == tokens)]
            rows = rows.assign(x=[shots.index(s) + shift[tokens] for s in rows["shots"]])
            style.band(place, rows, "x", color, "o", fill=False)
        place.set_title(metric)
        place.set_xlabel("examples in the prompt")
        style.fixed_ticks(place, range(len(shots)), [str(s) for s in shots])
        place.set_xlim(-0.4, len(shots) - 0.6)
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    style.token_legend(figure, colors)
    return figure
