"""The command that runs excursions from another program's checkpoints, as each checkpoint lands."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from foray.commands.options import LONGEST, every_of, jobs_of, machine_of
from foray.core.canonical import require
from foray.core.files import sealed, write_atomic
from foray.core.spelling import in_tokens
from foray.core.terminal import failure
from foray.study.executors.local import LocalExecutor
from foray.study.last_report import last_manifest
from foray.study.named_studies import load_study
from foray.study.progress import say
from foray.study.run import run_study
from foray.study.spec import Published
from foray.study.store import Store
from foray.study.study_command import StudyCommand
from foray.study.watching import Checkpoint, Series, study_text

STUDY_FILE = "watched.py"


def watch(args: argparse.Namespace) -> None:
    """Looks every ``--every`` seconds. Each new checkpoint joins the study in the store's ``watched.py``, which runs.

    A checkpoint whose excursions fail is told in a line and left out until the command starts again. What an earlier
    watch did not finish is finished first.
    """
    every, executor = every_of(args), LocalExecutor(jobs_of(args))
    settles = 0 <= args.settle <= LONGEST
    require(settles, f"--settle must lie between 0 and {LONGEST:,} seconds, not {args.settle:g}")
    require(args.until >= 0, f"--until must be >= 0, not {args.until}")
    series = Series(args.checkpoints, args.tokens_per_step, args.settle)
    base = load_study(args.study, args.settings)
    store = Store(args.store or Path("runs") / f"{base.name}-watched", machine_of(args))
    series.check(_before(store.root / STUDY_FILE), store.root / STUDY_FILE)
    console, failed = Console(), set[Checkpoint]()
    say(console, f"watching {args.checkpoints}; the study so far: {store.root / STUDY_FILE}")
    known, left = _finished(args, store, console, executor)
    waiting = False
    while True:
        try:
            found = series.found()
            if not found and not waiting:
                say(console, series.nothing_yet())
            waiting = True
        except ValueError as e:  # the hub may answer later
            say(console, str(e))
            found = []
        for checkpoint in [*left, *found]:
            if args.until and len(known) >= args.until:
                break
            if checkpoint in known or checkpoint in failed:
                continue
            say(console, f"M_t at {in_tokens(checkpoint[2])}: {'@'.join(filter(None, checkpoint[:2]))}")
            more = sorted([*known, checkpoint], key=lambda c: c[2])
            try:
                say(console, f"report: {_run(args, more, known, store, console, executor)}")
                known = more
            except ValueError as e:
                failed.add(checkpoint)
                say(console, f"left out: {failure(e)}")
        if args.until and len(known) >= args.until:
            return
        time.sleep(every)


def _finished(
    args: argparse.Namespace, store: Store, console: Console, executor: LocalExecutor
) -> tuple[list[Checkpoint], list[Checkpoint]]:
    """The checkpoints of an earlier watch of this store, run to their end, and those to be tried one by one.

    A watch that was killed may have left a checkpoint half done. Where all of them together fail, those that the last
    report does not show whole are tried again as new ones are.
    """
    known = _before(store.root / STUDY_FILE)
    if known:
        try:
            _run(args, known, known, store, console, executor)
        except ValueError as e:
            say(console, failure(e))
            rows = last_manifest(store.root).get("entries", ())
            asked = [row for row in rows if isinstance(row, dict) and {"tokens", "folder"} <= row.keys()]
            lacking = {row["tokens"] for row in asked if not sealed(store.root / str(row["folder"]))}
            shown = {row["tokens"] for row in asked} - lacking
            return [c for c in known if c[2] in shown], [c for c in known if c[2] not in shown]
    return known, []


def _before(file: Path) -> list[Checkpoint]:
    if not file.exists():
        return []
    bases = load_study(str(file)).pretrain
    return list(bases.models) if isinstance(bases, Published) else []


def _run(
    args: argparse.Namespace,
    checkpoints: list[Checkpoint],
    before: list[Checkpoint],
    store: Store,
    console: Console,
    executor: LocalExecutor,
) -> Path:
    """Runs the study of the ``checkpoints``. Where it fails, the study's file names those of ``before`` again."""
    file = store.root / STUDY_FILE
    store.root.mkdir(parents=True, exist_ok=True)
    write_atomic(file, study_text(args.study, args.settings, checkpoints))
    try:
        study, how = load_study(str(file)), tuple(args.machine_settings)
        command = StudyCommand(str(file.resolve()), (), None, str(store.root.resolve()), str(Path.cwd()), how)
        return run_study(study, store, console, executor, command=command)
    except ValueError:
        if before:
            write_atomic(file, study_text(args.study, args.settings, before))
        else:
            file.unlink()
        raise
