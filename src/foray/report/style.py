"""How every figure looks: one color and marker per recipe, token and percent axes, curves with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    EngFormatter,
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
)

from foray.core.rng import key
from foray.core.spelling import LABELS, per_parameter
from foray.report.markup import with_minus
from foray.report.panels import narrow, panels
from foray.report.results import AXES, LENIENT, label
from foray.report.stats import ENOUGH_PRETRAININGS

# Used with rc_context around drawing and saving, so that nothing global changes.
RC: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names of tasks and recipes are plain text
}


_CHANCE: Any = {"color": "#444444", "linestyle": ":", "linewidth": 1.1}
_LENIENT: Any = {"linestyle": "--", "markerfacecolor": "white", "markeredgecolor": "#666666"}
WORDS = {"samples": "sequences", "flops": "FLOPs", "seconds": "seconds of training"}


class Look(NamedTuple):
    color: str
    marker: str


# Okabe and Ito's colors, which differ with the common color-vision deficiencies too; markers repeat the difference.
LOOKS = {
    "base": Look("#666666", "o"),
    "rl": Look("#0072B2", "s"),
    "sft": Look("#E69F00", "^"),
    "sft_rl": Look("#009E73", "D"),
    "sft_gold": Look("#56B4E9", "v"),
    "sft_gold_rl": Look("#D55E00", "P"),
    "parallel": Look("#CC79A7", "X"),
}
# For what is not a recipe: pre-training seeds, model sizes, numbers of rollouts.
_SERIES = (
    Look("#0072B2", "o"),
    Look("#D55E00", "s"),
    Look("#009E73", "^"),
    Look("#CC79A7", "D"),
    Look("#E69F00", "v"),
    Look("#56B4E9", "P"),
)
# For a user's recipes. None is near a color above (test_looks.py), so there is no further green.
_SPARE = ("#332288", "#882255", "#A0522D", "#999933", "#785EF0", "#AA4499")
_SPARE_MARKERS = ("<", ">", "p", "h", "d")


def look(recipe: str) -> Look:
    """The recipe's color and marker; the name decides on those of a user's own recipe."""
    if recipe in LOOKS:
        return LOOKS[recipe]
    number = key("look", recipe)
    return Look(_SPARE[number % len(_SPARE)], _SPARE_MARKERS[number // len(_SPARE) % len(_SPARE_MARKERS)])


def series(number: int) -> Look:
    """The color and marker of the n-th of several things that are not recipes."""
    return _SERIES[number % len(_SERIES)]


def paler(color: str, share: float) -> str:
    """The color with a ``share`` of white in it."""
    red, green, blue = (c + share * (1 - c) for c in to_rgb(color))
    return to_hex((red, green, blue))


def percent_axis(axes: Axes, points: bool = False) -> None:
    """Shares in [0, 1] (or differences of shares) shown as percent (or percentage points)."""
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda share, _: with_minus(f"{100 * share:.4g}{'' if points else '%'}"))
    )


def in_units(tokens: int, largest: int) -> str:
    """A token count in the unit (k, M, B) that suits the largest one, without the unit."""
    return f"{tokens / unit(largest)[0]:.3g}"


def unit(largest: int) -> tuple[float, str]:
    return (1e9, "B") if largest >= 2e9 else (1e6, "M") if largest >= 5e5 else (1e3, "k")


def axis_of(frame: pd.DataFrame) -> str:
    """The axis that the frame has a column of, or else tokens."""
    return next((axis for axis in AXES[1:] if axis in frame), AXES[0])


def x_axis(axes: Axes, frame: pd.DataFrame, ratio: bool = False) -> None:
    """The axis of a figure over pre-training, logarithmic."""
    axis = axis_of(frame)
    if axis == AXES[0]:
        _token_axis(axes, frame, ratio)
    else:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        spent_axis(axes, axis, "from the first token on")


def spent_axis(axes: Axes, axis: str, since: str) -> None:
    """Labels of an axis of samples, FLOPs or seconds: 20M, 5T."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(f"{WORDS[axis]} {since}")


