"""R1: pass@k of RL with few and many rollouts a prompt, against examples and against FLOPs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.measurements import TrainingLog
from foray.report.paper import paper_rows
from foray.report.paper_curves import Behind, Curve
from foray.report.results import ANY, NotDrawable, Results, busiest, label, records
from foray.report.rollout_budgets import EASY, HARD
from foray.report.spending import of_steps

NAME = "r1_rollouts"
TITLE = "R1. RL with few and with many rollouts a prompt"

_RUN = ["tokens", "mix", "variant", "trained_on", "pretrain_seed", "seed"]
_SCREEN_SAMPLES = 64  # samples of the base: a screen chooses questions by them


def data(results: Results) -> pd.DataFrame:
    """One row a point or base of a mix and screen. ``flops`` since M_t; ``total_rollouts`` = examples × rollouts."""
    task, ks = results.main_task, results.end_ks
    bases = results.passk_rows(task, ks, recipe="base", final=True, variant=ANY, mix=ANY)
    rows = results.passk_rows(task, ks, recipe="rl", variant=ANY, mix=ANY)
    rows = rows[rows["variant"] != ""].dropna(subset=["rollouts", "examples"])
    frames = []
    for (mix, screen), own in rows.groupby(["mix", "screen"]):
        own = own[own.groupby("tokens")["rollouts"].transform("nunique") >= 2]
        if own.empty:
            continue
        own = own[own["tokens"] == busiest(own)]
        same = bases["pretrain_seed"].isin(own["pretrain_seed"]) & (bases["mix"] == mix)
        base = bases[same & (bases["tokens"] == own["tokens"].iloc[0])].assign(screen=screen)
        frames += [_with_flops(own, results), results.average(base, ["mix", "screen"])]
    if not frames:
        raise NotDrawable("no RL variants with two numbers of rollouts have been evaluated from one M_t")
    frame = pd.concat([f for f in frames if len(f)], ignore_index=True)
    frame = frame.astype({"rollouts": "Int64", "examples": "Int64"})
    frame = frame.assign(total_rollouts=frame["examples"] * frame["rollouts"])
    low = frame["screen"].map(lambda s: -_bounds(s)[0])
    by = ["mix", "_low", "screen", "rollouts", "variant", "examples"]
    frame = frame.assign(_low=low).sort_values(by, kind="stable", na_position="first", ignore_index=True)
    return frame.drop(columns=["_low", "chance"])


def _with_flops(rows: pd.DataFrame, results: Results) -> pd.DataFrame:
    runs = results.select(TrainingLog, recipe="rl", variant=ANY, mix=ANY, split=ANY)
    logs = {tuple(getattr(run, name) for name in _RUN): run.metrics for run in runs}

    def spent(row: pd.Series) -> float:
        log = logs.get(tuple(row[name] for name in _RUN))
        return np.nan if log is None else of_steps(log[log["step"] <= row["stage_step"]]).flops

    flops = rows.assign(flops=rows.apply(spent, axis=1)).groupby(["variant", "stage_step"])["flops"].mean()
    frame = results.average(rows, ["mix", "screen", "rollouts", "examples", "variant"])
    return frame.join(flops, on=["variant", "stage_step"])


def _bounds(screen: str) -> tuple[int, int]:
    low, _, high = screen.partition(" ")[0].partition("-")
    return (int(low), int(high)) if high else (-1, _SCREEN_SAMPLES)


def name_of(screen: str) -> str:
    """The name of a screen: the questions of the training, by the number of the base's right samples."""
    low, high = _bounds(screen)
    if low < 0:
        return "all questions"
    word = "Easy" if low >= EASY else "Hard" if high <= HARD else ""
    counts, _, grading = screen.partition(" ")
    span = f"{counts} of {_SCREEN_SAMPLES}" + (f", {grading} grading" if grading else "")
    return f"{word} ({span})" if word else span


