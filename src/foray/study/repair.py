"""What a check found damaged, made anew by the studies that ran in the store: nodes, and reports."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from rich.console import Console

from foray.core.canonical import require
from foray.core.files import SEAL, Damaged, read_json, sealed_files, verify_file
from foray.core.machine import Machine, machine
from foray.study.executors.compute import compute
from foray.study.executors.local import LocalExecutor
from foray.study.graph import Graph, expand
from foray.study.integrity import DamagedFolder
from foray.study.last_report import last_manifest, typed
from foray.study.manifest import report_study
from foray.study.named_studies import load_study
from foray.study.progress import say
from foray.study.spec import Study
from foray.study.store import AGAINST, Store
from foray.study.study_command import StudyCommand, remembered
from foray.study.to_run import check_before


def repair(store: Store, found: Sequence[DamagedFolder], console: Console, jobs_on: Callable[[Machine], int]) -> None:
    """Sets damaged folders aside and makes them anew, by the studies that ran in the store, and draws reports again.

    Every node is made as the command's ``--machine`` says. ``jobs_on`` gives the number of worker processes for it. The
    caller holds the store's lock. Raises ValueError naming what no study asks for any more.
    """
    root = store.root.resolve()  # before any chdir: below, relative paths begin where a command was typed
    last, best, anew, unread = last_manifest(store.root), None, False, ""
    nodes = [f.folder for f in found if f.folder.parent.name == "nodes"]
    reports = [f.folder for f in found if f.folder.parent == store.root]
    for folder in (f.folder for f in found):
        if folder in nodes and folder.exists():
            say(console, f"{folder.name}: {store.set_aside(folder)}")
        elif folder not in nodes and folder not in reports:
            (folder / SEAL).unlink(missing_ok=True)  # a rolling checkpoint: a run passes it over
    wanted = {folder.name for folder in nodes}
    for command in remembered(store.root):
        with _in_its_folder(command):
            try:
                study = load_study(command.study, list(command.settings))
                here = Store(root, machine(list(command.machine)))
                graph = expand(study, command.part)
                whole = graph if command.part is None else expand(study)
            except ValueError as e:  # its file, part or GPUs are gone or others now: what the others ask for is made
                unread = unread or f" ({e})"
                continue
            anew |= _made_anew(study, graph, here, wanted, console, jobs_on(here.machine))
            wanted -= {f"{n.kind}-{n.key}" for n in graph.nodes}
            if study.name == last.get("study"):
                shows = [f"nodes/{n.kind}-{n.key}" for n in whole.nodes] == last.get("nodes")
                if best is None or shows or not best.shows:
                    best = _Last(study, here, command, shows)
    if best is not None:
        with _in_its_folder(best.command):
            usual = best.store.root / "report"
            if usual.name not in (folder.name for folder in reports):
                report_study(best.study, best.store, redraw=anew, paper=_with_paper(usual))
            reports = [folder for folder in reports if not _redrawn(best.study, best.store, folder)]
    _require_nothing_left(store.root, wanted, reports, unread)


class _Last(NamedTuple):
    """A study of the last report's name, and whether the report shows the same nodes."""

    study: Study
    store: Store
    command: StudyCommand
    shows: bool


def _in_its_folder(command: StudyCommand) -> contextlib.chdir[str]:
    """Inside, relative paths begin where the command was typed."""
    return contextlib.chdir(command.folder if Path(command.folder).is_dir() else os.getcwd())


def _made_anew(study: Study, graph: Graph, store: Store, wanted: set[str], console: Console, jobs: int) -> bool:
    """Makes those of the ``wanted`` folders that a study asks for. Whether there are any."""
    again = {n.key for n in graph.nodes if f"{n.kind}-{n.key}" in wanted}
    for node in reversed(graph.nodes):  # children come after their parents
        if node.key in again:
            again |= {p.key for p in node.parents() if not p.done(store)}
    missing = [n for n in graph.nodes if n.key in again]
    check_before(study, missing)
    compute(missing, graph, store, console, LocalExecutor(jobs))
    return bool(again)


def _redrawn(study: Study, store: Store, folder: Path) -> bool:
    """Draws a damaged report again, with what it had. False for a folder that Foray draws no report into.

    Damaged files go first: the seal lists whatever is there after the drawing.
    """
    from foray.report import FORMS  # takes a second

    axis, folder = _axis(folder), store.root / folder.name  # the store's root is absolute, wherever this process is
    if axis is None:
        return False
    tables = [kind for kind, (end, _) in FORMS.items() if (folder / f"results.{end}").exists()]
    paper = _with_paper(folder)
    for name in _damaged_files(folder):
        (folder / name).unlink(missing_ok=True)
    report_study(study, store, True, axis, paper, tables=tables)
    return True


def _axis(folder: Path) -> str | None:
    """What the figures of a report are drawn against, by the folder's name; None where the name says nothing."""
    from foray.report import AXES

    axis = AXES[0] if folder.name == "report" else folder.name.removeprefix("report-")
    return axis if axis in AXES else None


def _damaged_files(folder: Path) -> list[str]:
    out = []
    with contextlib.suppress(Damaged, ValueError):  # the seal itself
        for name, expected in sealed_files(folder).items():
            try:
                verify_file(folder, name, expected)
            except Damaged:
                out.append(name)
    return out


def _with_paper(folder: Path) -> bool:
    """Whether a report has the paper's curves and numbers."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return bool(read_json(folder / SEAL)["paper"])
    return True


def _require_nothing_left(root: Path, wanted: set[str], reports: Sequence[Path], unread: str) -> None:
    require(
        not wanted,
        f"{len(wanted)} of them are set aside, and no study that ran in {root} asks for them as it is now "
        f"({', '.join(sorted(wanted))}): run their study again{unread}",
    )
    if reports:
        folder = reports[0]
        again = f"foray report {quote(typed(root))}{'' if folder.name == 'report' else f' --x {_axis(folder)}'}"
        how = f"no study that ran in {root} draws it as it is now; `{again}` does{unread}"
        if folder.name.startswith(AGAINST):
            how = "`foray report STUDY OTHER` draws it again"
        elif _axis(folder) is None:
            how = "Foray draws no report of this name; delete it"
        raise ValueError(f"{folder} is damaged still: {how}")
