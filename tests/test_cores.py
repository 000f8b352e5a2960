"""Threads: no executor uses more threads than cores unless a user asks for more; a line then says so."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from foray.cli import build_parser
from foray.commands import options
from foray.core import cores as module
from foray.core.cores import cores, quota, use_threads
from foray.core.machine import Machine
from foray.data import prepare
from foray.study.executors import local, ray, remote, slurm, torchrun
from foray.study.executors.local import LocalExecutor
from foray.study.executors.schedule import crowding, threads_each
from foray.study.graph import expand
from foray.study.node import Node
from foray.study.store import Store
from foray.study.study_command import StudyCommand
from test_study import brief, quiet

Told = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Sets the number of cores and OMP_NUM_THREADS."""

    def told(count: int, omp: str | None) -> None:
        for place in (options, local, ray, remote, torchrun):
            monkeypatch.setattr(place, "cores", lambda: count)
        monkeypatch.setenv("OMP_NUM_THREADS", omp) if omp else monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    threads = torch.get_num_threads()
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", torch.set_num_threads)
    yield told
    torch.set_num_threads(threads)


@pytest.mark.parametrize("omp", ["1", "2", "3", "64", "4,2", "", "0", "many"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 64])
def test_an_exported_number_of_threads_never_makes_more_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, omp: str, count: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", omp)
    for jobs in range(1, count + 1):
        assert 1 <= threads_each(jobs, count) * jobs <= count
    assert threads_each(count + 1, count) == 1
    assert threads_each(2, 64) == {"1": 1, "2": 2, "3": 3, "4,2": 4}.get(omp, 32), "fewer are taken at their word"
    assert threads_each(2, count, asked=7) == 7, "whoever asks for more gets them"


def test_default_jobs_times_threads_are_the_cores(machine: Told, tmp_path: Path) -> None:
    for count, omp, words in ((2, "2", []), (2, None, []), (3, "2", []), (8, "8", []), (8, "2", ["threads=4"])):
        machine(count, omp)
        settings = [w for word in words for w in ("--machine", word)]
        args = build_parser().parse_args(
            ["run", "smoke", "--store", str(tmp_path), *settings, "--machine", "device=cpu"]
        )
        jobs, asked = options.jobs_of(args), options.machine_of(args).threads
        threads = threads_each(jobs, count, asked)
        assert jobs * threads <= count and crowding(jobs, threads, count, asked).startswith(
            "OMP_NUM_THREADS" if omp and int(omp) > threads and not asked else ""
        )
        assert threads == asked or not asked


def work_of(store: Store, jobs: int) -> tuple[str, str]:
    """The threads that a worker computes with, and the printed text."""
    node = expand(brief()).nodes[0]
    console = Console(file=io.StringIO(), width=300)
    LocalExecutor(jobs).run([node], store, console, {node.key: 1.0})
    return (node.folder(store) / "threads").read_text(), console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("count", "omp", "jobs", "asked", "each", "says"),
    [
        (2, "2", 2, 0, 1, "OMP_NUM_THREADS=2 is taken as 1, a node's share of the 2 cores"),
        (2, "2", 1, 0, 2, ""),
        (2, None, 2, 0, 1, ""),
        (4, None, 2, 0, 2, ""),
        (2, "1", 2, 0, 1, ""),
        (2, None, 2, 3, 3, "3 threads (1 at a time of 3) share the 2 cores"),
    ],
)
def test_a_worker_has_its_share_of_threads_and_a_line_says_where_more_were_wanted(
    machine: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    count: int, omp: str | None, jobs: int, asked: int, each: int, says: str,
) -> None:  # fmt: skip
    machine(count, omp)

    def run(node: Any, folder: Path, store: Store, report: Any) -> None:
        (folder / "threads").write_text(
            f"{torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']} {os.environ['RAYON_NUM_THREADS']}"
        )

    monkeypatch.setattr(type(expand(brief()).nodes[0]), "run", run)
    had, said = work_of(Store(tmp_path, Machine("cpu", threads=asked)), jobs)
    assert had == f"{each} {each} {each}", "torch's, those of programs that it starts, the tokenizer's"
    assert (says in said) if says else ("cores" not in said)


def test_more_jobs_than_cores_are_done_and_said() -> None:
    assert "4 threads (4 at a time of 1) share the 2 cores" in crowding(4, 1, 2, 0)
    assert "2 threads (1 at a time of 2) share the 1 cores" in crowding(1, 1, 1, 0, ranks=2)
    assert crowding(2, 1, 2, 0) == crowding(1, 2, 2, 0, ranks=2) == ""


