"""Reads a study's manifest and the folders it names into ``Results``, and writes frames as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foray.core.files import TRAINING_FILES, read_json, read_jsonl, read_numbers, read_object, sealed, verify
from foray.core.terminal import failure
from foray.core.untrusted import expect
from foray.report import stats
from foray.report.measured import Entry, Evaluation, Overlaps, Probes, TrainingRun
from foray.report.origins import read_origins
from foray.report.results import AVERAGE, AXES, Results, metric_rank, recipe_rank
from foray.report.stats import Graded, Interval

COLUMNS = (
    "study", "pretrain_seed", "tokens", "recipe", "trained_on", "stage_step", "seed",
    "task", "shots", "extraction", "metric", "value", "lo", "hi", "n", "stderr",
    "final", "chance", "tokens_per_parameter"
)  # fmt: skip
AXES_BESIDE = ("variant", "against", "mix", "model_parameters", "split", "screen", "rollouts", "examples")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Row = tuple[Any, ...]  # COLUMNS but the last, own, AXES_BESIDE


def read_results(manifest: Path, axis: str = AXES[0]) -> Results:
    """Reads a study's manifest and everything it names that can be read; the rest is listed in ``missing``.

    ``axis``: one of ``AXES``, what figures are drawn against. Raises ValueError when the manifest itself cannot be
    understood.
    """
    content = read_object(manifest, "run the study again", study=str, entries=list)
    try:
        study, parameters = str(content["study"]), int(content["model_parameters"])
        ks = tuple(sorted({int(k) for k in content["k"]}))
        entries = [_entry(manifest.parent, e) for e in content["entries"]]
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"{manifest} is not a study's manifest ({type(e).__name__}: {e}); run the study again"
        ) from None
    if parameters < 1 or not ks or ks[0] < 1:
        raise ValueError(f"{manifest}: model_parameters and every k must be at least 1")
    chosen, missing = _distinct(entries)
    rows, rows_beside = list[Row](), list[Row]()
    evaluations, variants = list[Evaluation](), list[Evaluation]()
    training, variant_training = list[TrainingRun](), list[TrainingRun]()
    probed, variant_probed = list[Probes](), list[Probes]()
    contamination: list[Overlaps] = []
    flags: list[tuple[str, str]] = []
    work: dict[str, float] = {}
    for entry in chosen:
        try:
            if sealed(entry.folder):
                verify(entry.folder, TRAINING_FILES if entry.kind == "train" else "")
            elif entry.kind != "train":  # whose log is shown as it grows
                raise ValueError("it is not finished (yet)")
            off = entry.off_grid
            to = rows_beside if off else rows
            if entry.kind == "train":
                (variant_training if off else training).append(_read_training(entry))
            elif entry.kind == "passk":
                evaluation = _read_evaluation(entry)
                (variants if off else evaluations).append(evaluation)
                to += _passk_rows(study, evaluation, ks)
            elif entry.kind == "probes":
                (variant_probed if off else probed).append(_read_probes(entry))
                to += _probe_rows(study, entry)
            elif entry.kind == "perplexity":
                to += _perplexity_rows(study, entry)
            elif entry.kind == "contamination":
                contamination.append(_read_overlaps(entry))
            else:
                raise ValueError(f"the report knows no results of kind {entry.kind!r}")
            flags += [(entry.words, str(flag)) for flag in _beside(entry, "health.json", list)]
            for flops in _beside(entry, "ledger.json", dict).values():
                work[entry.kind] = work.get(entry.kind, 0.0) + float(flops)
        except FileNotFoundError as e:
            missing.append((entry.words, f"{Path(e.filename).name} is not there (yet)"))
        except KeyError as e:
            missing.append((entry.words, f"a row in {entry.folder.name} lacks the field {e}"))
        except (ValueError, TypeError, AttributeError, OverflowError, OSError) as e:
            missing.append((entry.words, failure(e)))
    notes = tuple(str(n) for n in content.get("notes", ()))
    return Results(
        study, parameters, ks, notes, dict(content.get("provenance", {})),
        _frame(rows, parameters), _frame(rows_beside, parameters),
        _tasks(chosen), tuple(evaluations), tuple(training), tuple(missing), tuple(probed), tuple(variants),
        tuple(variant_training), tuple(variant_probed), tuple(flags), work, axis,
        tuple(contamination), _hard(chosen), settings=_settings(content),
        origins=read_origins(manifest.parent, _nodes(content)),
    )  # fmt: skip


def _nodes(content: Mapping[str, Any]) -> list[str]:
    """Folders of all nodes; a manifest of an earlier version names those that are reported."""
    return [str(name) for name in content.get("nodes", ())] or [str(e["folder"]) for e in content["entries"]]


def _tasks(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Those of the main grid, in the manifest's order, then those beside it."""
    asked = sorted((e for e in entries if e.kind == "passk"), key=lambda e: e.off_grid)
    return tuple(dict.fromkeys(e.task for e in asked))


