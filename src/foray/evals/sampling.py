"""Sampling and grading a task's problems. Each finished chunk is written at once, so a killed run loses no chunk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foray.core import rng
from foray.core.files import write_atomic, writing
from foray.core.passk import check_asked
from foray.core.task import (
    STORED,
    CutOff,
    Problem,
    Split,
    Task,
    few_shot_examples,
    require_problems,
    sound_of,
    verdict_of,
)
from foray.data.rows import MissingFile
from foray.data.tokenizer import TextTokenizer
from foray.rollout.engine import Completion, Engine, Precision, Sampling, sampling_flops

GUESSES = 2000  # training answers that guesses are drawn from
CHUNK_ROWS = 1024  # samples between two writes; also the batch split, on which rounding depends


def evaluate(
    engine: Engine,
    tokenizer: TextTokenizer,
    task: Task,
    folder: Path,
    *,
    split: Split,
    problems: int,
    shots: int,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    precision: Precision = "fp32",
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    cut_off: CutOff = "wrong",
    report: Callable[..., None] = lambda **_: None,
) -> None:
    """Writes ``completions.jsonl`` (every sample), ``problems.jsonl`` (counts a problem) and ``ledger.json``."""
    check_asked(problems, samples, shots, max_new_tokens, engine.config.context)
    given = task.problems(split, problems)
    require_problems(task.name, given)
    chosen = list(given)[:problems]
    if len(chosen) < problems:
        raise ValueError(f"{task.name} has {len(chosen)} {split} problems; {problems} were asked for")
    examples, guesses = few_shot_examples(task, shots, seed), _guesses(task, chosen)
    sampling = Sampling(temperature, max_new_tokens, task.stop, precision, top_p, top_k, min_p)
    path = folder / "completions.jsonl"
    chunk = max(1, CHUNK_ROWS // samples)
    ids = [p.id for p in chosen]
    done = len(whole_rows(path, ids, samples))
    done -= done % chunk if done < problems else 0
    _cut(path, done)
    with writing(path), open(path, "a", encoding="utf-8") as out:
        for start in range(done, problems, chunk):
            part = chosen[start : start + chunk]
            begun = time.monotonic()
            prompts = [tokenizer.encode_prompt(task.prompt(p.question, examples)) for p in part]
            seeds = [rng.key(seed, "evaluation", task.name, p.id) for p in part]
            groups = engine.generate(prompts, samples, sampling, seeds)
            out.writelines(_line(graded(task, p, g, cut_off)) for p, g in zip(part, groups))
            out.flush()
            os.fsync(out.fileno())
            tokens = sum(len(c.tokens) for g in groups for c in g)
            report(done=start + len(part), total=problems, start=done, tokens=tokens, seconds=time.monotonic() - begun)
    counts = whole_rows(path, ids, samples)
    if len(counts) < problems:
        raise ValueError(f"{path}, line {len(counts) + 1} has changed since; the same command draws it again")
    prompts = [tokenizer.encode_prompt(task.prompt(p.question, examples)) for p in chosen]
    work = sampling_flops(engine.config, prompts, [c.pop("lengths") for c in counts])
    counts = [c | guess for c, guess in zip(counts, guesses)]
    write_atomic(folder / "ledger.json", json.dumps(work, allow_nan=False) + "\n")
    write_atomic(folder / "problems.jsonl", "".join(json.dumps(c, allow_nan=False) + "\n" for c in counts))


def _line(row: dict[str, Any]) -> str:
    """A line of ``completions.jsonl``: the row with its checksum."""
    return json.dumps({**row, "checksum": checksum_of(row)}, allow_nan=False) + "\n"


def checksum_of(row: dict[str, Any]) -> str:
    """The checksum of a row of ``completions.jsonl``, given without its field ``checksum``."""
    return hashlib.sha256(json.dumps(row, allow_nan=False).encode()).hexdigest()[:16]


def whole_rows(path: Path, ids: Sequence[str], samples: int) -> list[dict[str, Any]]:
    """The counts of each row, with ``lengths`` in tokens, up to the first row that is not whole.

    A whole row has a valid checksum and belongs to the problem in its place.
    """
    counts: list[dict[str, Any]] = []
    if not path.exists():
        return counts
    with open(path, "rb") as f:
        for problem, line in zip(ids, f):
            try:
                row = json.loads(line)
                checksum = row.pop("checksum")
                if checksum != checksum_of(row) or row["id"] != problem or len(row["samples"]) != samples:
                    return counts
                found = _counts(row) | {"lengths": [s["tokens"] for s in row["samples"]]}
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return counts
            if not line.endswith(b"\n"):
                return counts
            counts.append(found)
    return counts


def graded(task: Task, problem: Problem, group: list[Completion], cut_off: CutOff = "wrong") -> dict[str, Any]:
    """One problem's samples, each with a verdict an extraction and the answer that flexible grading found.

    A completion that was cut off is wrong and has no answer, whatever it holds, unless ``cut_off`` says that it is
    graded; the row says so then. ``sound``, where the task can tell: the answer
    that flexible grading found is right, and so are its reasons.
    """
    samples = []
    for c in group:
        wrong = c.stop_reason == "length" and cut_off == "wrong"
        verdicts = {extraction: verdict_of(task, problem, c.text, extraction) for extraction in STORED}
        sound = sound_of(task, problem, c.text)
        right = verdicts["flexible"].score > 0 and not wrong
        samples.append({
            "text": c.text,
            "stop": c.stop_reason,
            "tokens": len(c.tokens),
            **{STORED[e]: verdict.score > 0 and not wrong for e, verdict in verdicts.items()},
            "formatted": verdicts["strict"].formatted and not wrong,
            "answer": "" if wrong else verdicts["flexible"].answer,
            **({} if sound is None else {"sound": sound and right}),
        })  # fmt: skip
    return {
        "id": problem.id,
        "tags": list(problem.tags),
        "question": problem.question,
        "answer": problem.answer,
        **({} if cut_off == "wrong" else {"cut_off": cut_off}),
        "samples": samples,
    }


def _counts(row: dict[str, Any]) -> dict[str, Any]:
    samples = row["samples"]
    fields = dict(STORED) | ({"sound": "sound"} if all("sound" in s for s in samples) else {})
    return {
        "id": row["id"],
        "tags": row["tags"],
        "samples": len(samples),
        "correct": {extraction: sum(s[field] for s in samples) for extraction, field in fields.items()},
        "votes": _votes(samples),
        "formatted": sum(s["formatted"] for s in samples),
        "truncated": sum(s["stop"] == "length" for s in samples),
        "tokens": sum(s["tokens"] for s in samples),
    }


def _guesses(task: Task, problems: Sequence[Problem]) -> list[dict[str, float]]:
    """``guess`` of each problem: the share of training answers that equal the problem's answer, as they are written.

    Empty where the task has no training problems, or where their file is not there.
    """
    try:
        given = Counter(p.answer for p in task.problems("train", GUESSES))
    except MissingFile:
        given = Counter()
    return [{"guess": given[p.answer] / given.total()} if given else {} for p in problems]


def _votes(samples: Sequence[dict[str, Any]]) -> list[tuple[int, bool]]:
    """How many samples give each answer, and whether it is right (flexible grading): the most frequent answer first.

    Of equally frequent answers, the one that was sampled first. A sample without an answer has no vote.
    """
    given = Counter(s["answer"] for s in samples if s["answer"])
    right = Counter(s["answer"] for s in samples if s["flexible"])
    return [(count, 2 * right[answer] > count) for answer, count in given.most_common()]


def _cut(path: Path, rows: int) -> None:
    """Truncates a file to its first ``rows`` lines."""
    if path.exists():
        with open(path, "rb+") as f:
            for _ in range(rows):
                f.readline()
            f.truncate(f.tell())
