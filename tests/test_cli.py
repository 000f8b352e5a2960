"""The command line: what a user sees, and one line for each of the user's mistakes."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from foray import __version__
from foray.cli import main
from foray.commands import COMMANDS
from foray.core.files import alone_in
from foray.core.spelling import in_tokens
from foray.data.tokenizer import load_tokenizer, train_tokenizer
from foray.model.config import ModelConfig
from foray.model.hf import load_model
from foray.model.transformer import initialize
from foray.studies import smoke
from foray.study import progress
from foray.study.graph import expand
from foray.study.store import Store
from foray.train.checkpoint import save_checkpoint
from foray.world import WorldProblems, math_sources

Said = pytest.CaptureFixture[str]


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def refused(capsys: Said, *words: str) -> str:
    """The one line on standard error of a command that fails."""
    try:
        code = main(words)
    except SystemExit as end:
        code = int(str(end.code))
    said = capsys.readouterr()
    assert code != 0
    assert said.err.startswith("foray: ") and said.err.count("\n") == 1 and "Traceback" not in said.err, said.err
    return said.err


def worked(capsys: Said, *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The miniature study as a user's own file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own_study.py"
    file.write_text(
        '"""Mine."""\nfrom test_study import Study, brief\n\n\ndef study() -> Study:\n    return brief()\n',
        encoding="utf-8",
    )
    yield file
    sys.modules.pop("foray_study_own_study", None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = train_tokenizer(list(islice(math_sources()["stories"].documents("train"), 60)), 400)
    config = ModelConfig(width=16, layers=1, heads=2, mlp_width=24, vocab_size=tokenizer.vocab_size, context=512)
    save_checkpoint(folder, initialize(config, 0), tokenizer)
    return folder / "model"


# --- without a study ------------------------------------------------------------------------------------------------


def test_help_answers_without_torch() -> None:
    found = python("-X", "importtime", "-m", "foray", "--help")
    assert found.returncode == 0 and "COMMAND" in found.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in found.stderr.splitlines()}
    assert "argparse" in imported and not {"torch", "numpy", "rich", "pandas"} & imported


def test_every_command_explains_itself(capsys: Said) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert end.value.code == 0 and f"foray {command}" in said
        usage, _, options = said.partition("show this help message and exit")
        optional = re.findall(r"\[(?:-\w, )?(--?[\w-]+) (?:[A-Z.]|\{)", usage)
        assert options.count("(default: ") == len(optional), f"{command}: each of {optional} says its default"


def test_no_command_prints_the_help_and_version_the_version(capsys: Said) -> None:
    assert "COMMAND" in worked(capsys)
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out.strip() == f"foray {__version__}"


def test_eval_and_grade_say_how_far_they_are(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT", -1.0)
    words = ["--task", "world_easy", "--problems", "2", "--samples", "1", "--k", "1", "--max-new-tokens", "4"]
    assert main(["eval", str(checkpoint), *words]) == 0
    assert capsys.readouterr().err == "    at work: problems (2 of 2)\n"
    (tmp_path / "in").write_text('{"gold": "1", "answer": "1"}\n\n{"gold": "1", "answer": "2"}')
    assert main(["grade", "gsm8k", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == "    at work: rows (1 of 3)\n    at work: rows (3 of 3)\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pln", "tiny"], "there is no command 'pln'; did you mean 'plan'?"),
        (["runn", "tiny"], "did you mean 'run'?"),
        (["plan"], "STUDY"),
        (["plan", "tinny"], "there is no study 'tinny'; did you mean 'tiny'?"),
        (["run", "gsm8k-small"], "did you mean 'gsm8k_small'?"),
        (["plan", "no/such/study.py"], "there is no study file no/such/study.py"),
        (["plan", "/usr/"], "/usr/ is a folder: name a study, and the folder of its results with --store"),
        (["plan", "tiny", "--stor", "x"], "there is no option --stor; did you mean '--store'?"),
        (["plan", "tiny", "desk"], "nothing is expected at 'desk'"),
        (["--verson"], "there is no option --verson; did you mean '--version'?"),
        (["run", "tiny", "--jobs", "two"], "--jobs"),
        (["plan", "tiny", "--set", "pretrain.lr"], "pretrain.lr: write it as KEY=VALUE, without a space"),
        (["plan", "tiny", "--set", "pretrain.lr", "1e-3"], "pretrain.lr: write it as KEY=VALUE, without a space"),
        (["plan", "tiny", "--set", "evaluation.grading=flexibel"], "there is no such value; did you mean 'flexible'?"),
        (["plan", "tiny", "--machine", "device=tpu"], "device=tpu: there is no such value; did you mean 'cpu'?"),
        (["settings", "tiny", "temprature"], "no key and no meaning has temprature; did you mean 'temperature'?"),
        (["plan", "tiny", "--set", "pretrain.lrr=1"], "did you mean 'lr'?"),
        (["plan", "tiny", "--set", "pretain.lr=1"], "did you mean 'pretrain'?"),
        (["plan", "tiny", "--set", "post.rl.learning_rate=1"], "did you mean 'lr'?"),
        (["plan", "tiny", "--set", "recipes=rl,grpo"], "no recipe 'grpo' (valid: "),
        (["plan", "tiny", "--set", "seeds=a"], "--set seeds=a: expected whole numbers separated by commas"),
        (
            ["plan", "tiny", "--set", "model.width=wide"],
            "--set model.width=wide: expected a whole number, for example 96",
        ),
        (["plan", "tiny", "--set", "evaluation.k=64"], "needs at least 64 samples"),
        (["plan", "tiny", "--set", "recipes=rl,sft_glod"], "there is no recipe 'sft_glod'; did you mean 'sft_gold'?"),
        (["plan", "tiny", "--set", "data.vocab_size=9"], "at least 257"),
        (["plan", "tiny", "--set", "post.weights=0.5,-1"], ">= 0"),
        (["report", "tiny", "--store", "no-such-store"], "there is no store no-such-store; run the study first"),
        (["report", "no-such-store"], "there is no store's folder no-such-store, and no study of that name"),
        (["ls", "tiny", "--set", "seeds=a"], "seeds"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_valid_word(capsys: Said, words: list[str], message: str) -> None:
    assert message in refused(capsys, *words)


def test_settings_are_found_by_words_of_their_key_and_meaning(capsys: Said) -> None:
    lines = worked(capsys, "settings", "tiny", "rl", "learning rate").splitlines()[1:]
    assert lines and all("rl" in line and "learning rate" in line for line in lines)
    assert "post.rl.optimizer.lr" in " ".join(lines)


def test_a_folder_of_a_studys_name_is_no_study(capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tiny`` is the study, whatever folder stands here; ``./tiny`` is the folder."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "manifest.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert "runs/tiny" in refused(capsys, "report", "tiny")
    assert "manifest" in refused(capsys, "report", "./tiny")


def test_the_documented_study_of_ones_own_problems_plans_and_counts_them(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    (tmp_path / "problems").mkdir()
    monkeypatch.chdir(tmp_path)

    def write(train: int, test: int) -> None:
        for name, first, count in (("train", 0, train), ("test", 10_000, test)):
            rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1), "solutions": [f"{i} + 1 = {i + 1}"]}
                    for i in range(first, first + count)]  # fmt: skip
            (tmp_path / "problems" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(50, 20)
    said = refused(capsys, "plan", "mine.py")
    assert "mine has 20 test problems, and more are asked for by evaluation.problems (200)" in said
    assert "--set evaluation.problems=20" in said and "--set rl.questions=" in said and "--set sft.questions=" in said
    write(1300, 200)
    assert "pass@k on mine" in worked(capsys, "plan", "mine.py")


def test_a_folder_with_test_problems_alone_can_be_asked(capsys: Said, tmp_path: Path, checkpoint: Path) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(3)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--task", "jsonl", "--data-root", str(tmp_path), "--samples", "2", "--max-new-tokens", "4"]
    said = worked(capsys, "eval", str(checkpoint), *words)
    assert "3 problems x 2 samples" in said and "pass@2" in said, "the k of few samples"
    said = refused(capsys, "eval", str(checkpoint), *words, "--shots", "2")
    assert "2 solved examples in a prompt need as many training problems with solutions, and there are 0" in said
    sample = ["sample", str(checkpoint), "--task", "jsonl", "--data-root", str(tmp_path), "--max-new-tokens", "4"]
    assert "jsonl has no problem test-9; ids look like test-1" in refused(capsys, *sample, "--question", "test-9")


def test_jobs_below_one_are_refused(capsys: Said, mini: Path) -> None:
    for jobs in ("0", "-3"):
        assert "--jobs" in refused(capsys, "run", str(mini), "--jobs", jobs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study = 3\n", "defines a function study()"),
        ("def study():\n    return 3\n", "returns a foray.study.spec.Study"),
        ("", "defines a function study()"),
        ("import os\n\ndef study(:\n", "mine.py, line 3: SyntaxError: "),
        ("import nowhere_at_all\n", "mine.py, line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("from foray.studies import tiny\n\ndef study():\n    return tiny.stduy()\n", "mine.py, line 4: AttributeErr"),
        ("from foray.core.stage import AdamW\nbest = AdamW(lr=-1)\n", "mine.py, line 2: lr must be >= 0, not -1"),
        (
            "from dataclasses import replace\nfrom foray.studies import tiny\nmade = replace(tiny.study(), nam='x')\n",
            "mine.py, line 3: Study has no field 'nam'; did you mean 'name'?",
        ),
        ("from foray.studies.tiny import study\ndef parts(s):\n    return 1 / 0\n", "mine.py, line 3: ZeroDivision"),
    ],
)
def test_a_file_that_is_no_study_is_named(capsys: Said, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    said = refused(capsys, "plan", str(tmp_path / "mine.py"))
    assert message in said and "mine.py" in said


@pytest.mark.parametrize("command", ["run", "report"])
def test_a_missing_data_root_names_the_fix(capsys: Said, tmp_path: Path, command: str) -> None:
    (tmp_path / "store").mkdir()
    said = refused(capsys, command, "gsm8k_small", "--store", str(tmp_path / "store"), "--set", f"data.root={tmp_path}")
    assert "does not exist" in said and "--set data.root=" in said and str(tmp_path) in said


# --- a study --------------------------------------------------------------------------------------------------------


def test_plan_prints_the_graph_and_its_cost(capsys: Said, tmp_path: Path) -> None:
    out = worked(capsys, "plan", "smoke", "--part", "main", "--jobs", "2", "--store", str(tmp_path / "s"))
    assert "M_t at " in out and "Parallel from " in out and "pass@k on world_easy" in out
    for word in (
        "{0} nodes, {0} to run, on 2 workers".format(len(expand(smoke.study()).nodes)),
        "FLOPs (",
        "decode",
        "GB stay",
        "GB a rank",
        "minutes of wall time",
    ):
        assert word in out
    assert not (tmp_path / "s").exists(), "planning leaves nothing behind"


def test_a_study_file_runs_and_is_listed(
    capsys: Said, mini: Path, tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only("f2_passk")
    store = str(tmp_path / "out")
    out = worked(capsys, "run", str(mini), "--store", store, "--jobs", "1")
    assert str(tmp_path / "out" / "report" / "index.html") in out and "results.csv" in out
    rows = worked(capsys, "ls", str(mini), "--store", store).splitlines()[1:]
    for row, recipe in zip(rows, ("base", "sft", "rl")):
        words = row.split()
        assert words[:4] == ["1.536k", recipe, "0/0", words[3]] and "done" in words
        assert (Path(words[-1]) / "DONE").exists()
    assert len(rows) == 3
    planned = worked(capsys, "plan", str(mini), "--store", store)
    assert ", 0 to run" in planned
    more = worked(capsys, "plan", str(mini), "--store", store, "--set", "seeds=0,1")
    assert ", 9 to run" in more
    table = (tmp_path / "out" / "report" / "results.csv").read_bytes()
    printed = worked(capsys, "report", str(mini), "--store", store)
    assert "index.html" in printed.splitlines()[-1] and "not run" in printed
    assert all(f"C{i}" in printed for i in range(1, 11))
    assert (tmp_path / "out" / "report" / "results.csv").read_bytes() == table


def test_one_checkpoint_has_one_name_in_every_list(capsys: Said, mini: Path, tmp_path: Path) -> None:
    """A checkpoint lies at a whole step, so not quite at the tokens that the study says."""
    words = [str(mini), "--store", str(tmp_path), "--set", "pretrain.checkpoints=1500"]
    assert "M_t at 1.5k, seed 0" in worked(capsys, "plan", *words)
    assert worked(capsys, "ls", *words).splitlines()[1].split()[:2] == ["1.5k", "base"]
    assert [in_tokens(n) for n in (768, 40_960, 2_097_152, 4_001 * 10**9)] == ["768", "40.96k", "2.097152M", "4001B"]


def test_the_study_in_the_guide_to_studies_is_a_study(capsys: Said, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "studies.md").read_text(encoding="utf-8")
    (tmp_path / "my_study.py").write_text(guide.split("```python\n")[1].split("```")[0])
    out = worked(capsys, "plan", str(tmp_path / "my_study.py"), "--store", str(tmp_path / "store"))
    assert "seed 1" in out


def test_a_broken_setting_does_not_touch_the_store(capsys: Said, mini: Path, tmp_path: Path) -> None:
    refused(capsys, "run", str(mini), "--set", "evaluation.k=99")
    assert not (tmp_path / "runs").exists()


# --- eval -----------------------------------------------------------------------------------------------------------


def test_eval_grades_a_checkpoint(capsys: Said, checkpoint: Path, tmp_path: Path) -> None:
    words = ["eval", str(checkpoint), "--task", "world_easy", "--shots", "0", "--samples", "2", "--problems", "3"]
    words += ["--max-new-tokens", "6", "--temperature", "1.0"]
    out = worked(capsys, *words, "--out", str(tmp_path / "kept"))
    assert "pass@1" in out and "pass@8" not in out and "3 problems x 2 samples" in out
    rows = [json.loads(line) for line in (tmp_path / "kept" / "completions.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rows] == [p.id for p in WorldProblems("easy").problems("test", 3)]
    assert all(len(r["samples"]) == 2 for r in rows)
    kept, graded = tmp_path / "kept" / "completions.jsonl", tmp_path / "graded.jsonl"
    for task in ("world_easy", "-"):
        said = worked(capsys, "grade", task, str(kept), "--out", str(graded))
        assert "0 of the 6 stored verdicts have changed" in " ".join(said.split())
        again = [json.loads(line)["correct"] for line in graded.read_text().splitlines()]
        assert again == [[s["correct"] for s in r["samples"]] for r in rows]
        graded.unlink()
    assert worked(capsys, *words) == out, "the same seed draws the same samples"
    assert worked(capsys, *words, "--out", str(tmp_path / "kept")) == out, "typed again it goes on from what is there"
    other = refused(capsys, *words, "--shots", "1", "--temperature", "0.9", "--out", str(tmp_path / "kept"))
    assert "completions of other settings: shots, temperature" in other
    other = refused(capsys, *words, "--top-p", "0.9", "--top-k", "5", "--min-p", "0.1", "--out", str(tmp_path / "kept"))
    assert "completions of other settings: top_p, top_k, min_p" in other
    copied = tmp_path / "again" / "model"  # other weights in the place of those
    shutil.copytree(checkpoint, copied)
    worked(capsys, words[0], str(copied), *words[2:], "--out", str(tmp_path / "twice"))
    model, tokenizer = load_model(copied), load_tokenizer(copied)
    (copied / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.end_id, 5]}))
    said = refused(capsys, words[0], str(copied), *words[2:], "--out", str(tmp_path / "twice"))
    assert "completions of other settings: choice of end tokens, config and tokenizer;" in said
    (copied / "generation_config.json").write_bytes((checkpoint / "generation_config.json").read_bytes())
    (copied / "tokenizer.json").write_text((copied / "tokenizer.json").read_text() + "\n")
    again = [words[0], str(copied), *words[2:], "--out", str(tmp_path / "twice")]
    assert "completions of other settings: config and tokenizer;" in refused(capsys, *again)
    save_checkpoint(copied.parent, initialize(model.config, 1), tokenizer)
    said = refused(capsys, words[0], str(copied), *words[2:], "--out", str(tmp_path / "twice"))
    assert "completions of other settings: checkpoint" in said
    (tmp_path / "kept" / "settings.json").unlink()
    assert "name another --out" in refused(capsys, *words, "--out", str(tmp_path / "kept"))
    assert "pass@1" in worked(capsys, *words[:1], str(checkpoint.parent), *words[2:]), "a node's folder works too"
    said = refused(capsys, *words, "--k", "1,8")
    assert "--k 1,8: pass@8 needs at least 8 samples a problem: --samples 8" in said


@pytest.mark.parametrize("name", ["settings.json", "problems.jsonl", "ledger.json"])
def test_eval_writes_over_no_file_of_others(capsys: Said, checkpoint: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / name).write_text('{"colour": "blue"}')
    words = ["--task", "world_easy", "--shots", "0", "--samples", "2", "--problems", "1", "--max-new-tokens", "2"]
    said = refused(capsys, "eval", str(checkpoint), *words, "--out", str(mine))
    assert f"mine holds {name}, and Foray has not worked there; name another --out" in said
    assert (mine / name).read_text() == '{"colour": "blue"}'


@pytest.mark.parametrize("name", ["manifest.json", "report"])
def test_run_writes_over_no_file_of_others(capsys: Said, mini: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    (mine / "report").mkdir(parents=True) if name == "report" else mine.mkdir()
    if name != "report":
        (mine / name).write_text("{}")
    said = refused(capsys, "run", str(mini), "--store", str(mine))
    assert f"mine holds {name}, and Foray has not worked there; name another --store" in said
    assert [p.name for p in mine.iterdir()] == [name]


def test_eval_asks_all_of_a_few_problems(capsys: Said, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    for split, problems in (("test", 2), ("train", 1)):
        rows = ({"question": f"{split} {i} + 2?", "answer": str(i + 2)} for i in range(problems))
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["eval", str(checkpoint), "--task", "jsonl", "--data-root", str(tmp_path), "--samples", "1", "--k", "1"]
    assert "2 problems x 1 samples" in worked(capsys, *words, "--max-new-tokens", "4")
    said = refused(capsys, *words, "--max-new-tokens", "4", "--problems", "3")
    assert "jsonl has 2 test problems; 3 were asked for" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "world_esy"], "there is no task 'world_esy'; did you mean 'world_easy'?"),
        (["--task", "world_easy", "--samples", "0"], "--samples"),
        (["--task", "world_easy", "--problems", "-1"], "--problems"),
        (["--task", "world_easy", "--shots", "-1"], "--shots"),
        (["--task", "world_easy", "--shots", "x"], "--shots"),
        (["--task", "world_easy", "--k", "1,x"], "whole numbers"),
        (["--task", "world_easy", "--k", "0"], "--k"),
        (["--task", "world_easy", "--k", "64"], "--samples"),
        (["--task", "world_easy", "--split", "trian"], "--split"),
        (["--task", "world_easy", "--temperature", "-1"], "--temperature must be >= 0, not -1"),
        (["--task", "world_easy", "--temperature", "nan"], "temperature"),
        (["--task", "world_easy", "--top-p", "0"], "top_p must be above 0"),
        (["--task", "world_easy", "--top-k", "-1"], "top_k must be a whole number"),
        (["--task", "world_easy", "--min-p", "1"], "min_p must be >= 0 and below 1"),
        (["--task", "world_easy", "--max-new-tokens", "0"], "max_new_tokens"),
        (["--task", "world_easy", "--max-new-tokens", "600"], "context"),
        (["--task", "world_easy", "--shots", "64"], "context"),
        (["--task", "gsm8k"], "--data-root"),
        ([], "--task"),
    ],
)
def test_mistakes_of_eval(capsys: Said, checkpoint: Path, words: list[str], message: str) -> None:
    assert message in refused(capsys, "eval", str(checkpoint), *words)


def test_one_evaluation_at_a_time_fills_a_folder(capsys: Said, checkpoint: Path, tmp_path: Path) -> None:
    words = ["eval", str(checkpoint), "--task", "world_easy", "--samples", "2", "--problems", "2"]
    words += ["--max-new-tokens", "4", "--out", str(tmp_path)]
    with alone_in(tmp_path, "taken"):  # a lock is of an open file: the command's own is another
        assert f"another foray evaluates into {tmp_path}" in refused(capsys, *words)
    assert "2 problems x 2 samples" in worked(capsys, *words)


def test_greedy_sampling_wants_one_sample(capsys: Said, checkpoint: Path) -> None:
    """Equal samples would pass for independent samples. A study refuses them too."""
    words = ["--task", "world_easy", "--problems", "2", "--max-new-tokens", "4", "--temperature", "0"]
    assert "temperature 0" in refused(capsys, "eval", str(checkpoint), *words, "--samples", "4")
    assert "pass@1" in worked(capsys, "eval", str(checkpoint), *words, "--samples", "1")


@pytest.mark.parametrize("damage", ["no folder", "empty", "weights", "nan", "shape", "config", "tokenizer", "family"])
def test_a_damaged_checkpoint_is_named(capsys: Said, checkpoint: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    if damage != "no folder":
        folder.mkdir()
        for file in checkpoint.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    if damage == "empty":
        for file in folder.iterdir():
            file.unlink()
    elif damage == "weights":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif damage == "nan":
        tensors = load_file(folder / "model.safetensors")
        next(iter(tensors.values())).view(-1)[3] = float("nan")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    elif damage == "config":
        (folder / "config.json").write_text('{"model_type": "olmo2"')
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text('{"model"')
    elif damage in ("shape", "family"):
        config = json.loads((folder / "config.json").read_text())
        config |= {"hidden_size": 32} if damage == "shape" else {"model_type": "gpt2"}
        (folder / "config.json").write_text(json.dumps(config))
    said = refused(capsys, "eval", str(folder), "--task", "world_easy", "--problems", "1")
    assert damage != "nan" or "holds 1 NaN or infinite values" in said
    weights = dict.fromkeys(("weights", "nan"), "model.safetensors")
    file = {**weights, "config": "config.json", "tokenizer": "tokenizer.json"}.get(damage, "")
    assert str(folder / file) in said


def contents(root: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file and folder, with its time and its bytes."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in (root, *root.rglob("*"))}


def test_a_report_into_another_folder_leaves_the_store_as_it_is(
    capsys: Said, mini: Path, tmp_path: Path, draw_only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only()
    (tmp_path / "empty").mkdir()
    store = tmp_path / "store"
    worked(capsys, "run", str(mini), "--store", str(store), "--jobs", "1")
    before = contents(store)
    for name in ("store", "empty"):
        worked(capsys, "report", str(mini), "--store", name, "--out", f"out-{name}", "--set", "seeds=1")
    worked(capsys, "report", str(mini), str(store), "--store", "store", "--out", "both")
    assert contents(store) == before and not any((tmp_path / "empty").iterdir())
    assert "as it was written" in worked(capsys, "check", str(store))

    def readonly(self: Store, key: str, patience: float) -> None:
        raise PermissionError(13, "Permission denied", str(self.root / "claims" / key))

    monkeypatch.setattr(Store, "claim", readonly)
    said = refused(capsys, "report", str(mini), "--store", str(store))
    assert said.endswith("claims/report: Permission denied; --out FOLDER writes the report elsewhere\n")


def test_what_a_report_leaves_out_is_said(
    capsys: Said, mini: Path, tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    words = [str(mini), "--store", str(tmp_path / "out")]
    worked(capsys, "run", *words, "--jobs", "1")
    lost = next((tmp_path / "out" / "nodes").glob("passk-*/problems.jsonl"))
    lost.unlink()
    assert main(["report", *words]) == 0
    said = capsys.readouterr()
    assert "index.html" in said.out and said.err == f"left out: {lost} is missing; `foray run` makes it anew\n"


def test_what_pretraining_read_can_be_shown(
    capsys: Said, mini: Path, tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    store = str(tmp_path / "out")
    assert "run the study first" in refused(capsys, "data", "show", str(mini), "--store", store, "--step", "1")
    worked(capsys, "run", str(mini), "--store", store, "--jobs", "1")
    shown = worked(capsys, "data", "show", str(mini), "--store", store, "--step", "2")
    assert shown.count("--- step 2, row ") == 4 and "of " in shown and "Q:" in shown
    assert worked(capsys, "data", "show", str(mini), "--store", store, "--step", "2") == shown
    assert "the study's seeds are" in refused(
        capsys, "data", "show", str(mini), "--store", store, "--step", "2", "--seed", "9"
    )
    # Text whose root the study fills in is found all the same.
    text = "from foray.data.text import JsonlText\nfrom dataclasses import replace\n"
    mini.write_text(
        text
        + mini.read_text().replace(
            "return brief()",
            """made = brief()
    own = replace(made.pretrain.stream.source, mixture=((1.0, JsonlText("own", "own.jsonl")),))
    return replace(made, recipes=(), pretrain=replace(made.pretrain, stream=replace(made.pretrain.stream, source=own)))
