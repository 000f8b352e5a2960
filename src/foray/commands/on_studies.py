"""The commands that run a study, report its results, and list its nodes and settings."""

from __future__ import annotations

import argparse
import csv
import errno
import os
import sys
import time
import webbrowser
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from foray.commands.on_two_studies import report_two
from foray.commands.options import forms_of, fuller_line, jobs_of, opened, require_store, show, store_alone, warn
from foray.commands.track import tracked
from foray.core.canonical import nearest, require
from foray.core.files import SPEC, json_text, require_own
from foray.core.spelling import in_tokens
from foray.core.terminal import tell
from foray.study.contracts import check_study
from foray.study.executors.local import LocalExecutor
from foray.study.executors.ray import RayExecutor
from foray.study.executors.slurm import SlurmExecutor
from foray.study.graph import Graph, expand
from foray.study.kinds.models import ImportNode
from foray.study.kinds.training import TrainNode
from foray.study.last_report import damaged_in, fuller_report, lost_results, only_of_another, own_files
from foray.study.manifest import manifest_of, report_results, report_study
from foray.study.named_studies import load_study
from foray.study.node import Node
from foray.study.price.tables import cell
from foray.study.progress import say
from foray.study.run import run_study
from foray.study.setting_words import settings_of
from foray.study.spec import Study
from foray.study.store import ASKED, MANIFEST, Store
from foray.study.study_command import StudyCommand
from foray.study.study_results import study_results
from foray.study.without_files import readers, without_files


def run(args: argparse.Namespace) -> None:
    study, store = opened(args)
    command = _command(args, store)
    executor = _executor(args, command)
    if args.dry_run:
        if not isinstance(executor, SlurmExecutor):
            raise ValueError("--dry-run prints what Slurm would get: add --executor slurm")
        check_study(study)
        print(executor.scripts([n for n in expand(study, args.part).nodes if not n.done(store)]))
        return
    study.grids(args.part)  # a part that the study lacks is refused before the store is made
    ours = (store.root / ASKED).exists() or any(store.root.glob(f"nodes/*/{SPEC}"))
    require_own(store.root, ours, (MANIFEST, "nodes", "report", "claims"), "name another --store")
    if os.environ.get("RANK", "0") == "0" and (line := fuller_line(study, store)):
        warn(f"{line}, until this run's report takes its place")
    console = Console()
    begun = time.monotonic()
    with tracked(args, store):
        index = run_study(study, store, console, executor, args.part, command)
    _print_claims(index.parent, console)
    say(console, f"took:   {(time.monotonic() - begun) / 60:.1f} minutes")
    say(console, f"report: {index}")
    say(console, f"table:  {index.parent / 'results.csv'}")


def _executor(args: argparse.Namespace, command: StudyCommand) -> LocalExecutor | RayExecutor | SlurmExecutor:
    alone = "TORCHELASTIC_RUN_ID" not in os.environ
    for option, given in (("--executor", args.executor != "local"), ("--jobs", args.jobs is not None)):
        require(alone or not given, f"under torchrun the workers are its processes: leave out {option}")
    jobs = jobs_of(args)
    for option, value, kind in (("--address", args.address, "ray"), ("--slurm", args.slurm, "slurm")):
        require(not value or args.executor == kind, f"{option} goes with --executor {kind}")
    if args.executor == "ray":
        return RayExecutor(command, jobs, args.address)
    if args.executor == "slurm":
        return SlurmExecutor(command, args.slurm, args.jobs)
    return LocalExecutor(jobs)


def _command(args: argparse.Namespace, store: Store) -> StudyCommand:
    settings, how = tuple(args.settings), tuple(args.machine_settings)
    return StudyCommand(args.study, settings, args.part, str(store.root.resolve()), os.getcwd(), how)


