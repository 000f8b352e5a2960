"""Where RL after SFT begins: not always at the end of the SFT that a study shows beside it."""

from __future__ import annotations

from foray.report.measurements import PassK
from foray.report.results import Results


def first_stage_ends(results: Results, recipe: str) -> dict[int, int]:
    """The updates of the first stage of a recipe with several stages, by M_t (tokens), where the manifest says them."""
    ends: dict[int, set[int]] = {}
    for e in results.planned:
        if (e.kind, e.recipe, e.off_grid) == ("train", recipe, False) and e.trained_on in results.trained():
            ends.setdefault(e.tokens, set()).add(e.stage_step)
    return {tokens: min(steps) for tokens, steps in ends.items() if len(steps) > 1}


def continues(results: Results, recipe: str, first: str) -> bool:
    """Whether the recipe goes on from the end of the recipe ``first``, as far as the manifest says."""
    asked = {"recipe": first, "final": True, "task": results.main_task, "trained_on": results.trained()}
    ends: dict[int, int] = {}
    for e in results.select(PassK, **asked):
        ends[e.tokens] = max(e.stage_step, ends.get(e.tokens, 0))
    starts = first_stage_ends(results, recipe)
    return all(starts[tokens] == ends[tokens] for tokens in starts.keys() & ends.keys())