def _token_axis(axes: Axes, frame: pd.DataFrame, ratio: bool) -> None:
    """Pre-training tokens, ticks at the checkpoints; ``ratio`` adds tokens/parameter above."""
    marks = frame[["tokens", "tokens_per_parameter"]].drop_duplicates().sort_values("tokens")
    tokens = marks["tokens"].tolist()
    axes.set_xscale("log")
    span = max(tokens[-1] / tokens[0], 1.5)
    axes.set_xlim(tokens[0] / span**0.07, tokens[-1] * span**0.07)
    # Labels closer than a twelfth of the axis would touch; the last checkpoint always keeps its own.
    shown: list[int] = []
    for t in reversed(tokens):
        if not shown or np.log(shown[-1] / t) > np.log(span) / 12:
            shown.append(t)
    fixed_ticks(axes, shown, [in_units(t, tokens[-1]) for t in shown])
    axes.set_xlabel(f"{'tokens' if narrow(axes) else 'pre-training tokens'} ({unit(tokens[-1])[1]})")
    if ratio:
        ratios = dict(zip(marks["tokens"], marks["tokens_per_parameter"]))
        ratio_axis(axes, shown, [per_parameter(ratios[t]) for t in shown])


def ratio_axis(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """An axis of tokens per parameter above one of tokens, with labels at these tokens."""
    above = axes.secondary_xaxis("top")
    fixed_ticks(above, places, labels)
    above.tick_params(length=0, pad=1, labelsize=7, colors="#666666")
    above.spines["top"].set_visible(False)
    above.set_xlabel("tokens per parameter", fontsize=7, color="#666666")


def fixed_ticks(axes: Any, places: Sequence[float], labels: Sequence[str]) -> None:
    """Labels at these places of the horizontal axis, and no others."""
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_major_formatter(FixedFormatter(list(labels)))
    axes.xaxis.set_minor_locator(NullLocator())


def band(
    axes: Axes, rows: pd.DataFrame, x: str, color: str, marker: str, fill: bool = True, shift: float = 1.0, **line: Any
) -> None:
    """One curve with its intervals as thin bars and, with ``fill``, a faint band. Columns: ``x``, value, lo, hi.

    ``shift`` multiplies ``x``, so that the bars of crowded curves stand beside one another.
    """
    at = rows[x].to_numpy(float) * shift
    value, lo, hi = (rows[c].to_numpy(float) for c in ("value", "lo", "hi"))
    if fill:
        axes.fill_between(at, lo, hi, color=color, alpha=0.10, linewidth=0)
    axes.vlines(at, lo, hi, color=color, alpha=0.45, linewidth=1.0)
    # Unclipped: a marker at 0% lies on the axis and stays whole.
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6, "clip_on": False, "zorder": 3}
    axes.plot(at, value, color=color, marker=marker, **(edge | line))


def recipe_curves(axes: Axes, frame: pd.DataFrame) -> None:
    """A curve over pre-training for every recipe in the frame, in its order; bands only while few enough to tell.

    Bases graded leniently beside strict ones are dashed, with open markers.
    """
    frame, lenient = _apart(frame)
    recipes = list(frame["recipe"].unique())
    x = axis_of(frame)
    crowded = len(recipes) > 4 and x == AXES[0]
    span = max(frame["tokens"].max() / frame["tokens"].min(), 1.5)
    for i, recipe in enumerate(recipes):
        shift = span ** (0.011 * (i - (len(recipes) - 1) / 2)) if crowded else 1.0
        band(axes, frame[frame["recipe"] == recipe], x, *look(recipe), fill=not crowded, shift=shift)
        if recipe == "base" and len(lenient):
            band(axes, lenient, x, *look(recipe), fill=False, shift=shift, **_LENIENT)


