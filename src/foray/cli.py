"""The command line. Heavy modules are imported inside the commands, so that ``foray --help`` answers at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from foray import __version__
from foray.core.canonical import nearest
from foray.core.interrupt import leave
from foray.core.process import FULL, is_full, panics_named
from foray.core.terminal import failure, one_line


class _Parser(argparse.ArgumentParser):
    """One clear line for a user's mistake, with the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        print(
            f"foray: {one_line(message)} (foray {'' if self.prog == 'foray' else self.prog.split()[-1] + ' '}--help)",
            file=sys.stderr,
        )
        raise SystemExit(2)


def _path(text: str) -> Path:
    """A path that was typed. Nothing typed is no path: it would be the folder that the command was typed in."""
    if not text:
        raise argparse.ArgumentTypeError("name a file or a folder; . is this one")
    return Path(text)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="foray", description="Post-training excursions from pre-training checkpoints.")
    parser.add_argument("--version", action="version", version=f"foray {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def study_command(name: str, text: str, *actions: str, several: bool = False) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=text, description=text)
        if actions:
            p.add_argument("action", choices=actions, help="what to do")
        what = "a bundled study (such as tiny or desk) or a path to a .py file"
        if several:
            p.add_argument("studies", metavar="STUDY", nargs="+", help=f"{what}; all that use the store")
        else:
            p.add_argument("study", metavar="STUDY", help=what)
        p.add_argument("--store", metavar="DIR", type=_path, help="where results live (default: runs/STUDY)")
        p.add_argument(
            "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
            help="change a setting, e.g. pretrain.lr=1e-3; may be repeated",
        )  # fmt: skip
        return p

    def machine_options(p: argparse.ArgumentParser) -> None:
        p.add_argument(
            "--machine", metavar="KEY=VALUE", action="append", default=[], dest="machine_settings",
            help="how to compute: device=cpu|cuda, microbatch_tokens=N, recompute=true, compile=on|off, ranks=N, "
            "threads=N (of a node)",
        )  # fmt: skip

    for name, text in (
        ("plan", "Print the graph of a study, what is done, and what the rest will cost."),
        ("run", "Run what is missing of a study and write its report."),
    ):
        p = study_command(name, text)
        p.add_argument("--part", metavar="NAME", help="one part of a study that has several")
        p.add_argument("--jobs", type=int, metavar="N", help="worker processes, each with its share of the cores")
        machine_options(p)
        if name == "plan":
            p.add_argument("--hardware", metavar="CARDxCOUNT", help="what it takes on these cards, e.g. h100x8")
    p.add_argument(
        "--executor", default="local", choices=["local", "ray", "slurm"],
        help="where nodes run: processes of this machine (the default), or a cluster whose machines share the store",
    )  # fmt: skip
    p.add_argument(
        "--address", metavar="HOST:PORT", help="of a Ray cluster (default: RAY_ADDRESS, or one started here)"
    )
    p.add_argument(
        "--slurm", metavar="KEY=VALUE", action="append", default=[],
        help="of Slurm's jobs, by submitit's names, e.g. partition=gpu or time=600 (minutes); may be repeated",
    )  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="print the scripts that Slurm would get")
    p = study_command("report", "Write the report of what is there.")
    p.add_argument(
        "--x", default="tokens", choices=["tokens", "samples", "flops", "seconds"],
        help="what the figures are drawn against (default: tokens)",
    )  # fmt: skip
    study_command("ls", "Map (M_t, recipe, seed) to folder and state.")
    text = "Say what may be deleted from a store, and why; with --delete, delete it."
    p = study_command("gc", text, several=True)
    p.add_argument("--delete", action="store_true", help="delete what is listed")
    text = "Read every file of a store once, and say what is not as it was written and what was made from it."
    p = commands.add_parser("check", help=text, description=text)
    p.add_argument("store", metavar="STORE", type=_path, help="the folder that foray run --store named")
    p.add_argument("--repair", action="store_true", help="set aside what is damaged, and make it anew")
    p.add_argument("--jobs", type=int, metavar="N", help="files at a time, then worker processes (default: one a core)")
    text = "Tokenise a pre-training mix once, in parallel, for studies to read."
    p = commands.add_parser("prepare", help=text, description=text)
    p.add_argument("mix", metavar="MIX", help="a bundled mix (such as dolmino_50b) or a path to a .py file")
    p.add_argument("--data-root", default="", metavar="DIR", help="where the local files of its sources lie")
    p.add_argument(
        "--out", required=True, metavar="DIR", type=_path, help="where the corpus goes; may hold a part of it"
    )
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="settings", help="change a setting")
    p.add_argument("--jobs", type=int, metavar="N", help="worker processes (default: one a core)")
    text = "Show what pre-training read at a step: sources, windows, text."
    p = study_command("data", text, "show")
    p.add_argument("--step", required=True, type=int, metavar="N", help="update, counted from 1")
    p.add_argument("--seed", type=int, metavar="S", help="of pre-training (default: the study's first)")
    p = commands.add_parser("eval", help="Sample and grade any checkpoint on a task.")
    p.add_argument("checkpoint", metavar="CHECKPOINT", type=_path, help="a checkpoint folder")
    p.add_argument(
        "--task",
        required=True,
        help="e.g. world_easy, world_hard, gsm8k, math, math500, svamp, jsonl; your own: FILE.py:NAME",
    )
    p.add_argument("--data-root", default="", help="where a task's local files lie; hub: from the Hugging Face hub")
    p.add_argument("--split", default="test", choices=["train", "validation", "test"])
    p.add_argument("--problems", type=int, default=200)
    p.add_argument("--shots", type=int, default=0)
    p.add_argument("--samples", type=int, default=32)
    p.add_argument("--temperature", type=float, default=0.6)
    p.add_argument("--max-new-tokens", type=int, default=96)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--precision", default="fp32", choices=["fp32", "bf16"], help="of the matrix products")
    machine_options(p)
    p.add_argument("--k", default="1,8,32", help="comma-separated; those beyond --samples are left out")
    p.add_argument("--out", type=_path, help="keep completions.jsonl and problems.jsonl in this folder")
    p = commands.add_parser("grade", help="Grade a file of answers or completions by anybody.")
    p.add_argument(
        "task", metavar="TASK", help="whose verifier: gsm8k, math, ..., FILE.py:NAME; -: what lies beside says it"
    )
    p.add_argument(
        "file",
        metavar="FILE.jsonl",
        type=_path,
        help="rows of {gold, answer} or {gold, completions}, or completions.jsonl",
    )
    p.add_argument("--out", metavar="GRADED.jsonl", type=_path, required=True, help="the same rows, graded")
    p.add_argument("--suffix", default="", metavar="TEXT", help="after the names of the new fields correct and reason")
    p.add_argument("--lenient", action="store_true", help="look for the answer where the format is missing")
    p.add_argument("--k", default="1,8,32", help="comma-separated; those beyond the completions of a row are left out")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 0 when it worked, 1 for a user's mistake or a stopped run, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = ["plan", "run", "report", "ls", "gc", "check", "prepare", "data", "eval", "grade"]
    if words and not words[0].startswith("-") and words[0] not in known:
        print(f"foray: there is no command {words[0]!r}{nearest(words[0], known)}", file=sys.stderr)
        return 2
    args = build_parser().parse_args(words)
    if args.command is None:
        build_parser().print_help()
        return 0
    code = _run(args)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from foray.study.executors.torchrun import leave

        leave(code)
    return code


def _run(args: argparse.Namespace) -> int:
    # A shell's background command starts with Ctrl-C ignored, and stays so.
    heard = [n for n in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(n) != signal.SIG_IGN]
    before = [(n, signal.signal(n, _interrupt)) for n in heard]
    try:
        from foray import commands  # takes a second or two, in which Ctrl-C may come
        from foray.core.userfile import own_code_named

        with own_code_named(), panics_named():  # a study's file is run by more commands than its nodes
            commands.COMMANDS[args.command](args)
    except (BrokenPipeError, SystemExit) as e:  # rich's for it: whoever read the output has read enough, as `head` does
        if isinstance(e, SystemExit) and e.__context__ is None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as e:
        print(f"foray: {failure(e)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as e:
        if not is_full(e):
            raise
        print(f"foray: {FULL}: ask for less at once, or try fewer --jobs", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = args.command in ("run", "prepare", "check") or (getattr(args, "out", None) and args.command == "eval")
        print("foray: interrupted" + ("; the same command goes on from here" if goes_on else ""), file=sys.stderr)
        return 130
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    return 0


def _interrupt(*_: object) -> None:
    """SIGTERM is Ctrl-C from a machine. A second one ends the process at once: what is on disk stays whole."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    raise KeyboardInterrupt
