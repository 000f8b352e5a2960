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

from conftest import figures
from faults.bench import ENV, Bench, Started, one_line, results
from faults.damage import Victim, batches, cut, deleted, emptied, flipped, swapped
from faults.injection import forked, new_control
from foray.core.files import SEAL
from foray.study.integrity import examine
from foray.study.store import Store

pytestmark = pytest.mark.fault
HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=["smoke", "parallel"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench("parallel", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench("smoke", tmp_path_factory.mktemp("smoke"))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Trained by two processes together, over gloo."""
    words = ("--jobs", "1", "--machine", "device=cpu", "--machine", "ranks=2")
    return Bench("ranks", tmp_path_factory.mktemp("ranks"), *words)


# --- kills ----------------------------------------------------------------------------------------------------------

KILLS = 100  # of each study
PYTHONS_OWN = 0.05  # seconds of a core before the first line of Foray's: Ctrl-C then is Python's to answer


def below(pid: int) -> list[int]:
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(p for child in children for p in below(child))]


def ended(run: Started, how: str, rng: random.Random) -> None:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        if how == "group":
            os.killpg(run.pid, signal.SIGKILL)
        elif how == "driver":
            run.process.kill()
        elif how == "worker":  # or a rank, or the process that grades
            if children := below(run.pid):
                os.kill(rng.choice(children), signal.SIGKILL)
        else:
            run.process.send_signal(signal.SIGTERM if how == "term" else signal.SIGINT)
            if how == "twice":
                time.sleep(rng.uniform(0.0, 0.3))
                run.process.send_signal(signal.SIGINT)


def killed_again_and_again(bench: Bench, kills: int, share: float) -> None:
    """Each run is killed after up to a ``share`` of the seconds of a core that an undisturbed one takes."""
    rng, number = random.Random(7), 0
    store = bench.root / "killed 0"
    tally: Counter[str] = Counter()
    while sum(tally.values()) - tally["ended before"] < kills:
        run, how = bench.start(store), rng.choice(["group", "driver", "worker", "term", "interrupt", "twice"])
        until = rng.uniform(PYTHONS_OWN, share * bench.seconds)
        while run.process.poll() is None and run.seconds() < until:
            time.sleep(0.1)
        time.sleep(rng.uniform(0.0, 0.2))
        if run.process.poll() is None:
            ended(run, how, rng)
        else:
            how = "ended before"
        code, said = run.finish()
        tally[how] += 1
        assert "Traceback" not in said, said
        if code == 0:
            assert results(store) == bench.expected, how
            number += 1
            store = bench.root / f"killed {number}"
    code, said = bench.run(store)
    assert code == 0 and results(store) == bench.expected, said
    assert not list(store.rglob("*.tmp")), "nothing is left of a kill in a finished node or a report"
    print(f"{bench.name}: {dict(tally)}, {number + 1} stores finished with equal results")


def test_a_hundred_kills_at_random_moments_change_nothing(bench: Bench) -> None:
    killed_again_and_again(bench, KILLS, 0.12)


def test_ranks_killed_at_random_moments_change_nothing(ranks: Bench) -> None:
    killed_again_and_again(ranks, 20, 0.6)


# --- the disk fails -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed: apt-get install gcc"
    out = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", out, HERE / "faults" / "shim.c", "-ldl"], check=True)
    return out


ERRORS = ("ENOSPC", "EIO", "EDQUOT")


def test_every_operation_on_the_disk_fails_once(smoke: Bench, shim: Path) -> None:
    """One fault a run, until none is left that has not been; the three errors side by side, each in a store."""
    running = {}
    for error in ERRORS:
        control, store = smoke.root / f"control-{error}", smoke.root / f"injected-{error}"
        new_control(control)
        command = [sys.executable, str(HERE / "faults" / "injection.py"), str(smoke.file), str(store), error, "3600"]
        env = ENV | {"LD_PRELOAD": str(shim), "FORAY_FAULTS": str(control)}
        with open(smoke.root / f"faults-{error}", "w") as said:
            running[error] = subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.PIPE, text=True)
    for error, process in running.items():
        _, err = process.communicate()
        lines = (smoke.root / f"faults-{error}").read_text().splitlines()
        *rows, last = [json.loads(line) for line in lines] or [{}]
        assert last == {"all": True}, err[-2000:] or (rows or [""])[-1]
        failed = [r for r in rows if r["what"]]
        for r in failed:
            assert "Traceback" not in r["err"] + r["out"], r
            assert r["code"] == 0 or (r["code"] == 1 and one_line(r["err"])), r
        assert results(smoke.root / f"injected-{error}") == smoke.expected
        kinds = Counter(r["what"].split()[0] for r in failed)
        named = sum(r["code"] == 1 for r in failed)
        print(f"{error}: {len(failed)} faults {dict(kinds)}, {named} ended the run in one line")
        written = [r["what"].split(",")[0] for r in failed if r["what"].startswith(("write", "rename"))]
        names = {re.sub(r".*/", "", name) for name in written}
        # Of weights and moments too, which are written by another name (.tmp*); the next test lets renaming them fail.
        assert {"metrics.jsonl", "completions.jsonl", "tokens.bin", ".DONE..tmp", ".tmp*"} <= names


@pytest.mark.parametrize("error", ERRORS)
def test_weights_that_cannot_be_renamed(small: Bench, error: str) -> None:
    """The library safetensors asks the kernel without libc, where a preloaded library sees nothing; strace does."""
    strace = shutil.which("strace")
    assert strace, "strace is needed: apt-get install strace"
    store, named = small.root / f"renamed-{error}", 0
    for count in (1, 2, 3):  # of the renamings of each process
        inject = f"inject=renameat:error={error}:when={count}"
        tracing = [strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=renameat", "-e", inject, "-o", "/dev/null"]
        code, said = small.start(store, before=tracing).finish()
        assert "Traceback" not in said, said
        if code:
            last = said.splitlines()[-1]
            assert code == 1 and one_line(last + "\n") and "safetensors" in last, said
            named += 1
    code, said = small.run(store)
    assert code == 0 and results(store) == small.expected, said
    assert named >= 2
    print(f"{error}: {named} renamings of weights or moments ended the run in one line")


@contextlib.contextmanager
def disk_of(size: int, folder: Path) -> Iterator[Path]:
    """A disk of so many bytes, mounted in a folder."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("no disk can be mounted here: only root may")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def grown(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def filled_again_and_again(bench: Bench, folder: Path, steps: int) -> Counter[str]:
    """Runs on a disk that is too small, and grows whenever it is full, in about so many ``steps``; where it was full.

    What a preloaded library cannot stop is stopped so too: the writes of C's stdio, of numpy, of mapped files.
    """
    full: Counter[str] = Counter()
    page = os.sysconf("SC_PAGE_SIZE")  # what even an empty file or folder may take
    taken = sum(-(-p.stat().st_size // page) * page for p in bench.whole.rglob("*"))
    step = -(-taken // steps // page) * page
    with disk_of(step, folder) as disk:
        for size in range(step, 1 << 30, step):
            grown(disk, size)
            code, said = bench.run(disk / "store")
            if code == 0:
                break
            last = said.splitlines()[-1]
            assert code == 1 and "Traceback" not in said and one_line(last + "\n"), said
            assert "space" in last or "memory" in last, last
            full[re.sub(r"-[0-9a-f]{16}|.*: (?=/)|step \d+|: No space.*", "", last)[-60:]] += 1
        assert results(disk / "store") == bench.expected
    return full


def test_a_disk_that_is_full_again_and_again(small: Bench, tmp_path: Path) -> None:
    full = filled_again_and_again(small, tmp_path / "disk", 15)
    assert full.total() >= 8, full
    print(f"full {full.total()} times, in {len(full)} places")


def test_a_full_disk_under_ranks(ranks: Bench, tmp_path: Path) -> None:
    full = filled_again_and_again(ranks, tmp_path / "disk", 8)
    assert full.total() >= 3, full
    print(f"full {full.total()} times, in {len(full)} places")


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [flipped, cut, emptied, deleted, swapped])
def test_every_kind_of_damaged_file_is_found_and_mended(
    smoke: Bench, damage: Callable[[Victim], set[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many kinds at a time as lie in different folders: each of these must be named, and no other."""
    monkeypatch.setattr("foray.report.discover", figures("f2_passk", "a2_rewards"))
    out, err = smoke.root / "out", smoke.root / "err"
    tally: Counter[str] = Counter()

    def foray(*words: str) -> int:
        code = forked(list(words), out, err)
        assert code == 0 or (code == 1 and one_line(err.read_text())), (kinds, err.read_text())
        return code

    for number in range(len(list(batches(smoke.whole)))):
        store = smoke.copy("damaged")
        batch = list(batches(store))[number]
        hurt, must, kinds = set[Path](), set[Path](), list(batch)
        for kind, victim in batch.items():
            hurt |= (folders := damage(victim))
            # A note of what ran here is no result; a node without its seal is one that is not finished yet.
            must |= set() if kind == "studies.json" or (damage is deleted and kind.endswith(SEAL)) else folders
        found = {f.folder for f in examine(Store(store), 2).findings}
        assert must <= found <= hurt, (kinds, must - found, found - hurt)
        assert foray("check", str(store)) == bool(found)
        tally["kinds of file"] += len(batch)
        tally["folders"] += len(hurt)
        run = ("run", str(smoke.file), "--store", str(store), "--jobs", "1")
        for _ in range(2):  # a run ends for the first damaged parent that it reads
            tally["runs that named one and ended"] += foray(*run)
        tally["left for --repair"] += len(examine(Store(store), 2).findings)
        assert foray("check", str(store), "--repair", "--jobs", "1") == 0, (kinds, err.read_text())
        assert foray("check", str(store)) == 0, (kinds, err.read_text(), out.read_text())
        assert foray(*run) == 0, (kinds, err.read_text())
        assert results(store) == smoke.expected, kinds
    print(f"{damage.__name__}: {dict(tally)}")


@pytest.mark.parametrize("damage", [flipped, cut, deleted])
def test_damaged_slices_of_many_ranks_are_named_or_made_anew(
    ranks: Bench, damage: Callable[[Victim], set[Path]]
) -> None:
    store = ranks.copy("damaged slices")
    slices = sorted(store.glob("nodes/train-*/state/shards/*"))
    assert len(slices) >= 2
    damage(Victim(slices[0], None))
    check = [sys.executable, "-m", "foray", "check", str(store)]
    found = subprocess.run(check, env=ENV, capture_output=True, text=True)
    assert found.returncode == 1 and slices[0].name in found.stdout and "Traceback" not in found.stderr
    for node in store.glob("nodes/*"):  # what was made from it is asked for again
        if node.name.startswith("train-") and not node.samefile(slices[0].parents[2]):
            shutil.rmtree(node)
    code, said = ranks.run(store)
    if code:
        assert one_line(said.splitlines()[-1] + "\n"), said
        code, said = ranks.run(store)
    assert code == 0 and results(store) == ranks.expected, said
    assert subprocess.run([*check, "--repair"], env=ENV, capture_output=True).returncode == 0


# --- more than one, elsewhere, another time ---------------------------------------------------------------------------


def together(bench: Bench, store: Path, *words: tuple[str, ...]) -> list[int]:
    runs = [bench.start(store, *more) for more in words]
    codes = []
    for run in runs:
        code, said = run.finish()
        assert code == 0 or one_line(said), said
        codes.append(code)
    return codes


@pytest.mark.parametrize("drivers", [2, 4])
def test_several_drivers_of_one_store(small: Bench, drivers: int) -> None:
    store = small.root / f"{drivers} drivers"
    assert 0 in together(small, store, *[()] * drivers)
    assert results(store) == small.expected


def test_two_drivers_of_ranks_of_one_store(ranks: Bench) -> None:
    assert 0 in together(ranks, ranks.root / "drivers", (), ())
    assert results(ranks.root / "drivers") == ranks.expected


def test_studies_that_overlap_share_a_store_one_after_the_other(small: Bench) -> None:
    store, more = small.root / "overlapping", ("--set", "recipes=sft,parallel,sft_rl,rl")
    together(small, store, (), more)
    for words in (more, ()):
        code, said = small.run(store, *words)
        assert code == 0, said
    # Of the larger study more is there; the report is the last one's.
    assert results(store).items() >= small.expected.items()


def test_two_evaluations_into_one_folder_at_once(smoke: Bench, tmp_path: Path) -> None:
    checkpoint = next(smoke.whole.glob("nodes/train-*/model"))
    words = [sys.executable, "-m", "foray", "eval", str(checkpoint), "--task", "world_easy", "--problems", "200"]
    words += ["--samples", "4", "--max-new-tokens", "8", "--out"]
    code, alone = Started([*words, str(tmp_path / "alone")], tmp_path / "said").finish()
    assert code == 0 and "200 problems x 4 samples" in alone
    both = [Started([*words, str(tmp_path / "both")], tmp_path / f"said {n}") for n in range(2)]
    codes, said = zip(*(run.finish() for run in both))
    assert 0 in codes
    for code, text in zip(codes, said):
        assert text == alone if code == 0 else "another foray evaluates into" in text and one_line(text)
    rows = [(tmp_path / name / "completions.jsonl").read_bytes() for name in ("alone", "both")]
    assert rows[0] == rows[1] and rows[0].count(b"\n") == 200


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