def _choices(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The screen and the rows of each choice of training questions, of one pre-training mix after another."""
    places = frame[["mix", "screen"]].drop_duplicates().itertuples(index=False, name=None)
    return [(screen, frame[(frame["mix"] == mix) & (frame["screen"] == screen)]) for mix, screen in places]


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's n = 5 and n = 64. Its count of rollouts stands on the axis of FLOPs at our FLOPs a rollout."""
    if results.main_task in results.hard or "pass@1" not in set(frame["metric"]):
        return None
    curves, sources = [], set[str]()
    for i, (screen, own) in enumerate(_choices(frame)):
        own = own[own["recipe"] != "base"]
        price = pd.Series(own["flops"].to_numpy(float) / own["total_rollouts"].to_numpy(float)).median()
        like = "easy" if _bounds(screen)[0] >= EASY else "hard" if _bounds(screen)[1] <= HARD else ""
        for number, n in enumerate(sorted(frame["rollouts"].dropna().unique())):
            found = paper_rows("gsm8k", ["pass@1"], [f"rl_{like}_n{n}"], "examples")
            sources |= set(found["source"])
            for panel, scale in ((2 * i, 1.0), (2 * i + 1, n * price)):
                if len(found) and not np.isnan(scale):
                    x = (found["x"] * scale).tolist()
                    curves.append(Curve(panel, x, found["value"].tolist(), style.series(number).color))
    words = (
        " The paper's curves are pass@1 of a finished public model of that size, on Easy or Hard questions. Its axis "
        "of FLOPs counts rollouts, drawn here at our FLOPs a rollout."
    )
    return Behind(curves, "GSM8K", sorted(sources), None, words) if curves else None


def caption(frame: pd.DataFrame) -> str:
    ratios = sorted(frame["tokens_per_parameter"].unique())
    where = " and ".join(per_parameter(r) for r in ratios)
    order = " and ".join(frame["metric"].unique())
    return (
        f"pass@k on {frame['task'].iloc[0]} (test problems) along RL with n rollouts a prompt, from M_t at {where} "
        "tokens per parameter: left against the prompts seen, right against the FLOPs spent since M_t. Rows: which "
        f"training questions, by how many of the base's {_SCREEN_SAMPLES} samples answered them. Dotted: the base, "
        f"{order} from below. " + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    choices, metrics = _choices(frame), list(frame["metric"].unique())
    mixes = frame["mix"].nunique()
    counts = sorted(frame["rollouts"].dropna().unique())
    figure, axes = style.panels(len(choices), 2, width=4.0, height=2.9, sharey=True)
    dashes = dict(zip(metrics, ("-", (0, (6, 2, 1, 2)))))  # plain dashes are the paper's
    for i, ((screen, own), x) in enumerate(product(choices, ("examples", "flops"))):
        place = axes[i]
        for base in records(own[own["recipe"] == "base"]):
            place.axhline(base.value, color=style.look("base").color, linestyle=":", linewidth=1.3, zorder=1)
        points = own[own["recipe"] != "base"].dropna(subset=[x])
        for (metric, rollouts, _), rows in points.groupby(["metric", "rollouts", "variant"]):
            number = counts.index(rollouts)
            # Bands would cover one another. Bars of points in the same place stand side by side.
            shift = 1.02 ** (number - (len(counts) - 1) / 2)
            style.band(place, rows, x, *style.series(number), fill=False, shift=shift, linestyle=dashes[metric])
        place.set_title(name_of(screen) + (f", {own['mix'].iloc[0] or 'main mix'}" if mixes > 1 else ""))
        place.set_xscale("log")
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.xaxis.set_major_formatter(EngFormatter(sep=""))
        place.xaxis.set_minor_locator(NullLocator())
        place.set_xlabel("examples (prompts) seen" if x == "examples" else "FLOPs since Mₜ")
        if points.empty:
            style.say_empty(place, "not logged")
        style.percent_axis(place)
        place.set_ylim(bottom=0.0)
    handles = [
        Line2D([], [], color=c, marker=m, label=f"n = {n}")
        for n, (c, m) in ((n, style.series(i)) for i, n in enumerate(counts))
    ]
    handles += [Line2D([], [], color="#444444", linestyle=dashes[m], label=m) for m in metrics]
    bases = frame[frame["recipe"] == "base"]
    if len(bases):
        gray = style.look("base").color
        name = label("base", bases["shots"].max())
        handles.append(Line2D([], [], color=gray, linestyle=":", label=name))
    style.lower_legend(figure, handles, most=6)
    return figure
