"""Executors: their common contract, Slurm's jobs and their preemption. test_ray.py has the tests of Ray.

With FORAY_SLURM=real in the environment the Slurm on the path is used in place of the fake one.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import Sums
from fake_slurm import install
from foray.core.files import SEAL, digest_of_input
from foray.data.rows import MissingFile, existing
from foray.data.text import JsonlText
from foray.rollout.engine import EngineDied
from foray.study.changed_input import changed_input
from foray.study.executors import slurm, torchrun
from foray.study.executors.remote import News, run_remotely
from foray.study.executors.run_node import run_node
from foray.study.graph import expand, levels
from foray.study.kinds import training
from foray.study.kinds.tokens import ShardNode, TokenizerNode
from foray.study.kinds.training import TrainNode
from foray.study.named_studies import load_study
from foray.study.node import Node, Report
from foray.study.preemption import Preempted, preemptible
from foray.study.run import run_study
from foray.study.spec import Study
from foray.study.store import Store
from foray.study.study_command import StudyCommand
from test_cli import Said, refused, worked
from test_study import brief, compute, quiet, table_of, weights

HERE = Path(__file__).parent
SLOW = HERE / "slow_study.py"


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    """Restores for later tests what the slow study's file changes."""
    whole = training.run_stage
    yield
    training.run_stage = whole


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Store]:
    """The slow study, and a store with its results, run here."""
    made, store = load_study(str(SLOW)), Store(tmp_path_factory.mktemp("here"))
    compute(made, store)
    return made, store


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the study's file on the path of other processes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", "")))))


def origin(store: Store, study: Path = SLOW) -> StudyCommand:
    return StudyCommand(str(study), (), None, str(store.root), os.getcwd())


def starts(store: Store) -> list[str]:
    """The steps at which training nodes of the slow study began."""
    path = store.root / "starts"
    return path.read_text().splitlines() if path.exists() else []


def until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def same(slow: tuple[Study, Store], store: Store) -> bool:
    made, here = slow
    return weights(store) == weights(here) and table_of(made, store) == table_of(made, here)


# --- what all share -------------------------------------------------------------------------------------------------


def test_levels_put_every_node_behind_its_parents() -> None:
    nodes = expand(brief()).nodes
    found = levels(nodes)
    place = {n.key: i for i, level in enumerate(found) for n in level}
    assert len(place) == len(nodes)
    assert all(place[p.key] < place[n.key] for n in nodes for p in n.parents())
    assert all(any(place[p.key] == i - 1 for p in n.parents()) for i, level in enumerate(found) for n in level if i)
    trained = [n for n in nodes if isinstance(n, TrainNode)]
    assert [place[n.key] - place[trained[0].key] for n in trained] == [0, 1, 1], "sft and rl are side by side"
    assert levels([]) == [] and levels(trained[1:]) == [trained[1:]], "parents that are done do not count"


def test_a_node_at_work_elsewhere_is_not_run_here(tmp_path: Path) -> None:
    store, node = Store(tmp_path), expand(brief()).nodes[0]
    words = rf"process {os.getpid()} on .* is at work on it; wait for that or end it"
    with store.claim(node.key, 0.0), pytest.raises(ValueError, match=words):
        run_node(node, store, patience=0.2)
    assert not node.folder(store).exists()
    run_node(node, store)
    assert node.done(store)


def test_who_waited_for_a_node_does_not_run_it_again(tmp_path: Path) -> None:
    store, node = Store(tmp_path), expand(brief()).nodes[0]
    child = os.fork()
    if not child:
        with store.claim(node.key, 0.0):
            run_node_in_claim(node, store)
            time.sleep(1.0)
        os._exit(0)
    until(lambda: node.done(store))
    sealed = (node.folder(store) / SEAL).stat().st_mtime_ns
    run_node(node, store)
    os.waitpid(child, 0)
    assert (node.folder(store) / SEAL).stat().st_mtime_ns == sealed


