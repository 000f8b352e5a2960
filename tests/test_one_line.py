"""A user's mistake, or an untrusted file's content, ends in one line that says what to change."""

from __future__ import annotations

import io
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from tokenizers import Tokenizer, models, trainers

from foray.cli import main
from foray.core.canonical import check_name
from foray.core.files import SEAL, read_json, writing
from foray.core.override import override
from foray.core.process import panics_named
from foray.core.scratch import let_go, own_folder
from foray.core.sources import Corpus
from foray.core.stage import Stage
from foray.core.terminal import failure, one_line, plain
from foray.data.hub import datasets_library
from foray.data.prepare import Mix, OwnTokenizer
from foray.report.columns import csv_text
from foray.studies import smoke
from foray.study.kinds.tokens import TokenizerNode
from foray.study.progress import shown
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


EMPTY = [["run", "smoke", "--store", ""], ["check", ""], ["eval", "", "--task", "world_easy"]]


@pytest.mark.parametrize("words", EMPTY)
def test_no_path_is_not_this_folder(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(words)
    assert e.value.code == 2 and "name a file or a folder" in capsys.readouterr().err


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
        from foray.core.canonical import content_hash

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_callback_of_pythons_is_one_line(tmp_path: Path, number: signal.Signals) -> None:
    """Kills found this case: Ctrl-C came while Python ran the callbacks of a fork, which drop every exception."""
    (tmp_path / "forking.py").write_text(
        "import os, time\n\ndef study():\n"
        f"    os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), {int(number)}))\n"
        "    if os.fork() == 0:\n        os._exit(0)\n    time.sleep(30)\n"
    )
    begun = time.monotonic()
    command = [sys.executable, "-m", "foray", "plan", str(tmp_path / "forking.py")]
    run = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert run.returncode == 130 and run.stderr == "foray: interrupted\n" and time.monotonic() - begun < 20


def test_ctrl_c_while_the_command_line_is_imported_is_one_line() -> None:
    """Kills found this case: Ctrl-C came a tenth of a second after the start."""
    code = (
        "import os, runpy, sys\n\nclass Finder:\n    @staticmethod\n    def find_spec(name, *_):\n"
        "        if name == 'foray.cli':\n            os.kill(os.getpid(), 2)\n\n"
        "sys.meta_path.insert(0, Finder)\nrunpy.run_module('foray', run_name='__main__')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 130 and run.stderr == "foray: interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_python_ends_changes_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Kills found this case: the second of two Ctrl-C came while torch unloaded its libraries."""
    (tmp_path / "ending.py").write_text(
        f"import atexit, os\nfrom foray.studies import smoke\n\natexit.register(os.kill, os.getpid(), {number:d})\n\n"
        "def study():\n    return smoke.study()\n"
    )
    command = [sys.executable, "-m", "foray", "plan", str(tmp_path / "ending.py")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stderr


def test_workers_are_no_more_than_a_machine_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "word {i}"}}\n' for i in range(50)))
    (tmp_path / "mix.py").write_text(
        "from foray.data.prepare import Mix, OwnTokenizer\nfrom foray.data.text import Text\n\ndef mix():\n"
        f"    return Mix('m', OwnTokenizer(300, 1000), 100, ((1.0, Text('text', {str(tmp_path / 'a.jsonl')!r})),))\n"
    )
    assert main(["prepare", str(tmp_path / "mix.py"), "--out", str(tmp_path / "out"), "--jobs", "100000"]) == 0
    said = capsys.readouterr().out
    assert "--jobs 100000: " in said and "1 of " in said and "no source has more parts" in said
    for command in (["plan", "smoke"], ["check", str(tmp_path)]):
        main([*command, "--jobs", "100000"])
        assert "--jobs 100000: " in (said := capsys.readouterr().out) or command[0] == "check", said


def test_a_vocabulary_that_no_tokenizer_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fuzzing found this case: the library of tokenizers panicked."""
    prepare = ("prepare", "world_1b", "--out", str(tmp_path / "out"), "--set", f"vocab_size={10**18}")
    for words in (prepare, ("plan", "smoke", "--set", f"data.vocab_size={10**18}")):
        assert "vocab_size must be at most 16,777,216" in refusal(capsys, *words)


def test_the_library_of_data_sets_warns_of_nothing() -> None:
    """Fuzzing found this case: a warning stood before the one line of an error."""
    pytest.importorskip("datasets")
    assert datasets_library().logging.get_verbosity() == logging.ERROR


def test_a_panic_of_a_library_is_named() -> None:
    trainer = trainers.BpeTrainer(vocab_size=10**18, show_progress=False)
    with pytest.raises(ValueError, match=r"^a library broke off at what it was given: .*capacity"), panics_named():
        Tokenizer(models.BPE()).train_from_iterator(["a text"], trainer)
    with pytest.raises(KeyboardInterrupt), panics_named():
        raise KeyboardInterrupt


def test_a_full_disk_is_named_with_the_file_and_tried_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # which workers inherit
    try:
        settings = ("--set", "data.vocab_size=900", "--set", "data.tokenizer_characters=100000")
        assert main(["run", "smoke", "--store", str(tmp_path / "store"), *settings]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr()
    assert said.err.startswith("foray: tokenizer") and "tokenizer.json: File too large" in said.err
    assert said.err.count("\n") == 1 and "worker died" not in said.out


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: x")],
)
def test_full_memory_is_named_with_what_to_lower(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("foray.study.kinds.tokens.sample_texts", full)
    assert "main memory is full" in refusal(capsys, "run", "smoke", "--store", str(tmp_path / "store"))
    monkeypatch.setattr("foray.commands.on_checkpoints.open_checkpoint", full)
    assert "main memory is full" in refusal(capsys, "eval", str(tmp_path), "--task", "world_easy")


def test_a_figure_is_whole_or_not_there_and_its_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    from foray.core import files
    from foray.report import _save

    _save(Figure(), tmp_path / "a.png", {"Software": None})
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"No space left on device: '.*b\.pdf'"):
        _save(Figure(), tmp_path / "b.pdf", {"Creator": None, "Producer": None, "CreationDate": None})
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_an_error_that_names_no_file_gets_one() -> None:
    with pytest.raises(OSError, match="No space left on device: '/x/y'"), writing(Path("/x/y")):
        raise OSError(28, "No space left on device")
    copied = shutil.Error([("a", "/x/y", "[Errno 28] No space left on device")])
    assert failure(copied) == "/x/y: [Errno 28] No space left on device"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys; from pathlib import Path; from foray.core.scratch import own_folder;"
        "own_folder('foray-x-', Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60)
    (left,) = tmp_path.iterdir()
    live = own_folder("foray-x-", tmp_path)
    assert not left.exists() and live.is_dir()
    other = own_folder("foray-x-", tmp_path)
    assert live.is_dir() and other.is_dir()
    for folder in (live, other):
        let_go(folder)
    assert not list(tmp_path.iterdir())


def test_words_of_a_worker_are_no_markup(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    node = TokenizerNode(((1.0, SumsText("sums")),), 300, 1000)
    with shown(console, [node], {node.key: 1.0}, 1) as show:
        show.begin(node)
        show.progress(node, {"[/red]\x1b[31m/reward": 1.0})
        show.end(node, ["[/red] \x1b[31m"])
    assert "[/red] \\x1b[31m" in console.file.getvalue()  # type: ignore[attr-defined]


def test_names_in_tables_of_the_terminal_are_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom foray.study.spec import Part\nfrom test_study import study as mini\n\n"
        "def study():\n    return mini()\n\ndef parts(made):\n    return (Part('[/red]\\x1b[31m', (made,)),)\n"
    )
    assert main(["plan", str(tmp_path / "mine.py")]) == 0
    said = capsys.readouterr().out
    assert "[/red]\\x1b[31m" in said and "\x1b" not in said


@pytest.mark.parametrize("setting", ["data.whole_numbers", "post.rl.source.group_size", "post.rl.max_new_tokens"])
def test_a_billion_in_a_study_is_refused(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1000000000" in refusal(capsys, "plan", "smoke", "--set", f"{setting}=1000000000")
