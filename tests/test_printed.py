"""Tables for a paper: which rows and columns they have, and that LaTeX takes whatever a name brings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from foray.report import read_results, write_report
from foray.report.columns import SHARE, WORDS, Column
from foray.report.model_table import printed_tables
from foray.report.printed import Printed, escaped, latex, markdown
from foray.report.stats import Interval
from test_report import HOSTILE, RECIPES, TOKENS, Study, build

STRANGE = HOSTILE + " \\ {a} 50% #1 ^ ~ a_b | [x] → − × ½ Mₜ é ⚑ 漢"


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete study, a variant of RL with a strange name, another mix and size, a tuning run."""
    study = build(tmp_path_factory.mktemp("printed"))
    where = {"tokens": TOKENS[-1], "stage_step": 50, "task": "world_easy", "shots": 0}
    study.passk("rl", 1.0, variant=STRANGE, against="rl", **where)
    study.passk("rl", 1.0, mix="math-heavy", model_parameters=1_234_567, **where)
    study.passk("rl", 1.0, problems=50, split="validation", variant="rate", against="rl", **where)
    return study.write()


def test_a_table_has_a_row_a_model_and_says_what_it_shows(varied: Path) -> None:
    results = read_results(varied)
    main, beside = printed_tables(results)
    assert len(main.rows) == len(TOKENS) * len(RECIPES)
    assert [c.heading for c in main.columns] == ["M_t", "recipe", "pass@1", "pass@8", "pass@32", "average"]
    for words in (
        "Study tiny",
        "world_easy",
        "strict grading",
        "200 problems × 32 samples",
        "95% intervals",
        "seed (0)",
    ):
        assert words in main.caption, words
    curve = results.curve(["pass@8"], ["world_easy"], ["rl"]).iloc[-1]
    printed = next(r for r in main.rows if r["tokens"] == TOKENS[-1] and r["recipe"] == "RL")
    assert printed["pass@8"] == Interval(curve["value"], curve["lo"], curve["hi"], curve["n"])
    assert [c.heading for c in beside.columns] == ["M_t", "recipe", "setting", "pass@1", "pass@8", "pass@32"]
    settings = [beside.columns[2].printed(row)[0] for row in beside.rows]
    assert settings == [STRANGE, "math-heavy, 1,234,567 parameters"], "the tuning run is no result"


def test_seeds_are_means_and_the_caption_counts_them(tmp_path: Path) -> None:
    (table,) = printed_tables(read_results(build(tmp_path, seeds=2).write()))
    assert len(table.rows) == len(TOKENS) * len(RECIPES) and "means over up to 2 seeds" in table.caption


def test_the_forms_lie_beside_the_numbers(varied: Path, tmp_path: Path) -> None:
    out = write_report(varied, tmp_path / "report", tables=["markdown", "latex", "parquet"]).parent
    lines = (out / "results.md").read_text().splitlines()
    assert sum(line.startswith("| 9.2M | RL |") for line in lines) == 3
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines if line.startswith("| ")} == {6 + 2}
    assert (out / "results.tex").read_text().count("\\toprule") == 2
    import pandas as pd

    assert len(pd.read_parquet(out / "results.parquet")) == len(pd.read_csv(out / "results.csv"))


def test_a_study_without_results_says_so(tmp_path: Path) -> None:
    out = write_report(Study(tmp_path).write(), tmp_path / "report", tables=["markdown", "latex"]).parent
    for name in ("results.md", "results.tex"):
        assert "no pass@k evaluation has finished yet" in (out / name).read_text()


def test_names_are_escaped() -> None:
    assert escaped("a_b 5% M_t Mₜ SFT→RL ⚑ ₂") == r"a\_b 5\% $M_t$ $M_t$ SFT$\rightarrow$RL ? 2"
    table = Printed(STRANGE, "a\n|b", [Column("x|y", "name"), Column("z", "z", SHARE)], [{"name": STRANGE, "z": None}])
    text = markdown([table])
    assert "a \\|b" in text and "\\<script>" in text and text.splitlines()[-1].endswith(" | – |")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_takes_the_tables(varied: Path, tmp_path: Path) -> None:
    strange = Printed(STRANGE, STRANGE, [Column(STRANGE, "x", WORDS), Column("y", "x")], [{"x": STRANGE}])
    tables = latex([*printed_tables(read_results(varied)), strange])
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    words = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert ran.returncode == 0 and (tmp_path / "t.pdf").is_file(), ran.stdout[-2000:]
