"""What the page begins with: a sentence each on RL, on SFT, on RL after SFT and on parallel averaging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from foray.core.spelling import in_tokens
from foray.report.differences import Difference
from foray.report.markup import with_minus
from foray.report.results import AVERAGE, WORLD_PROBE, NotDrawable, Results, label
from foray.report.second_stage import continues
from foray.report.verdicts import top_k

ABILITIES = "general abilities"
_CHANGE = ("raises", "lowers", "does not clearly change")
_LEAD = ("leads", "trails", "does not clearly differ from")


class Finding(NamedTuple):
    """``lead``: what holds of all sentences."""

    lead: str
    sentences: list[str]


class _Term(NamedTuple):
    """One number of a sentence: the words before it, the words after it, and the difference at each M_t."""

    before: str
    after: str
    found: dict[int, Difference]


class _Subject(NamedTuple):
    """What a sentence is about, its verbs (above, below, neither), and its numbers."""

    name: str
    verbs: tuple[str, str, str]
    asked: Sequence[_Term]


def finding(results: Results) -> Finding:
    """Each sentence is about the latest M_t that has what it compares. Differences are in points."""
    try:
        subjects = _subjects(results)
    except NotDrawable:
        return Finding("No pass@k evaluation of the main task has finished yet.", [])
    there = [s for s in subjects if any(a.found for a in s.asked)]
    places = {s.name: _place(s) for s in there}
    one = len(set(places.values())) == 1
    lead = f"{places[there[0].name]}, in points with 95% intervals:" if one else "In points with 95% intervals:"
    sentences = [("" if one else f"{places[s.name]}: ") + f"{s.name} {_said(s)}." for s in there]
    missing = ", ".join(s.name for s in subjects if s not in there)
    return Finding(lead if there else "", [*sentences, *([f"Not measured: {missing}."] if missing else [])])


def what_abilities_are(results: Results) -> str:
    """What the study's probes of general abilities are; empty without one."""
    probes = set(results.rows(metric="acc")["task"]) - {AVERAGE}
    if not probes:
        return ""
    if all(probe.startswith(WORLD_PROBE) for probe in probes):
        asked = "probes of the invented world, in the forms of ARC, PIQA and others; those were not run themselves"
    else:
        asked = "benchmarks of general abilities"
    return f"the mean accuracy on {len(probes)} {asked}."


def _subjects(results: Results) -> list[_Subject]:
    task = results.main_task
    top = top_k(results, task)

    def changes(recipe: str, reference: str) -> list[_Term]:
        return [_Term(f"pass@{k}", "", results.differences(recipe, reference, task, k)) for k in sorted({1, top})]

    def abilities(recipe: str) -> list[_Term]:
        return [_Term(ABILITIES, "", results.ability_differences(recipe, "base"))]

    beside = [_Term(label(r), f" in pass@{top}", results.differences("parallel", r, task, top)) for r in ("rl", "sft")]
    # RL may start from an earlier point of SFT than the one that is shown.
    after = "RL after SFT" if continues(results, "sft_rl", "sft") else "SFT→RL against SFT"
    kept = _Term("the base", f" in {ABILITIES}", results.ability_differences("parallel", "base"))
    return [
        _Subject("RL on the base", _CHANGE, [*changes("rl", "base"), *abilities("rl")]),
        _Subject("SFT on the base", _CHANGE, [*changes("sft", "base"), *abilities("sft")]),
        _Subject(after, _CHANGE, changes("sft_rl", "sft")),
        _Subject("Parallel averaging", _LEAD, [*beside, kept]),
    ]


def _there(subject: _Subject) -> tuple[int, list[tuple[_Term, Difference]]]:
    """The latest M_t, and the numbers of the sentence that were measured there."""
    tokens = max(max(a.found) for a in subject.asked if a.found)
    return tokens, [(a, a.found[tokens]) for a in subject.asked if tokens in a.found]


def _place(subject: _Subject) -> str:
    tokens, there = _there(subject)
    runs = min(len(gain.runs) for _, gain in there)
    return f"From M_t at {in_tokens(tokens)} tokens ({'one seed' if runs == 1 else f'{runs} runs'})"


def _said(subject: _Subject) -> str:
    """The verbs with their numbers: what lies above first, then what lies below, then what cannot be told."""
    phrases: tuple[list[str], ...] = ([], [], [])
    for asked, gain in _there(subject)[1]:
        value, lo, hi = (100 * x for x in gain.interval[:3])
        if lo <= 0 <= hi:
            phrases[2].append(f"{asked.before}{asked.after} ({_number(value)} [{_number(lo)}, {_number(hi)}])")
        else:
            by, least, most = (value, lo, hi) if lo > 0 else (-value, -hi, -lo)
            numbers = f"{_number(by)} [{_number(least)}, {_number(most)}]"
            phrases[0 if lo > 0 else 1].append(f"{asked.before} by {numbers}{asked.after}")
    joins = ("and", "and", "or")  # "does not change A and B" might be said of the two together
    groups = [f"{verb} {_listed(words, by)}" for verb, words, by in zip(subject.verbs, phrases, joins) if words]
    return ", and ".join([", ".join(groups[:-1]), groups[-1]]) if len(groups) > 1 else groups[0]


def _number(points: float) -> str:
    return with_minus(f"{points:.1f}")


def _listed(words: Sequence[str], join: str) -> str:
    return f" {join} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