def test_a_node_that_is_done_is_not_run_again(tmp_path: Path) -> None:
    """Who got the claim without waiting finds what another process has sealed since the study began."""
    store, node = Store(tmp_path), expand(brief()).nodes[0]
    run_node(node, store)
    sealed = (node.folder(store) / SEAL).stat().st_mtime_ns
    assert run_node(node, store) == node.folder(store)
    assert (node.folder(store) / SEAL).stat().st_mtime_ns == sealed


def _written(file: Path, word: str) -> None:
    rows = (f"{word} {i} jumps over the lazy dog {i * 7}. " * 3 for i in range(200))
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_is_edited_during_a_study_is_not_sealed_under_its_old_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    file, store = tmp_path / "mine.jsonl", Store(tmp_path / "store")
    _written(file, "alpha")
    text = JsonlText("t", "mine.jsonl", root=str(tmp_path))
    tokenizer = TokenizerNode(((1.0, text),), 300, 20_000)
    shard = ShardNode(text, "train", tokenizer, 2000)
    assert shard.spec["source"]["path"] == "mine.jsonl" and shard.key
    run_node(tokenizer, store)
    whole = ShardNode.run

    def edited(node: ShardNode, folder: Path, store: Store, report: Report) -> None:
        _written(file, "omega omega")
        whole(node, folder, store, report)

    if when == "before":
        _written(file, "omega omega")
    else:
        monkeypatch.setattr(ShardNode, "run", edited)
    with pytest.raises(ValueError, match=r"^mine.jsonl changed while the study ran: run again$"):
        run_node(shard, store)
    assert not shard.folder(store).exists(), "nothing goes on from what was made of the other text"
    monkeypatch.undo()
    _written(file, "alpha")
    run_node(shard, store)
    read = tokenizer.open_tokenizer(store).decode(shard.open_shard(store).window(0, 40).tolist())
    assert "alpha" in read and "omega" not in read


@dataclass(frozen=True)
class SumsOfAFile(Sums):
    """A task whose problems depend on a file."""

    file: str = ""

    def fingerprint(self) -> str:
        return digest_of_input(existing(Path(self.file)))


def of_files(root: Path) -> Study:
    """A study of a text and a task of files, both written here."""
    _written(root / "mine.jsonl", "alpha")
    (root / "questions.jsonl").write_text("1 + 1 ?")
    made, task = brief(), SumsOfAFile("sums", file=str(root / "questions.jsonl"))
    text = ((1.0, JsonlText("t", "mine.jsonl", root=str(root))),)
    corpus = replace(made.pretrain.stream.source, mixture=text)
    pretrain = replace(made.pretrain, stream=replace(made.pretrain.stream, source=corpus))
    sft, rl = (replace(stream, source=replace(stream.source, task=task)) for stream in (made.post.sft, made.post.rl))
    return replace(made, pretrain=pretrain, post=replace(made.post, sft=sft, rl=rl), recipes=("sft",))


@pytest.mark.parametrize("gone", [False, True])
def test_a_text_may_change_once_its_tokens_are_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_only: Callable[..., None], gone: bool
) -> None:
    """Training reads the tokens. The results, and the report of the run, are of the text that they were made from."""
    draw_only()
    made, store = of_files(tmp_path), Store(tmp_path / "store")
    trained = [n for n in expand(made).nodes if isinstance(n, TrainNode)]
    assert len(trained) == 2
    whole = TrainNode.run

    def edited(node: TrainNode, folder: Path, store: Store, report: Report) -> None:
        (tmp_path / "mine.jsonl").unlink() if gone else _written(tmp_path / "mine.jsonl", "omega omega")
        monkeypatch.setattr(TrainNode, "run", whole)
        whole(node, folder, store, report)

    monkeypatch.setattr(TrainNode, "run", edited)
    index = run_study(made, store, quiet(), Here())
    assert all(n.done(store) for n in trained) and not list(store.root.glob("nodes/*.damaged"))
    with open(index.parent / "results.csv", newline="") as f:
        assert {row["recipe"] for row in csv.DictReader(f) if row["metric"] == "pass@1"} == {"base", "sft"}


