"""What each command of the command line does."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from foray.commands.on_checkpoints import evaluate, grade, sample
from foray.commands.on_corpora import data, prepare
from foray.commands.on_stores import check, gc
from foray.commands.on_studies import ls, open_report, report, run, settings
from foray.commands.plan import plan
from foray.commands.track import track
from foray.commands.watch import watch

COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": run, "plan": plan, "report": report, "ls": ls, "prepare": prepare, "data": data, "eval": evaluate,
    "sample": sample, "grade": grade, "gc": gc, "check": check, "settings": settings, "open": open_report,
    "watch": watch, "track": track,
}  # fmt: skip
