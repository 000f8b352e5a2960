"""The commands that run a study, report its results and list its nodes."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from foray.commands.options import jobs_of, opened
from foray.core.canonical import require
from foray.core.terminal import plain, tell
from foray.study.command import StudyCommand, remember
from foray.study.contracts import check_study
from foray.study.executors.local import LocalExecutor
from foray.study.executors.ray import RayExecutor
from foray.study.executors.slurm import SlurmExecutor
from foray.study.graph import expand
from foray.study.kinds.models import ImportNode
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.node import Node
from foray.study.price.tables import cell
from foray.study.progress import say
from foray.study.run import run_study
from foray.study.store import Store


def run(args: argparse.Namespace) -> None:
    study, store = opened(args)
    executor = _executor(args, store)
    if args.dry_run:
        if not isinstance(executor, SlurmExecutor):
            raise ValueError("--dry-run prints what Slurm would get: add --executor slurm")
        check_study(study.bound())
        print(executor.scripts([n for n in expand(study, args.part).nodes if not n.done(store)]))
        return
    console = Console()
    remember(_command(args, store), store.root)
    begun = time.monotonic()
    index = run_study(study, store, console, executor, args.part)
    _print_claims(index.parent, console)
    say(console, f"took:   {(time.monotonic() - begun) / 60:.1f} minutes")
    say(console, f"report: {index}")
    say(console, f"table:  {index.parent / 'results.csv'}")


def _executor(args: argparse.Namespace, store: Store) -> LocalExecutor | RayExecutor | SlurmExecutor:
    jobs = jobs_of(args)
    for option, value, kind in (("--address", args.address, "ray"), ("--slurm", args.slurm, "slurm")):
        require(not value or args.executor == kind, f"{option} goes with --executor {kind}")
    command = _command(args, store)
    if args.executor == "ray":
        return RayExecutor(command, jobs, args.address)
    if args.executor == "slurm":
        return SlurmExecutor(command, args.slurm, args.jobs)
    return LocalExecutor(jobs)


def _command(args: argparse.Namespace, store: Store) -> StudyCommand:
    settings, how = tuple(args.settings), tuple(args.machine_settings)
    return StudyCommand(args.study, settings, args.part, str(store.root.resolve()), os.getcwd(), how)


def report(args: argparse.Namespace) -> None:
    study, store = opened(args)
    require(store.root.exists(), f"there is no store {store.root}; run the study first or name it with --store")
    index = report_study(study, store, axis=args.x, paper=args.paper == "on")
    damaged = [d for node in expand(study).nodes if (d := node.damage(store))]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        print(plain(f"left out: {damaged[0].what}{more}; `foray run` makes it anew"), file=sys.stderr)
    _print_claims(index.parent, Console())
    tell(str(index))


def _print_claims(folder: Path, console: Console) -> None:
    """Prints a short claims table of a report. The number of a claim is its deciding comparison, in points."""
    if not (folder / "claims.csv").exists():
        return
    from foray.report.rules import CLAIMS

    names = {claim.name: claim.short for claim in CLAIMS}
    narrow = Column("answer", no_wrap=True), Column("points", justify="right", no_wrap=True)
    table = Table("", "claim", *narrow, "decided by", box=None, pad_edge=False)
    with open(folder / "claims.csv", encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            value, lo, hi = (100 * float(row[name] or "nan") for name in ("value", "lo", "hi"))
            number = f"{value:+.1f} [{lo:+.1f}, {hi:+.1f}]" if row["value"] else ""
            words = (row["claim"], names[row["claim"]], row["answer"])
            table.add_row(*map(cell, (*words, number, row["effect"] or row["note"])))
    console.print(table, highlight=False)


def ls(args: argparse.Namespace) -> None:
    study, store = opened(args)
    graph = expand(study)
    # Lines are not wrapped, so that a user can copy a folder. Seeds: pre-training/post-training.
    line = "{:>15}  {:<14} {:>5} {:>6}  {:<8} {}"
    print(line.format("M_t tokens", "recipe", "seeds", "step", "state", "folder"))
    for e in graph.entries:
        if isinstance(e.node, TrainNode | ImportNode):
            state, folder = _state(e.node, store), str(e.node.folder(store))
            words = "".join(f"  ({x})" for x in (e.grid.pretrain.mix, e.variant) if x)
            seeds = f"{e.pretrain_seed}/{e.seed}"
            tell(line.format(f"{e.tokens:,}", e.recipe, seeds, e.stage_step, state, folder) + words)


def _state(node: Node, store: Store) -> str:
    if node.done(store):
        return "done"
    return "started" if node.folder(store).exists() else "to run"
