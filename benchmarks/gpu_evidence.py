"""The GPU's half hour: five steps, each one command of at most ten minutes, whose results come back as a few files.

    python3 benchmarks/gpu_evidence.py STEP [--rehearse] [--again] [--only PART]

A part of a step is a process of its own with a limit of its own. Its results are on disk as soon as they are known, in
``benchmarks/out`` and in $OUT where that is set; what fails or runs out of time leaves what it has, with the reason.
A part that is done already, on this kind of card and with this code, is not done again. Only the standard library is
needed here: the parts import the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import gpu_steps
from gpu_steps import Part, Step
from gpu_summary import summary

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "out"
MOST_FILES, MOST_BYTES = 8, 16 << 20  # that come back from a lent machine
MARGIN = 12.0  # seconds that a step keeps for its last words
MOST_LOG = 2 << 20
GRACE = 4.0  # seconds between asking a part to end and ending it


class Evidence:
    """A step under way: runs its parts and keeps their results."""

    def __init__(self, step: Step, kept: Path, rehearse: bool) -> None:
        self.step, self.kept, self.rehearse = step, kept, rehearse
        self.begun = time.monotonic()
        self.files = kept / f"files{step.number}"
        if any(p.name == "back" for p in step.parts):
            shutil.rmtree(self.files, ignore_errors=True)  # an earlier command's, which have travelled
        for folder in (kept, self.files):
            folder.mkdir(parents=True, exist_ok=True)
        self.path = kept / f"step{step.number}.json"
        before = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.before: dict[str, Any] = before.get("parts", {})
        self.log = kept / f"step{step.number}.log"
        self.log.write_bytes(b"")
        self.result: dict[str, Any] = {
            "step": step.number, "title": step.title, "rehearsal": rehearse, "code": code(), "commit": commit(),
            "begun": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "parts": {},
        }  # fmt: skip

    def run(self, again: bool = False, only: str = "") -> bool:
        """Runs the parts in order; says whether all of them are done."""
        for part in self.step.parts:
            if only and part.name not in (only, "card"):  # the card says what machine this is
                continue
            left = self.step.minutes * 60 - MARGIN - (time.monotonic() - self.begun)
            kept = self.before.get(part.name, {})
            if not (again or part.always) and self._holds(kept):
                self._note(part, kept | {"taken_over": True})
            elif left < part.least:
                self._note(part, {"status": "not begun", "why": f"{max(0.0, left):.0f} s were left"})
            else:
                self._note(part, self._carry_out(part, min(part.seconds, left)))
            print(f"{part.name}: {self.result['parts'][part.name]['status']}", flush=True)
        return all(p["status"] == "done" for p in self.result["parts"].values())

    def _holds(self, kept: dict[str, Any]) -> bool:
        here = (self.result["code"], self.device())
        return kept.get("status") == "done" and (kept.get("code"), kept.get("device")) == here

    def device(self) -> str:
        return str(self.result["parts"].get("card", {}).get("found", {}).get("device", ""))

    def _carry_out(self, part: Part, limit: float) -> dict[str, Any]:
        values = self.kept / f".{part.slug}.json"
        values.unlink(missing_ok=True)
        begun = time.monotonic()
        status = "out of time"
        with open(self.log, "ab") as log:
            log.write(f"\n===== {part.name}: {' '.join(part.words)}\n".encode())
            log.flush()
            where = log.tell()
            process = subprocess.Popen(
                part.command(values, self.kept), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
                env=environment(self.files, self.kept, self.rehearse), process_group=0,
            )  # fmt: skip
            try:
                while time.monotonic() - begun < limit:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(min(2.0, max(0.05, limit - (time.monotonic() - begun))))
                    if process.poll() is not None:
                        status = "done" if process.returncode == 0 else "failed"
                        break
                    self._note(part, {"status": "under way", "found": read(values)})
            finally:
                end(process)
                said = self._said(where)
                out = {"status": status, "seconds": round(time.monotonic() - begun, 1), "limit": round(limit, 1)}
                out |= {"found": read(values), "code": self.result["code"]}
                if status != "done":
                    out |= {"exit": process.returncode, "why": said[-3000:]}
                if part.keep_words:
                    out["said"] = said[-part.keep_words :]
                self.result["parts"][part.name] = out
                out["device"] = self.device()
                self.save()
        return out

    def _said(self, where: int) -> str:
        with open(self.log, "rb") as f:
            f.seek(where)
            return f.read().decode(errors="replace")

    def _note(self, part: Part, values: dict[str, Any]) -> None:
        self.result["parts"][part.name] = values
        self.save()

    def save(self) -> None:
        """Everything known so far, here and in $OUT."""
        self.result["seconds"] = round(time.monotonic() - self.begun, 1)
        write(self.path, json.dumps(self.result, indent=1, allow_nan=False) + "\n")
        write(self.kept / f"step{self.step.number}.txt", summary(self.result))
        out = os.environ.get("OUT")
        if not out:
            return
        names = [self.path, self.path.with_suffix(".txt"), self.log, *sorted(self.files.iterdir())]
        for number, path in enumerate(names):
            if number < MOST_FILES and path.is_file() and path.stat().st_size <= MOST_BYTES:
                copy = Path(out) / path.name
                if path == self.log:
                    copy.write_bytes(path.read_bytes()[-MOST_LOG:])
                elif not copy.exists() or copy.stat().st_mtime_ns < path.stat().st_mtime_ns:
                    shutil.copyfile(path, copy)


def read(path: Path) -> dict[str, Any]:
    """What a part has found so far."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part and whatever it has started: asked first, then not."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    process.wait()


def environment(files: Path, kept: Path, rehearse: bool) -> dict[str, str]:
    """Of a part. What is compiled stays beside the results, for the parts and steps behind."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    out = os.environ | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
        "GPU_FILES": str(files),
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(kept / "compiled"),
        "TRITON_CACHE_DIR": str(kept / "triton"),
    }
    return out | ({"FORAY_GPU_TESTS_ON": "cpu", "CUDA_VISIBLE_DEVICES": ""} if rehearse else {})


def code() -> str:
    """A digest of the program that is measured: on a lent machine there may be no git to say the commit."""
    found = hashlib.sha256()
    for path in sorted([*ROOT.glob("src/foray/**/*.py"), *ROOT.glob("benchmarks/*.py")]):
        found.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return found.hexdigest()[:16]


def commit() -> str:
    try:
        words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def ended(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", nargs="?", type=int, choices=range(1, 6))
    parser.add_argument("--rehearse", action="store_true", help="on the CPU with a small shape, under the same limits")
    parser.add_argument("--again", action="store_true", help="parts that are done already, too")
    parser.add_argument("--only", default="", help="one part of the step, by its name")
    parser.add_argument("--minutes", type=float, help="for the step, in place of its own")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where results stay")
    parser.add_argument("--code", action="store_true", help="print the digest of the code and end")
    args = parser.parse_args()
    if args.code or args.step is None:
        print(code())
        return
    signal.signal(signal.SIGTERM, ended)
    step = gpu_steps.steps(args.rehearse)[args.step - 1]
    if args.minutes is not None:
        step = step.within(args.minutes)
    kept = args.kept / "rehearsal" if args.rehearse and args.kept == KEPT else args.kept
    evidence = Evidence(step, kept.resolve(), args.rehearse)
    try:
        fine = evidence.run(args.again, args.only)
    finally:
        evidence.save()
        print(summary(evidence.result)[-10_000:], flush=True)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
