"""The command that forecasts the time, memory and disk of a study."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from foray.commands.options import fuller_line, jobs_of, opened, show, warn
from foray.core.cores import cores
from foray.core.machine import card, gpus, machine_settings
from foray.core.terminal import plain
from foray.study.contracts import check_counts, check_study
from foray.study.executors.schedule import threads_each
from foray.study.graph import expand
from foray.study.node import Node
from foray.study.price import tables
from foray.study.price.cards import cards_here, measured_rate, parse_hardware, processors
from foray.study.price.forecast import Forecast, forecast
from foray.study.without_files import QUESTION, SOLUTION, without_files

_WITHOUT = (
    f"planned without it, at {QUESTION} tokens a question and {SOLUTION} a solution, and what reads it as not done; "
    "--set data.root=FOLDER says where the data lies"
)


def plan(args: argparse.Namespace) -> None:
    given = args.hardware is not None
    hardware = parse_hardware(args.hardware, machine_settings(args.machine_settings)) if given else None
    jobs = jobs_of(args)
    study, store = opened(args)
    check_study(study)
    check_counts(study)
    study, missing = without_files(study)
    graph, console = expand(study, args.part), Console()
    nodes = graph.nodes
    warn(fuller_line(study, store, None if args.part else graph))
    if hardware is None and store.machine.device == "cuda":
        hardware = cards_here(store.machine, *card(), min(gpus(), jobs * store.machine.ranks))
    elif hardware is None:
        model, threads = study.model.sized(study.data.vocab_size), threads_each(jobs, cores(), store.machine.threads)
        hardware = processors(measured_rate(model, threads), jobs, store.machine)

    def left_of(every: Sequence[Node]) -> list[Node]:
        return [node for node in every if not node.done(store)]

    whole = forecast(left_of(nodes), hardware)
    if study.parts and args.part is None:
        parts: dict[str, tuple[int, Forecast]] = {}
        for name in dict.fromkeys(name for name, _ in study.grids()):
            of_part = expand(study, name).nodes
            parts[name] = len(of_part), forecast(left_of(of_part), hardware)
        show(tables.parts_table(parts))
        console.print("Each row forecasts its part alone. Nodes that parts share run once.", highlight=False)
    else:
        show(tables.nodes_table(nodes, whole))
    on = tables.cards_named(hardware)
    console.print(f"\n{len(nodes)} nodes, {len(whole.nodes)} to run, on {on}\n", highlight=False)
    priced = (tables.phase_table(whole), tables.level_table(whole), tables.memory_table(whole)) if whole.nodes else ()
    for table in priced:
        show(table)
        console.print()
    assumed = (f"- {line}" for line in tables.assumptions(whole))
    first = [f"{missing}: {_WITHOUT}"] if missing else []
    for line in (*first, *tables.remarks(whole), *study.notes, "", "Assumed (docs/hardware.md):", *assumed):
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)
