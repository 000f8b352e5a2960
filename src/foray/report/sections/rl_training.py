"""Whether the reward of every RL run rose, and what else its log says."""

from __future__ import annotations

import numpy as np

from foray.report import stats
from foray.report.columns import COUNT, RECIPE, THOUSANDTHS, TOKENS, Column, table
from foray.report.markup import joined, parts
from foray.report.measurements import TrainingLog
from foray.report.results import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "training", "RL training", 120

_TEXT = (
    "Mean reward of the first and the last five steps; it “rose” or “fell” where the difference exceeds its 95% "
    "t-interval with steps taken as independent. The other columns: first five → last five steps; "
    "signal is the share of groups whose rewards differ; seeds are of pre-training and of RL."
)


def _reward(run: TrainingLog) -> stats.Trend:
    return stats.trend(run.of("rollouts", "reward").dropna().to_numpy(float))


def _ends(run: TrainingLog, name: str) -> str | None:
    """The means of the first and the last five steps."""
    values = run.of("rollouts", name).dropna().to_numpy(float)
    return f"{np.mean(values[:5]):.2f} → {np.mean(values[-5:]):.2f}" if values.size else None


COLUMNS = (
    Column("recipe", "recipe", RECIPE),
    Column("tokens", "tokens", TOKENS),
    Column("reward", lambda run: _reward(run).verdict),
    Column("first 5", lambda run: _reward(run).first, THOUSANDTHS),
    Column("last 5", lambda run: _reward(run).last, THOUSANDTHS),
    Column("change", lambda run: f"{_reward(run).last - _reward(run).first:+.3f}", COUNT),
    Column("format", lambda run: _ends(run, "format"), COUNT),
    Column("entropy", lambda run: _ends(run, "entropy"), COUNT),
    Column("truncated", lambda run: _ends(run, "truncated"), COUNT),
    Column("signal", lambda run: _ends(run, "signal"), COUNT),
    Column("steps", lambda run: len(run.metrics), COUNT),
    Column("seed", lambda run: f"{run.pretrain_seed}/{run.seed}", COUNT),
)


def section(results: Results) -> Section:
    runs = results.rl_runs()
    if not runs:
        return Section()
    return Section(joined(parts.dim(_TEXT), table(runs, COLUMNS, "Runs of RL: first five → last five steps")))
