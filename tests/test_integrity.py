"""After any damage every number of a report is right or named as missing. ``foray check`` finds and mends damage."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from conftest import figures
from foray.cli import main
from foray.core.files import SEAL, read_json, seal
from foray.core.machine import Machine
from foray.core.made_from import other_weights
from foray.core.terminal import failure
from foray.study.executors.local import LocalExecutor
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.integrity import examine
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.node import Node
from foray.study.progress import reading
from foray.study.run import run_study
from foray.study.store import Store
from foray.study.study_command import remembered
from test_study import brief, done_at, flip, quiet

FILE = "from test_study import brief\n\ndef study():\n    return brief()\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A finished store, run by the command from a file of the user's own."""
    root = tmp_path_factory.mktemp("whole")
    (root / "mine.py").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", figures("f2_passk"))
        assert main(["run", str(root / "mine.py"), "--store", str(root / "store"), "--jobs", "1"]) == 0
        yield Store(root / "store")


@pytest.fixture
def store(whole: Store, tmp_path: Path) -> Store:
    shutil.copytree(whole.root, tmp_path / "store")
    return Store(tmp_path / "store")


def nodes(kind: str) -> list[Node]:
    return [n for n in expand(brief()).nodes if n.kind == kind]


def tables(store: Store) -> dict[str, str]:
    """The report's numbers; the ledger's hold seconds."""
    return {p.name: p.read_text() for p in sorted((store.root / "report").glob("*.csv")) if p.name != "ledger.csv"}


def kinds_of_file() -> list[tuple[str, str]]:
    """(kind of node, file) for everything that a finished study has written."""
    trained = ["model/model.safetensors", "model/config.json", "model/tokenizer.json", "metrics.jsonl", "health.json"]
    measured = {"passk": ["completions.jsonl", "problems.jsonl", "ledger.json"], "perplexity": ["perplexity.json"]}
    return [
        *(("train", name) for name in [*trained, "spec.json", "provenance.json", SEAL]),
        *((kind, name) for kind, names in measured.items() for name in names),
        ("tokenizer", "tokenizer.json"), ("shard", "meta.json"), ("shard", "tokens.bin"), ("prompts", "prompts.json"),
    ]  # fmt: skip


