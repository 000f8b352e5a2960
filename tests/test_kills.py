"""The smoke study, killed at 30 random moments in all its phases, ends with the bits of an undisturbed run."""

from __future__ import annotations

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
    """The kinds of nodes (and stages) that have begun and are not sealed."""
    found = set()
    for spec in store.glob("nodes/*/spec.json"):
        if not (spec.parent / SEAL).exists():
            text = json.loads(spec.read_text())
            found.add(text["kind"] if text["kind"] != "train" else text["stage"]["name"])
    return found


def reporting(store: Path) -> bool:
    return (store / "manifest.json").exists() and not (store / "report" / "drawn_from.json").exists()


def results(store: Path) -> dict[str, str]:
    files = [*store.glob("nodes/train-*/model/model.safetensors"), *(store / "report").glob("*.csv")]
    return {str(f.relative_to(store)): digest(f) for f in files}


@pytest.mark.slow
def test_killed_at_thirty_moments_the_smoke_study_ends_the_same(tmp_path: Path) -> None:
    undisturbed, store = tmp_path / "undisturbed", tmp_path / "killed"
    whole = start(undisturbed)
    said, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, said.decode()
    rng = random.Random(0)
    assert len(PHASES) == 30
    for phase in PHASES:
        run = start(store)
        try:
            begun = time.monotonic()
            while phase != "start" and not (reporting(store) if phase == "report" else phase in at_work(store)):
                assert run.poll() is None, f"{phase} never came: {run.stdout.read().decode()[-2000:]}"  # type: ignore[union-attr]
                assert time.monotonic() - begun < 120
                time.sleep(0.002)
            time.sleep(rng.random() * (3.0 if phase == "start" else 0.4))
            assert run.poll() is None, f"the run ended before it was killed in {phase}"
        finally:
            if rng.random() < 0.5:
                run.kill()  # the driver alone: its workers die with it
            else:
                os.killpg(run.pid, signal.SIGKILL)
            run.communicate(timeout=60)
    last = start(store)
    said, _ = last.communicate(timeout=600)
    assert last.returncode == 0, said.decode()
    assert results(store) == results(undisturbed)
    assert len(results(store)) > 10
