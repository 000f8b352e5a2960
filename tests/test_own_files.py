"""Each kind of extension in one file outside the package: a file of ``tests/own/`` is taken as a user's is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foray.cli import main
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.train.checkpoint import save_checkpoint

OWN = Path(__file__).parent / "own"
Said = pytest.CaptureFixture[str]


def refused(capsys: Said, *words: str) -> str:
    assert main(words) == 1
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and "Traceback" not in said
    return said


# --- a task ---------------------------------------------------------------------------------------------------------

TASK = str(OWN / "my_task.py")


@pytest.mark.parametrize(("name", "called"), [("Doubles", "doubles"), ("named", "my_doubles"), ("twice", "twice")])
def test_a_task_evaluates_and_grades(
    capsys: Said, tmp_path: Path, model: Transformer, tokenizer: TextTokenizer, name: str, called: str
) -> None:
    save_checkpoint(tmp_path / "made", model, tokenizer)
    words = ["--problems", "3", "--samples", "2", "--max-new-tokens", "4", "--out", str(tmp_path / "kept")]
    assert main(["eval", str(tmp_path / "made" / "model"), "--task", f"{TASK}:{name}", *words]) == 0
    assert json.loads((tmp_path / "kept" / "settings.json").read_text())["task"]["name"] == called
    graded = tmp_path / "graded.jsonl"
    kept = tmp_path / "kept" / "completions.jsonl"
    assert main(["grade", f"{TASK}:{name}", str(kept), "--out", str(graded)]) == 0
    assert "0 of the 6 stored verdicts are others now" in " ".join(capsys.readouterr().out.split())
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"gold": "8", "answer": "8"}\n{"gold": "8", "completions": ["7", " 8"]}\n')
    assert main(["grade", f"{TASK}:{name}", str(rows), "--out", str(graded)]) == 0
    assert [json.loads(line)["correct"] for line in graded.read_text().splitlines()] == [True, [False, True]]


NEEDS = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    size: int\n"
RAISES = "from my_task import Doubles\nclass Mine(Doubles):\n    def verify(self, *_):\n        return {}['gone']\n"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "", "name the task too, FILE.py:NAME"),
        ("class Mine: ...\n", ":Mien", "has no 'Mien'; did you mean 'Mine'?"),
        ("class Mine: ...\n", ":Mine", "write @dataclass(frozen=True) above the class"),
        (NEEDS.replace(": int", ": int = 1"), ":Mine", "one has no name"),
        (NEEDS, ":Mine", "TypeError: Mine.__init__() missing 1 required positional argument: 'size'"),
        ("import nothing_there\n", ":Mine", "line 1: ModuleNotFoundError"),
        (RAISES, ":Mine", "mine.py, line 4: Mine.verify: KeyError: 'gone'"),
    ],
)
def test_a_task_that_is_none_is_one_line(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, message: str
) -> None:
    monkeypatch.syspath_prepend(str(OWN))
    file, rows = tmp_path / "mine.py", tmp_path / "rows.jsonl"
    file.write_text(text)
    rows.write_text('{"gold": "8", "answer": "8"}\n')
    (tmp_path / "there").mkdir()
    assert message in refused(capsys, "grade", f"{file}{name}", str(rows), "--out", str(tmp_path / "graded"))
    assert message in refused(capsys, "eval", str(tmp_path / "there"), "--task", f"{file}{name}")
    assert not (tmp_path / "graded").exists()
