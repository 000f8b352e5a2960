"""How claims are decided: the comparisons a claim needs, every one or some of them, and the paper's numbers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from foray.report import stats
from foray.report.markup import label
from foray.report.measured import Difference
from foray.report.results import Results
from foray.report.stats import Interval

Answer = Literal["shown", "contradicted", "cannot tell", "not run"]


class Absent(Exception):
    """The study lacks what a claim needs; the message says what."""


class Finding(NamedTuple):
    """What a study says of a claim: the comparison that decided it, its interval, and how many others agree."""

    answer: Answer
    effect: str
    interval: Interval | None
    note: str


@dataclass(frozen=True)
class Need:
    """One comparison. With sign -1 the claim is that the difference is low: bounds then count for its negative.

    The 95% interval supports the claim where it lies above ``beyond``, and opposes it where it lies below ``against``
    without supporting it.
    """

    what: str
    tokens: int
    difference: Difference
    sign: int = 1
    beyond: float = 0.0
    against: float = 0.0

    @property
    def signed(self) -> Interval:
        i = self.difference.interval
        return i if self.sign > 0 else Interval(-i.value, -i.hi, -i.lo, i.n)

    @property
    def supports(self) -> bool:
        return self.signed.lo > self.beyond

    @property
    def opposes(self) -> bool:
        return self.signed.hi < self.against and not self.supports

    def p_value(self, supporting: bool) -> float:
        """Of the bound that is exceeded; 1 where the interval does not lie on that side of it."""
        if not (self.supports if supporting else self.opposes):
            return 1.0
        bound = self.beyond if supporting else self.against
        return stats.p_value(self.signed, bound, self.difference.degrees)


def every(needs: Sequence[Need], results: Results) -> Finding:
    """Shown if every comparison supports; contradicted if any opposes after Holm's correction over all; else open."""
    opposed = stats.holm([n.p_value(supporting=False) for n in needs])
    if all(n.supports for n in needs):
        return _finding("shown", min(needs, key=lambda n: n.signed.lo - n.beyond), needs, results)
    if any(opposed):
        worst = min((n for n, rejected in zip(needs, opposed) if rejected), key=lambda n: n.signed.hi - n.against)
        return _finding("contradicted", worst, needs, results)
    return _finding("cannot tell", min(needs, key=lambda n: n.signed.lo - n.beyond), needs, results)


def some(needs: Sequence[Need], results: Results) -> Finding:
    """Shown if any comparison supports after Holm's correction over all; contradicted if all oppose; else open."""
    supported = stats.holm([n.p_value(supporting=True) for n in needs])
    if any(supported):
        first = min((n for n, rejected in zip(needs, supported) if rejected), key=lambda n: n.tokens)
        return _finding("shown", first, needs, results)
    best = max(needs, key=lambda n: n.signed.value)
    return _finding("contradicted" if all(n.opposes for n in needs) else "cannot tell", best, needs, results)


def _finding(answer: Answer, chosen: Need, needs: Sequence[Need], results: Results) -> Finding:
    supports, opposes = sum(n.supports for n in needs), sum(n.opposes for n in needs)
    ratio = chosen.tokens / results.model_parameters
    note = f"of {len(needs)} comparison{'s'[: len(needs) != 1]}, {supports} for, {opposes} against"
    starts = chosen.difference.by_pretraining()
    if len(starts) > 1:
        each = ", ".join(f"{100 * v:+.1f}" for v in starts.values())
        note += f"; by pre-training {each}"
    return Finding(answer, f"{chosen.what}, {ratio:.2g} tokens/parameter", chosen.difference.interval, note)


def compare(
    results: Results, recipe: str, reference: str, k: int, task: str, extraction: str | None = None,
    sign: int = 1, beyond: float = 0.0, against: float = 0.0,
) -> list[Need]:  # fmt: skip
    """``recipe`` minus ``reference`` in pass@k at every M_t. Raises Absent where no M_t has both."""
    found = results.differences(recipe, reference, task, k, extraction)
    if not found:
        raise Absent(f"needs {label(recipe)} and {label(reference)} from one M_t on {task}")
    graded = " (lenient)" if extraction == "lenient" else ""
    on = "" if task == results.asked[0] else f" on {task}"
    what = f"{label(recipe)} − {label(reference)}, pass@{k}{on}{graded}"
    return [Need(what, tokens, difference, sign, beyond, against) for tokens, difference in found.items()]


def compare_general(
    results: Results, recipe: str, reference: str, sign: int = 1, beyond: float = 0.0, against: float = 0.0
) -> list[Need]:
    """The same for the mean of the general probes, where the base knows more than guessing would: what is not there can
    neither be lost nor kept.
    """
    found = results.general_differences(recipe, reference)
    if not found:
        raise Absent(f"needs general probes of {label(recipe)} and {label(reference)} from one M_t")
    able = results.above_chance()
    found = {tokens: difference for tokens, difference in found.items() if tokens in able}
    if not found:
        raise Absent("needs an M_t that is better than chance at the general probes")
    what = f"{label(recipe)} − {label(reference)}, general average"
    return [Need(what, tokens, difference, sign, beyond, against) for tokens, difference in found.items()]


def last(*parts: Sequence[Need]) -> list[Need]:
    """The comparisons of every part at the last M_t that all parts have. Raises Absent where there is none."""
    common = set.intersection(*({n.tokens for n in part} for part in parts))
    if not common:
        raise Absent("needs one M_t that has all of " + ", ".join(part[0].what for part in parts))
    return [n for part in parts for n in part if n.tokens == max(common)]


@lru_cache(maxsize=1)
def _paper() -> dict[tuple[str, str, str, str, str], float]:
    text = (Path(__file__).parent / "paper.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {(r["task"], r["metric"], r["series"], r["x_name"], r["x"]): float(r["value"]) for r in rows}


def paper(metric: str, series: str, x: int, task: str = "gsm8k", x_name: str = "tokens_B") -> str:
    """The paper's number, in percent with one decimal. Raises KeyError where the figures do not show it."""
    return f"{_paper()[task, metric, series, x_name, str(x)]:.1f}"
