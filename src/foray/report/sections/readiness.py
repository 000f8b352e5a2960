"""Predicts RL's gain from M_t alone. Each predictor stands alone and is judged on pre-trainings outside its fit.

A row is an M_t of a pre-training (seed, mix and model size). The predictors are the base's pass@k, the tokens, and
RL's log at the first update, when the policy still is M_t. The target is RL's pass@1 minus the base's pass@1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from foray.core.rng import key
from foray.report import stats
from foray.report.columns import COUNT, HUNDREDTHS, Column, table
from foray.report.differences import M
from foray.report.markup import joined, parts
from foray.report.measurements import PassK, TrainingLog
from foray.report.results import ANY, Results, records, shots_rank
from foray.report.sections import Section
from foray.report.stats import ENOUGH_PRETRAININGS, Floats
from foray.report.verdicts import top_k

NAME, TITLE, PLACE = "readiness", "What predicts that RL will work", 70
LEAST_PRETRAININGS, LEAST_ROWS = 2, 4
PLAIN, MEAN = "pass@1", "mean alone"  # the two references of every predictor
# The recipe RL logs these values of its rollouts. The stream may have another name than "rl".
FIRST_STEP = ("rl/signal", "rl/score", "rl/format", "rl/entropy", "rl/reward", "rl/reward_variance")


class Mt(NamedTuple):
    """An M_t. The first three fields name the pre-training."""

    model_parameters: int
    mix: str
    pretrain_seed: int
    tokens: int


class Errors(NamedTuple):
    """A predictor's error on M_t of pre-trainings outside its fit. ``rmse``: root mean squared error, in points.

    ``difference`` is the mean squared error minus the mean squared error of base pass@1 (points²). Below 0 the
    predictor is better than base pass@1. ``lo`` and ``hi``: the 95% interval over resampled pre-trainings, NaN for
    fewer than ``ENOUGH_PRETRAININGS`` pre-trainings.
    """

    predictor: str
    rmse: float
    difference: float
    lo: float
    hi: float
    pretrainings: int
    rows: int


def rows(results: Results) -> pd.DataFrame:
    """``readiness.csv``: one row for every M_t with base and RL. Rates and ``gain`` are shares; logarithms are natural.

    The logarithm of a pass@k has a floor of half a count: half a right sample for pass@1, half a problem for larger k.
    """
    bases, trained = _finals(results, "base"), _finals(results, "rl")
    first = _first_steps(results)
    found = sorted(m for m in bases if m in trained)
    chosen = {m: max(bases[m], key=lambda e: shots_rank("base", e.shots)) for m in found}
    rule = results.extraction
    samples = [int(e.counts[rule].samples.min()) for e in chosen.values()]
    most = min([top_k(results, results.asked[0]), *samples]) if found else 1
    ks = sorted({1, min(8, most), most})
    out = []
    for m in found:
        base = chosen[m].counts[rule]
        row: dict[str, object] = dict(m._asdict())
        row |= {f"pass@{k}": float(base.pass_at(k).mean()) for k in ks}
        for k in ks:
            floor = 0.5 / (int(base.samples.sum()) if k == 1 else len(base.ids))
            row[f"log pass@{k}"] = math.log(max(float(base.pass_at(k).mean()), floor))
        row["log tokens"] = math.log(m.tokens)
        for name in FIRST_STEP:
            values = [s[name] for s in first.get(m, []) if not math.isnan(s[name])]
            row[name] = float(np.mean(values)) if values else math.nan
        gains = [stats.paired_difference(e.counts[rule], base, 1).value for e in trained[m]]
        out.append(row | {"gain": float(np.mean(gains)), "rl_seeds": len(gains)})
    names = [f"pass@{k}" for k in ks] + [f"log pass@{k}" for k in ks] + ["log tokens", *FIRST_STEP, "gain", "rl_seeds"]
    return pd.DataFrame(out, columns=[*Mt._fields, *names])


def predictors(frame: pd.DataFrame) -> list[str]:
    """The predictors that every M_t has. Errors over different rows could not be compared."""
    names = [c for c in frame.columns if c not in (*Mt._fields, "gain", "rl_seeds")]
    return [n for n in names if len(frame) and frame[n].notna().all()]


def too_little(frame: pd.DataFrame) -> str:
    """The reason why the data is too little, or ""."""
    starts = len(_pretrainings(frame)[1])
    if starts < LEAST_PRETRAININGS or len(frame) < LEAST_ROWS:
        have = f"{len(frame)} M_t of {starts} pre-training{'s'[: starts != 1]}"
        return (
            f"needs base and RL from at least {LEAST_ROWS} M_t of {LEAST_PRETRAININGS} pre-trainings; there are {have}"
        )
    return ""


def errors(frame: pd.DataFrame) -> list[Errors]:
    """The mean alone, base pass@1, then every other predictor, best first. Empty if the data is too little."""
    if too_little(frame):
        return []
    group, starts = _pretrainings(frame)
    gain = 100 * frame["gain"].to_numpy(float)
    squared = {MEAN: _left_out(np.zeros(len(frame)), gain, group)}
    squared |= {name: _left_out(frame[name].to_numpy(float), gain, group) for name in predictors(frame)}
    found = []
    for name, own in squared.items():
        difference = own - squared[PLAIN]
        lo, hi = _interval(difference, group, len(starts)) if name != PLAIN else (math.nan, math.nan)
        found.append(Errors(name, math.sqrt(own.mean()), float(difference.mean()), lo, hi, len(starts), len(frame)))
    return [*found[:2], *sorted(found[2:], key=lambda e: (e.rmse, e.predictor))]


def section(results: Results) -> Section:
    frame = rows(results)
    found = errors(frame)
    files = {"readiness": frame if len(frame) else pd.DataFrame(), "readiness_errors": pd.DataFrame(found)}
    return Section(html_of(frame, found) if found else "", files, too_little(frame))


def html_of(frame: pd.DataFrame, found: list[Errors]) -> Markup:
    """The table of predictors and errors."""
    enough = found[0].pretrainings >= ENOUGH_PRETRAININGS
    text = (
        f"{len(frame)} M_t of {found[0].pretrainings} pre-trainings. Each predictor alone, by a straight line fitted "
        "on all pre-trainings but one and asked about that one: root mean squared error of the predicted gain (RL − "
        "base in pass@1) in points, and the squared error less that of base pass@1, in points² (below 0: better). "
        "pass@k is the base's, few-shot; rl/… is what RL logs at its first update, when the policy still is M_t. "
    )
    text += (
        "Intervals resample pre-trainings, 95% each by itself: among so many predictors the best one looks better than "
        "it is."
        if enough
        else f"Fewer than {ENOUGH_PRETRAININGS} pre-trainings are too few for intervals: which one leads may be chance."
    )
    left_out = [n for n in FIRST_STEP if n not in predictors(frame)]
    if left_out:
        text += f" Not logged at every M_t, so left out: {', '.join(left_out)}."
    return joined(parts.dim(text), table(found, COLUMNS, "Predictors and their errors", rules=False))


def _difference(e: Errors) -> Any:
    value = f"{e.difference:+.2f}"
    if e.predictor == PLAIN:
        return None
    return value if math.isnan(e.lo) else parts.with_range(value, f"{e.lo:+.2f} to {e.hi:+.2f}")


COLUMNS = (
    Column("predictor", "predictor"),
    Column("error, points", "rmse", HUNDREDTHS),
    Column("against base pass@1, points²", _difference, COUNT),
)


def _by_mt(results: Results, found: Iterable[M]) -> dict[Mt, list[M]]:
    by: dict[Mt, list[M]] = {}
    for m in found:
        place = Mt(m.model_parameters or results.model_parameters, m.mix, m.pretrain_seed, m.tokens)
        by.setdefault(place, []).append(m)
    return by


def _finals(results: Results, recipe: str) -> dict[Mt, list[PassK]]:
    """A recipe's final evaluations on the main task, with the study's own settings, by M_t."""
    asked = {"final": True, "recipe": recipe, "task": results.asked[:1], "trained_on": results.trained()}
    return _by_mt(results, results.select(PassK, **asked, mix=ANY, model_parameters=ANY))


def _first_steps(results: Results) -> dict[Mt, list[dict[str, float]]]:
    """The values that every RL run logged at its first update, by M_t."""
    asked = {"recipe": "rl", "trained_on": results.trained(), "mix": ANY, "model_parameters": ANY, "split": ANY}
    found: dict[Mt, list[dict[str, float]]] = {}
    for mt, runs in _by_mt(results, results.select(TrainingLog, **asked)).items():
        for run in runs:
            if not pd.isna(run.of("rollouts", "reward").iloc[0]) and int(run.metrics["step"].iloc[0]) == 1:
                logged = {name: float(run.of("rollouts", name.removeprefix("rl/")).iloc[0]) for name in FIRST_STEP}
                found.setdefault(mt, []).append(logged)
    return found


def _pretrainings(frame: pd.DataFrame) -> tuple[NDArray[np.int64], list[tuple[int, str, int]]]:
    """Every row's index into the pre-trainings, and the pre-trainings. (rows,)"""
    named = [(r.model_parameters, r.mix, r.pretrain_seed) for r in records(frame)]
    starts = list(dict.fromkeys(named))
    return np.array([starts.index(n) for n in named], dtype=np.int64), starts


