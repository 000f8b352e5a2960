"""The manifest, which tells the report what every result is, and the report drawn from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from foray.core.canonical import require
from foray.core.files import DRAWING, SEAL, digest, json_text, read_json, seal, sealed, verify, write_atomic
from foray.core.foray_version import VERSION
from foray.core.provenance import program
from foray.core.sources import Rollouts, role_of
from foray.study.excursions import GraphEntry
from foray.study.graph import Graph, expand
from foray.study.kinds.measures import ContaminationNode, MeasureNode, PassKNode, TaskTextNode
from foray.study.kinds.models import ImportNode
from foray.study.kinds.training import TrainNode
from foray.study.last_report import nodes_in
from foray.study.setting_tables import setting_tables
from foray.study.spec import Study
from foray.study.store import MANIFEST, Store


def report_study(
    study: Study, store: Store, redraw: bool = True, axis: str = "tokens", paper: bool = True,
    out: Path | None = None, tables: Sequence[str] = (), content: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Writes the manifest and the report of the finished nodes; without ``redraw`` only if they would differ.

    Returns the report's ``index.html``. A report against another ``axis`` (of ``foray.report.AXES``) has a folder of
    its own. With ``paper``, the paper's curves and numbers stand beside ours. ``out``: another folder than the store's,
    new or empty or with an earlier report; nothing is written to the store then. ``tables``: further forms of the
    results, of ``foray.report.FORMS``. ``content``: the study's manifest, where it is made already.
    """
    own = [Path(file).absolute() for file in study.report]
    content = content or manifest_of(study, expand(study))
    return report_results(content, store, own, redraw, axis, paper, out, tables)


def report_results(
    content: Mapping[str, Any], store: Store, own: Sequence[Path] = (), redraw: bool = True, axis: str = "tokens",
    paper: bool = True, out: Path | None = None, tables: Sequence[str] = (),
) -> Path:  # fmt: skip
    """``report_study`` of a manifest's ``content``, with ``own`` figures and sections."""
    from foray.report import check_forms, write_report  # takes a second

    check_forms(tables)
    manifest, text = store.root / MANIFEST, json_text(content, indent=1) + "\n"
    facts: dict[str, Any] = {
        "manifest": text,
        "present": sorted(name.rpartition("-")[2] for name in nodes_in(content, manifest) if sealed(store.root / name)),
        "version": VERSION,
        "paper": paper,
        "own": [[str(f), digest(f) if f.is_file() else ""] for f in own],
    }
    usual = store.root / ("report" if axis == "tokens" else f"report-{axis}")
    apart = out is not None and out.resolve() != usual.resolve()
    out = out if out is not None and apart else usual
    if apart:
        check_out(out)
    with nullcontext() if apart else store.claim(usual.name, patience=600.0):
        if not redraw and _is_drawn(out, facts) and manifest.exists() and manifest.read_bytes() == text.encode():
            return out / "index.html"
        if not apart:
            write_atomic(manifest, text)
        with drawing_into(out):
            index = write_report(manifest, out, axis, own, paper, content, tables)
            seal(out, **facts)
    return index


def check_out(out: Path) -> None:
    """Raises ValueError where a folder that a user named for a report holds anything but an earlier report.

    A report that was not drawn to its end counts: the same command draws it again.
    """
    if out.exists() and any(out.iterdir()):
        ours = (out / DRAWING).is_file() or ((out / SEAL).is_file() and (out / "index.html").is_file())
        require(ours, f"{out} holds other files; name a new --out")


@contextmanager
def drawing_into(out: Path) -> Iterator[None]:
    """Inside, a folder has no seal, and a mark of Foray's that stays after a kill or an error."""
    out.mkdir(parents=True, exist_ok=True)
    (out / DRAWING).touch()
    (out / SEAL).unlink(missing_ok=True)
    yield
    (out / DRAWING).unlink(missing_ok=True)  # another command may draw into the same --out


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
        "grading": study.evaluation.grading,
        "split": study.evaluation.split,
        "temperature": study.evaluation.temperature,
        "notes": list(study.notes),
        "provenance": program(),
        "settings": setting_tables(study),
        "nodes": [f"nodes/{n.kind}-{n.key}" for n in graph.nodes],
        # An imported checkpoint has no log of its training to report.
        "entries": [_row(r, study) for r in graph.entries if not isinstance(r.node, ImportNode)],
    }


