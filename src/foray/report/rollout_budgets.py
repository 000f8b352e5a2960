"""C10's comparisons: RL with many and with few rollouts a prompt, at every choice of training questions of a study."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from foray.report.comparisons import Comparison
from foray.report.measurements import Measurement, PassK, Seeds
from foray.report.paper import budget_effect
from foray.report.results import ANY, Results, shots_rank
from foray.report.rule_parts import pass1
from foray.report.stats import MARGIN

EASY, HARD = 16, 8  # the paper's questions that the base answers at least, or at most, so many of 64 times
Screen = tuple[int, int, str] | None


class BudgetPlace(NamedTuple):
    """Where two numbers of rollouts are compared: one M_t (tokens), and the choice of training questions."""

    tokens: int
    mix: str
    screen: Screen


@dataclass
class RolloutVariant:
    """RL with one number of rollouts a prompt; ``points``: its evaluations by examples seen and by run."""

    name: str
    part: str
    rollouts: int
    points: dict[int, dict[Seeds, PassK]] = field(default_factory=dict)

    @property
    def rate(self) -> float | None:
        """Its learning rate; None where an earlier version wrote none, or where its runs have several."""
        found = {(e.learning_rates or {}).get("rollouts") for runs in self.points.values() for e in runs.values()}
        return found.pop() if len(found) == 1 else None

    def like(self, other: RolloutVariant) -> tuple[bool, bool, bool]:
        """Whether the two are of one part, of one name but for n, and of one rate."""
        names = [re.sub(rf"\b{v.rollouts}\b", "n", v.name) for v in (self, other)]
        return self.part == other.part, names[0] == names[1], self.rate == other.rate


class BudgetNeeds(NamedTuple):
    """The comparisons at one place. ``rates``: of both variants. ``note``: which two of several variants these are."""

    needs: list[Comparison]
    rates: tuple[float | None, float | None]
    note: str


def budget_needs(results: Results) -> dict[BudgetPlace, BudgetNeeds]:
    """The comparisons at every place that has them: of the fewest and of the most rollouts there."""
    found = {}
    for place, variants in _variants(results).items():
        counts = [v.rollouts for v in variants]
        pairs = [(many, few) for many in variants for few in variants
                 if (few.rollouts, many.rollouts) == (min(counts), max(counts)) and few.rollouts < many.rollouts
                 and _shared(many, few)]  # fmt: skip
        if pairs:
            many, few = max(pairs, key=lambda pair: pair[0].like(pair[1]))  # of equals the first of the study
            several = f"“{many.name}” and “{few.name}” are compared, of {len(pairs)} such pairs of variants"
            needs = list(_needs(results, place, many, few))
            found[place] = BudgetNeeds(needs, (many.rate, few.rate), several if len(pairs) > 1 else "")
    return found


def incomplete(results: Results) -> int:
    """The choices of training questions that one part asks two numbers of rollouts of, and that lack a measurement."""
    measured = {e.folder for e in results.measured}
    planned: dict[tuple[BudgetPlace, str], list[Measurement]] = {}
    for p in results.planned:
        of_task = p.kind == "passk" and p.task == results.main_task and p.trained_on in results.trained()
        if of_task and p.recipe == "rl" and p.variant and p.rollouts and not p.split and p.model_parameters is None:
            planned.setdefault((BudgetPlace(p.tokens, p.mix, p.screen), p.part), []).append(p)
    return len({
        place for (place, _), found in planned.items()
        if len({p.rollouts for p in found}) > 1 and any(p.folder not in measured for p in found)
    })  # fmt: skip


def _variants(results: Results) -> dict[BudgetPlace, list[RolloutVariant]]:
    """The variants of RL at every place, in the study's order."""
    where: dict[str, Any] = {"task": results.main_task, "trained_on": results.trained(), "variant": ANY, "mix": ANY}
    found: dict[BudgetPlace, dict[str, RolloutVariant]] = {}
    # An end comes before a point inside, and the recipe's own number of shots before others, as in ``finals``.
    entries = results.select(PassK, recipe="rl", **where)
    first = {e.folder: i for i, e in enumerate(entries)}
    for e in sorted(entries, key=lambda e: (not e.final, -shots_rank("rl", e.shots))):
        if e.variant and e.rollouts and e.examples:
            variants = found.setdefault(BudgetPlace(e.tokens, e.mix, e.screen), {})
            variant = variants.setdefault(e.variant, RolloutVariant(e.variant, e.part, e.rollouts))
            variant.points.setdefault(e.examples, {}).setdefault(e.run, e)

    def order(variant: RolloutVariant) -> int:
        return min(first[e.folder] for runs in variant.points.values() for e in runs.values())

    return {place: sorted(variants.values(), key=order) for place, variants in found.items()}


def _shared(many: RolloutVariant, few: RolloutVariant) -> bool:
    """Whether the two have an equal number of examples and of rollouts, with a run in common, and their ends."""
    examples, rollouts = _equal(many, few)
    shared = [set(many.points[x]) & set(few.points[x]) for x in examples]
    shared += [set(many.points[x // many.rollouts]) & set(few.points[x // few.rollouts]) for x in rollouts]
    return bool(examples and rollouts and all(shared) and _ends(many) and _ends(few))


def _equal(many: RolloutVariant, few: RolloutVariant) -> tuple[list[int], list[int]]:
    """Numbers of examples, and of rollouts, that both were evaluated at."""
    rollouts = {x * few.rollouts for x in few.points} & {x * many.rollouts for x in many.points}
    return sorted(set(few.points) & set(many.points)), sorted(rollouts)


def _ends(variant: RolloutVariant) -> list[int]:
    return [x for x, runs in variant.points.items() if any(e.final for e in runs.values())]


def _needs(results: Results, place: BudgetPlace, many: RolloutVariant, few: RolloutVariant) -> Iterator[Comparison]:
    screen, (examples, rollouts) = place.screen, _equal(many, few)
    asked = f" (questions answered {screen[0]} to {screen[1]} times, {screen[2]} grading)" if screen else ""

    def need(at_many: int, at_few: int, where: str, at: str, **bounds: Any) -> Comparison:
        what = f"n={many.rollouts} − n={few.rollouts}{asked}, pass@1 {where}"
        # The paper has Easy and Hard questions alone.
        known = screen is not None and (screen[0] >= EASY or screen[1] <= HARD)
        theirs = budget_effect(screen[0] >= EASY, at) if screen and known else None
        ours = many.points[at_many], few.points[at_few]
        return pass1(results, what, place.tokens, *ours, paper=theirs, **bounds)

    ends = (max(_ends(many)), max(_ends(few)), "at the end", "end")
    yield need(examples[0], examples[0], f"after {examples[0]:,} examples", "examples")
    of_each = rollouts[0] // many.rollouts, rollouts[0] // few.rollouts
    yield need(*of_each, f"after {rollouts[0]:,} rollouts", "rollouts", sign=-1)
    yield need(*ends, beyond=-MARGIN, against=-MARGIN)
    yield need(*ends, sign=-1, beyond=-MARGIN, against=-MARGIN)
