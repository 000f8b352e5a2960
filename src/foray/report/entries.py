"""The entries of a manifest: what was measured, of which model, in which folder of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foray.core.files import read_numbers, sealed
from foray.report.measurements import Measurement


def distinct(entries: Sequence[Measurement]) -> tuple[list[Measurement], list[tuple[str, str]]]:
    """One entry per measurement, and the clashes. A folder that is both an inner point and an end counts as an end."""
    chosen: dict[tuple[Any, ...], Measurement] = {}
    clashes = []
    for e in entries:
        axes = (e.trained_on, e.split, e.variant, e.mix, e.model_parameters, e.temperature)
        place: tuple[Any, ...] = (e.kind, e.tokens, e.recipe, e.stage, e.stage_step, e.run, e.task, e.shots, *axes)
        if e.kind == "contamination":  # depends on text and questions only: grids share a node or have their own
            place = (e.kind, e.folder)
        first = chosen.setdefault(place, e)
        if first.folder != e.folder:
            clashes.append((e.words, f"{e.folder.name} repeats a measurement already read from {first.folder.name}"))
        elif e.final and not first.final:
            chosen[place] = replace(first, final=True)
    return list(chosen.values()), clashes


def entry_of(root: Path, e: Mapping[str, Any]) -> Measurement:
    def optional(name: str, kind: Callable[[Any], Any]) -> Any:
        return None if e.get(name) is None else kind(e[name])

    names = ("stage", "task", "part", "trained_on", "split", "variant", "against", "mix")
    texts: dict[str, Any] = {name: str(e.get(name, "")) for name in names}
    numbers = {name: optional(name, int) for name in ("shots", "model_parameters", "rollouts", "examples")}
    planned = optional("stop", lambda s: int(s["step"]))
    stopped = optional("stop", lambda s: _stopped(root / str(s["folder"]), planned))
    if stopped is not None and numbers["examples"] is not None:
        several = int(e.get("updates_per_draw", 1))
        draws, all_draws = (-(-step // several) for step in (stopped, planned))
        numbers["examples"] = numbers["examples"] * draws // all_draws
    return Measurement(
        checkpoint=optional("checkpoint", lambda name: root / str(name)),
        kind=str(e["kind"]), folder=root / str(e["folder"]), tokens=int(e["tokens"]), recipe=str(e["recipe"]),
        stage_step=int(e["stage_step"]), final=bool(e["final"]), seed=int(e["seed"]),
        pretrain_seed=int(e.get("pretrain_seed", 0)), own=bool(e.get("own", True)),
        screen=optional("screen", lambda s: (int(s[0]), int(s[1]), str(s[2]))),
        streams=optional("streams", lambda s: {str(k): str(v) for k, v in s.items()}),
        learning_rates=optional("learning_rates", lambda s: {str(k): float(v) for k, v in s.items()}),
        planned=planned, stopped=stopped,
        hard_share=optional("hard_share", float), temperature=optional("temperature", float),
        math_heavy=optional("math_heavy", bool), hard=optional("hard", bool), **texts, **numbers,
    )  # fmt: skip


def _stopped(trained: Path, step: int) -> int | None:
    """The last update in a training's log, where it is before ``step`` and the training is finished.

    A store that was restored from what was collected has no seal there, but the health that a finished node ends with.
    """
    if not (sealed(trained) or (trained / "health.json").exists()):
        return None
    last = int(read_numbers(trained / "metrics.jsonl")[-1]["step"])
    return last if last < step else None
