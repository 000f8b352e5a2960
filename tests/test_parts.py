"""Studies of several parts: what they share, variants of recipes, merged weights, screened questions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from foray.cli import main
from foray.core.override import override
from foray.core.sources import Corpus, Rollouts, Screen
from foray.core.stage import PostTraining, Recipe, Stage, Stream
from foray.core.task import Extraction
from foray.core.userfile import bundled
from foray.model.hf import load_model
from foray.report import read_results
from foray.report.measurements import PassK
from foray.report.results import ANY
from foray.report.sections.controls import rows as control_rows
from foray.report.trials import choice, trials
from foray.studies import tiny
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.kinds.measures import PassKNode
from foray.study.kinds.models import MergeNode
from foray.study.kinds.training import TrainNode
from foray.study.manifest import manifest_of, report_study
from foray.study.named_studies import load_study
from foray.study.setting_tables import setting_tables
from foray.study.spec import Dynamics, Part, Study, Variant
from foray.study.store import Store
from foray.train import other_recipes
from foray.train.draw import Training
from foray.train.rollouts import _screened_questions
from foray.train.supervised import training_questions
from test_study import SumsText, compute, ends, log, pretrained_to, study, table_of


def keys(made: Study, part: str | None = None) -> set[str]:
    return {n.key for n in expand(made, part).nodes}


def parted(**changes: Any) -> Study:
    """RL in the main grid; SFT, rate trials and another mix in parts."""
    main = study(recipes=("rl",), pretrain=replace(pretrained_to(1536), seeds=(0, 1)), **changes)
    rates = tuple(Variant("rl", (f"rl.optimizer.lr={lr}",)) for lr in (0.002, 0.004))
    asked = replace(main.evaluation, split="validation")
    trial = replace(main, pretrain=pretrained_to(1536), recipes=rates, evaluation=asked)
    corpus = replace(main.pretrain.stream.source, mixture=((1.0, SumsText("sums")),))
    rich = replace(main.pretrain, stream=replace(main.pretrain.stream, source=corpus), mix="sums only")
    return replace(
        main,
        parts=(
            Part("more", (replace(main, recipes=("sft",)),)),
            Part("tuning", (trial,)),
            Part("mixes", (replace(main, pretrain=rich),)),
        ),
    )


def test_a_setting_of_a_variant_that_another_hides_is_named() -> None:
    """`tiny` runs RL after SFT without the KL term, by a variant: a rate of its own there would bring the term back."""
    for setting, words in {
        "post.after_sft.rl.lr=4e-5": "recipe sft_rl: post.after_sft has settings of its own and hides rl.kl=0.0: "
        "write after_sft.rl.kl=0.0 in the variant, or leave post.after_sft out",
        "post.together.sft.lr=1e-4": "recipe parallel: post.together .* hides rl.kl=0.0: write together.rl.kl=0.0 in",
    }.items():
        with pytest.raises(ValueError, match=words):
            override(tiny.study(), setting).check_whole()
    own = Variant("sft_rl", ("after_sft.rl.lr=4e-5", "after_sft.rl.kl=0.0"), "")
    replace(tiny.study(), recipes=("rl", own)).check_whole()


def test_parts_share_what_is_equal_and_run_by_themselves() -> None:
    made = parted()
    assert keys(made, "main") | keys(made, "more") | keys(made, "tuning") | keys(made, "mixes") == keys(made)
    shared = keys(made, "main") & keys(made, "more")
    assert shared and keys(made, "main") == keys(replace(made, parts=()))
    with pytest.raises(ValueError, match="has no part 'tunning'; did you mean 'tuning'"):
        expand(made, "tunning")
    with pytest.raises(ValueError, match="two parts share a name: main, main"):
        replace(made, parts=(Part("main", (made,)),))


def test_settings_hold_in_every_part(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import replace\nfrom foray.studies import smoke\nfrom foray.study.spec import Part\n"
        "study = smoke.study\n"
        "def parts(main):\n    return (Part('last', (replace(main, excursions=main.pretrain.checkpoints[-1:]),)),)\n"
    )
    made = load_study(str(file), ["post.rl_steps=2", "pretrain.checkpoints=30000,60000", "dynamics.tokens=60000"])
    assert {grid.post.rl_steps for _, grid in made.grids()} == {2}
    assert made.grids("last")[0][1].starts == (60000,)


def test_what_the_manifest_says_of_parts() -> None:
    made = parted()
    entries = manifest_of(made, expand(made))["entries"]
    of = {part: [e for e in entries if e["part"] == part] for part in ("main", "more", "tuning", "mixes")}
    assert {e["pretrain_seed"] for e in of["main"]} == {0, 1} and {e.get("trained_on", "") for e in of["main"]} == {
        "",
        "sums",
    }
    assert all("variant" not in e and "split" not in e for e in of["main"])
    trained = [e for e in of["tuning"] if e["recipe"] == "rl"]
    assert {(e["variant"], e["own"]) for e in trained} == {
        ("rl.optimizer.lr=0.002", True),
        ("rl.optimizer.lr=0.004", False),
    }
    assert {e["split"] for e in of["tuning"]} == {"validation"} and {e["mix"] for e in of["mixes"]} == {"sums only"}
    asked = [e for e in of["main"] if e["kind"] == "passk" and e["recipe"] == "rl"]
    assert {(e["rollouts"], e["examples"]) for e in asked} == {(4, 8)}  # two updates a draw of four prompts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Store]:
    made, store = parted(), Store(tmp_path_factory.mktemp("parts"))
    compute(made, store)
    return made, store


def test_the_report_keeps_what_is_beside_the_main_grid_apart(finished: tuple[Study, Store]) -> None:
    made, store = finished
    table_of(made, store)
    results = read_results(store.root / "manifest.json")
    assert not results.missing and results.recipes() == ["base", "rl", "sft"]
    assert {e.mix for e in results.select(PassK)} == {""} and results.rows()["pretrain_seed"].nunique() == 2
    found = trials(results)["rl"]
    assert [t.settings for t in found] == ["rl.optimizer.lr=0.002", "rl.optimizer.lr=0.004"]
    assert [t.used for t in found] == [True, False] and choice(found).chosen.score == max(t.score for t in found)
    assert set(found[0].passk) == {1, 4}


def test_steps_that_are_named_are_all_that_a_stage_is_asked_at() -> None:
    assert Dynamics(1536, steps=(2, 4)).steps_of(3) == [2, 3] and Dynamics(1536, steps=(5,)).steps_of(3) == [3]
    assert Dynamics(1536, points=3).steps_of(6) == [2, 4, 6]


def test_the_settings_are_tabulated() -> None:
    made = parted()
    rows = setting_tables(made)["study"]
    values = {(r["part"], r["key"]): r["value"] for r in rows}
    assert list(dict.fromkeys(r["part"] for r in rows)) == ["main", "more", "tuning", "mixes"]
    assert values["main", "evaluation.split"] == "test" and values["tuning", "evaluation.split"] == "validation"
    assert ("main", "pretrain.mix") in values and values["mixes", "pretrain.mix"] == "sums only"
    assert {key for part, key in values if part == "more"} == {"recipes"}, "what differs and nothing else"


def test_every_tabulated_setting_is_one_that_set_takes() -> None:
    main = load_study("tiny")
    rows = {r["key"]: r["value"] for r in setting_tables(main)["study"]}
    plain = {key: value for key, value in rows.items() if not any(other.startswith(f"{key}.") for other in rows)}
    settings = [f"{key}={value}" for key, value in plain.items()]
    assert override(main, *settings) == main and len(settings) > 100
    assert rows["pretrain.stream.optimizer.lr"] == "0.007" and rows["evaluation.task"] == "WorldProblems"


def test_the_rates_of_variants_are_tabulated() -> None:
    rows = setting_tables(parted())["recipes"]
    tuned = {(r["recipe"], r["with"]): r["settings"] for r in rows}
    assert tuned["rl", ""] == "post.rl"
    assert tuned["rl", "rl.optimizer.lr=0.004"] == "post.rl, optimizer.lr=0.004"


def test_every_control_is_trained_and_evaluated(tmp_path: Path, draw_only: Any) -> None:
    draw_only()
    names = [
        n
        for n, f in vars(other_recipes).items()
        if getattr(f, "__annotations__", {}).get("return") == "Recipe" and n not in ("rl", "parallel")
    ]
    assert len(names) == 16
    names = [n for n in names if not n.endswith("_gold")]  # test_mixtures.py
    main = study(pretrain=pretrained_to(1536))
    text = replace(main.pretrain.stream, name="text")
    post = replace(main.post, text=text, anneal_steps=2, turns=(2, 1), curriculum=(2, 1))
    main = replace(main, post=post, recipes=("rl", "parallel"))
    against = {n: "rl" if "text" in str(main.stages(n)) else "parallel" for n in names}
    recipes = (*(Variant(n, (), f"{n}!", against[n]) for n in names), Variant("parallel", ("weights=1,1",), "sum"))
    made, store = replace(main, parts=(Part("controls", (replace(main, recipes=recipes),)),)), Store(tmp_path)
    compute(made, store)
    table_of(made, store)
    results = read_results(tmp_path / "manifest.json")
    assert not results.missing and results.recipes() == ["base", "rl", "parallel"]
    found = control_rows(results)
    assert {(row["variant"], row["runs"]) for row in found} == {*((f"{n}!", 1) for n in names), ("sum", 1)}
    assert all(row["d_one"].lo < row["d_one"].hi and row["d_top"].lo < row["d_top"].hi for row in found)
    page = report_study(made, store).read_text()
    assert "Controls: recipes varied" in page and "parallel_ramp!" in page
    shots = {e.variant: e.shots for e in results.select(PassK, variant=ANY)}
    assert shots["anneal!"] == 2 and shots["anneal_rl!"] == 0, "annealed, M_t is still a base model"


def test_a_merge_is_the_mean_of_its_branches(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = study(recipes=("rl", "interpolated"), pretrain=pretrained_to(1536))
    made = replace(made, post=replace(made.post, weights=(1.0, 3.0)))
    compute(made, store)
    (node,) = {n.key: n for n in expand(made).nodes if isinstance(n, MergeNode)}.values()
    assert node.weights == (0.25, 0.75) and node.branches[0].key == ends(made)[1536, "rl", 0].key
    rl, sft, mean = (load_model(n.folder(store) / "model") for n in (*node.branches, node))
    for a, b, m in zip(rl.parameters(), sft.parameters(), mean.parameters()):
        torch.testing.assert_close(m, 0.25 * a + 0.75 * b)


def test_rl_asks_only_the_questions_that_pass_the_screen(tmp_path: Path) -> None:
    made, store = study(recipes=("rl",), pretrain=pretrained_to(1536)), Store(tmp_path)
    source = made.post.rl.source

    def screened(low: int, high: int, extraction: Extraction = "strict") -> Study:
        screen = Screen(low, high, samples=8, shots=2, extraction=extraction)
        rl = replace(made.post.rl, source=replace(source, screen=screen))
        return replace(made, post=replace(made.post, rl=rl))

    everything = screened(0, 8)
    compute(everything, store)
    node = ends(everything)[1536, "rl", 0]
    assert isinstance(node.screen, PassKNode) and (node.screen.split, node.screen.temperature) == ("train", 1.0)
    compute(made, store)
    assert log(node, store) == log(ends(made)[1536, "rl", 0], store), "a screen that all pass changes nothing"
    lenient = ends(screened(0, 8, "lenient"))[1536, "rl", 0]
    assert lenient.screen.key == node.screen.key and lenient.key != node.key, "the same answers, graded otherwise"
    with pytest.raises(ValueError, match="the base answers 0 between 8 and 8 times in 8, strict grading; 4 are wanted"):
        compute(screened(8, 8), store)


def test_a_screen_counts_by_its_grading() -> None:
    task = study().post.rl.source.task
    graded = {p.id: {"strict": 0, "lenient": i} for i, p in enumerate(training_questions(task, 6))}
    run = cast(Training, SimpleNamespace(screened=graded))
    for extraction, kept in (("strict", 6), ("lenient", 3)):
        screen = Screen(0, 2, samples=8, extraction=cast(Extraction, extraction))
        assert len(_screened_questions(Rollouts(task, 6, prompts=2, screen=screen), run)) == kept
        first = _screened_questions(Rollouts(task, 6, prompts=2, screen=replace(screen, most=2)), run)
        assert [p.id for p in first] == [p.id for p in training_questions(task, 2)]


def test_text_after_pretraining_is_pretrainings_own() -> None:
    main = study(pretrain=pretrained_to(1536))
    text = replace(main.pretrain.stream, name="text")
    main = replace(main, post=replace(main.post, text=text), recipes=("anchored",))
    base, node = (n for n in expand(main).nodes if isinstance(n, TrainNode))
    assert node.shards == base.shards
    other = Corpus(((1.0, SumsText("third")),), batch_size=2, length=32)
    changed = replace(main.post, text=replace(text, source=other))
    (node,) = (n for n in expand(replace(main, post=changed)).nodes if isinstance(n, TrainNode) and n.parent)
    assert [s.source.name for s in node.shards] == ["third"]
    with pytest.raises(ValueError, match=r"set post\.text"):
        study(recipes=("anchored",))


def test_a_stage_has_the_text_of_all_its_streams(tmp_path: Path) -> None:
    main, store = study(pretrain=pretrained_to(1536)), Store(tmp_path)

    def reading(*sources: SumsText) -> Stream:
        mixture = tuple((1.0, s) for s in sources)
        return replace(main.pretrain.stream, name=sources[-1].name, source=Corpus(mixture, batch_size=2, length=32))

    def texts(post: PostTraining) -> Recipe:
        one, two = reading(SumsText("one")), reading(SumsText("one"), SumsText("two", "are"))
        return (Stage("texts", ((0.5, one), (0.5, two)), 2),)

    def alike(post: PostTraining) -> Recipe:
        one, two = reading(SumsText("one")), reading(SumsText("one", "are"), SumsText("two"))
        return (Stage("alike", ((0.5, one), (0.5, two)), 2),)

    made = replace(main, recipes=(texts,))
    node = ends(made)[1536, "texts", 0]
    assert [s.source.name for s in node.shards] == ["one", "two"]
    compute(made, store)
    assert {"one/loss", "two/loss"} <= set(log(node, store)[1])
    with pytest.raises(ValueError, match="stage alike: two text sources are called 'one'; rename one"):
        expand(replace(main, recipes=(alike,)))


def test_streams_of_one_stage_may_choose_by_the_same_answers_only() -> None:
    main = study(pretrain=pretrained_to(1536))

    def made(*screens: Screen) -> Study:
        def screened(post: PostTraining) -> Recipe:
            streams = tuple(
                (0.5, replace(post.rl, name=f"rl{i}", source=replace(post.rl.source, screen=screen)))
                for i, screen in enumerate(screens)
            )
            return (Stage("screened", streams, 2),)

        return replace(main, recipes=(screened,))

    node = ends(made(Screen(0, 4, 8, 2), Screen(4, 8, 8, 2)))[1536, "screened", 0]
    assert node.screen is not None and node.screen.samples == 8
    with pytest.raises(ValueError, match=r"stage screened: .* give their screens the same samples and shots"):
        expand(made(Screen(0, 4, 8, 2), Screen(0, 4, 16, 2)))


def test_the_desk_study_is_what_its_design_says() -> None:
    assert "desk" in bundled("studies")
    desk = load_study("desk")
    assert len(desk.pretrain.seeds) >= 6 and len(desk.starts) == 4
    assert (desk.evaluation.problems, desk.evaluation.samples) == (400, 64)
    by_part: dict[str, list[Study]] = {}
    for name, grid in desk.grids():
        by_part.setdefault(name, []).append(grid)
    (tuning,) = by_part["tuning"]
    assert not set(tuning.pretrain.seeds) & set(desk.pretrain.seeds) and tuning.evaluation.split == "validation"
    tried = Counter(v.recipe for v in tuning.recipes if isinstance(v, Variant))
    assert min(tried.values()) >= 2
    own = [e for e in expand(desk, "tuning").entries if e.variant and e.own and isinstance(e.node, PassKNode)]
    # Every recipe but the mixtures has a version of its own in the main grid, and one trial has its settings.
    assert {e.recipe for e in own} == {"rl", "sft", "sft_rl", "sft_gold", "sft_gold_rl", "parallel"}
    assert len({(e.recipe, e.variant) for e in own}) == 6
    assert all(isinstance(s, Stage) for r in desk.recipes for s in desk.stages(r))


def test_recipes_of_desk_that_share_rollouts_or_rows_have_as_many() -> None:
    """C8 compares parallel averaging with SFT, RL and SFT→RL, and leaves out what had another budget."""
    desk: Any = load_study("desk")
    rl, sft = desk.post.rl_steps, desk.post.sft_steps
    mixtures: Any = next(grid for name, grid in desk.grids() if name == "mixtures")
    steps = {
        r.recipe: sum(s.steps for s in desk.stages(r)) for g in (mixtures, desk) for r in g.recipes if r != "primed"
    }
    assert (steps["rl"], steps["sft"], steps["sft_rl"]) == (rl, sft, rl + sft)
    for recipe in ("parallel", "combined"):  # an update of both: rows of SFT are set to fit
        (stage,) = next(g.stages(r) for g in (desk, mixtures) for r in g.recipes if getattr(r, "recipe", "") == recipe)
        (_, rollouts), (_, rows) = stage.streams if recipe == "parallel" else stage.streams[0][1].members
        assert stage.steps == rl and rows.source.batch_size * rl == desk.post.sft.source.batch_size * sft
        assert rollouts.source == desk.post.rl.source
    for recipe in ("interleaved", "curriculum"):  # an update of one of them
        assert steps[recipe] == pytest.approx(rl + sft, rel=0.05)


def test_one_run_of_a_node_is_enough(finished: tuple[Study, Store]) -> None:
    made, store = finished
    node = next(n for n in expand(made, "more").nodes if n.kind == "tokenizer")
    assert node.done(store) and run_node(node, store) == node.folder(store)


def test_a_variants_settings_are_a_tuple() -> None:
    """``("rl.lr=4e-4")`` is a text: its comma is missing."""
    alone = r"settings is 'rl.*: write a tuple, \('rl.lr=4e-4',\)"
    for settings, message in (("rl.lr=4e-4", alone), (("rl.lr=4e-4", 1), r"settings\[1\] is 1: write a text")):
        with pytest.raises(ValueError, match=message):
            Variant("rl", settings)  # type: ignore[arg-type]


def test_a_part_that_is_not_there_leaves_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "smoke", "--part", "nopart", "--store", str(tmp_path / "store")]) == 1
    assert "has no part 'nopart'" in capsys.readouterr().err and not (tmp_path / "store").exists()