def _left_out(x: Floats, y: Floats, group: NDArray[np.int64]) -> Floats:
    """Squared error of every row from the least-squares line through the rows of all other pre-trainings. (rows,)

    If those rows have one x only, the line is the mean of their y.
    """
    out = np.zeros(len(y))
    for held in np.unique(group):
        fit, test = group != held, group == held
        center, level = x[fit].mean(), y[fit].mean()
        spread = float(((x[fit] - center) ** 2).sum())
        slope = float(((x[fit] - center) * (y[fit] - level)).sum()) / spread if spread > 1e-18 else 0.0
        out[test] = (y[test] - level - slope * (x[test] - center)) ** 2
    return out


def _interval(values: Floats, group: NDArray[np.int64], starts: int) -> tuple[float, float]:
    """Percentile bootstrap of the mean over rows. Resamples whole pre-trainings; NaN for too few pre-trainings."""
    if starts < ENOUGH_PRETRAININGS:
        return math.nan, math.nan
    generator = np.random.Generator(np.random.Philox(key=key("report", "readiness", starts)))
    drawn = generator.integers(0, starts, (stats.RESAMPLES, starts))
    sums, counts = np.bincount(group, values, starts), np.bincount(group, minlength=starts)
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    lo, hi = np.quantile(means, [stats.TAIL, 1 - stats.TAIL])
    return float(lo), float(hi)
