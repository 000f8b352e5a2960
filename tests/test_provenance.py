"""The origin of results: each node's own record, the records on the page, and studies that go on elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foray.core import provenance
from foray.core.files import read_json
from foray.core.machine import Machine
from foray.core.provenance import commit, made, program, record
from foray.report import write_report
from foray.report.reader import read_origins
from foray.report.sections.origins import kinds
from foray.study.executors.local import LocalExecutor
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.other_machines import made_here, made_so_far, other_machines
from foray.study.run import run_study
from foray.study.store import Store
from test_report import Study
from test_study import brief, quiet

PACKAGE = Path(provenance.__file__).resolve().parents[1]
EPYC = {"cpu": "AMD EPYC 7B13", "cpu_detail": "family 25 model 1, AVX2"}
XEON = {"cpu": "Intel(R) Xeon(R) CPU", "cpu_detail": "family 6 model 85, AVX512"}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def repository(root: Path, place: str, project: str = "foray", tracked: bool = True) -> Path:
    """A repository that holds a small package called foray at ``place``; the package."""
    package = root / place
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (root / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    (root / "README.md").write_text("words\n")
    git(root, "init", "-q")
    git(root, "add", "pyproject.toml", "README.md", *([place] if tracked else []))
    git(root, "commit", "-qm", "first")
    return package


def test_a_commit_is_that_of_forays_own_repository_and_says_where_it_was_changed(tmp_path: Path) -> None:
    package = repository(tmp_path, "src/foray")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(package) == head[:12]
    git(tmp_path, "tag", "v1")
    assert commit(package) == head[:12], "the commit, and no name that may be moved"
    (tmp_path / "README.md").write_text("others\n")
    assert commit(package) == f"{head[:12]}-dirty"
    git(tmp_path, "checkout", "README.md")
    (package / "new.py").write_text("")
    assert commit(package) == f"{head[:12]}-dirty", "a file that git does not know is run as well"


@pytest.mark.parametrize(
    ("place", "project", "tracked"),
    [
        (".venv/lib/python3.11/site-packages/foray", "theirs", False),
        (".venv/lib/python3.11/site-packages/foray", "foray", False),
        ("vendor/foray", "theirs", True),
        ("src/foray", "theirs", True),
        ("src/foray", "foray", False),
        ("foray", "foray", True),
        ("third_party/foray/src/foray", "theirs", True),
    ],
)
def test_a_package_inside_another_repository_does_not_take_its_commit(
    tmp_path: Path, place: str, project: str, tracked: bool
) -> None:
    assert commit(repository(tmp_path, place, project, tracked)) == "unknown"


def test_a_repository_that_the_environment_names_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git sets such variables for its hooks."""
    ours, theirs = repository(tmp_path / "a", "src/foray"), repository(tmp_path / "b", "src/foray")
    (tmp_path / "b" / "README.md").write_text("later")
    git(tmp_path / "b", "commit", "-qam", "second")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "b" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "b"))
    here = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ours, env=here, capture_output=True, text=True).stdout
    assert commit(ours) == head[:12] != commit(theirs)


def test_the_installed_package_in_anothers_repository_is_unknown_in_a_fresh_process(tmp_path: Path) -> None:
    site = tmp_path / "venv" / "site-packages"
    shutil.copytree(PACKAGE, site / "foray", ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "everything")
    script = "from foray.core.provenance import program; print(program()['commit'])"
    said = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert said.stdout == "unknown\n", said.stderr


