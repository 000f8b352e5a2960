"""Attention in C against plain formulas, and what happens where nothing can be compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from foray.core.machine import Machine
from foray.core.native import DECODE_ATTENTION, FOLDER, library
from foray.core.processor import compiler
from foray.core.provenance import record
from foray.rollout import cascade
from foray.rollout.cascade import Cascade, Segment
from foray.rollout.decode_attention import available

needs_compiler = pytest.mark.skipif(not available(torch.zeros(16)), reason="no C compiler here")


def grown(
    monkeypatch: pytest.MonkeyPatch, compiled: bool, shape: tuple[int, int, int, int], prompts: list[int], prefix: int,
    steps: int, dtype: torch.dtype = torch.float32,
) -> list[Tensor]:  # fmt: skip
    """What a cascade of rows (R, K, G, d) answers in each of some steps, with rows that branch and leave in between."""
    if not compiled:
        monkeypatch.setattr(cascade, "available", lambda like: False)
    R, K, G, d = shape
    draw = torch.Generator().manual_seed(0)

    def drawn(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw).to(dtype)

    P, longest = len(prompts), max(prompts)
    mask = torch.arange(longest) < torch.tensor(prompts)[:, None]
    segments = [Segment([drawn(P, K, longest, d)], [drawn(P, K, longest, d)], mask)]
    if prefix:
        segments.insert(0, Segment([drawn(1, K, prefix, d)], [drawn(1, K, prefix, d)]))
    rows = Cascade(segments, torch.arange(R) * P // R)
    assert rows.compiled == compiled
    answers = []
    for step in range(steps):
        if step == 5:
            rows.copy(torch.tensor([0, R - 1]), torch.tensor([1, R]), R + 1)
        if step == 9:
            rows.keep(torch.arange(1, R + 1))
        n = len(rows.prompt)
        answers.append(rows(0, drawn(n, K * G, 1, d), drawn(n, K, 1, d), drawn(n, K, 1, d)).float())
        rows.length += 1
    return answers


@needs_compiler
@pytest.mark.parametrize("prefix", [0, 21])
@pytest.mark.parametrize(
    "shape, prompts",
    [
        ((6, 3, 1, 32), [40, 70, 16]), ((5, 2, 1, 64), [3, 9]), ((4, 1, 2, 16), [131, 64]), ((3, 2, 1, 48), [17]),
        ((3, 2, 2, 80), [80, 1, 33]),
    ],
)  # fmt: skip
def test_both_ways_agree(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int], prompts: list[int], prefix: int
) -> None:
    in_c = grown(monkeypatch, True, shape, prompts, prefix, 40)
    by_torch = grown(monkeypatch, False, shape, prompts, prefix, 40)
    for one, other in zip(in_c, by_torch, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=3e-6)


@needs_compiler
def test_bfloat16_rounds_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, prompts = (6, 3, 2, 32), [40, 70, 16]
    in_c = grown(monkeypatch, True, shape, prompts, 20, 40, torch.bfloat16)
    by_torch = grown(monkeypatch, False, shape, prompts, 20, 40, torch.bfloat16)
    for one, other in zip(in_c, by_torch, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


@needs_compiler
def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(torch.cat(grown(monkeypatch, True, (6, 3, 1, 32), [40, 70, 16], 0, 30)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@needs_compiler
def test_what_is_no_number_stays_none() -> None:
    prompt = Segment([torch.randn(1, 1, 20, 32)], [torch.randn(1, 1, 20, 32)])
    rows = Cascade([prompt], torch.zeros(2, dtype=torch.long))
    q = torch.randn(2, 1, 1, 32)
    q[1, 0, 0, 3] = torch.nan
    new = torch.randn(2, 1, 1, 32)
    answer = rows(0, q, new, new)
    assert answer[0].isfinite().all() and answer[1].isnan().all()


def test_every_file_in_c_compiles_where_one_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that does not is slow everywhere: torch takes its place without a word, and tests of it are skipped."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (source := tmp_path / "f.c").write_text("#include <omp.h>\nint f(void) { return omp_get_max_threads(); }")
    clear()
    try:
        if library(source) is None:
            pytest.skip("no C compiler here")
        assert {path.name for path in FOLDER.glob("*.c") if library(path) is None} == set()
    finally:
        clear()


@needs_compiler
def test_a_library_is_kept_and_made_again_where_it_is_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, kept = tmp_path / "f.c", tmp_path / "cache" / "foray"
    source.write_text("int f(void) { return 7; }")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def seven() -> bool:  # in a process of its own: one that has the library loaded does not look at the file again
        ask = "from pathlib import Path; from foray.core.native import library; "
        ask += f"print(library(Path({str(source)!r})).f())"
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        return done.stdout == "7\n"

    assert seven() and seven()
    (file,) = kept.iterdir()
    file.write_bytes(b"")
    assert seven() and file.stat().st_size
    kept.chmod(0o777)  # anybody may have written here
    before = file.stat().st_mtime_ns
    source.write_text("int f(void) { return 6 + 1; }")
    assert seven() and [f.stat().st_mtime_ns for f in kept.iterdir()] == [before]
    monkeypatch.setenv("CC", f"{compiler()[0]} -O1")
    assert seven()
    source.unlink()
    assert not seven()


@pytest.mark.parametrize("wrong", ["/nowhere/cc", "false", "", " "])
def test_without_a_compiler_that_works_there_is_no_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    source = tmp_path / "f.c"
    source.write_text("int f(void) { return 7; }" if wrong.strip() else "no C")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", wrong)
    clear()
    try:
        assert library(source) is None
        recorded = record(Machine().found(), False)["cpu_detail"]
        assert ("nothing in C" in recorded) == (library(DECODE_ATTENTION) is None)
        assert library(DECODE_ATTENTION) is None or not wrong.strip()
    finally:
        clear()


def clear() -> None:
    compiler.cache_clear()
    library.cache_clear()