def test_a_slurm_job_has_no_more_threads_than_its_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")

    def made(omp: str, cpus: int, *how: str) -> slurm.SlurmExecutor:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
        origin = StudyCommand("smoke", (), None, str(tmp_path), str(tmp_path), how)
        return slurm.SlurmExecutor(origin, [f"cpus_per_task={cpus}"])

    assert [made("8", cpus).job.threads for cpus in (1, 4, 16)] == [1, 4, 8]
    assert "OMP_NUM_THREADS=8 is taken as 4" in made("8", 4).crowding and made("2", 4).crowding == ""
    more = made("8", 2, "threads=4")
    assert more.job.threads == 4 and "share the 2 cores" in more.crowding


def test_processes_of_torchrun_share_the_cores(machine: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    had = []

    def join(*_: Any) -> None:
        had.append(torch.get_num_threads())
        raise ValueError("far enough")

    monkeypatch.setattr(torchrun, "join", join)
    monkeypatch.setattr(torchrun.signal, "signal", lambda *_: None)
    for name, value in (("LOCAL_WORLD_SIZE", "2"), ("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    for omp, asked in (("2", 0), (None, 0), (None, 2)):
        machine(2, omp)
        with pytest.raises(ValueError, match="far enough"):
            torchrun.run_together(brief(), Store(tmp_path, Machine("cpu", threads=asked)), quiet(), None)
    assert had == [1, 1, 2]


def test_where_a_node_runs_elsewhere_it_has_no_more_threads_than_are_there(
    machine: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    had = []
    monkeypatch.setattr(remote, "run_node", lambda *_, **__: had.append(torch.get_num_threads()) or tmp_path)
    monkeypatch.setattr(StudyCommand, "node", lambda self, key: expand(brief()).nodes[0])
    monkeypatch.setattr(Node, "health", lambda self, store: [])
    for how in ((), ("threads=3",)):
        machine(2, None)
        remote.run_remotely(StudyCommand("brief", (), None, str(tmp_path), os.getcwd(), (*how, "device=cpu")), "key", 8)
    assert had == [2, 3]


def test_a_ray_of_its_own_has_the_cores_that_this_process_may_use(machine: Told, tmp_path: Path) -> None:
    def tasks(count: int, jobs: int, alone: bool) -> ray._Tasks:
        nodes = [{"Alive": True, "Resources": {"CPU": float(count)}}]
        fake = SimpleNamespace(nodes=lambda: nodes, remote=lambda **_: lambda work: work)
        origin = StudyCommand("smoke", (), None, str(tmp_path), str(tmp_path))
        return ray._Tasks(fake, origin, Store(tmp_path), jobs, alone)

    machine(2, "4")
    own, cluster = tasks(16, 2, alone=True), tasks(16, 2, alone=False)
    assert (own.threads, own.places()) == (1, 2) and (cluster.threads, cluster.places()) == (4, 4)


def test_prepares_workers_have_one_thread_each(monkeypatch: pytest.MonkeyPatch, machine: Told) -> None:
    machine(2, "4")
    monkeypatch.setattr(prepare, "die_with_parent", lambda: None)
    monkeypatch.setattr(prepare.signal, "signal", lambda *_: None)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setattr(prepare, "_WORKER", {})
    prepare._start(None)  # type: ignore[arg-type]
    assert (os.environ["OMP_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"]) == ("1", "false")
    assert torch.get_num_threads() == 1


def test_threads_of_libraries_that_come_later_are_set_too(machine: Told) -> None:
    machine(4, None)
    arrow = pytest.importorskip("pyarrow")
    before = arrow.cpu_count()
    try:
        use_threads(3)
        assert arrow.cpu_count() == torch.get_num_threads() == 3 and os.environ["RAYON_NUM_THREADS"] == "3"
    finally:
        arrow.set_cpu_count(before)


def test_cores_are_those_that_this_process_may_run_on() -> None:
    script = (
        "import os\nfrom foray.core.cores import cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(cores())"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"
    assert 1 <= cores() <= (os.cpu_count() or 1)


def settings(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "allowed"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "400000 100000\n"}, 4.0),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (
            "4:memory:/a\n3:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ("4:memory:/a\n", {"cpu.max": "max\n"}, float("inf")),
        ("nonsense", {"cpu.max": "broken"}, float("inf")),
        ("0::/\n", {"cpu.max": "x y\n"}, float("inf")),
    ],
)
def test_a_quota_of_control_groups_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], allowed: float
) -> None:
    (tmp_path / "cgroup").write_text(groups)
    assert quota(tmp_path / "cgroup", settings(tmp_path / "fs", files)) == allowed
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_LIMITS", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores() == max(1, min(8, int(min(allowed, 99))))
