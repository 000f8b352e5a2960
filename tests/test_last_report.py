"""A store whose last report shows more than its study asks for now: said in one line, and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import foray
from conftest import figures
from foray.cli import main
from foray.core import files
from foray.study.run import run_study
from foray.study.store import MANIFEST, Store
from foray.study.study_command import StudyCommand, remember
from test_cli import contents, refused, worked
from test_study import brief, quiet

Said = pytest.CaptureFixture[str]
OTHER = ("--set", "evaluation.samples=5", "--set", "post.rl_steps=6")
LINE = "this store's last report was made with other settings: "


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("last")
    (root / "mine.py").write_text("from test_study import Study, brief\ndef study() -> Study:\n    return brief()\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", figures())
        run_study(brief(), Store(root / "store"), quiet())
    return root


@pytest.fixture
def mine(
    ran: Path, tmp_path: Path, draw_only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The words that name the study and its finished store, for a test to spoil."""
    draw_only()
    shutil.copytree(ran, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    yield ["mine.py", "--store", "store"]


def test_a_store_of_another_study_is_named_and_nothing_written(capsys: Said, mine: list[str]) -> None:
    Path("other.py").write_text(
        "from dataclasses import replace\nfrom test_study import brief\n\n\ndef study():\n    made = brief()\n"
        "    return replace(made, name='other', seeds=(7,), pretrain=replace(made.pretrain, seeds=(7,)))\n"
    )
    remember(StudyCommand("mine.py", ("seeds=0",), None, "store", "."), Path("store"))
    for there, typed in ((True, "report store"), (False, "report mine.py --set seeds=0 --store store")):
        if not there:
            Path("store", MANIFEST).unlink()
        before, only = contents(Path("store")), brief().name if there else "mine.py"
        for more in ([], ["--out", "out"]):
            said = refused(capsys, "report", "other.py", "--store", "store", *more)
            assert f"store holds no results of study other, only of {only}; `foray {typed}` reports those" in said
        assert contents(Path("store")) == before and not Path("out").exists()


def test_a_folder_named_like_a_bundled_study_is_typed_as_a_folder(capsys: Said, mine: list[str]) -> None:
    Path("store").rename("smoke")
    assert main(["ls", mine[0], "--store", "smoke", *OTHER]) == 0
    assert "`foray report ./smoke` is the report of the store as it is" in capsys.readouterr().err


def test_a_run_names_the_settings_of_the_report_that_it_replaces(capsys: Said, mine: list[str]) -> None:
    assert main(["run", *mine, *OTHER, "--jobs", "1"]) == 0
    said = capsys.readouterr().err
    assert said.startswith(LINE) and said.endswith("until this run's report takes its place\n")
    assert "evaluation.samples 4 (now 5)" in said and said.count("\n") == 1
    assert main(["run", *mine, *OTHER, "--jobs", "1"]) == 0 and not capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "ls", "open"])
def test_a_command_names_the_settings_of_the_last_report(capsys: Said, mine: list[str], command: str) -> None:
    assert main([command, *mine, *OTHER]) == 0
    said = capsys.readouterr().err
    assert said.startswith(LINE) and said.count("\n") == 1 and "main:" not in said
    assert "evaluation.samples 4 (now 5)" in said and "post.rl_steps" in said and "`foray report store`" in said
    assert main([command, *mine]) == 0 and not capsys.readouterr().err


def test_a_fuller_report_is_not_replaced(capsys: Said, mine: list[str]) -> None:
    before = contents(Path("store"))
    said = refused(capsys, "report", *mine, *OTHER)
    assert LINE in said and "--out FOLDER" in said
    assert main(["report", *mine, *OTHER, "--out", "out"]) == 0
    assert capsys.readouterr().err.startswith(LINE) and contents(Path("store")) == before


def test_more_of_the_same_study_is_no_other_study(capsys: Said, mine: list[str]) -> None:
    assert main(["ls", *mine, "--set", "seeds=0,1"]) == 0 and not capsys.readouterr().err
    assert main(["report", *mine, "--set", "seeds=0,1"]) == 0 and not capsys.readouterr().err


