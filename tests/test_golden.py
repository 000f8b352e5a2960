"""A refactoring must not change node keys, the embedded world's text and questions, and a report's tables.

``PYTHONPATH=src:tests python tests/test_golden.py`` writes ``tests/golden`` anew. The commit that does so says why.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from foray.report import write_report
from foray.study.graph import expand
from foray.study.named_studies import load_study
from foray.world import WorldProblems
from foray.world.general.questions import PROBES, probe_rows
from foray.world.mixture import world_mixture
from test_report import build

GOLDEN = Path(__file__).parent / "golden"
TABLES = ("results.csv", "claims.csv", "transitions.csv")


def digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


def keys() -> Iterator[str]:
    """Node keys in the order of the graph."""
    for name in ("smoke", "tiny", "desk", "gpu"):
        nodes = [f"{n.kind}-{n.key}" for n in expand(load_study(name)).nodes]
        yield f"{name}: {len(nodes)} nodes {digest(sorted(nodes))} in the order {digest(nodes)}"


def world() -> Iterator[str]:
    for _, source in world_mixture(0.47, 0.1):
        for split in ("train", "validation"):
            yield f"{source.name} {split}: {digest(list(islice(source.documents(split), 300)))}"
    for tier in ("easy", "hard"):
        for split in ("train", "validation", "test"):
            yield f"problems {tier} {split}: {digest([repr(p) for p in WorldProblems(tier).problems(split, 200)])}"
    yield from (f"{name}: {digest(probe_rows(name))}" for name in PROBES)


def tables(root: Path) -> dict[str, str]:
    report = write_report(build(root).write(), root / "report").parent
    return {name: (report / name).read_text() for name in TABLES}


def test_keys_of_the_bundled_studies_are_the_golden_ones() -> None:
    assert list(keys()) == (GOLDEN / "keys.txt").read_text().splitlines()


def test_the_world_is_the_golden_one() -> None:
    assert list(world()) == (GOLDEN / "world.txt").read_text().splitlines()


def test_tables_of_a_report_are_the_golden_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foray.report.discover", list)  # figures change no table
    for name, text in tables(tmp_path).items():
        ours, golden = (list(csv.reader(t.splitlines())) for t in (text, (GOLDEN / name).read_text()))
        assert [[near(c) for c in row] for row in ours] == golden, name


class near(str):
    """A cell. Two cells are equal if they hold the same text, or the same number within rounding."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        try:
            return str(self) == other or float(self) == pytest.approx(float(str(other)), rel=1e-9, abs=1e-12)
        except ValueError:
            return False


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, lines in (("keys.txt", keys()), ("world.txt", world())):
        (GOLDEN / name).write_text("\n".join(lines) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        for name, text in tables(Path(folder)).items():
            (GOLDEN / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
