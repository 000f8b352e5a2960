"""A miniature study end to end: graph, store, executor, resuming. Every stage is a few steps of a very small model."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console

import recompute
from conftest import Sums, figures
from foray.cli import main
from foray.core.files import SEAL, read_jsonl, sealed_files
from foray.core.objectives import CrossEntropy, PolicyGradient, Scored
from foray.core.override import override
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Recipe, Stage, Stream
from foray.core.task import Problem, Split
from foray.data.text_source import TextSplit
from foray.model.config import ModelConfig
from foray.report import COLUMNS, csv_text, read_results
from foray.report.measurements import TrainingLog
from foray.rollout.engine import EngineDied
from foray.study.excursions import GraphEntry
from foray.study.executors import run_node as executor
from foray.study.executors.local import LocalExecutor
from foray.study.executors.run_node import run_node
from foray.study.garbage import ASIDE, find_garbage
from foray.study.graph import expand
from foray.study.kinds import training
from foray.study.kinds.measures import PassKNode
from foray.study.kinds.models import open_checkpoint
from foray.study.kinds.training import TrainNode
from foray.study.manifest import manifest_of, report_study
from foray.study.named_studies import load_study
from foray.study.node import Node
from foray.study.published import Release
from foray.study.run import run_study
from foray.study.spec import Data, Dynamics, Evaluation, Part, Pretrain, Published, Study
from foray.study.store import Store

SIX = ("rl", "sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel")


@dataclass(frozen=True)
class SumsText:
    """Additions, written in one of two ways."""

    name: str
    word: str = "make"

    def documents(self, split: TextSplit) -> Iterator[str]:
        for n in range(3000):
            a, b = n % 10, n // 10 % 10
            if (n % 7 == 0) == (split == "validation"):
                yield f"Q: {a} + {b} ?\nA: {a} and {b} {self.word} {a + b}" if n % 2 else f"{a} + {b} = {a + b}."


def study(**changes: Any) -> Study:
    task = Sums()
    mixture = ((0.75, SumsText("sums")), (0.25, SumsText("other", "are")))
    adam = AdamW(lr=5e-3, weight_decay=0.1, warmup=0.1, schedule="cosine")
    rollouts = Rollouts(task, 12, prompts=4, group_size=4, max_new_tokens=6, format_reward=0.5, updates_per_draw=2)
    made = Study(
        name="mini",
        model=ModelConfig(width=16, layers=1, heads=2, mlp_width=24, context=96, init_std=0.2),
        data=Data(vocab_size=280, tokenizer_characters=4000),
        pretrain=Pretrain(
            Stream("pretrain", Corpus(mixture, batch_size=4, length=32), CrossEntropy(1e-4), adam), 1536, (768, 1536)
        ),
        post=PostTraining(
            Stream("rl", rollouts, PolicyGradient(), replace(adam, lr=2e-3)),
            Stream("sft", Demonstrations(task, 12, batch_size=4), CrossEntropy(), adam),
            rl_steps=4,
            sft_steps=4,
        ),
        recipes=SIX,
        evaluation=Evaluation(
            task, problems=6, samples=4, k=(1, 4), max_new_tokens=8, base_shots=(2,), heldout_tokens=400
        ),
    )
    return replace(made, **changes)


def pretrained_to(*checkpoints: int) -> Pretrain:
    return replace(study().pretrain, checkpoints=checkpoints)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def compute(made: Study, store: Store) -> list[Node]:
    """Runs the missing nodes in this process, without a report. Returns the nodes that ran."""
    missing = [n for n in expand(made).nodes if not n.done(store)]
    for node in missing:
        run_node(node, store)
    return missing


def done_at(store: Store) -> dict[str, int]:
    """When each node was sealed, by folder."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (store.root / "nodes").glob(f"*/{SEAL}")}


def weights(store: Store) -> dict[str, bytes]:
    return {p.parent.parent.name: p.read_bytes() for p in (store.root / "nodes").glob("*/model/model.safetensors")}


def log(node: Node, store: Store) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in read_jsonl(node.folder(store) / "metrics.jsonl")]


def ends(made: Study) -> dict[tuple[int, str, int], TrainNode]:
    """The final checkpoint of every (tokens, recipe, seed)."""
    return {
        (e.tokens, e.recipe, e.seed): e.node for e in expand(made).entries if e.final and isinstance(e.node, TrainNode)
    }


def table_of(made: Study, store: Store) -> str:
    """results.csv, without the figures."""
    manifest = store.root / "manifest.json"
    manifest.write_text(json.dumps(manifest_of(made, expand(made))))
    return csv_text(read_results(manifest).rows()[list(COLUMNS)])


def copied(nodes: Iterable[Node], source: Store, target: Store) -> None:
    """Puts nodes that are done in one store into another."""
    for node in nodes:
        shutil.copytree(node.folder(source), node.folder(target))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, str]:
    """A store with the whole study (run by one worker), the printed text, and results.csv."""
    store, console = Store(tmp_path_factory.mktemp("finished")), quiet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", figures("f2_passk", "f6_parallel"))
        index = run_study(study(), store, console)
    assert isinstance(console.file, io.StringIO)
    return store, console.file.getvalue(), (index.parent / "results.csv").read_text()


# --- a whole run ----------------------------------------------------------------------------------------------------