class Here:
    """An executor in this process: all of a level, such as all text, before the next."""

    def threads_here(self, store: Store) -> int:
        return 1

    def run(self, missing: Sequence[Node], store: Store, *_: object) -> None:
        for node in (n for level in levels(missing) for n in level):
            run_node(node, store)


def test_who_reads_a_file_itself_is_asked_whether_it_changed(tmp_path: Path) -> None:
    nodes = [n for n in expand(of_files(tmp_path)).nodes if n.key]
    base, sft = (n for n in nodes if isinstance(n, TrainNode))
    _written(tmp_path / "mine.jsonl", "omega omega")
    asked = [n.kind for n in nodes if "mine.jsonl changed" in changed_input(n)]
    assert set(asked) == {"tokenizer", "shard"}
    (tmp_path / "questions.jsonl").write_text("1 + 2 ?")
    assert not changed_input(base) and changed_input(sft) == "sums changed while the study ran: run again"
    (tmp_path / "questions.jsonl").unlink()
    assert not changed_input(sft, over=True)
    with pytest.raises(MissingFile):
        changed_input(sft)


def test_every_node_has_its_key_anew() -> None:
    nodes = expand(brief()).nodes
    assert {n.kind for n in nodes} >= {"tokenizer", "shard", "train", "passk", "prompts"}
    assert not [words for n in nodes if (words := changed_input(n))]


def run_node_in_claim(node: Node, store: Store) -> None:
    other = Store(store.root)
    other.claim = lambda key, patience: contextlib.nullcontext(False)  # type: ignore[method-assign]
    run_node(node, other)


@pytest.mark.slow
def test_a_process_finds_a_node_of_a_users_file_by_its_key(slow: tuple[Study, Store], tmp_path: Path) -> None:
    made, here = slow
    store, nodes = Store(tmp_path), expand(made).nodes
    code = (
        "import sys\nfrom foray.study.study_command import StudyCommand\n"
        "from foray.study.executors.remote import run_remotely\n"
        f"run_remotely(StudyCommand({SLOW.name!r}, (), None, {str(tmp_path)!r}, {str(HERE)!r}), sys.argv[1], 1)"
    )
    for node in [n for n in nodes if n.kind in ("tokenizer", "shard")][:2]:
        subprocess.run([sys.executable, "-c", code, node.key], check=True, cwd="/")
        assert node.done(store)
        for file in ("spec.json", "tokenizer.json", "tokens.bin"):
            if (node.folder(here) / file).exists():
                assert (node.folder(store) / file).read_bytes() == (node.folder(here) / file).read_bytes()


def test_a_machine_with_another_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no node 0123: Foray, the study's file or the data differ there"):
        run_remotely(origin(Store(tmp_path)), "0123", 1)


# --- preemption -----------------------------------------------------------------------------------------------------


def test_a_signal_is_heard_at_the_end_of_a_step() -> None:
    with preemptible(signal.SIGUSR1) as check:
        check()
        os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(Preempted) as e:
            check()
    assert e.value.args == (signal.SIGUSR1,)


def test_what_has_no_steps_is_cut_short_after_a_while() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGALRM)
    with pytest.raises(Preempted), preemptible(signal.SIGUSR1, grace=0.1):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(30)
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGALRM)) == before


