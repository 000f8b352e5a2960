"""How a recipe changes the bits per byte of held-out text: the cost that probes of general abilities do not show."""

from __future__ import annotations

from collections.abc import Iterator

from foray.report import stats
from foray.report.differences import pair
from foray.report.measurements import TextLosses
from foray.report.results import Results, label


def bits_changes(results: Results, recipe: str) -> dict[tuple[int, str], float]:
    """Bits per byte of a recipe minus those of its base, the mean over runs, by M_t (tokens) and source.

    Models of the main grid, at the ends of recipes. Sources are in the order of the mixture, the task's own text last.
    """
    found: dict[tuple[int, str], float] = {}
    for task in _tasks(results):
        asked = {"task": task, "final": True, "trained_on": results.trained()}
        ours, theirs = (results.select(TextLosses, recipe=r, **asked) for r in (recipe, "base"))
        for tokens, runs in pair(ours, theirs).items():
            changes: dict[str, list[tuple[float, int]]] = {}  # with the run's pre-training
            for p, (a, b) in runs.items():
                for source in a.bits:
                    if source in b.bits:
                        changes.setdefault(source, []).append((a.bits[source] - b.bits[source], p.pretrain_seed))
            found |= {(tokens, source): stats.mean_of_runs(*zip(*of_runs)) for source, of_runs in changes.items()}
    return found


def sources_of(results: Results) -> list[str]:
    """Every source with a loss, in the same order."""
    losses = [m for task in _tasks(results) for m in results.select(TextLosses, task=task)]
    return list(dict.fromkeys(source for m in losses for source in m.nats))


def _tasks(results: Results) -> list[str]:
    """The empty name of text sources, then the tasks whose own text was scored."""
    return sorted({m.task for m in results.select(TextLosses)})


def hidden_cost(results: Results) -> str:
    """What RL and SFT add to bits per byte at the last M_t: of the mixture's first source, which is web text in the
    bundled mixes, and of the main task's text. Empty where nothing was measured.
    """
    changes = {recipe: bits_changes(results, recipe) for recipe in ("rl", "sft")}
    last = max((tokens for of_recipe in changes.values() for tokens, _ in of_recipe), default=0)
    named = {recipe: {s: v for (tokens, s), v in c.items() if tokens == last} for recipe, c in changes.items()}
    said = [
        f"{label(recipe)} {' and '.join(f'{found[s]:+.3f} on {s}' for s in shown)}"
        for recipe, found in named.items()
        if (shown := [s for s in _shown(results) if s in found])
    ]
    return f"bits per byte against the base at the last M_t: {'; '.join(said)}" if said else ""


def _shown(results: Results) -> Iterator[str]:
    """The first text source, and the main task's text."""
    for task in ("", *results.asked[:1]):
        yield from [source for m in results.select(TextLosses, task=task)[:1] for source in list(m.nats)[:1]]
