"""Recipes that combine RL and SFT: settings of their own, rounds in one optimizer, and the stop rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from foray.core.override import override
from foray.core.schedules import Follow, Shift, Turns, rests, worked
from foray.core.stage import AdamW, AfterSFT, Joint, Plateau, PostTraining, Stage, Stream, Together
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.report import read_results
from foray.report.measurements import TrainingLog
from foray.report.spending import of_steps, since_start
from foray.study.graph import expand
from foray.study.kinds import training
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.spec import Dynamics, Study
from foray.study.store import Store
from foray.train import other_recipes, recipes
from foray.train.checked_draw import drawn
from foray.train.draw import Training
from foray.train.scoring import backward
from test_laws import ADAM, RL, SFT, assert_close, start, train
from test_study import compute, ends, log, pretrained_to, study

POST = PostTraining(RL, SFT, rl_steps=4, sft_steps=6)


def stage(recipe: str, post: PostTraining = POST) -> Stage:
    (only,) = getattr(recipes, recipe, getattr(other_recipes, recipe, None))(post)
    assert isinstance(only, Stage)
    return only


def plain_step(run: Training, adam: torch.optim.AdamW, stream: Stream, turn: int, clip: float) -> None:
    """One update of one optimizer on one stream's draw, as anybody would write it."""
    batch, _ = drawn(stream.source, stream, turn, run)
    run.model.zero_grad()
    backward(run.model, stream, batch)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), clip)
    adam.step()


def plain_adam(run: Training, spec: AdamW) -> torch.optim.AdamW:
    assert spec.schedule == "constant" and not spec.warmup and not spec.weight_decay
    # fused as in the loop: Adam magnifies the rounding of a gradient near eps
    return torch.optim.AdamW(run.model.parameters(), spec.lr, spec.betas, spec.eps, weight_decay=0.0, fused=True)


CONSTANT = AdamW(lr=1e-3, clip=0.5)


@pytest.mark.parametrize(
    ("recipe", "order"),
    [
        ("interleaved", ["sft", "sft", "sft", "rl"] * 2),
        ("curriculum", ["sft", "sft", "rl", "sft", "rl", "rl", "rl", "rl", "rl"]),
    ],
)
def test_rounds_in_one_optimizer_are_a_plain_loop(
    config: ModelConfig, tokenizer: TextTokenizer, recipe: str, order: list[str]
) -> None:
    steps = order.count("rl") if recipe == "interleaved" else 4
    rl, sft = (replace(s, name=s.name, optimizer=CONSTANT) for s in (RL, SFT))
    post = PostTraining(rl, sft, rl_steps=steps, sft_steps=6, turns=(3, 1), curriculum=(2, 1))
    made = stage(recipe, post)
    assert made.steps == len(order)
    found, logged = train(start(config, tokenizer), made)
    assert [next(s for s in ("rl", "sft") if f"{s}/loss" in m) for m in logged] == order
    run = start(config, tokenizer)
    adam, taken = plain_adam(run, CONSTANT), {"rl": 0, "sft": 0}
    for name in order:
        # The joint stream's members draw under names of their own.
        stream = replace(rl if name == "rl" else sft, name=f"{recipe}.{name}")
        plain_step(run, adam, stream, taken[name], CONSTANT.clip)
        taken[name] += 1
    assert_close(found, dict(run.model.state_dict()), 1e-6)


def test_parallel_with_a_batch_and_a_rate_of_its_own_is_two_optimizers_averaged(
    config: ModelConfig, tokenizer: TextTokenizer
) -> None:
    """Each optimizer starts at the same weights; the mean of what the two reach is the next start."""
    plain = AdamW(lr=2e-3, clip=0.5)
    rl = replace(RL, optimizer=plain)
    sft = replace(SFT, source=replace(SFT.source, batch_size=11), optimizer=replace(plain, lr=5e-4))
    post = replace(POST, together=Together(rl, sft, 3))
    found, _ = train(start(config, tokenizer), stage("parallel", post))
    run, sides = start(config, tokenizer), {"rl": start(config, tokenizer), "sft": start(config, tokenizer)}
    adams = {s.name: plain_adam(sides[s.name], s.optimizer) for s in (rl, sft)}
    for step in range(3):
        for stream in (rl, sft):
            sides[stream.name].model.load_state_dict(run.model.state_dict())
            plain_step(sides[stream.name], adams[stream.name], stream, step, 0.5)
        ends_ = [dict(sides[name].model.state_dict()) for name in ("rl", "sft")]
        run.model.load_state_dict({n: (ends_[0][n] + ends_[1][n]) / 2 for n in ends_[0]})
    assert_close(found, dict(run.model.state_dict()), 1e-6)


