"""How claims are decided: the comparisons that a claim needs, and the rulings on every one or on some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from foray.core.spelling import per_parameter
from foray.report import stats
from foray.report.differences import Difference
from foray.report.enough import enough
from foray.report.paper import Effect, effect, task_of
from foray.report.results import AVERAGE, NotDrawable, Results, label
from foray.report.stats import Interval

Answer = Literal["shown", "shown, in form", "shown, at unequal budgets", "contradicted", "cannot tell", "not run"]
# Of which side an answer is, for its color.
SIDES = {"shown": "for", "shown, in form": "for", "shown, at unequal budgets": "for", "contradicted": "against"}


LEVEL = 2 * stats.TAIL  # of error, in what a rule decides


@dataclass(frozen=True)
class Comparison:
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
    paper: Effect | None = None

    @property
    def signed(self) -> Interval:
        i = self.difference.interval
        return i if self.sign > 0 else Interval(-i.value, -i.hi, -i.lo, i.n)

    @property
    def supports(self) -> bool:
        return self.signed.lo > self.beyond

    @property
    def says(self) -> str:
        """What it says of the claim."""
        return "for" if self.supports else "against" if self.opposes else "neither"

    @property
    def opposes(self) -> bool:
        return self.signed.hi < self.against and not self.supports

    @property
    def must(self) -> str:
        """Where the claim needs the interval to lie, in points: ``above -2``."""
        bound = 100 * self.beyond * self.sign + 0.0  # no minus before a zero
        return f"{'above' if self.sign > 0 else 'below'} {bound:g}"

    def p_value(self, supporting: bool) -> float:
        """Of the bound that is exceeded; 1 where the interval does not lie on that side of it."""
        if not (self.supports if supporting else self.opposes):
            return 1.0
        bound = self.beyond if supporting else self.against
        return stats.p_value(self.signed, bound, self.difference.degrees)


class Ruling(NamedTuple):
    """What a study says of a claim: the comparison that decided, its interval, and how many others agree.

    ``paper``: the paper's effect in that comparison. ``needs``: all comparisons, ``decider`` among them; ``why``: why
    that one decided.
    """

    answer: Answer
    effect: str
    interval: Interval | None
    note: str
    paper: Effect | None = None
    needs: Sequence[Comparison] = ()
    decider: Comparison | None = None
    why: str = ""


def every(needs: Sequence[Comparison], results: Results) -> Ruling:
    """Shown if every comparison supports; contradicted if any opposes after Holm's correction over all; else open."""
    rejected = stats.holm([n.p_value(supporting=False) for n in needs])
    opposed = [n for n, against in zip(needs, rejected) if against]
    weakest = min(needs, key=lambda n: n.signed.lo - n.beyond)
    if opposed:
        clearest = min(opposed, key=lambda n: n.signed.hi - n.against)
        count = sum(n.opposes for n in needs)
        why = f"the clearest of the {count} against the claim" if count > 1 else "the one against the claim"
        return ruling("contradicted", clearest, needs, results, why)
    why = f"the weakest of the {len(needs)} that must hold" if len(needs) > 1 else "the one that must hold"
    if all(n.supports for n in needs):
        return ruling("shown", weakest, needs, results, why)
    found = ruling("cannot tell", weakest, needs, results, why)
    return found._replace(note=found.note + _would_tell(weakest, LEVEL, LEVEL / len(needs)))


def some(needs: Sequence[Comparison], results: Results) -> Ruling:
    """Shown if any comparison supports after Holm's correction over all; contradicted if all oppose; else open."""
    held = stats.holm([n.p_value(supporting=True) for n in needs])
    if supported := [n for n, rejected in zip(needs, held) if rejected]:
        first = min(supported, key=lambda n: n.tokens)
        why = f"the earliest of the {len(supported)} that hold" if len(supported) > 1 else "the one that holds"
        return ruling("shown", first, needs, results, why)
    best = max(needs, key=lambda n: n.signed.value)
    why = f"the best of the {len(needs)}, any of which would do" if len(needs) > 1 else "the one that must hold"
    if all(n.opposes for n in needs):
        return ruling("contradicted", best, needs, results, why)
    found = ruling("cannot tell", best, needs, results, why)
    return found._replace(note=found.note + _would_tell(best, LEVEL / len(needs), LEVEL))


