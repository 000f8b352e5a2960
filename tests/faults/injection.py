"""Runs a study again and again while the disk fails once a run, until nothing is left to fail; prints what was seen.

    LD_PRELOAD=shim.so FORAY_FAULTS=CONTROL python injection.py STUDY STORE ERRNO SECONDS

Everything is imported once; each run is a fork. A line of JSON for every fault; the last says whether all were tried.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import struct
import sys
import time
import traceback
from pathlib import Path

from faults.watch import await_session

_HEAD = struct.Struct("4i1024s1024s")  # armed, error, fired, seen, below, what: as in shim.c
SIZE = _HEAD.size + (1 << 20)


def new_control(path: Path) -> None:
    path.write_bytes(bytes(SIZE))


class Control:
    """The file that the shim maps in every process."""

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), SIZE)

    def arm(self, error: int, below: Path) -> None:
        seen = _HEAD.unpack_from(self.map)[3]
        _HEAD.pack_into(self.map, 0, 1, error, 0, seen, f"{below}/".encode(), b"")

    def fired(self) -> str:
        """What failed since the last arming, or nothing; disarms."""
        _, _, fired, _, _, what = _HEAD.unpack_from(self.map)
        struct.pack_into("i", self.map, 0, 0)
        return what.split(b"\0")[0].decode(errors="replace") if fired else ""


def forked(words: list[str], out: Path, err: Path) -> int:
    """Runs the command line in a child of this process, in a session of its own; its exit code. Raises Hang."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            for path, fd in ((out, 1), (err, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
            sys.stdout, sys.stderr = (os.fdopen(fd, "w", closefd=False) for fd in (1, 2))  # not a test runner's
            from foray.cli import main

            code = main(words)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    found: list[int] = []

    def code_of() -> int | None:
        if not found:
            pid, status = os.waitpid(child, os.WNOHANG)
            found.extend([os.waitstatus_to_exitcode(status)] if pid else [])
        return found[0] if found else None

    return await_session(child, code_of)


def run(study: str, store: Path, error: int, seconds: float) -> None:
    # What a run imports, before the first fork.
    import torch
    import transformers  # noqa: F401

    import foray.commands
    import foray.report.figures
    import foray.study.kinds.training
    import foray.train.loop  # noqa: F401

    torch.set_num_threads(1)
    control, begun = Control(Path(os.environ["FORAY_FAULTS"])), time.monotonic()
    out, err = store.parent / f"{store.name}.out", store.parent / f"{store.name}.err"
    words = ["run", study, "--store", str(store), "--jobs", "1"]
    while time.monotonic() - begun < seconds:
        at = time.monotonic()
        control.arm(error, store.resolve())
        code = forked(words, out, err)
        what = control.fired()
        row = {"what": what, "errno": errno.errorcode[error], "code": code, "seconds": round(time.monotonic() - at, 2)}
        print(json.dumps(row | {"err": err.read_text(), "out": out.read_text()[-300:]}), flush=True)
        if code == 0 and not what:
            print(json.dumps({"all": True}), flush=True)
            return
        if code == 0:  # it went on in spite of the fault, beyond what has not failed yet: once more from nothing
            shutil.rmtree(store)
    print(json.dumps({"all": False}), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), getattr(errno, sys.argv[3]), float(sys.argv[4]))