def test_what_pip_took_from_a_repository_has_the_commit_that_pip_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "foray"
    package.mkdir()

    class Installed:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

        def read_text(self, name: str) -> str:
            assert name == "direct_url.json"
            return json.dumps({"url": "u", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef0123"}})

    monkeypatch.setattr(provenance, "distribution", lambda _: Installed())
    assert commit(package) == "0123456789ab"
    assert commit(tmp_path / "elsewhere" / "foray") == "unknown", "another installation says nothing of this one"


def test_every_node_records_what_computed_it(tmp_path: Path) -> None:
    store, console = Store(tmp_path, Machine("cpu", threads=2)), quiet()
    nodes = expand(brief()).nodes[:2]
    LocalExecutor(1).run(nodes, store, console, {n.key: 1.0 for n in nodes})
    for node in nodes:
        said = read_json(node.folder(store) / "provenance.json")
        assert said["cpu"] and said["threads"] == 2 and said["ranks"] == 1 and said["device"] == "cpu"
        assert said["versions"]["torch"] == torch.__version__ and said["commit"] == program()["commit"]
        assert "provenance" not in json.dumps(node.spec) and said["cpu"] not in json.dumps(node.spec)
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if found := re.search(r"model name\s*: (.+)", text):
        assert said["cpu"] == found[1].strip()


def test_a_node_that_is_begun_on_one_machine_and_ended_on_another_says_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, node = Store(tmp_path), expand(brief()).nodes[0]
    for cpu in ("A", "B", "B", "C"):
        monkeypatch.setattr(provenance, "cpu_model", lambda cpu=cpu: (cpu, ""))
        folder = store.open(node.kind, node.key, node.spec)
    said = read_json(folder / "provenance.json")
    assert said["cpu"] == "C" and [e["cpu"] for e in said["earlier"]] == ["A", "B"]


def test_each_rank_has_its_share_of_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    trained, asked = (made(record(Machine("cpu", ranks=4), shared)) for shared in (True, False))
    assert (trained.threads, trained.ranks) == ("2", "4") and (asked.threads, asked.ranks) == ("8", "1")
    assert "2 threads on each of 4 ranks" in trained.words and "8 threads, torch" in asked.words


OLD = {"commit": "abc", "versions": {"torch": "2.9"}, "threads": "default", "machine": {"device": "cpu", "ranks": 1}}


def test_what_earlier_versions_recorded_is_read_and_the_rest_is_not_recorded() -> None:
    assert made(OLD) == ("", "", "1", "cpu", "2.9")
    assert made({**OLD, "threads": "1"}).threads == "1"
    assert made({}).words == "CPU not recorded, threads not recorded, device not recorded, torch not recorded"
    assert not made(OLD).differs(made({**OLD, **EPYC, "threads": 1})), "what is not known is no difference"
    assert made({**OLD, **EPYC}).differs(made({**OLD, **XEON}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (XEON, "Intel(R) Xeon(R) CPU (family 6 model 85, AVX512), 1 thread"),
        ({"cpu_detail": "family 25 model 17, AVX512"}, "model 17"),
        ({"threads": 2}, "2 threads"),
        ({"device": "NVIDIA H100"}, "NVIDIA H100"),
        ({"versions": {"torch": "2.0.0"}}, "torch 2.0.0"),
    ],
)
def test_a_study_that_goes_on_elsewhere_says_so_in_one_line_and_on_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Callable[..., None], changes: dict[str, Any], words: str
) -> None:
    draw_only()
    study, store = brief(), Store(tmp_path)
    monkeypatch.setattr(provenance, "cpu_model", lambda: ("AMD EPYC 7B13", "family 25 model 1"))
    nodes = expand(study).nodes
    first = nodes[0]
    run_node(first, store)
    before = made_so_far(nodes, store)
    assert list(before) == [first.key]
    here = made_here(nodes[1:], store, 1)
    assert other_machines(nodes, before, here) == ""
    path = first.folder(store) / "provenance.json"
    path.write_text(json.dumps(read_json(path) | changes))

    class Here(LocalExecutor):
        def run(self, missing: Any, store: Store, console: Any, cost: Any) -> None:
            console.print("begins")
            for node in missing[:2]:
                store.open(node.kind, node.key, node.spec)

    console = quiet()
    index = run_study(study, store, console, Here(1))
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    lines = [line for line in said if "1 node of this store had been made on" in line]
    assert len(lines) == 1 and words in lines[0] and "docs/scaling.md" in lines[0]
    assert said.index(lines[0]) < said.index("begins"), "before anything is computed"
    page = index.read_text()
    assert "not all made by one program on one kind of machine" in page and words.split(",")[0] in page


def test_where_nodes_ran_elsewhere_the_line_comes_behind_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Callable[..., None]
) -> None:
    draw_only()
    study, store, console = brief(), Store(tmp_path), quiet()
    run_node(expand(study).nodes[0], store)

    class Elsewhere(LocalExecutor):
        def threads_here(self, store: Store) -> int:
            return 0

        def run(self, missing: Any, store: Store, console: Any, cost: Any) -> None:
            console.print("begins")
            monkeypatch.setattr(provenance, "cpu_model", lambda: ("another", ""))
            for node in missing[:2]:
                store.open(node.kind, node.key, node.spec)

    run_study(study, store, console, Elsewhere(1))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("of this store had been made on") == 1 and "what is run now on another" in said
    assert said.index("begins") < said.index("what is run now")


