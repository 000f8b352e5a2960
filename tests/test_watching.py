"""Excursions from checkpoints that another program writes, as they land."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from foray.cli import main
from foray.data.tokenizer import train_tokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import initialize
from foray.study.named_studies import load_study
from foray.study.study_command import StudyCommand
from foray.study.watching import Series, ready
from foray.train.checkpoint import save_checkpoint
from test_hub import SMALL, world_texts

SETTINGS = [*SMALL, "recipes=rl", "evaluation.dynamics=none"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a pre-training writes it, without Foray's own files."""
    folder = tmp_path_factory.mktemp("written")
    tokenizer = train_tokenizer(world_texts(), 400)
    shape = ModelConfig(width=32, layers=1, heads=2, mlp_width=48, vocab_size=tokenizer.vocab_size, context=704)
    save_checkpoint(folder, initialize(shape, 0), tokenizer)
    return folder / "model"


def names(series: Series) -> list[tuple[str, int]]:
    return [(Path(source).name, tokens) for source, _, tokens in series.found()]


def test_tokens_come_from_the_name_with_its_unit_or_from_steps(checkpoint: Path, tmp_path: Path) -> None:
    names_ = [
        "at0.5M",
        "at2K",
        "1000tokens",
        "7btokens",
        "3B-of",
        "m-10BT",
        "m-2T",
        "m-5Mtok",
        "9tok",
        "8Ktoks",
        "4base",
    ]
    for name in ("step20", "step3", "step-final", *names_):
        shutil.copytree(checkpoint, tmp_path / name)
    steps = Series(f"{tmp_path}/step{{step}}", tokens_per_step=100, settle=0)
    assert names(steps) == [("step3", 300), ("step20", 2000)]
    assert names(Series(f"{tmp_path}/at{{tokens}}M", settle=0)) == [("at0.5M", 500_000)]
    assert names(Series(f"{tmp_path}/at{{tokens}}K", settle=0)) == [("at2K", 2000)]
    assert names(Series(f"{tmp_path}/{{tokens}}tokens", settle=0)) == [("1000tokens", 1000)]
    assert names(Series(f"{tmp_path}/{{tokens}}btokens", settle=0)) == [("7btokens", 7 * 10**9)]
    assert names(Series(f"{tmp_path}/m-{{tokens}}BT", settle=0)) == [("m-10BT", 10**10)]
    assert names(Series(f"{tmp_path}/m-{{tokens}}T", settle=0)) == [("m-2T", 2 * 10**12)]
    assert names(Series(f"{tmp_path}/m-{{tokens}}Mtok", settle=0)) == [("m-5Mtok", 5 * 10**6)]
    assert names(Series(f"{tmp_path}/{{tokens}}tok", settle=0)) == [("9tok", 9)]
    assert names(Series(f"{tmp_path}/{{tokens}}Ktoks", settle=0)) == [("8Ktoks", 8000)]
    assert names(Series(f"{tmp_path}/{{tokens}}base", settle=0)) == [("4base", 4)]
    assert names(Series(f"{tmp_path}/{{tokens}}B-of", settle=0)) == [("3B-of", 3 * 10**9)]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("runs/step", r"needs \{step\} or \{tokens\}"),
        ("runs/step{step}", r"\{step\} needs --tokens-per-step N"),
        ("runs/{tokens}/{tokens}", "twice"),
        ("hub:org/name-{tokens}B", "write hub:ORGANISATION/NAME@REVISION"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Series(pattern)


def test_who_waits_is_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for pattern, words in [("there/step{step}", ""), ("none/step{step}/hf", "none"), ("none/{step}", "none")]:
        folder = f": there is no folder {tmp_path / words} yet" if words else ""
        assert Series(f"{tmp_path}/{pattern}", 1).nothing_yet() == f"no checkpoint matches yet{folder}"
    assert Series("hub:org/name@step{step}", 1).nothing_yet() == "no checkpoint matches yet"


def test_revisions_of_the_hub_are_read_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = ["main", "stage1-step1000-tokens3B", "stage1-step10000-tokens21B", "stage2-step5-tokens1B"]
    monkeypatch.setattr("foray.study.watching._revisions", lambda source: revisions if source == "org/name" else [])
    assert Series("hub:org/name@stage1-step{step}-tokens{tokens}B").found() == [
        ("org/name", revisions[1], 3 * 10**9),
        ("org/name", revisions[2], 21 * 10**9),
    ]


def test_one_store_has_one_series_on_one_scale_of_tokens(tmp_path: Path) -> None:
    known, file = [(f"{tmp_path}/step100", "", 100_000)], tmp_path / "watched.py"
    Series(f"{tmp_path}/step{{step}}", 1000).check(known, file)
    with pytest.raises(
        ValueError, match="step100 has 100,000 tokens there and 200,000 now: give the --tokens-per-step"
    ):
        Series(f"{tmp_path}/step{{step}}", 2000).check(known, file)
    with pytest.raises(ValueError, match=r"step100 is no checkpoint of .*: name another --store"):
        Series(f"{tmp_path}/other{{step}}", 1000).check(known, file)
    hub = Series("hub:org/name@step{step}-tokens{tokens}B")
    hub.check([("org/name", "step1-tokens3B", 3 * 10**9)], file)
    with pytest.raises(ValueError, match="org/other@step1-tokens3B is no checkpoint"):
        hub.check([("org/other", "step1-tokens3B", 3 * 10**9)], file)


def test_a_checkpoint_is_ready_when_its_files_are_whole_and_at_rest(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "step1"
    shutil.copytree(checkpoint, folder, copy_function=shutil.copyfile)
    assert ready(folder, 0) and not ready(folder, 60), "just written"
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for part in (whole[:4], whole[:200], whole[:-1], whole + b"x"):
        weights.write_bytes(part)
        assert not ready(folder, 0), len(part)
    weights.write_bytes(whole)
    for name in ("config.json", "tokenizer.json"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        assert not ready(folder, 0), name
        (folder / name).write_bytes(kept)
    assert ready(folder, 0) and not ready(tmp_path / "step2", 0)


def watching(folder: Path, store: Path, *more: str) -> list[str]:
    words = ["watch", "tiny", f"{folder}/step{{step}}", "--tokens-per-step", "1000", "--store", str(store)]
    words += [w for s in SETTINGS for w in ("--set", s)]
    return [*words, "--every", "0.2", "--settle", "0.5", "--jobs", "1", *more]


def reported(store: Path) -> set[tuple[int, str]]:
    with open(store / "report" / "results.csv", newline="") as f:
        return {(int(row["tokens"]), row["recipe"]) for row in csv.DictReader(f) if row["metric"] == "pass@1"}


@pytest.mark.slow
def test_excursions_run_as_checkpoints_land_and_go_on_after_a_kill(
    checkpoint: Path, tmp_path: Path, draw_only: Any
) -> None:
    """A writer at work: the second checkpoint is half written until after the kill."""
    draw_only()
    folder, store = tmp_path / "runs", tmp_path / "store"
    shutil.copytree(checkpoint, folder / "step1", copy_function=shutil.copyfile)
    (folder / "step2").mkdir()
    shutil.copyfile(checkpoint / "config.json", folder / "step2" / "config.json")
    (folder / "step2" / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-100])

    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    process = subprocess.Popen(
        [sys.executable, "-m", "foray", *watching(folder, store)], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("report: "):
            break
    assert reported(store) == {(1000, "base"), (1000, "rl")}, said
    process.send_signal(signal.SIGKILL)
    process.wait()

    for name in sorted(p.name for p in checkpoint.iterdir()):
        shutil.copyfile(checkpoint / name, folder / "step2" / name)
    old = time.time() - 10
    for file in (folder / "step2").iterdir():
        os.utime(file, (old, old))
    assert main(watching(folder, store, "--until", "2")) == 0
    assert reported(store) == {(t, r) for t in (1000, 2000) for r in ("base", "rl")}
    assert load_study(str(store / "watched.py")).pretrain.checkpoints == (1000, 2000)


def test_a_checkpoint_of_another_shape_is_told_and_left_out(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], draw_only: Any
) -> None:
    draw_only()
    folder, store = tmp_path / "runs", tmp_path / "store"
    config = json.loads((checkpoint / "config.json").read_text())
    for step, eps in ((1, config["rms_norm_eps"]), (2, 0.5), (3, config["rms_norm_eps"])):
        shutil.copytree(checkpoint, folder / f"step{step}")
        (folder / f"step{step}" / "config.json").write_text(json.dumps({**config, "rms_norm_eps": eps}))
        os.utime(folder / f"step{step}" / "config.json", (0, 0))
    assert main(watching(folder, store, "--until", "2")) == 0
    out = capsys.readouterr().out
    assert "left out: " in out and "norm_eps 0.5" in out
    assert {tokens for tokens, _ in reported(store)} == {1000, 3000}


def test_until_takes_no_more_checkpoints_than_it_says(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[list[int]] = []
    module = import_module("foray.commands.watch")  # the package's own "watch" is its function
    monkeypatch.setattr(module, "_run", lambda _, more, *rest: taken.append([c[2] for c in more]))
    for step in (1, 2):
        shutil.copytree(checkpoint, tmp_path / "runs" / f"step{step}")
        os.utime(tmp_path / "runs" / f"step{step}" / "config.json", (0, 0))
    assert main(watching(tmp_path / "runs", tmp_path / "store", "--until", "1")) == 0
    assert taken == [[1000]]


def test_a_checkpoint_that_a_killed_watch_was_at_is_finished_first(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store, ran = tmp_path / "runs", tmp_path / "store", list[tuple[int, ...]]()
    commands, module = list[StudyCommand](), import_module("foray.commands.watch")
    wrong: set[tuple[int, ...]] = set()

    def run(study: Any, *_: Any, command: StudyCommand) -> Path:
        ran.append(study.pretrain.checkpoints)
        commands.append(command)
        if len(ran) == 1:
            raise KeyboardInterrupt
        if ran[-1] in wrong:
            raise ValueError("no")
        return store / "report"

    monkeypatch.setattr(module, "run_study", run)
    shutil.copytree(checkpoint, folder / "step1")
    os.utime(folder / "step1" / "config.json", (0, 0))
    words = watching(folder, store, "--machine", "threads=1", "--until")
    assert main([*words, "1"]) == 130
    assert main([*words, "1"]) == 0 and ran == [(1000,), (1000,)]
    assert commands[0].machine == ("threads=1",)
    shutil.copytree(folder / "step1", folder / "step2")
    os.utime(folder / "step2" / "config.json", (0, 0))
    (store / "manifest.json").write_text(
        json.dumps({"study": "tiny", "entries": [{"tokens": t, "folder": f"nodes/{t}"} for t in (1000, 2000)]})
    )
    (store / "nodes" / "1000").mkdir(parents=True)
    (store / "nodes" / "1000" / "DONE").touch()  # the report that ran over both has the results of one
    assert main([*words, "2"]) == 0 and ran[2:] == [(1000,), (1000, 2000)]
    wrong |= {(1000, 2000)}  # as of a kill at a checkpoint whose excursions fail: later ones are not held up
    shutil.copytree(folder / "step1", folder / "step3")
    os.utime(folder / "step3" / "config.json", (0, 0))
    assert main([*words, "2"]) == 0 and ran[4:] == [(1000, 2000), (1000, 2000), (1000, 3000)]
    assert load_study(str(store / "watched.py")).pretrain.checkpoints == (1000, 3000)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        *(
            (["--every", every], "--every must lie between 0 and 1,000,000 seconds")
            for every in ("inf", "nan", "0", "1e30")
        ),
        *((["--settle", age], "--settle must lie between 0 and 1,000,000 seconds") for age in ("inf", "nan", "-1")),
        (["--until", "-1"], "--until must be >= 0, not -1"),
        (["--jobs", "0"], "--jobs must be positive, not 0"),
    ],
)
def test_what_could_never_be_is_refused_before_the_first_look(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    shutil.copytree(checkpoint, tmp_path / "runs" / "step1")
    os.utime(tmp_path / "runs" / "step1" / "config.json", (0, 0))
    assert main([*watching(tmp_path / "runs", tmp_path / "store"), *words]) == 1
    assert told in capsys.readouterr().err and not (tmp_path / "store").exists()
