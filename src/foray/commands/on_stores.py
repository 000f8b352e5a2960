"""The commands that clear a store and check it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from shlex import quote

from rich.console import Console

from foray.commands.options import fuller_line, jobs_of, usual_jobs, warn
from foray.core.canonical import require
from foray.core.machine import machine
from foray.core.terminal import tell
from foray.study.garbage import Item, delete_garbage, find_garbage
from foray.study.integrity import examine
from foray.study.named_studies import load_study
from foray.study.progress import reading, say
from foray.study.repair import repair
from foray.study.store import Store


def gc(args: argparse.Namespace) -> None:
    studies = [load_study(name, args.settings) for name in args.studies]
    require(len(studies) == 1 or args.store is not None, "name the store of several studies with --store DIR")
    store = Store(args.store or Path("runs") / studies[0].name)
    require(store.root.is_dir(), f"there is no store {store.root}; name it with --store")
    require(args.delete or not args.reported, "--reported goes with --delete")
    found = delete_garbage(studies, store, args.reported) if args.delete else find_garbage(studies, store)
    for why in dict.fromkeys(item.why for item in found.items):
        same = [item for item in found.items if item.why == why]
        print(f"{why}: {sum(item.size for item in same) / 1e6:,.1f} MB")
        for item in same:
            tell(f"{item.size / 1e6:>12,.1f} MB  {item.path}  {item.label}".rstrip())
    for path in found.unknown:
        tell(f"left, unknown to Foray: {path}")
    going = found.going(args.reported)
    print(f"{_sum_of(going)}: " + ("deleted" if args.delete else "nothing is deleted without --delete"))
    if kept := [item for item in found.items if item not in going]:
        for study in studies:
            warn(fuller_line(study, store))
        print(f"{_sum_of(kept)}: kept, as the last report is made of them; --delete --reported deletes them too")


def _sum_of(items: Sequence[Item]) -> str:
    return f"{len(items)} files and folders, {sum(item.size for item in items) / 1e6:,.1f} MB"


def check(args: argparse.Namespace) -> None:
    jobs, console = jobs_of(args), Console()
    require((args.store / "nodes").is_dir(), f"{args.store} is no store: it holds no nodes")
    store = Store(args.store, machine([]))
    with store.lock() if args.repair else nullcontext():  # the store does not change between check and repair
        with reading(console) as (total, read):
            found = examine(store, jobs, total, read)
        for finding in found.findings:
            say(console, finding.line)
        unfinished = f"; {found.unfinished} nodes are unfinished" if found.unfinished else ""
        print(f"{found.folders} folders, {found.files} files, {found.size / 1e6:,.1f} MB read{unfinished}")
        for line in (*found.corpora, *(f"not checked: {words}" for words in found.unseen)):
            say(console, line)
        bad = f"{len(found.findings)} folders are damaged, gone or made from other weights"
        if found.findings and args.repair:
            repair(store, found.findings, console, (lambda _: jobs) if args.jobs else usual_jobs)
            print(f"{bad}: made anew")
        elif found.findings:
            raise ValueError(f"{bad}; foray check {quote(str(args.store))} --repair makes them anew")
    if found.corpora:
        bad = f"{len(found.corpora)} files of prepared corpora are damaged"
        raise ValueError(f"{bad}; the same foray prepare MIX --out DIR makes them again")
    if not found.findings:
        print("every file is as it was written")
