"""``foray report STUDY OTHER``: the results of two studies side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from foray.commands.options import forms_of, run_command, warn
from foray.core.canonical import content_hash, require
from foray.core.files import seal
from foray.core.terminal import tell
from foray.study.manifest import check_out, drawing_into
from foray.study.store import AGAINST, MANIFEST, Store
from foray.study.study_results import StudyResults, is_store, study_results

if TYPE_CHECKING:
    from foray.report.results import Results


def report_two(args: argparse.Namespace) -> None:
    """``--set`` is the second's; ``--store`` holds each that is not itself a store's folder."""
    from foray.report import check_forms  # takes a second
    from foray.report.comparison_page import write_comparison

    tables = forms_of(args)
    check_forms(tables)
    require(args.x == "tokens" and args.paper == "on", "--x and --paper are of one study's report: leave them out")
    asked: list[tuple[str, Sequence[str]]] = [(args.study, []), (args.other, args.settings)]
    both = [study_results(name, None if is_store(name) else args.store, settings) for name, settings in asked]
    # A store's folder says what lies there, not which command put it there.
    commands = ["" if of.study is None else run_command(name, of.store, settings)
                for of, (name, settings) in zip(both, asked)]  # fmt: skip
    alone = args.store is not None and is_store(args.study) and is_store(args.other)
    require(not alone, f"{args.study} and {args.other} are stores: leave --store out")
    found = _read(both[0], commands[0]), _read(both[1], commands[1])
    out = args.out or both[0].store / f"{AGAINST}{_short(both)}"
    if args.out:
        check_out(out)
    names = [f"study {results.study} in {of.store}" for results, of in zip(found, both)]
    if args.settings and not is_store(args.other):
        names[1] += f", with {', '.join(args.settings)}"
    with nullcontext() if args.out else Store(both[0].store).claim(out.name, patience=600.0), drawing_into(out):
        page, first = write_comparison(*found, (names[0], names[1]), out, tables, (commands[0], commands[1]))
        seal(out, compared=names)
    for line in first:
        warn(line)
    tell(f"table: {out / 'comparison.csv'}")
    tell(str(page))


def _read(of: StudyResults, command: str) -> Results:
    """What a study has measured. Raises ValueError, saying what to type, where that is nothing."""
    from foray.report.measurements import PassK
    from foray.report.reader import results_of
    from foray.report.results import ANY_MODEL

    results = results_of(of.manifest, of.store / MANIFEST)
    why = "" if not results.missing else f" ({results.missing[0][0]}: {results.missing[0][1]})"
    none = f"study {results.study} has no finished evaluation in {of.store}{why}: run it first"
    require(bool(results.select(PassK, final=True, **ANY_MODEL)), f"{none}: {command}" if command else none)
    return results


def _short(both: list[StudyResults]) -> str:
    """A name for the second: its folder's, or within one store its settings' digest."""
    ours, theirs = (of.store.resolve() for of in both)
    if ours != theirs:
        return theirs.name
    return f"{both[1].manifest['study']}-{content_hash(both[1].manifest.get('settings', {}))[:8]}"
