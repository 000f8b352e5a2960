"""``foray plan --hardware`` against hand arithmetic and published figures, and its answers to changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from conftest import Sums
from foray.cli import main
from foray.core.machine import machine_settings
from foray.core.objectives import CrossEntropy
from foray.core.sources import Corpus
from foray.core.stage import Stage, Stream
from foray.core.task import Problem, Split
from foray.model.config import ModelConfig
from foray.studies import tiny
from foray.studies.paper_1b import MODEL
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.kinds.tokens import TokenizerNode
from foray.study.kinds.training import TrainNode
from foray.study.node import Node
from foray.study.price.cards import CARDS, START_SECONDS, parse_hardware, processors
from foray.study.price.forecast import Forecast, forecast
from foray.study.price.placement import (
    EVALUATION,
    PHASES,
    PREPARATION,
    PRETRAINING,
    Memory,
    _with_cache,
    cheapest,
    fewest_ranks,
    place,
)
from foray.study.price.work import Draw, lengths, node_work
from foray.study.spec import Part
from foray.study.without_files import QUESTION, SOLUTION, readers, without_files
from test_study import SumsText, study

Said = pytest.CaptureFixture[str]
TOKENIZER = TokenizerNode(((1.0, SumsText("sums")),), 280, 4000)
LARGE = replace(MODEL, width=8192, layers=80, heads=64, mlp_width=28_672)  # 70 billion parameters
ONE = parse_hardware("h100x1")


def pretraining(model: ModelConfig = MODEL, tokens: int = 50_000_000_000) -> TrainNode:
    corpus = Corpus(((1.0, SumsText("sums")),), batch_size=512, length=4096)
    steps = round(tokens / corpus.tokens_per_step)
    stage = Stage("pretrain", ((1.0, Stream("pretrain", corpus, CrossEntropy(), precision="bf16")),), steps)
    return TrainNode(model, TOKENIZER, stage, steps, 0)


def evaluation(**changes: Any) -> PassKNode:
    made = PassKNode(pretraining(), Sums(), "test", 33, 0, 32, 0.6, 512, 0, "bf16")
    return replace(made, **changes)


def gpu_hours(node: Node, where: str = "h100x1", ranks: int = 1) -> float:
    return ranks * place(node, parse_hardware(where), ranks).wall / 3600


def on(where: str, **changes: Any) -> Forecast:
    made = study(**changes)
    return forecast(expand(made).nodes, parse_hardware(where))


# --- cards ----------------------------------------------------------------------------------------------------------


def test_hardware_is_a_card_and_a_count() -> None:
    assert (parse_hardware("h100x8").card, parse_hardware("h100x8").count) == (CARDS["h100"], 8)
    assert parse_hardware("rtx4090x2").name == "rtx4090" and parse_hardware("MI300Xx64").count == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h10x8", "there is no card 'h10'; did you mean 'h100'?"),
        ("a1000x8", "did you mean 'a100'?"),
        ("h100", "say how many cards, such as h100x8"),
        ("mi300x", "say how many cards, such as mi300xx8"),
        ("h100x0", "say how many cards"),
        ("", "there is no card ''"),
    ],
)
def test_a_mistake_in_the_hardware_is_one_line(capsys: Said, text: str, message: str) -> None:
    assert main(["plan", "tiny", "--hardware", text]) == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("foray: ") and said.count("\n") == 1


def test_a_plan_and_a_list_need_no_data(capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "gsm8k_small", "--hardware", "h100x1"]) == 0
    said = capsys.readouterr()
    assert "gsm8k does not exist; benchmark lambada_openai: general has none" in said.out and not said.err
    assert f"at {QUESTION} tokens a question and {SOLUTION} a solution" in said.out
    assert "hours of wall time" in said.out and "RL from 3M, seed 0" in said.out
    (tmp_path / "runs" / "gsm8k_small").mkdir(parents=True)
    assert main(["ls", "gsm8k_small"]) == 0
    said = capsys.readouterr()
    assert said.out.count("base") == 2 and " rl " not in said.out, "the key of RL's node is not known"
    assert (
        "left out is what reads it, for content names folders; --set data.root=" in said.err
        and said.err.count("\n") == 1
    )
    assert main(["run", "gsm8k_small"]) == 1 and "say where the data lies" in capsys.readouterr().err


def test_absent_files_leave_the_rest_of_a_study_as_it_is() -> None:
    made = study()
    assert without_files(made) == (made.bound(), "") and not readers(expand(made).nodes)


# --- time -----------------------------------------------------------------------------------------------------------


def test_pretraining_agrees_with_hand_arithmetic_and_with_olmo_core() -> None:
    hours = gpu_hours(pretraining())
    parameters = MODEL.parameters - MODEL.vocab_size * MODEL.width  # input embeddings multiply nothing
    by_hand = 6 * parameters * 50e9 / (0.45 * 989e12) / 3600
    assert by_hand == pytest.approx(240, rel=0.01)
    assert by_hand < hours < 1.15 * by_hand, "attention comes on top"
    assert hours == pytest.approx(50e9 / 55_000 / 3600, rel=0.1), "OLMo-core: 55,000 tokens/s on one H100"


def test_more_ranks_cost_the_same_where_there_is_enough_to_do() -> None:
    assert gpu_hours(pretraining(), "h100x8", 8) == pytest.approx(gpu_hours(pretraining()), rel=0.01)


def test_decode_is_bound_by_bandwidth() -> None:
    """One prompt's samples: every token reads all weights, whatever the FLOPs."""
    one = evaluation(problems=1)
    weights = 2 * (MODEL.parameters - MODEL.vocab_size * MODEL.width)
    at_least = 512 * weights / (0.6 * 3.35e12)
    seconds = place(one, ONE, 1).wall - START_SECONDS
    assert at_least < seconds < 1.3 * at_least
    h200 = place(one, parse_hardware("h200x1"), 1).wall - START_SECONDS
    assert h200 == pytest.approx(seconds * 3.35 / 4.8, rel=0.02), "the H200 has the same FLOPs and more bandwidth"


