"""Variants of recipes beside the main results: what they reach, and what changes against the recipe they vary."""

from __future__ import annotations

from typing import Any

from foray.report.columns import COUNT, NOTHING, POINTS, RATE, RECIPE, TOKENS, Column, frame_of, table
from foray.report.differences import ability_difference, pair, passk_difference, passk_means
from foray.report.fairness import has_room
from foray.report.markup import joined, parts
from foray.report.measurements import PassK, ProbeAnswers, Seeds
from foray.report.results import ANY, Results, label, recipe_rank
from foray.report.sections import Section
from foray.report.stats import Interval
from foray.report.verdicts import top_k, verdict

NAME, TITLE, PLACE = "controls", "Controls: recipes varied", 40

_TEXT = (
    "Percent, and differences in points from the recipe that is varied: same M_t, same seeds, paired by problem "
    "(by question for the general average), with 95% intervals. The verdict is of the change against that recipe."
)


def _variant(row: dict[str, Any]) -> str:
    same = row["recipe"] == row["against"]
    return str(row["variant"]) if same else f"{row['variant']} ({label(row['recipe'])})"


def _verdict(row: dict[str, Any]) -> str | None:
    return None if row["d_one"] is NOTHING else verdict(row["d_one"], row["d_top"], row["k"], row["room"])


COLUMNS = (
    Column("tokens", "tokens", TOKENS),
    Column("variant", _variant),
    Column("against", "against", RECIPE),
    Column("verdict", _verdict),
    Column("pass@1", "pass1", RATE),
    Column("pass@K", "passk", RATE),
    Column("Δ pass@1", "d_one", POINTS),
    Column("Δ pass@K", "d_top", POINTS),
    Column("Δ general", "d_general", POINTS),
    Column("general − base", "d_base_general", POINTS),
    Column("runs", "runs", COUNT),
)


def rows(results: Results) -> list[dict[str, Any]]:
    """One a variant and M_t, over all runs. Shares, not percent.

    Differences ``d_...`` are variant minus ``against``; ``d_base_general`` is variant minus base.
    """
    groups: dict[tuple[str, int, str, str], dict[Seeds, PassK]] = {}
    for e in results.select(PassK, final=True, variant=ANY, screen=None, task=tuple(results.tasks)):
        if e.variant:
            groups.setdefault((e.task, e.tokens, e.recipe, e.variant), {})[e.run] = e
    found = []
    for (task, tokens, recipe, variant), runs in groups.items():
        first, rule = next(iter(runs.values())), results.extraction
        partners = results.finals(first.against, task)
        k = min([top_k(results, task), *(int(e.counts[rule].samples.min()) for e in (*runs.values(), *partners))])
        pass1, passk = passk_means(list(runs.values()), [1, k], rule)
        row = {"task": task, "tokens": tokens, "recipe": recipe, "variant": variant, "runs": len(runs), "k": k}
        row |= {"pass1": pass1, "passk": passk, "against": first.against}
        pairs = pair(runs.values(), partners, same_seed=True).get(tokens, {})
        for name, at in (("d_one", 1), ("d_top", k)):
            row[name] = passk_difference(pairs, at, rule).interval if pairs else NOTHING
        row["room"] = not pairs or has_room((partner for _, partner in pairs.values()), k, rule)
        row["d_general"] = _general(results, first, first.against, same_seed=True)
        row["d_base_general"] = _general(results, first, "base")
        found.append(row)
    return sorted(found, key=lambda row: (row["task"], row["tokens"], recipe_rank(row["against"])))


def _general(results: Results, e: PassK, reference: str, same_seed: bool = False) -> Interval:
    """The variant's general average minus that of a recipe of the main grid."""
    asked: dict[str, Any] = {"final": True, "tokens": e.tokens, "trained_on": ("", e.trained_on)}
    ours = results.select(ProbeAnswers, recipe=e.recipe, variant=e.variant, **asked)
    theirs = results.select(ProbeAnswers, recipe=reference, **asked)
    gain = ability_difference(pair(ours, theirs, same_seed).get(e.tokens, {}))
    return gain.interval if gain else NOTHING


def section(results: Results) -> Section:
    found = rows(results)
    if not found:
        return Section(files={"controls": frame_of([])})
    shown = table(found, COLUMNS, "Variants and the recipes they vary")
    return Section(joined(parts.dim(_TEXT), shown), {"controls": frame_of(found)})
