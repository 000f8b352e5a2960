"""What each command of the command line does."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from foray.core.canonical import nearest, require, to_json
from foray.core.cores import cores, use_threads
from foray.core.files import alone_in, digest_of_input, read_jsonl, read_object, write_atomic
from foray.core.machine import Machine, gpus, machine, machine_settings
from foray.core.passk import check_asked, pass_at_k
from foray.core.rng import key
from foray.core.scratch import scratch
from foray.core.task import Extraction, verifier_of
from foray.core.terminal import plain, tell
from foray.data.corpus import window_order
from foray.study.contracts import check_study
from foray.study.executors.local import LocalExecutor
from foray.study.executors.ray import RayExecutor
from foray.study.executors.remote import Origin
from foray.study.executors.schedule import threads_each
from foray.study.executors.slurm import SlurmExecutor
from foray.study.garbage import delete_garbage, find_garbage
from foray.study.graph import expand
from foray.study.integrity import examine, remember, repair
from foray.study.kinds.models import ImportNode, open_checkpoint
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.named_studies import load_study
from foray.study.node import Node
from foray.study.price.cards import Hardware, parse_hardware
from foray.study.price.cost import machine_rate, node_cost, wall_seconds
from foray.study.price.forecast import Forecast, assumptions, forecast, level_table, memory_table, phase_table, remarks
from foray.study.progress import say
from foray.study.run import run_study
from foray.study.spec import Pretrain, Study
from foray.study.store import Store

_WORKERS, _WORKERS_A_CORE = 32, 8  # processes of this machine, at most

# What foray eval is asked, by the names of its options and of sampling.evaluate's arguments.
_ASKED = ("split", "problems", "shots", "samples", "temperature", "max_new_tokens", "seed", "precision")


def _open(args: argparse.Namespace) -> tuple[Study, Store]:
    study = load_study(args.study, args.settings)
    return study, Store(args.store or Path("runs") / study.name, _machine(args))


def _machine(args: argparse.Namespace) -> Machine:
    """This one, or for nodes that run elsewhere none in particular: what is there decides there."""
    elsewhere = getattr(args, "executor", "local") != "local"
    return Machine("cpu") if elsewhere else machine(getattr(args, "machine_settings", []))


def _jobs(args: argparse.Namespace, most: int = 4) -> int:
    """As many as asked for; by default one a GPU that may be used, else one a core, up to ``most``."""
    require(args.jobs is None or args.jobs > 0, f"--jobs must be positive, not {args.jobs}")
    of = _machine(args) if hasattr(args, "machine_settings") else Machine("cpu")
    on_gpus = gpus() if of.device != "cpu" else 0
    if args.jobs and getattr(args, "executor", "local") == "local":
        limit = max(_WORKERS, _WORKERS_A_CORE * cores())
        if args.jobs > limit:
            tell(f"--jobs {args.jobs}: {limit} at a time, the most on the {cores()} cores that may be used here")
        return int(min(args.jobs, limit))
    return args.jobs or on_gpus // of.ranks or min(most, max(1, cores() // max(of.ranks, of.threads)))


def run(args: argparse.Namespace) -> None:
    study, store = _open(args)
    executor = _executor(args, store)
    if args.dry_run:
        if not isinstance(executor, SlurmExecutor):
            raise ValueError("--dry-run prints what Slurm would get: add --executor slurm")
        check_study(study.bound())
        print(executor.scripts([n for n in expand(study, args.part).nodes if not n.done(store)]))
        return
    console = Console()
    remember(_origin(args, store), store.root)
    index = run_study(study, store, console, executor, args.part)
    _print_claims(index.parent, console)
    say(console, f"report: {index}")
    say(console, f"table:  {index.parent / 'results.csv'}")


def _executor(args: argparse.Namespace, store: Store) -> LocalExecutor | RayExecutor | SlurmExecutor:
    jobs = _jobs(args)
    for option, value, kind in (("--address", args.address, "ray"), ("--slurm", args.slurm, "slurm")):
        require(not value or args.executor == kind, f"{option} goes with --executor {kind}")
    origin = _origin(args, store)
    if args.executor == "ray":
        return RayExecutor(origin, jobs, args.address)
    if args.executor == "slurm":
        return SlurmExecutor(origin, args.slurm, args.jobs)
    return LocalExecutor(jobs)


def _origin(args: argparse.Namespace, store: Store) -> Origin:
    settings, how = tuple(args.settings), tuple(args.machine_settings)
    return Origin(args.study, settings, args.part, str(store.root.resolve()), os.getcwd(), how)


def report(args: argparse.Namespace) -> None:
    study, store = _open(args)
    require(store.root.exists(), f"there is no store {store.root}; run the study first or name it with --store")
    index = report_study(study, store, axis=args.x)
    damaged = [d for node in expand(study).nodes if (d := node.damage(store))]
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        print(plain(f"left out: {damaged[0].what}{more}; `foray run` makes it anew"), file=sys.stderr)
    _print_claims(index.parent, Console())
    tell(str(index))


def _print_claims(folder: Path, console: Console) -> None:
    """The claims table of a report, in short. A claim's number is the comparison that decided, in points."""
    if not (folder / "claims.csv").exists():
        return
    from foray.report.claims import CLAIMS

    names = {claim.name: claim.short for claim in CLAIMS}
    narrow = Column("answer", no_wrap=True), Column("points", justify="right", no_wrap=True)
    table = Table("", "claim", *narrow, "decided by", box=None, pad_edge=False)
    with open(folder / "claims.csv", encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            value, lo, hi = (100 * float(row[name] or "nan") for name in ("value", "lo", "hi"))
            number = f"{value:+.1f} [{lo:+.1f}, {hi:+.1f}]" if row["value"] else ""
            words = (row["claim"], names[row["claim"]], row["answer"])
            table.add_row(*map(_cell, (*words, number, row["effect"] or row["note"])))
    console.print(table, highlight=False)


def _cell(text: str) -> Text:
    """Of a table: names of tasks and recipes are any text, not markup, nor what a terminal obeys."""
    return Text(plain(text))


def plan(args: argparse.Namespace) -> None:
    hardware = None if args.hardware is None else _hardware(args)
    jobs = _jobs(args)
    study, store = _open(args)
    check_study(study.bound())
    graph = expand(study, args.part)
    if hardware is not None:
        left = [node for node in graph.nodes if not node.done(store)]
        _print_forecast(forecast(left, study.data.vocab_size, hardware), len(graph.nodes), len(left))
        return
    rate = machine_rate(study.model, study.data.vocab_size, threads_each(jobs, cores(), store.machine.threads))
    costs = {node.key: node_cost(node, study.data.vocab_size) for node in graph.nodes}
    console = Console()
    if study.parts and args.part is None:
        table = Table("part", *(Column(name, justify="right") for name in ("nodes", "to run", "PFLOP", "minutes")))
        table.box, table.pad_edge = None, False
        for part in dict.fromkeys(name for name, _ in study.grids()):
            nodes = expand(study, part).nodes
            left = [n for n in nodes if not n.done(store)]
            wall = wall_seconds(left, {n.key: costs[n.key].seconds(rate) for n in left}, jobs)
            work = sum(costs[n.key].flops for n in left) / 1e15
            table.add_row(_cell(part), str(len(nodes)), str(len(left)), f"{work:.3f}", f"{wall / 60:.0f}")
        console.print(table)
        console.print("Each part as if it were run first: what parts share is run once.", highlight=False)
    else:
        table = Table("", "node", "PFLOP", "seconds", "disk MB", box=None, pad_edge=False)
        for node in graph.nodes:
            cost, state = costs[node.key], "done" if node.done(store) else "to run"
            numbers = f"{cost.flops / 1e15:.4f}", f"{cost.seconds(rate):.0f}", f"{cost.disk / 1e6:.1f}"
            table.add_row(state, _cell(node.label()), *numbers)
        console.print(table)
    left = [node for node in graph.nodes if not node.done(store)]
    phases: Counter[str] = Counter()
    for node in left:
        phases.update(costs[node.key].work)
    parts = ", ".join(f"{phase} {n / 1e15:.3f}" for phase, n in phases.most_common())
    wall = wall_seconds(left, {n.key: costs[n.key].seconds(rate) for n in left}, jobs)
    memory = max((costs[n.key].memory for n in left), default=0.0)
    console.print(
        f"{len(graph.nodes)} nodes, {len(left)} to run: {sum(phases.values()) / 1e15:.3f} PFLOP ({parts}), "
        f"{sum(costs[n.key].disk for n in left) / 1e6:.0f} MB on disk, about {memory / 1e9:.1f} GB of memory a worker\n"
        f"about {wall / 60:.1f} minutes with {jobs} workers on this machine, which multiplies the model's matrices at "
        f"{rate / 1e9:.0f} GFLOP/s a worker",
        highlight=False,
        soft_wrap=True,
    )


def _hardware(args: argparse.Namespace) -> Hardware:
    return parse_hardware(args.hardware, machine_settings(args.machine_settings))


def _print_forecast(made: Forecast, nodes: int, left: int) -> None:
    console = Console()
    console.print(f"{nodes} nodes, {left} to run, on {made.hardware.count} x {made.hardware.name}\n", highlight=False)
    for table in (phase_table(made), level_table(made), memory_table(made)):
        console.print(table, "", highlight=False)
    for line in (*remarks(made), "", "Assumed (docs/hardware.md):", *(f"- {a}" for a in assumptions(made))):
        console.print(plain(line), markup=False, highlight=False)


def ls(args: argparse.Namespace) -> None:
    study, store = _open(args)
    graph = expand(study)
    # Plain lines of any width: folders are there to be copied. Seeds are of pre-training and of what came after.
    line = "{:>15}  {:<14} {:>5} {:>6}  {:<8} {}"
    print(line.format("M_t tokens", "recipe", "seeds", "step", "state", "folder"))
    for e in graph.entries:
        if isinstance(e.node, TrainNode | ImportNode):
            state, folder = _state(e.node, store), str(e.node.folder(store))
            words = "".join(f"  ({x})" for x in (e.grid.pretrain.mix, e.variant) if x)
            seeds = f"{e.pretrain_seed}/{e.seed}"
            tell(line.format(f"{e.tokens:,}", e.recipe, seeds, e.stage_step, state, folder) + words)


def gc(args: argparse.Namespace) -> None:
    studies = [load_study(name, args.settings) for name in args.studies]
    require(len(studies) == 1 or args.store is not None, "several studies share the store that --store DIR names")
    store = Store(args.store or Path("runs") / studies[0].name)
    require(store.root.is_dir(), f"there is no store {store.root}; name it with --store")
    found = delete_garbage(studies, store) if args.delete else find_garbage(studies, store)
    for why in dict.fromkeys(item.why for item in found.items):
        same = [item for item in found.items if item.why == why]
        print(f"{why}: {sum(item.size for item in same) / 1e6:,.1f} MB")
        for item in same:
            tell(f"{item.size / 1e6:>12,.1f} MB  {item.path}  {item.label}".rstrip())
    for path in found.unknown:
        tell(f"left, as Foray does not know it: {path}")
    total = f"{len(found.items)} files and folders, {sum(item.size for item in found.items) / 1e6:,.1f} MB"
    print(f"{total}: " + ("deleted" if args.delete else "nothing is deleted without --delete"))


def check(args: argparse.Namespace) -> None:
    from foray.study.progress import reading

    jobs, console = _jobs(args), Console()
    require((args.store / "nodes").is_dir(), f"{args.store} is no store: it holds no nodes")
    store = Store(args.store, machine([]))
    with store.lock() if args.repair else nullcontext():  # nothing changes between what is found and what is mended
        with reading(console) as (total, read):
            found = examine(store, jobs, total, read)
        for finding in found.findings:
            say(console, finding.line)
        unfinished = f"; {found.unfinished} nodes are unfinished" if found.unfinished else ""
        print(f"{found.folders} folders, {found.files} files, {found.size / 1e6:,.1f} MB read{unfinished}")
        for line in (*found.corpora, *(f"not checked: {words}" for words in found.unseen)):
            say(console, line)
        bad = f"{len(found.findings)} folders are damaged or gone"
        if found.findings and args.repair:
            repair(store, found.findings, console, jobs)
            print(f"{bad}: made anew")
        elif found.findings:
            raise ValueError(f"{bad}; foray check {args.store} --repair makes them anew")
    if found.corpora:
        bad = f"{len(found.corpora)} files of prepared corpora are damaged"
        raise ValueError(f"{bad}; foray prepare MIX --out DIR, typed again as it was, makes them again")
    if not found.findings:
        print("all are as they were written")


def _state(node: Node, store: Store) -> str:
    if node.done(store):
        return "done"
    return "started" if node.folder(store).exists() else "to run"


def prepare(args: argparse.Namespace) -> None:
    from foray.data.prepare import load_mix
    from foray.data.prepare import prepare as make

    jobs = _jobs(args, most=256)
    if jobs > cores():
        print(f"{jobs} workers share the {cores()} cores that may be used here and wait for each other", flush=True)
    tell(str(make(load_mix(args.mix, args.settings, args.data_root), args.out, jobs, tell)))


def data(args: argparse.Namespace) -> None:
    study, store = _open(args)
    study = study.bound()
    pretrain = study.pretrain
    if not isinstance(pretrain, Pretrain):
        raise ValueError("the study's M_t are published checkpoints: what they have read is not here")
    corpus = pretrain.stream.source
    seed = pretrain.seeds[0] if args.seed is None else args.seed
    require(seed in pretrain.seeds, f"no pre-training has the seed {seed}: the study's are {pretrain.seeds}")
    require(0 < args.step <= pretrain.stage.steps, f"--step must lie between 1 and {pretrain.stage.steps}")
    node = next(n for n in expand(study).nodes if isinstance(n, TrainNode) and n.stage == pretrain.stage)
    missing = [s for s in (*node.shards, node.tokenizer) if not s.done(store)]
    require(not missing, f"{store.root} does not hold the text yet ({len(missing)} nodes to run): run the study first")
    shards = {s.source.name: s.open_shard(store) for s in node.shards}
    tokenizer = node.tokenizer.open_tokenizer(store)
    mixture = [(w, s.name) for w, s in corpus.mixture]
    first, seed_key = (args.step - 1) * corpus.batch_size, key(seed, "corpus", pretrain.stage.name)
    order = window_order(shards, mixture, corpus.length, seed_key, first, corpus.batch_size)
    for row, (source, window, before) in enumerate(order):
        ids = shards[source].window(window, corpus.length)[:-1].tolist()
        text = tokenizer.tokenizer.decode(ids, skip_special_tokens=False)
        place = f"{source}, window {window} of {shards[source].windows(corpus.length)}"
        tell(f"--- step {args.step}, row {row}: {place}" + (f", read {before} times before" if before else ""))
        tell(text)


def evaluate(args: argparse.Namespace) -> None:
    from foray.evals import sampling
    from foray.rollout.choose import embedded_engine
    from foray.tasks import named_tasks

    tasks = named_tasks(args.data_root)
    require(args.task in tasks, f"there is no task {args.task!r}{nearest(args.task, tasks)}")
    require(args.samples > 0 and args.problems > 0, "--samples and --problems must be positive")
    require(args.shots >= 0, "--shots must be >= 0")
    require(args.temperature > 0 or args.samples == 1, "--temperature 0 gives one sample: use --samples 1 or raise it")
    ks = [k for k in _whole_numbers(args.k) if k <= args.samples]
    require(bool(ks) and min(ks) > 0, f"no k of --k {args.k} lies between 1 and --samples {args.samples}")
    require(args.checkpoint.is_dir(), f"there is no checkpoint folder {args.checkpoint}")
    here = machine(args.machine_settings)
    use_threads(threads_each(1, cores(), here.threads))
    model, tokenizer = open_checkpoint(args.checkpoint, here)
    task = tasks[args.task]
    check_asked(args.problems, args.samples, args.shots, args.max_new_tokens, model.config.context)
    settings = {name: getattr(args, name) for name in _ASKED}
    with _asked_for(args.out) if args.out else scratch("foray-eval-") as folder:
        graded_by = {"verifier": verifier_of(task)} if verifier_of(task) else {}
        if args.out:
            ends = list(tokenizer.end_ids) if len(tokenizer.end_ids) > 1 else None
            asked = {"checkpoint": _weights(args.checkpoint), "choice of end tokens": ends, "task": to_json(task)}
            _take(folder, asked | settings | graded_by)
        sampling.evaluate(embedded_engine(model, tokenizer), tokenizer, task, folder, **settings)
        rows = read_jsonl(folder / "problems.jsonl")
    table = Table("extraction", *[f"pass@{k}" for k in ks], box=None, pad_edge=False)
    for extraction in ("strict", "lenient"):
        correct = [r["correct"][extraction] for r in rows]
        table.add_row(extraction, *[f"{100 * pass_at_k(correct, args.samples, k).mean():.1f}%" for k in ks])
    samples = len(rows) * args.samples
    Console().print(table)
    formatted, truncated = (100 * sum(r[name] for r in rows) / samples for name in ("formatted", "truncated"))
    print(f"{len(rows)} problems x {args.samples} samples; formatted {formatted:.1f}%, truncated {truncated:.1f}%")


@contextlib.contextmanager
def _asked_for(out: Path) -> Iterator[Path]:
    with alone_in(out, f"another foray evaluates into {out}; wait for it or name another --out"):
        yield out


def _weights(checkpoint: Path) -> dict[str, str]:
    """Digests by file: another training's weights may come to lie in the same place."""
    model = checkpoint / "model" if (checkpoint / "model").is_dir() else checkpoint
    return {p.name: digest_of_input(p) for p in sorted(model.glob("*.safetensors"))}


def _take(folder: Path, settings: dict[str, Any]) -> None:
    """Makes a folder of completions that of ``settings``. Raises ValueError where it holds those of others."""
    made, written = folder / "settings.json", folder / "completions.jsonl"
    if written.exists() and written.stat().st_size:
        there = read_object(made, "name another --out") if made.exists() else {}
        other = [name for name, value in settings.items() if there.get(name) != value]
        require(not other, f"{folder} holds completions of another {' and '.join(other)}; name another --out")
    write_atomic(made, json.dumps(settings, indent=1, allow_nan=False) + "\n")


def grade(args: argparse.Namespace) -> None:
    from foray.evals.grade import grade_file, task_for

    task = task_for(args.task, args.file)
    ks = _whole_numbers(args.k)
    require(bool(ks) and min(ks) > 0, f"--k {args.k}: write positive whole numbers")
    extraction: Extraction = "lenient" if args.lenient else "strict"
    done = grade_file(task, args.file, args.out, extraction, args.suffix)
    fewest = min(n for n, _ in done.counts)
    table = Table("", "%", "95%", box=None, pad_edge=False)
    for k in [k for k in ks if k <= fewest]:
        value, lo, hi = _pass_at(done.counts, k)
        table.add_row(f"pass@{k}", f"{100 * value:.1f}", f"{100 * lo:.1f} to {100 * hi:.1f}")
    console = Console()
    console.print(table, highlight=False)
    changed = f"; {done.changed} of the {done.stored} stored verdicts are others now" if done.stored else ""
    tell(
        f"{done.rows} rows, {done.samples} answers: {done.correct} right, "
        f"{100 * done.formatted / done.samples:.1f}% in the asked-for format; {extraction}{changed}; {args.out}"
    )


def _pass_at(counts: Counter[tuple[int, int]], k: int) -> tuple[float, float, float]:
    """pass@k of rows counted by (samples, correct), with the report's interval where there are few enough for it."""
    from foray.report.stats import mean_interval_of_many, mean_intervals

    rows = sum(counts.values())
    values = pass_at_k([c for _, c in counts], [n for n, _ in counts], k)
    times = np.array(list(counts.values()))
    if rows <= 1000:  # the bootstrap's memory grows with the problems
        return mean_intervals(np.repeat(values, times)[:, None])[0][:3]
    return mean_interval_of_many(values, times)[:3]


def _whole_numbers(text: str) -> list[int]:
    try:
        return sorted({int(k) for k in text.split(",")})
    except ValueError:
        raise ValueError(f"--k {text}: write whole numbers separated by commas") from None


COMMANDS = {
    "run": run, "plan": plan, "report": report, "ls": ls, "prepare": prepare, "data": data, "eval": evaluate,
    "grade": grade, "gc": gc, "check": check,
}  # fmt: skip
