"""Reads a study's manifest, and the folders that the manifest names, into ``Results``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from foray.core.files import TRAINING_FILES, read_json, read_jsonl, read_numbers, read_object, sealed, verify
from foray.core.made_from import named, other_weights
from foray.core.provenance import ABSENT, made, read_made
from foray.core.terminal import failure
from foray.core.untrusted import expect
from foray.report import clusters, stats
from foray.report.entries import distinct, entry_of
from foray.report.measurements import (
    Measurement,
    NodeOrigin,
    Overlaps,
    PassK,
    ProbeAnswers,
    TextLosses,
    TrainingLog,
    Votes,
)
from foray.report.results import AVERAGE, AXES, STRICT, TEST, Results
from foray.report.score_table import Score, frame_of_rows, passk_scores, row_of
from foray.report.stats import Counts, Interval

Read = tuple[Measurement, list[Score]]


def read_results(manifest: Path, axis: str = AXES[0]) -> Results:
    """Reads the manifest and every readable result. ``missing`` lists the other results.

    ``axis``: one of ``AXES``, the horizontal axis of the figures. Raises ValueError for a manifest that the reader does
    not understand.
    """
    return results_of(read_object(manifest, "run the study again"), manifest, axis)


def results_of(content: Mapping[str, Any], manifest: Path, axis: str = AXES[0]) -> Results:
    """The same for a manifest whose content is known. ``manifest``: its place in the store; it need not be there."""
    try:
        study, parameters = str(content["study"]), int(content["model_parameters"])
        grading = str(content.get("grading", STRICT))
        ks = tuple(sorted({int(k) for k in content["k"]}))
        entries = [entry_of(manifest.parent, e) for e in content["entries"]]
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"{manifest} is not a study's manifest ({type(e).__name__}: {e}); run the study again"
        ) from None
    if parameters < 1 or not ks or ks[0] < 1:
        raise ValueError(f"{manifest}: model_parameters and every k must be at least 1")
    chosen, missing = distinct(entries)
    measured, rows = list[Measurement](), list[dict[str, Any]]()
    flags, work = list[tuple[str, str]](), dict[Path, tuple[str, float]]()
    for entry in chosen:
        try:
            if sealed(entry.folder):
                verify(entry.folder, TRAINING_FILES if entry.kind == "train" else "")
            elif entry.kind != "train":  # the report shows a growing log
                raise ValueError("it is not finished (yet)")
            if entry.kind not in _READERS:
                raise ValueError(f"the report knows no results of kind {entry.kind!r}")
            found, numbers = _READERS[entry.kind](entry, ks)
            if isinstance(found, PassK) and grading not in found.counts:
                raise ValueError(f"it has no {grading} grading, which the study shows; it is of an earlier version")
            measured.append(found)
            rows += [row_of(study, entry, number) for number in numbers]
            flags += [(entry.words, str(flag)) for flag in _optional(entry, "health.json", list)]
            if ledger := _optional(entry, "ledger.json", dict):  # of a folder, which several entries may name
                work[entry.folder] = entry.kind, sum(float(flops) for flops in ledger.values())
        except FileNotFoundError as e:
            missing.append((entry.words, f"{Path(e.filename).name} is not there (yet)"))
        except KeyError as e:
            missing.append((entry.words, f"a row in {entry.folder.name} lacks the field {e}"))
        except (ValueError, TypeError, AttributeError, OverflowError, OSError) as e:
            missing.append((entry.words, failure(e)))
    return Results(
        study=study, model_parameters=parameters, ks=ks, axis=axis, extraction=grading,
        split=str(content.get("split", TEST)), temperature=_number(content, "temperature"),
        notes=_notes(content, manifest.parent),
        provenance=dict(content.get("provenance", {})),
        table=frame_of_rows(rows, parameters), asked=_tasks(chosen), hard=_hard(chosen), measured=tuple(measured),
        missing=tuple(missing), flags=tuple(flags), evaluation_flops=_by_kind(work.values()),
        settings=_settings(content), origins=read_origins(manifest.parent, _nodes(content)), planned=tuple(chosen),
    )  # fmt: skip


def _number(content: Mapping[str, Any], name: str) -> float | None:
    return None if content.get(name) is None else float(content[name])


def _by_kind(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for kind, flops in found:
        sums[kind] = sums.get(kind, 0.0) + flops
    return sums


def _notes(content: Mapping[str, Any], root: Path) -> tuple[str, ...]:
    """The study's notes, and one where nodes were made from other weights than those that are there now."""
    mixed = named(other_weights(root / name for name in _nodes(content)))
    return (*map(str, content.get("notes", ())), *([mixed] if mixed else []))


def _nodes(content: Mapping[str, Any]) -> list[str]:
    """Folders of all nodes. A manifest of an earlier version names only the nodes in the report."""
    return [str(name) for name in content.get("nodes", ())] or [str(e["folder"]) for e in content["entries"]]