def test_kv_is_read_and_grouped_queries_read_less_of_it() -> None:
    long = evaluation(problems=32, shots=8)
    few = replace(long, checkpoint=pretraining(replace(MODEL, kv_heads=2)))
    longer, shorter = place(long, ONE, 1), place(few, ONE, 1)
    assert shorter.memory.cache < longer.memory.cache / 7 and shorter.wall < longer.wall


def test_rows_together_share_the_reading_of_weights() -> None:
    """Twice as many rows take hardly longer while a batch has room, and twice as long when the batch is full."""
    few, twice, many, more = (
        place(evaluation(problems=p), ONE, 1).wall - START_SECONDS for p in (4, 8, 40_000, 80_000)
    )
    assert few < twice < 1.1 * few and 1.8 * many < more < 2 * many


# --- memory ---------------------------------------------------------------------------------------------------------


def test_the_state_is_16_bytes_a_parameter_over_the_ranks() -> None:
    for ranks in (1, 8):
        m = place(pretraining(), parse_hardware("h100x8"), ranks).memory
        assert m.weights + m.moments + m.gradients == 16 * MODEL.parameters / ranks
        assert m.engine == m.cache == m.reference == 0


def test_streams_side_by_side_have_moments_each_and_rl_an_engine() -> None:
    made = study(recipes=("rl", "parallel"))
    nodes = {n.stage.name: n for n in expand(made).nodes if isinstance(n, TrainNode)}
    rl, both = (place(nodes[s], ONE, 1).memory for s in ("rl", "parallel"))
    assert both.moments == 2 * rl.moments == 4 * both.weights and both.gradients == 2 * rl.gradients
    assert rl.engine == 0 and rl.cache > 0 and rl.reference == rl.weights, "it samples with the weights themselves"
    on_two = place(nodes["rl"], ONE, 2).memory
    assert on_two.engine == rl.weights == 2 * on_two.weights, "and with several ranks with a whole copy"


