"""Variants of recipes beside the main results: what they reach, and what changes against the recipe they vary."""

from __future__ import annotations

from typing import Any

import pandas as pd

from foray.report import stats
from foray.report.markup import in_tokens, label, points, table
from foray.report.measured import Difference, Evaluation, Probes, Run, difference, general_difference
from foray.report.results import Results, recipe_rank
from foray.report.verdicts import top_k, verdict


def comparisons(results: Results) -> list[tuple[Evaluation, dict[str, Any]]]:
    """Every variant's final evaluations on the main grid's tasks, as one of them and what is known of all."""
    groups: dict[tuple[str, int, str, str], dict[Run, Evaluation]] = {}
    for e in results.variants:
        x = e.entry
        beside = x.split or x.mix or x.model_parameters or x.screen
        if x.final and x.variant and not beside and x.task in results.tasks:
            groups.setdefault((x.task, x.tokens, x.recipe, x.variant), {})[x.run] = e
    found = []
    for (task, tokens, _, _), runs in groups.items():
        first = next(iter(runs.values()))
        against, k = first.entry.against, top_k(results, task)
        partners = {run: e for (t, run), e in results.finals(against, task).items() if t == tokens}
        known: dict[str, Any] = {"tokens": tokens, "task": task, "k": k, "runs": len(runs), "against": against}
        for name, at in (("pass@1", 1), (f"pass@{k}", k)):
            values = [stats.passk_intervals(e.graded[results.extraction], [at])[0] for e in runs.values()]
            known[name] = stats.over_seeds(values, 0.0, 1.0, [r.pretrain_seed for r in runs])
        if shared := [run for run in runs if run in partners]:
            for name, at in (("one", 1), ("top", k)):
                known[name] = difference({r: _paired(results, runs[r], partners[r], at) for r in shared})
        known["general"], known["base_general"] = (_general(results, first, r) for r in (against, "base"))
        found.append((first, known))
    return sorted(found, key=lambda f: (f[1]["task"], f[1]["tokens"], recipe_rank(f[1]["against"])))


def _paired(results: Results, a: Evaluation, b: Evaluation, k: int) -> stats.Interval:
    return stats.paired_difference(a.graded[results.extraction], b.graded[results.extraction], k)


def _general(results: Results, variant: Evaluation, reference: str) -> Difference | None:
    """The variant's general average minus that of a recipe of the main grid, or of the base it came from."""
    x = variant.entry

    def ends(probed: tuple[Probes, ...], recipe: str, words: str) -> dict[Run, Probes]:
        return {
            p.entry.run: p
            for p in probed
            if p.entry.final and (p.entry.tokens, p.entry.recipe, p.entry.variant) == (x.tokens, recipe, words)
            and p.entry.trained_on in ("", x.trained_on) and not (p.entry.mix or p.entry.model_parameters)
        }  # fmt: skip

    ours, theirs = ends(results.variant_probed, x.recipe, x.variant), ends(results.probed, reference, "")
    if reference == "base":
        bases = {run.pretrain_seed: p for run, p in theirs.items()}
        theirs = {run: bases[run.pretrain_seed] for run in ours if run.pretrain_seed in bases}
    shared = {r: general_difference(p, theirs[r]) for r, p in ours.items() if r in theirs and p.answers}
    return difference(shared) if shared else None


def frame(results: Results) -> pd.DataFrame:
    """``controls.csv``: a row a variant and M_t; differences are variant minus ``against``, those of ``base_general``
    variant minus base. Shares, not percent.
    """
    rows = []
    for evaluation, known in comparisons(results):
        x, k = evaluation.entry, known["k"]
        row: dict[str, Any] = {
            "task": x.task, "tokens": x.tokens, "recipe": x.recipe, "variant": x.variant, "runs": known["runs"], "k": k,
        }  # fmt: skip
        for name, column in (("pass@1", "pass1"), (f"pass@{k}", "passk")):
            row |= dict(zip((column, f"{column}_lo", f"{column}_hi"), known[name][:3]))
        row["against"] = x.against
        for name in ("one", "top", "general", "base_general"):
            gain = known.get(name)
            bounds = gain.interval[:3] if gain else (None, None, None)
            row |= dict(zip((f"d_{name}", f"d_{name}_lo", f"d_{name}_hi"), bounds))
        rows.append(row)
    return pd.DataFrame(rows)


def section(results: Results) -> str:
    """The variants as HTML; empty where there are none."""
    rows = []
    for evaluation, known in comparisons(results):
        x, k = evaluation.entry, known["k"]
        one, top, general, kept = (known.get(name) for name in ("one", "top", "general", "base_general"))
        rows.append((
            in_tokens(x.tokens), x.variant if x.recipe == x.against else f"{x.variant} ({label(x.recipe)})",
            label(x.against), verdict(one.interval, top.interval) if one and top else "–",
            *(f"{100 * known[name].value:.1f}" for name in ("pass@1", f"pass@{k}")),
            *(points(d.interval if d else None) for d in (one, top, general, kept)), known["runs"],
        ))  # fmt: skip
    if not rows:
        return ""
    text = (
        "Percent, and differences in points from the recipe that is varied: same M_t, same seeds, paired by problem "
        "(by question for the general average), with 95% intervals. The verdict is of the change against that recipe."
    )
    headers = [
        "tokens",
        "variant",
        "against",
        "verdict",
        "pass@1",
        "pass@K",
        "Δ pass@1",
        "Δ pass@K",
        "Δ general",
        "general − base",
        "runs",
    ]
    shown = table(headers, rows, text_columns=4, rules=True)
    return f'<p class="dim">{text}</p>{shown}<p class="dim"><a href="controls.csv">controls.csv</a></p>'
