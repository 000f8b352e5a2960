"""What the page's sample browser shows: counts of every problem, and distinct completions as far as they fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foray.report.embedded_data import packed
from foray.report.markup import shortened
from foray.report.results import NotDrawable, Results, label

ROOM = 900_000  # bytes of the packed completions
DISTINCT = (8, 6, 4, 3, 2)  # completions of one problem and model: as many as let all problems fit, or the last
TEXT = 1500  # characters of one text
ANSWER = 60  # characters of a wrong answer


def browsed(results: Results) -> dict[str, Any]:
    """Plain values for JSON. Completions are those of the first run; ``left_out`` says what did not fit."""
    try:
        task = results.main_task
    except NotDrawable:
        return {}
    models: list[dict[str, Any]] = []
    problems: dict[str, dict[str, Any]] = {}
    for recipe, tokens, runs in results.ends(task):
        number = len(models)
        for row in rows_with_samples(min(runs, key=lambda e: e.run).folder / "completions.jsonl"):
            if len(models) == number:
                models.append({"recipe": recipe, "label": label(recipe), "tokens": tokens})
            _add(problems, row, str(number), results.verdict_field)
    texts = {i: p.pop("texts") for i, p in problems.items()}
    order = sorted(problems, key=lambda i: -_spread(problems[i]))  # of equals in the file's order
    keep = len(order)
    for most in DISTINCT:
        kept = {i: {model: _first(all_, most) for model, all_ in texts[i].items()} for i in order}
        if len(packed(kept)) <= ROOM:
            break
    while keep > 1 and len(packed({i: kept[i] for i in order[:keep]})) > ROOM:
        keep = keep * 3 // 4
    chosen = set(order[:keep])
    said = f"Here are at most {most} distinct completions of a model to a problem: the most frequent, and a right one."
    if keep < len(order):
        said += f" Completions of {len(order) - keep} of {len(order)} problems are left out for the size of this file."
    if any(len(runs) > 1 for _, _, runs in results.ends(task)):
        said += " Counts and completions are those of the first run of every model."
    rows = [{"id": i, **p, "texts": kept[i] if i in chosen else {}} for i, p in problems.items()]
    return {"task": task, "grading": results.extraction, "models": models, "problems": rows, "left_out": said}


def rows_with_samples(path: Path) -> Iterator[Mapping[str, Any]]:
    """The whole rows of a file of samples, up to one that is still being written; none without a file."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return
            if isinstance(row, dict) and isinstance(row.get("samples"), list):
                yield row


def _spread(problem: Mapping[str, Any]) -> int:
    rights = [c[0] for c in problem["counts"].values()]
    return max(rights) - min(rights)


def _add(problems: dict[str, dict[str, Any]], row: Mapping[str, Any], model: str, field: str) -> None:
    samples = [s for s in row["samples"] if isinstance(s, dict)]
    tags = [str(t) for t in row.get("tags", ())]
    steps = next((t.partition("=")[2] for t in tags if t.startswith("steps=")), "")
    first = {name: shortened(row.get(name, ""), TEXT) for name in ("question", "answer")}
    place = problems.setdefault(str(row.get("id")), first | {"steps": steps, "counts": {}, "texts": {}})
    distinct: dict[str, list[Any]] = {}
    rights = unsound = truncated = 0
    for s in samples:
        right, cut = bool(s.get(field)), s.get("stop") == "length"
        bad = right and s.get("sound") is False
        rights, unsound, truncated = rights + right, unsound + bad, truncated + cut
        why = "truncated" if cut else "by unsound steps" if bad else "" if right else _why(s)
        distinct.setdefault(shortened(s.get("text", ""), TEXT), [0, int(right), why])[0] += 1
    place["counts"][model] = [rights, len(samples), unsound, truncated]
    ordered = sorted(distinct.items(), key=lambda x: (-x[1][0], x[0]))
    place["texts"][model] = [[text, *rest] for text, rest in ordered]


def _first(completions: list[list[Any]], most: int) -> list[list[Any]]:
    """The first of one model's distinct completions; the last of them is a right one where no other is."""
    shown = completions[:most]
    right = next((c for c in completions if c[2]), None)
    return shown if right is None or any(c[2] for c in shown) else [*shown[:-1], right]


def _why(sample: Mapping[str, Any]) -> str:
    said = sample.get("answer")
    return f"its answer is {shortened(said, ANSWER, '…')}" if said not in (None, "") else "no answer was found"
