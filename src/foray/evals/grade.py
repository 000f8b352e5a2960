"""Grading a file of answers or completions, row by row. Memory keeps the ids of Foray's own rows only."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from foray.core.canonical import nearest, require
from foray.core.files import is_text, iter_jsonl, json_text, lines_in, read_object, temporary_name, writing
from foray.core.task import STORED, Extraction, Problem, Task, Verdict, verdict_of
from foray.core.untrusted import not_a_pointer
from foray.evals.sampling import checksum_of

BESIDE = "-"  # in place of a task's name: a file beside Foray's own completions names the task
_SAYS = ("spec.json", "settings.json")  # written by a study's node, and by ``foray eval --out``


@runtime_checkable
class Gradable(Task, Protocol):
    """A task that also reads reference answers, and grades answers without the task's format."""

    def reference(self, text: str) -> str:
        """The answer in a bare answer or a full solution. Raises ValueError if there is no answer."""
        ...

    def verify_answer(self, problem: Problem, answer: str, extraction: Extraction = "strict") -> Verdict:
        """Grades an answer that needs no format. The text is untrusted and time is bounded, as in ``verify``."""
        ...


@dataclass
class Tally:
    """Counts over graded rows.

    For Foray's own completions, ``stored`` verdicts are in the file, and ``changed`` differ.
    """

    rows: int = 0
    counts: Counter[tuple[int, int]] = field(default_factory=Counter)  # (samples, correct) -> rows
    formatted: int = 0
    stored: int = 0
    changed: int = 0
    ids: set[str] = field(default_factory=set)  # problems of rows with a checksum

    @property
    def samples(self) -> int:
        return sum(n * rows for (n, _), rows in self.counts.items())

    @property
    def correct(self) -> int:
        return sum(c * rows for (_, c), rows in self.counts.items())


def task_for(name: str, source: Path, own_task: Gradable | None = None) -> Gradable:
    """The task of that name. If the settings beside ``source`` are of this task, the task has these settings.

    ``own_task``: the user's own task, if ``name`` names the file of one.

    Raises ValueError if there is no task of that name, or if ``source`` belongs to another task.
    """
    from foray.tasks import named_tasks, task_of

    said = next((source.parent / file for file in _SAYS if (source.parent / file).exists()), None)
    own = said is not None and source.name == "completions.jsonl"
    spec = read_object(said, "replace it").get("task") if said is not None and own else None
    beside: Task | None = None
    if isinstance(spec, dict):
        try:
            beside = task_of(spec)
        except ValueError as e:
            require(name != BESIDE, f"{said}: {e}; name a task to grade {source.name} by")
    tasks = {n: task for n, task in named_tasks().items() if isinstance(task, Gradable)}
    if name == BESIDE:
        require(beside is not None, f"neither {' nor '.join(_SAYS)} beside {source} says its task: name it")
    elif beside is None or beside.name != name:
        known = own_task is not None or name in tasks
        require(known, f"there is no task {name!r} to grade by{nearest(name, tasks)}")
        require(
            beside is None,
            f"{said} says that {source.name} is of {beside and beside.name}: grade it by that, or {BESIDE}",
        )
        return own_task or tasks[name]
    assert isinstance(beside, Gradable)
    return beside


def grade_file(
    task: Gradable,
    source: Path,
    out: Path,
    extraction: Extraction,
    suffix: str = "",
    report: Callable[..., None] = lambda **_: None,
) -> Tally:
    """Writes the rows of ``source`` with ``correct`` and ``reason`` to ``out``, once all rows are graded.

    A row is {gold, answer} or {gold, completions: [...]}, or a row of Foray's own ``completions.jsonl``. Other fields
    are kept. The names of the two new fields end in ``suffix``. ``report`` is told the lines that are graded (``done``)
    and the lines of the file (``total``). Raises ValueError, naming file and line, for a row of another form and for a
    row that already has a new field; there is then no ``out``. Raises ValueError, before a row is read, where ``out``
    exists.
    """
    require(not source.is_dir(), f"{source} is a folder: name a file of rows")
    require(source.exists(), f"there is no file {source}")
    require(out.parent.is_dir(), f"there is no folder {out.parent} to write {out.name} into")
    require(not out.is_dir(), f"{out} is a folder: name a file with --out")
    what = "the file to grade" if out.exists() and out.samefile(source) else "there already"
    require(not out.exists(), f"{out} is {what}: name a new file with --out")
    done, lines = Tally(), lines_in(not_a_pointer(source))
    temporary = temporary_name(out)
    try:
        with writing(out), open(temporary, "w", encoding="utf-8") as f:
            for number, row in iter_jsonl(source):
                where = f"{source}, line {number}"
                if not isinstance(row, dict):
                    raise ValueError(f"{where}: expected an object with gold and answer, or gold and completions")
                graded = _own(task, where, row, extraction, done) or _graded(task, where, row, extraction, done)
                named = {name + suffix: values for name, values in graded.items()}
                if there := [name for name in named if name in row]:
                    raise ValueError(
                        f"{where}: the field {there[0]} is there already: rename it, or have the new ones named "
                        "otherwise with --suffix TEXT"
                    )
                f.write(json_text(row | named) + "\n")
                report(done=number, total=lines)
            require(done.rows > 0, f"{source} has no rows")
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return done


