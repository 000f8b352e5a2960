"""The GPU's half hour, rehearsed without a GPU: limits, files that come back, every measurement at a small shape.

``make gpu-evidence REHEARSE=1`` runs the whole sequence in separate processes, as on a card.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from foray.core.files import SEAL, json_text, seal, sealed_files, verify
from foray.model.hf import save_tensors
from foray.studies import smoke
from foray.study.graph import Graph, expand
from foray.study.node import Node
from foray.study.store import Store

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
import gpu_carry  # noqa: E402
import gpu_evidence  # noqa: E402
import gpu_steps  # noqa: E402
from gpu_parts import SHAPES, Found, largest_that_fits, timed  # noqa: E402
from gpu_profile import covered, kind_of  # noqa: E402
from gpu_steps import Part, Step  # noqa: E402
from gpu_summary import summary, verdicts, verdicts_of_tests  # noqa: E402

NAME = re.compile(r"[A-Za-z0-9._-]+")
SAYS = "import json, sys; json.dump({'rate': 2.5, 'device': 'CPU'}, open(sys.argv[-1], 'w')); "


def script(name: str, text: str, seconds: float = 20.0, **fields: Any) -> Part:
    return Part(name, seconds, ("-c", text), least=0.0, **fields)


def run(tmp_path: Path, *parts: Part, minutes: float = 1.0) -> dict[str, Any]:
    evidence = gpu_evidence.Evidence(Step(2, "a step", minutes, parts), tmp_path, True)
    evidence.run()
    evidence.save()
    return json.loads((tmp_path / "step2.json").read_text())["parts"]


def test_a_step_survives_parts_that_fail_hang_or_never_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "back"
    out.mkdir()
    monkeypatch.setenv("OUT", str(out))
    hangs = SAYS + "import time; sys.stdout.flush(); time.sleep(60)"
    parts = run(
        tmp_path / "kept",
        script("card", SAYS),
        script("breaks", SAYS + "raise RuntimeError('CUDA error: an illegal memory access')"),
        script("hangs", hangs, seconds=1.0),
        script("after", SAYS),
        Part("late", 20.0, ("-c", ""), least=1e6),
    )
    assert [p["status"] for p in parts.values()] == ["done", "failed", "out of time", "done", "not begun"]
    assert "illegal memory access" in parts["breaks"]["why"]
    assert parts["breaks"]["found"]["rate"] == parts["hangs"]["found"]["rate"] == 2.5
    assert {p.name for p in out.iterdir()} == {"step2.json", "step2.txt", "step2.log"}
    text = (out / "step2.txt").read_text()
    assert "breaks: failed" in text and "illegal memory access" in text and "rate = 2.5" in text


def test_what_is_done_on_this_card_with_this_code_is_not_done_again(tmp_path: Path) -> None:
    card, once = script("card", SAYS, always=True), script("once", SAYS + f"open(r'{tmp_path}/runs', 'a').write('x')")
    for _ in range(2):
        run(tmp_path / "kept", card, once)
    assert (tmp_path / "runs").read_text() == "x"
    kept = tmp_path / "kept" / "step2.json"
    kept.write_text(kept.read_text().replace(gpu_evidence.code(), "another"))
    run(tmp_path / "kept", card, once)
    assert (tmp_path / "runs").read_text() == "xx"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_step_leaves_its_results(how: signal.Signals, tmp_path: Path) -> None:
    """The lent machine sends SIGKILL to a command at its limit."""
    text = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "import pathlib, signal, gpu_evidence; from gpu_steps import Part, Step\n"
        "signal.signal(signal.SIGTERM, gpu_evidence.ended)\n"
        f"part = Part('slow', 60.0, ('-c', {SAYS + 'import time; time.sleep(60)'!r}), least=0.0)\n"
        f"gpu_evidence.Evidence(Step(2, 'a step', 2.0, (part,)), pathlib.Path({str(tmp_path)!r}), True).run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", text], start_new_session=True)
    try:
        for _ in range(300):
            time.sleep(0.1)
            found = json.loads(path.read_text()) if (path := tmp_path / "step2.json").exists() else {"parts": {}}
            if found["parts"].get("slow", {}).get("found"):
                break
        process.send_signal(how)
        process.wait(20)
    finally:
        subprocess.run(["pkill", "-KILL", "-g", str(process.pid)], check=False)
    part = json.loads((tmp_path / "step2.json").read_text())["parts"]["slow"]
    assert part["found"]["rate"] == 2.5 and part["status"] in ("out of time", "under way")


def test_the_steps_keep_to_the_lent_machines_limits() -> None:
    for rehearse in (False, True):
        every = gpu_steps.steps(rehearse)
        assert [s.number for s in every] == [1, 2, 3, 4, 5] and sum(s.minutes for s in every) <= 34.5
        for step in every:
            assert step.minutes <= 8
            measured = [p.name for p in step.parts if p.words[0] == "benchmarks/gpu.py"]
            assert set(measured) <= gpu.MEASUREMENTS.keys() and measured[0] == "card"
            assert len({p.slug for p in step.parts}) == len(step.parts)
    named = {p.name for s in gpu_steps.steps(False) for p in s.parts if p.words[0] == "benchmarks/gpu.py"}
    assert named == gpu.MEASUREMENTS.keys()


@pytest.mark.slow
def test_every_measurement_at_a_small_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All measurements run in one process, because the start of many processes takes time."""
    monkeypatch.setenv("GPU_FILES", str(tmp_path / "files"))
    found: dict[str, dict[str, Any]] = {}
    for name, measure in gpu.MEASUREMENTS.items():
        if name.endswith("compiled"):  # a compiler's minute
            continue
        into = Found(tmp_path / "found.json")
        measure(SHAPES["tiny"], found.get("card", {}), into)
        found[name] = json.loads((tmp_path / "found.json").read_text())
    assert {"tokens_per_s", "mfu", "share_of_measured_products", "microbatch_tokens"} <= found["pretrain"].keys()
    assert {"tokens_per_s", "sequences_a_pass"} <= found["pretrain transformers"].keys()
    asked = {"16", "8", "profile at 16", "truncated sampling at 16"}
    assert found["decode paged"].keys() == asked == found["decode torch"].keys()
    assert found["decode generate"].keys() == {"16", "8"}
    for name in ("grpo 64x8", "grpo 16x32", "grpo 64x8 recompute"):
        assert set(found[name]["shares"]) == {"rollout", "scoring", "backward", "optimizer", "overhead"}
        assert sum(found[name]["shares"].values()) == pytest.approx(1.0)
        assert all(share > 0 for share in found[name]["shares"].values())
        assert found[name]["rl/mismatch"] < 0.05
    files = {p.name for p in (tmp_path / "files").iterdir()}
    assert files == {"pretrain_profile.txt", "pretrain_trace.json.gz"} and all(map(NAME.fullmatch, files))
    parts = {name: {"status": "done", "found": values} for name, values in found.items()}
    lines = verdicts(parts)
    assert any("the paged engine" in line for line in lines) and sum("neither sampling" in x for x in lines) == 3
    head = {"step": 3, "title": "t", "rehearsal": True, "commit": "c", "code": "d", "begun": "now"}
    assert "decode generate: done" in summary({**head, "parts": parts})


