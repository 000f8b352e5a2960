"""A Slurm of one machine for tests: the parts of sbatch, srun, squeue, scancel and scontrol that submitit and Foray
use.

``install(folder)`` writes the commands; jobs live in ``folder/jobs`` as a folder a task, with its state in a file.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("sbatch", "srun", "squeue", "scancel", "scontrol")
AT_ONCE = 2  # tasks of an array


def install(folder: Path) -> Path:
    """Writes the commands and returns the folder for PATH."""
    commands, jobs = folder / "bin", folder / "jobs"
    commands.mkdir(parents=True)
    jobs.mkdir()
    for name in NAMES:
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {jobs} {name} "$@"\n')
        (commands / name).chmod(0o755)
    return commands


class Task:
    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name

    @property
    def state(self) -> str:
        return (self.folder / "state").read_text()

    @state.setter
    def state(self, value: str) -> None:
        (self.folder / "new").write_text(value)
        os.replace(self.folder / "new", self.folder / "state")


def tasks(jobs: Path, name: str) -> list[Task]:
    """The tasks of an array such as 12, or the one task 12_3."""
    return [Task(p) for p in sorted(jobs.iterdir()) if p.name == name or p.name.startswith(f"{name}_")]


def sbatch(jobs: Path, script: str) -> None:
    text = Path(script).read_text()
    array = re.search(r"--array=0-(\d+)", text)
    number = 1 + max((int(p.name.split("_")[0]) for p in jobs.iterdir()), default=0)
    for name in [f"{number}_{i}" for i in range(int(array[1]) + 1)] if array else [str(number)]:
        (jobs / name).mkdir()
        (jobs / name / "script").write_text(text)
        Task(jobs / name).state = "PENDING"
    command = [sys.executable, __file__, str(jobs), "supervise", str(number)]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"Submitted batch job {number}")


def supervise(jobs: Path, number: str) -> None:
    mine = tasks(jobs, number)
    found = re.search(r"--dependency=afterok:(\S+)", (mine[0].folder / "script").read_text())
    before = [t for name in (found[1].split(":") if found else []) for t in tasks(jobs, name)]
    while any(t.state in ("PENDING", "RUNNING") for t in before):
        time.sleep(0.1)
    if any(t.state != "COMPLETED" for t in before):
        for task in mine:
            task.state = "CANCELLED"
    running: dict[str, subprocess.Popen[bytes]] = {}
    while any(t.state in ("PENDING", "RUNNING") for t in mine) or running:
        for task in mine:
            if task.name in running and (code := running[task.name].poll()) is not None:
                del running[task.name]
                if task.state == "RUNNING":
                    task.state = "FAILED" if code else "COMPLETED"
            if task.state == "PENDING" and task.name not in running and len(running) < AT_ONCE:
                task.state = "RUNNING"
                running[task.name] = run(task)
        time.sleep(0.1)


def run(task: Task) -> subprocess.Popen[bytes]:
    array, _, index = task.name.partition("_")
    env = os.environ | {"SLURM_JOB_ID": array, "SLURM_PROCID": "0", "FAKE_TASK": task.name}
    env |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index} if index else {}
    return subprocess.Popen(["bash", str(task.folder / "script")], env=env, start_new_session=True)


def srun(jobs: Path, *words: str) -> None:
    name, rest, files = os.environ["FAKE_TASK"], list(words), {}
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            files[option] = rest.pop(0).replace("%j", name).replace("%A_%a", name).replace("%t", "0")
    (jobs / name / "pid").write_text(str(os.getpid()))
    for number, option in ((1, "--output"), (2, "--error")):
        os.dup2(os.open(files[option], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.execvp(rest[0], rest)


def squeue(jobs: Path, *_: str) -> None:
    for folder in sorted(jobs.iterdir()):
        if Task(folder).state in ("PENDING", "RUNNING"):
            print(folder.name)


def scancel(jobs: Path, *words: str) -> None:
    """With --signal the process gets the signal. Without --signal the job ends: SIGTERM, and SIGKILL a second later."""
    sent = next((w.removeprefix("--signal=") for w in words if w.startswith("--signal=")), None)
    for task in tasks(jobs, words[-1]):
        if sent is None:
            task.state = "CANCELLED"
        for name in [sent] if sent else ["TERM", "KILL"]:
            if (task.folder / "pid").exists():
                os.kill(int((task.folder / "pid").read_text()), signal.Signals[f"SIG{name}"])
                time.sleep(0 if sent else 1)


def scontrol(jobs: Path, what: str, *words: str) -> None:
    """Requeues a task: its process ends, and then it runs again."""
    if what == "requeue":
        (task,) = tasks(jobs, words[0])
        task.state = "PENDING"
        os.kill(int((task.folder / "pid").read_text()), signal.SIGKILL)


if __name__ == "__main__":
    {f.__name__: f for f in (sbatch, supervise, srun, squeue, scancel, scontrol)}[sys.argv[2]](
        Path(sys.argv[1]), *sys.argv[3:]
    )
