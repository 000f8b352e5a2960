"""Garbage of a store: no file that a named study still reads, and every file that no study reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import figures
from foray.cli import main
from foray.core.files import SEAL, seal, temporary_name, verify
from foray.study import garbage
from foray.study.garbage import Garbage, delete_garbage, find_garbage
from foray.study.graph import expand
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.node import Node
from foray.study.run import run_study
from foray.study.spec import Dynamics, Study
from foray.study.store import Store
from test_study import compute, pretrained_to, quiet, study, table_of, weights

Said = pytest.CaptureFixture[str]


def watched() -> Study:
    """Two M_t; from the second one RL with a checkpoint inside."""
    made = study(recipes=("rl",))
    return replace(made, evaluation=replace(made.evaluation, dynamics=Dynamics(1536, ("rl",), points=2)))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("ran") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", figures("f2_passk"))
        run_study(watched(), store, quiet())
    return store


@pytest.fixture
def store(ran: Store, tmp_path: Path) -> Store:
    """The finished study, for a test to spoil."""
    shutil.copytree(ran.root, tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def few_figures(draw_only: Callable[..., None]) -> None:
    draw_only("f2_passk")


def told(found: Garbage) -> dict[str, list[str]]:
    """Paths below ``nodes`` (or the store) by reason."""
    out: dict[str, list[str]] = {}
    for item in found.items:
        parts = item.path.parts
        out.setdefault(item.why, []).append("/".join(parts[parts.index("store") + 1 :]).removeprefix("nodes/"))
    return out


def trained(made: Study, stage: str, step: int, base_step: int = 12) -> TrainNode:
    """The node after ``step`` updates of a stage (of the recipe from the M_t after ``base_step``)."""
    for node in expand(made).nodes:
        if isinstance(node, TrainNode) and (node.stage.name, node.step) == (stage, step):
            parent = node.parent
            if parent is None or (isinstance(parent, TrainNode) and parent.step == base_step):
                return node
    raise AssertionError(f"no {stage} at {step}")


def name(node: Node) -> str:
    return f"{node.kind}-{node.key}"


def test_only_what_a_finished_study_reads_no_more_may_go(store: Store) -> None:
    """Only the moments at the first M_t and inside RL may go, and no weights."""
    made = watched()
    base, inside = name(trained(made, "pretrain", 6)), name(trained(made, "rl", 2))
    found = find_garbage([made], store)
    assert told(found) == {garbage.STATE: sorted([f"{base}/state", f"{inside}/state"])}
    assert not found.unknown
    assert all(item.size == sum(p.stat().st_size for p in item.path.rglob("*") if p.is_file()) for item in found.items)


def test_the_last_m_t_keeps_what_a_longer_training_goes_on_from(tmp_path: Path) -> None:
    """Its schedule is not at its end: a further M_t would begin at the state, or else at nothing."""
    store, made = Store(tmp_path / "store"), study(recipes=(), pretrain=pretrained_to(768, 1152))
    compute(made, store)
    base, last = trained(made, "pretrain", 6), trained(made, "pretrain", 9)
    assert told(find_garbage([made], store)) == {garbage.STATE: [f"{name(base)}/state"]}
    assert (last.folder(store) / "state").is_dir()


def test_after_deletion_nothing_is_to_be_run_and_the_results_are_the_same(store: Store) -> None:
    made = watched()
    before, index = table_of(made, store), (store.root / "report" / "results.csv").read_text()
    kept = {n.folder(store) for n in expand(made).nodes}
    freed = delete_garbage([made], store)
    assert not any(item.path.exists() for item in freed.items)
    for folder in kept:
        verify(folder)  # none looks damaged
    console = quiet()
    run_study(made, store, console)
    assert ", 0 to run" in console.file.getvalue()  # type: ignore[attr-defined]
    report_study(made, store)
    assert table_of(made, store) == before and (store.root / "report" / "results.csv").read_text() == index
    assert find_garbage([made], store) == Garbage((), ())


def test_a_later_m_t_and_a_new_recipe_still_come_out_the_same(store: Store, tmp_path: Path) -> None:
    """Without the moments, training begins at an earlier step and ends with the same bits."""
    made = watched()
    delete_garbage([made], store)
    more = replace(made, recipes=("rl", "sft"), pretrain=pretrained_to(768, 1152, 1536))
    fresh = Store(tmp_path / "fresh")
    for place in (store, fresh):
        compute(replace(more, excursions=(1152, 1536)), place)
    ours, theirs = weights(store), weights(fresh)
    assert all(ours[folder] == theirs[folder] for folder in ours.keys() & theirs.keys())
    assert name(trained(more, "pretrain", 9)) in ours


def test_what_a_node_still_to_be_run_goes_on_from_stays(store: Store) -> None:
    made = watched()
    for node in (trained(made, "rl", 4), trained(made, "pretrain", 12)):
        shutil.rmtree(node.folder(store))
    assert find_garbage([made], store).items == ()


def test_results_that_no_named_study_asks_for_may_go(store: Store) -> None:
    made = watched()
    less = replace(made, recipes=(), evaluation=replace(made.evaluation, dynamics=None))
    left = {name(n) for n in expand(made).nodes} - {name(n) for n in expand(less).nodes}
    found = told(find_garbage([less], store))
    assert {*found[garbage.SHOWN], *found.get(garbage.UNASKED, [])} == left
    assert "last report showed it" in garbage.SHOWN and name(trained(made, "rl", 4)) in found[garbage.SHOWN]
    both = told(find_garbage([less, made], store))
    assert garbage.SHOWN not in both and garbage.UNASKED not in both, "another study of the store asks for them"
    delete_garbage([less], store)
    whole = {p.name for p in (store.root / "nodes").iterdir()}
    assert whole == {name(n) for n in expand(made).nodes}, "the last report needs all of them"
    delete_garbage([less], store, reported=True)
    assert {p.name for p in (store.root / "nodes").iterdir()} == {name(n) for n in expand(less).nodes}
    assert compute(less, store) == []


def test_what_killed_processes_left_goes_and_what_an_unfinished_node_needs_stays(store: Store) -> None:
    made = watched()
    done, open_ = trained(made, "pretrain", 12).folder(store), trained(made, "rl", 4).folder(store)
    (open_ / SEAL).unlink()
    for folder in (done, open_):
        (folder / "resume-a").mkdir()
        (folder / "resume-a" / "x").write_text("moments")
        (folder / "resume-b.gone").mkdir()
        (folder / ".metrics.jsonl.17.tmp").write_text("half")
    (done / SEAL).unlink()
    seal(done)  # the leftovers were there when it was sealed
    (store.root / ".manifest.json.9.tmp").write_text("half")
    (store.root / "nodes" / "train-0123456789abcdef.gone").mkdir()
    found = told(delete_garbage([made], store))
    assert found[garbage.ROLLING] == [f"{done.name}/resume-a"]
    assert sorted(found[garbage.CRASHED]) == sorted([
        ".manifest.json.9.tmp", "train-0123456789abcdef.gone",
        f"{done.name}/.metrics.jsonl.17.tmp", f"{done.name}/resume-b.gone",
    ])  # fmt: skip
    verify(done)
    assert (open_ / "resume-a" / "x").exists()


def test_unknown_files_are_left_and_named(store: Store) -> None:
    made = watched()
    less = replace(made, recipes=(), evaluation=replace(made.evaluation, dynamics=None))
    mine = [
        store.root / "notes.txt",
        store.root / "nodes" / "train-0123456789abcdef",  # named as a node, and not one
        trained(made, "rl", 4).folder(store) / "notes.txt",  # in a node that may go
        trained(made, "pretrain", 6).folder(store) / "state" / "notes.txt",  # in a part of a node that may go
    ]
    mine[1].mkdir()
    (store.root / "tracking" / "tensorboard").mkdir(parents=True)  # Foray's own
    (store.root / "watched.py").touch()
    for file in (mine[0], *mine[2:]):
        file.write_text("mine")
    found = delete_garbage([less], store, reported=True)
    assert sorted(found.unknown) == sorted(mine) and all(p.exists() for p in mine)
    verify(mine[2].parent)
    verify(trained(made, "pretrain", 6).folder(store))


def test_a_deletion_that_was_killed_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watched()
    before = table_of(made, store)

    def killed(path: Path, **_: object) -> None:
        if path.exists():
            next(path.rglob("*.*")).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("foray.core.files.shutil.rmtree", killed)
        delete_garbage([made], store)
    for node in expand(made).nodes:
        verify(node.folder(store))
    assert garbage.CRASHED in told(delete_garbage([made], store))
    assert find_garbage([made], store).items == () and table_of(made, store) == before


def test_the_command_says_and_deletes_only_when_told(
    store: Store, capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    file = tmp_path / "mine.py"
    file.write_text("from test_gc import watched\n\n\ndef study():\n    return watched()\n")
    words = ["gc", str(file), "--store", str(store.root)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert garbage.STATE in said and "nothing is deleted without --delete" in said
    assert len(find_garbage([watched()], store).items) == 2
    assert main([*words, "--delete"]) == 0 and "MB: deleted" in capsys.readouterr().out
    assert main(words) == 0 and "0 files and folders, 0.0 MB" in capsys.readouterr().out
    assert main([*words, "--delete", "--set", "evaluation.samples=8"]) == 0
    said = capsys.readouterr()
    assert "kept, as the last report is made of them" in said.out and "0 files and folders, 0.0 MB: deleted" in said.out
    assert said.err.startswith("this store's last report was made with other settings: evaluation.samples 4 (now 8);")
    assert main(words) == 0 and "0 files and folders, 0.0 MB" in capsys.readouterr().out

    def refused(*words: str) -> str:
        assert main(words) == 1
        said = capsys.readouterr().err
        assert said.startswith("foray: ") and said.count("\n") == 1
        return said

    assert "is of the study 'mini'" in refused("gc", "tiny", "--store", str(store.root), "--delete")
    assert "--reported goes with --delete" in refused(*words, "--reported")
    assert "there is no store" in refused("gc", "tiny", "--store", str(tmp_path / "none"))
    assert "--store" in refused("gc", "tiny", str(file))
    with store.lock():
        assert "another foray is running" in refused(*words, "--delete")


def test_what_is_half_written_has_a_name_of_its_own_that_is_known(tmp_path: Path) -> None:
    """Processes of two machines that share a store may have one number."""
    names = {temporary_name(tmp_path / "manifest.json").name for _ in range(3)}
    assert len(names) == 3 and all(garbage._TEMPORARY.fullmatch(name) for name in names)
