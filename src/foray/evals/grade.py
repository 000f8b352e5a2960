"""Grading a file of answers or completions, row by row: memory does not grow with the file."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from foray.core.files import iter_jsonl
from foray.core.spec import require
from foray.core.task import Extraction, Problem, Task, Verdict


@runtime_checkable
class Gradable(Task, Protocol):
    """A task that also reads reference answers and answers without its format."""

    def reference(self, text: str) -> str:
        """The answer in a bare answer or a full solution. Raises ValueError where there is none."""
        ...

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Grades an answer of which no mark is asked. As ``verify``: untrusted text, bounded in time."""
        ...


@dataclass
class Graded:
    """What is known after grading: rows, and how many of them had so many samples of which so many were right."""

    rows: int = 0
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)  # (samples, correct) -> rows
    formatted: int = 0

    @property
    def samples(self) -> int:
        return sum(n * rows for (n, _), rows in self.counts.items())

    @property
    def correct(self) -> int:
        return sum(c * rows for (_, c), rows in self.counts.items())


def grade_file(task: Gradable, source: Path, out: Path, extraction: Extraction) -> Graded:
    """Writes the rows of ``source`` with ``correct`` and ``reason`` to ``out``, which is there when all are graded.

    A row is {gold, answer}, or {gold, completions: [...]}, with any other fields, which are kept. Raises ValueError
    naming file and line of a row that is not such; ``out`` is then as it was.
    """
    require(source.exists() and not source.is_dir(), f"there is no file {source}")
    require(out.parent.is_dir(), f"there is no folder {out.parent} to write {out.name} into")
    require(not out.is_dir(), f"{out} is a folder: name a file with --out")
    done = Graded()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as f:
            for number, row in iter_jsonl(source):
                f.write(json.dumps(_graded(task, f"{source}, line {number}", row, extraction, done)) + "\n")
            require(done.rows > 0, f"{source} has no rows")
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return done


def _graded(task: Gradable, where: str, row: Any, extraction: Extraction, done: Graded) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object with gold and answer, or gold and completions")
    gold = _text(where, row, "gold")
    if "completions" not in row and "answer" not in row:
        raise ValueError(f"{where}: the field answer or completions is missing")
    try:
        problem = Problem(str(done.rows + 1), str(row.get("question", "")), task.reference(gold))
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    if "completions" in row:
        texts = row["completions"]
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"{where}: the field completions is not a list of texts")
        verdicts = [task.verify(problem, t, extraction) for t in texts]
        graded = {"correct": [v.score > 0 for v in verdicts], "reason": [v.reason for v in verdicts]}
    else:
        verdicts = [task.verify_answer(problem, _text(where, row, "answer"), extraction)]
        graded = {"correct": verdicts[0].score > 0, "reason": verdicts[0].reason}
    done.rows += 1
    done.counts[len(verdicts), sum(v.score > 0 for v in verdicts)] += 1
    done.formatted += sum(v.formatted for v in verdicts)
    return row | graded


def _text(where: str, row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(f"{where}: the field {column} is missing")
    value = row[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{where}: the field {column} is not text")
    return value
