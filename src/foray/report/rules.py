"""The paper's ten claims, each decided by a fixed rule. ``docs/claims.md`` repeats the rules; change both.

No rule knows a token count or a model size: M_t counts in tokens per parameter, and differences count in points. A
difference smaller than MARGIN (two points) counts as none. "Above" and "below" speak of the whole 95% interval.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from foray.core.spelling import per_parameter
from foray.report import stats
from foray.report.comparisons import (
    Comparison,
    Ruling,
    compare,
    compare_abilities,
    every,
    last,
    ruling,
    some,
    undecided,
)
from foray.report.fairness import form_free, has_room
from foray.report.measurements import PassK, Seeds
from foray.report.paper import percents, seeds_effect
from foray.report.results import NotDrawable, Results, label
from foray.report.rollout_budgets import budget_needs, incomplete
from foray.report.rule_parts import (
    at_one_rate,
    budgets_of,
    by_tokens,
    ends_by_model,
    favoured,
    hard_task,
    math_heavy,
    pass1,
    several_samples,
    unfair_mixes,
)
from foray.report.stats import MARGIN
from foray.report.text_costs import hidden_cost

_FOLDER = Path(__file__).parent

CHINCHILLA = 20.0  # tokens per parameter (Hoffmann et al. 2022)
FROM = 10.0  # tokens per parameter: C2 speaks of this M_t and later ones, C9 of this M_t and earlier ones
EARLIEST = 4.0  # tokens per parameter: where the paper finds that RL works; hardly anything below
SAME = 0.05  # C9: a smaller difference of two seeds, in reward or in pass@1, counts as none
ABLE = 0.10  # C9 asks pairs of seeds whose better one has this pass@1 or more


class Claim(NamedTuple):
    name: str
    short: str
    statement: str
    paper: str
    rule: Callable[[Results], Ruling]


def c1(results: Results) -> Ruling:
    """Some M_t below 20 tokens per parameter has RL − base in pass@1 above the margin (Holm over those M_t).

    That much alone is "shown, in form". It is "shown" if some such M_t has three differences above the margin (Holm
    over M_t): RL − base, the same without asking for a form, and RL − primed base, which knows the form from a dozen
    updates of SFT. Then the weakest of the three decides, at the earliest M_t where all three hold.
    Contradicted if RL − base is below the margin at every M_t from 4 to 20 tokens per
    parameter: the paper itself finds hardly anything earlier.
    """
    needs = compare(results, "rl", "base", 1, results.main_task, beyond=MARGIN, against=MARGIN)
    early = [n for n in needs if n.tokens < CHINCHILLA * results.model_parameters]
    if not early:
        raise NotDrawable(f"needs an M_t below {CHINCHILLA:g} tokens per parameter")
    found = some(early, results)
    if found.answer != "shown":
        judged = [n for n in early if n.tokens >= EARLIEST * results.model_parameters]
        if judged and all(n.opposes for n in judged):
            return some(judged, results)._replace(needs=early)
        if found.answer == "contradicted":
            words = f"; the claim can fail from {EARLIEST:g} tokens per parameter on"
            return found._replace(answer="cannot tell", note=found.note + words)
        return found
    return _in_full(found, early, results)


def _in_full(found: Ruling, early: list[Comparison], results: Results) -> Ruling:
    """C1 where RL works in form at least: the answer, by all three parts of every M_t."""
    graded, task, parts = form_free(results), results.main_task, [early]
    if graded != results.extraction:  # else the first part asks for no form either
        parts.append(compare(results, "rl", "base", 1, task, graded, beyond=MARGIN))
    try:
        parts.append(compare(results, "rl", "primed", 1, task, graded, beyond=MARGIN))
    except NotDrawable:
        return found._replace(answer="shown, in form", note=f"{found.note}; no primed base was measured")
    at = [by_tokens(part) for part in parts]
    whole = {n.tokens: [of[n.tokens] for of in at] for n in early if all(n.tokens in of for of in at)}
    needs = [n for part in parts for n in part if n.tokens in at[0]]
    # An M_t holds where all its parts do: its p-value is the largest of them.
    held = stats.holm([max(c.p_value(supporting=True) for c in of_mt) for of_mt in whole.values()])
    words = f"; graded {graded} and over a primed base too, {sum(held)} of {len(whole)} M_t hold"
    if not any(held):
        assert found.decider is not None
        in_form = ruling("shown, in form", found.decider, needs, results, found.why)
        return in_form._replace(note=in_form.note + words)
    first = whole[min(tokens for tokens, holds in zip(whole, held) if holds)]
    why = f"the weakest of the {len(first)} at the earliest M_t where all hold"
    shown = ruling("shown", min(first, key=lambda n: n.signed.lo - n.beyond), needs, results, why)
    return shown._replace(note=shown.note + words)


def c2(results: Results) -> Ruling:
    """At the last M_t, in pass@1: RL − SFT above 0, and RL − SFT→RL above −margin; the second also with one rate of RL.

    A statement that holds "from some M_t on" holds at the last M_t, and the reverse. So the rule tests one M_t.
    Contradicted if one of the differences is below its bound, and the last M_t is at 10 tokens per parameter or later.
    Where RL and SFT→RL have different rates, a variant of one of them at the other's rate gives the third difference.
    Without one, the claim cannot be shown.
    """
    task = results.main_task
    level = compare(results, "rl", "sft_rl", 1, task, beyond=-MARGIN, against=-MARGIN)
    end = last(compare(results, "rl", "sft", 1, task), level)
    tokens = end[0].tokens
    equal = at_one_rate(results, tokens)
    found, ratio = every(end + (equal or []), results), tokens / results.model_parameters
    if equal is None and found.answer == "shown":
        words = "needs RL and SFT→RL at one rate of RL"
        found = found._replace(answer="cannot tell", note=f"{found.note}; {words}")
    if found.answer == "contradicted" and ratio < FROM:
        effect = f"{found.effect} (the last M_t; the claim speaks of {FROM:g} and later)"
        return found._replace(answer="cannot tell", effect=effect)
    return found


def c3(results: Results) -> Ruling:
    """On a hard task, at the last M_t, in pass@1: RL − base above 0, and SFT→RL − RL above 0.

    Contradicted if one difference is below 0. The hard task is the first task after the main task that says ``hard``.
    Without one, the hard task is the main task if it says so.
    """
    task = hard_task(results)
    return every(last(compare(results, "rl", "base", 1, task), compare(results, "sft_rl", "rl", 1, task)), results)


def c4(results: Results) -> Ruling:
    """On a hard task, in pass@1, each model at its last M_t: a smaller model on a math-heavy mix, minus a larger model
    on another mix, above 0.

    Contradicted if below 0. Reads manifest entries with ``mix`` and ``model_parameters``. Compares the models after RL
    if both have RL, else the bases. Decided only where the smaller model had no more FLOPs of pre-training (6 × tokens
    × parameters) than the larger one, and where the math of both mixes has the same share of hard problems.
    """
    for recipe in ("rl", "base"):
        ends = ends_by_model(results, recipe)
        for (small, rich), (large, plain) in combinations(sorted(ends), 2):
            ours, theirs = ends[small, rich], ends[large, plain]
            if small < large and math_heavy(ours) and not math_heavy(theirs) and set(ours) & set(theirs):
                tokens, more = (max(e.tokens for e in one.values()) for one in (ours, theirs))
                what = (
                    f"{small:,} parameters on {rich} − {large:,} on {plain or 'the main mix'} "
                    f"(at {per_parameter(more / large)} tokens/parameter), {label(recipe)}, pass@1"
                )
                found = every([pass1(results, what, tokens, ours, theirs)], results)
                unfair = unfair_mixes(small * tokens, large * more, ours, theirs)
                return undecided(found, unfair) if unfair else found
    raise NotDrawable("needs a smaller model on a math-heavy mix and a larger one on another, both on a hard task")


def c5(results: Results) -> Ruling:
    """At every M_t: SFT-Gold − RL above 0 in pass@8 and pass@K; SFT-Gold→RL − RL and − SFT-Gold above 0 in pass@1.

    Contradicted if any difference is below 0 (Holm over all).
    """
    task, top = results.main_task, several_samples(results)
    needs = [n for k in sorted({min(8, top), top}) for n in compare(results, "sft_gold", "rl", k, task)]
    for other in ("rl", "sft_gold"):
        needs += compare(results, "sft_gold_rl", other, 1, task)
    return every(needs, results)


def c6(results: Results) -> Ruling:
    """At every M_t, graded without asking for a form (flexibly, as the paper does): base → RL has pass@1 and pass@K
    above 0; SFT → SFT→RL has pass@1 above 0, pass@K below the margin.

    Contradicted (Holm over all) if a pass@1 difference is below 0, if RL − base is below the margin in pass@K, or if
    SFT→RL − SFT is above 0 in pass@K. A transition counts only where its first model has room: its pass@K lies more
    than the margin below 100% and above the guess line. The note gives the strict reading, which holds form learning.
    """
    task, k, graded = results.main_task, several_samples(results), form_free(results)
    bounds: dict[tuple[str, str], dict[str, Any]] = {
        ("rl", "base"): {"against": MARGIN},
        ("sft_rl", "sft"): {"sign": -1, "beyond": -MARGIN},
    }
    needs, left_out = list[Comparison](), 0
    for (recipe, reference), asked in bounds.items():
        room = {
            t: has_room((r for _, r in p.values()), k, graded)
            for t, p in results.pairs(recipe, reference, task).items()
        }
        parts = compare(results, recipe, reference, 1, task, graded)
        parts += compare(results, recipe, reference, k, task, graded, **asked)
        kept = [n for n in parts if room[n.tokens]]
        left_out += sum(not has for has in room.values())
        if not kept:
            raise NotDrawable(f"needs an M_t whose {label(reference)} has room to rise in pass@{k}")
        needs += kept
    found = every(needs, results)
    words = f"; {left_out} transition{'s'[: left_out != 1]} without room left out" if left_out else ""
    if graded != "strict" and all("strict" in e.counts for e in results.select(PassK)):
        strict = [compare(results, "rl", "base", n, task, "strict")[-1].difference.interval.value for n in (1, k)]
        words += "; strictly graded, with form learning, RL − base at the last M_t is {:+.1f} in pass@1 and {:+.1f} in "
        words = words.format(*(100 * v for v in strict)) + f"pass@{k}"
    return found._replace(note=found.note + words)


def c7(results: Results) -> Ruling:
    """At every M_t, in the general average: SFT − base below 0, RL − base above −margin.

    Contradicted (Holm over all) if SFT − base is above −margin and not below 0, or if RL − base is below −margin. The
    note gives what RL and SFT add to the bits per byte of text, a cost that probes hide; it decides nothing.
    """
    needs = compare_abilities(results, "sft", "base", sign=-1, against=MARGIN)
    needs += compare_abilities(results, "rl", "base", beyond=-MARGIN, against=-MARGIN)
    found, cost = every(needs, results), hidden_cost(results)
    return found._replace(note=f"{found.note}; {cost}") if cost else found


def c8(results: Results) -> Ruling:
    """At every M_t: parallel − each of RL, SFT, SFT→RL above 0 in pass@K; parallel − base above −margin in the general
    average. From 10 tokens per parameter on: parallel − RL below 0 in pass@1.

    Contradicted (Holm over all) if any difference is on the other side of its bound. Where the recipe that the claim
    says is ahead had more of what both share (rollouts, rows of demonstrations), and the stop rule did not end both,
    a comparison can speak against the claim and not for it: if all hold, the claim is "shown, at unequal budgets".
    The note gives the budgets.
    """
    task, k = results.main_task, several_samples(results)
    shared = {"rl": (True, False), "sft": (False, True), "sft_rl": (True, True)}
    needs, unfair = list[Comparison](), list[str]()
    for other, kinds in shared.items():
        found = compare(results, "parallel", other, k, task)
        if other == "rl":
            low = compare(results, "parallel", "rl", 1, task, sign=-1)
            found += [n for n in low if n.tokens >= FROM * results.model_parameters]
        needs += found
        unfair += [words for n in found if (words := favoured(results, "parallel", other, n, kinds))]
    needs += compare_abilities(results, "parallel", "base", beyond=-MARGIN, against=-MARGIN)
    ruling = every(needs, results)
    ruling = ruling._replace(note=f"{ruling.note}{budgets_of(results, ('parallel', 'rl', 'sft', 'sft_rl'))}")
    if not unfair:
        return ruling
    words = f"in {len(unfair)} comparisons the larger budget favours the claim, such as {unfair[0]}"
    ruling = ruling._replace(note=f"{ruling.note}; {words}")
    return ruling._replace(answer="shown, at unequal budgets") if ruling.answer == "shown" else ruling


def c9(results: Results) -> Ruling:
    """At some M_t of at most 10 tokens per parameter with at least three RL seeds, two seeds differ in pass@1 by more
    than 5 points (Holm over all pairs tested). Tested are pairs whose mean rewards over the last five steps differ by
    less than 5 points, and of which the better one has a pass@1 of at least 10%.

    Contradicted if every tested pair differs by less than 5 points in pass@1.
    """
    rewards = {(log.tokens, log.run): log.last_reward for log in results.rl_runs() if log.recipe == "rl"}
    starts: dict[tuple[int, int], dict[Seeds, PassK]] = {}  # by M_t: tokens, pre-training
    for e in results.finals("rl", results.main_task):
        if (e.tokens, e.run) in rewards and e.tokens <= FROM * results.model_parameters:
            starts.setdefault((e.tokens, e.pretrain_seed), {})[e.run] = e
    needs = []
    for (tokens, start), runs in starts.items():
        # The seed with the higher pass@1 first, so that a pair's difference is its size.
        reached = {run: float(e.counts[results.extraction].pass_at(1).mean()) for run, e in runs.items()}
        ordered = sorted(runs, key=lambda run: (-reached[run], run))
        for a, b in combinations(ordered, 2) if len(runs) >= 3 else ():
            if reached[a] >= ABLE and abs(rewards[tokens, a] - rewards[tokens, b]) < SAME:
                what = f"RL seed {a.seed} − seed {b.seed} (pre-training {start}), pass@1"
                bounds: Any = {"beyond": SAME, "against": SAME, "paper": seeds_effect()}
                needs.append(pass1(results, what, tokens, {a: runs[a]}, {a: runs[b]}, **bounds))
    if not needs:
        raise NotDrawable(
            f"needs 3 seeds of RL, two of them equal in reward and one of these with pass@1 of {100 * ABLE:g}% or "
            f"more, at {FROM:g} tokens/parameter or fewer"
        )
    return some(needs, results)


def c10(results: Results) -> Ruling:
    """RL with many (n) and few (m) rollouts a prompt, many − few in pass@1: above 0 at the first equal number of
    examples, below 0 at the first equal number of rollouts (examples × n), between −margin and margin at the ends.

    Asked of every M_t and choice of training questions, of the variants with the fewest and the most rollouts there.
    Of several such pairs of variants the one whose other settings are equal is compared, else the study's first.

    Contradicted (Holm over all) if any difference is on the other side of its bound. Reads entries with ``rollouts``
    and ``examples``. The rollouts stand for FLOPs, as in the paper. The note says where both n have one learning rate:
    then the rate was tuned for at most one of them.
    """
    asks = budget_needs(results)
    needs = [n for asked in asks.values() for n in asked.needs]
    if not needs:
        raise NotDrawable(
            "needs RL variants with two numbers of rollouts, evaluated at an equal number of examples and of rollouts"
        )
    found = every(needs, results)
    notes = [asked.note for asked in asks.values() if asked.note]
    rates = {rate for asked in asks.values() for rate in asked.rates}
    if len(rates) == 1 and None not in rates:
        notes.insert(0, "one rate for every n")
    found = found._replace(note="; ".join([found.note, *notes]))
    lacking = incomplete(results)
    words = f"the runs on {lacking} choice{'s'[: lacking != 1]} of training questions are not complete"
    return undecided(found, words) if lacking and found.answer == "shown" else found


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
