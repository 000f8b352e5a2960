"""The settings of a study as tables: its canonical JSON, flattened into the keys that ``--set`` takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from foray.core.canonical import to_json
from foray.core.stage import Joint, Merge, Recipe, Stream
from foray.study.spec import Pretrain, Study
from foray.study.variants import Variant, recipe_name

Row = dict[str, str]


def setting_tables(study: Study) -> dict[str, list[Row]]:
    """The tables by name. All values are words."""
    grids = study.bound().grids()  # digests of local files are part of the JSON
    return {
        "study": _settings(grids),
        "recipes": _distinct([row for _, grid in grids for row in _recipes(grid)]),
        "prompts": _distinct([_prompt(grid) for _, grid in grids]),
    }


def _settings(grids: list[tuple[str, Study]]) -> list[Row]:
    """Every setting of the first grid, then those of each other grid that differ from it: "" for one that it lacks."""
    flat = [(part, dict(_flat(to_json(grid, shown=True)))) for part, grid in grids]
    main = flat[0][1]
    differ = [flat[0], *((part, _changed(main, settings)) for part, settings in flat[1:])]
    return [
        {"part": part, "key": key, "value": value}
        for part, settings in differ
        for key, value in settings.items()
        if key not in ("notes", "parts")
    ]


def _recipes(grid: Study) -> Iterator[Row]:
    """A row for every stream of every recipe, with the stream of the study that is most like it and what differs."""
    post = grid.post
    known = {"post.rl": post.rl, "post.sft": post.sft} | ({"post.text": post.text} if post.text else {})
    if isinstance(grid.pretrain, Pretrain):
        known["pretrain.stream"] = grid.pretrain.stream
    bases = {name: dict(_flat(to_json(stream))) for name, stream in known.items()}
    for recipe in grid.recipes:
        varied = ", ".join(recipe.settings) if isinstance(recipe, Variant) else ""
        for row in _streams(grid.stages(recipe), bases):
            yield {"recipe": recipe_name(recipe), "with": varied, **row}


def _streams(recipe: Recipe, bases: dict[str, Row]) -> Iterator[Row]:
    for stage in recipe:
        if isinstance(stage, Merge):
            for part, branch in stage.branches:
                yield from ({**row, "weight": f"{part:g} of {row['weight']}"} for row in _streams(branch, bases))
            continue
        for weight, stream in stage.streams:
            for share, member in stream.members:
                of = _words(weight) + ("" if share == 1 else f" x {_words(share)}")
                # One optimizer takes the sum of a joint stream's gradients.
                trained = replace(member, optimizer=stream.optimizer) if isinstance(stream, Joint) else member
                updates = f"{stage.steps} at most" if stage.stop else str(stage.steps)
                yield {
                    "stage": stage.name, "updates": updates, "stream": member.name, "weight": of,
                    "settings": _against(trained, bases),
                }  # fmt: skip


def _against(stream: Stream, bases: dict[str, Row]) -> str:
    own = dict(_flat(to_json(stream)))
    differ = {name: _changed(base, own) for name, base in bases.items()}
    name = min(differ, key=lambda name: len(differ[name]))
    return ", ".join([name, *(f"{key}={value}" for key, value in differ[name].items() if key != "name")])


def _changed(before: Row, now: Row) -> Row:
    """The settings that differ; "" for one that is there no more."""
    return {key: now.get(key, "") for key in dict.fromkeys((*before, *now)) if now.get(key) != before.get(key)}


def _prompt(grid: Study) -> Row:
    # The form alone: the examples are training problems, chosen by the evaluation's seed.
    task = grid.evaluation.task
    return {"task": task.name, "prompt": repr(task.prompt("{question}")), "stop": ", ".join(map(repr, task.stop))}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, words) of everything in JSON data. The class of an object stands at the object's own key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "type" and key:
                yield key, str(inner)
            elif name not in ("type", "fingerprint"):
                yield from _flat(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{key}.{i}")
    else:
        yield key, _words(value)


def _words(value: Any) -> str:
    """A plain value as ``--set`` takes it; another one by its settings."""
    if isinstance(value, list):
        return ",".join(map(_words, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float | int | str):
        return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return " ".join(f"{key}={words}" for key, words in _flat(to_json(value)))


def _distinct(rows: list[Row]) -> list[Row]:
    return list({tuple(row.items()): row for row in rows}.values())
