"""The command line. The commands import heavy modules themselves, so that ``foray --help`` answers at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TypeAlias

from foray.core.canonical import nearest
from foray.core.foray_version import VERSION
from foray.core.interrupt import interrupt, interrupt_again
from foray.core.parser import Parser, assignment, path, store_folder
from foray.core.process import FULL, is_full, panics_named
from foray.core.terminal import failure, nobody_reads

_Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

_GOES_ON = "; the same command goes on from here"
_TRACKERS = "tensorboard, wandb, mlflow, trackio; your own: FILE.py:NAME"


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="foray", description="Post-training excursions from pre-training checkpoints.")
    parser.add_argument("--version", action="version", version=f"foray {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_studies(commands)
    _add_stores(commands)
    _add_corpora(commands)
    _add_checkpoints(commands)
    text = "Print a script that completes foray's commands and options in a shell. Needs foray[completion]."
    p = commands.add_parser("completion", help=text, description=text)
    p.add_argument("shell", choices=["bash", "zsh", "tcsh"], help='bash: eval "$(foray completion bash)"')
    return parser


def _add_studies(commands: _Commands) -> None:
    """``plan``, ``run``, ``report``, ``ls``, ``settings`` and ``open``."""
    for name, text in (
        ("plan", "Print the graph of a study, the finished nodes, and the cost of the others."),
        ("run", "Run the missing nodes of a study and write its report."),
    ):
        p = _study_command(commands, name, text)
        p.add_argument("--part", metavar="NAME", help="one part of a study that has several (default: all)")
        _jobs_option(p)
        _machine_options(p)
        if name == "plan":
            p.add_argument(
                "--hardware", metavar="CARDxCOUNT", help="forecast for these cards, e.g. h100x8 (default: this machine)"
            )
    p.add_argument(
        "--executor", default="local", choices=["local", "ray", "slurm"],
        help="where nodes run: processes of this machine, or a cluster whose machines share the store",
    )  # fmt: skip
    p.add_argument(
        "--address", metavar="HOST:PORT", help="the Ray cluster (default: RAY_ADDRESS, or a new one on this machine)"
    )
    p.add_argument(
        "--slurm", metavar="KEY=VALUE", type=assignment, action="append", default=[],
        help="an option of the Slurm jobs, named as in submitit: partition=gpu, time=600 (minutes); may be repeated",
    )  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="print the scripts that Slurm would get")
    p.add_argument("--track", metavar="TRACKER", action="append", default=[], help=f"{_TRACKERS}; may be repeated")
    text = "Write the report of the finished nodes, or of two studies side by side."
    p = _study_command(commands, "report", text, or_store=True)
    p.add_argument(
        "other", metavar="OTHER", nargs="?",
        help="the second of two studies side by side: a study with --set as given, or the folder of a store, which "
        "STUDY may be too",
    )  # fmt: skip
    axes = ["tokens", "samples", "flops", "seconds"]
    p.add_argument("--x", default="tokens", choices=axes, help="horizontal axis of the figures")
    p.add_argument(
        "--paper", default="on", choices=["on", "off"],
        help="the paper's curves behind ours, and its numbers beside the claims",
    )  # fmt: skip
    p.add_argument("--out", metavar="DIR", type=path, help="a new folder for the report (default: in the store)")
    what = "results as tables to print, or for programs: markdown,latex,parquet"
    p.add_argument("--tables", metavar="FORMS", default="", help=what)
    p = _study_command(commands, "ls", "Map (M_t, recipe, seed) to folder and state.")
    p.add_argument("--json", action="store_true", help="all checkpoints and evaluations, as one JSON document")
    p = _study_command(commands, "settings", "Print every key that --set takes, its value and its meaning.", store="")
    p.add_argument("words", metavar="WORD", nargs="*", help="only the settings whose key or meaning has every word")
    _study_command(commands, "open", "Open the report of a study in a browser, and print its path.", or_store=True)
    _add_watch(commands)
    p = _study_command(commands, "track", "Mirror a study's numbers in an experiment tracker.")
    p.add_argument("--to", metavar="TRACKER", required=True, help=_TRACKERS)
    p.add_argument("--follow", action="store_true", help="go on until the study is done")
    p.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="time between looks")


def _add_watch(commands: _Commands) -> None:
    text = "Run a study's excursions from another program's checkpoints as they land."
    p = _study_command(commands, "watch", text, store="runs/STUDY-watched")
    p.add_argument(
        "checkpoints", metavar="CHECKPOINTS",
        help="'FOLDER/step{step}', or 'hub:ORGANISATION/NAME@step{step}-tokens{tokens}B'",
    )  # fmt: skip
    p.add_argument(
        "--tokens-per-step", type=int, default=0, metavar="N", help="tokens of one step, where no {tokens} says more"
    )
    p.add_argument("--every", type=float, default=60.0, metavar="SECONDS", help="time between looks")
    p.add_argument(
        "--settle", type=float, default=10.0, metavar="SECONDS",
        help="a checkpoint is ready once its files are this old",
    )  # fmt: skip
    p.add_argument("--until", type=int, default=0, metavar="N", help="end after N checkpoints; 0: never")
    _jobs_option(p)
    _machine_options(p)


def _add_stores(commands: _Commands) -> None:
    """``gc`` and ``check``."""
    text = "List the files of a store that no study needs, and why. With --delete, delete them."
    p = _study_command(commands, "gc", text, several=True)
    p.add_argument("--delete", action="store_true", help="delete what is listed, but for what the last report shows")
    p.add_argument("--reported", action="store_true", help="with --delete: what the last report shows, too")
    text = (
        "Read every file of a store once. List the damaged files, the results that were made from them, and the "
        "results that were made from other weights than their model has now."
    )
    p = commands.add_parser("check", help=text, description=text)
    p.add_argument("store", metavar="STORE", type=path, help="the folder that foray run --store named")
    p.add_argument("--repair", action="store_true", help="set such folders aside and make them anew")
    what = "files read at once, and worker processes of a repair (default: one a core, at most 4)"
    p.add_argument("--jobs", type=int, metavar="N", help=what)


def _add_corpora(commands: _Commands) -> None:
    """``prepare`` and ``data``."""
    text = "Tokenize a pre-training mix once, in parallel, for studies to read."
    p: argparse.ArgumentParser = commands.add_parser("prepare", help=text, description=text)
    p.add_argument("mix", metavar="MIX", help="a bundled mix (such as dolmino_50b) or a path to a .py file")
    p.add_argument("--data-root", default="", metavar="DIR", help="folder of the sources' local files")
    p.add_argument(
        "--out", required=True, metavar="DIR", type=path, help="folder of the corpus; an unfinished corpus goes on"
    )
    _set_option(p, "change a setting; may be repeated")
    p.add_argument("--jobs", type=int, metavar="N", help="worker processes (default: one a core)")
    text = "Show the text that pre-training read at a step, with sources and windows."
    p = _study_command(commands, "data", text, "show")
    p.add_argument("--step", required=True, type=int, metavar="N", help="update, counted from 1")
    p.add_argument("--seed", type=int, metavar="S", help="seed of the pre-training (default: the study's first)")


def _add_checkpoints(commands: _Commands) -> None:
    """``eval``, ``sample`` and ``grade``."""
    tasks = "e.g. world_easy, world_hard, gsm8k, math, math500, svamp, jsonl; your own: FILE.py:NAME"
    text = "Sample and grade any checkpoint on a task."
    p = commands.add_parser("eval", help=text, description=text)
    p.add_argument("checkpoint", metavar="CHECKPOINT", type=path, help="a checkpoint folder")
    p.add_argument("--task", required=True, help=tasks)
    p.add_argument(
        "--split", default="test", choices=["train", "validation", "test"], help="which problems of the task"
    )
    p.add_argument(
        "--problems", type=int, metavar="N",
        help="problems that are asked, the first of the split (default: 200, or all of fewer)",
    )  # fmt: skip
    p.add_argument("--samples", type=int, default=32, metavar="N", help="completions a problem")
    what = "what a completion without an end is worth: nothing, or what its text says"
    p.add_argument("--cut-off", default="wrong", choices=["wrong", "graded"], help=what)
    _sampling_options(p)
    what = "the k of pass@k, comma-separated, up to --samples (default: 1,8,32; of fewer than 8 samples 1,2,4)"
    p.add_argument("--k", help=what)
    what = "keep completions.jsonl and problems.jsonl in this folder; once killed, it goes on there"
    p.add_argument("--out", type=path, help=what)
    text = "Ask a checkpoint questions. Answers are graded where the task knows the question."
    p = commands.add_parser("sample", help=text, description=text)
    p.add_argument("checkpoint", metavar="CHECKPOINT", type=path, help="a checkpoint folder")
    p.add_argument("--question", metavar="TEXT", help="a question, or a problem's id (default: read one a line)")
    p.add_argument("--task", help=f"the task that writes the prompt and grades: {tasks}")
    p.add_argument("-n", "--samples", type=int, default=8, help="answers a question")
    _sampling_options(p)
    _add_grade(commands)


def _sampling_options(p: argparse.ArgumentParser) -> None:
    """How ``eval`` and ``sample`` ask."""
    p.add_argument(
        "--data-root", default="", metavar="DIR", help="folder of the task's local files; hub: the Hugging Face hub"
    )
    p.add_argument("--shots", type=int, default=0, metavar="N", help="solved examples in front of the question")
    p.add_argument("--temperature", type=float, default=0.6, help="0: the likeliest token at every place")
    what = "draw from the likeliest tokens of this total probability; 1: all"
    p.add_argument("--top-p", type=float, default=1.0, help=what)
    p.add_argument("--top-k", type=int, default=0, help="draw from this many of the likeliest tokens; 0: all")
    what = "draw from tokens with at least this share of the likeliest token's probability; 0: all"
    p.add_argument("--min-p", type=float, default=0.0, help=what)
    p.add_argument("--max-new-tokens", type=int, default=96, metavar="N", help="a longer completion is cut off")
    p.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the samples and of the choice of examples")
    p.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="precision of the matrix products")
    _machine_options(p)


def _add_grade(commands: _Commands) -> None:
    """``grade``."""
    text = "Grade a file of answers or completions from any source."
    p = commands.add_parser("grade", help=text, description=text)
    what = "the task that grades: gsm8k, math, ..., your own FILE.py:NAME; -: the task that a file beside FILE names"
    p.add_argument("task", metavar="TASK", help=what)
    what = "rows of {gold, answer} or {gold, completions}, or completions.jsonl"
    p.add_argument("file", metavar="FILE.jsonl", type=path, help=what)
    p.add_argument("--out", metavar="GRADED.jsonl", type=path, required=True, help="a new file: the same rows, graded")
    p.add_argument(
        "--suffix", default="", metavar="TEXT", help="ending of the new fields' names: correctTEXT, reasonTEXT"
    )
    graded = p.add_mutually_exclusive_group()
    words = "look for an answer also in a completion without the format"
    graded.add_argument("--lenient", action="store_true", help=words)
    words = "as the paper's test: the first ####, else the last box, else the last number"
    graded.add_argument("--flexible", action="store_true", help=words)
    what = "the k of pass@k, up to the completions of a row (default: 1,8,32; of fewer than 8 completions 1,2,4)"
    p.add_argument("--k", help=what)


def _study_command(
    commands: _Commands, name: str, text: str, *actions: str, several: bool = False, or_store: bool = False,
    store: str = "runs/STUDY",
) -> argparse.ArgumentParser:  # fmt: skip
    """A command that takes a study. ``store``: where its results lie by default; empty for one that reads none."""
    p = commands.add_parser(name, help=text, description=text)
    if actions:
        p.add_argument("action", choices=actions, help="what to do")
    what = "a bundled study (such as tiny or desk) or a path to a .py file"
    what += ", or a store's folder: what its last report shows" if or_store else ""
    if several:
        p.add_argument("studies", metavar="STUDY", nargs="+", help=f"{what}; all that use the store")
    else:
        p.add_argument("study", metavar="STUDY", help=what)
    if store:
        p.add_argument("--store", metavar="DIR", type=store_folder, help=f"where results live (default: {store})")
    _set_option(p, "change a setting, e.g. pretrain.lr=1e-3; may be repeated")
    return p


def _set_option(p: argparse.ArgumentParser, what: str) -> None:
    p.add_argument(
        "--set", metavar="KEY=VALUE", type=assignment, action="append", default=[], dest="settings", help=what
    )


def _jobs_option(p: argparse.ArgumentParser) -> None:
    what = "worker processes, each with its share of the cores (default: one a GPU, else one a core, at most 4)"
    p.add_argument("--jobs", type=int, metavar="N", help=what)


def _machine_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--machine", metavar="KEY=VALUE", type=assignment, action="append", default=[], dest="machine_settings",
        help="how to compute: device=cpu|cuda, microbatch_tokens=N, recompute=true, compile=on|off, ranks=N, "
        "threads=N (for each node)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns 0 for success, 1 or 2 for a user's mistake, 1 for a stopped run, 130 after Ctrl-C, 141
    where nobody reads the output of a command that works."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    parser = build_parser()
    known = next(a.choices or () for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    if words and not words[0].startswith("-") and words[0] not in known:
        print(f"foray: there is no command {words[0]!r}{nearest(words[0], known)}", file=sys.stderr)
        return 2
    args = parser.parse_args(words)
    if args.command is None:
        parser.print_help()
        return 0
    if args.command == "completion":
        return _completion(args.shell)
    code = _run(args)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from foray.study.executors.torchrun import leave

        leave(code)
    return code


def _works(args: argparse.Namespace) -> bool:
    """Whether a command makes something that the same command goes on with, once it was cut short."""
    works = args.command in ("run", "prepare", "watch") or getattr(args, "repair", False)
    return works and not getattr(args, "dry_run", False)


def _unread(args: argparse.Namespace) -> int:
    """The exit code where the reader of the output has closed the pipe, as ``head`` does once it has read enough.

    A command that only prints is done then. One that works has been cut short.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not _works(args):
        return 0
    try:
        print(f"foray: stopped, as nobody reads the output any more{_GOES_ON}", file=sys.stderr, flush=True)
    except BrokenPipeError:  # as with 2>&1
        os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
    return 128 + signal.SIGPIPE