def test_verdicts_follow_the_numbers() -> None:
    def decoded(rate: float) -> dict[str, Any]:
        return {"found": {"512": {"tokens_per_s": rate, "share_of_roofline": 0.4}}}

    parts = {"decode paged": decoded(149.0), "decode torch": decoded(100.0), "decode generate": decoded(10.0)}
    text = "\n".join(verdicts(parts))
    assert "1.49: the paged engine goes" in text and "40% of the roofline (target 50%: missed)" in text
    assert "14.9 (target 10)" in text
    said = "[gw0] [ 5%] PASSED tests/test_gpu.py::a[x y]\n[gw1] [ 9%] FAILED tests/test_gpu.py::b\nbf16: mean gap 0.01"
    assert verdicts_of_tests(said) == ["1 passed, 1 failed", "FAILED tests/test_gpu.py::b", "bf16: mean gap 0.01"]


def test_kernels_are_told_apart_and_their_time_is_counted_once() -> None:
    kinds = {
        "void flash_fwd_kernel<...>": "attention",
        "sm90_xmma_gemm_bf16": "matrix products",
        "nvjet_tst_128x256": "matrix products",
        "triton_poi_fused_silu": "compiled elementwise",
        "triton_tem_fused_flex_attention": "attention",
        "multi_tensor_apply_kernel<FusedAdam>": "optimizer",
        "something": "other",
    }
    assert {name: kind_of(name) for name in kinds} == kinds
    assert covered([(0, 10), (5, 12), (20, 21), (20, 21)]) == 13


def test_the_largest_size_that_fits_is_taken() -> None:
    def use(size: int) -> str:
        if size > 4:
            raise torch.cuda.OutOfMemoryError("too much")
        return f"used {size}"

    assert largest_that_fits(use, (16, 8, 4, 2)) == (4, "used 4")
    with pytest.raises(MemoryError, match=r"none of \[16, 8\] fits"):
        largest_that_fits(use, (16, 8))
    calls: list[int] = []
    timed(lambda: calls.append(1), repeats=100, warm=0, most=0.0)
    assert len(calls) == 1


@pytest.fixture(scope="module")
def graph() -> Graph:
    return expand(smoke.study())


