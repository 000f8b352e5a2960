"""A mirror of a store in an experiment tracker: the logs of each training and finished evaluations, logged once.

The mirror reads the store and takes no lock. It notes what it has logged in a file of its own beside the tracker's
data: a mirror that starts again goes on from there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from foray.core.files import json_text, read_jsonl, write_atomic
from foray.core.passk import pass_at_k
from foray.core.task import STORED
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.spec import Study
from foray.study.store import Store
from foray.study.trackers import RunFacts, TrackedRun, Tracker
from foray.train.stage_logs import METRICS, ROLLOUTS

_PROBLEMS, _SAMPLES, _LETTERS = 16, 2, 2000  # of a completions table; a kept draw's has all samples


def tracking_folder(store: Store, tracker: str) -> Path:
    return store.root / "tracking" / re.sub(r"[^\w.]+", "-", tracker)


class Notes:
    """What a mirror has logged: a number for each name of a node. A note is a line of a file, written at once.

    So a mirror that is killed logs again, at most, the one thing that it had logged and not noted yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._noted: dict[str, dict[str, int]] = {}
        for line in file.read_bytes().split(b"\n")[:-1] if file.exists() else ():  # a last line cut short says nothing
            try:
                key, name, number = json.loads(line)
                self._noted.setdefault(key, {})[name] = int(number)
            except (ValueError, TypeError):
                raise ValueError(f"{file} is damaged: delete it, and everything is logged again") from None
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, "".join(_line(key, *item) for key, noted in self._noted.items() for item in noted.items()))

    def of(self, node: Node, name: str) -> int:
        return self._noted.get(node.key, {}).get(name, 0)

    def note(self, node: Node, name: str, number: int = 1) -> None:
        self._noted.setdefault(node.key, {})[name] = number
        with open(self._file, "a", encoding="utf-8") as f:
            f.write(_line(node.key, name, number))


def _line(key: str, name: str, number: int) -> str:
    return json_text([key, name, number]) + "\n"


