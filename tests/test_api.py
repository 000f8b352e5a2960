"""Foray from Python: what ``foray.load`` gives, and the one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import foray
import test_report as written
from conftest import figures
from foray.api import LoadedStudy
from foray.core.task import Problem
from foray.report.measurements import PassK
from foray.report.stats import paired_difference
from foray.study.graph import expand
from foray.study.run import run_study
from foray.study.store import Store
from test_study import brief, quiet


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature study in a user's own file, and its finished store beside it."""
    root = tmp_path_factory.mktemp("api")
    (root / "api_study.py").write_text(
        "from test_study import Study, brief\ndef study() -> Study:\n    return brief()\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foray.report.discover", figures("f2_passk"))
        run_study(brief(), Store(root / "store"), quiet())
    return root / "api_study.py"


@pytest.fixture(scope="module")
def study(file: Path) -> LoadedStudy:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        return foray.load(file, store=file.parent / "store")


def test_importing_foray_loads_nothing_heavy() -> None:
    code = "import sys, foray; print(sorted({'pandas', 'numpy', 'torch', 'matplotlib', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_results_are_the_final_rows_of_the_report_with_units(study: LoadedStudy, file: Path) -> None:
    written = pd.read_csv(file.parent / "store" / "report" / "results.csv")
    assert len(study.all_results) == len(written) and len(study.results) == written["final"].sum()
    units = study.results.set_index("metric")["unit"].to_dict()
    assert units["pass@1"] == "share" and units["perplexity"] == "perplexity"
    np.testing.assert_allclose(study.all_results["value"], written["value"], rtol=1e-5)
    assert study.missing.empty


def test_a_stores_folder_gives_the_same_results_as_the_study(study: LoadedStudy, file: Path) -> None:
    alone = foray.load(file.parent / "store")
    pd.testing.assert_frame_equal(alone.results, study.results)
    pd.testing.assert_frame_equal(alone.checkpoints, study.checkpoints)
    assert alone.study is None and "base, rl, sft" in repr(alone)


def test_checkpoints_are_the_folders_of_the_studys_nodes(study: LoadedStudy, file: Path) -> None:
    store = Store(file.parent / "store")
    nodes = {e.node.folder(store) / "model" for e in expand(brief()).entries if e.node.kind == "train"}
    assert set(study.checkpoints["path"]) == nodes
    assert study.checkpoint("rl").parent.name.startswith("train-")


def test_a_model_gives_logits(study: LoadedStudy) -> None:
    model, tokenizer = study.model("rl", device="cpu")
    with torch.no_grad():
        logits = model.logits(torch.tensor([tokenizer.encode_prompt("1 + 2 ?")]))
    assert logits.shape[-1] == model.config.vocab_size and not model.training


def test_completions_add_up_to_problems(study: LoadedStudy) -> None:
    counted = study.completions("sft").groupby("problem")["right"].sum()
    told = study.problems.query("recipe == 'sft'").set_index("problem")["right"]
    pd.testing.assert_series_equal(counted.sort_index(), told.sort_index(), check_dtype=False)
    assert study.problems["question"].str.len().min() > 0


def test_a_known_problem_is_sampled_as_the_evaluation_did_and_graded(study: LoadedStudy) -> None:
    stored = study.completions("sft")
    first = stored[stored["problem"] == stored["problem"].iloc[0]]
    drawn = study.sample(first["question"].iloc[0], recipe="sft", n=len(first))
    assert drawn["text"].tolist() == first["text"].tolist() and drawn["right"].tolist() == first["right"].tolist()
    assert drawn["reason"].str.len().min() > 0


def test_a_question_is_graded_only_where_its_answer_is_known(study: LoadedStudy) -> None:
    assert study.sample("how far is the moon ?", n=2)["right"].isna().all()
    given = study.sample(Problem("mine", "1 + 2 ?", "3"), n=2)
    assert given["gold"].tolist() == ["3", "3"] and given["right"].notna().all()


