"""Law 3 for whole runs: what two ranks train together is what one rank trains, within rounding; and starts, saves and
deaths of ranks.

Ranks are forked processes that speak gloo. Sums over ranks round otherwise than one rank's, and Adam's first steps make
much of the sign of a small gradient: weights that moved by some 1e-2 agree to ``WEIGHTS``.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from conftest import wide
from foray.core.batch import Batch
from foray.core.files import SEAL, read_json, read_jsonl, sealed
from foray.core.machine import Machine, machine
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus
from foray.core.stage import Stage, Stream
from foray.data.corpus import Shard
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.engine import EngineDied
from foray.rollout.torch_engine import TorchEngine
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.kinds import training
from foray.study.kinds.models import open_checkpoint
from foray.study.kinds.training import TrainNode
from foray.study.preemption import Preempted
from foray.study.run import run_study
from foray.study.store import Store
from foray.study.study_command import remembered
from foray.train.checked_draw import drawn
from foray.train.checkpoint import Resume, load_state, save_checkpoint, save_state
from foray.train.draw import Training
from foray.train.loop import Metrics, Moments, TrainingStopped, run_stage
from foray.train.ranks import all_gather, is_first, join, map_over_ranks, rank_and_ranks
from foray.train.scoring import backward, token_logprobs
from foray.train.sharding import blank, fill, own, weights_of, whole
from test_laws import ADAM, RL, SFT, assert_close, moved, start
from test_study import acting_at, die, pretrained_to, quiet, study, weights

WEIGHTS = 2e-4  # of weights after a few steps of Adam at a rate of 2e-3 to 5e-3
FOUR = pytest.mark.slow
CPU = Machine()

TEXT = Stream("text", Corpus(((1.0, SimpleNamespace(name="x")),), batch_size=5, length=30), CrossEntropy(1e-4), ADAM)
KL = replace(
    RL, objective=PolicyGradient(kl=0.1), source=replace(RL.source, updates_per_draw=2, validation=5, validate_every=1)
)
STAGES = {
    "pretrain": Stage("s", ((1.0, TEXT),), 4),
    "sft": Stage("s", ((1.0, SFT),), 4),
    "grpo": Stage("s", ((1.0, KL),), 4),
    "parallel": Stage("s", ((0.5, RL), (0.5, SFT)), 4),
}


# --- ranks ----------------------------------------------------------------------------------------------------------


def on_ranks(ranks: int, folder: Path, work: Callable[..., None], *arguments: Any) -> None:
    """Calls ``work(*arguments)`` in so many processes of one group."""
    folder.mkdir(exist_ok=True, parents=True)
    mp.start_processes(_rank, (ranks, folder / "meeting", work, arguments), nprocs=ranks, start_method="fork")
    (folder / "meeting").unlink()


def _rank(rank: int, ranks: int, meeting: Path, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    join(CPU, rank, ranks, meeting)
    work(*arguments)


def spread(model: Transformer, machine: Machine = CPU, bf16: bool = False) -> Transformer:
    return fill(blank(model.config, machine, bf16), model)


def begun(config: ModelConfig, tokenizer: TextTokenizer, texts: Path) -> Training:
    """What ``start`` gives, with text to train on and a reference; under several ranks sharded over them."""
    run = start(config, tokenizer)
    run.shards = {"x": Shard(texts)}
    run.reference = Transformer(config)
    run.reference.load_state_dict(run.model.state_dict())
    if rank_and_ranks()[1] > 1:
        run.model, run.reference = spread(run.model), spread(run.reference)
        run.engine = TorchEngine(config, tokenizer, model=blank(config, CPU))
    return run


def trained(run: Training, stage: Stage, first: int = 0, moments: dict[str, Moments] | None = None) -> list[Metrics]:
    log: list[Metrics] = []
    moments = moments or {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}
    run_stage(stage, run, moments, first, stage.steps, lambda _, m: log.append(m))
    return log


def keep(run: Training, log: list[Metrics], out: Path) -> None:
    tensors = {name: w.clone() for name, w in weights_of(run.model).items()}
    if is_first():
        save_file(tensors, f"{out}.safetensors")
        Path(f"{out}.json").write_text(json.dumps(log))


@pytest.fixture(scope="module")
def texts(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    text = [tokenizer.encode(f"Q: {i} + {i} ?\nA: {2 * i}") for i in range(60)]
    flat = np.array([t for ids in text for t in (tokenizer.end_id, *ids)], dtype=np.uint16)
    flat.tofile(folder / "tokens.bin")
    meta = {"source": "x", "split": "train", "tokens": len(flat), "dtype": "uint16"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


# --- training -------------------------------------------------------------------------------------------------------


def _all_stages(config: ModelConfig, tokenizer: TextTokenizer, texts: Path, out: Path) -> None:
    for name, stage in STAGES.items():
        run = begun(config, tokenizer, texts)
        keep(run, trained(run, stage), out / name)


@pytest.fixture(scope="module")
def alone(config: ModelConfig, tokenizer: TextTokenizer, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    _all_stages(config, tokenizer, texts, out)
    return out


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=FOUR)])
def together(
    request: pytest.FixtureRequest, config: ModelConfig, tokenizer: TextTokenizer, texts: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    out = tmp_path_factory.mktemp("together")
    on_ranks(request.param, out, _all_stages, config, tokenizer, texts, out)
    return out


def same(ours: Path, theirs: Path, name: str) -> None:
    """Weights, and what was logged of losses, rewards, gradients and cosines."""
    assert_close(*(load_file(f / f"{name}.safetensors") for f in (ours, theirs)), WEIGHTS)
    logs = [json.loads((f / f"{name}.json").read_text()) for f in (ours, theirs)]
    for ours_row, theirs_row in zip(*logs, strict=True):
        assert ours_row.keys() == theirs_row.keys()
        for key in ours_row.keys() - {"seconds"}:
            assert ours_row[key] == pytest.approx(theirs_row[key], rel=2e-3, abs=2e-4), key


@pytest.mark.parametrize("name", STAGES)
def test_law_3_ranks_train_what_one_trains(
    alone: Path, together: Path, name: str, config: ModelConfig, tokenizer: TextTokenizer
) -> None:
    same(together, alone, name)
    first = start(config, tokenizer).model.state_dict()
    assert moved(load_file(together / f"{name}.safetensors"), first) > 20 * WEIGHTS


def _gradients(model: Transformer) -> dict[str, torch.Tensor]:
    return {n: whole(p.grad).clone() for n, p in model.named_parameters() if p.grad is not None}


def _rank_gradients(config: ModelConfig, batches: dict[str, tuple[Stream, Batch]], out: Path) -> None:
    for name, (stream, batch) in batches.items():
        recomputed = replace(CPU.found(), recompute=name == "recomputed")
        model = spread(wide(initialize(config, 5)), recomputed, stream.precision == "bf16")
        loss = backward(model, stream, batch, 64)["loss"]
        assert all(own(p).numel() < max(2, 0.6 * p.numel()) for p in model.parameters()), "a rank holds a slice"
        logprobs = token_logprobs(model, batch, stream.precision)
        assert all(own(p).numel() < max(2, 0.6 * p.numel()) for p in model.parameters()), "and no more after scoring"
        tensors = _gradients(model) | {"loss": torch.tensor(loss), "logprobs": logprobs}
        if is_first():
            save_file(tensors, out / f"{name}.safetensors")


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_and_log_probabilities_of_ranks_are_those_of_one(
    config: ModelConfig, tokenizer: TextTokenizer, tmp_path: Path, tied: bool
) -> None:
    """This also holds if one rank or all ranks have nothing to compute, and if layers are computed in bf16."""
    batch, _ = drawn(RL.source, RL, 0, start(config, tokenizer))
    config = replace(config, tied=tied)
    silent = replace(batch, advantage=torch.zeros_like(batch.advantage))
    batches = {
        "all": (RL, batch),
        "recomputed": (RL, batch),
        "one row": (SFT, batch.select(torch.tensor([1]))),
        "no row": (RL, silent),
        "bf16": (replace(RL, precision="bf16"), batch),
    }
    on_ranks(2, tmp_path, _rank_gradients, config, batches, tmp_path)
    for name, (stream, batch) in batches.items():
        model = wide(initialize(config, 5))
        loss = backward(model, stream, batch)["loss"]
        logprobs = token_logprobs(model, batch, stream.precision)
        tensors = load_file(tmp_path / f"{name}.safetensors")
        theirs = {n: tensors[n] for n, _ in model.named_parameters()}
        if stream.precision == "bf16":  # norms' weights are bf16 in layers: not what autocast computes, but close
            flat = [torch.cat([g[n].flatten() for n in theirs]) for g in (theirs, _gradients(model))]
            assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.999
            torch.testing.assert_close(tensors["logprobs"], logprobs, rtol=0, atol=0.05)
            continue
        assert float(tensors["loss"]) == pytest.approx(loss, rel=1e-5, abs=1e-7)
        torch.testing.assert_close(tensors["logprobs"], logprobs, rtol=0, atol=1e-5)
        for n, g in _gradients(model).items():
            torch.testing.assert_close(theirs[n], g, rtol=1e-4, atol=1e-6)
        assert (moved(theirs, {n: torch.zeros(()) for n in theirs}) == 0) == (name == "no row")


def _hybrid(config: ModelConfig, tokenizer: TextTokenizer, texts: Path, out: Path) -> None:
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    run = begun(config, tokenizer, texts)
    run.model = spread(start(config, tokenizer).model, Machine(shard_over="node"))
    parameter = run.model.lm_head.weight
    assert own(parameter).numel() * 2 == parameter.numel(), "sharded over a machine's two ranks, whole on each machine"
    keep(run, trained(run, STAGES["parallel"]), out / "parallel")


@FOUR
def test_two_machines_of_two_ranks(
    alone: Path, config: ModelConfig, tokenizer: TextTokenizer, texts: Path, tmp_path: Path
) -> None:
    on_ranks(4, tmp_path, _hybrid, config, tokenizer, texts, tmp_path)
    same(tmp_path, alone, "parallel")


def _poisoned(config: ModelConfig, tokenizer: TextTokenizer, texts: Path, out: Path) -> None:
    run = begun(config, tokenizer, texts)
    with torch.no_grad():
        if rank_and_ranks()[0] == 1:
            own(run.model.lm_head.weight)[0, 0] = torch.nan  # in one rank's slice
    before = {name: own(p).clone() for name, p in run.model.named_parameters()}
    with pytest.raises(TrainingStopped, match="the loss of stream 'sft' is not finite") as stopped:
        run_stage(STAGES["sft"], run, {"sft": Moments(run.model, ADAM)}, 0, 1, lambda *_: None, out)
    assert all_gather(str(stopped.value)) == [str(stopped.value)] * 2
    for name, p in run.model.named_parameters():
        torch.testing.assert_close(own(p), before[name], rtol=0, atol=0, equal_nan=True)
    (out / str(rank_and_ranks()[0])).touch()


def test_what_is_not_finite_on_one_rank_stops_all(
    config: ModelConfig, tokenizer: TextTokenizer, texts: Path, tmp_path: Path
) -> None:
    on_ranks(2, tmp_path, _poisoned, config, tokenizer, texts, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"0", "1", "stopped_batch.safetensors"}


# --- sharing out ----------------------------------------------------------------------------------------------------


def _pieces(out: Path) -> None:
    for count, at_once in ((7, 4), (7, 2), (1, 1), (0, 1)):
        done: list[int] = []

        def work(part: slice, done: list[int] = done, count: int = count) -> list[int]:
            done.extend(range(count)[part])
            return [10 * i for i in range(count)[part]]

        assert map_over_ranks(count, at_once, work) == [10 * i for i in range(count)]
        shares = all_gather(done)
        assert sorted(i for share in shares for i in share) == list(range(count)), "each item once"
        if count == 7 and at_once == 4:
            assert shares == [[0, 1, 2], [3, 4, 5, 6]], "all fit: a piece each"
    (out / str(rank_and_ranks()[0])).touch()


def test_work_is_shared_out(tmp_path: Path) -> None:
    on_ranks(2, tmp_path, _pieces, tmp_path)
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()


# --- state ----------------------------------------------------------------------------------------------------------


def _train_and_save(config: ModelConfig, tokenizer: TextTokenizer, texts: Path, out: Path) -> None:
    """Two steps, saved in two ways. Then two more steps, before and after the background has written."""
    run = begun(config, tokenizer, texts)
    stage, resume = STAGES["grpo"], Resume(out / "node")
    moments = {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}

    def after_step(done: int, _: Metrics) -> None:
        if done == 3:  # inside a draw that serves two updates
            save_checkpoint(out, run.model, tokenizer)
            save_state(out, run, moments, done)
            resume.save(run, moments, done)

    run_stage(stage, run, moments, 0, 4, after_step)
    resume.finish()
    all_gather(None)
    if is_first():
        assert resume.newest() == out / "node" / "resume-a"
        assert (sealed(out / "node" / "resume-a") and not (out / "node" / "resume-a" / "model").exists()) or (
            rank_and_ranks()[1] == 1
        )
    keep(run, [], out / "through")


def _resume(config: ModelConfig, tokenizer: TextTokenizer, texts: Path, saved: Path, out: Path) -> None:
    stage = STAGES["grpo"]
    for name, folder in (("checkpoint", saved), ("rolling", saved / "node" / "resume-a")):
        run = begun(config, tokenizer, texts)
        if (folder / "model").exists():
            opened = open_checkpoint(folder)[0]
            run.model = spread(opened) if rank_and_ranks()[1] > 1 else opened
        elif rank_and_ranks()[1] > 1:
            run.model = blank(config, CPU, False)
        if rank_and_ranks()[1] == 1:
            run.engine = TorchEngine(config, tokenizer, model=run.model)
        moments = {s.name: Moments(run.model, s.optimizer) for _, s in stage.streams}
        assert load_state(folder, run, moments) == 3
        keep(run, trained(run, stage, 3, moments), out / name)


@pytest.fixture(scope="module")
def saved_by_two(
    config: ModelConfig, tokenizer: TextTokenizer, texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("saved")
    on_ranks(2, out, _train_and_save, config, tokenizer, texts, out)
    return out


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(4, marks=FOUR)])
def test_what_two_ranks_saved_any_number_goes_on_from(
    saved_by_two: Path, ranks: int, config: ModelConfig, tokenizer: TextTokenizer, texts: Path, tmp_path: Path
) -> None:
    """The same number of ranks goes on to the bit, from the background's slices and from a kept checkpoint."""
    if ranks == 1:
        _resume(config, tokenizer, texts, saved_by_two, tmp_path)
    else:
        on_ranks(ranks, tmp_path, _resume, config, tokenizer, texts, saved_by_two, tmp_path)
    through = load_file(saved_by_two / "through.safetensors")
    for name in ("checkpoint", "rolling"):
        assert_close(load_file(tmp_path / f"{name}.safetensors"), through, 0 if ranks == 2 else WEIGHTS)


