"""A2: the training reward of every RL run, from every checkpoint."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from foray.report import style
from foray.report.results import NotDrawable, Results, label, recipe_rank
from foray.report.spending import along

NAME = "a2_rewards"
TITLE = "A2. Reward during RL"

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


def caption(frame: pd.DataFrame) -> str:
    return (
        f"Mean reward of the rollouts at each RL step: faint as logged, bold as a centred average over "
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
