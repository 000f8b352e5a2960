"""Whether each recipe's model answers as its base would at a lower temperature."""

from __future__ import annotations

from typing import Any

import numpy as np

from foray.report import stats
from foray.report.columns import COUNT, POINTS, RECIPE, SHARE, TOKENS, Column, Kind, badge, frame_of, tables_by_task
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.readings.tempering import EXPONENTS, Sharpening, fit, right_of
from foray.report.results import Results
from foray.report.sections import Section
from foray.report.sections.amplified import FromBase, from_base
from foray.report.stats import Interval

NAME, TITLE, PLACE = "sharpened", "A sharper base?", 34

_TEXT = (
    "The exponent a for which the base's chances of a problem's answers, each to the power a, best foretell the "
    "trained model's right answers: above 1 the model looks like its base at a lower temperature, below 1 like a "
    "flatter one. Gain in pass@1 in points, and the gain that the base at that exponent would have: what is left is "
    "more than sharpening. Other problems: the share, in percent, on which no such exponent foretells the model; if "
    "surely half or more, the model is otherwise changed. Answers are those of flexible grading; all samples without "
    "an answer count as one wrong one. 95% intervals over problems. A dagger: the end of the range that is tried does "
    "as well, often because few samples are right."
)
_EXPONENT = Kind(lambda i: parts.with_range(f"{i.value:.2f}", f"{i.lo:.2f} to {i.hi:.2f}"))


def _exponent(row: dict[str, Any]) -> Any:
    shown = _EXPONENT.show(row["exponent"])
    return joined("†", shown) if row["at_edge"] else shown


COLUMNS = (
    Column("tokens", "tokens", TOKENS),
    Column("recipe", "recipe", RECIPE),
    Column("looks", badge("looks", {"sharper": "for", "flatter": "against"})),
    Column("exponent", _exponent, COUNT),
    Column("gain", "gain", POINTS),
    Column("gain of that base", "explained", POINTS),
    Column("other problems", "otherwise", SHARE),
    Column("runs", "runs", COUNT),
)


def section(results: Results) -> Section:
    found = [row for of in from_base(results) if (row := _row(of))]
    files = {"sharpened": frame_of(found)}
    if not found:
        return Section(files=files, absent="no evaluation of a base and a trained model holds the answers' votes")
    shown = tables_by_task(found, COLUMNS, "the base, sharpened, beside each recipe")
    return Section(joined(parts.dim(_TEXT), shown), files)


def _row(of: FromBase) -> dict[str, Any] | None:
    """Means over runs; None where a run lacks votes."""
    if not all(a.votes and b.votes for a, b in of.pairs.values()):
        return None
    each = [_fit(*pair) for pair in of.pairs.values()]
    starts = [run.pretrain_seed for run in of.pairs]
    exponent = stats.over_seeds([s.exponent for s in each], float(EXPONENTS[0]), float(EXPONENTS[-1]), starts)
    row: dict[str, Any] = {"task": of.task, "tokens": of.tokens, "recipe": of.recipe, "exponent": exponent}
    row["gain"] = stats.over_seeds([s.gain for s in each], -1.0, 1.0, starts)
    row["explained"] = stats.over_seeds([s.explained for s in each], -1.0, 1.0, starts)
    row["otherwise"] = stats.over_seeds([s.otherwise for s in each], 0.0, 1.0, starts)
    row["at_edge"] = any(s.at_edge for s in each)
    row["looks"] = _looks(exponent, row["otherwise"], row["at_edge"])
    return row | {"n": exponent.n, "runs": len(each)}


def _looks(exponent: Interval, otherwise: Interval, at_edge: bool) -> str:
    if otherwise.lo >= 0.5:
        return "otherwise changed"
    if at_edge:  # nearly any exponent beyond will do: often too few right samples
        return "cannot tell"
    return "sharper" if exponent.lo > 1.0 else "flatter" if exponent.hi < 1.0 else "cannot tell"


def _fit(trained: PassK, base: PassK) -> Sharpening:
    common = sorted(set(trained.votes) & set(base.votes))

    def samples(e: PassK) -> Any:
        counts = next(iter(e.counts.values()))
        by_id = dict(zip(counts.ids, counts.samples))
        return np.array([by_id[i] for i in common], dtype=np.int64)

    right = np.array([right_of(trained.votes[i]) for i in common], dtype=np.int64)
    return fit([base.votes[i] for i in common], samples(base), right, samples(trained))