def test_gains_are_the_reports_paired_differences(study: LoadedStudy) -> None:
    gains = study.gains("rl", over="sft").set_index("metric")
    a, b = (next(e for e in study._evaluations if e.recipe == r and e.final) for r in ("rl", "sft"))
    expected = paired_difference(a.counts["strict"], b.counts["strict"], 1)
    assert tuple(gains.loc["pass@1", ["value", "lo", "hi"]]) == pytest.approx(expected[:3])


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> LoadedStudy:
    """Two M_t; RL of two seeds, a variant of RL at the last M_t, one mix and one size beside the main grid."""
    made = written.Study(tmp_path_factory.mktemp("varied"))
    models: list[tuple[str, dict[str, object]]] = [("base", {}), ("rl", {}), ("rl", {"seed": 1})]
    models += [("rl", {"variant": "high_kl", "against": "rl"}), ("sft_gold", {"variant": "epochs"})]
    models += [(recipe, beside) for recipe in ("base", "rl") for beside in ({"mix": "math"}, {"model_parameters": 7})]
    for tokens in (1_000, 2_000):
        for recipe, where in models:
            if tokens == 2_000 or "against" not in where:
                shots = 8 if recipe == "base" else 0
                trained = {} if recipe == "base" else {"trained_on": "world_easy"}
                where = {"tokens": tokens, "stage_step": 5, "task": "world_easy", "shots": shots, **trained, **where}
                made.passk(recipe, tokens / 2_000, problems=40, **where)
    inside = {"stage_step": 3, "final": False, "task": "world_easy", "trained_on": "world_easy", "shots": 0}
    made.passk("rl", 0.4, problems=40, tokens=2_000, **inside)
    made.write()
    return foray.load(made.root)


@pytest.mark.parametrize(
    ("ask", "ours", "theirs", "rows"),
    [
        ({}, {"recipe": "rl"}, {"recipe": "base"}, [(1_000, 2), (2_000, 2)]),
        ({"tokens": 2_000, "seed": 1}, {"recipe": "rl", "seed": 1}, {"recipe": "base"}, [(2_000, 1)]),
        ({"variant": "high_kl"}, {"recipe": "rl", "variant": "high_kl"}, {"recipe": "base"}, [(2_000, 1)]),
        ({"over": "rl", "variant": "high_kl"}, {"variant": "high_kl"}, {"recipe": "rl"}, [(2_000, 2)]),
        ({"over": "rl", "over_variant": "high_kl"}, {"recipe": "rl"}, {"variant": "high_kl"}, [(2_000, 2)]),
        ({"mix": "math"}, {"recipe": "rl", "mix": "math"}, {"recipe": "base", "mix": "math"}, [(1_000, 1), (2_000, 1)]),
        ({"model_parameters": 7, "tokens": 1_000}, {"recipe": "rl", "model_parameters": 7},
         {"recipe": "base", "model_parameters": 7}, [(1_000, 1)]),
        ({"over": "sft_gold"}, {"recipe": "rl"}, {"recipe": "sft_gold", "variant": "epochs"}, [(1_000, 2), (2_000, 2)]),
        ({"step": 3}, {"recipe": "rl", "stage_step": 3, "final": False}, {"recipe": "base"}, [(2_000, 1)]),
    ],
)  # fmt: skip
def test_gains_take_the_fields_of_a_model(
    varied: LoadedStudy, ask: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any],
    rows: list[tuple[int, int]],
) -> None:  # fmt: skip
    def model(fields: dict[str, Any], e: PassK) -> bool:
        own = {"variant": "", "mix": "", "model_parameters": None, "tokens": rows[-1][0], "final": True, **fields}
        return all(getattr(e, name) == value for name, value in own.items())

    gains = varied.gains("rl", **ask)
    one = gains[gains["metric"] == "pass@1"]
    assert list(zip(one["tokens"], one["runs"])) == rows
    first, second = ([e.counts["strict"] for e in varied._evaluations if model(f, e)] for f in (ours, theirs))
    pairs = zip(first, second) if len(first) == len(second) else product(first, second)
    expected = np.mean([paired_difference(a, b, 1).value for a, b in pairs])
    assert one["value"].iloc[-1] == pytest.approx(expected)
    assert (one["variant"] == ours.get("variant", "")).all()
    assert (one["reference_variant"] == theirs.get("variant", "")).all()