def test_a_node_that_is_asked_to_stop_saves_and_goes_on_there(slow: tuple[Study, Store], tmp_path: Path) -> None:
    made, here = slow
    store = Store(tmp_path)
    rl = next(n for n in expand(made).nodes if isinstance(n, TrainNode) and n.stage.name == "rl")
    for node in expand(made).nodes:
        if node.key == rl.key:
            break
        run_node(node, store)

    def stop(**values: int) -> None:
        if values["done"] in (3, 4):
            raise Preempted(signal.SIGUSR2)

    with pytest.raises(Preempted):
        run_node(rl, store, stop)
    run_node(rl, store, stop)  # asked after its last step, it ends
    assert starts(store)[-2:] == ["rl 0", "rl 3"]
    assert weights(store)[rl.folder(store).name] == weights(here)[rl.folder(store).name]


@pytest.mark.slow
def test_a_preempted_job_of_submitit_goes_on(
    slow: tuple[Study, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """submitit's local executor queues a job again as Slurm does."""
    import submitit

    made, here = slow
    monkeypatch.setenv("SLOW", "0.5")
    store = Store(tmp_path / "store")
    pretrain = next(n for n in expand(made).nodes if isinstance(n, TrainNode))
    for node in expand(made).nodes:
        if node.key == pretrain.key:
            break
        run_node(node, store)
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=5)
    job = executor.map_array(slurm.NodeJob(origin(store), 1), [pretrain.key])[0]
    log = pretrain.folder(store) / "metrics.jsonl"
    until(lambda: log.exists() and log.read_text().count("\n") >= 2)
    pid = int((store.root / "claims" / pretrain.key).read_text().split()[1])
    os.kill(pid, signal.SIGUSR2)  # submitit's own _interrupt ends the process that would start the job anew
    job.wait()
    assert pretrain.done(store), job.stderr()
    first, second = [s.split() for s in starts(store)]
    assert first == ["pretrain", "0"] and int(second[1]) >= 2, "went on from where the signal found it"
    assert weights(store)[pretrain.folder(store).name] == weights(here)[pretrain.folder(store).name]


# --- Slurm ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("FORAY_SLURM") != "real":
        monkeypatch.setenv("PATH", f"{install(tmp_path / 'slurm')}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "QUEUE_SECONDS", 0.5)
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(slurm, "SEE_SECONDS", 3.0)


@contextlib.contextmanager
def submitting(store: Store, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``foray run`` of the slow study on Slurm, in a process."""
    command = [sys.executable, "-m", "foray", "run", str(SLOW), "--store", str(store.root), "--executor", "slurm"]
    driver = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield driver
    finally:
        driver.kill()
        driver.communicate()


def job_of(stage: str, made: Study, store: Store) -> str:
    node = next(n for n in expand(made).nodes if isinstance(n, TrainNode) and n.stage.name == stage)
    return str(json.loads((store.root / "slurm" / "jobs.json").read_text())[node.key])


def command(*words: str) -> None:
    subprocess.run(words, check=True)


def begun(store: Store, stage: str, times: int, job: str = "") -> bool:
    if job:  # that is queued again: Slurm leaves it a minute or two
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now"], capture_output=True)
    return sum(s.split()[0] == stage for s in starts(store)) == times


class _Queued(set[str]):
    """In the place of the queue: these jobs wait or run."""


def _submitted(
    store: Store, known: dict[str, str], queue: set[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[tuple[list[str], list[str]]], dict[str, str]]:
    """What a command submits: the keys of every array and the jobs that it waits for; and ``jobs.json`` afterwards."""
    submitted: list[tuple[list[str], list[str]]] = []

    def submit(_: object, level: list[Node], after: list[str]) -> list[str]:
        submitted.append(([n.key for n in level], after))
        return [f"{100 + len(submitted)}_{i}" for i in range(len(level))]

    monkeypatch.setattr(slurm.SlurmExecutor, "_submit", submit)
    monkeypatch.setattr(slurm, "_Queue", lambda: _Queued(queue))
    monkeypatch.setattr(slurm, "drive", lambda *_: None)
    record = store.root / "slurm" / "jobs.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps(known))
    nodes = expand(brief()).nodes
    slurm.SlurmExecutor(origin(store)).run(nodes, store, quiet(), {n.key: 1.0 for n in nodes})
    return submitted, json.loads(record.read_text())


def test_jobs_of_other_commands_stay_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"of another command": "7_0", "of another, and gone": "7_1"}
    submitted, kept = _submitted(Store(tmp_path), known, {"7_0"}, monkeypatch)
    assert {key: job for key, job in kept.items() if job.startswith("7_")} == {"of another command": "7_0"}
    assert kept.keys() - known.keys() == {n.key for n in expand(brief()).nodes}
    assert sum(len(keys) for keys, _ in submitted) == len(kept) - 1
    assert [after for _, after in submitted][:2] == [[], ["101"]], "of a new array all tasks hold parents"


def test_a_level_waits_for_the_jobs_that_hold_its_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an array in the queue one task failed: what waits for the whole array would never start."""
    nodes = expand(brief()).nodes
    first = levels(nodes)[0]
    rest = [n for n in nodes if n not in first]
    known = {n.key: f"7_{i}" for i, n in enumerate(first)} | {rest[0].key: "8_1"}  # of 8, task 0 is not there any more
    submitted, kept = _submitted(Store(tmp_path), known, set(known.values()), monkeypatch)
    by_key = {n.key: n for n in nodes}
    assert [keys for keys, _ in submitted] == [[n.key for n in level] for level in levels(rest[1:])]
    for keys, after in submitted:
        parents = {kept[p.key] for key in keys for p in by_key[key].parents()}
        of = {job for job in kept.values() for name in after if job == name or job.startswith(f"{name}_")}
        assert of == parents and not {"7", "8"} & set(after)


@pytest.mark.slow
def test_on_slurm_a_study_ends_the_same_whatever_befalls_it(
    slow: tuple[Study, Store], tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver leaves. One job is asked to make room. Another job is told that it will be ended, and starts again."""
    made, _ = slow
    store = Store(tmp_path / "store")
    monkeypatch.setenv("SLOW", "0.6")
    with submitting(store):
        until(lambda: begun(store, "pretrain", 1))
    time.sleep(1.5)
    job = job_of("pretrain", made, store)
    command("scancel", "--signal=USR2", job)
    until(lambda: begun(store, "pretrain", 2, job))
    time.sleep(1.5)
    command("scancel", "--signal=TERM", job)
    time.sleep(1.5)
    assert begun(store, "pretrain", 2), "what is told to end waits for its end"
    command("scontrol", "requeue", job)
    until(lambda: begun(store, "pretrain", 3, job))
    with submitting(store) as driver:
        said, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0 and "nodes have jobs in the queue already" in said, said
    assert "submitted" not in said, "no node has two jobs"
    steps = [int(s.split()[1]) for s in starts(store) if s.startswith("pretrain")]
    assert len(steps) == 3 and 0 == steps[0] < steps[1] < steps[2], "each life went on from where the last was told"
    assert len(starts(store)) == 5 and same(slow, store)
    assert (store.root / "report" / "index.html").exists()


@pytest.mark.slow
def test_a_cancelled_job_takes_those_behind_it_along(
    slow: tuple[Study, Store], tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = slow
    store = Store(tmp_path / "store")
    monkeypatch.setenv("SLOW", "5")
    nodes = expand(made).nodes
    store.root.mkdir()

    def cancel() -> None:
        until(lambda: begun(store, "pretrain", 1))
        command("scancel", job_of("pretrain", made, store))

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(ValueError, match=r"M_t at .*: its job .* has ended without a result: see .*log.err"):
        slurm.SlurmExecutor(origin(store)).run(nodes, store, quiet(), {n.key: 1.0 for n in nodes})
    canceller.join()
    until(lambda: not any(job_of(stage, made, store) in slurm._Queue() for stage in ("pretrain", "rl", "sft")))


@pytest.mark.slow
def test_a_node_that_fails_on_slurm_says_so_in_one_line(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    file = tmp_path / "own_study.py"
    file.write_text(
        "from dataclasses import replace\nfrom test_study import Study, brief\ndef study() -> Study:\n"
        "    return replace(brief(), evaluation=replace(brief().evaluation, max_new_tokens=80))\n"
    )  # for which there is room behind a question, and none behind two examples and a question
    said = refused(capsys, "run", str(file), "--store", str(tmp_path / "store"), "--executor", "slurm")
    assert "length of 2-shot test" in said and "context" in said


def test_scripts_are_printed_and_nothing_is_submitted(capsys: Said, tmp_path: Path) -> None:
    words = ["run", str(SLOW), "--store", str(tmp_path / "store"), "--executor", "slurm", "--dry-run", "--jobs", "3"]
    out = worked(capsys, *words, "--slurm", "partition=gpu", "--slurm", "time=90", "--slurm", "cpus_per_task=4")
    count = len(levels(expand(load_study(str(SLOW))).nodes))
    assert out.count("#!/bin/bash") == count == 1 + out.count("--dependency=afterok:LEVEL_")
    assert out.count("#SBATCH --partition=gpu") == out.count("#SBATCH --requeue") == count
    assert "--time=90" in out and "--cpus-per-task=4" in out and "%3" in out and "--signal=USR2@90" in out
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--executor", "slrm"], "invalid choice: 'slrm'"),
        (["--executor", "slurm", "--slurm", "partitoin=x"], "no setting 'partitoin'; did you mean 'partition'?"),
        (["--executor", "slurm", "--slurm", "nodes=2"], "no setting 'nodes'"),
        (["--executor", "slurm", "--slurm", "partition"], "write it as KEY=VALUE"),
        (["--executor", "slurm", "--slurm", "time=1:00"], "write a whole number"),
        (["--slurm", "partition=x"], "--slurm goes with --executor slurm"),
        (["--address", "here:1"], "--address goes with --executor ray"),
        (["--dry-run"], "add --executor slurm"),
    ],
)
def test_mistakes_of_executors(capsys: Said, tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused(capsys, "run", "smoke", "--store", str(tmp_path / "store"), *words)


def _dies(*_: object) -> None:
    raise EngineDied("vLLM has ended")


@pytest.mark.parametrize("together", [False, True])
def test_an_engine_that_dies_under_torchrun_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    node = next(n for n in expand(brief()).nodes if n.on_ranks == together)
    monkeypatch.setattr(type(node), "run", _dies)
    monkeypatch.setattr(torchrun.dist, "get_world_size", lambda: 1)
    with pytest.raises(ValueError, match=f"^{re.escape(node.label())}: vLLM has ended$"):
        torchrun.TorchrunExecutor(1).run([node], Store(tmp_path), quiet(), {node.key: 1.0})


def test_an_engine_that_dies_in_a_job_of_slurm_is_told_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, node = Store(tmp_path), expand(brief()).nodes[0]
    monkeypatch.setattr(slurm, "run_remotely", _dies)
    with pytest.raises(ValueError, match=r"^vLLM has ended$"):
        slurm.NodeJob(origin(store), 1)(node.key)
    assert News(store).of(node) == {"failed": "vLLM has ended"}


@pytest.mark.parametrize("option", ["--executor=slurm", "--jobs=2"])
def test_torchrun_has_workers_of_its_own(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setattr("foray.study.executors.torchrun.leave", lambda code: None)
    said = refused(capsys, "run", "smoke", "--store", str(tmp_path / "store"), option)
    assert f"under torchrun the workers are its processes: leave out {option.partition('=')[0]}" in said


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_is_not_installed_is_named(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(capsys, "run", "smoke", "--store", str(tmp_path / "store"), "--executor", executor)
    assert f"pip install -e '.[{executor}]'" in said


def test_without_slurm_one_line_says_so(capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(capsys, "run", str(SLOW), "--store", str(tmp_path / "store"), "--executor", "slurm")
    assert "there is no Slurm here" in said
