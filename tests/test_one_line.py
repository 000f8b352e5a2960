"""What a user gets wrong, or an untrusted file holds, ends in one line that says what to change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from foray.cli import main
from foray.core.files import SEAL, read_json
from foray.core.spec import check_name, override
from foray.core.stage import Corpus, Stage
from foray.core.terminal import one_line, plain
from foray.data.prepare import Mix, OwnTokenizer
from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.model.hf import config_from_hf
from foray.report.table import csv_text
from foray.studies import smoke
from test_study import SumsText, study

DEEP = "[" * 100_000


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("foray: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize("code", ["0", "3", "'bye'", ""])
def test_a_study_file_that_leaves_the_program_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str
) -> None:
    (tmp_path / "mine.py").write_text(f"import sys\n\ndef study():\n    sys.exit({code})\n")
    said = refusal(capsys, "plan", str(tmp_path / "mine.py"))
    assert "mine.py, line 4: it ends the program (sys.exit(" in said


def test_brackets_without_end_are_no_crash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep.json").write_text(DEEP)
    with pytest.raises(ValueError, match=r"deep\.json is damaged"):
        read_json(tmp_path / "deep.json")
    for setting in ("evaluation.k", "pretrain.lr", "seeds"):
        assert setting in refusal(capsys, "plan", "smoke", "--set", f"{setting}={DEEP}")[:200]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [("seeds.0", "7", (7,)), ("evaluation.k.1", "2", (1, 2)), ("pretrain.mixture.0.0", "2", 2.0)],
)
def test_an_element_of_a_tuple_is_set(path: str, text: str, value: object) -> None:
    made = override(replace(smoke.study(), evaluation=replace(smoke.study().evaluation, k=(1, 8))), f"{path}={text}")
    source = made.pretrain.stream.source
    assert {"s": made.seeds, "e": made.evaluation.k, "p": source.mixture[0][0]}[path[0]] == value


@pytest.mark.parametrize("path", ["seeds.9", "seeds.-1", "evaluation.k.x", "evaluation.k.0.1"])
def test_an_element_that_is_not_there_is_named(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--set {path}: there is no setting" in refusal(capsys, "plan", "smoke", "--set", f"{path}=1")


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "", " a", ".hidden", "=cmd()", "+1", "@x", "a\x1b[31m", "a\nb", "x" * 101, "~", 3]
)
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name is up to 100 printable characters"):
        check_name(name, "a study")


def test_names_are_checked_wherever_they_become_files_or_columns() -> None:
    made, bad = study(), "../x"
    with pytest.raises(ValueError, match="a study cannot be called"):
        replace(made, name=bad)
    with pytest.raises(ValueError, match="a task cannot be called"):
        replace(made, evaluation=replace(made.evaluation, task=replace(made.evaluation.task, name=bad)))
    with pytest.raises(ValueError, match="a stream cannot be called"):
        Stage("rl", ((1.0, replace(made.post.rl, name=bad)),), 1)
    with pytest.raises(ValueError, match="a stage cannot be called"):
        Stage(bad, ((1.0, made.post.rl),), 1)
    with pytest.raises(ValueError, match="a text source cannot be called"):
        Corpus(((1.0, SumsText(bad)),))
    with pytest.raises(ValueError, match="a source of a mix cannot be called"):
        Mix("mine", OwnTokenizer(300, 1000), 1000, ((1.0, SumsText(bad)),))


def test_markup_in_a_name_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom test_study import study as mini\n\ndef study():\n    made = mini()\n"
        "    task = replace(made.evaluation.task, name='sums [red] [bold]x')\n"
        "    return replace(made, evaluation=replace(made.evaluation, task=task))\n"
    )
    assert main(["plan", str(tmp_path / "mine.py")]) == 0
    assert "[red][bold]x" in "".join(capsys.readouterr().out.split())


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert plain("a\x1b[31m\rb\x07") == "a\\x1b[31m\\rb\\x07"
    assert one_line("a\nb\x1b") == "a b\\x1b"
    with pytest.raises(SystemExit):
        main(["plan"])


def test_control_characters_of_a_file_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "\\x1b[31m" in refusal(capsys, "plan", str(tmp_path / "a\x1b[31m.py"))


def test_no_cell_of_a_table_is_a_formula() -> None:
    frame = pd.DataFrame({"x": ["=cmd()", "+a", "-b", "@c", "-1.5", "+2", "plain"], "y": [-1.0, 2, 3, 4, 5, 6, 7]})
    cells = [line.split(",")[0] for line in csv_text(frame).splitlines()[1:]]
    assert cells == ["'=cmd()", "'+a", "'-b", "'@c", "-1.5", "+2", "plain"]
    assert csv_text(frame).splitlines()[1].endswith(",-1")


def test_garbage_collection_names_a_seal_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "nodes" / ("shard-" + "0" * 16)
    folder.mkdir(parents=True)
    for text in ("{}", "[]", DEEP):
        (folder / SEAL).write_text(text)
        (folder / "spec.json").write_text("{}")
        from foray.core.spec import content_hash

        named = folder.with_name("shard-" + content_hash({}))
        folder.rename(named)
        assert f"{SEAL} is damaged" in refusal(capsys, "gc", "smoke", "--store", str(tmp_path))
        named.rename(folder)


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_a_second_ctrl_c_ends_without_a_traceback(tmp_path: Path, signals: list[signal.Signals]) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n\ndef study():\n    try:\n        print('begun', flush=True)\n        time.sleep(30)\n"
        "    finally:\n        print('unwinding', flush=True)\n        time.sleep(30)\n"
    )
    command = [sys.executable, "-m", "foray", "plan", str(tmp_path / "slow.py")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert run.stdout is not None
    for word, number in zip(("begun", "unwinding"), signals):
        assert word in run.stdout.readline()
        run.send_signal(number)
    begun = time.monotonic()
    _, said = run.communicate(timeout=20)
    assert run.returncode == 130 and said == "foray: interrupted\n" and time.monotonic() - begun < 10


def test_settings_beside_what_is_graded_are_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "completions.jsonl").write_text("{}\n")
    for content in ("[]", "3", DEEP):
        (tmp_path / "settings.json").write_text(content)
        words = "grade", "-", str(tmp_path / "completions.jsonl"), "--out", str(tmp_path / "out.jsonl")
        assert "settings.json is damaged" in refusal(capsys, *words)


def test_no_text_stands_for_an_object_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for setting in ('sources=[[1.0, "x"]]', "sources.0.1=x", "sources=[]"):
        words = "prepare", "gsm8k_small", "--out", str(tmp_path / "out"), "--set", setting
        assert "--set sources" in refusal(capsys, *words)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_with_settings_of_another_shape_is_refused(
    tmp_path: Path, tokenizer: TextTokenizer, file: str
) -> None:
    tokenizer.save(tmp_path, 96)
    (tmp_path / "tokenizer_config.json").write_text("{}")  # as others write them
    for content in ("[]", "3", '["x"]', DEEP):
        (tmp_path / file).write_text(content)
        with pytest.raises(ValueError, match=rf"{file} .*is damaged|{file} is damaged"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", "64"), ("hidden_size", 64.5), ("num_hidden_layers", True), ("num_attention_heads", [4]),
        ("vocab_size", {}), ("rope_theta", "x"), ("rope_scaling", "linear"), ("rope_parameters", 5),
        ("layer_types", 3), ("model_type", ["olmo2"]),
    ],
)  # fmt: skip
def test_a_config_with_a_value_of_another_kind_names_it(tmp_path: Path, name: str, value: object) -> None:
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96}
    known = {"model_type": "olmo2", **sizes, "vocab_size": 300, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(known | {name: value}))
    with pytest.raises(ValueError, match=str(tmp_path)) as error:
        config_from_hf(tmp_path)
    assert "\n" not in str(error.value)
