"""The smoke study, killed at 30 random moments in all its phases, ends with the bits of an undisturbed run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foray.core.files import SEAL, digest

# Where the run is killed, in the order in which the study gets there; a phase may come several times.
PHASES = [
    "start", "tokenizer", "tokenizer", "shard", "shard", "shard", "prompts", "pretrain", "pretrain", "pretrain",
    "sft", "sft", "rl", "rl", "sft_gold", "parallel", "parallel", "rl", "sft", "parallel", "passk", "passk", "passk",
    "probes", "probes", "perplexity", "perplexity", "report", "report", "report",
]  # fmt: skip


def start(store: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "foray", "run", "smoke", "--store", str(store), "--jobs", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, start_new_session=True)


def at_work(store: Path) -> set[str]:
    """The kinds of nodes (and the stages) that have begun and are not sealed."""
    found = set()
    for spec in store.glob("nodes/*/spec.json"):
        if not (spec.parent / SEAL).exists():
            text = json.loads(spec.read_text())
            found.add(text["kind"] if text["kind"] != "train" else text["stage"]["name"])
    return found


def reporting(store: Path) -> bool:
    return (store / "manifest.json").exists() and not (store / "report" / SEAL).exists()


def results(store: Path) -> dict[str, str]:
    """Checksums of all final weights and tables, without the ledger's seconds, which differ."""
    files = [*store.glob("nodes/train-*/model/model.safetensors"), *(store / "report").glob("*.csv")]
    return {str(f.relative_to(store)): digest(f) for f in files if f.name != "ledger.csv"}


def killed_in(phase: str, store: Path, rng: random.Random) -> bool:
    """Runs the study and kills it in the phase. False if the study ended before: the phase had no work left."""
    run = start(store)
    try:
        while phase != "start" and not (reporting(store) if phase == "report" else phase in at_work(store)):
            if run.poll() is not None:
                assert run.returncode == 0
                return False
            time.sleep(0.002)
        time.sleep(rng.random() * (1.5 if phase == "start" else 0.2))
        return run.poll() is None
    finally:
        if rng.random() < 0.5:
            run.kill()  # the driver alone: its workers die with it
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=60)


@pytest.mark.slow
def test_killed_at_thirty_moments_the_smoke_study_ends_the_same(tmp_path: Path) -> None:
    def finish(store: Path) -> dict[str, str]:
        run = start(store)
        said, _ = run.communicate(timeout=600)
        assert run.returncode == 0, said.decode()
        return results(store)

    expected = finish(tmp_path / "undisturbed")
    assert len(expected) > 10
    rng, stores, kills = random.Random(0), [tmp_path / "killed"], 0
    for phase in PHASES:
        while not killed_in(phase, stores[-1], rng):
            assert results(stores[-1]) == expected
            stores.append(tmp_path / f"killed {len(stores)}")  # it had got to its end: once more from nothing
            assert len(stores) < 10
        kills += 1
    assert kills == 30
    assert finish(stores[-1]) == expected
