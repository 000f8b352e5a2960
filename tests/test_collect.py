"""What is committed of a store, and how a study goes on from it (``docs/results/collect.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from foray.core.files import seal, sealed

SCRIPT = Path(__file__).parents[1] / "docs" / "results" / "collect.py"


def collect(*words: str | Path) -> str:
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def node(store: Path, name: str, finished: bool = True) -> None:
    """A node's folder as a run leaves it: provenance from the start, health at the end, then the seal."""
    folder = store / "nodes" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "provenance.json").write_text("{}")
    (folder / "metrics.jsonl").write_text("{}\n" * (1 + finished))
    if finished:
        (folder / "problems.jsonl").write_text("{}\n")
        (folder / "health.json").write_text("[]")
        seal(folder)


def reported(store: Path, *names: str, study: str = "desk") -> None:
    entries = [{"folder": f"nodes/{name}"} for name in names]
    (store / "manifest.json").write_text(json.dumps({"study": study, "entries": entries, "nodes": []}))


def test_a_node_is_collected_once_and_when_it_is_finished(tmp_path: Path) -> None:
    store, out, back = (tmp_path / name for name in ("store", "out", "back"))
    node(store, "passk-1")
    node(store, "passk-2", finished=False)
    node(store, "train-3", finished=False)
    reported(store, "passk-1", "passk-2", "train-3")
    assert collect(store, out).startswith("5 files")
    collect("--restore", out, back)
    assert sealed(back / "nodes" / "passk-1") and not (back / "nodes" / "passk-2").exists()
    for name in ("passk-2", "train-3", "passk-4"):
        node(store, name)
    reported(store, "passk-1", "passk-2", "train-3", "passk-4")
    assert collect(store, out).startswith("13 files")
    assert [p.name for p in sorted(out.iterdir())] == ["raw01.tar.xz", "raw02.tar.xz"]
    collect("--restore", out, back)
    assert sealed(back / "nodes" / "passk-2") and sealed(back / "nodes" / "passk-4")
    assert "nothing new was measured" in collect(store, out) and len(list(out.iterdir())) == 2
    trained = back / "nodes" / "train-3"
    assert len((trained / "metrics.jsonl").read_text().split()) == 2 and not sealed(trained), "its weights are gone"


def test_the_captions_of_the_figures_are_collected(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    node(store, "passk-1")
    reported(store, "passk-1")
    (store / "report" / "figures").mkdir(parents=True)
    said = PngInfo()
    said.add_itxt("Title", "F1. A title")
    said.add_itxt("Description", "What is seen.")
    Image.new("L", (1, 1)).save(store / "report" / "figures" / "f1.png", pnginfo=said)
    collect(store, out)
    page = (out / "figures.md").read_text()
    assert "## F1. A title\n\n![F1. A title](f1.png)\n\nWhat is seen.\n" in page


def test_another_study_is_not_collected_over_this_one(tmp_path: Path) -> None:
    node(tmp_path / "store", "passk-1")
    reported(tmp_path / "store", "passk-1")
    collect(tmp_path / "store", tmp_path / "out")
    reported(tmp_path / "store", "passk-1", study="desk_far")
    assert "was last reported as desk_far" in collect(tmp_path / "store", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1
