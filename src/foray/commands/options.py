"""Options of several commands: the study and its store, the machine, the number of jobs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import join

from rich.console import Console
from rich.table import Table

from foray.core.canonical import require
from foray.core.cores import cores
from foray.core.machine import Machine, gpus, machine
from foray.core.terminal import plain, tell
from foray.study.graph import Graph, expand
from foray.study.last_report import fuller_report
from foray.study.manifest import manifest_of
from foray.study.named_studies import load_study
from foray.study.spec import Study
from foray.study.store import MANIFEST, Store
from foray.study.study_results import check_named, is_store

_WORKERS, _WORKERS_A_CORE = 32, 8  # the most processes on this machine
_WIDEST = 100_000  # columns
LONGEST = 1_000_000  # seconds that an option may have a command wait


def opened(args: argparse.Namespace) -> tuple[Study, Store]:
    words = f"{args.study} is a folder: name a study, and the folder of its results with --store"
    require(not is_store(args.study), words)
    study = load_study(args.study, args.settings)
    return study, Store(args.store or Path("runs") / study.name, machine_of(args))


def require_store(store: Store, study: str) -> None:
    """Raises ValueError, saying what to type, where there is no store to read."""
    words = f"there is no store {store.root}; run the study first ({run_command(study, store.root)})"
    require(store.root.is_dir(), f"{words} or name another with --store")


def run_command(study: str, store: Path, settings: Sequence[str] = ()) -> str:
    """What to type to run a study, quoted for a shell."""
    return join(["foray", "run", study, *(word for s in settings for word in ("--set", s)), "--store", str(store)])


def store_alone(args: argparse.Namespace) -> Path | None:
    """The store that STUDY names by its folder, where no option says more; None where STUDY is a study.

    Raises ValueError where STUDY is neither.
    """
    check_named(args.study)
    alone = args.store is None and not args.settings and is_store(args.study)
    return Path(args.study) if alone else None


def fuller_line(study: Study, store: Store, graph: Graph | None = None) -> str:
    """A line where the store's last report shows more than the study, as it is now, has there; otherwise empty.

    ``graph``: the study's whole graph, where it is there already.
    """
    if not (store.root / MANIFEST).exists():
        return ""
    return fuller_report(store.root, manifest_of(study, graph or expand(study)))


def warn(line: str) -> None:
    """Prints untrusted text on standard error, if there is any."""
    if line:
        print(plain(line), file=sys.stderr)


def machine_of(args: argparse.Namespace) -> Machine:
    """This machine. Nodes that run elsewhere get a placeholder: each machine of a cluster describes itself."""
    elsewhere = getattr(args, "executor", "local") != "local"
    return Machine("cpu") if elsewhere else machine(getattr(args, "machine_settings", []))


def jobs_of(args: argparse.Namespace, most: int = 4) -> int:
    """The value of --jobs. The default is one job a usable GPU, else one a core, up to ``most``."""
    require(args.jobs is None or args.jobs > 0, f"--jobs must be positive, not {args.jobs}")
    of = machine_of(args) if hasattr(args, "machine_settings") else Machine("cpu")
    if args.jobs and getattr(args, "executor", "local") == "local":
        limit = max(_WORKERS, _WORKERS_A_CORE * cores())
        if args.jobs > limit:
            tell(f"--jobs {args.jobs}: {limit} at a time, the most for the {cores()} cores that may be used here")
        return int(min(args.jobs, limit))
    return args.jobs or usual_jobs(of, most)


def usual_jobs(of: Machine, most: int = 4) -> int:
    """One job a usable GPU, else one a core, up to ``most``; a node takes as many as ``of`` has ranks or threads."""
    on_gpus = gpus() if of.device != "cpu" else 0
    return on_gpus // of.ranks or min(most, max(1, cores() // max(of.ranks, of.threads)))


def every_of(args: argparse.Namespace) -> float:
    """The value of --every, in seconds."""
    require(0 < args.every <= LONGEST, f"--every must lie between 0 and {LONGEST:,} seconds, not {args.every:g}")
    return float(args.every)


def forms_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The values of --tables."""
    return tuple(kind.strip() for kind in args.tables.split(",") if kind.strip())


def show(table: Table) -> None:
    """Prints a table. Without a terminal no cell is wrapped and no line is padded, so that grep finds whole keys."""
    console = Console()
    if console.is_terminal:
        console.print(table, highlight=False)
        return
    wide = Console(width=_WIDEST)
    with wide.capture() as made:
        wide.print(table, highlight=False)
    print("\n".join(line.rstrip() for line in made.get().splitlines()))
