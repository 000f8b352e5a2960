"""Recomputes the numbers of a finished report from the raw results, by other code: ``python tests/recompute.py STORE``.

Reads ``manifest.json``, every ``completions.jsonl`` (in a store that was restored from what was collected the counts of
``problems.jsonl``), ``probes.json`` and ``perplexity.json`` below STORE. Compares each value, interval, count and
verdict of ``report/results.csv``, ``transitions.csv`` and ``transition_curves.csv``, the comparisons of two recipes in
``comparisons.csv``, the variants in ``controls.csv``, and ``temperatures.csv``, to the six digits that they are written
with. Exits 1 and names the first row that differs. The script imports nothing of Foray: it writes out the formulas of
docs/statistics.md plainly.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Z, Z80 = 1.959963984540054, 0.8416212335729143
T975 = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 6: 2.4469, 7: 2.3646, 8: 2.3060, 9: 2.2622, 10: 2.2281}
RESAMPLES, MARGIN = 2000, 0.02
RECIPES = {"Base": "base", "RL": "rl", "SFT": "sft", "SFT→RL": "sft_rl", "SFT-Gold": "sft_gold"}
RECIPES |= {"SFT-Gold→RL": "sft_gold_rl", "Parallel": "parallel", "primed": "primed"}
COMPARISON = re.compile(r"(.+) − ([^,]+), (?:pass@(\d+)|general average)(?: on (\S+))?(?: \((\w+)\))?")
Triple = tuple[float, float, float]  # value, lo, hi
Run = tuple[int, int]  # seeds of pre-training and of what came after
Pair = tuple[int, int, int]  # seeds of pre-training, of the run after, of the run before


class Differs(Exception):
    """A row of the report that the raw results do not give."""


def pass_at(correct: int, samples: int, k: int) -> float:
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


@cache
def drawn(problems: int) -> Any:
    """The problems of each resample, (R, P). The key is the low 63 bits of the words' BLAKE2b."""
    words = f"report\x1fbootstrap\x1f{problems}".encode()
    key = int.from_bytes(hashlib.blake2b(words, digest_size=8).digest(), "little") >> 1
    return np.random.Generator(np.random.Philox(key=key)).integers(0, problems, (RESAMPLES, problems))


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def pivots(values: list[float]) -> tuple[float, float, list[float]]:
    """Mean, standard error, and (mean* - mean) / error* of every resample."""
    n, v = len(values), np.array(values)
    mean = sum(values) / n
    error = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1) / n)
    again = v[drawn(n)]  # (R, P): the resampled data sets, one a row
    errors = np.maximum(again.std(axis=1, ddof=1) / math.sqrt(n), 1e-3 * error)
    return mean, error, ((again.mean(axis=1) - mean) / errors).tolist()


def wilson(mean: float, n: float) -> Triple:
    """Roots p of n (mean - p)² = Z² p (1 - p)."""
    a, b, c = n + Z * Z, -(2 * n * mean + Z * Z), n * mean * mean
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return mean, max(0.0, min(mean, (-b - root) / (2 * a))), min(1.0, max(mean, (-b + root) / (2 * a)))


