"""P1: the dial of parallel averaging: pass@1 against pass@K and against general abilities, over SFT's learning rate."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.measurements import PassK
from foray.report.paper import AVERAGE_OF_5, PARAMETERS, paper_rows
from foray.report.paper_curves import Behind, Curve
from foray.report.results import ANY, AVERAGE, NotDrawable, Results, label, records, shared_pretrainings
from foray.report.verdicts import top_k

NAME = "p1_dial"
TITLE = "P1. Parallel averaging at several rates of SFT"

BESIDE = ("base", "rl", "sft", "sft_rl")
_START = 20  # the paper's M_t, in billions of tokens
_RATIOS = {"parallel_sft_1e-7": 0.1, "parallel_sft_1e-6": 1.0, "parallel_sft_4e-5": 40.0}  # of SFT's rate to RL's


def data(results: Results) -> pd.DataFrame:
    """A row a position, and one a recipe beside the dial: ``ratio`` of SFT's rate to RL's (NaN), ``x`` pass@1, ``y``
    pass@K or the general average (``against``), each with its interval. One M_t: the last with the most positions. All
    are of the pre-trainings that every one of them has.
    """
    task = results.main_task
    top = f"pass@{top_k(results, task)}"
    ratios = _positions(results, task)
    if not ratios:
        raise NotDrawable("parallel averaging has not been evaluated at two rates of SFT from one M_t")
    tokens = max(ratios, key=lambda t: (len(ratios[t]), t))
    passk = results.passk_rows(task, [1, top_k(results, task)], final=True, tokens=tokens, variant=ANY)
    probes = results.rows(
        task=AVERAGE, metric="acc", final=True, tokens=tokens, trained_on=results.trained(task), variant=ANY
    )
    drawn = [(recipe, "") for recipe in BESIDE] + [("parallel", variant) for variant in ratios[tokens]]
    own = pd.concat([passk, probes])
    own = own[[place in drawn for place in zip(own["recipe"], own["variant"])]]
    own = own[own["pretrain_seed"].isin(shared_pretrainings(own, ["recipe", "variant", "task"]))]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in records(results.average(own, ["variant"])):
        found.setdefault((row.recipe, row.variant), {})[row.metric] = row
    places = [(r, "", None) for r in BESIDE] + [
        ("parallel", v, ratio) for v, ratio in sorted(ratios[tokens].items(), key=lambda p: p[1])
    ]
    rows = [
        _row(recipe, variant, ratio, against, has["pass@1"], has[metric], tokens / results.model_parameters)
        for against, metric in ((top, top), (AVERAGE, "acc"))
        for recipe, variant, ratio in places
        if {"pass@1", metric} <= set(has := found.get((recipe, variant), {}))
    ]
    return pd.DataFrame(rows)


def _positions(results: Results, task: str) -> dict[int, dict[str, float]]:
    """By M_t with two or more: variant and ratio of each position, the main grid's first where two have one ratio."""
    found: dict[int, dict[float, str]] = {}
    for e in sorted(
        results.select(PassK, recipe="parallel", task=task, final=True, variant=ANY), key=lambda e: e.variant
    ):
        rates = e.learning_rates or {}
        if rates.get("rollouts") and "demonstrations" in rates:
            ratio = float(f"{rates['demonstrations'] / rates['rollouts']:.6g}")
            found.setdefault(e.tokens, {}).setdefault(ratio, e.variant)
    return {tokens: {v: ratio for ratio, v in of.items()} for tokens, of in found.items() if len(of) > 1}


def _row(
    recipe: str, variant: str, ratio: float | None, against: str, x: Any, y: Any, per_parameter: float
) -> dict[str, Any]:
    return {
        "recipe": recipe, "variant": variant, "ratio": ratio, "tokens": x.tokens, "tokens_per_parameter": per_parameter,
        "task": x.task, "against": against, "x": x.value, "x_lo": x.lo, "x_hi": x.hi,
        "y": y.value, "y_lo": y.lo, "y_hi": y.hi, "n": x.n,
        "runs": x.runs, "pretrainings": x.pretrainings,
    }  # fmt: skip


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's three positions from 20B tokens, each at its last update."""
    if results.main_task in results.hard:
        return None
    curves, sources = [], set[str]()
    for panel, against in enumerate(frame["against"].unique()):
        task, metric = (AVERAGE_OF_5, "acc") if against == AVERAGE else ("gsm8k", against)
        ends = []
        for series, ratio in _RATIOS.items():
            one, other = (
                paper_rows(t, [m], [series], "rl_step").tail(1) for t, m in (("gsm8k", "pass@1"), (task, metric))
            )
            if len(one) and len(other):
                ends.append((one["value"].iloc[0], other["value"].iloc[0], ratio))
                sources |= {*one["source"], *other["source"]}
        if ends:
            x, y, _ = zip(*ends)
            curves.append(Curve(panel, x, y, style.look("parallel").color, "40"))
    words = (
        f" The paper's dial is from {_START}B tokens, {_START * 1e9 / PARAMETERS:.2g} per parameter: SFT's rate is a "
        "tenth of RL's, equal, and 40 times (SFT's own, which the authors call failing), from the lowest to the "
        "highest pass@32. Its general average has five probes."
    )
    return Behind(curves, "GSM8K", sorted(sources), None, words) if curves else None


def caption(frame: pd.DataFrame) -> str:
    ratio, task = frame["tokens_per_parameter"].iloc[0], frame["task"].iloc[0]
    return (
        f"Parallel averaging from M_t at {per_parameter(ratio)} tokens per parameter, on {task}: pass@1 against "
        f"{' and against '.join(frame['against'].unique()).replace(AVERAGE, 'the general average')}. The line goes "
        "over the ratio of SFT's learning rate to RL's, which stands beside each position. The other recipes and the "
        "base stand beside the dial. " + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    kinds = list(frame["against"].unique())
    figure, axes = style.panels(1, len(kinds), width=4.2, height=3.4)
    for place, against in zip(axes, kinds):
        own = frame[frame["against"] == against]
        dial = own[own["ratio"].notna()].sort_values("ratio")
        place.plot(dial["x"], dial["y"], color=style.look("parallel").color, linewidth=1.2, zorder=2)
        for row in own.itertuples():
            _point(place, row)
        for row in dial.itertuples():
            at: Any = {"xytext": (5, 5), "textcoords": "offset points", "fontsize": 7}
            place.annotate(f"{row.ratio:g}", (row.x, row.y), color="#444444", **at)
        place.set_xlabel("pass@1")
        place.set_ylabel("general average" if against == AVERAGE else against)
        style.percent_axis(place)
        place.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}%"))
    handles = [
        Line2D([], [], color=style.look(r).color, marker=style.look(r).marker, linestyle="-" if r == "parallel" else "",
               markeredgecolor="white", label=label(r)) for r in frame["recipe"].unique()
    ]  # fmt: skip
    style.lower_legend(figure, handles)
    return figure


def _point(place: Axes, row: Any) -> None:
    color, marker = style.look(row.recipe)
    place.errorbar(
        row.x, row.y, xerr=[[row.x - row.x_lo], [row.x_hi - row.x]], yerr=[[row.y - row.y_lo], [row.y_hi - row.y]],
        color=color, marker=marker, markeredgecolor="white", markeredgewidth=0.6, elinewidth=0.8, alpha=0.9, zorder=3,
    )  # fmt: skip
