"""Files written as JSON are JSON: NaN and infinities are spelled out, never lost, and read back."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

import foray
from foray.core.files import iter_jsonl, json_text, read_numbers


def test_every_file_of_json_is_written_strictly() -> None:
    package = Path(foray.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("json.dumps", "json.dump"):
                strict = any(k.arg == "allow_nan" and ast.unparse(k.value) == "False" for k in call.keywords)
                where = path.relative_to(package).as_posix()
                assert strict, f"{where}, line {call.lineno}"


def test_what_is_not_finite_is_spelled_out_and_read_back(tmp_path: Path) -> None:
    row = {"step": 3, "kl": math.nan, "ratio": math.inf, "low": -math.inf, "loss": 0.5, "name": "nan"}
    text = json_text(row)
    strict = json.loads(text, parse_constant=pytest.fail)
    assert strict == {"step": 3, "kl": "NaN", "ratio": "Infinity", "low": "-Infinity", "loss": 0.5, "name": "nan"}
    (tmp_path / "metrics.jsonl").write_text(text + "\n")
    (back,) = read_numbers(tmp_path / "metrics.jsonl")
    assert math.isnan(back["kl"]) and back["ratio"] == math.inf and back["low"] == -math.inf
    assert {k: back[k] for k in ("step", "loss", "name")} == {"step": 3, "loss": 0.5, "name": "nan"}
    nested = json.loads(json_text({"a": [1.0, math.nan, {"b": (math.inf, "x")}]}, indent=1), parse_constant=pytest.fail)
    assert nested == {"a": [1.0, "NaN", {"b": ["Infinity", "x"]}]}


def test_a_log_of_before_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "kl": NaN, "ratio": Infinity, "loss": -1e999}\n')
    (row,) = read_numbers(tmp_path / "metrics.jsonl")
    assert math.isnan(row["kl"]) and row["ratio"] == math.inf


def test_what_json_has_no_number_for_is_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"gold": NaN, "a": [-Infinity, 1e999, 1e-999, 2.5]}\n')
    ((_, row),) = iter_jsonl(tmp_path / "rows.jsonl")
    assert row == {"gold": "NaN", "a": ["-Infinity", "1e999", 0.0, 2.5]}
