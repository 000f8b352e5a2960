"""R3: RL's gain against the base's held-out loss, one point an M_t."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foray.report import style
from foray.report.differences import passk_difference
from foray.report.measurements import TextLosses
from foray.report.readings.rank_correlation import LEAST, spearman
from foray.report.results import NotDrawable, Results
from foray.report.verdicts import top_k

NAME = "r3_heldout_gain"
TITLE = "R3. RL's gain against the base's held-out loss"


def data(results: Results) -> pd.DataFrame:
    """One row an M_t of a pre-training and k: ``nats`` a token of the base (mean of the sources), RL's gain in pass@k.

    ``rho`` with its interval is the rank correlation of the two over the rows of a k, the same on all of them.
    """
    task, rule = results.main_task, results.extraction
    nats = _nats(results)
    rows = []
    for k in sorted({1, top_k(results, task)}):
        for tokens, pairs in results.pairs("rl", "base", task).items():
            for start in sorted({run.pretrain_seed for run in pairs}):
                own = {run: pair for run, pair in pairs.items() if run.pretrain_seed == start}
                if (tokens, start) in nats:
                    gain = passk_difference(own, k, rule).interval
                    rows.append((tokens, start, nats[tokens, start], k, *gain, len(own)))
    if not rows:
        raise NotDrawable("no M_t has a base with held-out perplexity, and RL")
    columns = ["tokens", "pretrain_seed", "nats", "k", "value", "lo", "hi", "n", "runs"]
    frame = pd.DataFrame(rows, columns=columns).assign(recipe="rl", task=task)
    frame["tokens_per_parameter"] = frame["tokens"] / results.model_parameters
    rho = {k: spearman(own["nats"].to_numpy(float), own["value"].to_numpy(float)) for k, own in frame.groupby("k")}
    for name, at in (("rho", 0), ("rho_lo", 1), ("rho_hi", 2)):
        frame[name] = [rho[k][at] for k in frame["k"]]
    return frame


def _nats(results: Results) -> dict[tuple[int, int], float]:
    """Held-out nats a token of every base of the main grid, the plain mean over sources, by tokens and pre-training."""
    bases = results.select(TextLosses, task="", recipe="base", final=True)
    return {(b.tokens, b.pretrain_seed): float(np.mean(list(b.nats.values()))) for b in bases if b.nats}


def caption(frame: pd.DataFrame) -> str:
    starts = frame["pretrain_seed"].nunique()
    several = f"{starts} pre-trainings (shapes)" if starts > 1 else "1 pre-training"
    text = (
        f"RL − base on {frame['task'].iloc[0]}, in points, against the base's held-out loss (mean of its sources), one "
        f"point an M_t of {several}; the axis falls to the right, as training goes. "
    )
    of_k = {int(k): frame[frame["k"] == k] for k in frame["k"].unique()}
    said = [_correlation(k, rows.iloc[0], len(rows)) for k, rows in of_k.items()]
    text += f"Rank correlation with the loss: {'; '.join(said)}. "
    return text + (
        "Its interval takes M_t as independent; those of one pre-training are not. Bars are 95% intervals over problems"
        f" (and over up to {int(frame['runs'].max())} seeds)."
    )


def _correlation(k: int, row: pd.Series, n: int) -> str:
    if math.isnan(row["rho"]):
        return f"none for pass@{k} (all equal or a single M_t)"
    if n < LEAST:
        return f"{row['rho']:+.2f} for pass@{k} ({n} M_t, too few for an interval)"
    return f"{row['rho']:+.2f} ({row['rho_lo']:+.2f} to {row['rho_hi']:+.2f}) for pass@{k}"


def draw(frame: pd.DataFrame) -> Figure:
    ks, starts = sorted(frame["k"].unique()), sorted(frame["pretrain_seed"].unique())
    figure, axes = style.panels(1, len(ks), width=3.6, height=3.1)
    colors = style.token_colors(sorted(frame["tokens"].unique()))
    for place, k in zip(axes, ks):
        for row in frame[frame["k"] == k].itertuples():
            marker = style.series(starts.index(row.pretrain_seed)).marker
            place.vlines(row.nats, row.lo, row.hi, color=colors[row.tokens], alpha=0.5, linewidth=1.0)
            place.plot(row.nats, row.value, color=colors[row.tokens], marker=marker, linestyle="", markersize=6)
        place.axhline(0.0, color="#aaaaaa", linewidth=0.9, zorder=0)
        place.invert_xaxis()
        place.set_title(f"Δ pass@{k}, points")
        place.set_xlabel("held-out nats a token of Mₜ")
        style.percent_axis(place, points=True)
    style.token_legend(figure, colors, "o")
    return figure
