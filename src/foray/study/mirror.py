"""A mirror of a store in an experiment tracker: what ``metrics.jsonl`` and finished evaluations say, logged once.

The mirror reads the store and takes no lock. It notes the last logged step of each training in a file of its own beside
the tracker's data: a mirror that starts again goes on from there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foray.core.files import read_json, read_jsonl, write_json
from foray.core.passk import pass_at_k
from foray.core.task import STORED
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.kinds.stage_logs import METRICS
from foray.study.kinds.training import TrainNode
from foray.study.spec import Study
from foray.study.store import Store
from foray.study.trackers import RunFacts, TrackedRun, Tracker

_PROBLEMS, _SAMPLES, _LETTERS = 16, 2, 2000  # of a completions table
_ROWS = 100  # logged between two notes


def tracking_folder(store: Store, tracker: str) -> Path:
    return store.root / "tracking" / re.sub(r"[^\w.]+", "-", tracker)


class Mirror:
    """One tracker's mirror of one study."""

    def __init__(self, study: Study, store: Store, tracker: Tracker, folder: Path) -> None:
        graph = expand(study)
        self._study, self._store, self._tracker, self._folder = study.name, store, tracker, folder
        self._grading = study.evaluation.grading
        self.nodes = [n for n in graph.nodes if isinstance(n, TrainNode)]
        self._measures: dict[str, list[PassKNode]] = {}
        for n in graph.nodes:
            if isinstance(n, PassKNode):
                self._measures.setdefault(n.checkpoint.key, []).append(n)
        self._file = folder / "logged.json"
        self._logged: dict[str, dict[str, Any]] = read_json(self._file) if self._file.exists() else {}
        self._runs: dict[str, TrackedRun] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # size and time of a log as it was read last

    def done(self) -> bool:
        """Whether everything that will be logged is finished."""
        measures = [m for n in self.nodes for m in self._measures.get(n.key, ())]
        return all(n.done(self._store) for n in (*self.nodes, *measures))

    def look(self) -> None:
        """Logs what is new. A run is open from its first news until its training and its evaluations are finished."""
        for node in self.nodes:
            done = node.done(self._store)  # asked first: a log that ends during the look is read again
            for step, values in self._rows(node):
                self._run(node).numbers(step, values)
                self._note(node, save=step % _ROWS == 0, step=step)
            if done and not self._noted(node, "flags"):
                if flags := node.health(self._store):
                    self._run(node).flags(self._noted(node, "step"), flags)
                self._note(node, flags=1)
            for measure in self._measures.get(node.key, ()) if done else ():
                if measure.done(self._store) and not self._noted(node, measure.key):
                    self._measured(node, measure)
                    self._note(node, True, **{measure.key: 1})
            if done and node.key in self._runs and all(m.done(self._store) for m in self._measures.get(node.key, ())):
                self._runs.pop(node.key).close()
        self._save()

    def close(self) -> None:
        for key in list(self._runs):
            self._runs.pop(key).close()

    def _noted(self, node: TrainNode, name: str) -> int:
        return int(self._logged.get(node.key, {}).get(name, 0))

    def _note(self, node: TrainNode, save: bool = True, **values: int) -> None:
        self._logged.setdefault(node.key, {}).update(values)
        if save:
            self._save()

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._file, self._logged)

    def _run(self, node: TrainNode) -> TrackedRun:
        if node.key not in self._runs:
            after = self._noted(node, "step")
            facts = RunFacts(node.key, node.label(), self._study, node.spec, self._folder, after)
            self._runs[node.key] = self._tracker.open(facts)
        return self._runs[node.key]

    def _rows(self, node: TrainNode) -> Iterator[tuple[int, dict[str, float]]]:
        """The rows beyond the last logged step.

        A killed training cuts its log back and makes some steps anew. A step that was logged is not logged again.
        """
        try:
            file = node.folder(self._store) / METRICS
            state = file.stat()
            seen = state.st_size, state.st_mtime_ns
            if self._seen.get(node.key) == seen:
                return
            content = file.read_bytes()
        except FileNotFoundError:
            return
        for line in content.split(b"\n")[:-1]:  # the last line may still grow
            try:
                row = json.loads(line)
                step = int(row.pop("step"))
            except (ValueError, KeyError, TypeError, AttributeError):
                return  # damaged: the training cuts its log here when it goes on
            if step > self._noted(node, "step"):
                yield step, _numbers(row)
        self._seen[node.key] = seen

    def _measured(self, node: TrainNode, measure: PassKNode) -> None:
        folder, step = measure.folder(self._store), self._noted(node, "step")
        title = f"{measure.task.name} {measure.split} {measure.shots}-shot seed {measure.seed}"
        rows = read_jsonl(folder / "problems.jsonl")
        if not rows:
            return
        correct, samples = [int(r["correct"][self._grading]) for r in rows], [int(r["samples"]) for r in rows]
        means = {k: pass_at_k(correct, samples, k).mean() for k in (1, 8, 32) if k <= min(samples)}
        run = self._run(node)
        run.numbers(step, {f"pass@{k}/{title}": float(value) for k, value in means.items()})
        run.completions(step, title, list(_table(folder / "completions.jsonl", STORED[self._grading])))


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    kept = {name: float(x) for name, x in row.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return {name: x for name, x in kept.items() if math.isfinite(x)}


def _table(file: Path, verdict: str) -> Iterator[tuple[str, str, str, str]]:
    """``verdict``: the field of a sample that says whether the sample is right."""
    for problem in read_jsonl(file)[:_PROBLEMS]:
        for sample in problem["samples"][:_SAMPLES]:
            texts = (str(x)[:_LETTERS] for x in (problem["id"], problem["question"], sample["text"]))
            yield *texts, "yes" if sample.get(verdict) else "no"  # type: ignore[misc]