def read_origins(root: Path, folders: Iterable[str]) -> tuple[NodeOrigin, ...]:
    """The origin of every node in the store, finished or begun."""
    return tuple(_origin(root / name) for name in dict.fromkeys(folders) if (root / name).is_dir())


def _origin(folder: Path) -> NodeOrigin:
    shared = folder.name.startswith("train-")
    found = read_made(folder)
    if found is None:
        return NodeOrigin(made({}), ABSENT, ABSENT, shared)
    of, said = found
    versions = said.get("versions")
    words = ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) if isinstance(versions, Mapping) else ABSENT
    return NodeOrigin(of, str(said.get("commit", ABSENT)), words, shared, bool(said.get("earlier")))


def _tasks(entries: Sequence[Measurement]) -> tuple[str, ...]:
    """The tasks of the main grid in the manifest's order, then the other tasks."""
    asked = sorted((e for e in entries if e.kind == "passk"), key=lambda e: e.off_grid)
    return tuple(dict.fromkeys(e.task for e in asked))


def _hard(entries: Sequence[Measurement]) -> tuple[str, ...]:
    """Tasks whose class has ``hard = True``. For a manifest of an earlier version, the tasks' names decide."""
    asked = [e for e in entries if e.kind == "passk"]
    if all(e.hard is None for e in asked):
        asked = [e for e in asked if {"hard", "math"} & set(re.split("[^a-z]+", e.task.lower()))]
        return tuple(dict.fromkeys(e.task for e in asked))
    return tuple(dict.fromkeys(e.task for e in asked if e.hard))