def paged(tmp_path: Path, records: list[dict[str, Any] | None], **changes: Any) -> str:
    """The page of a study whose nodes have these records."""
    study = Study(tmp_path)
    for i, said in enumerate(records):
        study.probes(0.5, tokens=1000 + i, recipe="base", stage_step=0)
        if said is not None:
            (tmp_path / study.entries[-1]["folder"] / "provenance.json").write_text(json.dumps(said))
    return write_report(study.write(**changes), tmp_path / "report").read_text()


def rows_of(page: str) -> list[str]:
    section = page[page.index('<h2 id="provenance">') :]
    return [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(<th.*?)</tr>", section)]


def test_the_page_groups_nodes_by_what_computed_them_and_names_who_wrote_it(
    tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    new = {"commit": "f00", "versions": {"torch": "2.9"}, "threads": 1, "ranks": 1, "device": "cpu"}
    records = [{**new, **EPYC}] * 3 + [{**new, **XEON}] * 2 + [OLD, None, {"cpu": ["<b>"], "versions": 3}]
    page = paged(tmp_path, records)
    rows = rows_of(page)
    assert "3||f00||AMD EPYC 7B13 (family 25 model 1, AVX2), 1 thread, torch 2.9||torch 2.9" in rows[0]
    assert "2||f00||Intel(R) Xeon(R) CPU (family 6 model 85, AVX512), 1 thread, torch 2.9" in rows[1]
    assert any("1||abc||CPU not recorded, threads not recorded, torch 2.9" in row for row in rows)
    assert any("1||not recorded||CPU not recorded" in row for row in rows)
    assert "What wrote this page" in page and "<b>" not in page
    assert page.index("not all made by one program") < page.index('<h2 id="provenance">')


def test_a_page_of_one_machine_has_no_such_note(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only()
    page = paged(tmp_path, [{**OLD, **EPYC, "threads": 1}, OLD, {**OLD, **EPYC}])
    assert "not all made by one program" not in page
    assert "begun on one" in paged(tmp_path / "b", [{**OLD, **EPYC, "earlier": [OLD]}])


def test_all_nodes_are_counted_not_only_those_that_are_reported(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only()
    (tmp_path / "nodes" / "tokenizer-1").mkdir(parents=True)
    page = paged(tmp_path, [{**OLD, **EPYC}], nodes=["nodes/tokenizer-1", "nodes/probes-000", "nodes/train-not-there"])
    assert len(rows_of(page)) == 2 + 2, "two groups of nodes, two lines of who wrote the page"


def test_ranks_and_single_processes_of_one_command_are_one_kind(tmp_path: Path) -> None:
    for name, threads, ranks in (("train-1", 1, 2), ("passk-2", 2, 1), ("train-3", 1, 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(
            json.dumps({**OLD, **EPYC, "threads": threads, "ranks": ranks})
        )
    origins = read_origins(tmp_path, ["train-1", "passk-2", "train-3", "not-there"])
    assert len(origins) == 3 and kinds(origins) == 1