def _apart(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of a curve, and those of bases that are graded leniently beside them."""
    if not set(frame.get("extraction", ())) - {"", LENIENT}:
        return frame, frame.iloc[:0]
    lenient = frame["extraction"] == LENIENT
    return frame[~lenient], frame[lenient]


def recipe_legend(
    figure: Figure, frame: pd.DataFrame, extra: Sequence[Line2D] = (), inside: Axes | None = None
) -> None:
    """One legend for the whole figure, the recipes of the frame and then ``extra``: below it, or in an empty panel."""
    frame, lenient = _apart(frame)
    shots = frame.dropna(subset=["shots"]).groupby("recipe")["shots"].max()
    handles = [
        Line2D(
            [], [], color=look(r).color, marker=look(r).marker, markeredgecolor="white", label=label(r, shots.get(r))
        )
        for r in frame["recipe"].unique()
    ]
    if len(lenient):
        color, marker = look("base")
        handles.append(Line2D([], [], color=color, marker=marker, label=f"{LABELS['base']}, lenient", **_LENIENT))
    handles += extra
    if inside is None:
        lower_legend(figure, handles)
    else:
        inside.legend(handles=handles, loc="center")


def lower_legend(figure: Figure, handles: Sequence[Line2D], most: int = 5) -> None:
    """A legend below the figure, of equal lines of at most so many names."""
    lines = -(-len(handles) // most)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=-(-len(handles) // max(1, lines)))


def token_colors(tokens: Sequence[int]) -> dict[int, Any]:
    """A shade for every M_t, darker for earlier ones."""
    return dict(zip(tokens, colormaps["viridis"](np.linspace(0.0, 0.88, len(tokens)))))


def token_legend(figure: Figure, colors: Mapping[int, Any], marker: str = "") -> None:
    scale, name = unit(max(colors))
    handles = [
        Line2D([], [], color=c, marker=marker, linestyle="" if marker else "-", label=f"{t / scale:.3g}{name}")
        for t, c in colors.items()
    ]
    figure.legend(handles=handles, loc="outside right center", title="tokens of Mₜ", title_fontsize=8)


def metric_panels(frame: pd.DataFrame, titles: Sequence[tuple[str, str, str]]) -> Figure:
    """One panel beside another, each a metric against tokens for every recipe. ``titles``: (task, metric, title)."""
    figure, axes = panels(1, len(titles))
    for place, (task, metric, title) in zip(axes, titles):
        rows = frame[(frame["task"] == task) & (frame["metric"] == metric)]
        recipe_curves(place, rows)
        chance_line(place, rows)
        place.set_title(title)
        percent_axis(place)
        if metric.startswith("pass@"):
            place.set_ylim(bottom=0.0)
        x_axis(place, frame)
    recipe_legend(figure, frame, [Line2D([], [], label="guessing", **_CHANCE)] if frame["chance"].notna().any() else [])
    return figure


def chance_line(axes: Axes, rows: pd.DataFrame) -> None:
    """A dotted line at what guessing reaches, where the rows know it."""
    known = rows["chance"].dropna()
    if len(known):
        axes.axhline(known.iloc[0], zorder=1, **_CHANCE)


def guess_note(frame: pd.DataFrame) -> str:
    """Says what the dotted line of pass@k is, where there is one."""
    known = frame[frame["metric"].str.startswith("pass@") & frame["chance"].notna()]
    if known.empty:
        return ""
    return "The dotted line is what answers reach that are drawn from the training answers, the question unread. "


def say_empty(axes: Axes, words: str) -> None:
    """Writes the words into a panel without points, and takes the ticks off its horizontal axis."""
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color="#666666", backgroundcolor="w")
    axes.xaxis.set_major_locator(NullLocator())


def shots_note(frame: pd.DataFrame) -> str:
    """Says that trained models saw no examples, where they saw none."""
    trained = frame[frame["recipe"] != "base"]
    return "Trained models answer without examples. " if len(trained) and trained["shots"].max() == 0 else ""


def lenient_note(frame: pd.DataFrame) -> str:
    """Says what the dashed curve of the bases is, where there is one."""
    words = "Open circles: the same bases, with the last number accepted where the asked-for form is missing. "
    return words if len(_apart(frame)[1]) else ""


def passk_notes(frame: pd.DataFrame) -> str:
    """What captions of pass@k against tokens end with."""
    return shots_note(frame) + lenient_note(frame) + guess_note(frame) + interval_note(frame, "problems")


def interval_note(frame: pd.DataFrame, what: str) -> str:
    """The sentence about intervals that captions share."""
    counts = sorted(frame["n"].unique())
    n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    return f"Bars (and bands) are 95% intervals over {n} {what}; {seeds_note(frame)}"


def seeds_note(frame: pd.DataFrame) -> str:
    """The half of a sentence about intervals that says what they tell of other seeds."""
    runs, starts = int(frame["runs"].max()), int(frame["pretrainings"].max())
    if starts >= ENOUGH_PRETRAININGS:
        which = "" if frame["pretrainings"].min() >= ENOUGH_PRETRAININGS else f", where there are {ENOUGH_PRETRAININGS}"
        return f"means over up to {starts} pre-trainings: they speak of other pre-trainings too{which}."
    if runs == 1:
        return "one seed, so they say nothing about the spread between seeds."
    if (frame["runs"] == frame["pretrainings"]).all():
        return f"means over up to {starts} pre-trainings, one seed each: they say nothing of the spread between seeds."
    return (
        f"means over up to {runs} seeds."
        if starts == 1
        else f"means over up to {runs} runs from {starts} pre-trainings."
    )
