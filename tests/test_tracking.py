"""Trackers see each row once and in order, and no tracker stops anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import foray.commands.track  # noqa: F401  (the name of the package is the function)
from foray.cli import main
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.mirror import Mirror
from foray.study.named_studies import load_study
from foray.study.store import Store
from foray.study.trackers import RunFacts, Table, markdown


class Heard:
    """A tracker that keeps the steps of each run, and the tables. Its process is killed at some steps."""

    def __init__(self, *killed_at: int) -> None:
        self.steps: dict[str, list[int]] = {}
        self.tables: list[tuple[int, str, list[Mapping[str, str]]]] = []
        self.values: list[Mapping[str, float]] = []
        self.killed_at = list(killed_at)

    def open(self, facts: RunFacts) -> HeardRun:
        return HeardRun(self, self.steps.setdefault(facts.key, []))


class HeardRun:
    def __init__(self, of: Heard, steps: list[int]) -> None:
        self.of, self.seen, self.tables = of, steps, of.tables

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.append(step)
        self.of.values.append(values)
        if step in self.of.killed_at:
            self.of.killed_at.remove(step)
            raise KeyboardInterrupt

    def flags(self, step: int, lines: Sequence[str]) -> None: ...

    def completions(self, step: int, title: str, rows: Table) -> None:
        self.tables.append((step, title, list(rows)))

    def close(self) -> None: ...


def test_each_row_is_logged_once_and_in_order_over_a_new_mirror_and_a_log_cut_back(tmp_path: Path) -> None:
    study, store, heard = load_study("smoke", []), Store(tmp_path / "s"), Heard()
    mirror = Mirror(study, store, heard, tmp_path / "t")
    node = mirror.nodes[0]
    log = node.folder(store) / "metrics.jsonl"
    log.parent.mkdir(parents=True)

    def holds(last: int, cut: str = "") -> None:
        log.write_text("".join(json.dumps({"step": i, "lm/loss": 1.0}) + "\n" for i in range(1, last + 1)) + cut)

    holds(3, '{"step": 4, "lm')
    mirror.look()
    assert heard.steps[node.key] == [1, 2, 3]
    holds(2)
    again = Mirror(study, store, heard, tmp_path / "t")
    again.look()
    holds(5)
    again.look()
    again.look()
    assert heard.steps[node.key] == [1, 2, 3, 4, 5]


def test_a_mirror_that_is_killed_logs_one_row_again(tmp_path: Path) -> None:
    study, store, heard = load_study("smoke", []), Store(tmp_path / "s"), Heard(130, 131)
    mirror = Mirror(study, store, heard, tmp_path / "t")
    log = mirror.nodes[0].folder(store) / "metrics.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps({"step": i, "lm/loss": 1.0}) + "\n" for i in range(1, 201)))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            mirror.look()
        with open(tmp_path / "t" / "logged.jsonl", "a") as f:
            f.write('["a line cut sh')
        mirror = Mirror(study, store, heard, tmp_path / "t")
    mirror.look()
    assert heard.steps[mirror.nodes[0].key] == [*range(1, 131), 130, 131, *range(131, 201)]


def test_a_kept_draw_is_a_table_once_its_update_is_logged(tmp_path: Path) -> None:
    study, store, heard = load_study("smoke", []), Store(tmp_path / "s"), Heard()
    mirror = Mirror(study, store, heard, tmp_path / "t")
    folder = mirror.nodes[0].folder(store)
    folder.mkdir(parents=True)
    samples = [
        {"text": text, "stop": "end", "reward": r, "advantage": r - 0.5} for text, r in (("#### 1", 1.0), ("?", 0.0))
    ]
    group = {"stream": "rl", "id": "p1", "question": "1?", "answer": "1", "samples": samples}
    kept = "".join(json.dumps({"step": step, **group}) + "\n" for step in (1, 1, 3))
    (folder / "rollouts.jsonl").write_text(kept)
    for last, tables in ((0, []), (1, [1]), (2, [1]), (3, [1, 3]), (4, [1, 3])):
        (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": i}) + "\n" for i in range(1, last + 1)))
        mirror.look()
        mirror = Mirror(study, store, heard, tmp_path / "t")
        mirror.look()
        assert [step for step, _, _ in heard.tables] == tables
    right = {"problem": "p1", "question": "1?", "completion": "#### 1", "reward": "1", "advantage": "0.5"}
    wrong = right | {"completion": "?", "reward": "0", "advantage": "-0.5"}
    assert heard.tables == [(1, "rollouts/rl", [right, wrong] * 2), (3, "rollouts/rl", [right, wrong])]


def test_an_evaluation_is_logged_at_the_k_of_the_study(tmp_path: Path) -> None:
    study, store, heard = load_study("smoke", ["evaluation.k=1,3"]), Store(tmp_path / "s"), Heard()
    evaluation = next(n for n in expand(study).nodes if isinstance(n, PassKNode))
    for node in (evaluation, evaluation.checkpoint):
        node.folder(store).mkdir(parents=True)
        (node.folder(store) / "health.json").write_text("[]")
        (node.folder(store) / "DONE").touch()
    rows = [{"id": f"p{i}", "correct": {study.evaluation.grading: i}, "samples": 4} for i in (1, 3)]
    (evaluation.folder(store) / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (evaluation.folder(store) / "completions.jsonl").touch()
    Mirror(study, store, heard, tmp_path / "t").look()
    (values,) = heard.values
    assert {name.partition("/")[0]: value for name, value in values.items()} == {"pass@1": 0.5, "pass@3": 0.875}


def test_completions_are_no_markup() -> None:
    assert "<script>" not in (table := markdown([{"question": "a|b", "completion": "<script>x</script>\n[y](z)"}]))
    assert r"a\|b" in table and r"\[y\]\(z\)" in table


TRACKERS = """
import json, os, time
from pathlib import Path