def _settings(content: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """The rows of every table of settings. A manifest of an earlier version has no tables."""
    tables = content.get("settings", {})
    return {str(name): [{str(k): str(v) for k, v in row.items()} for row in rows] for name, rows in tables.items()}


def _optional(entry: Measurement, name: str, kind: type) -> Any:
    """The content of an optional file, or an empty ``kind``. Results of earlier versions lack the file."""
    if not (entry.folder / name).exists():
        return kind()
    found = read_json(entry.folder / name)
    if not isinstance(found, kind):
        raise ValueError(f"{entry.folder / name} is damaged: it holds no {kind.__name__}; run the study again")
    return found


def _read_training(entry: Measurement, ks: Sequence[int]) -> Read:
    rows = read_numbers(entry.folder / "metrics.jsonl")
    if not rows:
        raise ValueError("metrics.jsonl is empty: no step has been taken yet")
    metrics = pd.DataFrame(rows).sort_values("step", kind="stable").reset_index(drop=True)
    roles = _logged_roles(metrics) if entry.streams is None else entry.streams
    return TrainingLog(**vars(entry), metrics=metrics, roles=roles), []


def _logged_roles(metrics: pd.DataFrame) -> dict[str, str]:
    """The streams' roles, for a manifest of a version without roles. A log of rewards or of epochs tells the role."""
    marks = {"reward": "rollouts", "epoch": "demonstrations"}
    parts = [str(column).rpartition("/") for column in metrics]
    return {stream: marks[name] for stream, _, name in parts if stream and name in marks}


def _read_passk(entry: Measurement, ks: Sequence[int]) -> Read:
    """pass@k for every k in ``ks`` and every power of two, up to the number of samples; format and truncation rates."""
    # Problems finish in any order. The sorting keeps the resamples the same.
    kinds = dict.fromkeys(("samples", "formatted", "truncated"), int) | {"correct": dict}
    read = [expect(row, "problems.jsonl", **kinds) for row in read_jsonl(entry.folder / "problems.jsonl")]
    rows = sorted(read, key=lambda r: str(r["id"]))
    ids = tuple(str(r["id"]) for r in rows)
    if not ids or len(set(ids)) < len(ids):
        raise ValueError("problems.jsonl is empty" if not ids else "problems.jsonl holds a problem twice")
    samples = np.array([r["samples"] for r in rows], dtype=np.int64)
    counts = {
        str(rule): Counts(ids, np.array([r["correct"][rule] for r in rows], dtype=np.int64), samples)
        for rule in sorted(set.intersection(*(set(r["correct"]) for r in rows)))
    }
    for rule, c in counts.items():
        if (samples < 1).any() or (c.correct < 0).any() or (c.correct > samples).any():
            raise ValueError(f"problems.jsonl holds impossible counts of {rule} answers")
    fields = {"format_rate": "formatted", "truncated_rate": "truncated"}
    rates = {metric: np.array([r[name] for r in rows]) / samples for metric, name in fields.items()}
    most = int(samples.min())
    curve = sorted({k for k in ks if k <= most} | {2**i for i in range(most.bit_length())})
    guesses = [r.get("guess") for r in rows]
    known = None if None in guesses else np.array(guesses, dtype=np.float64)
    tags = tuple(tuple(map(str, r["tags"])) if isinstance(r.get("tags"), list) else () for r in rows)
    votes = {i: _votes(r) for i, r in zip(ids, rows)} if all("votes" in r for r in rows) else {}
    found = PassK(**vars(entry), counts=counts, rates=rates, guesses=known, votes=votes, tags=tags)
    numbers = list(passk_scores(found, curve))
    intervals_of_rates = stats.mean_intervals(np.stack(list(rates.values()), axis=1))
    numbers += [Score(entry.task, "", metric, i) for metric, i in zip(rates, intervals_of_rates)]
    return found, numbers


def _votes(row: Mapping[str, Any]) -> Votes:
    votes = [(int(count), bool(right)) for count, right in row["votes"]]
    if any(count < 1 for count, _ in votes) or sum(count for count, _ in votes) > row["samples"]:
        raise ValueError(f"problems.jsonl holds impossible votes of problem {row['id']}")
    return votes


def _read_probes(entry: Measurement, ks: Sequence[int]) -> Read:
    """The accuracy of every probe, and the plain mean. ``stderr`` is lm-eval's."""
    numbers, answers, facts = list[Score](), dict[str, NDArray[np.float64]](), dict[str, NDArray[np.int64]]()
    for name, probe in sorted(read_object(entry.folder / "probes.json").items()):
        expect(probe, f"probes.json, {name},", n=int, chance=float)
        interval, error = stats.wilson(float(probe["value"]), int(probe["n"])), probe.get("stderr")
        if "per_doc" in probe:
            answers[name] = np.array(probe["per_doc"], dtype=np.float64)
            facts[name] = _numbered(probe.get("facts"), len(answers[name]))
            interval = clusters.share_interval(interval.value, answers[name], facts[name])
        stderr = math.nan if error is None else float(error)
        numbers.append(Score(str(name), "", "acc", interval, float(probe["chance"]), stderr))
    if not numbers:
        raise ValueError("probes.json holds no probe")
    average = stats.mean_of_independent([n.interval for n in numbers])
    chance, stderr = sum(n.chance for n in numbers) / len(numbers), math.hypot(*(n.stderr for n in numbers))
    numbers.append(Score(AVERAGE, "", "acc", average, chance, stderr / len(numbers)))
    return ProbeAnswers(**vars(entry), answers=answers, facts=facts), numbers


def _numbered(facts: Any, documents: int) -> NDArray[np.int64]:
    """The number of each document's fact, from 0 on whatever the file's numbers are; without facts, its own. (N,)"""
    if facts is None:
        return np.arange(documents)
    if not isinstance(facts, list) or len(facts) != documents or not all(isinstance(f, int) for f in facts):
        raise ValueError(f"probes.json: expected facts to be a list of {documents} whole numbers, one a document")
    known: dict[int, int] = {}
    return np.array([known.setdefault(f, len(known)) for f in facts], dtype=np.int64)


def _read_perplexity(entry: Measurement, ks: Sequence[int]) -> Read:
    """Perplexity and bits per byte of every source, without an interval: one number cannot be resampled."""
    numbers, nats, bits = list[Score](), dict[str, float](), dict[str, float]()
    for source, row in read_object(entry.folder / "perplexity.json").items():
        nats[source] = float(row["nats_per_token"])
        value = math.exp(min(nats[source], 700.0))
        numbers.append(Score(source, "", "perplexity", Interval(value, math.nan, math.nan, int(row["tokens"]))))
        if "bits_per_byte" in row:
            bits[source] = float(row["bits_per_byte"])
            of_bytes = Interval(bits[source], math.nan, math.nan, int(row["bytes"]))
            numbers.append(Score(source, "", "bits_per_byte", of_bytes))
    return TextLosses(**vars(entry), nats=nats, bits=bits), numbers


def _read_overlaps(entry: Measurement, ks: Sequence[int]) -> Read:
    content = read_object(entry.folder / "contamination.json", n=int, rows=list)
    kinds: dict[str, Callable[[Any], Any]] = {"text": str, "of": str, "questions": int}
    kinds |= dict.fromkeys(("whole", "same_numbers", "any_ngram", "ngrams"), float) | {"example": str}
    rows = tuple({name: kind(row[name]) for name, kind in kinds.items()} for row in content["rows"])
    return Overlaps(**vars(entry), n=int(content["n"]), rows=rows), []


def _read_own(entry: Measurement, ks: Sequence[int]) -> Read:
    """The numbers of a measurement of the user's own: the mean of those with a number an item."""
    found = read_object(entry.folder / "measure.json")
    numbers = {metric: np.array(values, dtype=np.float64) for metric, values in found.items()}
    return entry, [Score(entry.task, "", metric, stats.mean_of_any(values)) for metric, values in numbers.items()]


_READERS: Mapping[str, Callable[[Measurement, Sequence[int]], Read]] = {
    "train": _read_training,
    "passk": _read_passk,
    "probes": _read_probes,
    "perplexity": _read_perplexity,
    "task_text": _read_perplexity,
    "measure": _read_own,
    "contamination": _read_overlaps,
}
