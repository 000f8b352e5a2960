"""The comparisons that single rules of claims ask for, and why some of them would not be fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foray.report.comparisons import Comparison
from foray.report.differences import Pairing, pair, passk_difference
from foray.report.fairness import budget, no_more
from foray.report.measurements import PassK, Seeds
from foray.report.results import ANY, NotDrawable, Results, label
from foray.report.stats import MARGIN
from foray.report.verdicts import top_k

SAME_FLOPS = 0.05  # so much more counts as none


def ends_by_model(results: Results, recipe: str) -> dict[tuple[int, str], dict[Seeds, PassK]]:
    """The runs of a recipe on the hard task, for every (parameters, mix) at its last M_t."""
    found: dict[tuple[int, str], dict[int, dict[Seeds, PassK]]] = {}
    for e in results.finals(recipe, hard_task(results), mix=ANY, model_parameters=ANY):
        place = (e.model_parameters or results.model_parameters, e.mix)
        found.setdefault(place, {}).setdefault(e.tokens, {})[e.run] = e
    return {place: by_tokens[max(by_tokens)] for place, by_tokens in found.items()}


def math_heavy(runs: Mapping[Seeds, PassK]) -> bool:
    """True if the pre-training mix is math-heavy. For a manifest of an earlier version, the mix's name decides."""
    e = next(iter(runs.values()))
    return "math" in e.mix.lower() if e.math_heavy is None else e.math_heavy


def pass1(
    results: Results, what: str, tokens: int, ours: Mapping[Seeds, PassK], theirs: Mapping[Seeds, PassK], **bounds: Any
) -> Comparison:
    """Ours − theirs in pass@1, over the runs that both have. Raises NotDrawable where they share none."""
    pairs = {Pairing(*run, run.seed): (e, theirs[run]) for run, e in ours.items() if run in theirs}
    if not pairs:
        raise NotDrawable(f"needs {what} of one run")
    return Comparison(what, tokens, passk_difference(pairs, 1, results.extraction), **bounds)


def by_tokens(found: list[Comparison]) -> dict[int, Comparison]:
    return {n.tokens: n for n in found}


def at_one_rate(results: Results, tokens: int) -> list[Comparison] | None:
    """RL − SFT→RL at one M_t and one rate of RL: none where the main grid has one rate, None where no variant has.

    A variant of other rollouts, examples or questions than the main grid's is no match: it differs in more than a rate.
    """
    models: dict[str, dict[float | None, dict[Seeds, PassK]]] = {"rl": {}, "sft_rl": {}}
    main: dict[str, float | None] = {}
    for recipe, by_rate in models.items():
        found = [e for e in results.finals(recipe, results.main_task, variant=ANY) if e.tokens == tokens]
        own = {e.run: e for e in found if not e.variant}
        for e in sorted(found, key=lambda e: e.variant):  # the main grid's first
            rate = (e.learning_rates or {}).get("rollouts")
            if e.run in own and _trained_alike(e, own[e.run]):
                by_rate.setdefault(rate, {}).setdefault(e.run, e)
            if not e.variant:
                main[recipe] = rate
    if main["rl"] == main["sft_rl"]:
        return []
    for rate in main.values():
        if set(models["rl"].get(rate, ())) & set(models["sft_rl"].get(rate, ())):
            what = f"RL − SFT→RL, both with RL at {rate:g}, pass@1"
            bounds: Any = {"beyond": -MARGIN, "against": -MARGIN}
            both = pair(models["rl"][rate].values(), models["sft_rl"][rate].values())[tokens]
            return [Comparison(what, tokens, passk_difference(both, 1, results.extraction), **bounds)]
    return None


def _trained_alike(a: PassK, b: PassK) -> bool:
    """Whether RL drew as many rollouts of as many questions, from the same choice of questions."""
    return (a.rollouts, a.examples, a.screen) == (b.rollouts, b.examples, b.screen)


def favoured(results: Results, recipe: str, other: str, n: Comparison, kinds: tuple[bool, bool]) -> str:
    """Two budgets that favour the claim, in words: the recipe that it says is ahead had the larger one. Else empty."""
    for p in results.pairs(recipe, other, results.main_task)[n.tokens]:
        ours, theirs = budget(results, recipe, n.tokens, p.run), budget(results, other, n.tokens, p.reference)
        if not no_more(*((ours, theirs) if n.sign > 0 else (theirs, ours)), *kinds):
            assert ours is not None and theirs is not None
            return f"{label(recipe)} with {ours.words()}, {label(other)} with {theirs.words()}"
    return ""


def budgets_of(results: Results, recipes: Sequence[str]) -> str:
    """The recipes' budgets at the last M_t, in words; empty where no log tells."""
    ends = [max(results.finals(r, results.main_task), key=lambda e: (e.tokens, e.run)) for r in recipes]
    found = [(r, budget(results, r, e.tokens, e.run)) for r, e in zip(recipes, ends)]
    said = [f"{label(r)} {b.words()}" for r, b in found if b is not None]
    return f"; budgets: {', '.join(said)}" if said else ""


def unfair_mixes(ours: float, theirs: float, a: Mapping[Seeds, PassK], b: Mapping[Seeds, PassK]) -> str:
    """Why two pre-trainings cannot be compared; empty where they can. ``ours``, ``theirs``: tokens × parameters."""
    hard = [{e.hard_share for e in runs.values()} for runs in (a, b)]
    if ours > (1 + SAME_FLOPS) * theirs:
        return f"the smaller model had {ours / theirs:.1f} times the FLOPs of pre-training"
    shares = [f"{100 * s:.0f}%" for shares in hard for s in shares if s is not None]
    return f"hard problems are {' and '.join(shares)} of the mixes' math" if len(set(shares)) > 1 else ""


def several_samples(results: Results) -> int:
    """The K of pass@K on the main task. Raises NotDrawable where it is 1: pass@K is then pass@1."""
    k = top_k(results, results.main_task)
    if k < 2:
        raise NotDrawable("needs 2 samples a problem or more: with one, pass@K is pass@1")
    return k


def hard_task(results: Results) -> str:
    if results.hard_task is None:
        raise NotDrawable("needs a task that says it is a hard one (hard = True)")
    return results.hard_task