class Mirror:
    """One tracker's mirror of one study."""

    def __init__(self, study: Study, store: Store, tracker: Tracker, folder: Path) -> None:
        graph = expand(study)
        self._study, self._store, self._tracker, self._folder = study.name, store, tracker, folder
        self._grading, self._k = study.evaluation.grading, study.evaluation.k
        self.nodes = [n for n in graph.nodes if isinstance(n, TrainNode)]
        self._evaluations: dict[str, list[PassKNode]] = {}
        for n in graph.nodes:
            if isinstance(n, PassKNode):
                self._evaluations.setdefault(n.checkpoint.key, []).append(n)
        self._notes = Notes(folder / "logged.jsonl")
        self._runs: dict[str, TrackedRun] = {}
        self._seen: dict[tuple[str, str], tuple[int, ...]] = {}  # size and time of a log as it was read last, and more

    def done(self) -> bool:
        """Whether everything that will be logged is finished."""
        evaluations = [e for n in self.nodes for e in self._evaluations.get(n.key, ())]
        return all(n.done(self._store) for n in (*self.nodes, *evaluations))

    def look(self) -> None:
        """Logs what is new. A run is open from its first news until its training and its evaluations are finished."""
        for node in self.nodes:
            done = node.done(self._store)  # asked first: a log that ends during the look is read again
            for row in self._rows(node, METRICS):
                # A killed training makes some steps anew. A step that was logged is not logged again.
                if row["step"] > self._notes.of(node, "step"):
                    step = row.pop("step")
                    self._run(node).numbers(step, _numbers(row))
                    self._notes.note(node, "step", step)
            self._kept_draws(node)
            if done and not self._notes.of(node, "flags"):
                if flags := node.health(self._store):
                    self._run(node).flags(self._notes.of(node, "step"), flags)
                self._notes.note(node, "flags")
            evaluations = self._evaluations.get(node.key, ())
            for evaluation in evaluations if done else ():
                if evaluation.done(self._store) and not self._notes.of(node, evaluation.key):
                    self._evaluated(node, evaluation)
                    self._notes.note(node, evaluation.key)
            if done and node.key in self._runs and all(e.done(self._store) for e in evaluations):
                self._runs.pop(node.key).close()

    def close(self) -> None:
        for key in list(self._runs):
            self._runs.pop(key).close()

    def _run(self, node: TrainNode) -> TrackedRun:
        if node.key not in self._runs:
            after = self._notes.of(node, "step")
            facts = RunFacts(node.key, node.label(), self._study, node.spec, self._folder, after)
            self._runs[node.key] = self._tracker.open(facts)
        return self._runs[node.key]

    def _rows(self, node: TrainNode, name: str, *beside: int) -> Iterator[dict[str, Any]]:
        """The whole rows of a log that has changed since the last call, or that was read beside other numbers then."""
        try:
            file = node.folder(self._store) / name
            state = file.stat()
            seen = state.st_size, state.st_mtime_ns, *beside
            if self._seen.get((node.key, name)) == seen:
                return
            content = file.read_bytes()
        except FileNotFoundError:
            return
        for line in content.split(b"\n")[:-1]:  # the last line may still grow
            try:
                row = json.loads(line)
                row["step"] = int(row["step"])
            except (ValueError, KeyError, TypeError):
                return  # damaged: the training cuts its log here when it goes on
            yield row
        self._seen[node.key, name] = seen

    def _kept_draws(self, node: TrainNode) -> None:
        """A completions table for each draw whose groups were kept, once the draw's update is logged.

        The log of the update is written after the groups, so the groups are then all there.
        """
        logged = self._notes.of(node, "step")
        rows = (r for r in self._rows(node, ROLLOUTS, logged) if self._notes.of(node, "draw") < r["step"] <= logged)
        for step, draw in groupby(rows, lambda row: int(row["step"])):
            for stream, groups in groupby(draw, lambda row: str(row["stream"])):
                self._run(node).completions(step, f"rollouts/{stream}", list(_drawn(groups)))
            self._notes.note(node, "draw", step)

    def _evaluated(self, node: TrainNode, evaluation: PassKNode) -> None:
        folder, step = evaluation.folder(self._store), self._notes.of(node, "step")
        title = f"{evaluation.task.name} {evaluation.split} {evaluation.shots}-shot seed {evaluation.seed}"
        rows = read_jsonl(folder / "problems.jsonl")
        if not rows:
            return
        correct, samples = [int(r["correct"][self._grading]) for r in rows], [int(r["samples"]) for r in rows]
        means = {k: pass_at_k(correct, samples, k).mean() for k in self._k if k <= min(samples)}
        run = self._run(node)
        run.completions(step, title, list(_table(folder / "completions.jsonl", STORED[self._grading])))
        # Last, and noted at once: a table that comes twice does no harm.
        run.numbers(step, {f"pass@{k}/{title}": float(value) for k, value in means.items()})


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    kept = {name: float(x) for name, x in row.items() if isinstance(x, int | float) and not isinstance(x, bool)}
    return {name: x for name, x in kept.items() if math.isfinite(x)}


def _table(file: Path, verdict: str) -> Iterator[dict[str, str]]:
    """``verdict``: the field of a sample that says whether the sample is right."""
    for problem in read_jsonl(file)[:_PROBLEMS]:
        for sample in problem["samples"][:_SAMPLES]:
            yield _asked(problem, sample) | {"correct": "yes" if sample.get(verdict) else "no"}


def _drawn(groups: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Every completion of the first groups of a kept draw."""
    for group in list(groups)[:_PROBLEMS]:
        for sample in group["samples"]:
            worth = {name: f"{sample[name]:g}" for name in ("reward", "advantage")}
            yield _asked(group, sample) | worth


def _asked(problem: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, str]:
    texts = {"problem": problem["id"], "question": problem["question"], "completion": sample["text"]}
    return {name: str(text)[:_LETTERS] for name, text in texts.items()}
