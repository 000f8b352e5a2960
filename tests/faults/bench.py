"""A study that is run under faults, and what an undisturbed run of it gives."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from faults.watch import await_session, used
from foray.core.files import digest

HERE = Path(__file__).parent.parent
STUDIES = {
    "smoke": "from foray.studies import smoke\n\ndef study():\n    return smoke.study()\n",
    "parallel": "from test_study import pretrained_to, study as mini\n\n"
    "def study():\n    return mini(recipes=('sft', 'parallel', 'sft_rl'), pretrain=pretrained_to(768, 1536))\n",
    # For many ranks: one recipe with both kinds of streams.
    "ranks": "from test_study import pretrained_to, study as mini\n\n"
    "def study():\n    return mini(recipes=('parallel',), pretrain=pretrained_to(768, 1536))\n",
}
# Drawing takes most of a small study's time: of all figures two are drawn.
FEW_FIGURES = (
    "import foray.report, foray.report.figures\n"
    "_few = [f for f in foray.report.figures.discover() if f.NAME in ('f2_passk', 'a2_rewards')]\n"
    "foray.report.discover = lambda: _few\n"
)
ENV = os.environ | {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
}


def results(store: Path) -> dict[str, str]:
    """Checksums of all weights, completions and tables; a ledger holds seconds."""
    names = ["nodes/train-*/model/model.safetensors", "nodes/*/completions.jsonl", "nodes/*/problems.jsonl"]
    files = [f for name in [*names, "nodes/*/probes.json", "report/*.csv"] for f in store.glob(name)]
    aside = [f for f in files if any(".damaged" in part for part in f.parts)]
    return {str(f.relative_to(store)): digest(f) for f in files if f.name != "ledger.csv" and f not in aside}


class Started:
    """A run in a session of its own."""

    def __init__(self, words: list[str], said: Path) -> None:
        self.said = said
        with open(said, "w") as out:
            self.process = subprocess.Popen(words, env=ENV, stdout=out, stderr=out, start_new_session=True)
        self.pid = self.process.pid

    def finish(self) -> tuple[int, str]:
        """Waits for it and for all that it started; exit code and what was said. Raises Hang."""
        code = await_session(self.pid, self.process.poll)
        return code, self.said.read_text(errors="replace")

    def seconds(self) -> float:
        """Of a core, used so far."""
        return sum(used(self.pid).values())


class Bench:
    """A study file and the results of an undisturbed run of it."""

    def __init__(self, name: str, root: Path, *words: str) -> None:
        self.name, self.root, self.words, self.number = name, root, words or ("--jobs", "2"), count()
        self.file = root / f"{name}_study.py"
        self.file.write_text(FEW_FIGURES + STUDIES[name])
        self.whole = root / "whole"
        before = os.times()
        code, said = self.run(self.whole)
        after = os.times()
        assert code == 0, said
        self.expected = results(self.whole)
        assert len(self.expected) > 10
        self.seconds = sum(after[2:4]) - sum(before[2:4])  # of a core

    def start(self, store: Path, *words: str, before: Sequence[str] = ()) -> Started:
        command = [
            *before,
            sys.executable,
            "-m",
            "foray",
            "run",
            str(self.file),
            "--store",
            str(store),
            *self.words,
            *words,
        ]
        return Started(command, self.root / f"said-{next(self.number)}")

    def run(self, store: Path, *words: str) -> tuple[int, str]:
        return self.start(store, *words).finish()

    def copy(self, name: str) -> Path:
        shutil.rmtree(self.root / name, ignore_errors=True)
        shutil.copytree(self.whole, self.root / name)
        return self.root / name


def one_line(said: str) -> bool:
    return said.startswith("foray: ") and said.count("\n") == 1 and "Traceback" not in said
