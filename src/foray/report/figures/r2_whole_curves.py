"""R2: pass@k of every recipe at the last M_t, for every k up to the number of samples."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from foray.core.spelling import per_parameter
from foray.report import style
from foray.report.differences import passk_means
from foray.report.results import NotDrawable, Results

NAME = "r2_whole_curves"
TITLE = "R2. pass@k for every k, at the last M_t"


def data(results: Results) -> pd.DataFrame:
    """One row a recipe and k at the last M_t that has more than the base: the mean over runs with its interval."""
    task, rule = results.main_task, results.extraction
    finals = {r: results.finals(r, task) for r in results.recipes(task)}
    trained = [e.tokens for recipe, runs in finals.items() if recipe != "base" for e in runs]
    last = max(trained or [e.tokens for runs in finals.values() for e in runs], default=0)
    frames = []
    for recipe, every in finals.items():
        if runs := [e for e in every if e.tokens == last]:
            most = min(int(e.counts[rule].samples.min()) for e in runs)
            ks = range(1, most + 1)
            own = pd.DataFrame(passk_means(runs, ks, rule)).assign(k=ks, shots=runs[0].shots, recipe=recipe)
            frames.append(own.assign(runs=len(runs), pretrainings=len({e.pretrain_seed for e in runs})))
    if not frames:
        raise NotDrawable(f"no final evaluation on {task} has finished")
    frame = pd.concat(frames, ignore_index=True)
    frame = frame.assign(tokens=last, tokens_per_parameter=last / results.model_parameters, task=task)
    first = ["tokens", "tokens_per_parameter", "recipe", "task", "shots", "k"]
    return frame[[*first, "value", "lo", "hi", "n", "runs", "pretrainings"]].astype({"shots": "Int64"})


def caption(frame: pd.DataFrame) -> str:
    ratio = frame["tokens_per_parameter"].iloc[0]
    return (
        f"pass@k on {frame['task'].iloc[0]} at the last M_t ({per_parameter(ratio)} tokens per parameter), for every k "
        "up to the number of samples. Curves that cross: one model is ahead with few samples, the other with many. The "
        "largest k rests on the problems that a model solves once among all its samples. "
        + style.shots_note(frame)
        + style.interval_note(frame, "problems")
    )


def draw(frame: pd.DataFrame) -> Figure:
    figure, [place] = style.panels(1, 1, width=5.6, height=4.0)
    most = int(frame["k"].max())
    ticks = [2**i for i in range(most.bit_length())]
    for recipe in frame["recipe"].unique():
        rows = frame[frame["recipe"] == recipe]
        color, marker = style.look(recipe)
        place.fill_between(rows["k"], rows["lo"], rows["hi"], color=color, alpha=0.10, linewidth=0)
        marked = [i for i, k in enumerate(rows["k"]) if k in ticks]
        place.plot(
            rows["k"], rows["value"], color=color, marker=marker, markevery=marked, markeredgecolor="white",
            markeredgewidth=0.6,
        )  # fmt: skip
    place.set_xscale("log")
    style.fixed_ticks(place, ticks, [str(k) for k in ticks])
    place.set_xlabel("k, samples a problem")
    place.set_title("pass@k")
    style.percent_axis(place)
    place.set_ylim(bottom=0.0)
    style.recipe_legend(figure, frame)
    return figure
