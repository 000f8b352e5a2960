"""The graph on a Ray cluster of this machine: a head that takes no tasks, and two nodes of a core each."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from foray.cli import main
from foray.core.files import SEAL, read_jsonl
from foray.study.executors.ray import RayExecutor
from foray.study.graph import expand
from foray.study.kinds.tokens import TokenizerNode
from foray.study.kinds.training import TrainNode
from foray.study.named_studies import load_study
from foray.study.node import Node
from foray.study.run import run_study
from foray.study.spec import Study
from foray.study.store import Store
from test_cli import Said, refused
from test_executors import HERE, SLOW, as_before, origin, path, same, slow, starts, until
from test_study import flip, quiet

pytestmark = pytest.mark.ray
fixtures = (as_before, path, slow)


@pytest.fixture
def seconds() -> int:
    """The seconds that a training step takes."""
    return 1


@pytest.fixture
def cluster(seconds: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    # What the machines' workers find: the study's neighbours, slow steps, a rolling checkpoint at every one.
    for name, value in (("PYTHONPATH", str(HERE)), ("SLOW", str(seconds)), ("SAVE", "0")):
        monkeypatch.setenv(name, value)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def processes_below(pid: int) -> list[int]:
    children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(p for child in children for p in processes_below(child))]


def kill_machine_at_work_on(node: Node, store: Store, cluster: Any, workers: bool) -> None:
    """Kills the raylet whose worker has the node, and its ``workers`` too."""
    pid = int((store.root / "claims" / node.key).read_text().split()[1])
    for machine in cluster.worker_nodes:
        raylet = machine.all_processes["raylet"][0].process.pid
        if pid in (below := processes_below(raylet)):
            for victim in [raylet, *(below if workers else [])]:
                os.kill(victim, signal.SIGKILL)
            return
    raise AssertionError(f"no machine runs process {pid}")


def span(node: Node, store: Store) -> tuple[int, int]:
    """When a node began and ended."""
    folder = node.folder(store)
    return (folder / "spec.json").stat().st_mtime_ns, (folder / SEAL).stat().st_mtime_ns


@pytest.mark.parametrize(
    ("stage", "seconds", "workers"), [("rl", 1, True), ("pretrain", 3, False)], ids=["machine", "raylet alone"]
)
def test_a_machine_is_lost_and_the_study_ends_the_same(
    slow: tuple[Study, Store], tmp_path: Path, cluster: Any, stage: str, seconds: int, workers: bool
) -> None:
    """If workers outlive their machine, the node goes on in a process that the cluster may believe dead."""
    made, _ = slow
    store, said = Store(tmp_path / "store"), tmp_path / "said"
    trained = {n.stage.name: n for n in expand(made).nodes if isinstance(n, TrainNode)}

    def kill() -> None:
        until(lambda: (trained[stage].folder(store) / "resume-b" / SEAL).exists())
        kill_machine_at_work_on(trained[stage], store, cluster, workers)

    killer = threading.Thread(target=kill)
    killer.start()
    with open(said, "w") as f:
        run_study(made, store, Console(file=f, width=300), executor=RayExecutor(origin(store), 1, cluster.address))
    killer.join()
    assert same(slow, store)
    begun = [s.split() for s in starts(store)]
    lives = [int(step) for name, step in begun if name == stage]
    assert len(begun) == len(trained) - 1 + len(lives), "nothing else was run twice"
    log = [row["step"] for row in read_jsonl(trained[stage].folder(store) / "metrics.jsonl")]
    assert log == list(range(1, trained[stage].step + 1))
    if workers:
        assert f"{trained[stage].label()}: its worker died (its machine is gone)" in said.read_text()
        assert len(lives) == 2 and lives[1] >= 2, "went on from a rolling checkpoint"


def test_a_worker_that_dies_is_replaced_and_a_node_that_kills_its_workers_fails_by_name(
    tmp_path: Path, cluster: Any
) -> None:
    file = tmp_path / "deadly.py"
    file.write_text(
        "import os\nfrom slow_study import study\nfrom foray.study.kinds.tokens import TokenizerNode\n"
        f"TokenizerNode.run = lambda *_: os.kill(os.getpid(), 9) if os.getpid() != {os.getpid()} else None\n"
    )
    whole = TokenizerNode.run
    try:
        made, store = load_study(str(file)), Store(tmp_path / "store")
    finally:
        TokenizerNode.run = whole  # type: ignore[method-assign]
    with pytest.raises(
        ValueError, match=r"tokenizer .*: 3 workers died of it \(.*died unexpectedly.*goes on from here"
    ):
        run_study(made, store, quiet(), executor=RayExecutor(origin(store, file), 1, cluster.address))


def test_a_node_that_fails_says_so_in_one_line(tmp_path: Path, cluster: Any) -> None:
    from foray.study.executors.ray import RayExecutor

    file = tmp_path / "long.py"
    file.write_text(
        "from dataclasses import replace\nimport slow_study\ndef study():\n    made = slow_study.study()\n"
        "    return replace(made, evaluation=replace(made.evaluation, max_new_tokens=90))\n"
    )
    made, store = load_study(str(file)), Store(tmp_path / "store")
    with pytest.raises(ValueError, match=r"length of 2-shot .*context"):
        run_study(made, store, quiet(), executor=RayExecutor(origin(store, file), 1, cluster.address))


def test_a_full_disk_of_a_worker_takes_one_line_with_the_file(tmp_path: Path, cluster: Any) -> None:
    file = tmp_path / "full.py"
    file.write_text(
        "import os\nfrom slow_study import study\nfrom foray.study.kinds.tokens import TokenizerNode\n"
        "def full(*_):\n    raise OSError(28, 'No space left on device', 'tokens.bin')\n"
        "TokenizerNode.run = full\n"
    )
    whole = TokenizerNode.run
    try:
        made, store = load_study(str(file)), Store(tmp_path / "store")
    finally:
        TokenizerNode.run = whole  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"^[^\n]*tokens\.bin: No space left on device[^\n]*$"):
        run_study(made, store, quiet(), executor=RayExecutor(origin(store, file), 1, cluster.address))


def test_what_a_worker_finds_damaged_is_set_aside_and_made_anew(
    slow: tuple[Study, Store], tmp_path: Path, cluster: Any
) -> None:
    made, whole = slow
    store = Store(tmp_path / "store")
    shutil.copytree(whole.root, store.root)
    node = next(n for n in expand(made).nodes if isinstance(n, TrainNode))
    shutil.rmtree(node.folder(store))
    flip(node.shards[0].folder(store) / "tokens.bin")
    with pytest.raises(ValueError, match=r"tokens\.bin is damaged .*its folder is now .*\.damaged"):
        run_study(made, store, quiet(), executor=RayExecutor(origin(store), 1, cluster.address))
    run_study(made, store, quiet(), executor=RayExecutor(origin(store), 1, cluster.address))
    assert same(slow, store)


def test_workers_end_with_their_driver(slow: tuple[Study, Store], tmp_path: Path, cluster: Any) -> None:
    made, _ = slow
    store = Store(tmp_path / "store")
    pretrain = next(n for n in expand(made).nodes if isinstance(n, TrainNode))
    words = ["run", str(SLOW), "--store", str(store.root), "--executor", "ray", "--address", cluster.address]
    driver = subprocess.Popen(
        [sys.executable, "-m", "foray", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    until(lambda: bool(starts(store)))
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130 and b"foray: interrupted" in said, said
    pid = int((store.root / "claims" / pretrain.key).read_text().split()[1])
    until(lambda: not Path(f"/proc/{pid}").exists(), 30)
    with store.lock(), store.claim(pretrain.key, 10.0):
        assert not pretrain.done(store)


def test_nodes_run_side_by_side(slow: tuple[Study, Store], tmp_path: Path, cluster: Any) -> None:
    made, _ = slow
    store = Store(tmp_path / "store")
    run_study(made, store, quiet(), executor=RayExecutor(origin(store), 1, cluster.address))
    assert same(slow, store)
    (a, b), (c, d) = (
        span(n, store) for n in expand(made).nodes if isinstance(n, TrainNode) and n.stage.name in ("sft", "rl")
    )
    assert max(a, c) < min(b, d)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_is_takes_one_line(capsys: Said, tmp_path: Path, address: str) -> None:
    begun = time.monotonic()
    words = ["run", str(SLOW), "--store", str(tmp_path / "store"), "--executor", "ray", "--address", address]
    said = refused(capsys, *words)
    assert f"no Ray cluster can be joined at {address}" in said and time.monotonic() - begun < 30


def test_without_a_cluster_ray_starts_on_this_machine(
    slow: tuple[Study, Store], tmp_path: Path, monkeypatch: Any
) -> None:
    store = Store(tmp_path / "store")
    assert main(["run", str(SLOW), "--store", str(store.root), "--executor", "ray"]) == 0
    assert same(slow, store)