def _completion(shell: str) -> int:
    try:
        import shtab
    except ImportError:
        print("foray: completion needs shtab: pip install -e '.[completion]' in Foray's folder", file=sys.stderr)
        return 1
    print(shtab.complete(build_parser(), shell))
    return 0


def _run(args: argparse.Namespace) -> int:
    # A shell starts a background command with Ctrl-C ignored. The command keeps ignoring Ctrl-C.
    heard = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = [(n, signal.signal(n, interrupt)) for n in heard]
    hook, sys.unraisablehook = sys.unraisablehook, interrupt_again
    try:
        from foray import commands  # takes a second or two: Ctrl-C may come meanwhile
        from foray.core.userfile import own_code_named

        with own_code_named(), panics_named():  # most commands run the study's file
            commands.COMMANDS[args.command](args)
    except SystemExit as e:
        if not isinstance(e.__context__, BrokenPipeError):  # as rich exits where nobody reads the output
            raise
        return _unread(args)
    except (ValueError, OSError) as e:
        if isinstance(e, BrokenPipeError) and nobody_reads(sys.stdout):
            return _unread(args)
        print(f"foray: {failure(e)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as e:
        if not is_full(e):
            raise
        print(f"foray: {FULL}: ask for less at once, or try fewer --jobs", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = _works(args) or (args.command == "eval" and args.out)
        print("foray: interrupted" + (_GOES_ON if goes_on else ""), file=sys.stderr)
        return 130
    finally:
        sys.unraisablehook = hook
        for number, handler in before:
            signal.signal(number, handler)
    return 0