def test_a_whole_store_is_found_whole_and_every_byte_is_read_once(
    whole: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[int] = []
    found = examine(whole, 2, read=read.append)
    listed = [f for f in (whole.root / "nodes").rglob("*") if f.is_file() and f.name != SEAL]
    drawn = [f for f in (whole.root / "report").rglob("*") if f.is_file() and f.name != SEAL]
    assert not found.findings and found.files == len(read) == len(listed) + len(drawn)
    assert sum(read) == found.size == sum(f.stat().st_size for f in [*listed, *drawn])
    assert main(["check", str(whole.root)]) == 0
    assert "every file is as it was written" in capsys.readouterr().out


def test_repair_waits_for_nobody_and_check_alone_reads_beside_a_run(
    whole: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """``foray check --repair`` refuses a store in which a run works. ``foray check`` alone may read the store."""
    with whole.lock():
        assert main(["check", str(whole.root)]) == 0
        assert main(["check", str(whole.root), "--repair"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("foray: another foray is running on the store") and said.count("\n") == 1
    assert main(["check", str(whole.root), "--repair"]) == 0


def test_check_shows_how_many_bytes_are_read_on_a_terminal(whole: Store) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with reading(console) as (total, read):
        found = examine(whole, 2, total, read)
    numbers = re.findall(r"([\d,.]+)/([\d,.]+) ([kM])B", screen.getvalue())
    assert "reading" in screen.getvalue() and numbers
    done, total_read, unit = numbers[-1]
    assert done == total_read == f"{found.size / {'k': 1e3, 'M': 1e6}[unit]:,.1f}"


@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_every_kind_of_damaged_file_is_found(store: Store, how: str) -> None:
    damaged = set()
    for i, (kind, name) in enumerate(kinds_of_file()):
        same = nodes(kind)
        path = same[i % len(same)].folder(store) / name
        if not path.exists() or path.parent in damaged:  # of a file that this study has not, or a node of two
            continue
        flip(path) if how == "flipped" or name == SEAL else path.unlink()
        damaged.add(next(p for p in path.parents if p.parent.name == "nodes"))
    assert len(damaged) >= 6
    assert {f.folder for f in examine(store, 1).findings} == damaged


def test_check_names_what_was_made_from_a_damaged_node(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    base = next(n for n in nodes("train") if isinstance(n, TrainNode) and n.parent is None)
    flip(base.folder(store) / "model" / "model.safetensors")
    assert main(["check", str(store.root)]) == 1
    said = capsys.readouterr()
    (line,) = [row for row in said.out.splitlines() if "is damaged" in row]
    below = [n for n in expand(brief()).nodes if base in _above(n)]
    assert f"{len(below)} nodes are made from it" in line and base.label() in line
    bad = "1 folders are damaged, gone or made from other weights"
    assert said.err == f"foray: {bad}; foray check {store.root} --repair makes them anew\n"


def _above(node: Node) -> set[Node]:
    return {node} - {node} | {a for p in node.parents() for a in (p, *_above(p))}


def test_repair_makes_everything_anew_as_it_was(
    store: Store, whole: Store, capsys: pytest.CaptureFixture[str], draw_only: Callable[..., None]
) -> None:
    draw_only("f2_passk")
    before = tables(whole)
    flip(nodes("train")[-1].folder(store) / "model" / "model.safetensors")
    flip(nodes("shard")[0].folder(store) / SEAL)
    shutil.rmtree(nodes("perplexity")[0].folder(store))
    (store.root / "report" / "results.csv").write_text("study\n")
    untouched = done_at(store).keys() - {n.folder(store).name for n in (nodes("train")[-1], nodes("shard")[0])}
    kept = {name: when for name, when in done_at(store).items() if name in untouched}
    assert main(["check", str(store.root), "--repair", "--jobs", "1"]) == 0
    assert "4 folders are damaged, gone or made from other weights: made anew" in capsys.readouterr().out
    assert main(["check", str(store.root)]) == 0
    assert tables(store) == before
    assert {name: when for name, when in done_at(store).items() if name in kept} == kept


def test_results_of_weights_that_were_trained_again_are_not_mixed_with_later_ones(
    store: Store, capsys: pytest.CaptureFixture[str], draw_only: Callable[..., None]
) -> None:
    """The key of M_t stays the same where it is lost and trained again with other rounding; its weights do not."""
    draw_only("f2_passk")
    base = nodes("train")[0]
    folder = base.folder(store)
    folders = [n.folder(store) for n in expand(brief()).nodes]
    assert not other_weights(folders)
    model = load_file(folder / "model" / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in model.items()}, folder / "model" / "model.safetensors")
    label = read_json(folder / SEAL)["label"]
    seal(folder, label=label)
    found = other_weights(folders)
    below = {n.folder(store) for n in expand(brief()).nodes if base in _above(n)}
    assert set(found) == below and len(below) >= 3

    shutil.rmtree(nodes("perplexity")[0].folder(store))  # of M_t
    run_study(brief(), store, console := quiet(), LocalExecutor(1))
    said = f"{len(below) - 1} nodes were made from other weights than those of the same key now: {label}"
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
    assert said in (store.root / "report" / "index.html").read_text()

    assert main(["check", str(store.root)]) == 1
    assert f"was made from other weights than {base.folder(store).name} has now" in capsys.readouterr().out
    assert main(["check", str(store.root), "--repair", "--jobs", "1"]) == 0
    assert not other_weights(folders) and not examine(store, 1).findings
    assert "other weights" not in (store.root / "report" / "index.html").read_text()


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_check_mends_a_manifest(store: Store, draw_only: Callable[..., None], how: str) -> None:
    draw_only("f2_passk")
    path = store.root / "manifest.json"
    before = path.read_bytes()
    path.unlink() if how == "gone" else path.write_text("[" * 100)
    assert main(["check", str(store.root)]) == 1
    assert main(["check", str(store.root), "--repair", "--jobs", "1"]) == 0
    assert path.read_bytes() == before and not examine(store, 1).findings


@pytest.mark.parametrize("gone", [{"study": "gone.py"}, {"part": "gone"}])
def test_repair_makes_what_it_can_where_another_study_or_its_part_is_gone(
    store: Store, draw_only: Callable[..., None], gone: dict[str, Any]
) -> None:
    draw_only("f2_passk")
    (origin,) = remembered(store.root)
    rows = [asdict(replace(origin, **gone)), asdict(origin)]
    (store.root / "studies.json").write_text(json.dumps(rows))
    flip(nodes("passk")[0].folder(store) / "problems.jsonl")
    assert main(["check", str(store.root), "--repair", "--jobs", "1"]) == 0
    assert not examine(store, 1).findings


def test_repair_draws_every_damaged_report_as_it_was(store: Store, draw_only: Callable[..., None]) -> None:
    draw_only("f2_passk")
    for axis in ("tokens", "flops"):
        report_study(brief(), store, axis=axis, paper=False, tables=["markdown"])
    drawn = [store.root / "report", store.root / "report-flops"]
    kept = {f: f.read_bytes() for folder in drawn for f in sorted(folder.rglob("*")) if f.is_file() and f.name != SEAL}
    for folder in drawn:
        flip(folder / "index.html")
        flip(folder / "results.md")
    assert main(["check", str(store.root), "--repair", "--jobs", "1"]) == 0
    assert {f: f.read_bytes() for f in kept} == kept and not examine(store, 1).findings


def test_a_report_that_nobody_can_draw_stays_damaged(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "studies.json").unlink()
    shutil.copytree(store.root / "report", store.root / "report-mine")
    (store.root / "report" / "results.csv").write_text("study\n")
    for _ in range(2):
        assert main(["check", str(store.root), "--repair"]) == 1
        said = capsys.readouterr()
        assert f"report is damaged still: no study that ran in {store.root}" in said.err and "anew" not in said.out
        assert f"`foray report {store.root}` does" in said.err
    assert main(["report", str(store.root)]) == 0 and not examine(store, 1).findings
    (store.root / "report-mine" / "results.csv").write_text("study\n")
    assert main(["check", str(store.root), "--repair"]) == 1
    assert "report-mine is damaged still: Foray draws no report of this name; delete it" in capsys.readouterr().err


def test_repair_computes_as_the_commands_machine_says(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (origin,) = remembered(store.root)
    how = ("device=cpu", "threads=1", "microbatch_tokens=77")
    (store.root / "studies.json").write_text(json.dumps([asdict(replace(origin, machine=how))]))
    flip(nodes("passk")[0].folder(store) / "problems.jsonl")
    machines: list[Machine] = []
    monkeypatch.setattr("foray.study.repair.report_study", lambda *_, **__: None)
    monkeypatch.setattr("foray.study.repair.compute", lambda *args: machines.append(args[2].machine))
    assert main(["check", str(store.root), "--repair", "--jobs", "1"]) == 0
    assert [(m.threads, m.microbatch_tokens) for m in machines] == [(1, 77)]


def test_repair_mends_the_store_that_was_named_wherever_its_commands_were_typed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Callable[..., None]
) -> None:
    draw_only("f2_passk")
    (origin,) = remembered(store.root)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (store.root / "studies.json").write_text(json.dumps([asdict(replace(origin, folder=str(elsewhere)))]))
    flip(nodes("passk")[0].folder(store) / "problems.jsonl")
    (store.root / "report" / "results.csv").write_text("study\n")
    monkeypatch.chdir(tmp_path)
    assert main(["check", "store", "--repair", "--jobs", "1"]) == 0
    assert not examine(store, 1).findings and not list(elsewhere.iterdir())


@pytest.mark.parametrize(("given", "wanted"), [([], [4, 2, 1]), (["--jobs", "3"], [3, 3, 3])])
def test_repair_counts_its_workers_by_the_commands_machine(
    store: Store, monkeypatch: pytest.MonkeyPatch, given: list[str], wanted: list[int]
) -> None:
    (origin,) = remembered(store.root)
    of = [replace(origin, machine=how) for how in ((), ("device=cpu", "ranks=2"), ("device=cpu", "ranks=4"))]
    (store.root / "studies.json").write_text(json.dumps([asdict(command) for command in of]))
    jobs: list[int] = []
    monkeypatch.setattr("foray.commands.options.cores", lambda: 4)
    monkeypatch.setattr("foray.study.repair.report_study", lambda *_, **__: None)
    monkeypatch.setattr("foray.study.repair.compute", lambda *args: jobs.append(args[4].jobs))
    flip(nodes("passk")[0].folder(store) / "problems.jsonl")
    assert main(["check", str(store.root), "--repair", *given]) == 0
    assert jobs == wanted


def test_what_a_run_removes_meanwhile_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = nodes("train")[0].folder(store) / "resume-a"
    slot.mkdir()
    (slot / "state.json").write_text("{}")
    seal(slot, step=1)

    def read(_: int) -> None:
        shutil.rmtree(slot, ignore_errors=True)

    found = examine(store, 1, read=read)
    assert not slot.exists() and not found.findings


def test_repair_says_what_no_study_asks_for_any_more(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "studies.json").unlink()
    folder = nodes("passk")[0].folder(store)
    flip(folder / "problems.jsonl")
    assert main(["check", str(store.root), "--repair"]) == 1
    assert f"({folder.name}): run their study again" in capsys.readouterr().err
    assert not folder.exists()


def test_a_store_remembers_the_commands_that_ran_in_it(whole: Store, tmp_path: Path) -> None:
    (origin,) = remembered(whole.root)
    assert origin.study.endswith("mine.py") and origin.settings == ()
    (tmp_path / "studies.json").write_text("[3")
    assert remembered(tmp_path) == []


def test_two_nodes_that_changed_places_are_both_named_and_made_anew(
    store: Store, whole: Store, draw_only: Callable[..., None]
) -> None:
    draw_only("f2_passk")
    a, b = (n.folder(store) for n in nodes("passk")[:2])
    a.rename(store.root / "aside")
    b.rename(a)
    (store.root / "aside").rename(b)
    assert {f.folder for f in examine(store, 1).findings} == {a, b}
    console = quiet()
    run_study(brief(), store, console)
    said: Any = console.file
    assert said.getvalue().count("holds another node's results") == 2 and "2 to run" in said.getvalue()
    assert tables(store) == tables(whole)


def test_changed_flags_of_a_training_are_not_shown(store: Store, draw_only: Callable[..., None]) -> None:
    draw_only("f2_passk")
    node = next(n for n in nodes("train") if isinstance(n, TrainNode) and n.parent is not None)
    (node.folder(store) / "health.json").write_text('["entropy has collapsed by lies"]')
    console = quiet()
    index = run_study(brief(), store, console)
    said: Any = console.file
    assert "health.json is damaged" in said.getvalue() and "by lies" not in index.read_text()


def test_a_node_damaged_again_and_again_is_always_made_anew(store: Store, draw_only: Callable[..., None]) -> None:
    draw_only()
    folder = nodes("passk")[0].folder(store)
    for _ in range(3):
        flip(folder / "problems.jsonl")
        run_study(brief(), store, quiet())
        assert (folder / SEAL).exists() and not examine(store, 1).findings
    aside = {p.name for p in folder.parent.glob("*.damaged*")}
    assert aside == {f"{folder.name}.damaged", f"{folder.name}.damaged-2", f"{folder.name}.damaged-3"}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("index.html", "gone"), ("results.csv", "changed"), (SEAL, "changed"), (SEAL, "gone"), ("manifest", "gone"),
        ("manifest", "changed"), ("figures/f2_passk.png", "changed"),
    ],
)  # fmt: skip
def test_run_remakes_whatever_of_its_report_is_gone_or_changed(
    store: Store, whole: Store, draw_only: Callable[..., None], name: str, how: str
) -> None:
    draw_only("f2_passk")
    path = store.root / "manifest.json" if name == "manifest" else store.root / "report" / name
    if how == "gone":
        path.unlink()
    else:
        path.write_text("changed")
    index = run_study(brief(), store, quiet())
    assert index.exists() and tables(store) == tables(whole)
    assert json.loads((store.root / "manifest.json").read_text())["entries"]
    assert (index.parent / "figures" / "f2_passk.png").stat().st_size > 1000
    assert not examine(store, 1).findings


def test_an_unfinished_measurement_is_not_reported(store: Store, draw_only: Callable[..., None]) -> None:
    from foray.report import read_results

    draw_only()
    (nodes("passk")[0].folder(store) / SEAL).unlink()
    results = read_results(store.root / "manifest.json")
    assert [reason for _, reason in results.missing] == ["it is not finished (yet)"]


def test_a_damaged_folder_that_cannot_be_moved_ends_the_run_in_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(nodes("passk")[0].folder(store) / "problems.jsonl")

    def refused(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match=r"cannot be set aside \(Permission denied\); delete it"):
        run_study(brief(), store, quiet())


def test_a_disk_that_is_full_without_a_word_of_the_file_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    store, node = Store(tmp_path), nodes("tokenizer")[0]
    monkeypatch.setattr(type(node), "run", full)
    with pytest.raises(OSError, match="No space") as raised:
        run_node(node, store)
    assert failure(raised.value) == f"{node.folder(store)}: No space left on device"