def _graded(task: Gradable, where: str, row: dict[str, Any], extraction: Extraction, done: Tally) -> dict[str, Any]:
    gold = _text(where, row, "gold")
    if "completions" not in row and "answer" not in row:
        raise ValueError(f"{where}: the field answer or completions is missing")
    try:
        problem = Problem(str(done.rows + 1), str(row.get("question", "")), task.reference(gold))
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    if "completions" not in row:
        verdict = task.verify_answer(problem, _text(where, row, "answer"), extraction)
        _count(done, [verdict])
        return {"correct": verdict.score > 0, "reason": verdict.reason}
    texts = row["completions"]
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"{where}: the field completions is not a list of texts")
    return _count(done, [verdict_of(task, problem, t, extraction) for t in texts])


def _own(task: Gradable, where: str, row: dict[str, Any], extraction: Extraction, done: Tally) -> dict[str, Any] | None:
    """Grades a row of Foray's own ``completions.jsonl``; None for another row.

    Samples that were cut off are wrong, unless the row says that they were graded.
    """
    samples = row.get("samples")
    if "gold" in row or not isinstance(samples, list):
        return None
    if not samples or not all(isinstance(s, dict) and isinstance(s.get("text"), str) for s in samples):
        raise ValueError(f"{where}: the field samples is not a list of objects with text in them")
    if "checksum" in row:
        _refuse_changed(where, row, done)
    answer = _text(where, row, "answer")
    try:
        task.reference(answer)
    except ValueError as e:
        raise ValueError(f"{where}: {e}") from None
    labels = row.get("tags")
    tags = tuple(map(str, labels)) if isinstance(labels, list) else ()  # they may say how an answer is compared
    problem = Problem(str(row.get("id", "")), str(row.get("question", "")), answer, tags=tags)
    cut = Verdict(0.0, False, "cut off by the length limit")
    wrong = row.get("cut_off") != "graded"
    verdicts = [
        cut if wrong and s.get("stop") == "length" else verdict_of(task, problem, s["text"], extraction)
        for s in samples
    ]
    before = [s.get(STORED[extraction]) for s in samples]
    done.stored += sum(b is not None for b in before)
    done.changed += sum(b is not None and b != (v.score > 0) for b, v in zip(before, verdicts))
    return _count(done, verdicts)


def _refuse_changed(where: str, row: dict[str, Any], done: Tally) -> None:
    """Raises ValueError for a row that has changed since it was written, and for a second row of a problem."""
    again = "the command that drew it draws it again"
    if row["checksum"] != checksum_of({name: value for name, value in row.items() if name != "checksum"}):
        raise ValueError(f"{where}: the row has changed since it was written (its checksum says so); {again}")
    if (name := str(row.get("id"))) in done.ids:
        raise ValueError(f"{where}: problem {name} has a row already; {again}")
    done.ids.add(name)


def _count(done: Tally, verdicts: list[Verdict]) -> dict[str, Any]:
    done.rows += 1
    done.counts[len(verdicts), sum(v.score > 0 for v in verdicts)] += 1
    done.formatted += sum(v.formatted for v in verdicts)
    return {"correct": [v.score > 0 for v in verdicts], "reason": [v.reason for v in verdicts]}


def _text(where: str, row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(f"{where}: the field {column} is missing")
    value = row[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    # An answer that is NaN is no answer, and wrong; a reference that is NaN is a mistake of the file.
    if not isinstance(value, str) or (column == "gold" and value == "NaN" and not is_text(value)):
        raise ValueError(f"{where}: the field {column} is not text")
    return str(value)
