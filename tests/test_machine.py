"""Settings of the machine: the effects of the settings, which are part of no key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foray.cli import main
from foray.core import machine as module
from foray.core.machine import Machine, cards, machine
from foray.study.graph import expand
from foray.study.named_studies import load_study
from foray.study.store import Store
from test_cli import Said, refused


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(module, "gpus", lambda: count)


def test_what_is_not_said_is_decided_by_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    assert machine([]) == Machine("cpu", 4096, compile="off") == machine(["device=cpu"])
    with_gpus(monkeypatch, 2)
    assert machine([]) == Machine("cuda", 16384, compile="on")
    assert machine(["device=cpu", "recompute=true"]) == Machine("cpu", 4096, True, "off")
    assert machine(["microbatch_tokens=100", "compile=off"]) == Machine("cuda", 100, compile="off")
    with pytest.raises(ValueError, match="ranks=3: there are 2 GPUs here"):
        machine(["ranks=3"])


def test_a_cpu_is_not_asked_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NVML, a process that asks for GPUs cannot fork workers that use a GPU."""
    monkeypatch.setattr(module, "gpus", lambda: pytest.fail("asked"))
    assert Machine("cpu").found().device == "cpu"


def test_a_process_on_a_gpu_shares_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert cards(1) == "6" and cards(2) == "6,7"
    with pytest.raises(ValueError, match="3 GPUs are asked for from number 2 on"):
        cards(3)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("device=cuda", "torch finds no GPU here; use device=cpu"),
        ("devise=cpu", "--machine devise: there is no setting 'devise' here; did you mean 'device'?"),
        ("device=gpu", "there is no such value; did you mean 'cuda'?"),
        ("threads=100000", "threads must be at most 1,024"),
        ("ranks=100000", "ranks must be at most 1,024"),
        ("compile=maybe", "--machine compile=maybe: there is no such value"),
        ("ranks=0", "ranks must be positive"),
        ("microbatch_tokens=-1", "microbatch_tokens must be >= 0"),
    ],
)
def test_mistakes_are_one_line(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, says: str
) -> None:
    with_gpus(monkeypatch, 0)
    assert says in refused(capsys, "run", "smoke", "--store", str(tmp_path), "--machine", setting)


def test_no_key_depends_on_it(tmp_path: Path) -> None:
    node = expand(load_study("smoke")).nodes[0]
    folders = {node.folder(Store(tmp_path, m)) for m in (None, Machine("cpu", 64, True), Machine("cuda"))}
    assert len(folders) == 1
    assert main(["plan", "smoke", "--store", str(tmp_path), "--machine", "microbatch_tokens=64"]) == 0