def bonett_price(values: list[float], worth: float | None = None) -> Triple:
    """``worth``: the effective number of values."""
    n, mean = len(values) if worth is None else worth, sum(values) / len(values)
    up = (sum(x for x in values if x > 0) * n / len(values) + 1) / (n + 2)
    down = (sum(-x for x in values if x < 0) * n / len(values) + 1) / (n + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return mean, max(-1.0, min(mean, up - down - half)), min(1.0, max(mean, up - down + half))


def plain(values: list[float]) -> bool:
    return all(abs(x) in (0.0, 1.0) for x in values) or max(values) - min(values) < 1e-12


def mean_interval(values: list[float]) -> Triple:
    mean = sum(values) / len(values)
    outer = wilson(mean, len(values))
    if plain(values):
        return outer
    mean, error, t = pivots(values)
    lo, hi = mean - quantile(t, 0.975) * error, mean - quantile(t, 0.025) * error
    return mean, min(mean, max(lo, outer[1])), max(mean, min(hi, outer[2]))


def difference_interval(values: list[float]) -> Triple:
    outer = bonett_price(values)
    if plain(values):
        return outer
    mean, error, t = pivots(values)
    half = quantile([abs(x) for x in t], 0.95) * error
    return mean, min(mean, max(mean - half, outer[1])), max(mean, min(mean + half, outer[2]))


def over_seeds(runs: dict[Run, Triple], problems: Triple | None = None) -> Triple:
    """The mean over runs. The spread is that of seeds within a pre-training, pooled; with four pre-trainings or more
    the mean is over their means, and the spread is that of these. ``problems``: of the problems' means over runs.
    """
    starts: dict[int, list[Triple]] = {}
    for (start, _), triple_ in runs.items():
        starts.setdefault(start, []).append(triple_)
    if len(starts) >= 4:
        each = [tuple(sum(column) / len(group) for column in zip(*group)) for group in starts.values()]
        groups = [each]
    else:
        groups = list(starts.values())
    units = [triple_ for group in groups for triple_ in group]
    n, degrees = len(units), len(units) - len(groups)
    if n == 1:
        return units[0]
    mean = sum(t[0] for t in units) / n
    squares = sum((t[0] - sum(u[0] for u in group) / len(group)) ** 2 for group in groups for t in group)
    spread = T975[degrees] * math.sqrt(squares / degrees / n) if degrees else 0.0
    of = units if problems is None else [problems]
    below, above = (sum(abs(t[0] - t[side]) for t in of) / len(of) for side in (1, 2))
    return mean, max(-1.0, mean - math.hypot(below, spread)), min(1.0, mean + math.hypot(above, spread))


def verdict(one: Triple, top: Triple) -> str:
    (_, lo1, hi1), (_, lok, hik) = one, top
    if max(hi1, hik) <= MARGIN and min(lo1, lok) >= -MARGIN:
        return "no change"
    if lo1 > 0 and lok > 0:
        return "expansion"
    if lo1 > 0 and hik <= MARGIN:
        return "sharpening"
    if lok > 0 and hi1 <= MARGIN:
        return "broadening"
    if lo1 <= 0 and lok <= 0 and max(hi1, hik) <= MARGIN and min(hi1, hik) < 0:
        return "degradation"
    return "cannot tell"


class Raw:
    """One evaluation: the samples of each problem, and the counts from which everything else follows."""

    def __init__(self, folder: Path) -> None:
        with open(folder / "problems.jsonl", encoding="utf-8") as f:
            counted = [json.loads(line) for line in f]
        self.guesses = [row.get("guess") for row in counted]
        self.problems: dict[str, dict[str, int]] = {}
        if not (folder / "completions.jsonl").exists():
            for row in counted:
                other = {"format_rate": row["formatted"], "truncated_rate": row["truncated"]}
                self.problems[str(row["id"])] = {"samples": row["samples"], **row["correct"], **other}
            return
        with open(folder / "completions.jsonl", encoding="utf-8") as f:
            for line in f:
                row = json.loads(line)
                samples = row["samples"]
                self.problems[str(row["id"])] = {
                    "samples": len(samples),
                    "strict": sum(s["correct"] for s in samples),
                    "lenient": sum(s["lenient"] for s in samples),
                    "sound": sum(s.get("sound", False) for s in samples),
                    "flexible": sum(s.get("flexible", False) for s in samples),  # stores before 0.1.0 lack it
                    "format_rate": sum(s["formatted"] for s in samples),
                    "truncated_rate": sum(s["stop"] == "length" for s in samples),
                }

    def chance(self, extraction: str, metric: str) -> float:
        """pass@k of answers drawn from the training answers, which have no reasons."""
        if extraction == "sound" or not metric.startswith("pass@") or None in self.guesses:
            return math.nan
        k = int(metric[5:])
        return sum(1 - (1 - g) ** k for g in self.guesses) / len(self.guesses)

    def values(self, extraction: str, metric: str) -> list[float]:
        rows = [self.problems[i] for i in sorted(self.problems)]
        if metric.startswith("pass@"):
            return [pass_at(r[extraction], r["samples"], int(metric[5:])) for r in rows]
        return [r[metric] / r["samples"] for r in rows]


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
        beside = ("mix", "model_parameters", "split")
        own = {"variant", "temperature"}
        there = (e for e in self.manifest["entries"] if (root / e["folder"]).is_dir())
        entries = [{"pretrain_seed": 0} | e for e in there if not any(e.get(a) for a in beside)]
        self.entries = [e for e in entries if not own & set(e)]
        self.variants = [e for e in entries if own & set(e) == {"variant"}]
        self.hot = [e for e in entries if own & set(e) == {"temperature"}]
        self.raw = cache(lambda folder: Raw(root / folder))

    def find(self, kind: str, **where: Any) -> list[dict[str, Any]]:
        return [e for e in self.entries if e["kind"] == kind and all(e.get(k) == v for k, v in where.items())]

    def rows(self, name: str) -> list[dict[str, str]]:
        with open(self.root / "report" / name, encoding="utf-8", newline="") as f:
            return list(csv.DictReader(f))

    def finals(self, row: dict[str, str], side: str) -> dict[Run, dict[str, Any]]:
        """The final evaluations of one side of a transition, by run: a base's with the most shots, a recipe's with the
        fewest.
        """
        found: dict[Run, dict[str, Any]] = {}
        for e in self.find("passk", tokens=int(row["tokens"]), recipe=row[side], task=row["task"], final=True):
            if (self.root / e["folder"] / "problems.jsonl").exists():
                run = e["pretrain_seed"], e["seed"]
                held = found.get(run)
                rank = e["shots"] if row[side] == "base" else -e["shots"]
                if held is None or rank > (held["shots"] if row[side] == "base" else -held["shots"]):
                    found[run] = e
        return found


def same(text: str, number: float) -> bool:
    if text == "":
        return math.isnan(number)
    return abs(float(text) - number) <= 1e-5 * abs(number) * 0.51 + 1e-11


def check(place: str, row: dict[str, str], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        agrees = same(row[name], value) if isinstance(value, float) else row[name] == str(value)
        if not agrees:
            raise Differs(f"{place}: {name} is {row[name]}, recomputed {value}\n  {dict(row)}")


def triple(names: tuple[str, str, str], numbers: Triple) -> dict[str, float]:
    return {name: float(x) for name, x in zip(names, numbers)}


def check_results(store: Store) -> int:
    rows = store.rows("results.csv")
    for line, row in enumerate(rows, 2):
        chance = math.nan
        where = {"tokens": int(row["tokens"]), "recipe": row["recipe"], "stage_step": int(row["stage_step"])}
        where |= {"seed": int(row["seed"]), "pretrain_seed": int(row["pretrain_seed"])}
        if row["trained_on"]:
            where["trained_on"] = row["trained_on"]
        if row["metric"] in ("perplexity", "bits_per_byte"):
            own = row["task"].endswith((" test", " validation"))  # the task's own text
            entries = store.find("task_text" if own else "perplexity", **where)
            texts = [json.loads((store.root / e["folder"] / "perplexity.json").read_text()) for e in entries]
            found = next(text[row["task"]] for text in texts if row["task"] in text)
            value, n = math.exp(found["nats_per_token"]), found["tokens"]
            if row["metric"] == "bits_per_byte":
                value, n = found["nats_per_token"] * found["tokens"] / math.log(2) / found["bytes"], found["bytes"]
            numbers = value, math.nan, math.nan
        elif row["metric"] == "acc":
            entries = store.find("probes", **where)
            probes = json.loads((store.root / entries[0]["folder"] / "probes.json").read_text())
            numbers, n = probe(probes, row["task"])
            guesses = [float(p["chance"]) for name, p in probes.items() if row["task"] in (name, "general_average")]
            chance = sum(guesses) / len(guesses)
        else:
            entries = store.find("passk", **where, task=row["task"], shots=int(row["shots"]))
            if len({e["folder"] for e in entries}) != 1:
                raise Differs(f"results.csv, line {line}: {len(entries)} entries of the manifest: {dict(row)}")
            raw = store.raw(entries[0]["folder"])
            values, chance = raw.values(row["extraction"], row["metric"]), raw.chance(row["extraction"], row["metric"])
            numbers, n = mean_interval(values), len(values)
        place: dict[str, Any] = {"final": any(e["final"] for e in entries), "chance": chance}
        place["tokens_per_parameter"] = int(row["tokens"]) / store.manifest["model_parameters"]
        check(f"results.csv, line {line}", row, {**triple(("value", "lo", "hi"), numbers), "n": n, **place})
    return len(rows)


def worth(right: list[float], facts: list[int] | None) -> float:
    """The effective number of documents: those of one fact stand or fall together."""
    n, mean = len(right), sum(right) / len(right)
    groups: dict[int, list[float]] = {}
    for fact, value in zip(facts or range(n), right):
        groups.setdefault(fact, []).append(value - mean)
    least = n**2 / sum(len(g) ** 2 for g in groups.values())
    single = sum(v * v for g in groups.values() for v in g) / (n - 1)
    if single == 0 or len(groups) == 1:
        return least
    grouped = sum(sum(g) ** 2 for g in groups.values()) / n * len(groups) / (len(groups) - 1)
    return n if grouped == 0 else min(n, max(least, n * single / grouped))


def probe(probes: dict[str, Any], task: str) -> tuple[Triple, int]:
    right = {name: [float(v) for v in p["per_doc"]] for name, p in probes.items()}
    each = {name: wilson(sum(v) / len(v), worth(v, probes[name].get("facts"))) for name, v in right.items()}
    if task in each:
        return each[task], len(right[task])
    return over_probes(list(each.values())), sum(map(len, right.values()))


def over_probes(each: list[Triple]) -> Triple:
    mean = sum(t[0] for t in each) / len(each)
    below = math.sqrt(sum((t[0] - t[1]) ** 2 for t in each)) / len(each)
    above = math.sqrt(sum((t[2] - t[0]) ** 2 for t in each)) / len(each)
    return mean, mean - below, mean + above


def pairs(store: Store, row: dict[str, str]) -> dict[Pair, tuple[Raw, Raw]]:
    """(after, before) of every run."""
    both = matched(store.finals(row, "to"), store.finals(row, "from"))
    return {run: (store.raw(a["folder"]), store.raw(b["folder"])) for run, (a, b) in both.items()}


def matched(after: dict[Run, Any], before: dict[Run, Any]) -> dict[Pair, tuple[Any, Any]]:
    """Where a pre-training's seeds are the same on both sides, pairs by seed; else every run with every run."""
    found = {}
    for start in sorted({start for start, _ in after}):
        seeds = [sorted(seed for of, seed in side if of == start) for side in (after, before)]
        for a in seeds[0]:
            for b in seeds[1] if seeds[0] != seeds[1] else [a]:
                found[start, a, b] = after[start, a], before[start, b]
    return found


def over_pairs(found: dict[Pair, Triple], problems: Triple | None = None) -> Triple:
    """``over_seeds`` of independent differences: the pairs themselves, unless both sides have several other seeds."""
    units: dict[Run, Triple] = {}
    for start in dict.fromkeys(start for start, _, _ in found):
        own = {(a, b): numbers for (of, a, b), numbers in found.items() if of == start}
        ours, theirs = sorted({a for a, _ in own}), sorted({b for _, b in own})
        if len(own) == max(len(ours), len(theirs)):
            units |= {(start, i): numbers for i, numbers in enumerate(own.values())}
            continue
        # Scheffé: x_i − √(n/m) (y_i − mean of the first n y) − mean of all m y, the runs of the larger side.
        x = [mean_of(own[a, b][0] for b in theirs) for a in ours]
        y = [-mean_of(own[a, b][0] for a in ours) for b in theirs]
        sign, whole = 1, mean_of(x)
        if len(x) > len(y):
            x, y, sign, whole = y, x, -1, -whole
        level = mean_of(y[: len(x)])
        gaps = [mean_of(t[0] - t[1] for t in own.values()), mean_of(t[2] - t[0] for t in own.values())]
        for i, value in enumerate(x):
            v = sign * (value - mean_of(x) - math.sqrt(len(x) / len(y)) * (y[i] - level) + whole)
            units[start, i] = v, v - gaps[0], v + gaps[1]
    return over_seeds(units, problems)


def mean_of(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def counted(changes: dict[Pair, list[tuple[bool, bool]]], kind: tuple[bool, bool]) -> float:
    """The mean over pairs of how often a change of that kind is; with four pre-trainings or more, over their means."""
    counts = {pair: float(c.count(kind)) for pair, c in changes.items()}
    starts = sorted({start for start, _, _ in counts})
    if len(starts) >= 4:
        return mean_of(mean_of(n for p, n in counts.items() if p[0] == start) for start in starts)
    return mean_of(counts.values())


def difference(runs: dict[Pair, tuple[Raw, Raw]], extraction: str, k: int) -> Triple:
    each = {r: differences(a, b, extraction, k) for r, (a, b) in runs.items()}
    asked = {tuple(sorted(set(a.problems) & set(b.problems))) for a, b in runs.values()}
    return mean_gap(each, len(asked) == 1)


def mean_gap(each: dict[Pair, list[float]], alike: bool) -> Triple:
    """The mean of every pair's differences by problem. ``alike``: all pairs have the same problems."""
    problems = difference_interval(of_problems(each)) if alike and len(each) > 1 else None
    return over_pairs({r: difference_interval(gaps) for r, gaps in each.items()}, problems)


def of_problems(each: dict[Pair, list[float]]) -> list[float]:
    """Each problem's mean over pairs: of each pre-training's, which count once from four on, before by their runs."""
    starts = sorted({start for start, _, _ in each})
    weights, means = {}, {}
    for start in starts:
        own = {(a, b): gaps for (of, a, b), gaps in each.items() if of == start}
        sides = len({a for a, _ in own}), len({b for _, b in own})
        weights[start] = 1 if len(starts) >= 4 else max(sides) if len(own) == max(sides) else min(sides)
        means[start] = [mean_of(column) for column in zip(*own.values())]
    whole = sum(weights.values())
    return [sum(weights[s] * x for s, x in zip(starts, row)) / whole for row in zip(*(means[s] for s in starts))]


def differences(a: Raw, b: Raw, extraction: str, k: int) -> list[float]:
    common = sorted(set(a.problems) & set(b.problems))
    return [solves(a, i, extraction, k) - solves(b, i, extraction, k) for i in common]


def solves(raw: Raw, identity: str, extraction: str, k: int) -> float:
    row = raw.problems[identity]
    return pass_at(row[extraction], row["samples"], k)


def check_transitions(store: Store) -> int:
    rows = store.rows("transitions.csv")
    for line, row in enumerate(rows, 2):
        runs, rule, k = pairs(store, row), row["extraction"], int(row["k"])
        one, top = difference(runs, rule, 1), difference(runs, rule, k)
        changes = {p: [(solves(a, i, rule, k) >= 0.5, solves(b, i, rule, k) >= 0.5) for i in b.problems
                       if i in a.problems] for p, (a, b) in runs.items()}  # fmt: skip
        expected = {
            **triple(("pass1", "pass1_lo", "pass1_hi"), one),
            **triple(("passk", "passk_lo", "passk_hi"), top),
            "verdict": verdict(one, top) if k > 1 else "cannot tell",
            "newly_solved": counted(changes, (True, False)),
            "newly_lost": counted(changes, (False, True)),
            "detectable_pass1": (Z + Z80) / Z * (one[2] - one[1]) / 2,
            "detectable_passk": (Z + Z80) / Z * (top[2] - top[1]) / 2,
            "n": min(map(len, changes.values())),
            "runs": len({pair[:2] for pair in runs}),
        }
        check(f"transitions.csv, line {line}", row, expected)
    return len(rows)


def check_curves(store: Store) -> int:
    rows = store.rows("transition_curves.csv")
    for line, row in enumerate(rows, 2):
        runs = pairs(store, row)
        numbers = difference(runs, row["extraction"], int(row["k"]))
        check(f"transition_curves.csv, line {line}", row, triple(("value", "lo", "hi"), numbers))
    return len(rows)


def check_comparisons(store: Store) -> int:
    """Of two recipes of the main grid. The others (C4, C9, C10, one rate) are of models beside it, and left out."""
    grading, first, checked = store.manifest.get("grading", "strict"), store.find("passk")[0]["task"], 0
    for line, row in enumerate(store.rows("comparisons.csv"), 2):
        match = COMPARISON.fullmatch(row["comparison"])
        if not match or not {match[1], match[2]} <= set(RECIPES):
            continue
        to, of = RECIPES[match[1]], RECIPES[match[2]]
        if match[3]:
            runs = pairs(store, {"tokens": row["tokens"], "task": match[4] or first, "from": of, "to": to})
            numbers = difference(runs, match[5] or grading, int(match[3]))
        else:
            numbers = over_pairs({run: abilities(a, b) for run, (a, b) in both_probed(store, row, to, of).items()})
        check(f"comparisons.csv, line {line}", row, triple(("value", "lo", "hi"), numbers))
        checked += 1
    return checked


def check_controls(store: Store) -> int:
    """Of each variant: what it reaches, and its difference from the recipe that it varies, by runs of one seed."""
    rows = store.rows("controls.csv") if (store.root / "report" / "controls.csv").exists() else []
    rule = store.manifest.get("grading", "strict")
    for line, row in enumerate(rows, 2):
        asked = {"tokens": int(row["tokens"]), "recipe": row["recipe"], "variant": row["variant"], "final": True}
        found = [e for e in store.variants if all(e.get(name) == value for name, value in asked.items())]
        ours = {(e["pretrain_seed"], e["seed"]): e for e in found if e["kind"] == "passk" and e["task"] == row["task"]}
        after, k = {run: store.raw(e["folder"]) for run, e in ours.items()}, int(row["k"])
        expected: dict[str, Any] = {"runs": len(after)}
        for name, at in (("pass1", 1), ("passk", k)):
            reached = over_seeds({run: mean_interval(raw.values(rule, f"pass@{at}")) for run, raw in after.items()})
            expected |= triple((name, f"{name}_lo", f"{name}_hi"), tuple(min(1.0, max(0.0, x)) for x in reached))  # type: ignore[arg-type]
        theirs = store.finals({"tokens": row["tokens"], "task": row["task"], "from": row["against"]}, "from")
        pairs_of = {(s, r, r): (after[s, r], store.raw(e["folder"])) for (s, r), e in theirs.items() if (s, r) in after}
        for name, at in (("d_one", 1), ("d_top", k)) if pairs_of else ():
            expected |= triple((name, f"{name}_lo", f"{name}_hi"), difference(pairs_of, rule, at))
        probed = {(e["pretrain_seed"], e["seed"]): read_probes(store, e) for e in found if e["kind"] == "probes"}
        for name, recipe in (("d_general", row["against"]), ("d_base_general", "base")) if probed else ():
            other = probed_by(store, row, recipe)
            both = matched(probed, other)
            if name == "d_general":
                both = {(s, r, r): (probed[s, r], other[s, r]) for s, r in probed if (s, r) in other}
            numbers = over_pairs({run: abilities(a, b) for run, (a, b) in both.items()})
            expected |= triple((name, f"{name}_lo", f"{name}_hi"), numbers)
        check(f"controls.csv, line {line}", row, expected)
    return len(rows)


def check_temperatures(store: Store) -> int:
    """Every transition again, each model at the temperature that is best for it on the other half of the problems."""
    rows = store.rows("temperatures.csv") if (store.root / "report" / "temperatures.csv").exists() else []
    for line, row in enumerate(rows, 2):
        k, expected = int(row["k"]), dict[str, Any]()
        after, before = ({at: at_own(store, row, side, at) for at in (1, k)} for side in ("to", "from"))
        for name, at in (("pass1", 1), ("passk", k)):
            of_pairs = matched(after[at], before[at])
            gaps = {p: [x - y for x, y in zip(a, b)] for p, (a, b) in of_pairs.items()}
            expected |= triple((name, f"{name}_lo", f"{name}_hi"), mean_gap(gaps, True))
            same = {p: raws for p, raws in pairs(store, row).items() if p in of_pairs}
            usual = difference(same, store.manifest["grading"], at)
            expected |= triple((f"usual_{name}", f"usual_{name}_lo", f"usual_{name}_hi"), usual)
        check(f"temperatures.csv, line {line}", row, expected)
    return len(rows)


def at_own(store: Store, row: dict[str, str], side: str, k: int) -> dict[Run, list[float]]:
    """pass@k of each problem, in order of their ids, by run: of the runs that have every temperature."""
    usual = store.finals(row, side)
    where = {"tokens": int(row["tokens"]), "recipe": row[side], "task": row["task"], "final": True}
    tried: dict[float, dict[Run, Any]] = {store.manifest["temperature"]: usual}
    for e in store.hot:
        if e["kind"] == "passk" and all(e.get(name) == value for name, value in where.items()):
            tried.setdefault(e["temperature"], {})[e["pretrain_seed"], e["seed"]] = e
    runs = [run for run in usual if all(run in of for of in tried.values())]
    rule = store.manifest["grading"]
    solved = {
        t: {run: store.raw(of[run]["folder"]).values(rule, f"pass@{k}") for run in runs} for t, of in tried.items()
    }
    own: dict[Run, list[float]] = {run: [0.0] * len(next(iter(solved.values()))[run]) for run in runs}
    for half in (0, 1):
        means = {t: mean_of(mean_of(of[run][1 - half :: 2]) for run in runs) for t, of in sorted(solved.items())}
        best = max(means, key=lambda t: means[t])  # of equals the first, which is the lowest
        for run in runs:
            own[run][half::2] = solved[best][run][half::2]
    return own


def read_probes(store: Store, entry: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads((store.root / entry["folder"] / "probes.json").read_text()))


def both_probed(store: Store, row: dict[str, str], *recipes: str) -> dict[Pair, tuple[Any, Any]]:
    """What both recipes, trained on the study's own task, answered to the probes, by run."""
    after, before = (probed_by(store, row, recipe) for recipe in recipes)
    return matched(after, before)


def probed_by(store: Store, row: dict[str, str], recipe: str) -> dict[Run, Any]:
    """What a recipe of the main grid, trained on the study's own task, answered to the probes, by run."""
    first = store.find("passk")[0]["task"]
    entries = store.find("probes", tokens=int(row["tokens"]), recipe=recipe, final=True)
    return {
        (e["pretrain_seed"], e["seed"]): read_probes(store, e) for e in entries if e.get("trained_on", first) == first
    }


def abilities(a: dict[str, Any], b: dict[str, Any]) -> Triple:
    """The mean over probes of a − b, paired by document."""
    each = []
    for name in sorted(set(a) & set(b)):
        values = [float(x) - float(y) for x, y in zip(a[name]["per_doc"], b[name]["per_doc"])]
        each.append(bonett_price(values, worth(values, a[name].get("facts"))))
    return over_probes(each)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not (Path(arguments[0]) / "manifest.json").exists():
        print("usage: python tests/recompute.py STORE    (a folder with manifest.json and report/)", file=sys.stderr)
        return 2
    store = Store(Path(arguments[0]))
    try:
        checks = (check_results, check_transitions, check_curves, check_comparisons, check_controls, check_temperatures)
        counts = [f(store) for f in checks]
    except Differs as e:
        print(e, file=sys.stderr)
        return 1
    names = ("results.csv", "transitions.csv", "transition_curves.csv", "comparisons.csv", "controls.csv")
    names += ("temperatures.csv",)
    print(f"agree: {', '.join(f'{n} rows of {name}' for n, name in zip(counts, names))}")
    bare = sum(not (store.root / e["folder"] / "completions.jsonl").exists() for e in store.find("passk"))
    if bare:
        print(f"{bare} evaluations of the main grid by their counts alone: their completions are not in this store")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