def report(args: argparse.Namespace) -> None:
    try:
        (report_two if args.other else _report_one)(args)
    except OSError as e:
        unread = e.filename is not None and Path(e.filename).is_file() and not os.access(e.filename, os.R_OK)
        unwritten = e.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and not unread
        if args.out is None and unwritten:  # the store of a colleague
            words = f"{e.strerror}; --out FOLDER writes the report elsewhere"
            raise OSError(e.errno, words, e.filename) from None
        raise


def _report_one(args: argparse.Namespace) -> None:
    how: dict[str, Any] = {"axis": args.x, "paper": args.paper == "on", "out": args.out, "tables": forms_of(args)}
    if folder := store_alone(args):
        content, own = study_results(args.study).manifest, own_files(folder)
        lost = lost_results(folder)
        require(not lost or args.out is not None, f"{lost}; --out FOLDER writes that of what is there, and keeps it")
        index = report_results(content, Store(folder), **how)
        warn(lost)
        _warn_of(content, folder)
        warn(f"left out: {', '.join(own)}; name the study for its own figures and sections" if own else "")
    else:
        index = _report_study(args, how)
    _print_claims(index.parent, Console())
    tell(str(index))


def _report_study(args: argparse.Namespace, how: Mapping[str, Any]) -> Path:
    study, store = opened(args)
    require_store(store, args.study)
    content = manifest_of(study, expand(study))
    other = only_of_another(store.root, args.study, content)
    require(not other, other)
    line = fuller_report(store.root, content) or lost_results(store.root)
    require(not line or args.out is not None, f"{line}; --out FOLDER writes that of what is there, and keeps it")
    index = report_study(study, store, **how, content=content)
    warn(line)
    _warn_of(content, store.root)
    return index


def _warn_of(content: Mapping[str, Any], root: Path) -> None:
    """Says which damaged results the report of a manifest leaves out."""
    damaged = damaged_in(content, root)
    more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
    warn(f"left out: {damaged[0]}{more}; `foray run` makes it anew" if damaged else "")


def _print_claims(folder: Path, console: Console) -> None:
    """Prints a short claims table of a report: each claim with its answer, the comparison that decided, and why."""
    claims = _rows(folder / "claims.csv")
    if not claims:
        return
    from foray.report.rules import CLAIMS

    names = {claim.name: claim.short for claim in CLAIMS}
    needs = _rows(folder / "comparisons.csv")
    reasons = {row["claim"]: f"{row['why']}; must lie {row['must']}" for row in needs if row["why"]}
    otherwise = _otherwise(folder / "firmness.csv")
    answer = Column("answer", no_wrap=True)
    table = Table("", "claim, and the comparison that decided", answer, box=None, pad_edge=False)
    for row in claims:
        lines = [names[row["claim"]], row["note"]]
        if row["value"]:
            # No number is shown as -0.0.
            value, lo, hi = (round(100 * float(row[name] or "nan"), 1) + 0.0 for name in ("value", "lo", "hi"))
            lines[1:] = [f"{value:+.1f} [{lo:+.1f}, {hi:+.1f}]  {row['effect']}", reasons.get(row["claim"], "")]
        lines.append(otherwise.get(row["claim"], ""))
        table.add_row(*map(cell, (row["claim"], "\n".join(filter(None, lines)), row["answer"])))
    console.print(table, highlight=False)


