"""The command that runs excursions from another program's checkpoints, as each checkpoint lands."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from foray.commands.options import jobs_of, machine_of
from foray.core.canonical import require
from foray.core.files import write_atomic
from foray.core.spelling import in_tokens
from foray.core.terminal import failure
from foray.study.command import StudyCommand, remember
from foray.study.executors.local import LocalExecutor
from foray.study.named_studies import load_study
from foray.study.progress import say
from foray.study.run import run_study
from foray.study.spec import Published
from foray.study.store import Store
from foray.study.watching import Checkpoint, Series, study_text

STUDY_FILE = "watched.py"


def watch(args: argparse.Namespace) -> None:
    """Looks every ``--every`` seconds. Each new checkpoint joins the study in the store's ``watched.py``, which runs.

    A checkpoint whose excursions fail is told in a line and left out until the command starts again.
    """
    require(args.every > 0, f"--every must be positive, not {args.every:g}")
    series = Series(args.checkpoints, args.tokens_per_step, args.settle)
    base = load_study(args.study, args.settings)
    store = Store(args.store or Path("runs") / f"{base.name}-watched", machine_of(args))
    console, known, failed = Console(), _before(store.root / STUDY_FILE), set[Checkpoint]()
    say(console, f"watching {args.checkpoints}; the study so far: {store.root / STUDY_FILE}")
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
        for checkpoint in found:
            if args.until and len(known) >= args.until:
                break
            if checkpoint in known or checkpoint in failed:
                continue
            say(console, f"M_t at {in_tokens(checkpoint[2])}: {'@'.join(filter(None, checkpoint[:2]))}")
            more = sorted([*known, checkpoint], key=lambda c: c[2])
            try:
                say(console, f"report: {_run(args, more, store, console)}")
                known = more
            except ValueError as e:
                failed.add(checkpoint)
                say(console, f"left out: {failure(e)}")
        if args.until and len(known) >= args.until:
            return
        time.sleep(args.every)


def _before(file: Path) -> list[Checkpoint]:
    """The checkpoints of an earlier watch of this store."""
    if not file.exists():
        return []
    bases = load_study(str(file)).pretrain
    return list(bases.models) if isinstance(bases, Published) else []


def _run(args: argparse.Namespace, checkpoints: list[Checkpoint], store: Store, console: Console) -> Path:
    file, before = store.root / STUDY_FILE, None
    store.root.mkdir(parents=True, exist_ok=True)
    if file.exists():
        before = file.read_text(encoding="utf-8")
    write_atomic(file, study_text(args.study, args.settings, checkpoints))
    try:
        study = load_study(str(file))
        command = StudyCommand(str(file.resolve()), (), None, str(store.root.resolve()), str(Path.cwd()), ())
        remember(command, store.root)
        return run_study(study, store, console, LocalExecutor(jobs_of(args)))
    except ValueError:
        if before is None:
            file.unlink()
        else:
            write_atomic(file, before)
        raise
