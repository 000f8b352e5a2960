"""The examples run: every notebook's cells in order, and ``foray plan`` of every study file."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

from foray.cli import main
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.studies import smoke
from foray.train.checkpoint import save_checkpoint

EXAMPLES = Path(__file__).parent.parent / "examples"
STUDIES = sorted(p.name for p in EXAMPLES.glob("*.py"))


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples import one another from their folder. Their modules do not stay."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("own_task", "foray_study_own_task", "foray_study_imported"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def run_cells(notebook: str) -> dict[str, object]:
    """Runs all cells of code in one namespace, as a notebook does. The last line of a cell may be an expression."""
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads((EXAMPLES / notebook).read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"], f"cell {number}: outputs are cleared before a notebook is committed"
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{notebook}, cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), f"{notebook}, cell {number}", "eval"), names)
            assert repr(shown)
    return names


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_file_has_a_plan(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    model: Transformer, tokenizer: TextTokenizer,
) -> None:  # fmt: skip
    for tokens in smoke.study().pretrain.checkpoints:
        save_checkpoint(tmp_path / "made", model, tokenizer)
        (tmp_path / f"M_{tokens}").symlink_to(tmp_path / "made" / "model")
    monkeypatch.setenv("SERIES", str(tmp_path))
    assert main(["plan", str(EXAMPLES / name), "--store", str(tmp_path / "store")]) == 0, capsys.readouterr().err
    assert "to run" in capsys.readouterr().out


def test_the_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAY_RUNS", str(tmp_path))
    monkeypatch.setenv("FORAY_EXAMPLES", str(EXAMPLES))
    (tmp_path / "series").mkdir()
    names = run_cells("bring_your_own.ipynb")
    assert len(names["theirs"].checkpoints) > 0  # type: ignore[attr-defined]
    monkeypatch.setenv("FORAY_STORE", str(tmp_path / "own_task"))
    assert "rl" in run_cells("read_a_study.ipynb")["study"].recipes  # type: ignore[attr-defined]
