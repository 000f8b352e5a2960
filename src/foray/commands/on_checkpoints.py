"""The commands that sample and grade: a checkpoint on a task or a question, and answers from any source."""

from __future__ import annotations

import argparse
import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from foray.core.canonical import fill_root, nearest, require, to_json
from foray.core.cores import cores, use_threads
from foray.core.engines import check_truncation
from foray.core.files import alone_in, digest_of_input, read_jsonl, read_object, require_own, write_json
from foray.core.machine import machine
from foray.core.passk import check_asked, pass_at_k
from foray.core.scratch import scratch
from foray.core.task import STORED, Extraction, verifier_of
from foray.core.terminal import one_line, tell
from foray.core.userfile import is_own_file, own_object
from foray.study.contracts import check_task
from foray.study.executors.schedule import threads_each
from foray.study.kinds.models import open_checkpoint
from foray.study.progress import counted

if TYPE_CHECKING:
    from foray.data.tokenizer import TextTokenizer
    from foray.evals.ask import Answers
    from foray.model.transformer import Transformer

_SAMPLING = ("temperature", "max_new_tokens", "precision", "top_p", "top_k", "min_p")  # options of foray sample
# The options of foray eval that are arguments of sampling.evaluate, under the same names.
_ASKED = ("split", "problems", "shots", "samples", "seed", "cut_off", *_SAMPLING)
_KS, _FEW_KS = (1, 8, 32), (1, 2, 4)  # without --k; the second of fewer than 8 samples
_PROBLEMS = 200  # that foray eval asks without --problems, at most


def evaluate(args: argparse.Namespace) -> None:
    from foray.evals import sampling
    from foray.rollout.choose import embedded_engine

    task = _task(args)
    require(args.samples > 0, "--samples must be positive")
    require(args.problems is None or args.problems > 0, "--problems must be positive")
    require(args.shots >= 0, "--shots must be >= 0")
    require(args.temperature >= 0, f"--temperature must be >= 0, not {args.temperature:g}")
    require(
        args.temperature > 0 or args.samples == 1,
        "--temperature 0 gives one sample: use --samples 1, or raise the temperature",
    )
    check_truncation(args)
    ks = _ks(args.k, args.samples)
    few = f"--k {args.k}: pass@{ks[-1]} needs at least {ks[-1]} samples a problem: --samples {ks[-1]}"
    require(args.k is None or ks[-1] <= args.samples, few)
    ks = [k for k in ks if k <= args.samples]
    if args.problems is None:
        args.problems = len(task.problems(args.split, _PROBLEMS))
        require(args.problems > 0, f"{task.name} has no {args.split} problems")
    model, tokenizer = _model(args)
    check_asked(args.problems, args.samples, args.shots, args.max_new_tokens, model.config.context)
    settings = {name: getattr(args, name) for name in _ASKED}
    taken = f"another foray evaluates into {args.out}; wait for it or name another --out"
    with alone_in(args.out, taken) if args.out else scratch("foray-eval-") as folder:
        graded_by = {"verifier": verifier_of(task)} if verifier_of(task) else {}
        if args.out:
            ends = list(tokenizer.end_ids) if len(tokenizer.end_ids) > 1 else None
            weights, beside = _digests(args.checkpoint)
            asked = {"checkpoint": weights, "choice of end tokens": ends, "config and tokenizer": beside}
            _take(folder, asked | {"task": to_json(task)} | settings | graded_by | {"gradings": list(STORED)})
        with counted(Console(stderr=True), "problems") as report:
            sampling.evaluate(embedded_engine(model, tokenizer), tokenizer, task, folder, **settings, report=report)
        rows = read_jsonl(folder / "problems.jsonl")
    table = Table("grading", *[f"pass@{k}" for k in ks], box=None, pad_edge=False)
    for extraction in STORED:
        correct = [r["correct"][extraction] for r in rows]
        counts = Counter((args.samples, c) for c in correct)
        cells = [[100 * x for x in _pass_at(counts, k)] for k in ks]
        table.add_row(extraction, *[f"{value:.1f}% [{lo:.1f}, {hi:.1f}]" for value, lo, hi in cells])
    samples = len(rows) * args.samples
    Console().print(table)
    formatted, truncated = (100 * sum(r[name] for r in rows) / samples for name in ("formatted", "truncated"))
    print(
        f"{len(rows)} problems x {args.samples} samples; 95% intervals; "
        f"formatted {formatted:.1f}%, truncated {truncated:.1f}%"
    )


def _task(args: argparse.Namespace) -> Any:
    from foray.tasks import named_tasks

    tasks = {args.task: _own_task(args)} if is_own_file(args.task) else named_tasks(args.data_root)
    require(args.task in tasks, f"there is no task {args.task!r}{nearest(args.task, tasks)}")
    return tasks[args.task]


def _model(args: argparse.Namespace) -> tuple[Transformer, TextTokenizer]:
    """Model and tokenizer of the command's checkpoint, on the command's machine."""
    require(args.checkpoint.is_dir(), f"there is no checkpoint folder {args.checkpoint}")
    listed = f"foray ls STUDY --store {quote(str(args.checkpoint))}"
    store = f"{args.checkpoint} is a store: `{listed}` names its checkpoints"
    require(not (args.checkpoint / "nodes").is_dir(), store)
    here = machine(args.machine_settings)
    use_threads(threads_each(1, cores(), here.threads))
    return open_checkpoint(args.checkpoint, here)


