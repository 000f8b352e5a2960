"""The local executor: runs what is missing, shows how it goes, writes the manifest and the report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from foray.core.files import seal, write_atomic
from foray.study.cost import node_cost
from foray.study.graph import Entry, Graph, expand
from foray.study.nodes import Node, PassKNode, PerplexityNode, ProbesNode, TrainNode
from foray.study.spec import Study
from foray.study.store import Store, provenance


def run_study(study: Study, store: Store, console: Console) -> Path:
    """Computes every missing node and writes the report; returns the path of its ``index.html``."""
    with store.lock():
        graph = expand(study)
        missing = [n for n in graph.nodes if not n.done(store)]
        _say_plan(graph, missing, console)
        weights = [max(node_cost(n, study.data.vocab_size).flops, 1e8) for n in missing]
        with _progress(console) as show:
            for number, node in enumerate(missing):
                show.begin(number, node, weights)
                run_node(node, store, show.report)
                show.end()
        return report_study(study, store, graph)


def run_node(node: Node, store: Store, report: Any = lambda **_: None) -> Path:
    """Runs one node whose parents are done, and seals its folder."""
    folder = store.open(node.kind, node.key, node.spec)
    node.run(folder, store, report)
    seal(folder, label=node.label())
    return folder


def report_study(study: Study, store: Store, graph: Graph | None = None) -> Path:
    """Writes the manifest and the report of what is there."""
    from foray.report import write_report

    graph = graph or expand(study)
    manifest = store.root / "manifest.json"
    write_atomic(manifest, json.dumps(manifest_of(study, graph), indent=1) + "\n")
    return write_report(manifest, store.root / "report")


def manifest_of(study: Study, graph: Graph) -> dict[str, Any]:
    """What the report needs to know of a study: each result's folder and the study's name for it."""
    return {
        "study": study.name,
        "model_parameters": next((_parameters(n, study) for n in graph.nodes if isinstance(n, TrainNode)), 0),
        "k": list(study.evaluation.k),
        "notes": list(study.notes),
        "provenance": provenance(),
        "entries": [_entry(e) for e in graph.entries],
    }


def _parameters(node: TrainNode, study: Study) -> int:
    from dataclasses import replace

    size = node.model.vocab_size or study.data.vocab_size
    return replace(node.model, vocab_size=size).parameters


def _entry(entry: Entry) -> dict[str, Any]:
    node = entry.node
    out = {
        "kind": node.kind,
        "folder": f"nodes/{node.kind}-{node.key}",
        "tokens": entry.tokens,
        "recipe": entry.recipe,
        "stage_step": entry.stage_step,
        "final": entry.final,
        "seed": entry.seed,
    }
    if isinstance(node, PassKNode):
        out |= {"task": node.task.name, "shots": node.shots}
    if isinstance(node, TrainNode):
        out |= {"stage": entry.stage}
    assert isinstance(node, PassKNode | TrainNode | ProbesNode | PerplexityNode)
    return out


def _say_plan(graph: Graph, missing: list[Node], console: Console) -> None:
    console.print(f"{len(graph.nodes)} nodes, {len(graph.nodes) - len(missing)} done, {len(missing)} to run")


class _Show:
    """A bar for the study, weighted by FLOPs, and one for the node at work; plain lines where there is no terminal."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self.progress, self.console = progress, console
        self.overall: TaskID | None = None
        self.current: TaskID | None = None
        self.begun = self.node_begun = time.monotonic()
        self.done_weight = self.weight = self.total_weight = 0.0
        self.number = self.count = 0
        self.label = ""

    def begin(self, number: int, node: Node, weights: list[float]) -> None:
        self.number, self.count, self.label = number + 1, len(weights), node.label()
        self.done_weight, self.weight, self.total_weight = sum(weights[:number]), weights[number], sum(weights)
        self.node_begun = time.monotonic()
        if self.overall is None:
            self.overall = self.progress.add_task("study", total=self.total_weight, detail="")
        self.current = self.progress.add_task(self.label, total=None, detail="")
        self._update_overall(0.0)

    def report(self, *, done: float = 0, total: float | None = None, start: float = 0, **values: float) -> None:
        assert self.current is not None
        shown = []
        tokens = sum(v for k, v in values.items() if k.endswith("tokens"))
        if tokens and (seconds := values.get("seconds", 0.0)):
            shown.append(f"{tokens / seconds:,.0f} tokens/s")
        for name in ("reward", "score", "loss"):
            shown += [f"{k} {v:.3f}" for k, v in values.items() if k == name or k.endswith(f"/{name}")]
        self.progress.update(self.current, completed=done, total=total, detail="  ".join(shown))
        if total:
            self._update_overall(max(0.0, done - start) / max(1e-9, total - start))

    def end(self) -> None:
        assert self.current is not None
        self.progress.remove_task(self.current)
        self._update_overall(1.0)
        seconds = time.monotonic() - self.node_begun
        if not self.console.is_terminal or seconds > 1:
            self.console.print(
                f"[{self.number}/{self.count}] {self.label}: {seconds:.1f} s", markup=False, highlight=False
            )

    def _update_overall(self, share: float) -> None:
        assert self.overall is not None
        done = self.done_weight + share * self.weight
        elapsed = time.monotonic() - self.begun
        left = elapsed / done * (self.total_weight - done) if done > 0 else 0.0
        detail = f"about {left / 60:.0f} min left" if elapsed > 10 and done > 0 else ""
        self.progress.update(
            self.overall, completed=done, detail=detail, description=f"node {self.number}/{self.count}"
        )


@contextmanager
def _progress(console: Console) -> Iterator[_Show]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    detail = TextColumn("{task.fields[detail]}")
    with Progress(*columns, detail, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield _Show(progress, console)
