"""Checkpoints of the hub as a user meets them: in a fresh process, offline, in a cache, in folders of a repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from foray.cli import main
from foray.core.spec import override
from foray.data.prepare import load_mix
from foray.data.repository import Repository
from foray.data.tokenizer import END, load_tokenizer, train_tokenizer
from foray.model import hf
from foray.study.graph import expand
from foray.study.nodes import ImportNode, TrainNode, open_checkpoint, run_node
from foray.study.published import Release, import_checkpoint
from foray.study.run import run_study
from foray.study.spec import Published, load_study
from foray.study.store import Store
from foray.tasks.world import WorldProblems
from test_published import SHAPE, hub_error, olmo_tokenizer, quiet, refused, settings, spoiled, stand_in, study

ROOT = Path(__file__).parents[1]
STORIES = ROOT.parent / "shared" / "data" / "models" / "stories260k_hf"
WIDE = replace(SHAPE, vocab_size=400, context=512)

# A study that knows nothing of these tests, which import what a fresh process has not.
OWN = """
from dataclasses import replace
from foray.studies import smoke
from foray.study.published import Release
from foray.study.spec import Published


def study():
    base = smoke.study()
    return replace(
        base, name="own", recipes=("rl",), model={model},
        pretrain=Published((("org/name", "early", 1000), ("org/name", "late", 3000))),
        evaluation=replace(
            base.evaluation, problems=4, samples=2, k=(1, 2), base_shots=(0,), probes=None, dynamics=None, contamination=0
        ),
    )
"""
SHAPE_OF = 'Release("org/name", "early").shape()'


def world_texts() -> list[str]:
    task = WorldProblems("easy")
    return [task.prompt(p.question) + task.target(p.solutions[0]) for p in task.problems("train", 50)]


def to_cache(root: Path, source: str, revision: str, folder: Path) -> Path:
    """A folder's files as the hub's client keeps them: blobs by digest, and links to them by commit. Gives the snapshot."""
    repository = root / f"models--{source.replace('/', '--')}"
    commit = f"{abs(hash((source, revision))):040x}"[:40]
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    for file in (f for f in folder.rglob("*") if f.is_file()):
        blob = repository / "blobs" / f"{commit}{abs(hash(str(file))):x}"
        link = repository / "snapshots" / commit / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return repository / "snapshots" / commit


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints whose tokenizer has read the world's problems."""
    root = tmp_path_factory.mktemp("made")
    texts = world_texts()
    for seed, name in enumerate(("early", "late")):
        olmo_tokenizer(stand_in(root / name, WIDE, seed), texts, 398)
    return root


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil, in a folder ``copy``."""
    shutil.copytree(made / "late", tmp_path / "copy")
    return tmp_path / "copy"


def fresh(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``foray`` in a process in which nothing has been imported before."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run([sys.executable, "-m", "foray", *words], env=env, capture_output=True, text=True, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("foray: ") and done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stdout and "died" not in done.stdout
    return done.stderr


# --- a fresh process ------------------------------------------------------------------------------------------------


def test_a_fresh_process_without_a_network_says_so_in_one_line(tmp_path: Path) -> None:
    home, store = str(tmp_path / "home"), str(tmp_path / "store")
    asks, runs = tmp_path / "asks.py", tmp_path / "runs.py"
    asks.write_text(OWN.format(model=SHAPE_OF))
    runs.write_text(OWN.format(model="base.model"))
    said = one_line(fresh("plan", str(asks), "--store", store, HF_HOME=home))
    assert "org/name@early is not in the local cache and cannot be fetched" in said and home not in said
    said = one_line(fresh("run", str(runs), "--store", store, "--jobs", "2", HF_HOME=home))
    assert re.search(r"import org/name@(early|late): org/name@\1 is not in the local cache", said) and home not in said


def test_the_bundled_study_of_hub_models_is_refused_offline_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    for name in ("train", "test"):
        rows = ({"question": f"How many does {name} have after {i}?", "answer": f"{i} + 1 = {i + 1}\n#### {i + 1}"} for i in range(7473))
        (tmp_path / "gsm8k" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = fresh(
        "run", "olmo2_public", "--set", f"data.root={tmp_path}", "--store", str(tmp_path / "store"), "--jobs", "3",
        HF_HOME=str(tmp_path / "home"),
    )  # fmt: skip
    assert re.search(r"allenai/OLMo-2-0425-1B\S*@stage1-step\d+-tokens\d+B is not in the local cache", one_line(done))


def test_a_fresh_process_runs_two_revisions_of_a_cache_to_their_report(made: Path, tmp_path: Path) -> None:
    for name in ("early", "late"):
        to_cache(tmp_path / "home" / "hub", "org/name", name, made / name)
    own, store = tmp_path / "own.py", tmp_path / "store"
    own.write_text(OWN.format(model=SHAPE_OF))
    done = fresh("run", str(own), "--store", str(store), "--jobs", "2", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    table = (store / "report" / "results.csv").read_text().splitlines()
    rows = [dict(zip(table[0].split(","), line.split(","))) for line in table[1:]]
    assert {(r["tokens"], r["recipe"]) for r in rows} == {(t, r) for t in ("1000", "3000") for r in ("base", "rl")}
    assert (store / "report" / "index.html").exists()
    planned = fresh("plan", str(own), "--store", str(store), HF_HUB_CACHE=str(tmp_path / "home" / "hub"))
    assert planned.returncode == 0 and " 0 to run" in planned.stdout and "import org/name@late" in planned.stdout


def test_libraries_are_asked_only_for_what_a_fresh_import_of_them_has() -> None:
    """Names that exist only once something else has imported a module hide behind whatever the tests import."""
    code = (
        "import datasets, huggingface_hub as hub\n"
        "datasets.disable_progress_bars, datasets.load_dataset, datasets.load_from_disk\n"
        "datasets.get_dataset_config_names, datasets.Dataset.from_list, datasets.DatasetDict\n"
        "from foray.data.repository import _client\n"
        "assert _client() is hub\n"
        "hub.snapshot_download, hub.list_repo_refs, hub.list_repo_files\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=True)
    for file in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"\b(hub|huggingface_hub|datasets|library)\.(utils|errors|constants)\b(?! import)", (
            file.read_text())), f"{file.name} reaches a module that the import alone does not have"  # fmt: skip
