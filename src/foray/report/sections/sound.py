"""Right answers from right reasons: how much of pass@k stands on sound chains, where a task can tell."""

from __future__ import annotations

from typing import Any

from foray.report.columns import COUNT, RATE, RECIPE, SHARE, TOKENS, Column, frame_of, tables_by_task
from foray.report.differences import passk_means
from foray.report.fairness import form_free
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import SOUND, Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "sound", "Right reasons", 37

_TEXT = (
    "In percent. Right: the answer is right, whatever its reasons. Sound: the answer is right, and so is every "
    "computation before it, whose operands stand in the question or are earlier results. Sound of right: the share of "
    "right samples that are sound; what is missing of 100 is luck, or a step not written down. pass@k of sound: "
    "a problem is solved by a sound sample alone. 95% intervals over problems."
)


def section(results: Results) -> Section:
    found = [row for task in results.tasks for row in rows(results, task)]
    files = {"sound": frame_of(found)}
    if not found:
        return Section(files=files, absent="no evaluation's task can tell right reasons from wrong ones")
    shown = tables_by_task(found, _columns(found), "right and sound samples")
    return Section(joined(parts.dim(_TEXT), shown), files)


def rows(results: Results, task: str) -> list[dict[str, Any]]:
    """One a recipe and M_t that was graded so, over all runs; shares. ``k``: the samples a problem."""
    right, found = form_free(results), []
    for recipe, tokens, runs in results.ends(task):
        if all({SOUND, right} <= set(e.counts) for e in runs):
            found.append({"task": task, "tokens": tokens, "recipe": recipe} | _numbers(runs, right))
    return found


def _numbers(runs: list[PassK], right: str) -> dict[str, Any]:
    most = min(int(c.samples.min()) for e in runs for c in e.counts.values())
    (right1, right_k), (sound1, sound_k) = (passk_means(runs, [1, most], rule) for rule in (right, SOUND))
    return {
        "k": most,
        "right1": right1,
        "sound1": sound1,
        "sound_of_right": sound1.value / right1.value if right1.value else 0.0,
        "right_k": right_k,
        "sound_k": sound_k,
        "runs": len(runs),
    }


def _columns(found: list[dict[str, Any]]) -> list[Column]:
    tops = " or ".join(str(k) for k in sorted({row["k"] for row in found}))
    return [
        Column("tokens", "tokens", TOKENS),
        Column("recipe", "recipe", RECIPE),
        Column("right @1", "right1", SHARE),
        Column("sound @1", "sound1", SHARE),
        Column("sound of right", "sound_of_right", RATE),
        Column(f"right @{tops}", "right_k", SHARE),
        Column(f"sound @{tops}", "sound_k", SHARE),
        Column("runs", "runs", COUNT),
    ]
