"""The times beside other programs: the cases, what a run must return, and Foray's own part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench

    return bench


def test_shapes_have_the_sizes_that_they_are_called_by(bench: Any) -> None:
    sizes = {name: bench.config_of(shape).parameters / 1e6 for name, shape in bench.SHAPES.items()}
    assert sizes == pytest.approx({"tiny": 0.68, "mid": 10, "50M": 50, "150M": 150}, rel=0.04)
    assert all(bench.config_of(bench.SHAPES[name]).head_dim == 64 for name in ("mid", "50M", "150M"))


def test_larger_shapes_run_only_if_chosen(bench: Any) -> None:
    assert {bench.CASES[name].shape for name in bench.DEFAULT} == {"tiny", "mid"}
    kinds = {(case.shape, case.kind) for case in bench.CASES.values()}
    assert {(shape, kind) for shape in bench.SHAPES for kind in ("pretrain", "sample", "grpo")} <= kinds
    for case in bench.CASES.values():
        assert case.shared_tokens + case.prompt_tokens + case.new_tokens <= bench.SHAPES[case.shape].context


def test_the_machine_is_named_with_or_without_amx(bench: Any) -> None:
    assert bench.machine().endswith((" with AMX", " without AMX"))


def test_a_run_that_samples_anything_else_is_refused(bench: Any) -> None:
    from cases import Case, Prepared  # type: ignore[import-not-found]

    case, done = Case("sample", "tiny", prompts=2, samples=2, prompt_tokens=3, new_tokens=2), Prepared(lambda: 0)
    good = [[[1, 2], [3, 4]], [[5, 6], [7, 1791]]]
    assert done.checked(case, good) == 8 and done.checked(case, 5) == 5
    wrong: dict[str, list[list[list[int]]]] = {
        "2 prompts": good[:1],
        "2 of 2 prompts": [good[0], good[1][:1]],
        "not 2": [[[1, 2], [3, 4]], [[5, 6], [7]]],
        "outside": [[[1, 2], [3, 4]], [[5, 6], [7, 1792]]],
        "equal": [[[1, 2], [1, 2]], [[5, 6], [7, 8]]],
    }
    for said, out in wrong.items():
        with pytest.raises(ValueError, match=said):
            done.checked(case, out)


@pytest.mark.parametrize("variant", ["fp32", "bf16"])
def test_foray_samples_what_the_case_asks_for(bench: Any, tmp_path: Path, variant: str) -> None:
    """With a vocabulary so small that samples would end early if the end token ended them."""
    from cases import SHAPES, Case, Shape
    from contenders import foray_engine  # type: ignore[import-not-found]

    shape = Shape(32, 1, 1, 64, 8, 64)
    SHAPES["trial"] = shape
    try:
        bench.write_model(shape, tmp_path)
        case = Case("sample", "trial", prompts=2, samples=3, prompt_tokens=5, new_tokens=40)
        assert case.token_prompts() == case.token_prompts() != case.token_prompts(seed=1)
        contender = foray_engine.prepare(case, tmp_path, variant)
        assert contender.checked(case, contender.run()) == 240
        contender.new_weights()
        assert contender.checked(case, contender.run()) == 240
    finally:
        del SHAPES["trial"]


def test_foray_updates_as_the_study_does(bench: Any, tmp_path: Path) -> None:
    from cases import CASES, SHAPES
    from contenders import foray_engine

    case = CASES["grpo of the study"]
    bench.write_model(SHAPES[case.shape], tmp_path)
    contender = foray_engine.prepare(case, tmp_path, "fp32")
    assert contender.checked(case, contender.run()) > 0


def test_the_tables_of_growth(bench: Any) -> None:
    import growth  # type: ignore[import-not-found]
    from cases import SHAPES, Case

    shapes = SHAPES | growth.GROWN
    for case in (case for table in growth.TABLES.values() for case in table.values()):
        assert case.shared_tokens + case.prompt_tokens + case.new_tokens <= shapes[case.shape].context
    line = growth.row("one update", Case("pretrain", "tiny", rows=1, length=16), 1)
    assert line.startswith("| one update | ") and line.count("%") == 2
