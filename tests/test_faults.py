"""Faults by the hundred: whatever is killed, filled up, damaged or run twice, no number is wrong and nothing hangs.

Run with ``make fault-check``. ``docs/reliability.md`` holds what a whole run of it printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.injection import forked, new_control
from foray.core.files import SEAL, digest

pytestmark = pytest.mark.fault
HERE = Path(__file__).parent
LIMIT = 240.0  # seconds that no run takes, however busy the machine
STUDIES = {
    "smoke": "from foray.studies import smoke\n\ndef study():\n    return smoke.study()\n",
    "parallel": "from test_study import pretrained_to, study as mini\n\n"
    "def study():\n    return mini(recipes=('sft', 'parallel', 'sft_rl'), pretrain=pretrained_to(768, 1536))\n",
}
ENV = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
}


def results(store: Path) -> dict[str, str]:
    """Checksums of all weights, completions and tables; a ledger holds seconds."""
    names = ["nodes/train-*/model/model.safetensors", "nodes/*/completions.jsonl", "nodes/*/problems.jsonl"]
    files = [f for name in [*names, "nodes/*/probes.json", "report/*.csv"] for f in store.glob(name)]
    return {str(f.relative_to(store)): digest(f) for f in files if f.name != "ledger.csv"}


class Bench:
    """A study file and the results of an undisturbed run of it."""

    def __init__(self, name: str, root: Path) -> None:
        self.root, self.file = root, root / f"{name}_study.py"
        self.file.write_text(STUDIES[name])
        begun = time.monotonic()
        self.whole = root / "whole"
        code, said = self.run(self.whole)
        assert code == 0, said
        self.seconds, self.expected = time.monotonic() - begun, results(self.whole)

    def start(self, store: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "foray", "run", str(self.file), "--store", str(store), "--jobs", "2", *words]
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=ENV, start_new_session=True, text=True, **out)  # type: ignore[call-overload, no-any-return]

    def run(self, store: Path, *words: str) -> tuple[int, str]:
        made = self.start(store, *words)
        said, _ = made.communicate(timeout=LIMIT)
        return made.returncode, said

    def copy(self, name: str) -> Path:
        shutil.rmtree(self.root / name, ignore_errors=True)
        shutil.copytree(self.whole, self.root / name)
        return self.root / name


@pytest.fixture(scope="module", params=list(STUDIES))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench("parallel", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench("smoke", tmp_path_factory.mktemp("smoke"))


def one_line(said: str) -> bool:
    return said.startswith("foray: ") and said.count("\n") == 1 and "Traceback" not in said


# --- kills ----------------------------------------------------------------------------------------------------------

KILLS = 100  # of each study


def ended(run: subprocess.Popen[str], how: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        if how == "group":
            os.killpg(run.pid, signal.SIGKILL)
        elif how == "driver":
            run.kill()
        elif how == "worker":
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
            if children:
                os.kill(int(random.choice(children)), signal.SIGKILL)
        else:
            run.send_signal(signal.SIGTERM if how == "term" else signal.SIGINT)


def test_two_hundred_kills_at_random_moments_change_nothing(bench: Bench) -> None:
    rng, store, number = random.Random(7), bench.root / "killed 0", 0
    tally: Counter[str] = Counter()
    for _ in range(KILLS):
        run, how = bench.start(store), rng.choice(["group", "driver", "worker", "term", "interrupt"])
        with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
            run.wait(rng.uniform(0.0, 0.5 * bench.seconds))
            how = "ended before"
        if how != "ended before":
            with contextlib.suppress(FileNotFoundError):
                ended(run, how)
        said, _ = run.communicate(timeout=LIMIT)
        tally[how] += 1
        assert "Traceback" not in said, said
        if run.returncode == 0:
            assert results(store) == bench.expected, how
            number += 1
            store = bench.root / f"killed {number}"
    code, said = bench.run(store)
    assert code == 0 and results(store) == bench.expected, said
    assert not list(store.rglob("*.tmp")), "nothing is left of a kill in a finished node or a report"
    print(f"{bench.file.stem}: {dict(tally)}, {number + 1} stores finished with equal results")


# --- the disk fails -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed: apt-get install gcc"
    out = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", out, HERE / "faults" / "shim.c", "-ldl"], check=True)
    return out


@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EDQUOT"])
def test_every_operation_on_the_disk_fails_once(bench: Bench, shim: Path, error: str) -> None:
    control, store = bench.root / f"control-{error}", bench.root / f"injected-{error}"
    new_control(control)
    command = [sys.executable, str(HERE / "faults" / "injection.py"), str(bench.file), str(store), error, "1500"]
    env = ENV | {"LD_PRELOAD": str(shim), "FORAY_FAULTS": str(control)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)
    *rows, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last == {"all": True}, done.stderr[-2000:] or rows[-1]
    failed = [r for r in rows if r["what"]]
    for r in failed:
        assert r["code"] == 0 or (r["code"] == 1 and one_line(r["err"])), r
    assert results(store) == bench.expected
    kinds = Counter(r["what"].split()[0] for r in failed)
    said = sum(r["code"] == 1 for r in failed)
    print(f"{bench.file.stem}, {error}: {len(failed)} faults {dict(kinds)}, {said} ended the run in one line")
    names = {re.sub(r".*/", "", r["what"].split(",")[0]) for r in failed if r["what"].startswith("write")}
    assert {"model.safetensors", "metrics.jsonl", "completions.jsonl", ".DONE..tmp"} <= names, names


# --- damage ---------------------------------------------------------------------------------------------------------


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at] ^= 0x41
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def deleted(path: Path) -> None:
    path.unlink()


def swapped(path: Path) -> None:
    """Changes places with the same file of another node of its kind, or takes the content of a neighbour."""
    kind = next((p.name for p in path.parents if p.parent.name == "nodes"), "").rpartition("-")[0]
    inside = Path(*path.parts[path.parts.index("nodes") + 2 :]) if kind else Path(path.name)
    others = [p / inside for p in sorted(path.parents[len(inside.parts)].glob(f"{kind}-*"))] if kind else []
    other = next((p for p in others if p != path and p.exists() and digest(p) != digest(path)), None)
    if other is None:
        path.write_bytes(path.read_bytes() + b"\n{}")
        return
    mine = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(mine)


def kinds_of_file(store: Path) -> dict[str, Path]:
    """One file of each kind of a finished store: of each kind of node and name."""
    out: dict[str, Path] = {}
    for path in sorted(p for p in store.rglob("*") if p.is_file() and "claims" not in p.parts and p.name != ".lock"):
        name = re.sub(r"-[0-9a-f]{16}", "", str(path.relative_to(store)))
        out.setdefault(name, path)
    return out


@pytest.mark.parametrize("damage", [flipped, cut, emptied, deleted, swapped])
def test_every_kind_of_damaged_file_is_mended_or_named(smoke: Bench, damage: Callable[[Path], None]) -> None:
    tally: Counter[str] = Counter()
    for name in kinds_of_file(smoke.whole):
        store = smoke.copy("damaged")
        path = kinds_of_file(store)[name]
        if path.stat().st_size == 0:
            continue
        damage(path)
        out, err = smoke.root / "out", smoke.root / "err"
        first = forked(["check", str(store)], out, err)
        assert first in (0, 1) and "Traceback" not in err.read_text(), (name, err.read_text())
        # What only asks for more work, such as a lost note of who ran here, is no damage.
        harmless = name in ("manifest.json", "studies.json") or (damage is deleted and name.endswith(SEAL))
        assert first == 1 or harmless, name
        code = forked(["run", str(smoke.file), "--store", str(store), "--jobs", "1"], out, err)
        if code:
            assert one_line(err.read_text()), (name, err.read_text())
            code = forked(["run", str(smoke.file), "--store", str(store), "--jobs", "1"], out, err)
        tally["mended by run" if code == 0 else "named"] += 1
        assert code == 0, (name, err.read_text())
        assert forked(["check", str(store), "--repair", "--jobs", "1"], out, err) == 0, (name, err.read_text())
        assert results(store) == smoke.expected, name
        assert forked(["check", str(store)], out, err) == 0, name
    print(f"{damage.__name__}: {dict(tally)}")


# --- more than one, elsewhere, another time ---------------------------------------------------------------------------


@pytest.mark.parametrize("drivers", [2, 4])
def test_several_drivers_of_one_store(small: Bench, drivers: int) -> None:
    store = small.root / f"{drivers} drivers"
    runs = [small.start(store) for _ in range(drivers)]
    said = [run.communicate(timeout=LIMIT)[0] for run in runs]
    codes = [run.returncode for run in runs]
    assert codes.count(0) >= 1 and not any("Traceback" in text for text in said)
    for code, text in zip(codes, said):
        assert code == 0 or one_line(text), text
    assert results(store) == small.expected


def test_studies_that_overlap_share_a_store_one_after_the_other(small: Bench) -> None:
    store = small.root / "overlapping"
    more = "sft,parallel,sft_rl,rl"
    runs = [small.start(store), small.start(store, "--set", f"recipes={more}")]
    for run in runs:
        run.communicate(timeout=LIMIT)
    code, said = small.run(store, "--set", f"recipes={more}")
    assert code == 0, said
    code, said = small.run(store)
    assert code == 0 and results(store).items() >= {k: v for k, v in small.expected.items() if "train-" in k}.items()


def test_a_claim_of_a_driver_on_another_host_that_is_gone_holds_nothing(small: Bench) -> None:
    store = small.copy("elsewhere")
    node = next(store.glob("nodes/train-*"))
    shutil.rmtree(node)
    (store / "claims").mkdir(exist_ok=True)
    (store / "claims" / node.name.rpartition("-")[2]).write_text("process 1 on another-host")
    code, said = small.run(store)
    assert code == 0 and results(store) == small.expected, said


def _older(store: Path, seconds: float) -> None:
    for path in [store, *store.rglob("*")]:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime + seconds), follow_symlinks=False)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_clock_that_jumps_an_hour_changes_nothing(small: Bench, seconds: float) -> None:
    store = small.copy("clock")
    shutil.rmtree(next(store.glob("nodes/passk-*")))
    _older(store, seconds)
    code, said = small.run(store)
    assert code == 0 and results(store) == small.expected, said


def test_a_store_that_is_moved_or_copied_is_whole(small: Bench, tmp_path: Path) -> None:
    store = small.copy("to be moved")
    store.rename(tmp_path / "moved")
    code, said = small.run(tmp_path / "moved")
    assert code == 0 and "0 to run" in said and results(tmp_path / "moved") == small.expected


@contextlib.contextmanager
def read_only(store: Path, folder: Path) -> Iterator[Path]:
    """The store, mounted read-only in a folder; root is stopped by nothing less."""
    folder.mkdir()
    bound = subprocess.run(["mount", "--bind", "-o", "ro", store, folder], capture_output=True, text=True)
    if bound.returncode:
        pytest.skip(f"no read-only mount can be made here: {bound.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_read_only_store_is_checked_and_everything_else_is_one_line(small: Bench, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with read_only(small.copy("read-only"), tmp_path / "mounted") as store:
        assert forked(["check", str(store)], out, err) == 0, err.read_text()
        assert forked(["ls", str(small.file), "--store", str(store)], out, err) == 0
        assert forked(["run", str(small.file), "--store", str(store)], out, err) == 1 and one_line(err.read_text())
        assert forked(["report", str(small.file), "--store", str(store)], out, err) == 1 and one_line(err.read_text())
