"""The paper's ten claims, each decided by a fixed rule. The rules are repeated in ``docs/claims.md``; change both.

No rule knows a token count or a size: M_t counts in tokens per parameter, differences in points, and differences
smaller than MARGIN (two points) count as none. "Above", "below": the whole 95% interval is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from foray.report import stats
from foray.report.evidence import Absent, Finding, Need, compare, compare_general, every, last, paper, some
from foray.report.markup import label
from foray.report.measured import Evaluation, Run, TrainingRun, difference
from foray.report.results import NotDrawable, Results
from foray.report.stats import MARGIN, Interval
from foray.report.verdicts import top_k

CHINCHILLA = 20.0  # tokens per parameter (Hoffmann et al. 2022)
FROM = 10.0  # tokens per parameter from which C2 speaks, and up to which C9 does
SAME_REWARD = 0.05  # mean reward of two runs' last five steps that counts as the same


class Claim(NamedTuple):
    name: str
    short: str
    statement: str
    paper: str
    rule: Callable[[Results], Finding]


def c1(results: Results) -> Finding:
    """Some M_t below 20 tokens per parameter has RL − base in pass@1 above the margin (Holm over those M_t).

    Contradicted if at every such M_t it is below the margin.
    """
    needs = compare(results, "rl", "base", 1, results.main_task, beyond=MARGIN, against=MARGIN)
    early = [n for n in needs if n.tokens < CHINCHILLA * results.model_parameters]
    if not early:
        raise Absent(f"needs an M_t below {CHINCHILLA:g} tokens per parameter")
    found = some(early, results)
    lenient = [n for n in _lenient(results, 1) if n.tokens in {e.tokens for e in early}]
    lasting = sum(n.signed.lo > MARGIN for n in lenient)
    return found._replace(note=f"{found.note}; graded leniently, {lasting} for") if lenient else found


def c2(results: Results) -> Finding:
    """At the last M_t, in pass@1: RL − SFT above 0, and RL − SFT→RL above −margin.

    "From some M_t on" is true if and only if it is true at the last one, so one M_t is tested. Contradicted if one of
    the two differences is below its bound, and the last M_t is at 10 tokens per parameter or later.
    """
    task = results.main_task
    level = compare(results, "rl", "sft_rl", 1, task, beyond=-MARGIN, against=-MARGIN)
    end = last(compare(results, "rl", "sft", 1, task), level)
    found, ratio = every(end, results), end[0].tokens / results.model_parameters
    if found.answer == "contradicted" and ratio < FROM:
        effect = f"{found.effect} (the last M_t; the claim speaks of {FROM:g} and later)"
        return found._replace(answer="cannot tell", effect=effect)
    return found


def c3(results: Results) -> Finding:
    """On a hard task, at the last M_t, in pass@1: RL − base above 0, and SFT→RL − RL above 0.

    Contradicted if one is below 0. The hard task is the first after the main one with the word "hard" or "math" in its
    name, or else the main one if that has.
    """
    task = _hard(results)
    return every(last(compare(results, "rl", "base", 1, task), compare(results, "sft_rl", "rl", 1, task)), results)


def c4(results: Results) -> Finding:
    """On a hard task, in pass@1 at each one's last M_t: a smaller model on a math-heavy mix, minus a larger model
    on another one, above 0.

    Contradicted if below 0. Reads manifest entries with ``mix`` and ``model_parameters``; the models after
    RL where both have it, else the bases.
    """
    for recipe in ("rl", "base"):
        ends = _ends_by_model(results, recipe)
        for (small, rich), (large, plain) in combinations(sorted(ends), 2):
            ours, theirs = ends[small, rich], ends[large, plain]
            if small < large and _math_heavy(ours) and not _math_heavy(theirs):
                tokens = max(e.entry.tokens for e in ours.values())
                runs = {run: _pass1(results, e, theirs[run]) for run, e in ours.items() if run in theirs}
                what = (
                    f"{small:,} parameters on {rich} − {large:,} on {plain or 'the main mix'}, {label(recipe)}, pass@1"
                )
                if runs:
                    return every([Need(what, tokens, difference(runs))], results)
    raise Absent("needs a hard task and entries with `mix` and `model_parameters`")


def c5(results: Results) -> Finding:
    """At every M_t: SFT-Gold − RL above 0 in pass@8 and pass@K; SFT-Gold→RL − RL and − SFT-Gold above 0 in pass@1.

    Contradicted if any is below 0 (Holm over all).
    """
    task, top = results.main_task, top_k(results, results.main_task)
    needs = [n for k in sorted({min(8, top), top}) for n in compare(results, "sft_gold", "rl", k, task)]
    for other in ("rl", "sft_gold"):
        needs += compare(results, "sft_gold_rl", other, 1, task)
    return every(needs, results)


def c6(results: Results) -> Finding:
    """At every M_t: base → RL has pass@1 and pass@K above 0; SFT → SFT→RL has pass@1 above 0, pass@K below the margin.

    Contradicted (Holm over all) if a pass@1 is below 0, RL's pass@K over the base is below the margin, or SFT→RL's over
    SFT is above 0. Shown only if base → RL also expands when both are graded leniently, so that learning the format
    does not count; lenient grading alone contradicts nothing.
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