def test_parallel_has_the_rate_of_rl_for_both_unless_it_is_told_otherwise() -> None:
    def rates(post: PostTraining) -> list[float]:
        return [s.optimizer.lr for _, s in stage("parallel", post).streams]

    assert rates(POST) == [2e-3, 2e-3] and SFT.optimizer.lr == 3e-3
    assert rates(replace(POST, sft_ratio=0.1)) == [2e-3, pytest.approx(2e-4)]
    assert rates(override(POST, "rl.optimizer.lr=1e-3")) == [1e-3, 1e-3]
    post = override(POST, "together.sft.optimizer.lr=5e-4", "together.sft.source.batch_size=3", "together.steps=9")
    assert rates(post) == [2e-3, 5e-4] and stage("parallel", post).steps == 9 and POST.together is None
    with pytest.raises(ValueError, match="leave sft_ratio at 1"):
        override(post, "sft_ratio=2")
    with pytest.raises(ValueError, match=r"rl has 20, together.sft has 7"):
        override(POST, "together.sft.source.questions=7")


@pytest.mark.parametrize(("recipe", "steps"), [("sft_rl", [2, 3]), ("sft_gold_rl", [5, 3])])
def test_rl_after_sft_has_settings_of_its_own(recipe: str, steps: list[int]) -> None:
    other = replace(RL, optimizer=replace(ADAM, lr=0.5))
    first, second = getattr(recipes, recipe)(replace(POST, after_sft=AfterSFT(other, 3, 2, 5)))
    assert [first.steps, second.steps] == steps and second.streams[0][1].optimizer.lr == 0.5
    first, second = getattr(recipes, recipe)(POST)
    assert [first.steps, second.steps] == [6, 4] and second.streams == ((1.0, RL),)
    first, second = getattr(recipes, recipe)(override(POST, "after_sft.rl.lr=4e-5"))
    assert second.streams[0][1].optimizer.lr == 4e-5 and second.streams[0][1].source == RL.source


@pytest.mark.parametrize("recipe", ["parallel", "combined", "interleaved", "curriculum"])
def test_every_mixture_has_a_version_on_all_solutions(recipe: str) -> None:
    one, every = stage(recipe), stage(f"{recipe}_gold")
    changed = [replace(m, source=replace(m.source, solutions="all")) if m.name == "sft" else m for m in one.members()]
    assert list(every.members()) == changed != list(one.members())


def test_shifting_rounds_hand_over_update_by_update() -> None:
    rl, sft = Shift(3, 1, True), Shift(3, 1)
    order = "".join("s" if sft.at(i, 20, {}) else "r" for i in range(20))
    assert order == "sssr" + "ssrr" + "srrr" + "rrrr" + "rrrr"
    assert all(sft.at(i, 20, {}) + rl.at(i, 20, {}) == 1 for i in range(20))
    assert [worked((1.0, sft), i, 20) for i in (0, 3, 4, 12, 19)] == [0, 3, 3, 6, 6]


def test_turns_may_be_several_updates_long() -> None:
    turns = Turns(5, 1, length=3)
    assert [not rests(turns, i, 10) for i in range(10)] == [False, True, True, True, False] * 2
    for wrong in ({"length": 0}, {"length": 5}):
        with pytest.raises(ValueError, match="length must lie in"):
            Turns(5, 1, **wrong)


@dataclass(frozen=True)
class Later:
    """A schedule of the user's own: rests at first."""

    first: int = 3

    def at(self, step: int, steps: int, metrics: Mapping[str, float]) -> float:
        return float(step >= self.first)


def test_a_schedule_of_ones_own_counts_the_updates_at_which_it_works() -> None:
    own: Any = Later()
    assert [worked((1.0, own), i, 6) for i in range(6)] == [0, 0, 0, 0, 1, 2]
    assert [worked((0.5, Follow("x")), i, 6) for i in range(3)] == [0, 1, 2]


def test_a_joint_stream_rests_where_all_its_members_do(config: ModelConfig, tokenizer: TextTokenizer) -> None:
    joint = Joint("j", ((Turns(3, 0), RL), (Turns(3, 2), SFT)), ADAM)
    made = Stage("s", ((1.0, joint),), 3)
    assert [[(m.name, n) for _, m, n in made.draws(1.0, joint, i)] for i in range(3)] == [[("rl", 0)], [], [("sft", 0)]]
    assert [len(made.working(i)) for i in range(3)] == [1, 0, 1]
    _, logged = train(start(config, tokenizer), made)
    assert set(logged[1]) == {"seconds"}


