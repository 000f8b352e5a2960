"""A2: the training reward of every RL run, from every checkpoint."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foray.report import style
from foray.report.paper import paper_rows
from foray.report.paper_curves import GREY, Behind, Curve
from foray.report.results import NotDrawable, Results, label, recipe_rank
from foray.report.spending import along

NAME = "a2_rewards"
TITLE = "A2. Training reward of every RL run"

_WINDOW = 9  # steps in the moving average of the drawn line


def data(results: Results) -> pd.DataFrame:
    """One row a step. ``step`` counts the RL stage's updates from 1; ``reward`` is the mean of the step's rollouts."""
    frames = [
        pd.DataFrame(
            {
                "tokens": run.tokens,
                "tokens_per_parameter": run.tokens / results.model_parameters,
                "recipe": run.recipe,
                "pretrain_seed": run.pretrain_seed,
                "seed": run.seed,
                "step": np.arange(1, len(run.metrics) + 1),
                "reward": run.of("rollouts", "reward"),
            }
            | ({} if results.axis == "tokens" else {results.axis: along(run.metrics, results.axis)})
        ).dropna(subset=["reward"])
        for run in results.rl_runs()
    ]
    if not frames:
        raise NotDrawable("no RL run has logged a reward")
    frame = pd.concat(frames, ignore_index=True)
    order = frame["recipe"].map(recipe_rank)
    return frame.assign(_o=order).sort_values(["_o", "tokens", "pretrain_seed", "seed", "step"]).drop(columns="_o")


def behind(results: Results, frame: pd.DataFrame) -> Behind | None:
    """The paper's RL from five M_t, its longest run stretched to ours."""
    hard = results.asked[0] in results.hard  # it may have no evaluation yet
    if style.axis_of(frame) != "tokens" or hard or "rl" not in set(frame["recipe"]):
        return None
    starts = (2, 4, 10, 20, 44)
    found = paper_rows("gsm8k", ["reward"], [f"rl_from_{t}B" for t in starts], "rl_step")
    panel = list(frame["recipe"].unique()).index("rl")
    ours, theirs = frame.loc[frame["recipe"] == "rl", "step"].max(), found["x"].max()
    own = {t: found[found["series"] == f"rl_from_{t}B"] for t in starts}
    curves = [
        Curve(panel, (r["x"] * ours / theirs).tolist(), r["value"].tolist(), GREY, f"{t}B") for t, r in own.items()
    ]
    words = f" The paper's runs start at 2B to 44B; their {theirs:,.0f} draws of four updates are stretched over ours."
    return Behind(curves, "GSM8K", sorted(set(found["source"])), None, words)


def caption(frame: pd.DataFrame) -> str:
    return (
        f"Mean reward of the rollouts at each RL step: faint as logged, bold as a centered average over "
        f"{_WINDOW} steps. One line per checkpoint M_t (and seed); darker is earlier in pre-training."
    )


def draw(frame: pd.DataFrame) -> Figure:
    recipes = list(frame["recipe"].unique())
    axis = style.axis_of(frame)
    x = "step" if axis == "tokens" else axis
    figure, axes = style.panels(1, len(recipes), sharey=True)
    tokens = sorted(frame["tokens"].unique())
    color = style.token_colors(tokens)
    for place, recipe in zip(axes, recipes):
        for (at, *_), run in frame[frame["recipe"] == recipe].groupby(["tokens", "pretrain_seed", "seed"]):
            smooth = run["reward"].rolling(_WINDOW, center=True, min_periods=1).mean()
            place.plot(run[x], run["reward"], color=color[at], alpha=0.25, linewidth=0.7)
            place.plot(run[x], smooth, color=color[at], linewidth=1.6)
        place.set_title(label(recipe))
        if axis == "tokens":
            place.set_xlabel("RL step")
        else:
            style.spent_axis(place, axis, "of the RL stage")
    axes[0].set_ylabel("mean reward")
    style.token_legend(figure, color)
    return figure