def test_gains_name_the_fields_that_there_are(varied: LoadedStudy) -> None:
    for ask, message in (
        ({"variant": "kl"}, "recipe 'rl' has no variant 'kl': there is '' and 'high_kl'"),
        ({"sed": 1}, "there is no field 'sed'; did you mean 'seed'?"),
        ({"tokens": 1_000, "variant": "high_kl"}, "has no M_t at tokens 1,000: there is 2,000"),
        ({"over": "sft"}, "has no recipe 'sft'; did you mean 'sft_gold'?"),
        ({"over": "base", "mix": "web"}, "recipe 'rl' has no mix 'web': there is '' and 'math'"),
    ):
        with pytest.raises(ValueError) as error:
            varied.gains("rl", **ask)
        assert message in str(error.value) and "\n" not in str(error.value)


def test_a_study_differs_from_itself_by_nothing(study: LoadedStudy, file: Path) -> None:
    found = study.compare(foray.load(file.parent / "store"))
    assert set(found["recipe"]) == {"base", "rl", "sft"} and (found["value"] == 0).all()
    assert (found["ours"] == found["theirs"]).all() and (found["lo"] <= 0).all()


def test_a_figure_is_drawn_on_its_own_and_on_the_callers_axes(study: LoadedStudy) -> None:
    own = study.figure("f2")
    panels = [axes.get_title() for axes in own.axes if axes.get_title()]
    figure, (left, right) = plt.subplots(1, 2, layout="constrained")
    inside = study.figure("f2", ax=right)
    assert [a.get_title() for a in inside.axes if a.get_title()] == panels and left in figure.axes
    many, axes = plt.subplots(1, len(panels), layout="constrained")
    assert study.figure("f2_passk", ax=axes) is many and [a.get_title() for a in np.ravel(axes)] == panels
    wide, narrow = (study.figure("f2", ax=plt.subplots(figsize=(w, 3))[1]) for w in (12, 3))
    assert [f.axes[0].get_xlabel() for f in (wide, narrow)] == ["pre-training tokens (k)", "tokens (k)"]
    with pytest.raises(ValueError, match="give so many axes"):
        study.figure("f2", ax=[plt.figure().add_axes((0, 0, 1, 1))] * (len(panels) + 1))
    plt.close("all")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.completions("rll"), "no recipe 'rll'; did you mean 'rl'?"),
        (lambda s: s.checkpoint("rl", tokens=5), "recipe 'rl' has no M_t at tokens 5: there is 1,536"),
        (lambda s: s.model("rl", seed=7), "recipe 'rl' has no seed 7: there is 0"),
        (lambda s: s.checkpoint("rl", sed=7), "there is no field 'sed'; did you mean 'seed'?"),
        (lambda s: s.gains("sftt"), "did you mean 'sft'?"),
        (lambda s: s.figure("f99"), "there is no figure 'f99': the figures are f1, f2, f3, "),
        (lambda s: s.figure(6), "there is no figure 6: the figures are f1, "),
        (lambda s: s.sample("1 + 2 ?", n=-1), "the number of answers must be a positive whole number, not -1"),
        (lambda s: s.sample("1 + 2 ?", n=2, temperature=-1), "temperature must be >= 0, not -1"),
        (lambda s: s.sample("1 + 2 ?", shots=-1), "shots must be >= 0, not -1"),
        (lambda s: s.compare(3), "compare takes another study, as foray.load gives it, not 3"),
        (lambda s: s.figure("f6"), "cannot be drawn: parallel averaging has not been evaluated"),
        (lambda s: s.sample("  "), "the question is empty"),
        (lambda s: s.sample("1 + 2 ?", n=2, temperature=0), "temperature 0 gives one sample"),
        (lambda s: s.sample("1 + 2 ?", task="sum"), "has no task 'sum'; did you mean 'sums'?"),
        (lambda s: foray.load(s.store).sample("1 + 2 ?"), "neither the code of task sums nor the place of its files"),
        (lambda s: foray.load("tinny"), "folder tinny, and no study of that name; did you mean 'tiny'?"),
        (lambda s: foray.load("tiny", store="/nowhere"), "there is no store /nowhere; run the study first"),
        (lambda s: foray.load(s.store / "nodes"), "holds no manifest.json: foray report STUDY --store"),
        (lambda s: foray.load(s.store, settings=["seeds=1"]), "name the study's file"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(study: LoadedStudy, ask: object, message: str) -> None:
    with pytest.raises(ValueError) as error:
        ask(study)  # type: ignore[operator]
    assert message in str(error.value) and "\n" not in str(error.value)