def test_a_study_runs_to_its_report(finished: tuple[Store, str, str]) -> None:
    store, printed, table = finished
    assert (store.root / "report" / "index.html").exists()
    assert len(list((store.root / "report" / "figures").glob("*.png"))) == 2
    lines = table.splitlines()
    where = "study,pretrain_seed,tokens,recipe,trained_on,stage_step,seed,task,shots,extraction"
    first = f"{where},metric,value,lo,hi,n,stderr,final,chance,stopped,tokens_per_parameter"
    assert lines[0] == first
    rows = [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:]]
    assert {r["recipe"] for r in rows} == {"base", *SIX}
    assert {(r["tokens"], r["recipe"]) for r in rows if r["metric"] == "pass@4" and r["extraction"] == "strict"} == {
        (t, r) for t in ("768", "1536") for r in ("base", *SIX)
    }
    assert {r["shots"] for r in rows if r["recipe"] == "base" and r["metric"] == "pass@1"} == {"2"}
    for metric in ("perplexity", "bits_per_byte"):
        assert {r["task"] for r in rows if r["metric"] == metric} == {"sums", "other", "sums test"}
    assert {r["extraction"] for r in rows if r["metric"] == "pass@4"} == {"strict", "lenient", "flexible"}
    assert "0 done" in printed and "report" not in printed