def sample(args: argparse.Namespace) -> None:
    from foray.evals.ask import ask
    from foray.rollout.choose import embedded_engine

    task = _task(args) if args.task else None
    require(args.samples > 0, "-n must be positive")
    require(args.shots >= 0, "--shots must be >= 0")
    require(args.temperature >= 0, f"--temperature must be >= 0, not {args.temperature:g}")
    check_truncation(args)
    model, tokenizer = _model(args)
    engine = embedded_engine(model, tokenizer)
    settings = {name: getattr(args, name) for name in _SAMPLING}
    for question in [args.question] if args.question is not None else _typed():
        found = ask(
            engine, tokenizer, task, question, args.samples, shots=args.shots, seed=args.seed, sampling=settings
        )  # fmt: skip
        if found.problem is not None and found.problem.question != question:
            tell(one_line(found.problem.question))
        for row in found.samples:
            tell(f"{_verdict(found, row):>9}  {one_line(row['text'].strip())}")
        if found.problem is None:
            tell("not graded: " + (f"{task.name} does not know the question" if task else "name a --task that grades"))
        else:
            right = sum(row["correct"] for row in found.samples)
            tell(f"{right} of {args.samples} right (strict grading); the answer is {one_line(found.problem.answer)}")


def _typed() -> Iterator[str]:
    """The questions that a user types, a line each, to the end of the input. A person is shown where to type."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # one line that is no UTF-8 does not end the session
    if sys.stdin.isatty():
        print("A question a line; Ctrl-D ends.", flush=True)
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _verdict(found: Answers, row: dict[str, Any]) -> str:
    if row["stop"] == "length":
        return "cut off"
    return "" if found.problem is None else "right" if row["correct"] else "wrong"


def _own_task(args: argparse.Namespace) -> Any:
    """The task that ``FILE.py:NAME`` names, checked. The data root, where there is one, fills the task's own."""
    task = fill_root(own_object(args.task, "task"), getattr(args, "data_root", ""))
    check_task(task, grades=args.command == "grade")
    return task


def _digests(checkpoint: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The digests of the weights, and of the other files that a completion depends on.

    Another training may overwrite the files in the same place.
    """
    from foray.data.tokenizer import FILES

    model = checkpoint / "model" if (checkpoint / "model").is_dir() else checkpoint
    beside = (model / name for name in ("config.json", "generation_config.json", *FILES))
    weights, others = sorted(model.glob("*.safetensors")), [p for p in beside if p.is_file()]
    return {p.name: digest_of_input(p) for p in weights}, {p.name: digest_of_input(p) for p in others}


def _take(folder: Path, settings: dict[str, Any]) -> None:
    """Marks a folder of completions with ``settings``. Raises ValueError for completions of other settings."""
    made, written = folder / "settings.json", folder / "completions.jsonl"
    names = ("settings.json", "completions.jsonl", "problems.jsonl", "ledger.json")
    ours = made.exists() and "checkpoint" in read_object(made, "name another --out")
    require_own(folder, ours, names, "name another --out")
    if written.exists() and written.stat().st_size:
        there = read_object(made, "name another --out") if made.exists() else {}
        other = [name for name, value in settings.items() if there.get(name) != value]
        require(not other, f"{folder} holds completions of other settings: {', '.join(other)}; name another --out")
    write_json(made, settings, indent=1)


def grade(args: argparse.Namespace) -> None:
    from foray.evals.grade import grade_file, task_for

    task = task_for(args.task, args.file, _own_task(args) if is_own_file(args.task) else None)
    _ks(args.k, 1)  # a mistake there is said before the work
    extraction: Extraction = "lenient" if args.lenient else "flexible" if args.flexible else "strict"
    with counted(Console(stderr=True), "rows") as report:
        done = grade_file(task, args.file, args.out, extraction, args.suffix, report)
    fewest = min(n for n, _ in done.counts)
    table = Table("", "%", "95%", box=None, pad_edge=False)
    for k in [k for k in _ks(args.k, fewest) if k <= fewest]:
        value, lo, hi = _pass_at(done.counts, k)
        table.add_row(f"pass@{k}", f"{100 * value:.1f}", f"{100 * lo:.1f} to {100 * hi:.1f}")
    if table.rows:
        Console().print(table, highlight=False)
    most = max(_ks(args.k, _KS[-1]))
    if (args.k or fewest > 1) and most > fewest:
        print(f"For pass@{most} every row needs {most} completions: a row has only {fewest}")
    changed = f"; {done.changed} of the {done.stored} stored verdicts have changed" if done.stored else ""
    tell(
        f"{done.rows} rows, {done.samples} answers: {done.correct} right, "
        f"{100 * done.formatted / done.samples:.1f}% in the asked-for format; {extraction}{changed}; {args.out}"
    )


def _pass_at(counts: Counter[tuple[int, int]], k: int) -> tuple[float, float, float]:
    """pass@k of rows counted by (samples, correct). Up to 1,000 rows get the report's bootstrap interval."""
    from foray.report.stats import mean_interval_of_many, mean_intervals

    rows = sum(counts.values())
    values = pass_at_k([c for _, c in counts], [n for n, _ in counts], k)
    times = np.array(list(counts.values()))
    if rows <= 1000:  # the memory of the bootstrap grows with the rows
        return mean_intervals(np.repeat(values, times)[:, None])[0][:3]
    return mean_interval_of_many(values, times)[:3]


def _ks(asked: str | None, samples: int) -> list[int]:
    """The values of --k, or those that suit so many samples."""
    if asked is None:
        return list(_KS if samples >= _KS[1] else _FEW_KS)
    words = asked.split(",")
    require(all(w.strip().isdecimal() and int(w) > 0 for w in words), f"--k {asked}: write positive whole numbers")
    return sorted({int(w) for w in words})
