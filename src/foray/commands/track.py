"""The command that mirrors a study's numbers in an experiment tracker, and the same command beside a run."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foray.commands.options import every_of, opened, require_store
from foray.core.terminal import one_line, tell
from foray.study.mirror import Mirror, tracking_folder
from foray.study.store import Store
from foray.study.trackers import check_tracker, open_tracker

PATIENCE = 30.0  # seconds that the end of a run waits for a tracker
_LOGGED = "logged: "  # begins the last line of a mirror that has logged everything


def track(args: argparse.Namespace) -> None:
    every = every_of(args)
    study, store = opened(args)
    check_tracker(args.to)
    if not args.follow:
        require_store(store, args.study)
    ended, parent = threading.Event(), os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # a run that starts this command holds it back
    folder = tracking_folder(store, args.to)
    mirror = Mirror(study, store, open_tracker(args.to), folder)
    try:
        while True:
            last = ended.is_set() or not args.follow or mirror.done() or os.getppid() != parent
            mirror.look()
            if last:
                break
            ended.wait(every)
        mirror.close()
    except Exception as e:  # a tracker's library has errors of its own
        raise ValueError(f"{args.to}: {type(e).__name__}: {one_line(str(e))[:300]}") from e
    tell(f"{_LOGGED}{folder}")


@contextmanager
def tracked(args: argparse.Namespace, store: Store) -> Iterator[None]:
    """Mirrors the store in each tracker of ``--track`` meanwhile. What happens to a tracker is told, and no more.

    Raises ValueError before anything runs for a tracker that does not exist or is not installed.
    """
    for name in args.track:
        check_tracker(name)
    first = os.environ.get("RANK", "0") == "0"
    begun = [(name, *_begun(args, store, name)) for name in dict.fromkeys(args.track) if first]
    try:
        yield
    finally:
        for name, child, log in begun:
            if why := _end(child, log):
                tell(f"tracker {name}: {why}; `foray track` logs what is missing")


def _begun(args: argparse.Namespace, store: Store, name: str) -> tuple[subprocess.Popen[bytes], Path]:
    folder = tracking_folder(store, name)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "track.log"
    words = ["track", args.study, "--store", str(store.root), "--to", name, "--follow"]
    words += [w for s in args.settings for w in ("--set", s)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # the child hears it once it listens
    try:
        with open(log, "wb") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "foray", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child, log


def _end(child: subprocess.Popen[bytes], log: Path) -> str:
    """Ends a mirror, and says what went wrong or nothing."""
    child.terminate()
    try:
        code = child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return f"did not end within {PATIENCE:.0f} seconds"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    # SIGTERM may come when a mirror has logged everything and its Python is about to end.
    if code == 0 or (code == -signal.SIGTERM and lines and lines[-1].startswith(_LOGGED)):
        return ""
    return one_line(lines[-1] if lines else f"ended with status {code}").removeprefix("foray: ")