def test_a_node_that_does_not_fit_one_card_gets_ranks_or_is_named() -> None:
    node = pretraining()
    assert fewest_ranks(node, parse_hardware("h200x1")) == 1
    needed = fewest_ranks(node, ONE)
    assert needed is not None and needed > 1 and needed & (needed - 1) == 0
    assert not place(node, parse_hardware("h100x64"), needed // 2).fits
    assert cheapest(node, parse_hardware("h100x64")).ranks >= needed
    (enough,) = forecast([node], parse_hardware("h100x64")).notes
    assert enough == f"does not fit one card, needs {needed} ranks: pretrain"
    (few,) = forecast([node], ONE).notes
    assert f"needs {needed} ranks, more than there are cards" in few
    (never,) = forecast([pretraining(LARGE)], parse_hardware("h100x64")).notes
    assert "fits no card" in never and "recompute=true" in never


def test_settings_of_the_machine_trade_memory_for_time() -> None:
    plain, again, small = (
        place(pretraining(), parse_hardware("h100x1", machine_settings(list(s))), 1)
        for s in ((), ("recompute=true",), ("microbatch_tokens=4096",))
    )
    assert again.memory.activations < plain.memory.activations / 3
    assert again.wall == pytest.approx(4 / 3 * plain.wall, rel=0.01)
    assert small.memory.activations < plain.memory.activations / 2 and small.wall == pytest.approx(plain.wall, rel=0.01)


def test_the_kv_cache_takes_what_room_there_is() -> None:
    """Less memory means fewer rows at a time, and never more rows than an engine samples together."""
    wide = replace(evaluation(problems=64), checkpoint=pretraining(replace(MODEL, layers=48)))
    small, large = (place(wide, parse_hardware(f"{c}x1"), 1) for c in ("a100", "h200"))
    assert small.fits and large.fits
    assert small.memory.total <= 0.9 * 80e9 < large.memory.total <= 0.9 * 141e9


def test_the_fuller_of_two_streams_says_what_is_sampled_together() -> None:
    """In whatever order a stage has its streams."""
    model, card = MODEL, ONE.card
    long = Draw(64, 8, 2000.0, 0.0, 300.0, 1000, 4)
    short = replace(long, prompt=50.0, longest=50)
    alone = [_with_cache(Memory(), model, [draw], card, 1) for draw in (long, short)]
    assert 0 < alone[0][1] < alone[1][1]
    for draws in ([long, short], [short, long]):
        memory, together = _with_cache(Memory(), model, draws, card, 1)
        assert together == alone[0][1] and memory.cache == alone[0][0].cache


@dataclass(frozen=True)
class OnlyTest(Sums):
    """A task to evaluate on."""

    splits: tuple[str, ...] = ("test",)

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        return super().problems(split, count) if split in self.splits else []


def test_a_task_without_training_problems_has_a_price() -> None:
    assert lengths(OnlyTest(), 0) == pytest.approx(lengths(Sums(), 0), rel=0.2)
    assert lengths(OnlyTest(splits=()), 0) == (QUESTION, SOLUTION)
    assert node_work(evaluation(task=OnlyTest())).flops > 0


# --- a study --------------------------------------------------------------------------------------------------------


def test_levels_hold_every_node_behind_its_parents() -> None:
    made = study()
    nodes = expand(made).nodes
    planned = forecast(nodes, parse_hardware("h100x8"))
    level = {p.node.key: i for i, lv in enumerate(planned.levels) for p in lv.placed}
    for node in nodes:
        if node.kind != "contamination":  # nothing waits for it, and it needs no card
            assert all(level[p.key] < level[node.key] for p in node.parents())
    for lv in planned.levels:
        busy = sum(p.ranks * p.wall for p in lv.placed)
        assert max(p.wall for p in lv.placed) <= lv.wall and busy <= 8 * lv.wall * (1 + 1e-9)
        assert all(p.ranks <= 8 for p in lv.placed)


def test_more_cards_take_less_time_and_not_fewer_gpu_hours() -> None:
    one, eight = on("h100x1"), on("h100x8")
    assert eight.wall < one.wall / 3
    assert sum(map(eight.hours, PHASES)) >= sum(map(one.hours, PHASES)) * (1 - 1e-9)
    assert all(one.hours(phase) > 0 for phase in PHASES)


def test_a_part_with_another_vocabulary_has_its_own_price() -> None:
    main = study()
    large = replace(main, data=replace(main.data, vocab_size=2800))
    for name, grid in (("main", main), ("large", large)):
        nodes = expand(replace(main, parts=(Part("large", (large,)),)), name).nodes
        weights = 4.0 * grid.model.sized(grid.data.vocab_size).parameters
        assert [node_work(n).disk for n in nodes if isinstance(n, TrainNode) and n.tokens == 1536] == [weights]
        assert {place(n, ONE).memory.weights for n in nodes if isinstance(n, PassKNode)} == {weights}


def test_what_is_done_costs_nothing() -> None:
    made = study()
    left = [n for n in expand(made).nodes if n.kind == "passk"]
    planned = forecast(left, ONE)
    assert planned.hours(PRETRAINING) == 0 and planned.hours(EVALUATION) > 0 and len(planned.levels) == 1


TINY = len(expand(tiny.study()).nodes)


def test_the_plan_is_printed_with_its_assumptions(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["plan", "tiny", "--hardware", "h200x2", "--store", "no-such-store"]) == 0
    out = capsys.readouterr().out
    for words in (
        f"{TINY} nodes, {TINY} to run, on 2 x h200", "GPU hours", *PHASES, "level", "wall time", "GB a rank", "moments",
        "KV", "disk:", "45% of the peak (MFU)", "60% of the bandwidth", "machines have 8 cards",
    ):  # fmt: skip
        assert words in out, words


@pytest.mark.parametrize(
    ("name", "memory", "words"),
    [
        ("NVIDIA H100 80GB HBM3", 85.0e9, "2 x h100"),
        ("NVIDIA GeForce RTX 4090", 25.3e9, "2 x rtx4090"),
        ("NVIDIA A100-SXM4-40GB", 42.4e9, "computes on NVIDIA A100-SXM4-40GB of 42 GB"),
        ("NVIDIA GH200 480GB", 101.5e9, "no datasheet here: name the card to price with, such as --hardware h100x2"),
    ],
)
def test_a_machine_with_gpus_is_priced_by_their_datasheet(
    capsys: Said, monkeypatch: pytest.MonkeyPatch, name: str, memory: float, words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = import_module("foray.commands.plan")  # the package has a function of this name
    for module in (import_module("foray.core.machine"), import_module("foray.commands.options"), command):
        monkeypatch.setattr(module, "gpus", lambda: 2)
    monkeypatch.setattr(command, "card", lambda: (name, memory))
    monkeypatch.setattr(command, "measured_rate", None)
    known = " x " in words
    assert main(["plan", "tiny", "--store", "no-such-store"]) == (0 if known else 1)
    said = capsys.readouterr()
    assert words in (said.out if known else said.err)


def test_the_plan_for_this_machine_has_the_same_tables(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["plan", "tiny", "--store", "no-such-store", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    for words in (
        f"{TINY} nodes, {TINY} to run, on 2 workers of this machine", *PHASES, PREPARATION, "level", "wall time",
        "GB a rank", "moments", "process", "disk:", "GFLOP/s, measured now", "update 55%",
    ):  # fmt: skip
        assert words in out, words
    assert "GPU hours" not in out


def test_this_machine_is_a_card_whose_rate_is_measured() -> None:
    """Every node takes one worker, twice the rate takes half of the time of products, and more workers share it."""
    made = study()
    nodes = expand(made).nodes
    one, quick, two = (forecast(nodes, processors(*how)) for how in ((1e8, 1), (2e8, 1), (1e8, 2)))
    assert {p.ranks for p in one.placed} == {1} and one.beside == 0
    products = one.hours(PRETRAINING) - quick.hours(PRETRAINING)
    train = [p for p in quick.placed if PRETRAINING in p.seconds]
    assert quick.hours(PRETRAINING) - products == pytest.approx(0.3 * len(train) / 3600)
    assert one.wall / 2 <= two.wall < one.wall