def test_the_report_can_be_recomputed_from_the_raw_results(
    finished: tuple[Store, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recompute.main([str(finished[0].root)]) == 0
    assert "agree" in capsys.readouterr().out


def test_every_node_says_what_it_is_and_where_it_came_from(finished: tuple[Store, str, str]) -> None:
    store, _, _ = finished
    for node in expand(study()).nodes:
        folder = node.folder(store)
        assert json.loads((folder / "spec.json").read_text()) == json.loads(json.dumps(node.spec))
        assert "torch" in json.loads((folder / "provenance.json").read_text())["versions"]
        assert not list(folder.glob("resume-*")) and not list(folder.rglob("*.tmp"))
        listed = set(json.loads((folder / SEAL).read_text())["files"])
        assert listed == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {SEAL}


def test_rl_logs_every_step(finished: tuple[Store, str, str]) -> None:
    rows = log(ends(study())[1536, "parallel", 0], finished[0])
    assert [r["step"] for r in rows] == [1, 2, 3, 4]
    names = [
        "reward",
        "reward_variance",
        "format",
        "entropy",
        "length",
        "truncated",
        "signal",
        "clipped",
        "kl",
        "gradient_norm",
    ]
    assert {f"rl/{n}" for n in names} | {"sft/loss", "cosine/rl-sft"} <= set(rows[0])


def test_running_again_runs_nothing_and_changes_nothing(finished: tuple[Store, str, str]) -> None:
    store, _, table = finished
    before, console = done_at(store), quiet()
    report = {p: p.stat().st_mtime_ns for p in (store.root / "report").rglob("*")}
    index = run_study(study(), store, console)
    assert (index.parent / "results.csv").read_text() == table
    assert done_at(store) == before
    assert {p: p.stat().st_mtime_ns for p in (store.root / "report").rglob("*")} == report, "nothing is drawn again"
    assert isinstance(console.file, io.StringIO) and "0 to run" in console.file.getvalue()


def test_two_workers_give_what_one_gives(
    finished: tuple[Store, str, str], tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only()
    made, two = study(recipes=("sft_rl", "parallel")), Store(tmp_path)
    index = run_study(made, two, quiet(), LocalExecutor(2))
    one = weights(finished[0])
    assert len(weights(two)) == 8 and all(one[name] == data for name, data in weights(two).items())
    assert (index.parent / "results.csv").read_text() == table_of(made, finished[0])


def acting_at(stage: str, step: int, act: Callable[[], None]) -> Callable[..., None]:
    """The training loop, which calls ``act`` after the given step of a stage."""
    whole = training.run_stage

    def run_stage(running: Stage, run: Any, moments: Any, start: int, until: int, after: Any, folder: Path) -> None:
        def after_step(done: int, values: Any) -> None:
            after(done, values)
            if (running.name, done) == (stage, step):
                act()

        whole(running, run, moments, start, until, after_step, folder)

    return run_stage


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_node_of_a_worker_that_dies_is_taken_over(
    finished: tuple[Store, str, str], tmp_path: Path, draw_only: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only()

    def die_once() -> None:
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            die()

    monkeypatch.setattr(training, "run_stage", acting_at("rl", 3, die_once))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    store, console = Store(tmp_path / "store"), quiet()
    index = run_study(brief(), store, console, LocalExecutor(2))
    assert isinstance(console.file, io.StringIO)
    assert (tmp_path / "died").exists() and "its worker died (killed" in console.file.getvalue()
    assert all(weights(finished[0])[name] == data for name, data in weights(store).items())
    assert (index.parent / "results.csv").read_text() == table_of(brief(), finished[0])
    rows = [json.loads(row)["step"] for row in (ends(brief())[1536, "rl", 0].folder(store) / "metrics.jsonl").open()]
    assert rows == [1, 2, 3, 4], "no step is logged twice"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds its siblings in /proc")
def test_a_worker_that_dies_idle_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill_siblings() -> None:
        driver = os.getppid()
        for pid in Path(f"/proc/{driver}/task/{driver}/children").read_text().split():
            if int(pid) != os.getpid():
                os.kill(int(pid), signal.SIGKILL)

    monkeypatch.setattr(training, "run_stage", acting_at("pretrain", 2, kill_siblings))
    store = Store(tmp_path)
    run_study(brief(), store, quiet(), LocalExecutor(2))
    assert all(node.done(store) for node in expand(brief()).nodes)


def test_a_node_that_kills_its_workers_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "run_stage", acting_at("pretrain", 2, die))
    with pytest.raises(ValueError, match=r"M_t at .*: 3 workers died of it \(killed.*goes on from here"):
        run_study(brief(), Store(tmp_path), quiet(), LocalExecutor(2))


@dataclass(frozen=True)
class Sampler(Node):
    """A node whose engine ends. ``tries`` notes each time."""

    kind: ClassVar[str] = "sampler"
    tries: str

    def label(self) -> str:
        return "sampler"

    def run(self, folder: Path, store: Store, report: Any) -> None:
        with open(self.tries, "a") as f:
            f.write("tried\n")
        raise EngineDied("its log ends: no room")


def test_an_engine_that_ends_counts_once_and_says_why(tmp_path: Path) -> None:
    node, console = Sampler(str(tmp_path / "tries")), quiet()
    with pytest.raises(ValueError, match=r"sampler: 3 workers died of it \(its log ends: no room\)"):
        LocalExecutor(1).run([node], Store(tmp_path / "store"), console, {node.key: 1.0})
    assert Path(node.tries).read_text().count("tried") == 3
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count("its worker died (its log ends: no room)") == 2


def test_a_store_can_be_moved(finished: tuple[Store, str, str], tmp_path: Path) -> None:
    """Nothing in a store depends on the store's place."""
    moved = Store(tmp_path / "elsewhere")
    shutil.copytree(finished[0].root / "nodes", moved.root / "nodes")
    assert compute(study(), moved) == []
    assert table_of(study(), moved) == finished[2]


def test_a_report_of_an_unfinished_study_says_what_is_missing(
    finished: tuple[Store, str, str], tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    draw_only("f2_passk")
    store = Store(tmp_path)
    copied(expand(study()).nodes[:6], finished[0], store)
    page = report_study(study(), store).read_text()
    assert "not there (yet)" in page
    assert (tmp_path / "report" / "results.csv").exists()


def test_an_exported_checkpoint_loads_in_transformers(finished: tuple[Store, str, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ends(study())[1536, "sft_rl", 0].folder(finished[0])
    model, tokenizer = open_checkpoint(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder / "model")
    text = "Q: 3 + 4 ?\nA: 3 and 4 make 7 naïve 🙂"
    ids = AutoTokenizer.from_pretrained(folder / "model")(text, add_special_tokens=False)["input_ids"]
    assert ids == tokenizer.encode(text)
    tokens = torch.tensor([tokenizer.encode_prompt(text)])
    with torch.no_grad():
        torch.testing.assert_close(model.logits(tokens), theirs(tokens).logits, rtol=0, atol=1e-5)
    assert theirs.config.eos_token_id == tokenizer.end_id


# --- the graph ------------------------------------------------------------------------------------------------------


def test_sft_then_rl_starts_from_the_node_of_sft() -> None:
    found = ends(study())
    for tokens in (768, 1536):
        chained, alone = found[tokens, "sft_rl", 0], found[tokens, "sft", 0]
        assert chained.parent is not None and chained.parent.key == alone.key
        gold = found[tokens, "sft_gold_rl", 0].parent
        assert gold is not None and gold.key == found[tokens, "sft_gold", 0].key != alone.key
        assert alone.parent is not None and alone.parent.step * 128 == tokens


def test_parents_come_before_children_and_nothing_twice() -> None:
    seen: set[str] = set()
    for node in expand(replace(study(), seeds=(0, 1))).nodes:
        assert all(p.key in seen for p in node.parents()) and node.key not in seen
        seen.add(node.key)


@pytest.mark.parametrize(
    "settings",
    [
        ["pretrain.lr=1e-2"],
        ["pretrain.seeds=1"],
        ["model.width=32"],
        ["data.vocab_size=290"],
        ["pretrain.batch_size=2"],
        ["pretrain.z_loss=0.1"],
    ],
)
def test_a_changed_pretraining_shares_no_trained_node(settings: list[str]) -> None:
    untrained = ("tokenizer", "shard", "prompts", "demonstrations", "contamination")
    old = {n.key for n in expand(study()).nodes if n.kind not in untrained}
    new = {n.key for n in expand(override(study(), *settings)).nodes}
    assert not old & new


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (["post.rl.lr=1e-2"], {"rl", "sft_rl", "sft_gold_rl", "parallel"}),
        (["post.rl.kl=0.1"], {"rl", "sft_rl", "sft_gold_rl", "parallel"}),
        (["post.sft.lr=1e-2"], {"sft", "sft_gold", "sft_rl", "sft_gold_rl"}),  # parallel has RL's rate
        (["post.sft.clip=0.1"], {"sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel"}),
        (["post.sft_ratio=2"], {"parallel"}),
        (["post.together.sft.batch_size=3"], {"parallel"}),
        (["post.after_sft.rl.lr=1e-2"], {"sft_rl", "sft_gold_rl"}),
        (["post.weights=0.25,0.75"], {"parallel"}),
        (["post.sft_steps=3"], {"sft", "sft_gold", "sft_rl", "sft_gold_rl"}),
        (["seeds=1"], set(SIX)),
        (["evaluation.temperature=0.7"], set()),
    ],
)
def test_a_changed_setting_changes_exactly_the_nodes_it_is_part_of(settings: list[str], changed: set[str]) -> None:
    def by_recipe(made: Study) -> dict[str, set[str]]:
        out: dict[str, set[str]] = {}
        for (_, recipe, _), node in ends(made).items():
            out.setdefault(recipe, set()).add(node.key)
        return out

    old, new = by_recipe(study()), by_recipe(override(study(), *settings))
    assert {r for r in old if not old[r] & new[r]} == changed
    assert {r for r in old if old[r] == new[r]} == set(old) - changed


def test_a_changed_evaluation_is_a_new_node() -> None:
    def keys(*settings: str) -> set[str]:
        return {n.key for n in expand(override(study(), *settings)).nodes if isinstance(n, PassKNode)}

    for setting in ("temperature=0.7", "samples=8", "problems=7", "max_new_tokens=9", "seed=1", "split=validation"):
        assert not keys() & keys(f"evaluation.{setting}")
    assert keys() == keys("evaluation.k=1,2,4"), "k is computed from the samples that are there"


def test_the_key_does_not_depend_on_which_other_steps_are_kept() -> None:
    few, many = ends(study(pretrain=pretrained_to(1536))), ends(study(pretrain=pretrained_to(256, 768, 1536)))
    assert {k: v.key for k, v in few.items()}.items() <= {k: v.key for k, v in many.items()}.items()


def entries(made: Study, recipe: str) -> list[GraphEntry]:
    return [e for e in expand(made).entries if e.recipe == recipe and isinstance(e.node, PassKNode)]


def test_dynamics_are_checkpoints_inside_a_stage() -> None:
    watched = replace(study().evaluation, dynamics=Dynamics(1536, points=2))
    made = study(evaluation=watched)
    assert [(e.tokens, e.stage_step, e.final) for e in entries(made, "sft_rl")] == [
        (768, 8, True), (1536, 2, False), (1536, 4, False), (1536, 6, False), (1536, 8, True),
    ]  # fmt: skip
    assert [(e.tokens, e.stage_step) for e in entries(made, "parallel")] == [(768, 4), (1536, 4)]
    assert {k: v.key for k, v in ends(made).items()} == {k: v.key for k, v in ends(study()).items()}
    inside = [e for e in manifest_of(made, expand(made))["entries"] if e["kind"] == "passk" and not e["final"]]
    assert [(e["recipe"], e["stage_step"]) for e in inside] == [("rl", 2), ("sft_rl", 2), ("sft_rl", 4), ("sft_rl", 6)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Store]:
    """Every step of RL kept and evaluated."""
    evaluation = replace(study().evaluation, dynamics=Dynamics(1536, ("rl",), points=4))
    made = study(recipes=("rl",), pretrain=pretrained_to(1536), evaluation=evaluation)
    store = Store(tmp_path_factory.mktemp("watched"))
    compute(made, store)
    return made, store


def test_points_inside_a_stage_do_not_change_its_end(
    finished: tuple[Store, str, str], watched: tuple[Study, Store], draw_only: Callable[..., None]
) -> None:
    draw_only("f4_dynamics")
    made, store = watched
    node = ends(made)[1536, "rl", 0]
    assert weights(store)[node.folder(store).name] == weights(finished[0])[node.folder(store).name]
    page = report_study(made, store)
    assert "f4_dynamics" in page.read_text() and (page.parent / "figures" / "f4_dynamics.png").exists()


def test_the_log_of_a_watched_stage_is_whole(finished: tuple[Store, str, str], watched: tuple[Study, Store]) -> None:
    """Every kept step has the whole log, so a curve of rewards begins at the first update."""
    made, store = watched
    kept = [n for n in expand(made).nodes if isinstance(n, TrainNode) and n.stage.name == "rl"]
    whole = log(ends(made)[1536, "rl", 0], finished[0])
    assert [log(node, store) for node in kept] == [whole[:1], whole[:2], whole[:3], whole]
    table_of(made, store)
    runs = read_results(store.root / "manifest.json").select(TrainingLog, recipe="rl")
    assert sorted(step for r in runs for step in r.metrics["step"]) == [1, 2, 3, 4]


def test_crossed_settings_are_evaluated_as_well() -> None:
    made = study(evaluation=replace(study().evaluation, base_shots=(2, 0), trained_shots=(0, 2)))
    shots = [(e.node.shots, e.final) for e in entries(made, "rl") if isinstance(e.node, PassKNode) and e.tokens == 768]
    assert shots == [(0, True), (2, False)]


def test_overlap_with_training_text_is_measured_once_a_text(finished: tuple[Store, str, str]) -> None:
    def keys(made: Study) -> set[str]:
        return {n.key for n in expand(made).nodes if n.kind == "contamination"}

    (key,) = keys(study())
    assert keys(study(seeds=(0, 1))) == keys(override(study(), "pretrain.lr=1e-2", "pretrain.seeds=1,2")) == {key}
    assert keys(override(study(), "evaluation.contamination=8")).isdisjoint({key})
    assert keys(override(study(), "evaluation.contamination=0")) == set()
    lines = (finished[0].root / "report" / "contamination.csv").read_text().splitlines()
    pairs = {tuple(line.split(",")[4:6]) for line in lines[1:]}
    assert pairs >= {(s, f"{q} questions") for s in ("sums", "other") for q in ("test", "training")}
    assert ("training questions", "test questions") in pairs


# --- adding to a study ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(finished: tuple[Store, str, str], tmp_path: Path) -> tuple[Study, Store]:
    """A store with two recipes from one M_t and nothing else."""
    made, store = study(recipes=("sft", "sft_rl"), pretrain=pretrained_to(1536)), Store(tmp_path / "store")
    copied(expand(made).nodes, finished[0], store)
    return made, store


def added(old: Study, new: Study, store: Store) -> list[Node]:
    """Runs ``new``; asserts that nothing of ``old`` was touched and that all of it is still used."""
    before, contents = done_at(store), weights(store)
    run = compute(new, store)
    after = done_at(store)
    assert {k: after[k] for k in before} == before and {k: weights(store)[k] for k in contents} == contents
    assert len(after) == len(before) + len(run)
    assert {n.key for n in expand(old).nodes} <= {n.key for n in expand(new).nodes}
    return run


def trained(nodes: list[Node]) -> list[tuple[str, int, int]]:
    return [(n.stage.name, n.step, n.seed) for n in nodes if isinstance(n, TrainNode)]


def test_adding_a_seed_computes_only_that_seed(small: tuple[Study, Store]) -> None:
    made, store = small
    run = added(made, replace(made, seeds=(0, 1)), store)
    assert trained(run) == [("sft", 4, 1), ("rl", 4, 1)]
    # With pass@k, perplexity and the task's text each, and the length of the seed's demonstrations.
    assert len(run) == 2 * 4 + 1


def test_adding_a_recipe_computes_only_that_recipe(small: tuple[Study, Store]) -> None:
    made, store = small
    run = added(made, replace(made, recipes=("parallel", *made.recipes)), store)
    assert trained(run) == [("parallel", 4, 0)] and len(run) == 4


def test_an_m_t_in_between_is_what_it_would_have_been(
    small: tuple[Study, Store], finished: tuple[Store, str, str]
) -> None:
    made, store = small
    run = added(made, replace(made, pretrain=pretrained_to(768, 1536)), store)
    assert trained(run) == [("pretrain", 6, 0), ("sft", 4, 0), ("rl", 4, 0)]
    whole = weights(finished[0])
    assert all(whole[name] == data for name, data in weights(store).items())


def test_an_m_t_after_an_inserted_one_goes_on_from_it(small: tuple[Study, Store], tmp_path: Path) -> None:
    """An M_t between two others is computed from the earlier one, and equals the straight run bit for bit."""
    made, store = small
    early = replace(made, recipes=(), pretrain=pretrained_to(512, 1536))
    compute(early, store)
    (node,) = [n for n in expand(replace(early, pretrain=pretrained_to(512, 1024, 1536))).nodes
               if isinstance(n, TrainNode) and n.step == 8]  # fmt: skip
    starts: list[int] = []
    run_node(node, store, lambda **v: starts.append(v["start"]))
    assert set(starts) == {4}, "begun at the kept step before it"
    straight = Store(tmp_path / "straight")
    alone = replace(made, recipes=(), pretrain=pretrained_to(1024))
    compute(alone, straight)
    name = node.folder(store).name
    assert weights(store)[name] == weights(straight)[name]
    assert (node.folder(store) / "state" / "moments-pretrain.safetensors").read_bytes() == (
        node.folder(straight) / "state" / "moments-pretrain.safetensors"
    ).read_bytes()


def test_results_of_two_settings_never_mix(small: tuple[Study, Store]) -> None:
    """Both settings in one store; each report holds its own numbers, and going back finds the first unchanged."""
    made, store = small
    first = table_of(made, store)
    other = override(made, "post.sft.lr=0.05")
    run = compute(other, store)
    assert trained(run) == [("sft", 4, 0), ("rl", 4, 0)]
    assert table_of(other, store) != first
    assert table_of(made, store) == first


# --- interruptions --------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def kill_at(step: int) -> Any:
    def report(**values: Any) -> None:
        if values.get("done") == step:
            raise Killed

    return report


@pytest.mark.parametrize(("recipe", "steps"), [("pretrain", (1, 7, 11)), ("parallel", (2, 3)), ("sft_rl", (3,))])
def test_a_node_killed_in_the_middle_ends_the_same(
    finished: tuple[Store, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, steps: tuple[int]
) -> None:
    """The kill may come inside a draw that serves two updates, and again before the node has caught up."""
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    made, store = study(recipes=("sft_rl", "parallel"), pretrain=pretrained_to(1536)), Store(tmp_path)
    target = ends(made)[1536, "base" if recipe == "pretrain" else recipe, 0]
    for node in expand(made).nodes:
        if node.key == target.key:
            break
        run_node(node, store)
    for step in steps:
        with pytest.raises(Killed):
            run_node(target, store, kill_at(step))
        assert not target.done(store)
    starts: list[int] = []
    run_node(target, store, lambda **v: starts.append(v["start"]))
    assert set(starts) == {steps[-1] - 1}, "went on from the last rolling checkpoint"
    name = target.folder(store).name
    assert weights(store)[name] == weights(finished[0])[name]
    assert log(target, store) == log(target, finished[0])
    assert [r["step"] for r in log(target, store)] == list(range(1, target.step + 1))
    kept = target.folder(store) / "rollouts.jsonl"
    if recipe == "pretrain":
        assert not kept.exists()
        return
    assert kept.read_bytes() == (target.folder(finished[0]) / "rollouts.jsonl").read_bytes()
    rows = read_jsonl(kept)
    assert [(r["step"], len(r["samples"])) for r in rows] == [(1, 4), (1, 4)], "two groups of the first draw of eight"
    for row in rows:
        advantages, rewards = ([s[name] for s in row["samples"]] for name in ("advantage", "reward"))
        assert sum(advantages) == pytest.approx(0, abs=1e-3)
        assert advantages.index(max(advantages)) == rewards.index(max(rewards))
        assert {"question", "answer", "stream", "id"} <= row.keys()


def _ready(made: Study, source: Store, *without: Node) -> list[Node]:
    """The nodes of a study that are done in a store, but for some."""
    left_out = {node.key for node in without}
    return [n for n in expand(made).nodes if n.key not in left_out and n.done(source)]


def test_a_kill_while_the_seal_is_made_repeats_no_update(
    finished: tuple[Store, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    made, store = study(recipes=(), pretrain=pretrained_to(1536)), Store(tmp_path)
    target = ends(made)[1536, "base", 0]
    copied(_ready(made, finished[0], target), finished[0], store)
    with monkeypatch.context() as broken, pytest.raises(Killed):
        broken.setattr(executor, "seal", lambda folder, **facts: (_ for _ in ()).throw(Killed))
        run_node(target, store)
    starts: list[int] = []
    run_node(target, store, lambda **v: starts.append(v["start"]))
    assert set(starts) == {target.step - 1} and not list(target.folder(store).glob("resume-*"))
    assert weights(store)[target.folder(store).name] == weights(finished[0])[target.folder(store).name]
    assert not any(name.startswith("resume-") for name in sealed_files(target.folder(store)))


def test_training_goes_on_from_the_furthest_state_with_its_log(
    finished: tuple[Store, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node is killed early; then an earlier step of its stage is kept that lies beyond the kill."""
    made, store = study(recipes=()), Store(tmp_path)
    target = ends(made)[1536, "base", 0]
    earlier = target.after
    assert earlier is not None and earlier.step > 3
    copied(_ready(made, finished[0], target, earlier), finished[0], store)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    with pytest.raises(Killed):
        run_node(target, store, kill_at(3))
    copied([earlier], finished[0], store)
    starts: list[int] = []
    run_node(target, store, lambda **v: starts.append(v["start"]))
    assert set(starts) == {earlier.step}
    assert log(target, store) == log(target, finished[0])


def test_a_damaged_rolling_checkpoint_is_passed_over(
    finished: tuple[Store, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    made, store = study(recipes=(), pretrain=pretrained_to(1536)), Store(tmp_path)
    target = ends(made)[1536, "base", 0]
    for node in target.parents():
        for parent in (*node.parents(), node):
            if not parent.done(store):
                run_node(parent, store)
    with pytest.raises(Killed):
        run_node(target, store, kill_at(8))
    slots = {json.loads((s / SEAL).read_text())["step"]: s for s in target.folder(store).glob("resume-?")}
    assert set(slots) == {6, 7}
    flip(slots[7] / "state" / "moments-pretrain.safetensors")
    starts: list[int] = []
    run_node(target, store, lambda **v: starts.append(v["start"]))
    assert set(starts) == {6}
    assert weights(store)[target.folder(store).name] == weights(finished[0])[target.folder(store).name]


def test_a_full_disk_leaves_the_previous_checkpoint_and_says_so(
    finished: tuple[Store, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From step 3 on, no file larger than a limit can be written, as on a full disk."""
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    store, target = Store(tmp_path), ends(brief())[1536, "base", 0]
    for parent in target.parents():
        if not parent.done(store):
            for node in _before(parent, store):
                run_node(node, store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:

        def fill(**values: Any) -> None:
            if values["done"] == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

        with pytest.raises(OSError, match=r"checkpoint of step 3 cannot be saved.*that of step 2 is intact"):
            run_node(target, store, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    starts: list[int] = []
    run_node(target, store, lambda **v: starts.append(v["start"]))
    assert set(starts) == {2}
    assert weights(store)[target.folder(store).name] == weights(finished[0])[target.folder(store).name]


def _before(node: Node, store: Store) -> list[Node]:
    """The node and the nodes that it needs, in order, unless they are done."""
    needed = [n for parent in node.parents() for n in _before(parent, store)]
    return [*dict.fromkeys(needed), *([] if node.done(store) else [node])]


def brief() -> Study:
    return study(recipes=("sft", "rl"), pretrain=pretrained_to(1536))


@contextlib.contextmanager
def stuck_in(stage: str, step: int, root: Path) -> Iterator[tuple[Process, int]]:
    """``foray run`` of ``brief()`` with two workers, when one has stopped for ever after a step of the stage.

    The command has a session of its own, which ends with the context. The pipe reads empty once the whole session has
    ended.
    """
    root.mkdir(exist_ok=True)
    file = root / "own_study.py"
    file.write_text("from test_study import Study, brief\ndef study() -> Study:\n    return brief()\n")
    said, tell = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=run_and_stick, args=(stage, step, file, tell))
    process.start()
    os.close(tell)
    try:
        assert os.read(said, 1), f"{stage} never got to step {step}: {(root / 'said').read_text()}"
        yield process, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
        os.close(said)


def run_and_stick(stage: str, step: int, file: Path, tell: int) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background
    sys.stdout = sys.stderr = open(file.with_name("said"), "w", buffering=1)  # noqa: SIM115
    sys.path.insert(0, str(Path(__file__).parent))
    training.SAVE_SECONDS = 0.0

    def stick() -> None:
        os.write(tell, b".")
        time.sleep(3600)

    training.run_stage = acting_at(stage, step, stick)
    sys.exit(main(["run", str(file), "--store", str(file.parent / "store"), "--jobs", "2"]))


def test_a_run_that_is_killed_and_typed_again_ends_the_same(finished: tuple[Store, str, str], tmp_path: Path) -> None:
    with stuck_in("rl", 3, tmp_path):
        pass
    store = Store(tmp_path / "store")
    assert ends(brief())[1536, "rl", 0] in compute(brief(), store)
    assert len(weights(store)) == 3
    assert all(weights(finished[0])[name] == data for name, data in weights(store).items())
    assert table_of(brief(), store) == table_of(brief(), finished[0])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends after its step")
def test_workers_end_with_their_driver(tmp_path: Path) -> None:
    """A driver that is killed (out of memory, kill -9) must not leave workers that hold the store for ever."""
    with stuck_in("pretrain", 2, tmp_path) as (driver, said):
        driver.kill()
        ended, _, _ = select.select([said], [], [], 60)
        assert ended and os.read(said, 1) == b"", "a worker outlived its driver"
        # A dying worker's files are closed one after another: the lock may go a moment after the pipe.
        for _ in range(100):
            try:
                with Store(tmp_path / "store").lock():
                    return
            except ValueError:
                time.sleep(0.05)
        raise AssertionError("the store is still held")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_at_once_and_says_so(tmp_path: Path, how: signal.Signals) -> None:
    with stuck_in("pretrain", 2, tmp_path) as (driver, _):
        if how == signal.SIGINT:
            os.killpg(driver.pid, how)  # what Ctrl-C does
        else:
            os.kill(driver.pid, how)
        driver.join(5)
        assert driver.exitcode == 130
        with Store(tmp_path / "store").lock():
            pass
    said = (tmp_path / "said").read_text()
    assert said.endswith("foray: interrupted; the same command goes on from here\n") and "Traceback" not in said


def test_a_half_written_node_is_computed_again(small: tuple[Study, Store]) -> None:
    made, store = small
    before = weights(store)
    node = ends(made)[1536, "sft", 0]
    folder = node.folder(store)
    (folder / SEAL).unlink()
    (folder / "model" / "model.safetensors").write_bytes(b"half")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert [n.key for n in compute(made, store)] == [node.key]
    assert weights(store) == before
    assert [r["step"] for r in log(node, store)] == [1, 2, 3, 4]


def test_two_runners_on_one_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock(), pytest.raises(ValueError, match="another foray is running on the store") as error:
        run_study(study(), store, quiet())
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    with store.lock():
        pass


# --- damage ---------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(bytes(data))


def damaged(path: Path, how: str) -> None:
    flip(path) if how == "flipped" else path.unlink()


@pytest.mark.parametrize("how", ["flipped", "missing"])
@pytest.mark.parametrize("file", ["model/model.safetensors", "model/config.json", "model/tokenizer.json"])
def test_a_damaged_checkpoint_is_named_and_not_used(small: tuple[Study, Store], how: str, file: str) -> None:
    made, store = small
    folder = ends(made)[1536, "base", 0].folder(store)
    damaged(folder / file, how)
    new = ends(replace(made, recipes=("parallel",)))[1536, "parallel", 0]
    with pytest.raises(ValueError, match=r"the same command makes it anew") as error:
        run_node(new, store)
    assert str(folder / file) in str(error.value) and "\n" not in str(error.value)
    assert not new.done(store) and not folder.exists()


@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_damaged_training_state_is_named_and_not_used(small: tuple[Study, Store], how: str) -> None:
    made, store = small
    compute(replace(made, recipes=(), pretrain=pretrained_to(512, 1536)), store)
    early = ends(replace(made, pretrain=pretrained_to(512, 1536)))[512, "base", 0].folder(store)
    damaged(early / "state" / "moments-pretrain.safetensors", how)
    late = ends(replace(made, pretrain=pretrained_to(512, 1024, 1536)))[1024, "base", 0]
    with pytest.raises(ValueError, match=r"moments-pretrain\.safetensors is (damaged|missing)"):
        run_node(late, store)


@pytest.mark.parametrize("kind", ["shard", "tokenizer"])
def test_damaged_data_is_named(tmp_path: Path, kind: str) -> None:
    made, store = study(recipes=(), pretrain=pretrained_to(1536)), Store(tmp_path)
    nodes = expand(made).nodes
    target = ends(made)[1536, "base", 0]
    for node in nodes:
        if node.kind in ("shard", "tokenizer"):
            run_node(node, store)
    file = next(n for n in target.parents() if n.kind == kind).folder(store)
    file = file / ("tokens.bin" if kind == "shard" else "tokenizer.json")
    flip(file)
    with pytest.raises(ValueError, match="damaged") as error:
        run_node(target, store)
    assert str(file) in str(error.value)


def test_a_damaged_result_is_named_and_not_reported(small: tuple[Study, Store]) -> None:
    made, store = small
    entry = next(e for e in expand(made).entries if isinstance(e.node, PassKNode) and e.recipe == "base")
    before = table_of(made, store)
    flip(entry.node.folder(store) / "problems.jsonl")
    table_of(made, store)
    results = read_results(store.root / "manifest.json")
    assert any("problems.jsonl is damaged" in reason for _, reason in results.missing)
    assert len(results.table) < before.count("\n") - 1


def test_damaged_results_are_made_anew(small: tuple[Study, Store], capsys: pytest.CaptureFixture[str]) -> None:
    made, store = small
    before = table_of(made, store)
    nodes = {n.kind: n.folder(store) for n in expand(made).nodes if n.done(store)}
    (nodes["passk"] / "problems.jsonl").unlink()
    (nodes["perplexity"] / SEAL).write_text("")
    flip(nodes["train"] / "metrics.jsonl")
    said = io.StringIO()
    run_study(made, store, Console(file=said, width=10_000))
    assert "3 to run" in said.getvalue() and said.getvalue().count("is damaged") == 2
    assert f"{nodes['passk'] / 'problems.jsonl'} is missing; its folder is now" in said.getvalue()
    assert table_of(made, store) == before


def test_prompts_that_do_not_fit_stop_a_study_before_it_trains(tmp_path: Path) -> None:
    made, store = study(), Store(tmp_path)
    made = replace(made, evaluation=replace(made.evaluation, base_shots=(12,)))
    with pytest.raises(ValueError, match="context of 96: use fewer shots") as error:
        run_study(made, store, quiet())
    assert "\n" not in str(error.value)
    assert not list((store.root / "nodes").glob("train-*"))


class _Wordy(Sums):
    """A task with one very long solution, which is not the first of its question."""

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        first, *others = super().problems(split, count)
        return [replace(first, solutions=(*first.solutions, "1 and" * 90)), *others]


@pytest.mark.parametrize("where", ["main", "part", "published"])
def test_demonstrations_that_do_not_fit_stop_a_study_before_it_trains(
    finished: tuple[Store, str, str], tmp_path: Path, where: str
) -> None:
    """This holds for every part of the study."""
    made, store, task = study(recipes=("rl",)), Store(tmp_path), _Wordy()
    rl, sft = (replace(s, source=replace(s.source, task=task)) for s in (made.post.rl, made.post.sft))
    gold = replace(made, post=replace(made.post, rl=rl, sft=sft), recipes=("sft", "sft_gold"))
    if where == "published":
        folder = ends(study())[1536, "base", 0].folder(finished[0]) / "model"
        gold = replace(gold, model=Release(str(folder)).shape(), pretrain=Published(((str(folder), "", 1536),)))
    whole = replace(made, parts=(Part("gold", (gold,)),)) if where == "part" else gold
    with pytest.raises(ValueError, match=r"problem train-0\+0 and its solution are 190 tokens.*context=190") as error:
        run_study(whole, store, quiet())
    assert "\n" not in str(error.value) and "with all solutions: problem" in str(error.value)
    assert not list((store.root / "nodes").glob("train-*"))
    (fits,) = (n for n in expand(replace(gold, recipes=("sft",))).nodes if n.kind == "demonstrations")
    assert run_node(fits, store).exists()


def test_the_command_names_a_damaged_checkpoint(small: tuple[Study, Store]) -> None:
    """The node's own message comes through the workers in one line."""
    made, store = small
    file = ends(made)[1536, "base", 0].folder(store) / "model" / "model.safetensors"
    flip(file)
    with pytest.raises(ValueError, match="is damaged") as error:
        run_study(replace(made, recipes=("rl",)), store, quiet())
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["checkpoint", "shard"])
def test_a_study_run_again_after_damage_ends_as_if_nothing_had_been(small: tuple[Study, Store], kind: str) -> None:
    """The first run finds a file cut short and sets its node aside; the second makes it anew."""
    made, store = small
    more = replace(made, recipes=("rl", "sft"))
    base = ends(made)[1536, "base", 0]
    node = base if kind == "checkpoint" else next(n for n in base.parents() if n.kind == "shard")
    before, file = weights(store), node.folder(store) / ("tokens.bin" if kind == "shard" else "model/model.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    if kind == "shard":  # read by nothing that is still to be run: pre-training has to be
        shutil.rmtree(base.folder(store))
    with pytest.raises(ValueError, match=r"is damaged .* the same command makes it anew"):
        run_study(more, store, quiet())
    run_study(more, store, quiet())
    after = weights(store)
    assert file.read_bytes() == whole and all(after[name] == data for name, data in before.items())
    aside = [i.path.name for i in find_garbage([more], store).items if i.why == ASIDE]
    assert aside == [node.folder(store).name + ".damaged"]


# --- a number that is not finite ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(CrossEntropy):
    def __call__(self, s: Scored) -> torch.Tensor:
        return super().__call__(s) * float("nan")


def test_a_non_finite_loss_stops_its_node_in_one_line(small: tuple[Study, Store]) -> None:
    made, store = small
    before = done_at(store)
    bad = replace(made, recipes=("sft",), post=replace(made.post, sft=replace(made.post.sft, objective=Broken())))
    node = ends(bad)[1536, "sft", 0]
    with pytest.raises(ValueError, match="the loss of stream 'sft' is not finite") as error:
        run_study(bad, store, quiet())
    assert "\n" not in str(error.value) and node.label() in str(error.value)
    assert (node.folder(store) / "stopped_batch.safetensors").exists()
    assert not node.done(store) and done_at(store) == before


# --- what a study may be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["evaluation.k=1,8"], r"pass@8 needs at least 8 samples a problem, not 4"),
        (["evaluation.samples=2"], r"pass@4 needs at least 4 samples a problem, not 2"),
        (["data.vocab_size=200"], "vocab_size must be at least 257"),
        (["model.vocab_size=100"], "vocab_size"),
        (["post.weights=-1,1"], "weight.*>= 0"),
        (["post.weights=Infinity,1"], "expected 2 numbers separated by commas"),
        (["pretrain.mixture.0.0=-0.5"], "weight of sums must be finite and >= 0"),
        (["pretrain.mixture.0.0=0", "pretrain.mixture.1.0=0"], "all zero"),
        (["evaluation.max_new_tokens=96"], "context"),
        (["evaluation.base_shots=8"], "context"),
        (["post.rl.max_new_tokens=96"], "context"),
        (["recipes=sft_glod"], "did you mean 'sft_gold'"),
        (["evaluation.problems=50"], "33 test problems; 50 were asked for"),
        (["post.rl.questions=40", "post.sft.questions=40"], "34 training questions; 40 were asked for"),
        (["seeds="], "seeds"),
    ],
)
def test_impossible_studies_say_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    """The message is one line, whether the spec shows the mistake or only the run."""
    file = tmp_path / "mini.py"
    file.write_text(
        "from test_study import Study, pretrained_to, study as mini\n"
        "def study() -> Study:\n    return mini(recipes=('rl', 'parallel'), pretrain=pretrained_to(768))\n"
    )
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(ValueError, match=message) as error:
        made = load_study(str(file), settings)
        compute(made, Store(tmp_path / "store"))
    assert "\n" not in str(error.value)


def test_dynamics_that_watch_nothing_are_refused() -> None:
    """A typing slip in ``dynamics`` must not silently give a report without its figure."""
    for slip in (Dynamics(1000), Dynamics(1536, recipes=("sftrl",))):
        with pytest.raises(ValueError, match="dynamics"):
            expand(study(evaluation=replace(study().evaluation, dynamics=slip)))
    with pytest.raises(ValueError, match=r"dynamics\.points must lie between"):
        Dynamics(1536, points=0)


def test_two_checkpoints_of_one_step_are_refused() -> None:
    """Two M_t that round to the same update would be one model under two names."""
    with pytest.raises(ValueError, match="checkpoints"):
        expand(study(pretrain=pretrained_to(768, 770)))


def test_a_user_recipe_is_a_function() -> None:
    made = study(recipes=(careful,))
    assert {k[1] for k in ends(made)} == {"base", "careful"}
    assert ends(made)[768, "careful", 0].stage.steps == 2


def careful(post: PostTraining) -> Recipe:
    """Half the SFT."""
    return (Stage("careful", ((1.0, post.sft),), post.sft_steps // 2),)


def test_a_study_binds_its_data_root_everywhere(tmp_path: Path) -> None:
    from foray.data.text import JsonlText
    from foray.tasks.gsm8k import GSM8K

    made = override(study(), f"data.root={tmp_path}")
    own = JsonlText("own", "x.jsonl", root="/own")
    source = replace(made.pretrain.stream.source, mixture=((1.0, JsonlText("x", "x.jsonl")), (1.0, own)))
    pretrain = replace(made.pretrain, stream=replace(made.pretrain.stream, source=source))
    made = replace(made, pretrain=pretrain, evaluation=replace(made.evaluation, task=GSM8K())).bound()
    assert [s.root for _, s in made.pretrain.corpus.mixture] == [str(tmp_path), "/own"]
    assert made.evaluation.task.root == str(tmp_path)
