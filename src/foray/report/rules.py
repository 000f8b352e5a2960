"""The paper's ten claims, each decided by a fixed rule. ``docs/claims.md`` repeats the rules; change both.

No rule knows a token count or a model size: M_t counts in tokens per parameter, and differences count in points. A
difference smaller than MARGIN (two points) counts as none. "Above" and "below" speak of the whole 95% interval.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from foray.report.comparisons import Comparison, Ruling, compare, compare_abilities, every, last, some
from foray.report.differences import passk_difference
from foray.report.measurements import PassK, Seeds
from foray.report.paper import budget_effect, percents, seeds_effect
from foray.report.results import ANY, LENIENT, NotDrawable, Results, label
from foray.report.stats import MARGIN
from foray.report.verdicts import top_k

_FOLDER = Path(__file__).parent

CHINCHILLA = 20.0  # tokens per parameter (Hoffmann et al. 2022)
FROM = 10.0  # tokens per parameter: C2 speaks of this M_t and later ones, C9 of this M_t and earlier ones
Screen = tuple[int, int, str] | None
Points = dict[int, dict[Seeds, PassK]]  # by examples seen
EASY = 16  # the paper's Easy questions: those that the base answers at least so many of 64 times
SAME_REWARD = 0.05  # a smaller difference between two runs' mean rewards over the last five steps counts as none


class Claim(NamedTuple):
    name: str
    short: str
    statement: str
    paper: str
    rule: Callable[[Results], Ruling]


def c1(results: Results) -> Ruling:
    """Some M_t below 20 tokens per parameter has RL − base in pass@1 above the margin (Holm over those M_t).

    Contradicted if the difference is below the margin at every M_t below 20 tokens per parameter.
    """
    needs = compare(results, "rl", "base", 1, results.main_task, beyond=MARGIN, against=MARGIN)
    early = [n for n in needs if n.tokens < CHINCHILLA * results.model_parameters]
    if not early:
        raise NotDrawable(f"needs an M_t below {CHINCHILLA:g} tokens per parameter")
    found = some(early, results)
    lenient = [n for n in _lenient(results, 1) if n.tokens in {e.tokens for e in early}]
    lasting = sum(n.signed.lo > MARGIN for n in lenient)
    return found._replace(note=f"{found.note}; graded leniently, {lasting} for") if lenient else found


def c2(results: Results) -> Ruling:
    """At the last M_t, in pass@1: RL − SFT above 0, and RL − SFT→RL above −margin.

    A statement that holds "from some M_t on" holds at the last M_t, and the reverse. So the rule tests one M_t.
    Contradicted if one of the two differences is below its bound, and the last M_t is at 10 tokens per parameter or
    later.
    """
    task = results.main_task
    level = compare(results, "rl", "sft_rl", 1, task, beyond=-MARGIN, against=-MARGIN)
    end = last(compare(results, "rl", "sft", 1, task), level)
    found, ratio = every(end, results), end[0].tokens / results.model_parameters
    if found.answer == "contradicted" and ratio < FROM:
        effect = f"{found.effect} (the last M_t; the claim speaks of {FROM:g} and later)"
        return found._replace(answer="cannot tell", effect=effect)
    return found


def c3(results: Results) -> Ruling:
    """On a hard task, at the last M_t, in pass@1: RL − base above 0, and SFT→RL − RL above 0.

    Contradicted if one difference is below 0. The hard task is the first task after the main task whose class has
    ``hard = True``. Without one, the hard task is the main task if its class has ``hard = True``.
    """
    task = _hard(results)
    return every(last(compare(results, "rl", "base", 1, task), compare(results, "sft_rl", "rl", 1, task)), results)


def c4(results: Results) -> Ruling:
    """On a hard task, in pass@1, each model at its last M_t: a smaller model on a math-heavy mix, minus a larger model
    on another mix, above 0.

    Contradicted if below 0. Reads manifest entries with ``mix`` and ``model_parameters``. Compares the models after RL
    if both have RL, else the bases.
    """
    for recipe in ("rl", "base"):
        ends = _ends_by_model(results, recipe)
        for (small, rich), (large, plain) in combinations(sorted(ends), 2):
            ours, theirs = ends[small, rich], ends[large, plain]
            if small < large and _math_heavy(ours) and not _math_heavy(theirs) and set(ours) & set(theirs):
                what = (
                    f"{small:,} parameters on {rich} − {large:,} on {plain or 'the main mix'}, {label(recipe)}, pass@1"
                )
                tokens = max(e.tokens for e in ours.values())
                return every([_pass1(results, what, tokens, ours, theirs)], results)
    raise NotDrawable("needs a hard task and entries with `mix` and `model_parameters`")


def c5(results: Results) -> Ruling:
    """At every M_t: SFT-Gold − RL above 0 in pass@8 and pass@K; SFT-Gold→RL − RL and − SFT-Gold above 0 in pass@1.

    Contradicted if any difference is below 0 (Holm over all).
    """
    task, top = results.main_task, top_k(results, results.main_task)
    needs = [n for k in sorted({min(8, top), top}) for n in compare(results, "sft_gold", "rl", k, task)]
    for other in ("rl", "sft_gold"):
        needs += compare(results, "sft_gold_rl", other, 1, task)
    return every(needs, results)


def c6(results: Results) -> Ruling:
    """At every M_t: base → RL has pass@1 and pass@K above 0; SFT → SFT→RL has pass@1 above 0, pass@K below the margin.

    Contradicted (Holm over all) if a pass@1 difference is below 0, if RL − base is below the margin in pass@K, or if
    SFT→RL − SFT is above 0 in pass@K. Shown only if RL also raises pass@1 and pass@K when both models are graded
    leniently, so that learning the format does not count. Lenient grading alone contradicts nothing.
    """
    task, k = results.main_task, top_k(results, results.main_task)
    needs = compare(results, "rl", "base", 1, task) + compare(results, "rl", "base", k, task, against=MARGIN)
    needs += compare(results, "sft_rl", "sft", 1, task)
    needs += compare(results, "sft_rl", "sft", k, task, sign=-1, beyond=-MARGIN)
    lenient = _lenient(results, k)
    found = every(needs + _lenient(results, 1) + lenient, results)
    level = sum(n.signed.hi < MARGIN for n in lenient)
    words = f"; graded leniently, RL does not raise pass@{k} at {level} of {len(lenient)} M_t"
    return found._replace(note=found.note + words) if level else found


def c7(results: Results) -> Ruling:
    """At every M_t, in the general average: SFT − base below 0, RL − base above −margin.

    Contradicted (Holm over all) if SFT − base is above −margin and not below 0, or if RL − base is below −margin.
    """
    needs = compare_abilities(results, "sft", "base", sign=-1, against=MARGIN)
    return every(needs + compare_abilities(results, "rl", "base", beyond=-MARGIN, against=-MARGIN), results)


def c8(results: Results) -> Ruling:
    """At every M_t: parallel − each of RL, SFT, SFT→RL above 0 in pass@K; parallel − RL below 0 in pass@1;
    parallel − base above −margin in the general average.

    Contradicted (Holm over all) if any difference is on the other side of its bound.
    """
    task, k = results.main_task, top_k(results, results.main_task)
    needs = [n for other in ("rl", "sft", "sft_rl") for n in compare(results, "parallel", other, k, task)]
    needs += compare(results, "parallel", "rl", 1, task, sign=-1)
    needs += compare_abilities(results, "parallel", "base", beyond=-MARGIN, against=-MARGIN)
    return every(needs, results)


def c9(results: Results) -> Ruling:
    """At some M_t of at most 10 tokens per parameter with at least three RL seeds, two seeds differ in pass@1 by more
    than the margin (Holm over all pairs tested). Tested are pairs whose mean rewards over the last five steps differ
    by less than 0.05.

    Contradicted if every tested pair differs by less than the margin in pass@1.
    """
    rewards = {(log.tokens, log.run): log.last_reward for log in results.rl_runs() if log.recipe == "rl"}
    starts: dict[tuple[int, int], dict[Seeds, PassK]] = {}  # by M_t: tokens, pre-training
    for e in results.finals("rl", results.main_task):
        if (e.tokens, e.run) in rewards and e.tokens <= FROM * results.model_parameters:
            starts.setdefault((e.tokens, e.pretrain_seed), {})[e.run] = e
    needs = []
    for (tokens, start), runs in starts.items():
        for a, b in combinations(sorted(runs), 2) if len(runs) >= 3 else ():
            if abs(rewards[tokens, a] - rewards[tokens, b]) < SAME_REWARD:
                what = f"RL seed {a.seed} − seed {b.seed} (pre-training {start}), pass@1"
                bounds: Any = {"beyond": MARGIN, "against": MARGIN, "paper": seeds_effect()}
                found = _pass1(results, what, tokens, {a: runs[a]}, {a: runs[b]}, **bounds)
                needs.append(replace(found, sign=1 if found.difference.interval.value >= 0 else -1))
    if not needs:
        raise NotDrawable(f"needs 3 seeds of RL, equal in reward, at {FROM:g} tokens/parameter or fewer")
    return some(needs, results)


def c10(results: Results) -> Ruling:
    """RL with many (n) and few (m) rollouts a prompt, many − few in pass@1: above 0 at the first equal number of
    examples, below 0 at the first equal number of rollouts (examples × n), between −margin and margin at the ends.

    Contradicted (Holm over all) if any difference is on the other side of its bound. Reads entries with ``rollouts``
    and ``examples``.
    """
    grids: dict[tuple[int, Screen], dict[int, Points]] = {}
    asked = {"task": results.main_task, "trained_on": results.trained()}
    for e in results.select(PassK, recipe="rl", variant=ANY, **asked):
        if e.variant and e.rollouts and e.examples:
            points = grids.setdefault((e.tokens, e.screen), {}).setdefault(e.rollouts, {})
            points.setdefault(e.examples, {})[e.run] = e
    needs = [n for (tokens, screen), grid in grids.items() for n in _budget_needs(results, tokens, screen, grid)]
    if not needs:
        raise NotDrawable(
            "needs RL variants with two numbers of rollouts, evaluated at an equal number of examples and of rollouts"
        )
    return every(needs, results)


def _budget_needs(results: Results, tokens: int, screen: Screen, grid: Mapping[int, Points]) -> list[Comparison]:
    """C10's comparisons within one M_t and one screen. Empty if the runs share no number of examples or of rollouts."""
    if len(grid) < 2:
        return []
    m, n = min(grid), max(grid)
    few, many = grid[m], grid[n]
    examples = sorted(set(few) & set(many))
    rollouts = sorted({x * m for x in few} & {x * n for x in many})
    shared = [set(many[x]) & set(few[x]) for x in examples]
    shared += [set(many[x // n]) & set(few[x // m]) for x in rollouts]
    if not examples or not rollouts or not all(shared):
        return []
    asked = f" (questions answered {screen[0]} to {screen[1]} times, {screen[2]} grading)" if screen else ""

    def need(at_many: int, at_few: int, where: str, place: str, **bounds: Any) -> Comparison:
        what = f"n={n} − n={m}{asked}, pass@1 {where}"
        theirs = budget_effect(screen is not None and screen[0] >= EASY, place)
        return _pass1(results, what, tokens, many[at_many], few[at_few], paper=theirs, **bounds)

    ends = (max(many), max(few), "at the end", "end")
    return [
        need(examples[0], examples[0], f"after {examples[0]:,} examples", "examples"),
        need(rollouts[0] // n, rollouts[0] // m, f"after {rollouts[0]:,} rollouts", "rollouts", sign=-1),
        need(*ends, beyond=-MARGIN, against=-MARGIN),
        need(*ends, sign=-1, beyond=-MARGIN, against=-MARGIN),
    ]


def _ends_by_model(results: Results, recipe: str) -> dict[tuple[int, str], dict[Seeds, PassK]]:
    """The runs of a recipe on the hard task, for every (parameters, mix) at its last M_t."""
    found: dict[tuple[int, str], dict[int, dict[Seeds, PassK]]] = {}
    for e in results.finals(recipe, _hard(results), mix=ANY, model_parameters=ANY):
        place = (e.model_parameters or results.model_parameters, e.mix)
        found.setdefault(place, {}).setdefault(e.tokens, {})[e.run] = e
    return {place: by_tokens[max(by_tokens)] for place, by_tokens in found.items()}


def _math_heavy(runs: Mapping[Seeds, PassK]) -> bool:
    """True if the pre-training mix is math-heavy. For a manifest of an earlier version, the mix's name decides."""
    e = next(iter(runs.values()))
    return "math" in e.mix.lower() if e.math_heavy is None else e.math_heavy


def _pass1(
    results: Results, what: str, tokens: int, ours: Mapping[Seeds, PassK], theirs: Mapping[Seeds, PassK], **bounds: Any
) -> Comparison:
    """Ours − theirs in pass@1, over the runs that both have."""
    pairs = {run: (e, theirs[run]) for run, e in ours.items() if run in theirs}
    return Comparison(what, tokens, passk_difference(pairs, 1, results.extraction), **bounds)


def _lenient(results: Results, k: int) -> list[Comparison]:
    """RL − base, both graded leniently. The comparison can withhold an answer and never contradicts a claim."""
    if not all(LENIENT in e.counts for e in results.select(PassK)):
        return []
    return compare(results, "rl", "base", k, results.main_task, extraction=LENIENT, against=-float("inf"))


def _hard(results: Results) -> str:
    if results.hard_task is None:
        raise NotDrawable("needs a task that says it is a hard one (hard = True)")
    return results.hard_task


def _claims() -> tuple[Claim, ...]:
    """The claims of ``claims.toml``, with the paper's numbers in place of ``{task metric series x_name x}``."""
    found = tomllib.loads((_FOLDER / "claims.toml").read_text(encoding="utf-8"))["claim"]

    def numbers(match: re.Match[str]) -> str:
        return percents(*match[1].split())

    return tuple(
        Claim(**{k: re.sub("{(.*?)}", numbers, v) for k, v in c.items()}, rule=RULES[c["name"]]) for c in found
    )


RULES = {"C1": c1, "C2": c2, "C3": c3, "C4": c4, "C5": c5, "C6": c6, "C7": c7, "C8": c8, "C9": c9, "C10": c10}
CLAIMS = _claims()


def rule_on(claim: Claim, results: Results) -> Ruling:
    """The claim's answer for this study. Without the data that the rule needs, "not run" and the missing data."""
    if not results.select(PassK):
        return Ruling("not run", "", None, "no pass@k evaluation has finished")
    try:
        return claim.rule(results)
    except NotDrawable as e:
        return Ruling("not run", "", None, str(e))