def c7(results: Results) -> Finding:
    """At every M_t, in the general average: SFT − base below 0, RL − base above −margin.

    Contradicted (Holm over all) if SFT − base is above −margin without being below 0, or RL − base below −margin.
    """
    needs = compare_general(results, "sft", "base", sign=-1, against=MARGIN)
    return every(needs + compare_general(results, "rl", "base", beyond=-MARGIN, against=-MARGIN), results)


def c8(results: Results) -> Finding:
    """At every M_t: parallel − each of RL, SFT, SFT→RL above 0 in pass@K; parallel − RL below 0 in pass@1;
    parallel − base above −margin in the general average.

    Contradicted (Holm over all) if any is on the other side of its bound.
    """
    task, k = results.main_task, top_k(results, results.main_task)
    needs = [n for other in ("rl", "sft", "sft_rl") for n in compare(results, "parallel", other, k, task)]
    needs += compare(results, "parallel", "rl", 1, task, sign=-1)
    needs += compare_general(results, "parallel", "base", beyond=-MARGIN, against=-MARGIN)
    return every(needs, results)


def c9(results: Results) -> Finding:
    """At some M_t of at most 10 tokens per parameter, two of at least three RL seeds differ in pass@1 by more than the
    margin (Holm over all such pairs), their mean reward over the last five steps by less than 0.05.

    Contradicted if every such pair differs by less than the margin.
    """
    task = results.main_task
    rewards = {(r.entry.tokens, r.entry.run): _reward(r) for r in results.rl_runs() if r.entry.recipe == "rl"}
    starts: dict[tuple[int, int], dict[Run, Evaluation]] = {}  # by M_t: tokens, pre-training
    for (tokens, run), evaluation in results.finals("rl", task).items():
        if (tokens, run) in rewards and tokens <= FROM * results.model_parameters:
            starts.setdefault((tokens, run.pretrain_seed), {})[run] = evaluation
    needs = []
    for (tokens, _), runs in starts.items():
        for a, b in combinations(sorted(runs), 2) if len(runs) >= 3 else ():
            if abs(rewards[tokens, a] - rewards[tokens, b]) < SAME_REWARD:
                found = difference({a: _pass1(results, runs[a], runs[b])})
                sign = 1 if found.interval.value >= 0 else -1
                what = f"RL seed {a.seed} − seed {b.seed} (pre-training {a.pretrain_seed}), pass@1"
                needs.append(Need(what, tokens, found, sign, beyond=MARGIN, against=MARGIN))
    if not needs:
        raise Absent(f"needs 3 seeds of RL, equal in reward, at {FROM:g} tokens/parameter or fewer")
    return some(needs, results)


def c10(results: Results) -> Finding:
    """RL with many (n) and few (m) rollouts a prompt, in pass@1: many − few above 0 at the first equal number of
    examples; below 0 at the first equal number of rollouts (examples × n); between −margin and margin at their ends.

    Contradicted (Holm over all) if any is on the other side. Reads entries with ``rollouts`` and ``examples``.
    """
    grids: dict[tuple[int, tuple[int, int, str] | None], dict[int, dict[int, dict[Run, Evaluation]]]] = {}
    for e in results.variants:
        x = e.entry
        other = x.split or x.mix or x.model_parameters
        if x.recipe == "rl" and x.rollouts and x.examples and not other:
            grid = grids.setdefault((x.tokens, x.screen), {})
            grid.setdefault(x.rollouts, {}).setdefault(x.examples, {})[x.run] = e
    needs = [n for (tokens, screen), points in grids.items() for n in _budget_needs(results, tokens, screen, points)]
    if not needs:
        raise Absent(
            "needs RL variants with two numbers of rollouts, evaluated at an equal number of examples and of rollouts"
        )
    return every(needs, results)