def _hard(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Tasks that say that they are hard ones; in a manifest of a version that did not ask them, by their names."""
    asked = [e for e in entries if e.kind == "passk"]
    if all(e.hard is None for e in asked):
        asked = [e for e in asked if {"hard", "math"} & set(re.split("[^a-z]+", e.task.lower()))]
        return tuple(dict.fromkeys(e.task for e in asked))
    return tuple(dict.fromkeys(e.task for e in asked if e.hard))


def _settings(content: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Rows of words by table; a manifest of an earlier version has none."""
    tables = content.get("settings", {})
    return {str(name): [{str(k): str(v) for k, v in row.items()} for row in rows] for name, rows in tables.items()}


def _beside(entry: Entry, name: str, kind: type) -> Any:
    """A file that results of earlier versions do not have."""
    if not (entry.folder / name).exists():
        return kind()
    found = read_json(entry.folder / name)
    if not isinstance(found, kind):
        raise ValueError(f"{entry.folder / name} is damaged: it holds no {kind.__name__}; run the study again")
    return found


def _distinct(entries: Sequence[Entry]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """One entry per measurement. Named twice with one folder (as a point inside and as the end) it counts as final."""
    chosen: dict[tuple[Any, ...], Entry] = {}
    clashes = []
    for e in entries:
        axes = (e.trained_on, e.split, e.variant, e.mix, e.model_parameters)
        place: tuple[Any, ...] = (e.kind, e.tokens, e.recipe, e.stage, e.stage_step, e.run, e.task, e.shots, *axes)
        if e.kind == "contamination":  # of text and questions alone: grids share one, or each has its own
            place = (e.kind, e.folder)
        first = chosen.setdefault(place, e)
        if first.folder != e.folder:
            clashes.append((e.words, f"{e.folder.name} repeats a measurement already read from {first.folder.name}"))
        elif e.final and not first.final:
            chosen[place] = replace(first, final=True)
    return list(chosen.values()), clashes


def _entry(root: Path, e: Mapping[str, Any]) -> Entry:
    numbers = {name: e.get(name) for name in ("shots", "model_parameters", "rollouts", "examples")}
    known = {name: None if value is None else int(value) for name, value in numbers.items()}
    return Entry(
        kind=str(e["kind"]),
        folder=root / str(e["folder"]),
        tokens=int(e["tokens"]),
        recipe=str(e["recipe"]),
        stage=str(e.get("stage", "")),
        stage_step=int(e["stage_step"]),
        final=bool(e["final"]),
        seed=int(e["seed"]),
        task=str(e.get("task", "")),
        part=str(e.get("part", "")),
        pretrain_seed=int(e.get("pretrain_seed", 0)),
        trained_on=str(e.get("trained_on", "")),
        split=str(e.get("split", "")),
        screen=None if e.get("screen") is None else (int(e["screen"][0]), int(e["screen"][1]), str(e["screen"][2])),
        variant=str(e.get("variant", "")),
        own=bool(e.get("own", True)),
        against=str(e.get("against", "")),
        mix=str(e.get("mix", "")),
        streams=None if e.get("streams") is None else {str(k): str(v) for k, v in e["streams"].items()},
        math_heavy=None if e.get("math_heavy") is None else bool(e["math_heavy"]),
        hard=None if e.get("hard") is None else bool(e["hard"]),
        **known,
    )


def _read_training(entry: Entry) -> TrainingRun:
    rows = read_numbers(entry.folder / "metrics.jsonl")
    if not rows:
        raise ValueError("metrics.jsonl is empty: no step has been taken yet")
    metrics = pd.DataFrame(rows).sort_values("step", kind="stable").reset_index(drop=True)
    return TrainingRun(entry, metrics, _logged_roles(metrics) if entry.streams is None else entry.streams)


def _logged_roles(metrics: pd.DataFrame) -> dict[str, str]:
    """By what streams logged, where the manifest is of a version that did not say: rewards, or epochs."""
    marks = {"reward": "rollouts", "epoch": "demonstrations"}
    parts = [str(column).rpartition("/") for column in metrics]
    return {stream: marks[name] for stream, _, name in parts if stream and name in marks}


def _read_evaluation(entry: Entry) -> Evaluation:
    # Sorted, so that the order in which problems were finished cannot change a resample.
    kinds = dict.fromkeys(("samples", "formatted", "truncated"), int) | {"correct": dict}
    read = [expect(row, "problems.jsonl", **kinds) for row in read_jsonl(entry.folder / "problems.jsonl")]
    rows = sorted(read, key=lambda r: str(r["id"]))
    ids = tuple(str(r["id"]) for r in rows)
    if not ids or len(set(ids)) < len(ids):
        raise ValueError("problems.jsonl is empty" if not ids else "problems.jsonl holds a problem twice")
    samples = np.array([r["samples"] for r in rows], dtype=np.int64)
    graded = {
        str(name): Graded(ids, np.array([r["correct"][name] for r in rows], dtype=np.int64), samples)
        for name in sorted(rows[0]["correct"])
    }
    for name, g in graded.items():
        if (samples < 1).any() or (g.correct < 0).any() or (g.correct > samples).any():
            raise ValueError(f"problems.jsonl holds impossible counts of {name} answers")
    counts = {"format_rate": "formatted", "truncated_rate": "truncated"}
    rates = {metric: np.array([r[field] for r in rows]) / samples for metric, field in counts.items()}
    return Evaluation(entry, graded, rates)


def _row(
    study: str,
    e: Entry,
    task: str,
    extraction: str,
    metric: str,
    i: Interval,
    chance: float = math.nan,
    stderr: float = math.nan,
) -> Row:
    where = (study, e.pretrain_seed, e.tokens, e.recipe, e.trained_on, e.stage_step, e.seed)
    screen = "" if e.screen is None else f"{e.screen[0]}-{e.screen[1]} {e.screen[2]}".removesuffix(" strict")
    beside = (e.variant, e.against, e.mix, e.model_parameters, e.split, screen, e.rollouts, e.examples)
    return (*where, task, e.shots, extraction, metric, *i, stderr, e.final, chance, e.own, *beside)


def _passk_rows(study: str, evaluation: Evaluation, ks: Sequence[int]) -> list[Row]:
    """Rows for every asked k and for the powers of two, up to the number of samples."""
    entry, rows = evaluation.entry, []
    for extraction, graded in evaluation.graded.items():
        most = int(graded.samples.min())
        curve = sorted({k for k in ks if k <= most} | {2**i for i in range(most.bit_length())})
        for k, interval in zip(curve, stats.passk_intervals(graded, curve)):
            rows.append(_row(study, entry, entry.task, extraction, f"pass@{k}", interval))
    intervals = stats.mean_intervals(np.stack(list(evaluation.rates.values()), axis=1))
    for metric, interval in zip(evaluation.rates, intervals):
        rows.append(_row(study, entry, entry.task, "", metric, interval))
    return rows


def _probe_rows(study: str, entry: Entry) -> list[Row]:
    rows, parts, chances, errors = [], [], [], []
    for name, probe in sorted(read_object(entry.folder / "probes.json").items()):
        expect(probe, f"probes.json, {name},", n=int, chance=float)
        interval, chance = stats.wilson(float(probe["value"]), int(probe["n"])), float(probe["chance"])
        error = float(math.nan if probe.get("stderr") is None else probe["stderr"])  # lm-eval's
        rows.append(_row(study, entry, str(name), "", "acc", interval, chance, error))
        parts.append(interval)
        chances.append(chance)
        errors.append(error)
    if not parts:
        raise ValueError("probes.json holds no probe")
    average = stats.mean_of_independent(parts)
    of_average = math.hypot(*errors) / len(errors)
    return [*rows, _row(study, entry, AVERAGE, "", "acc", average, sum(chances) / len(chances), of_average)]


def _read_probes(entry: Entry) -> Probes:
    probes = read_object(entry.folder / "probes.json")
    answers = {str(name): p["per_doc"] for name, p in sorted(probes.items()) if "per_doc" in expect(p, "probes.json")}
    return Probes(entry, {name: np.array(values, dtype=np.float64) for name, values in answers.items()})


def _read_overlaps(entry: Entry) -> Overlaps:
    content = read_object(entry.folder / "contamination.json", n=int, rows=list)
    shares = ("whole", "same_numbers", "any_ngram", "ngrams")
    rows = [
        {"text": str(r["text"]), "of": str(r["of"]), "questions": int(r["questions"])}
        | {name: float(r[name]) for name in shares}
        | {"example": str(r["example"])}
        for r in content["rows"]
    ]
    return Overlaps(entry, int(content["n"]), tuple(rows))


def _perplexity_rows(study: str, entry: Entry) -> list[Row]:
    # One number a source: nothing to resample, so no interval.
    return [
        _row(study, entry, str(source), "", "perplexity",
             Interval(math.exp(min(float(row["nats_per_token"]), 700.0)), math.nan, math.nan, int(row["tokens"])))
        for source, row in read_object(entry.folder / "perplexity.json").items()
    ]  # fmt: skip


def _frame(rows: list[Row], size: int) -> pd.DataFrame:
    """``size``: parameters of the model, where a row does not say it."""

    def order(row: Any) -> tuple[Any, ...]:
        _, pretrain_seed, tokens, recipe, trained_on, step, seed, task, shots, extraction, metric, *_ = row
        variant, _, mix, parameters, split = row[len(COLUMNS) :][:5]
        beside = (mix, parameters or 0, variant, split)
        place = (tokens, recipe_rank(recipe), trained_on, step, pretrain_seed, seed, task)
        return (*beside, *place, -1 if shots is None else shots, extraction, metric_rank(metric))

    columns = [*COLUMNS[:-1], "own", *AXES_BESIDE]
    kinds = dict.fromkeys(("shots", "model_parameters", "rollouts", "examples"), "Int64")
    kinds |= dict.fromkeys(("value", "lo", "hi", "stderr", "chance"), "float") | dict.fromkeys(("final", "own"), "bool")
    frame = pd.DataFrame(sorted(rows, key=order), columns=columns).astype(kinds)
    sizes = frame["model_parameters"].fillna(size).astype("float")
    return frame.assign(**{COLUMNS[-1]: frame["tokens"].astype("float") / sizes})


def csv_text(frame: pd.DataFrame, columns: Iterable[str] | None = None) -> str:
    """The frame as CSV with ``\\n`` line ends; floats to six digits, empty where there is nothing."""
    names = list(frame.columns if columns is None else columns)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(str(name)) for name in names])
    for row in zip(*(frame[name] for name in names)):
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    # Rounded first: shares of samples often fall on a tie of six digits, where the last bit of a sum would decide.
    if isinstance(value, float):
        return f"{round(value, 12):.6g}"
    text = str(value)
    # A spreadsheet runs a cell that begins like a formula; an apostrophe before it says that it is text.
    return f"'{text}" if isinstance(value, str) and text[:1] in _FORMULA and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return float(text) is not None
    except ValueError:
        return False