""",
        )
    )
    rows = [json.dumps({"text": f"{i} apples and {i} pears are {2 * i} fruits. " * 20}) for i in range(400)]
    (tmp_path / "own.jsonl").write_text("\n".join(rows))
    words = [str(mini), "--store", store, "--set", f"data.root={tmp_path}"]
    worked(capsys, "run", *words, "--jobs", "1")
    assert "fruits" in worked(capsys, "data", "show", *words, "--step", "2")
    assert "must lie between" in refused(capsys, "data", "show", str(mini), "--store", store, "--step", "999999")


def test_an_interrupt_while_it_starts_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    class Interrupted:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "foray.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "foray.commands", raising=False)
    monkeypatch.delattr("foray.commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    assert main(["ls", "tiny"]) == 130
    assert capsys.readouterr().err == "foray: interrupted\n"


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        ("run tiny", True), ("run tiny --executor slurm --dry-run", False), ("watch tiny step{step}", True),
        ("prepare world_1b --out o", True), ("check s", False), ("check s --repair", True), ("report tiny", False),
        ("eval c --task gsm8k", False), ("eval c --task gsm8k --out o", True), ("report tiny --out o", False),
    ],
)  # fmt: skip
def test_ctrl_c_says_that_a_command_goes_on_where_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: Said, words: str, goes_on: bool
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, words.split()[0], interrupted)
    assert main(words.split()) == 130
    more = "; the same command goes on from here" if goes_on else ""
    assert capsys.readouterr().err == f"foray: interrupted{more}\n"


def test_store_is_offered_where_it_is_read_with_its_own_default(capsys: Said) -> None:
    helps = {}
    for command in ("run", "watch", "settings"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        helps[command] = " ".join(capsys.readouterr().out.split())
    assert "(default: runs/STUDY)" in helps["run"] and "(default: runs/STUDY-watched)" in helps["watch"]
    assert "--store" not in helps["settings"]


@pytest.mark.parametrize(("command", "line"), [("ls", "     M_t tokens"), ("plan", "")])
def test_output_may_be_cut_short(command: str, line: str, tmp_path: Path) -> None:
    whole = f"set -o pipefail; {sys.executable} -m foray {command} tiny --store {tmp_path} | head -1"
    done = subprocess.run(["bash", "-c", whole], capture_output=True, text=True)
    assert done.stdout.startswith(line) and not done.stderr and done.returncode == 0


def test_a_run_whose_output_is_cut_short_says_that_it_is_unfinished(mini: Path, tmp_path: Path) -> None:
    words = f"{sys.executable} -m foray run {mini} --store {tmp_path / 'store'}"
    env = os.environ | {"PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words} | head -1"], capture_output=True, text=True, env=env
    )
    assert done.stdout.count("\n") == 1 and done.returncode == 141, done.stderr
    assert done.stderr == "foray: stopped, as nobody reads the output any more; the same command goes on from here\n"
    whole = f"set -o pipefail; {words} 2>&1 | head -1"
    assert subprocess.run(["bash", "-c", whole], capture_output=True, env=env).returncode == 141, "the lines too"


def test_the_pipe_of_a_worker_is_not_the_output(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    def broken(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setitem(COMMANDS, "ls", broken)
    assert "Broken pipe" in refused(capsys, "ls", "tiny")


def test_a_run_that_must_wait_leaves_no_trace_in_the_store(capsys: Said, mini: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Store(store).lock():
        assert "another foray is running" in refused(capsys, "run", str(mini), "--store", str(store))
    assert [p.name for p in store.iterdir()] == [".lock"]


# --- asking a store and a checkpoint --------------------------------------------------------------------------------


def test_a_store_is_a_folder_that_is_there(capsys: Said, mini: Path, tmp_path: Path) -> None:
    store = tmp_path / "there"
    for words in (("ls",), ("ls", "--json"), ("report",)):
        said = refused(capsys, words[0], str(mini), *words[1:], "--store", str(store))
        assert f"there is no store {store}; run the study first (foray run {mini} --store {store})" in said
    store.write_text("")
    for command in ("run", "plan", "ls", "report", "gc"):
        said = refused(capsys, command, str(mini), "--store", str(store))
        assert f"argument --store: {store} is a file; --store takes a folder" in said


def test_ls_json_lists_checkpoints_and_evaluations(capsys: Said, mini: Path, tmp_path: Path) -> None:
    store = tmp_path / "there"
    store.mkdir()
    found = json.loads(worked(capsys, "ls", str(mini), "--json", "--store", str(store)))
    assert [c["recipe"] for c in found["checkpoints"]] == ["base", "sft", "rl"]
    assert {c["state"] for c in found["checkpoints"]} == {"to run"}
    folders = {c["folder"] for c in found["checkpoints"]}
    assert {e["checkpoint"] for e in found["evaluations"] if e["kind"] == "passk"} == folders


def test_settings_prints_keys_that_set_takes_with_their_meaning(capsys: Said) -> None:
    from foray.core.override import override
    from foray.study.setting_words import settings_of

    made = smoke.study()
    rows = {key: (value, meaning) for key, value, meaning in settings_of(made)}
    assert rows["data.whole_numbers"][1] == "numbers up to this one are single tokens"
    assert "``" not in "".join(meaning for _, meaning in rows.values())
    for key in ("model.width", "post.rl.source.group_size", "evaluation.k", "seeds"):
        assert override(made, f"{key}={rows[key][0]}") == made
    said = worked(capsys, "settings", "smoke").splitlines()
    assert any(line.startswith("pretrain.stream.optimizer.weight_decay  ") for line in said), "no line is wrapped"
    assert all(line == line.rstrip() for line in said)


def test_settings_below_what_is_none_are_printed_and_begin_as_printed(capsys: Said) -> None:
    from foray.core.override import override
    from foray.study.setting_words import settings_of

    made = smoke.study()
    rows = {key: value for key, value, _ in settings_of(made)}
    assert rows["post.lora"] == rows["post.stop"] == "None"
    for key in ("post.lora.rank", "post.lora.targets", "post.together.sft.optimizer.lr"):
        assert override(made, f"{key}={rows[key]}").post != made.post
        (value,) = (v for k, v, _ in settings_of(override(made, f"{key}={rows[key]}")) if k == key)
        assert value == rows[key]
    with pytest.raises(ValueError, match=r"a LoRA stands here, .* \(post\.lora\.rank, post\.lora\.alpha, post\.lora"):
        override(made, "post.lora=8")


def test_a_line_that_is_no_utf8_ends_no_session(
    capsys: Said, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.TextIOWrapper(io.BytesIO(b"How many?\n\xff\xfe?\nAnd now?\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", lines)
    out = worked(capsys, "sample", str(checkpoint), "-n", "1", "--max-new-tokens", "4")
    assert out.count("not graded") == 3
    assert "--temperature must be >= 0, not -1" in refused(capsys, "sample", str(checkpoint), "--temperature", "-1")


def test_help_is_a_word_too(capsys: Said) -> None:
    for words, first in ((["help"], "usage: foray [-h]"), (["help", "plan"], "usage: foray plan")):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0 and capsys.readouterr().out.startswith(first)


def test_sample_grades_the_questions_that_a_task_knows(
    capsys: Said, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sample", str(checkpoint), "-n", "2", "--max-new-tokens", "6"]
    known = worked(capsys, *words, "--task", "world_easy", "--question", "world_easy/test/0")
    assert "of 2 right (strict grading)" in known and known.startswith(
        next(iter(WorldProblems().problems("test"))).question
    )
    assert "name a --task that grades" in worked(capsys, *words, "--question", "How many?")
    monkeypatch.setattr("sys.stdin", io.StringIO("How many?\n\nworld_easy/test/1\n"))
    typed = worked(capsys, *words, "--task", "world_easy")
    assert typed.count("world_easy does not know the question") == 1 and typed.count("of 2 right") == 1
    assert "there is no checkpoint folder" in refused(capsys, "sample", "/nowhere")


def test_open_names_the_report_or_says_what_writes_it(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "foray run or foray report writes it" in refused(capsys, "open", "smoke", "--store", str(tmp_path))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("")
    assert worked(capsys, "open", "smoke", "--store", str(tmp_path)).strip() == str(tmp_path / "report" / "index.html")


def test_report_refuses_a_form_that_is_none_and_a_folder_of_other_files(
    capsys: Said, mini: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    words = ["report", str(mini), "--store", str(tmp_path / "store")]
    assert "did you mean 'latex'?" in refused(capsys, *words, "--tables", "latx")
    assert "holds other files; name a new --out" in refused(capsys, *words, "--out", str(tmp_path))