def _budget_needs(
    results: Results,
    tokens: int,
    screen: tuple[int, int, str] | None,
    points: Mapping[int, Mapping[int, Mapping[Run, Evaluation]]],
) -> list[Need]:
    """C10's comparisons within one M_t and choice of questions; none where the points do not meet."""
    if len(points) < 2:
        return []
    m, n = min(points), max(points)
    few, many = points[m], points[n]
    examples = sorted(set(few) & set(many))
    rollouts = sorted({x * m for x in few} & {x * n for x in many})
    shared = [set(many[x]) & set(few[x]) for x in examples]
    shared += [set(many[x // n]) & set(few[x // m]) for x in rollouts]
    if not examples or not rollouts or not all(shared):
        return []
    asked = f" (questions answered {screen[0]} to {screen[1]} times, {screen[2]} grading)" if screen else ""

    def need(at_many: int, at_few: int, what: str, **bounds: float) -> Need:
        theirs = few[at_few]
        runs = {run: _pass1(results, a, theirs[run]) for run, a in many[at_many].items() if run in theirs}
        sign = int(bounds.pop("sign", 1))
        return Need(f"n={n} − n={m}{asked}, pass@1 {what}", tokens, difference(runs), sign, **bounds)

    ends = (max(many), max(few))
    return [
        need(examples[0], examples[0], f"after {examples[0]:,} examples"),
        need(rollouts[0] // n, rollouts[0] // m, f"after {rollouts[0]:,} rollouts", sign=-1),
        need(*ends, "at the end", beyond=-MARGIN, against=-MARGIN),
        need(*ends, "at the end", sign=-1, beyond=-MARGIN, against=-MARGIN),
    ]


def _ends_by_model(results: Results, recipe: str) -> dict[tuple[int, str], dict[Run, Evaluation]]:
    """The runs of a recipe on the hard task at the last M_t of every (parameters, mix)."""
    task = _hard(results)
    trained_on = ("", results.trained_on(task))
    found: dict[tuple[int, str], dict[int, dict[Run, Evaluation]]] = {}
    for e in (*results.evaluations, *results.variants):
        x = e.entry
        beside = x.variant or x.split
        if x.final and not beside and x.recipe == recipe and x.task == task and x.trained_on in trained_on:
            place = (x.model_parameters or results.model_parameters, x.mix)
            found.setdefault(place, {}).setdefault(x.tokens, {})[x.run] = e
    return {place: by_tokens[max(by_tokens)] for place, by_tokens in found.items()}


def _math_heavy(runs: Mapping[Run, Evaluation]) -> bool:
    """Whether the pre-training mix is; where the manifest is of a version that did not say, by its name."""
    entry = next(iter(runs.values())).entry
    return "math" in entry.mix.lower() if entry.math_heavy is None else entry.math_heavy


def _pass1(results: Results, a: Evaluation, b: Evaluation) -> Interval:
    return stats.paired_difference(a.graded[results.extraction], b.graded[results.extraction], 1)


def _lenient(results: Results, k: int) -> list[Need]:
    """RL − base with both graded leniently: may withhold an answer, never contradict."""
    if not all("lenient" in e.graded for e in results.evaluations):
        return []
    return compare(results, "rl", "base", k, results.main_task, extraction="lenient", against=-float("inf"))


def _hard(results: Results) -> str:
    if results.hard_task is None:
        raise Absent("needs a task that says it is a hard one (hard = True)")
    return results.hard_task


def _reward(run: TrainingRun) -> float:
    return float(np.mean(run.of("rollouts", "reward").dropna().to_numpy(float)[-5:]))


def _rows() -> tuple[Claim, ...]:
    def p(metric: str, *series: str, at: int, task: str = "gsm8k") -> str:
        return " / ".join(paper(metric, s, at, task) for s in series)

    gold, four = ("sft_gold", "sft_gold_rl", "rl"), ("parallel", "rl", "sft", "sft_rl")
    general, five = "general_average", "general_average_of_5"
    n5, n64 = "rl_hard_n5", "rl_hard_n64"
    return (
        Claim("C1", "RL works from a very early M_t",
              "RL works from a very early M_t",
              f"pass@1 base / RL: {p('pass@1', 'base', 'rl', at=2)} at 2B, "
              f"{p('pass@1', 'base', 'rl', at=4)} at 4B", c1),
        Claim("C2", "Later, RL beats SFT and equals SFT→RL",
              "From some M_t on, RL beats SFT and equals SFT→RL on pass@1",
              f"pass@1 RL / SFT / SFT→RL: {p('pass@1', 'rl', 'sft', 'sft_rl', at=10)} at 10B, "
              f"{p('pass@1', 'rl', 'sft', 'sft_rl', at=44)} at 44B", c2),
        Claim("C3", "Harder problems: RL helps, short of SFT→RL",
              "On harder problems RL helps but does not reach SFT→RL",
              f"MATH pass@1 base / RL / SFT→RL: {p('pass@1', 'base', 'rl', 'sft_rl', at=44, task='math')} at 44B", c3),
        Claim("C4", "There, data mix counts more than size",
              "There, the pre-training mix counts more than model size",
              "a 1B model on 60B math-heavy tokens is ahead of a 4B model (figure not digitised)", c4),
        Claim("C5", "SFT-Gold leads pass@8, pass@K; then RL, pass@1",
              "With many solutions: SFT-Gold leads RL on pass@8 and pass@K, SFT-Gold→RL leads on pass@1",
              f"SFT-Gold / SFT-Gold→RL / RL at 44B: pass@1 {p('pass@1', *gold, at=44)}, "
              f"pass@8 {p('pass@8', *gold, at=44)}, pass@32 {p('pass@32', *gold, at=44)}", c5),
        Claim("C6", "RL expands the base, sharpens after SFT",
              "RL on the base expands; RL after SFT sharpens",
              f"pass@32 at 44B: base → RL {p('pass@32', 'base', 'rl', at=44)}, "
              f"SFT → SFT→RL {p('pass@32', 'sft', 'sft_rl', at=44)}", c6),
        Claim("C7", "SFT costs general abilities, RL does not",
              "SFT costs general abilities, RL does not",
              f"six-task average base / SFT / RL: {p('acc', 'base', 'sft', 'rl', at=44, task=general)} at 44B", c7),
        Claim("C8", "Parallel: best pass@K, abilities kept",
              "Parallel averaging: best pass@K of the one-solution recipes, lower pass@1 than RL, abilities kept",
              f"parallel / RL / SFT / SFT→RL at 44B: pass@32 {p('pass@32', *four, at=44)}, "
              f"pass@1 {p('pass@1', *four, at=44)}; "
              f"five-task average base / parallel {p('acc', 'base', 'parallel', at=44, task=five)}", c8),
        Claim("C9", "Early RL: seeds of equal reward differ",
              "Early RL is brittle: seeds of equal reward differ in test accuracy",
              f"pass@1 of two seeds at 4B: {p('pass@1', 'rl_seed_favorable', 'rl_seed_unfavorable', at=4)}", c9),
        Claim("C10", "More rollouts: more learned per example",
              "More rollouts a prompt: more learned per example, less per rollout, the same end",
              f"Hard, n=64 / n=5: {paper('pass@1', n64, 38400, x_name='examples')} / "
              f"{paper('pass@1', n5, 38400, x_name='examples')} after 38k examples, "
              f"{paper('pass@1', n64, 327680, x_name='rollouts')} / {paper('pass@1', n5, 320000, x_name='rollouts')} "
              f"after 0.3M rollouts, {paper('pass@1', n64, 40960, x_name='end')} / "
              f"{paper('pass@1', n5, 384000, x_name='end')} at the end", c10),
    )  # fmt: skip


CLAIMS = _rows()


def judge(claim: Claim, results: Results) -> Finding:
    """The claim's answer for this study; "not run" with what is missing where it lacks data."""
    if not results.evaluations:
        return Finding("not run", "", None, "no pass@k evaluation has finished")
    try:
        return claim.rule(results)
    except (Absent, NotDrawable) as e:
        return Finding("not run", "", None, str(e))


def table(results: Results) -> pd.DataFrame:
    """``claims.csv``: one row a claim. Shares, not percent; the paper's numbers are in percent, as it prints them."""
    rows = []
    for claim in CLAIMS:
        found = judge(claim, results)
        bounds = found.interval[:3] if found.interval else (None, None, None)
        rows.append((claim.name, claim.statement, found.answer, found.effect, *bounds, found.note, claim.paper))
    columns = ["claim", "statement", "answer", "effect", "value", "lo", "hi", "note", "paper"]
    return pd.DataFrame(rows, columns=columns).astype({"value": float, "lo": float, "hi": float})