def test_what_one_rank_saved_two_go_on_from(
    config: ModelConfig, tokenizer: TextTokenizer, texts: Path, tmp_path: Path
) -> None:
    _train_and_save(config, tokenizer, texts, tmp_path)
    on_ranks(2, tmp_path / "two", _resume, config, tokenizer, texts, tmp_path, tmp_path / "two")
    through = load_file(tmp_path / "through.safetensors")
    for name in ("checkpoint", "rolling"):
        assert_close(load_file(tmp_path / "two" / f"{name}.safetensors"), through, WEIGHTS)


def test_exported_weights_of_ranks_load_in_transformers(saved_by_two: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs, ours = AutoModelForCausalLM.from_pretrained(saved_by_two / "model"), open_checkpoint(saved_by_two)[0]
    tokens = torch.arange(60).view(2, 30)
    torch.testing.assert_close(ours.logits(tokens), theirs(tokens).logits, rtol=0, atol=2e-5)


# --- studies --------------------------------------------------------------------------------------------------------

MINI = study(recipes=("sft_rl", "parallel"), pretrain=pretrained_to(768))


def ran(folder: Path, ranks: int) -> tuple[Store, str]:
    store, console = Store(folder, Machine(ranks=ranks)), quiet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", list)
        run_study(MINI, store, console)
    assert isinstance(console.file, io.StringIO)
    return store, console.file.getvalue()


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ran(tmp_path_factory.mktemp("by two"), 2)[0]


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return ran(tmp_path_factory.mktemp("by one"), 1)[0]


def close(ours: Store, theirs: Store) -> None:
    nodes = [n for n in expand(MINI).nodes if isinstance(n, TrainNode)]
    assert len(nodes) > 3
    for node in nodes:
        assert_close(*(load_file(node.folder(s) / "model" / "model.safetensors") for s in (ours, theirs)), WEIGHTS)


def test_a_study_on_two_ranks_is_that_of_one(by_one: Store, by_two: Store) -> None:
    close(by_two, by_one)
    for node in expand(MINI).nodes:
        assert node.done(by_two)
        if isinstance(node, TrainNode):
            steps = [row["step"] for row in read_jsonl(node.folder(by_two) / "metrics.jsonl")]
            assert steps == list(range(1, node.step + 1)), "one rank writes the log"
            assert not list(node.folder(by_two).glob("resume-*"))


def test_one_rank_goes_on_where_two_have_been(by_one: Store, by_two: Store, tmp_path: Path) -> None:
    """One rank goes on from the slices of a kept step's state."""
    store = Store(tmp_path)
    made = expand(study(recipes=(), pretrain=pretrained_to(768, 1536))).nodes
    target = max((n for n in made if isinstance(n, TrainNode)), key=lambda n: n.step)
    for node in made:
        if node.done(by_two):
            (tmp_path / "nodes").mkdir(exist_ok=True)
            node.folder(store).symlink_to(node.folder(by_two))
    starts: list[int] = []
    folder = store.open(target.kind, target.key, target.spec)
    target.run(folder, store, lambda **v: starts.append(v["start"]))
    assert target.after is not None and set(starts) == {target.after.step}


@pytest.mark.slow
def test_a_rank_killed_in_the_middle_of_a_step(by_two: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other ranks are stopped.

    The node starts again from the state that was saved in the background, and ends with the bits of an undisturbed run.
    """

    def die_once() -> None:
        if rank_and_ranks()[0] == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            die()

    monkeypatch.setattr(training, "run_stage", acting_at("rl", 3, die_once))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    store, said = ran(tmp_path / "store", 2)
    assert (tmp_path / "died").exists() and said.count("its worker died (killed") == 1
    assert weights(store) == weights(by_two)


def test_a_failure_on_any_rank_is_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        if rank_and_ranks()[0] == 1:
            raise ValueError("rank 1 has had enough")

    monkeypatch.setattr(training, "run_stage", acting_at("pretrain", 2, fail))
    with pytest.raises(ValueError, match=r"M_t at .*: rank 1 has had enough"):
        run_study(MINI, Store(tmp_path, Machine(ranks=2)), quiet())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            torch.OutOfMemoryError("2 GiB more"),
            r"M_t at [^:]*: the GPU's memory is full; .*2 GiB more",
        ),
        (EngineDied("its log ends: no room"), r"M_t at .*: 3 workers died of it \(its log ends: no room\)"),
    ],
)
def test_what_ends_a_rank_is_said_as_without_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def fail() -> None:
        if rank_and_ranks()[0] == 1:
            raise error

    monkeypatch.setattr(training, "run_stage", acting_at("pretrain", 2, fail))
    with pytest.raises(ValueError, match=f"^{words}"):
        run_study(MINI, Store(tmp_path, Machine(ranks=2)), quiet())
    assert "Traceback" not in capfd.readouterr().err


def test_a_slice_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that writes only slices fails in the background. The earlier state is intact."""

    def limit() -> None:
        if rank_and_ranks()[0] == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    monkeypatch.setattr(training, "run_stage", acting_at("pretrain", 3, limit))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    store = Store(tmp_path, Machine(ranks=2))
    said = r"cannot be saved: a slice cannot be written.*too large.*(that of step \d is intact|run again)"
    with pytest.raises(ValueError, match=said) as raised:
        run_study(MINI, store, quiet())
    monkeypatch.undo()
    starts: list[int] = []
    node = next(n for n in expand(MINI).nodes if isinstance(n, TrainNode))
    node.run(node.folder(store), Store(tmp_path), lambda **v: starts.append(v["start"]))
    assert starts[0] >= int("intact" in str(raised.value)), "one rank goes on from the slices of two"


def test_ranks_save_before_they_make_room(tmp_path: Path) -> None:
    def report(**values: Any) -> None:
        if values["done"] == 3:
            raise Preempted(signal.SIGTERM)

    store, nodes = Store(tmp_path, Machine(ranks=2)), expand(MINI).nodes
    for node in nodes[: next(i for i, n in enumerate(nodes) if isinstance(n, TrainNode)) + 1]:
        if not isinstance(node, TrainNode):
            run_node(node, store)
            continue
        with pytest.raises(Preempted):
            run_node(node, store, report)
        assert read_json(Resume(node.folder(store)).newest() / SEAL)["step"] in (3, 4, 5)


def alive(pid: str) -> bool:
    """Whether the process runs, and is not a zombie."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ranks_end_with_what_started_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()

    def die_with_worker() -> None:
        (pids / str(os.getpid())).touch()
        all_gather(None)
        if is_first():
            os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()

    monkeypatch.setattr(training, "run_stage", acting_at("pretrain", 2, die_with_worker))
    with pytest.raises(ValueError, match="workers died of it"):
        run_study(MINI, Store(tmp_path / "store", Machine(ranks=2)), quiet())
    started = [p.name for p in pids.iterdir()]
    assert len(started) == 6
    deadline = time.monotonic() + 10
    while any(map(alive, started)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_study_under_torchrun(by_one: Store, tmp_path: Path) -> None:
    file = tmp_path / "mini.py"
    file.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_ranks import MINI\n"
                    "import atexit, os\natexit.register(os.abort)  # as gloo's threads may, on Python's way out\n"
                    "def study():\n    return MINI\n")  # fmt: skip
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "foray", "run"]
    command = [sys.executable, *words, str(file), "--store", str(tmp_path / "store"), "--machine", "device=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1, "one rank speaks"
    assert [c.study for c in remembered(tmp_path / "store")] == [str(file)]
    close(Store(tmp_path / "store"), by_one)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="ranks must be positive, not 0"):
        machine(["ranks=0"])
    assert machine(["device=cpu", "ranks=4", "shard_over=node"]).ranks == 4
