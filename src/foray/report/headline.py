"""The three sentences at the top of the page: what RL did, what SFT cost, what parallel averaging gave."""

from __future__ import annotations

from foray.core.spelling import in_tokens
from foray.report.differences import Difference
from foray.report.results import NotDrawable, Results, label
from foray.report.verdicts import top_k

ABILITIES = "general abilities"


def sentences(results: Results) -> list[str]:
    """One a question, each about the latest M_t that has what the sentence compares. Differences are in points."""
    try:
        task = results.main_task
        top = top_k(results, task)
    except NotDrawable:
        return ["No pass@k evaluation of the main task has finished yet."]
    abilities, ks = results.ability_differences, sorted({1, top})
    over_base = {
        recipe: [(f"pass@{k}", "the base", results.differences(recipe, "base", task, k)) for k in ks]
        for recipe in ("rl", "sft")
    }
    return [
        _sentence("RL", [*over_base["rl"], (ABILITIES, "the base", abilities("rl", "base"))]),
        _sentence("SFT", [(ABILITIES, "the base", abilities("sft", "base")), *over_base["sft"]]),
        _sentence(
            "Parallel averaging",
            [(f"pass@{top}", label(o), results.differences("parallel", o, task, top)) for o in ("rl", "sft")]
            + [(ABILITIES, "the base", abilities("parallel", "base"))],
        ),
    ]


def _sentence(subject: str, asked: list[tuple[str, str, dict[int, Difference]]]) -> str:
    """``asked``: what is measured, what it is compared with, and the differences by M_t."""
    known = [(what, whom, found) for what, whom, found in asked if found]
    if not known:
        return f"{subject}: no M_t has been measured with it and without it."
    tokens = max(max(found) for _, _, found in known)
    there = [(what, whom, found[tokens]) for what, whom, found in known if tokens in found]
    runs = min(len(gain.runs) for _, _, gain in there)
    seeds = "one seed" if runs == 1 else f"{runs} runs"
    clauses = [_clause(what, whom, gain) for what, whom, gain in there]
    said = clauses[0] if len(clauses) == 1 else f"{'; '.join(clauses[:-1])}; {clauses[-1]}"
    return f"{subject} from M_t at {in_tokens(tokens)} tokens ({seeds}): {said}."


def _clause(what: str, whom: str, gain: Difference) -> str:
    value, lo, hi = (100 * x for x in gain.interval[:3])
    numbers = f"{value:+.1f} [{lo:+.1f}, {hi:+.1f}]".replace("-0.0", "0.0").replace("+0.0", "0.0").replace("-", "−")
    if lo <= 0 <= hi:
        return f"{what}: no clear difference from {whom} ({numbers})"
    return f"{what} {'above' if lo > 0 else 'below'} {whom} ({numbers})"
