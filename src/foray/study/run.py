"""A study from its nodes to its report: what is missing is run by an executor, parents before children."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from foray import __version__
from foray.core.files import SEAL, read_json, seal, verify, write_atomic
from foray.core.provenance import program
from foray.core.sources import Rollouts, role_of
from foray.core.userfile import own_code_named
from foray.study.contracts import check_study
from foray.study.cost import node_cost
from foray.study.executors.local import LocalExecutor
from foray.study.executors.schedule import Executor, say
from foray.study.graph import Entry, Graph, expand
from foray.study.measures import ContaminationNode, PassKNode
from foray.study.nodes import ImportNode, Node, TrainNode
from foray.study.resumed import made_here, made_so_far, other_machines
from foray.study.settings import prompt_rows, recipe_rows, seed_rows
from foray.study.spec import Study
from foray.study.store import Store

_NOMINAL_RATE = 5e10  # FLOPs a second, to weigh nodes against each other


def run_study(
    study: Study,
    store: Store,
    console: Console,
    executor: Executor | None = None,
    part: str | None = None,
) -> Path:
    """Computes every missing node and writes the report; returns its ``index.html``.

    Without an ``executor`` in one worker process of this machine. Only the nodes of one ``part`` where it is named; the
    report is of all that is there.

    Raises ValueError with the node's own message when one fails; what is done stays done.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from foray.study.executors.torchrun import run_together

        return run_together(study, store, console, part)
    with store.lock():
        with own_code_named():
            graph = expand(study, part)
            missing = to_run(graph, store, console)
            console.print(f"{len(graph.nodes)} nodes, {len(graph.nodes) - len(missing)} done, {len(missing)} to run")
            check_before(study, missing)
        compute(missing, graph, study, store, console, executor or LocalExecutor(1))
        return report_study(study, store, redraw=bool(missing))


def check_before(study: Study, missing: Sequence[Node]) -> None:
    """Raises ValueError for what could only fail later: what the user's own code owes, libraries that are not there."""
    if missing:
        check_study(study.bound())
    for node in missing:
        node.check()


def compute(
    missing: list[Node], graph: Graph, study: Study, store: Store, console: Console, executor: Executor
) -> None:
    """Runs nodes of a graph, all of whose other parents are done.

    A line says where the machine rounds otherwise than that of what is there: before, if the nodes are run here, and
    behind, if elsewhere.
    """
    if not missing:
        return
    with own_code_named():
        cost = {n.key: node_cost(n, study.data.vocab_size).seconds(_NOMINAL_RATE) for n in missing}
    program()  # as it is now, for all workers: files may change while they run
    before, threads = made_so_far(graph.nodes, store), executor.threads_here(store)
    if threads:
        say(console, other_machines(graph.nodes, before, made_here(missing, store, threads)))
    executor.run(missing, store, console, cost)
    if not threads:
        say(console, other_machines(graph.nodes, before, made_so_far(missing, store)))


def to_run(graph: Graph, store: Store, console: Console) -> list[Node]:
    """The nodes that are not done. One whose results are not as they were sealed is set aside, which is said."""
    for node in graph.nodes:
        if damage := node.damage(store):
            text = f"{node.label()}: {damage.what}; {store.set_aside(damage.folder)}"
            say(console, text)
    return [n for n in graph.nodes if not n.done(store)]


def report_study(study: Study, store: Store, redraw: bool = True, axis: str = "tokens") -> Path:
    """Writes the manifest and the report of what is there; without ``redraw`` only if it would differ.

    Drawn against another ``axis`` (of ``foray.report.AXES``) it has a folder of its own.
    """
    from foray.report import write_report

    graph = expand(study)
    text = json.dumps(manifest_of(study, graph), indent=1, allow_nan=False) + "\n"
    facts = {"manifest": text, "present": sorted(n.key for n in graph.nodes if n.done(store)), "version": __version__}
    manifest = store.root / "manifest.json"
    out = store.root / ("report" if axis == "tokens" else f"report-{axis}")
    with store.claim(out.name, patience=600.0):
        if not redraw and _is_drawn(out, facts) and manifest.exists() and manifest.read_bytes() == text.encode():
            return out / "index.html"
        write_atomic(manifest, text)
        (out / SEAL).unlink(missing_ok=True)
        index = write_report(manifest, out, axis)
        seal(out, **facts)
    return index


def _is_drawn(out: Path, facts: dict[str, Any]) -> bool:
    """Whether a report of these facts is there, every file of it as it was written."""
    try:
        verify(out)
        return facts.items() <= read_json(out / SEAL).items()
    except ValueError:
        return False


def manifest_of(study: Study, graph: Graph) -> dict[str, Any]:
    """What the report needs to know of a study: each result's folder and the study's name for it."""
    return {
        "study": study.name,
        "model_parameters": _parameters(study),
        "k": list(study.evaluation.k),
        "notes": list(study.notes),
        "provenance": program(),
        "settings": {"recipes": recipe_rows(study), "seeds": seed_rows(study), "prompts": prompt_rows(study)},
        # An imported checkpoint has no log of its training to report.
        "nodes": [f"nodes/{n.kind}-{n.key}" for n in graph.nodes],
        "entries": [_entry(e, study) for e in graph.entries if not isinstance(e.node, ImportNode)],
    }


def _parameters(grid: Study) -> int:
    return replace(grid.model, vocab_size=grid.model.vocab_size or grid.data.vocab_size).parameters


def _entry(entry: Entry, study: Study) -> dict[str, Any]:
    node, grid = entry.node, entry.grid
    out: dict[str, Any] = {
        "kind": node.kind,
        "folder": f"nodes/{node.kind}-{node.key}",
        "part": entry.part,
        "pretrain_seed": entry.pretrain_seed,
        "tokens": entry.tokens,
        "recipe": entry.recipe,
        "stage_step": entry.stage_step,
        "final": entry.final,
        "seed": entry.seed,
    }
    if grid.pretrain.mix:
        out |= {"mix": grid.pretrain.mix, "math_heavy": grid.pretrain.math_heavy}
    if _parameters(grid) != _parameters(study):
        out["model_parameters"] = _parameters(grid)
    if entry.recipe != "base":
        out["trained_on"] = grid.post.task.name
    if grid.evaluation.split != study.evaluation.split:
        out["split"] = grid.evaluation.split
    if entry.variant:
        out |= {"variant": entry.variant, "own": entry.own, "against": entry.against}
    if isinstance(node, PassKNode):
        hard = bool(getattr(node.task, "hard", False))
        out |= {"task": node.task.name, "shots": node.shots, "hard": hard} | _rollouts(node)
    if isinstance(node, ContaminationNode):
        out |= {"task": node.task.name, "trained_on": node.trained.name}
    if isinstance(node, TrainNode):
        streams = {stream.name: role_of(stream.source) for stream in node.stage.members()}
        out |= {"stage": entry.stage, "streams": streams}
    return out


def _rollouts(node: PassKNode) -> dict[str, Any]:
    """Of a model inside or at the end of one stage of RL alone: rollouts a prompt and prompts so far."""
    made = node.checkpoint
    if not isinstance(made, TrainNode) or len(made.stage.streams) > 1:
        return {}
    source = getattr(made.stage.streams[0][1], "source", None)
    if not isinstance(source, Rollouts):
        return {}
    draws = -(-made.step // source.updates_per_draw)
    chosen = source.screen
    screen = {"screen": [chosen.low, chosen.high, chosen.extraction]} if chosen else {}
    return {"rollouts": source.group_size, "examples": draws * source.prompts} | screen