def _otherwise(file: Path) -> dict[str, str]:
    """By claim, the other answers that it has with one choice of the analysis changed."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in _rows(file):
        if row["same"] == "False":
            found.setdefault(row["claim"], {}).setdefault(row["answer"], []).append(row["changed"])
    return {
        claim: "; ".join(
            f"otherwise {answer} ({changes[0]}{f' and {len(changes) - 1} more' if len(changes) > 1 else ''})"
            for answer, changes in answers.items()
        )
        for claim, answers in found.items()
    }


def _rows(file: Path) -> list[dict[str, str]]:
    """The rows of a report's table; none where it is not there, as where no claim was run."""
    if not file.exists():
        return []
    with open(file, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def open_report(args: argparse.Namespace) -> None:
    folder, line = store_alone(args), ""
    if folder is None:
        study, store = opened(args)
        folder, line = store.root, fuller_line(study, store)
    index = folder / "report" / "index.html"
    require(index.is_file(), f"there is no report {index}; foray run or foray report writes it")
    warn(line)
    tell(str(index))
    # Without a screen a browser of the terminal would take the terminal.
    if sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(index.resolve().as_uri())


def settings(args: argparse.Namespace) -> None:
    study = load_study(args.study, args.settings)
    every = list(settings_of(study))
    found = [row for row in every if all(word in row[0] or word in row[2] for word in args.words)]
    words = nearest(args.words[0], {part for key, *_ in every for part in key.split(".")}) if args.words else ""
    require(bool(found), f"no key and no meaning has {' and '.join(args.words)}{words}")
    table = Table(Column("key", overflow="fold"), Column("value", overflow="fold"), "meaning", box=None, pad_edge=False)
    for row in found:
        table.add_row(*map(cell, row))
    show(table)


def ls(args: argparse.Namespace) -> None:
    study, store = opened(args)
    require_store(store, args.study)
    study, missing = without_files(study)
    graph = expand(study)
    warn(fuller_line(study, store, graph))
    unknown = readers(graph.nodes) if missing else set[str]()
    graph = replace(graph, entries=tuple(e for e in graph.entries if e.node.key not in unknown))
    left_out = "left out is what reads it, for content names folders; --set data.root=FOLDER"
    warn(f"{missing}: {left_out}" if missing else "")
    if args.json:
        print(json_text(_listed(study, store, graph), indent=1))
        return
    # Lines are not wrapped, so that a user can copy a folder. Seeds: pre-training/post-training.
    shown = [e for e in graph.entries if isinstance(e.node, TrainNode | ImportNode)]
    wide = max((len(e.recipe) for e in shown), default=0)
    line = f"{{:>15}}  {{:<{max(wide, len('recipe'))}}} {{:>5}} {{:>6}}  {{:<8}} {{}}"
    print(line.format("M_t tokens", "recipe", "seeds", "step", "state", "folder"))
    lines = []
    for e in shown:
        state, folder = _state(e.node, store), str(e.node.folder(store))
        words = "".join(f"  ({x})" for x in (e.grid.pretrain.mix, e.variant) if x)
        seeds = f"{e.pretrain_seed}/{e.seed}"
        lines.append(line.format(in_tokens(e.tokens), e.recipe, seeds, e.stage_step, state, folder) + words)
    tell("\n".join(dict.fromkeys(lines)))


def _listed(study: Study, store: Store, graph: Graph) -> dict[str, Any]:
    """All checkpoints and evaluations: the manifest's entries, each with its state and with paths to open."""
    found: dict[str, list[dict[str, Any]]] = {"checkpoints": [], "evaluations": []}
    for e in graph.entries:
        made = e.checkpoint
        model = {"tokens": e.tokens, "recipe": e.recipe, "variant": e.variant, "mix": e.grid.pretrain.mix}
        model |= {"part": e.part, "pretrain_seed": e.pretrain_seed, "seed": e.seed, "step": e.stage_step}
        model |= {"final": e.final, "state": _state(e.node, store), "folder": str(e.node.folder(store))}
        if made is e.node:
            found["checkpoints"].append(model | {"path": str(e.node.folder(store) / "model")})
            continue
        asked = {name: getattr(e.node, name, None) for name in ("split", "problems", "shots", "samples", "temperature")}
        named = {"kind": e.node.kind, "task": getattr(getattr(e.node, "task", None), "name", None)}
        of = {"checkpoint": str(made.folder(store)) if made else None}
        found["evaluations"].append({**named, **model, **asked, **of})
    return {"study": study.name, "store": str(store.root), **found}


def _state(node: Node, store: Store) -> str:
    if node.done(store):
        return "done"
    return "started" if node.folder(store).exists() else "to run"