# --- the stop rule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "over"),
    [
        ([], False),
        ([(1, 0.5)], False),
        ([(1, 0.1), (9, 0.1)], False),  # both are within ten updates
        ([(1, 0.1), (6, 0.1), (11, 0.1)], True),
        ([(1, 0.1), (6, 0.13), (11, 0.1)], False),
        ([(1, 0.1), (6, 0.13), (11, 0.1), (16, 0.14)], True),  # one point is not more than `rise`
        ([(1, 0.1), (6, 0.13), (11, 0.1), (16, 0.15)], False),
        ([(1, 0.1), (20, 0.2)], False),
        ([(1, 0.2), (20, 0.1)], True),
    ],
)
def test_training_ends_where_the_score_has_not_risen(scores: list[tuple[int, float]], over: bool) -> None:
    assert Plateau(updates=10, rise=0.01).over(scores) is over


def stopping(**changes: object) -> Study:
    """SFT that may take 12 updates, is validated at every second and ends where two have brought nothing."""
    made = study(recipes=("sft",), pretrain=pretrained_to(768))
    source = replace(made.post.sft.source, validation=4, validate_every=2, max_new_tokens=6)
    post = replace(made.post, sft=replace(made.post.sft, source=source), sft_steps=12, stop=Plateau(4, 0.0))
    return replace(made, post=post, **changes)


def scripted(monkeypatch: pytest.MonkeyPatch, values: Mapping[int, float]) -> None:
    """Training as it is, but that it logs these validation scores by update."""
    whole = training.run_stage

    def run_stage(stage, run, moments, start, until, after, folder=None):  # type: ignore[no-untyped-def]
        def after_step(done, metrics):  # type: ignore[no-untyped-def]
            told = {k: v for k, v in metrics.items() if k != "sft/validation"}
            return after(done, told | ({"sft/validation": values[done]} if done in values else {}))

        whole(stage, run, moments, start, until, after_step, folder)

    monkeypatch.setattr(training, "run_stage", run_stage)


SCORES = {1: 0.1, 3: 0.3, 5: 0.2, 7: 0.3, 9: 0.9, 11: 0.9}


def test_a_stage_stops_at_the_update_that_the_rule_names_and_the_results_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, SCORES)
    store, made = Store(tmp_path), stopping()
    compute(made, store)
    node = ends(made)[768, "sft", 0]
    assert [row["step"] for row in log(node, store)] == list(range(1, 8))
    results = read_results(report_study(made, store).parent.parent / "manifest.json")
    assert set(results.table[results.table.recipe == "sft"]["stopped"]) == {7}
    assert results.table[results.table.recipe == "base"]["stopped"].isna().all()
    spent = {place.step: cost for place, (cost, _) in since_start(results).items() if place.recipe == "sft"}
    assert spent[12] == of_steps(results.select(TrainingLog, recipe="sft")[0].metrics), "planned updates name it"


def test_kept_steps_behind_the_stop_are_the_end_and_a_resumed_stage_stops_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, SCORES)
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    compute(stopping(), whole)
    asked = stopping().evaluation
    made = stopping(evaluation=replace(asked, dynamics=Dynamics(768, recipes=("sft",), steps=(3, 9))))
    compute(made, parts)
    nodes = {n.step: n for n in expand(made).nodes if isinstance(n, TrainNode) and n.stage.name == "sft"}
    assert [len(log(nodes[step], parts)) for step in (3, 9, 12)] == [3, 7, 7]
    weights = [(n.folder(s) / "model" / "model.safetensors").read_bytes() for n, s in (
        (nodes[9], parts), (nodes[12], parts), (nodes[12], whole))]  # fmt: skip
    assert weights[0] == weights[1] == weights[2]


def test_a_stop_rule_needs_a_score_to_watch() -> None:
    with pytest.raises(ValueError, match=r"stage sft has a stop rule: set validation, a number of problems, in the"):
        override(study(recipes=("sft",)), "post.stop.updates=9")
    assert stage("parallel", replace(POST, stop=Plateau())).watched == "rl/validation"


def test_sft_is_validated_by_greedy_answers(tmp_path: Path) -> None:
    made, store = stopping(), Store(tmp_path)
    made = replace(made, post=replace(made.post, stop=None, sft_steps=5))
    compute(made, store)
    rows = log(ends(made)[768, "sft", 0], store)
    assert [row["step"] for row in rows if "sft/validation" in row] == [1, 3, 5]
    assert all(row["sft/validation"] * 4 % 1 == 0 for row in rows if "sft/validation" in row)
    # Looking on changes nothing: the weights are those of SFT without it.
    blind = replace(made.post.sft, source=replace(made.post.sft.source, validation=0))
    other, second = replace(made, post=replace(made.post, sft=blind)), Store(tmp_path / "other")
    compute(other, second)
    ends_ = [
        (ends(m)[768, "sft", 0].folder(s) / "model" / "model.safetensors") for m, s in ((made, store), (other, second))
    ]
    assert ends_[0].read_bytes() == ends_[1].read_bytes()