def _would_tell(one: Comparison, supporting: float, opposing: float) -> str:
    """What it would take to tell this comparison, at these levels; empty where nothing says so."""
    value = one.signed.value
    if value > one.beyond:
        side, found = "for", enough(one.difference, one.signed, one.beyond, supporting)
    elif value < one.against:
        side, found = "against", enough(one.difference, one.signed, one.against, opposing)
    elif one.against == one.beyond:
        return ""
    else:
        return "; the difference lies between the bounds for and against the claim: more of the same would not tell"
    return f"; {found.words(side)}" if found else ""


def ruling(answer: Answer, chosen: Comparison, needs: Sequence[Comparison], results: Results, why: str) -> Ruling:
    """``why`` this comparison was chosen."""
    supports, opposes = sum(n.supports for n in needs), sum(n.opposes for n in needs)
    ratio = chosen.tokens / results.model_parameters
    note = f"of {len(needs)} comparison{'s'[: len(needs) != 1]}, {supports} for, {opposes} against"
    starts = chosen.difference.by_pretraining()
    if len(starts) > 1:
        each = ", ".join(f"{100 * v:+.1f}" for v in starts.values())
        note += f"; by pre-training {each}"
    what = f"{chosen.what}, {per_parameter(ratio)} tokens/parameter"
    return Ruling(answer, what, chosen.difference.interval, note, chosen.paper, needs, chosen, why)


def undecided(ruling: Ruling, why: str) -> Ruling:
    """The ruling of a comparison that was not fair: whatever it was, it cannot tell."""
    return ruling._replace(answer="cannot tell", note=f"{ruling.note}; {why}")


def compare(
    results: Results, recipe: str, reference: str, k: int, task: str, extraction: str | None = None,
    sign: int = 1, beyond: float = 0.0, against: float = 0.0,
) -> list[Comparison]:  # fmt: skip
    """``recipe`` minus ``reference`` in pass@k at every M_t. Raises NotDrawable where no M_t has both."""
    found = results.differences(recipe, reference, task, k, extraction)
    if not found:
        raise NotDrawable(f"needs {label(recipe)} and {label(reference)} from one M_t on {task}")
    graded = f" ({extraction})" if extraction not in (None, results.extraction) else ""
    on = "" if task == results.asked[0] else f" on {task}"
    if (trained_on := results.trained_on(task)) not in ("", task):  # a transfer
        on += f", trained on {trained_on}"
    what, like = f"{label(recipe)} − {label(reference)}, pass@{k}{on}{graded}", task_of(task in results.hard)
    return [
        Comparison(what, tokens, difference, sign, beyond, against, paper)
        for tokens, difference in found.items()
        for paper in [effect(like, f"pass@{k}", recipe, reference, tokens / results.model_parameters)]
    ]


def compare_abilities(
    results: Results, recipe: str, reference: str, sign: int = 1, beyond: float = 0.0, against: float = 0.0
) -> list[Comparison]:
    """The same for the mean of the general probes, at every M_t whose base is better than guessing: an ability that is
    not there can neither be lost nor kept.
    """
    found = results.ability_differences(recipe, reference)
    if not found:
        raise NotDrawable(f"needs general probes of {label(recipe)} and {label(reference)} from one M_t")
    able = results.above_chance()
    found = {tokens: difference for tokens, difference in found.items() if tokens in able}
    if not found:
        raise NotDrawable("needs an M_t that is better than chance at the general probes")
    what = f"{label(recipe)} − {label(reference)}, general average"
    return [
        Comparison(what, tokens, difference, sign, beyond, against, paper)
        for tokens, difference in found.items()
        for paper in [effect(AVERAGE, "acc", recipe, reference, tokens / results.model_parameters)]
    ]


def last(*parts: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of every part at the last M_t that all parts have. Raises NotDrawable where there is none."""
    common = set.intersection(*({n.tokens for n in part} for part in parts))
    if not common:
        raise NotDrawable("needs one M_t that has all of " + ", ".join(part[0].what for part in parts))
    return [n for part in parts for n in part if n.tokens == max(common)]