def made(node: Node, store: Store) -> Path:
    """A finished node with made-up results, weights and moments."""
    folder = store.open(node.kind, node.key, node.spec)
    (folder / "metrics.jsonl").write_text(json_text({"step": 1}) + "\n")
    if node.kind == "train":
        for name in ("model", "state"):
            (folder / name).mkdir()
            save_tensors({"w": torch.randn(5000)}, folder / name / "x.safetensors")
    seal(folder, label=node.label())
    return folder


def test_a_packed_node_comes_back_to_the_byte(graph: Graph, tmp_path: Path) -> None:
    node = next(n for n in graph.nodes if n.kind == "train")
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    folder = made(node, here)
    blob = gpu_carry.packed(folder, lambda _: False)
    assert len(blob) < 0.92 * sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    gpu_carry.write([(folder.name, blob)], tmp_path / "files", 1 << 20)
    assert gpu_carry.read(tmp_path / "files", there) == [folder.name]
    again = node.folder(there)
    verify(again)
    for name in (*sealed_files(folder), SEAL):
        if name != SEAL:
            assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert gpu_carry.read(tmp_path / "files", there) == []  # what is done stays


def test_what_travels_is_cut_into_files_and_damage_is_noticed(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_carry, "PIECE", 10_000)
    here, out = Store(tmp_path / "here"), tmp_path / "files"
    some = [*graph.nodes[:6], *[n for n in graph.nodes if n.kind == "train"][:4]]
    for node in some:
        made(node, here)
    sent: set[str] = set()
    rounds = 0
    while names := gpu_carry.back(graph, here, out, 30_000, sent):
        sizes = [p.stat().st_size for p in out.glob("store.[0-9]*")]
        assert len(sizes) <= 3 and max(sizes) <= 10_000 and all(NAME.fullmatch(p.name) for p in out.iterdir())
        sent |= set(names)
        rounds += 1
        gpu_carry.read(out, Store(tmp_path / "home"))
        last = (out / "store.0").read_bytes()
    there = {n.folder(here).name for n in some if n.kind not in gpu_carry.MADE_AGAIN}
    assert sent == there == {p.name for p in (tmp_path / "home" / "nodes").iterdir()} and rounds > 1
    gpu_carry.write([("a-0123456789abcdef", last[:50])], out, 1000)
    (out / "store.0").write_bytes(bytes(50))
    with pytest.raises(ValueError, match="damaged"):
        gpu_carry.read(out, here)


def test_a_card_gets_what_it_reads_and_the_names_of_the_rest(graph: Graph, tmp_path: Path) -> None:
    """So the card takes finished nodes as done, and runs exactly the planned nodes."""
    here, there, out = Store(tmp_path / "here"), Store(tmp_path / "there"), tmp_path / "files"
    order = gpu_carry.waves(graph)
    assert all(order[p.key] <= order[n.key] for n in graph.nodes for p in n.parents())
    first = min(order[n.key] for n in graph.nodes if order[n.key])
    for node in graph.nodes:
        if order[node.key] <= first:
            made(node, here)
    can, cannot = gpu_carry.forth(graph, here, out, 1 << 20)
    assert can and not cannot
    gpu_carry.read(out, there)
    undone = [n for n in graph.nodes if not n.done(there)]
    assert {n.label() for n in undone if n.kind not in gpu_carry.MADE_AGAIN} == set(can)
    needed = {p.key for n in graph.nodes if not n.done(here) for p in gpu_carry._read(n)}
    for node in graph.nodes:
        if node.done(there):
            verify(node.folder(there))
            assert node.damage(there) is None
            listed = set(sealed_files(node.folder(there)))
            assert ("model/x.safetensors" in listed) == (node.kind == "train" and node.key in needed)
            assert not any(name.startswith("state/") for name in listed)
    few, waiting = gpu_carry.forth(graph, here, out, 30_000)
    assert len(few) < len(can) and len(few) + len(waiting) == len(can)


@pytest.mark.slow
def test_the_whole_sequence_rehearsed(tmp_path: Path) -> None:
    """Each step is a command, as on a card. Its results are in $OUT, in few and small files."""
    for number in range(1, 6):
        out = tmp_path / f"back{number}"
        out.mkdir()
        words = [sys.executable, str(BENCHMARKS / "gpu_evidence.py"), str(number), "--rehearse"]
        done = subprocess.run(
            [*words, "--kept", str(tmp_path / "kept")], env=os.environ | {"OUT": str(out)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        files = [p for p in out.rglob("*") if p.is_file()]
        assert len(files) <= 8 and all(p.stat().st_size <= 16 << 20 and NAME.fullmatch(p.name) for p in files)
        result = json.loads((out / f"step{number}.json").read_text())
        assert result["parts"] and result["seconds"] < 60 * gpu_steps.steps(True)[number - 1].minutes
