"""How much of each recipe's gain lies on problems that the base already solved now and then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from foray.report import stats
from foray.report.columns import COUNT, POINTS, PROBLEMS, RATE, RECIPE, TOKENS, Column, frame_of, table
from foray.report.differences import Pairing
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.readings.support import PARTS, parts_of_gain, reached_half, still_possible
from foray.report.results import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "amplified", "Amplified or discovered", 32

_TEXT = (
    "Each recipe's gain over its base in points, split by which of the two models shows a right sample of a problem: "
    "both (amplified), only the trained model (discovered), only the base (lost), none (unseen; in the CSV file). The "
    "parts add up to the gain. Of a model's samples some decide whether it shows a right one, and the others are "
    "scored. So between equal models all parts are 0 on average. Reached ½: problems with pass@k of at least one half "
    "after training and not before; held: those of which the base had a right sample, and how often the base was right "
    "there, in percent. "
)
COLUMNS = (
    Column("recipe", "recipe", RECIPE),
    Column("tokens", "tokens", TOKENS),
    Column("gain", "gain", POINTS),
    Column("amplified", "amplified", POINTS),
    Column("discovered", "discovered", POINTS),
    Column("lost", "lost", POINTS),
    Column("reached ½", "newly_solved", PROBLEMS),
    Column("held", "held", PROBLEMS),
    Column("base's rate there", "held_rate", RATE),
    Column("runs", "runs", COUNT),
)


class FromBase(NamedTuple):
    """A trained recipe and its base at one M_t: ``pairs`` of evaluations (trained, base)."""

    task: str
    tokens: int
    recipe: str
    pairs: Mapping[Pairing, tuple[PassK, PassK]]


def from_base(results: Results) -> Iterator[FromBase]:
    """Every trained recipe of the main grid beside its base: by task, recipe (in the paper's order) and M_t."""
    for task in results.tasks:
        for recipe in results.recipes(task):
            for tokens, pairs in (results.pairs(recipe, "base", task) if recipe != "base" else {}).items():
                yield FromBase(task, tokens, recipe, pairs)


def section(results: Results) -> Section:
    found = [row for of in from_base(results) for row in _rows(of, results.extraction)]
    files = {"amplified": frame_of(found)}
    if not found:
        return Section(files=files, absent="needs a base and a trained model with at least 2 samples a problem")
    pieces = []
    for task in dict.fromkeys(row["task"] for row in found):
        for k in sorted({row["k"] for row in found if row["task"] == task}):
            here = [row for row in found if (row["task"], row["k"]) == (task, k)]
            pieces.append(table(here, COLUMNS, f"{task}, pass@{k}: the gain over the base and its parts"))
    return Section(joined(parts.dim(_TEXT + _bound(found)), *pieces), files)


def _bound(found: list[dict[str, Any]]) -> str:
    said = [
        f"A base with no right answer to a problem in {n} samples may still give one in up to "
        f"{100 * still_possible(n):.2g}% of samples (with 95% confidence)."
        for n in sorted({row["samples"] for row in found})
    ]
    return " ".join(["Discovered does not mean that the base cannot solve the problem.", *said])


def _rows(of: FromBase, rule: str) -> list[dict[str, Any]]:
    """One a k: 1, and the largest power of two up to a quarter of the samples (most samples are left to show)."""
    runs = [stats.paired(base.counts[rule], trained.counts[rule]) for trained, base in of.pairs.values()]
    least = min(int(c.samples.min()) for run in runs for c in run)
    if least < 2:
        return []
    starts = [run.pretrain_seed for run in of.pairs]
    out = []
    for k in sorted({1, 2 ** (max(1, least // 4).bit_length() - 1)}):
        split = [parts_of_gain(base, trained, k) for base, trained in runs]
        each = [stats.difference_intervals(np.column_stack([s.sum(axis=1), s])) for s in split]
        means = [stats.over_seeds([run[i] for run in each], -1.0, 1.0, starts) for i in range(1 + len(PARTS))]
        solved = [reached_half(base, trained, k) for base, trained in runs]
        rates, held = [s.rate for s in solved if s.held], [p for p, s in zip(starts, solved) if s.held]
        row: dict[str, Any] = {"task": of.task, "tokens": of.tokens, "recipe": of.recipe, "k": k}
        row |= dict(zip(("gain", *PARTS), means))
        row |= {
            "newly_solved": stats.mean_of_runs([s.new for s in solved], starts),
            "held": stats.mean_of_runs([s.held for s in solved], starts),
        }
        row |= {"held_rate": stats.mean_of_runs(rates, held) if rates else float("nan"), "samples": least}
        out.append(row | {"still_possible": still_possible(least), "n": means[0].n, "runs": len(each)})
    return out