def _parameters(grid: Study) -> int:
    return grid.model.sized(grid.data.vocab_size).parameters


def _row(reported: GraphEntry, study: Study) -> dict[str, Any]:
    node, grid, made = reported.node, reported.grid, reported.checkpoint
    out: dict[str, Any] = {
        "kind": node.kind,
        "folder": f"nodes/{node.kind}-{node.key}",
        "part": reported.part,
        "pretrain_seed": reported.pretrain_seed,
        "tokens": reported.tokens,
        "recipe": reported.recipe,
        "stage_step": reported.stage_step,
        "final": reported.final,
        "seed": reported.seed,
    }
    if made:
        out["checkpoint"] = f"nodes/{made.kind}-{made.key}"
    if grid.pretrain.mix:
        out |= {"mix": grid.pretrain.mix, "math_heavy": grid.pretrain.math_heavy}
    if (hard := _hard_share(grid)) is not None:
        out["hard_share"] = hard
    if _parameters(grid) != _parameters(study):
        out["model_parameters"] = _parameters(grid)
    if reported.recipe != "base":
        out["trained_on"] = grid.post.task.name
    split = node.split if isinstance(node, PassKNode) else grid.evaluation.split
    if split != study.evaluation.split:
        out["split"] = split
    if reported.variant:
        out |= {"variant": reported.variant, "own": reported.own, "against": reported.against}
    if isinstance(node, PassKNode):
        hard = bool(getattr(node.task, "hard", False))
        out |= {"task": node.task.name, "shots": node.shots, "hard": hard} | _rollouts(node)
        if node.temperature != study.evaluation.temperature:
            out["temperature"] = node.temperature
    if isinstance(node, ContaminationNode):
        out |= {"task": node.task.name, "trained_on": node.trained.name}
    if isinstance(made, TrainNode):
        out |= _of_training(made)
    if isinstance(node, TaskTextNode):
        out["task"] = node.task.name
    if isinstance(node, MeasureNode):
        out["task"] = node.measure.name
    if isinstance(node, TrainNode):
        pairs = [(stream, member) for _, stream in node.stage.streams for _, member in stream.members]
        streams = {node.stage.logged(stream, member): role_of(member.source) for stream, member in pairs}
        out |= {"stage": reported.stage, "streams": streams}
    return out


def _hard_share(grid: Study) -> float | None:
    """Of hard problems in the math that the mix has, where its sources say so."""
    shares = [getattr(source, "hard_share", None) for _, source in grid.text.mixture] if grid.text else []
    return max((float(s) for s in shares if s is not None), default=None)


def _of_training(made: TrainNode) -> dict[str, Any]:
    """The rates of a model's last stage by role, and where the stop rule may have ended the stage."""
    rates = {
        role_of(member.source): stream.optimizer.lr for _, stream in made.stage.streams for _, member in stream.members
    }
    out: dict[str, Any] = {"learning_rates": rates}
    if made.stage.stop is not None:
        out["stop"] = {"folder": f"nodes/{made.kind}-{made.key}", "step": made.step}
    return out


def _rollouts(node: PassKNode) -> dict[str, Any]:
    """Rollouts a prompt and prompts so far, of a checkpoint that one stage of RL alone has made."""
    made = node.checkpoint
    if not isinstance(made, TrainNode) or len(made.stage.streams) > 1:
        return {}
    source = getattr(made.stage.streams[0][1], "source", None)
    if not isinstance(source, Rollouts):
        return {}
    several = {"updates_per_draw": source.updates_per_draw} if source.updates_per_draw > 1 else {}
    draws = -(-made.step // source.updates_per_draw)
    chosen = source.screen
    screen = {"screen": [chosen.low, chosen.high, chosen.extraction]} if chosen else {}
    return {"rollouts": source.group_size, "examples": draws * source.prompts} | several | screen
