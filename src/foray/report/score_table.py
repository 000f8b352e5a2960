"""The table of numbers: one row for each number of each result, with the model that it is of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from foray.report import stats
from foray.report.measurements import Measurement, PassK
from foray.report.results import AXES_BESIDE, COLUMNS, SOUND, metric_rank, recipe_rank
from foray.report.stats import Interval


class Score(NamedTuple):
    """One number of one result. The measurement names the model."""

    task: str
    extraction: str
    metric: str
    interval: Interval
    chance: float = math.nan
    stderr: float = math.nan


def passk_scores(found: PassK, ks: Sequence[int]) -> Iterator[Score]:
    """pass@k by every grading at every k. Raises ValueError where a problem has fewer samples."""
    for rule, counts in found.counts.items():
        for k, interval in zip(ks, stats.passk_intervals(counts, ks)):
            # Answers that are drawn without reading the question have no reasons.
            chance = math.nan if found.guesses is None or rule == SOUND else found.guessed(k)
            yield Score(found.task, rule, f"pass@{k}", interval, chance)


def row_of(study: str, e: Measurement, number: Score) -> dict[str, Any]:
    """One row of the table."""
    screen = "" if e.screen is None else f"{e.screen[0]}-{e.screen[1]} {e.screen[2]}".removesuffix(" strict")
    of_number = number._asdict() | number.interval._asdict() | {"study": study, "screen": screen}
    return {name: of_number[name] if name in of_number else getattr(e, name) for name in _MADE}


_MADE = (*COLUMNS[:-1], *AXES_BESIDE)  # ``frame_of_rows`` adds the last column


def frame_of_rows(rows: list[dict[str, Any]], parameters: int) -> pd.DataFrame:
    """The sorted table. ``parameters``: the model's size, for rows without ``model_parameters``."""

    def order(r: Any) -> tuple[Any, ...]:
        model = (r["mix"], r["model_parameters"] or 0, r["variant"], r["split"])
        place = (r["tokens"], recipe_rank(r["recipe"]), r["trained_on"], r["stage_step"], r["pretrain_seed"], r["seed"])
        shots, hot = (-1 if r[name] is None else r[name] for name in ("shots", "temperature"))
        return (*model, *place, r["task"], shots, hot, r["extraction"], metric_rank(r["metric"]))

    kinds = dict.fromkeys(("shots", "stopped", "model_parameters", "rollouts", "examples"), "Int64") | {"final": "bool"}
    kinds |= dict.fromkeys(("value", "lo", "hi", "stderr", "chance", "temperature"), "float")
    frame = pd.DataFrame(sorted(rows, key=order), columns=list(_MADE)).astype(kinds)
    sizes = frame["model_parameters"].fillna(parameters).astype("float")
    return frame.assign(**{COLUMNS[-1]: frame["tokens"].astype("float") / sizes})