LOG = Path(os.environ["TRACKED"])


class Run:
    def __init__(self, facts):
        self.facts = facts

    def write(self, *what):
        with open(LOG, "a") as f:
            f.write(json.dumps([self.facts.key, self.facts.name, *what]) + "\\n")

    def numbers(self, step, values):
        self.write("numbers", step, sorted(values))

    def flags(self, step, lines):
        self.write("flags", step, list(lines))

    def completions(self, step, title, rows):
        self.write("completions", step, title, len(rows))

    def close(self):
        self.write("close")


class Good:
    def open(self, facts):
        return Run(facts)


class Raising:
    def open(self, facts):
        raise RuntimeError("no such server\\nat all")


class Slow:
    def open(self, facts):
        time.sleep(600)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Any) -> Path:
    draw_only()
    monkeypatch.setenv("TRACKED", str(tmp_path / "tracked.jsonl"))
    (tmp_path / "my_trackers.py").write_text(TRACKERS)
    return tmp_path / "my_trackers.py"


def mini(own: Path) -> list[str]:
    text = "from dataclasses import replace\nfrom foray.studies import smoke\ndef study():\n    made = smoke.study()\n"
    text += "    return replace(made, recipes=('rl',), excursions=made.pretrain.checkpoints[-1:], evaluation=replace("
    text += "made.evaluation, probes=None, dynamics=None, contamination=0, train_problems=0, problems=4, samples=2,"
    text += "k=(1, 2)))\n"
    (own.parent / "my_study.py").write_text(text)
    return [str(own.parent / "my_study.py"), "--store", str(own.parent / "store")]


@pytest.mark.slow
def test_a_run_is_mirrored_whole_and_no_tracker_stops_it(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One tracker works, one raises."""
    words = [w for name in ("Good", "Raising") for w in ("--track", f"{own}:{name}")]
    assert main(["run", *mini(own), "--jobs", "1", *words]) == 0
    told = " ".join("".join(capsys.readouterr()).split())
    assert f"tracker {own}:Raising: {own}:Raising: RuntimeError: no such server" in told
    assert ":Good:" not in told
    rows = [json.loads(line) for line in (own.parent / "tracked.jsonl").read_text().splitlines()]
    by_run: dict[str, list[Any]] = {}
    for _, name, *what in rows:
        by_run.setdefault(name, []).append(what)
    assert set(by_run) == {"M_t at 40k, seed 0", "M_t at 80k, seed 0", "RL from 80k, seed 0"}
    for what in by_run.values():
        steps = [w[1] for w in what if w[0] == "numbers" and not any(n.startswith("pass@") for n in w[2])]
        assert steps == list(range(1, len(steps) + 1)) and what[-1] == ["close"]
    tables = [(w[1], w[2].split("/")[0]) for w in by_run["RL from 80k, seed 0"] if w[0] == "completions"]
    kept = [step for step, title in tables if title == "rollouts"]
    assert kept[0] == 1 and kept == sorted(set(kept)) and len(tables) == len(kept) + 1
    before = len(rows)
    assert main(["track", *mini(own), "--to", f"{own}:Good"]) == 0
    assert len((own.parent / "tracked.jsonl").read_text().splitlines()) == before, "nothing twice"


@pytest.mark.parametrize("every", ["inf", "nan", "0"])
def test_a_time_that_nobody_can_wait_is_refused(own: Path, every: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", *mini(own), "--to", f"{own}:Good", "--follow", "--every", every]) == 1
    assert "--every must lie between 0 and 1,000,000 seconds" in capsys.readouterr().err


def test_a_mirror_that_is_ended_after_its_last_word_has_logged_everything(tmp_path: Path) -> None:
    """The SIGTERM of a run may come while the mirror's Python ends."""
    end = sys.modules["foray.commands.track"]._end
    for said, told in (("logged: somewhere", ""), ("W: no such server", "W: no such server")):
        (tmp_path / "track.log").write_text(said + "\n")
        assert end(subprocess.Popen(["sleep", "60"]), tmp_path / "track.log") == told


@pytest.mark.slow
def test_a_tracker_that_hangs_is_ended_with_the_run(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.modules["foray.commands.track"], "PATIENCE", 12.0)
    assert main(["run", *mini(own), "--jobs", "1", "--track", f"{own}:Slow"]) == 0
    assert f"tracker {own}:Slow: did not end within 12 seconds" in " ".join("".join(capsys.readouterr()).split())


def test_a_tracker_that_is_not_there_is_one_line_before_anything_runs(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in (
        ("tensorbord", "there is no tracker 'tensorbord'; did you mean 'tensorboard'?"),
        (f"{own}:Gone", "Gone"),
    ):
        assert main(["run", *mini(own), "--track", name]) == 1
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1
    assert not (own.parent / "store").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_library_that_is_there_gets_the_whole_store(
    name: str, own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert main(["run", *mini(own), "--jobs", "1"]) == 0
    monkeypatch.chdir(own.parent)
    before = set(own.parent.iterdir())
    assert main(["track", *mini(own), "--to", name]) == 0, capsys.readouterr().err
    assert set(own.parent.iterdir()) == before, "all of a local tracker lies in the store"
    folder = own.parent / "store" / "tracking" / name
    noted = [json.loads(line) for line in (folder / "logged.jsonl").read_text().splitlines()]
    assert len({key for key, _, _ in noted}) == 3
    if name in ("tensorboard", "wandb"):
        assert list(folder.rglob("events.out*" if name == "tensorboard" else "*.wandb"))