def test_a_smaller_study_that_is_finished_is_drawn(capsys: Said, mine: list[str]) -> None:
    assert main(["report", *mine, "--set", "recipes=sft"]) == 0 and not capsys.readouterr().err


def test_what_python_lacks_is_said_with_the_settings_of_the_last_report(mine: list[str]) -> None:
    study = foray.load(mine[0], store="store", settings=OTHER[1::2])
    assert LINE in study.missing.iloc[0]["why"]
    for ask in (lambda: study.checkpoint("rl"), study.completions, lambda: study.gains("rl")):
        with pytest.raises(ValueError, match=LINE):
            ask()


@pytest.mark.parametrize("alone", [True, False])
def test_a_report_of_results_that_are_gone_is_kept(capsys: Said, mine: list[str], alone: bool) -> None:
    store, words = Path("store"), ["store"] if alone else mine
    table = (store / "report/results.csv").read_bytes()
    for folder in store.glob("nodes/passk-*"):
        shutil.rmtree(folder)
    said = refused(capsys, "report", *words)
    assert "results that this store's last report shows are gone, such as nodes/passk-" in said
    assert "--out FOLDER writes that of what is there, and keeps it" in said
    assert (store / "report/results.csv").read_bytes() == table
    worked(capsys, "report", *words, "--out", "out")
    assert Path("out/results.csv").read_bytes() != table


@pytest.mark.parametrize("alone", [True, False])
def test_a_report_says_what_damage_it_leaves_out(capsys: Said, mine: list[str], alone: bool) -> None:
    folder = next(Path("store").glob("nodes/passk-*"))
    (folder / "problems.jsonl").write_text("")
    assert main(["report", *(["store"] if alone else mine)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("left out: ") and folder.name in said and said.count("\n") == 1


def test_what_may_not_be_read_is_no_damage(capsys: Said, mine: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.digest

    def refusing(path: Path) -> str:
        if path.name == "problems.jsonl":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    before = {p.name for p in Path("store/nodes").iterdir()}
    monkeypatch.setattr(files, "digest", refusing)
    assert main(["run", *mine, "--jobs", "1"]) == 1
    assert "problems.jsonl: Permission denied" in capsys.readouterr().err
    assert {p.name for p in Path("store/nodes").iterdir()} == before


def test_a_store_alone_is_reported_and_opened_as_its_last_report_was(capsys: Said, mine: list[str]) -> None:
    store = Path("store")
    manifest, table = ((store / name).read_bytes() for name in (MANIFEST, "report/results.csv"))
    before = contents(store)
    worked(capsys, "report", "store", "--out", "out")
    assert contents(store) == before and Path("out/results.csv").read_bytes() == table
    shutil.rmtree(store / "report")
    assert worked(capsys, "report", "store").splitlines()[-1] == "store/report/index.html"
    assert [(store / name).read_bytes() for name in (MANIFEST, "report/results.csv")] == [manifest, table]
    assert worked(capsys, "open", "store") == "store/report/index.html\n"
    assert "as it was written" in worked(capsys, "check", "store")
    (store / MANIFEST).write_text("{}")
    assert MANIFEST in refused(capsys, "report", "store")
    (store / MANIFEST).unlink()
    assert "holds no manifest.json" in refused(capsys, "report", "./store")


def test_a_report_elsewhere_that_was_not_finished_is_drawn_again(
    capsys: Said, mine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section, words = Path("broken.py").resolve(), ["report", *mine, "--out", "out"]
    section.write_text("raise KeyError\n")
    study = Path(mine[0]).read_text()
    Path(mine[0]).write_text(f"{study}\nwhole = study\n\ndef study():\n    import dataclasses\n"
                             f"    return dataclasses.replace(whole(), report=({str(section)!r},))\n")  # fmt: skip
    assert "lacks a part" in refused(capsys, *words)
    Path(mine[0]).write_text(study)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("foray.report.write_report", killed)
        assert main(words) == 130
    worked(capsys, *words)
    assert Path("out/DONE").exists() and not Path("out/.foray-report").exists()
    Path("other").mkdir()
    Path("other/DONE").touch()
    assert "other holds other files; name a new --out" in refused(capsys, *words[:-1], "other")
