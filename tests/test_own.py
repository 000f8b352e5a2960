"""Users' own files: the contracts of tasks, sources, losses, recipes and figures, and the message for each mistake."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from torch import Tensor

import foray
from conftest import Sums
from foray.core.batch import from_rows
from foray.core.objectives import PolicyGradient, Scored
from foray.core.sources import Rollouts
from foray.core.stage import Merge, PostTraining, Recipe, Stage, Stream
from foray.core.task import Extraction, Problem, Split, Verdict, require_problems, verdict_of
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.report import read_results, write_report
from foray.report.figures import a2_rewards, a3_epochs
from foray.report.sections import rl_training
from foray.rollout.torch_engine import TorchEngine
from foray.study.contracts import check_counts, check_study
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.kinds.checks import SourceNode
from foray.study.kinds.training import TrainNode
from foray.study.manifest import manifest_of
from foray.study.named_recipes import named_recipes
from foray.study.named_studies import load_study
from foray.study.run import run_study
from foray.study.spec import Evaluation, Study
from foray.study.store import Store
from foray.study.variants import Variant
from foray.train import other_recipes
from foray.train.checked_draw import drawn
from foray.train.draw import Training, draw
from test_study import compute, ends, log, pretrained_to, quiet, study, table_of

ROOT = Path(foray.__file__).parent
SUMS = Sums()


def one_line(words: str) -> str:
    assert "\n" not in words and "Traceback" not in words
    return words


# --- sources --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unregistered:
    task: Any = SUMS
    batch_size: int = 2


@dataclass(frozen=True)
class Own:
    """Rows of ``words`` words, and other mistakes of a batch."""

    words: int = 3
    wrong: str = ""
    task: Any = SUMS


@draw.register
def _(source: Own, stream: Stream, step: int, run: Training) -> Any:
    if source.wrong == "model":
        run.model.zero_grad()
    if source.wrong == "raises":
        return {}["no such key"]
    row = [run.tokenizer.end_id, *run.tokenizer.encode(" 7" * source.words)]
    ids = {"vocabulary": [9999], "negative": [-1]}.get(source.wrong, row)
    batch = from_rows([row[:1], row[:1]], [row, ids], [1.0, 1.0], 0.0 if source.wrong == "denominator" else 2.0)
    if source.wrong == "shapes":
        batch = replace(batch, weight=batch.weight[:, :1])
    told: dict[str, Any] = {"tokens": "many" if source.wrong == "metrics" else 1.0}
    return batch if source.wrong == "pair" else (batch, told)


def with_source(source: Any, **changes: Any) -> Study:
    def copy(post: PostTraining) -> Recipe:
        return (Stage("copy", ((1.0, replace(post.sft, name="copying", source=source)),), 2),)

    return study(recipes=(copy,), pretrain=pretrained_to(768), **changes)


@pytest.mark.parametrize("how", ["plan", "run"])
def test_a_source_without_a_draw_is_found_before_any_node_runs(tmp_path: Path, how: str) -> None:
    made = with_source(Unregistered())
    with pytest.raises(ValueError, match=r"copying: test_own.py, line \d+, class Unregistered: no draw is regis") as e:
        check_study(made) if how == "plan" else run_study(made, Store(tmp_path), quiet())
    assert "write @draw.register" in one_line(str(e.value)) and not (tmp_path / "nodes").exists()


def test_rows_of_a_users_source_that_do_not_fit_are_found_before_anything_trains(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fits = (
        "stage copy, stream copying: a row of 201 tokens is longer than the model's context .96.: set model.context=2"
    )
    with pytest.raises(ValueError, match=fits) as e:
        compute(with_source(Own(200)), store)
    assert one_line(str(e.value)) and not list((tmp_path / "nodes").glob("train-*"))


def test_a_source_that_samples_from_the_model_is_looked_at_in_training_instead(tmp_path: Path) -> None:
    made, store = with_source(Own(wrong="model")), Store(tmp_path)
    compute(made, store)
    (node,) = (n for n in expand(made).nodes if isinstance(n, SourceNode))
    assert (node.folder(store) / "source.json").read_text() == '{"longest": null}\n'
    assert ends(made)[768, "copy", 0].done(store)


def test_a_check_of_a_users_source_changes_no_other_key() -> None:
    made, plain = with_source(Own()), study(recipes=("rl",), pretrain=pretrained_to(768))
    assert any(n.kind == "source" for n in expand(made).nodes)
    keys = [{n.key for n in expand(m).nodes if isinstance(n, TrainNode) and n.parent is None} for m in (made, plain)]
    assert keys[0] == keys[1]
    assert not any(n.kind == "source" for n in expand(load_study("smoke")).nodes)


@pytest.fixture
def run(model: Transformer, tokenizer: TextTokenizer) -> Training:
    return Training(0, "mine", tokenizer, model, TorchEngine(model.config, tokenizer, model=model))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("pair", "the draw of Own returns a Batch: return .batch, dict of numbers."),
        ("vocabulary", "a batch holds the token 9999; the model's lie between 0 and"),
        ("negative", "a batch holds the token -1"),
        ("denominator", "denominator must be a number > 0, not 0.0"),
        ("shapes", r"the batch's weight are \(2, 1\), its tokens \(2, \d+\)"),
        ("metrics", "logs 'tokens': str; log numbers by name"),
    ],
)
def test_what_no_model_can_be_trained_on_is_named_as_it_is_drawn(run: Training, wrong: str, message: str) -> None:
    stream = replace(study().post.sft, name="x")
    with pytest.raises(ValueError, match=f"stage mine, stream x: .*{message}") as e:
        drawn(Own(wrong=wrong), stream, 0, run)
    assert one_line(str(e.value))


class Wordy(Sums):
    """Long questions in one split, or long solutions."""

    where: ClassVar[str] = "train"

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        found = list(super().problems(split, count))
        long = " 7" * 200
        if self.where == "solutions":
            return [replace(p, solutions=(long,)) for p in found]
        return [replace(p, question=long) for p in found] if split == self.where else found


class WordyThere(Wordy):
    where = "validation"


class WordySolutions(Wordy):
    where = "solutions"


@pytest.mark.parametrize("task", [Wordy(), WordyThere(), WordySolutions()])
def test_rows_that_do_not_fit_are_one_line_for_every_source_as_they_are_drawn(run: Training, task: Sums) -> None:
    post = study().post
    stream = post.sft if isinstance(task, WordySolutions) else post.rl
    stream = replace(stream, source=replace(stream.source, task=task))
    where = f"stage mine, stream {stream.name}: "
    with pytest.raises(
        ValueError, match=rf"{where}.* longer than the model's context .128.: set model.context=\d"
    ) as e:
        drawn(stream.source, stream, 0, run)
    assert one_line(str(e.value))


def test_every_kind_of_rollouts_is_checked_before_training_validation_too(tmp_path: Path) -> None:
    task = WordyThere()
    post = study().post

    def other(post: PostTraining) -> Recipe:
        rl = replace(post.rl, source=Rollouts(task, 4, prompts=2, group_size=2, max_new_tokens=4))
        return (Stage("other", ((1.0, rl),), 1),)

    made = study(recipes=(other,), pretrain=pretrained_to(768), post=post)
    with pytest.raises(ValueError, match="context of 96"):
        compute(made, Store(tmp_path))
    assert not list((tmp_path / "nodes").glob("train-*"))


def test_windows_of_text_after_pretraining_must_fit_too() -> None:
    def texts(post: PostTraining) -> Recipe:
        corpus = replace(study().pretrain.stream.source, length=200)
        return (Stage("texts", ((1.0, replace(post.sft, source=corpus)),), 1),)

    with pytest.raises(ValueError, match=r"stage texts, stream sft: windows of 200 are longer than .*context \(96\)"):
        study(recipes=(texts,)).check_whole()


# --- exceptions of users' own code ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picky(Sums):
    """A task that is right when it is checked, and wrong when a model trains on it."""

    kind: str = ""

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        if self.kind and _TRAINING:
            raise _WRONG[self.kind]
        return super().prompt(question, examples)


_WRONG = {
    "key": KeyError("gone"), "value": ValueError("odd"), "type": TypeError("two\nlines"), "leaves": SystemExit(3),
}  # fmt: skip
_TRAINING: list[bool] = []


@dataclass(frozen=True)
class Fragile(PolicyGradient):
    def contributes(self, weight: Tensor, advantage: Tensor) -> Tensor:
        if _TRAINING:
            _ = [1, 2, 3][len(_TRAINING) + 7]
        return super().contributes(weight, advantage)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("own"))
    compute(study(recipes=("rl",), pretrain=pretrained_to(768)), store)
    return store


def rl_of(task: Sums | None = None, loss: Any = None) -> Study:
    made = study(recipes=("rl",), pretrain=pretrained_to(768))
    rl = replace(made.post.rl, objective=loss or made.post.rl.objective)
    rl, sft = (replace(s, source=replace(s.source, task=task or s.source.task)) for s in (rl, made.post.sft))
    return replace(made, post=replace(made.post, rl=rl, sft=sft))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (rl_of(Picky(kind="key")), "KeyError: 'gone'"),
        (rl_of(Picky(kind="value")), "odd"),
        (rl_of(Picky(kind="type")), "TypeError: two lines"),
        (rl_of(Picky(kind="leaves")), r"it ends the program \(sys\.exit\(3\)\)"),
        (rl_of(loss=Fragile()), "IndexError: list index out of range"),
    ],
)
def test_an_exception_out_of_users_code_is_one_line_with_file_and_line(
    base: Store, monkeypatch: pytest.MonkeyPatch, made: Study, said: str
) -> None:
    node = ends(made)[768, "rl", 0]
    monkeypatch.setattr("test_own._TRAINING", [True])
    with pytest.raises(ValueError, match=rf"^test_own.py, line \d+: {said}$") as e:
        run_node(node, base)
    assert one_line(str(e.value))


def test_an_exception_out_of_a_users_source_is_found_before_anything_trains(base: Store) -> None:
    (check,) = (n for n in expand(with_source(Own(wrong="raises"))).nodes if isinstance(n, SourceNode))
    with pytest.raises(ValueError, match=r"^test_own.py, line \d+: KeyError: 'no such key'$"):
        run_node(check, base)


def test_users_code_that_breaks_in_the_driver_is_one_line_too(base: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_own._TRAINING", [True])
    with pytest.raises(ValueError, match=r"^test_own.py, line \d+: Picky.prompt: TypeError: two lines$"):
        run_study(rl_of(Picky(kind="type")), base, quiet())
    monkeypatch.setattr("foray.study.to_run.check_study", lambda _: None)
    with pytest.raises(ValueError, match=r"^test_own.py, line \d+: KeyError: 'gone'$"):
        run_study(rl_of(Picky(kind="key")), base, quiet())


def test_a_node_that_users_code_breaks_fails_once(base: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure kills no worker."""
    made = rl_of(loss=Fragile())
    monkeypatch.setattr("test_own._TRAINING", [True])
    monkeypatch.setattr("foray.study.to_run.check_study", lambda _: None)
    console = quiet()
    with pytest.raises(ValueError, match=r"test_own.py, line \d+: IndexError: list index") as e:
        run_study(made, base, console)
    assert "died" not in one_line(str(e.value)) + console.file.getvalue()  # type: ignore[attr-defined]


def test_an_exception_of_forays_own_stays_what_it_is(base: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    node = replace(ends(rl_of())[768, "rl", 0], seed=5)
    monkeypatch.setattr("foray.study.kinds.training.run_stage", partial(int, "no number"))
    with pytest.raises(TypeError):
        run_node(node, base)


def written(folder: Path, text: str) -> str:
    file = folder / "mine.py"
    top = "from dataclasses import replace\nfrom foray.studies import smoke\nfrom foray.core.stage import Stage\n"
    file.write_text(top + textwrap.dedent(text))
    return str(file)


@pytest.mark.parametrize("word", ["plan", "run"])
def test_the_command_names_the_line_that_broke_wherever_it_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    """A changed setting calls a recipe again, outside the loading of its file."""
    from foray.cli import main

    text = """
    def mine(post):
        return (Stage("m", ((1.0, post.sft),), {8: 2}[post.sft_steps]),)
    def study():
        made = smoke.study()
        return replace(made, recipes=(mine,), post=replace(made.post, sft_steps=8),
                       evaluation=replace(made.evaluation, dynamics=None))
    """
    file = written(tmp_path, text)
    assert main([word, file, "--store", str(tmp_path / "s"), "--set", "post.sft_steps=9"]) == 1
    assert one_line(capsys.readouterr().err.strip()).endswith("mine.py, line 6: KeyError: 9")


# --- recipes and parts ----------------------------------------------------------------------------------------------


def half(post: PostTraining, steps: int = 2) -> Recipe:
    return (Stage("half", ((1.0, post.sft),), steps),)


class Recipes:
    def bound(self, post: PostTraining) -> Recipe:
        return half(post)

    def __call__(self, post: PostTraining) -> Recipe:
        return half(post)


named = partial(half, steps=3)
named.__name__ = "named"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("recipe", "name"), [(half, "half"), (Recipes().bound, "bound"), (named, "named")])
def test_whatever_has_a_name_is_a_recipe(recipe: Any, name: str) -> None:
    assert (768, name, 0) in ends(study(recipes=(recipe,)))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (partial(half), "a partial as a recipe has no name for tables: write `def my_recipe"),
        (lambda post: half(post), "a lambda as a recipe has no name"),
        (Recipes(), "a Recipes as a recipe has no name"),
        (5, r"recipes\[0\] is 5: write a text or a function or a Variant"),
        ("half", "there is no recipe 'half'.*; one of your own is given as the function itself"),
    ],
)
def test_a_recipe_without_a_name_of_its_own_is_refused_in_one_line(recipe: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as e:
        study(recipes=(recipe,))
    assert one_line(str(e.value))


def returning(value: Callable[[PostTraining], Any]) -> Any:
    def mine(post: PostTraining) -> Any:
        return value(post)

    return mine


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (lambda post: list(half(post)), "a list of Stage"),
        (lambda post: half(post)[0], "a Stage"),
        (lambda post: None, "None"),
        (lambda post: 5, "an int"),
        (lambda post: (), "an empty tuple"),
        (lambda post: (post.sft,), "a tuple of Stream"),
    ],
)
def test_a_recipe_that_returns_no_stages_says_what_to_return(value: Any, what: str) -> None:
    with pytest.raises(ValueError, match=f"recipe mine returns {what}: return a tuple of stages") as e:
        study(recipes=(returning(value),))
    assert one_line(str(e.value))


def test_a_recipe_of_ones_own_has_a_name_of_its_own() -> None:
    from foray.train.recipes import sft

    def rl(post: PostTraining) -> Recipe:
        return half(post)

    for recipe in (rl, Variant(rl, ("sft_steps=2",))):
        with pytest.raises(ValueError, match="a recipe of your own cannot be called 'rl', which is one of Foray's"):
            expand(study(recipes=(recipe,)))
    assert ends(study(recipes=(sft,))) == ends(study(recipes=("sft",)))
    for recipes in ("rl", rl):
        with pytest.raises(ValueError, match=r"^recipes is .*: write a tuple, \(.*,\)$"):
            study(recipes=recipes)


def test_recipes_that_tables_could_not_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="two recipes are called 'mine'"):
        study(recipes=(returning(half), returning(partial(half, steps=3)))).check_whole()
    taken = returning(half)
    taken.__name__ = "base"
    with pytest.raises(ValueError, match="cannot be called 'base'"):
        study(recipes=(taken,)).check_whole()


def test_recipes_are_found_by_what_they_are_and_not_by_how_they_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"rl", "sft", "parallel", "interpolated", "anneal"} <= set(named_recipes())
    assert not {"gold", "require", "replace", "_text"} & set(named_recipes())

    def spelled(post: PostTraining) -> tuple[Stage | Merge, ...]:
        return half(post)

    def bare(post):  # type: ignore[no-untyped-def]
        return half(post)

    spelled.__annotations__ = {"post": PostTraining, "return": tuple[Stage | Merge, ...]}
    for f in (spelled, bare):
        f.__module__ = other_recipes.__name__
        monkeypatch.setattr(other_recipes, f.__name__, f, raising=False)
        assert (768, f.__name__, 0) in ends(study(recipes=(f.__name__,)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("def parts(study): return None", r"parts\(study\) returns a tuple of Part.*, not None"),
        ("def parts(study): return (study,)", r"parts\(study\) returns a tuple of Part.*, not a tuple of Study"),
        ("def parts(study): return 5", r"parts\(study\) returns a tuple of Part.*, not an int"),
        ("parts = ()", r"parts must be a function parts\(study\)"),
        (
            "from foray.study.spec import Part\ndef parts(study): return (Part('x', study),)",
            r".*grids is a Study: write a tuple, \(a Study,\)",
        ),
    ],
)
def test_parts_that_are_none_are_refused_in_one_line(tmp_path: Path, parts: str, message: str) -> None:
    file = written(tmp_path, f"study = smoke.study\n{parts}\n")
    with pytest.raises(ValueError, match=f"mine.py.*: {message}") as e:
        load_study(file)
    assert one_line(str(e.value))


# --- tasks and losses -----------------------------------------------------------------------------------------------


def without(kind: type, name: str) -> type:
    """The class with a method taken away."""
    body = {k: v for k, v in vars(kind).items() if k not in (name, "__dict__", "__weakref__")}
    return type(f"No_{name}", (), body)


class Verifying(Sums):
    answer: ClassVar[Any] = None

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Any:
        return self.answer(completion)


class TwoGradings(Sums):
    """A task written before there was a third grading."""

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Any:
        return {"strict": super().verify(problem, completion), "lenient": Verdict(0.0, False, "")}[extraction]


def verifying(answer: Callable[[str], Any]) -> Any:
    return type("Verifying", (Verifying,), {"answer": staticmethod(answer)})()


class Generated(Sums):
    def problems(self, split: Split, count: int | None = None) -> Any:
        return (p for p in super().problems(split, count))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (without(Sums, "verify")(), r"a task has verify\(problem, .* this one has no verify"),
        (without(Sums, "problems")(), r"a task has problems\(split.* this one has no problems"),
        (without(Sums, "target")(), r"this one has no target"),
        (verifying(lambda text: True), r"verify\(\) gives a bool: return Verdict"),
        (verifying(lambda text: Verdict(0.5, True, "")), r"verify\(\) gives the score 0.5: it is 1.0"),
        (verifying(lambda text: Verdict(float("nan"), True, "")), "gives the score nan: it is 1.0"),
        (verifying(lambda text: Verdict(1.0, True, "", cast(Any, 7))), "gives 7 as the answer: make it a text"),
        (
            TwoGradings(),
            "KeyError.*asked for flexible grading: without a rule for it, return the lenient verdict",
        ),
        (verifying(lambda text: int(text)), r"test_own.py, line \d+: Verifying.verify: invalid literal"),
        (Generated(), r"problems\(\) gives a generator: return a list"),
        (Sums(stop=("",)), "stop is .*none of them empty"),
    ],
)
def test_a_task_that_is_none_says_what_it_lacks_before_anything_runs(task: Any, message: str) -> None:
    evaluation = Evaluation(task, problems=6, samples=4, k=(1, 4), max_new_tokens=8, base_shots=(2,))
    with pytest.raises(ValueError, match=message) as e:
        check_study(study(evaluation=evaluation))
    assert "test_own.py, line" in one_line(str(e.value)) or "conftest.py, line" in str(e.value) or "No_" in str(e.value)


@dataclass(frozen=True)
class Mine:
    """A user's own loss that logs the share of clipped ratios."""

    eps: float = 0.2
    wrong: str = ""

    def __call__(self, s: Scored) -> Any:
        loss = -(s.logprobs - s.behaviour).exp().clamp(max=1 + self.eps).detach() * s.advantage * s.logprobs
        return {"mean": loss.mean(), "none": None, "detached": loss.detach()}.get(self.wrong, loss)

    def contributes(self, weight: Tensor, advantage: Tensor) -> Any:
        return True if self.wrong == "contributes" else (weight != 0) & (advantage != 0)

    def metrics(self, s: Scored) -> Any:
        high = (s.logprobs - s.behaviour).exp() > 1 + self.eps
        return {"scalar": {"clipped": high.float().mean()}, "list": [high]}.get(self.wrong, {"clipped": high})


@dataclass(frozen=True)
class NoContributes:
    def __call__(self, s: Scored) -> Tensor:
        return -s.logprobs


@dataclass(frozen=True)
class Unasked(Mine):
    """A loss that reads a reference without asking for one."""

    def __call__(self, s: Scored) -> Any:
        return s.reference - s.logprobs


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (NoContributes(), r"class NoContributes: a loss has contributes\(weight, advantage\)"),
        (Mine(wrong="mean"), r"the loss Mine returns a tensor \(\) of float32: return a loss a token"),
        (Mine(wrong="none"), "the loss Mine returns None"),
        (Mine(wrong="detached"), "the loss Mine has no gradient"),
        (Mine(wrong="contributes"), "Mine.contributes returns a bool"),
        (Mine(wrong="scalar"), r"'clipped' is a tensor \(\)"),
        (Mine(wrong="list"), "Mine.metrics returns a list"),
        (Unasked(), "needs_reference = True"),
        (SimpleNamespace(), "frozen=True"),
        (SimpleNamespace, "a class stands there: write SimpleNamespace\\(\\), an instance of it"),
    ],
)
def test_a_loss_that_is_none_says_what_it_lacks_before_anything_runs(loss: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as e:
        check_study(rl_of(loss=loss))
    assert one_line(str(e.value))


def test_what_is_as_it_should_be_passes() -> None:
    check_study(rl_of(loss=Mine()))
    check_study(with_source(Own()))
    check_study(load_study("smoke"))


def test_a_loss_of_ones_own_logs_what_foray_s_own_does(base: Store) -> None:
    made = rl_of(loss=Mine())
    rows = log(run_again(made, base), base)
    theirs = log(ends(rl_of())[768, "rl", 0], base)
    assert set(rows[0]) == set(theirs[0]) and all(0 <= r["rl/clipped"] <= 1 for r in rows)


def run_again(made: Study, store: Store) -> TrainNode:
    node = ends(made)[768, "rl", 0]
    run_node(node, store)
    return node


# --- names that mean nothing ----------------------------------------------------------------------------------------


def renamed() -> Study:
    made = study(recipes=("rl", "sft", "sft_rl"), pretrain=pretrained_to(768))
    rl, sft = replace(made.post.rl, name="grpo"), replace(made.post.sft, name="a-b")
    return replace(made, post=replace(made.post, rl=rl, sft=sft))


def test_a_stream_by_another_name_is_reported_alike(tmp_path: Path) -> None:
    found = []
    plain = study(recipes=("rl", "sft", "sft_rl"), pretrain=pretrained_to(768))
    for number, made in enumerate((plain, renamed())):
        store = Store(tmp_path / str(number))
        compute(made, store)
        table = table_of(made, store)
        results = read_results(store.root / "manifest.json")
        epochs = sorted(a3_epochs._epochs(results).items())
        first = [run.of("rollouts", "entropy").iloc[0] for run in results.rl_runs()]
        found.append((table, a2_rewards.data(results).to_csv(), rl_training.section(results).html, epochs, first))
    assert found[0] == found[1]
    assert len(found[1][3]) > 0 and len(found[1][4]) == 2 and "RL" in found[1][2]


def test_the_manifest_says_what_each_stream_trains_on_and_which_task_is_hard() -> None:
    made = renamed()
    entries = manifest_of(made, expand(made))["entries"]
    assert {tuple(e["streams"].items()) for e in entries if e["kind"] == "train"} == {
        (("pretrain", "text"),), (("grpo", "rollouts"),), (("a-b", "demonstrations"),)
    }  # fmt: skip
    smoke = load_study("smoke")
    assert {e["hard"] for e in manifest_of(smoke, expand(smoke))["entries"] if e["kind"] == "passk"} == {False}
    desk = load_study("desk")
    part = next(name for name, grid in desk.grids() if grid.pretrain.mix)
    entries = manifest_of(desk, expand(desk, part))["entries"]
    assert {e["math_heavy"] for e in entries if e.get("mix")} == {True}
    hard = {e["task"]: e["hard"] for e in entries if e["kind"] == "passk"}
    assert hard == {"world_easy": False, "world_hard": True}


# --- libraries and names --------------------------------------------------------------------------------------------

_HIDDEN = """
import sys
from dataclasses import replace
from pathlib import Path
from foray.tasks import GSM8K, MATH
from foray.data.text import Text
from foray.evals.benchmarks import Benchmarks
from foray.study.graph import expand
from foray.study.to_run import check_before
from foray.study.published import Release
from foray.study.kinds.models import ImportNode
from foray.study.named_studies import load_study

root = Path(sys.argv[1])
for name in ("train", "test"):
    (root / f"{name}.jsonl").write_text('{"problem": "1?", "solution": "\\\\\\\\boxed{1}"}\\n')
made = load_study("smoke")
e, corpus = made.evaluation, made.pretrain.stream.source

def reading(path, hub=""):
    text = replace(corpus, mixture=((1.0, Text("t", path, hub)),))
    return replace(made, pretrain=replace(made.pretrain, stream=replace(made.pretrain.stream, source=text)))

def asked(task):
    one = replace(e, task=task, problems=1, samples=1, k=(1,), contamination=0, train_problems=0)
    return replace(made, evaluation=one)

def rl(**changes):
    source = replace(made.post.rl.source, **changes)
    return replace(made, post=replace(made.post, rl=replace(made.post.rl, source=source)))

math = MATH(str(root), "train.jsonl", "test.jsonl")
(root / "train.csv").write_text("question,answer\\n")
tables = GSM8K(str(root), "train.csv", "train.csv")
cases = {
    "lm_eval": made,
    "math_verify": asked(math),
    "datasets": asked(tables),
    "zstandard": reading("a.jsonl.zst"),
    "pyarrow": reading("*.parquet"),
    "vllm": rl(engine="vllm"),
    "huggingface_hub": ImportNode(made.model, Release("a/b", "main")),
}
for library, case in cases.items():
    assert library not in sys.modules, library
    sys.modules[library] = None
    try:
        case.check() if isinstance(case, ImportNode) else check_before(case, expand(case).nodes)
        print(library, "NOT FOUND OUT")
    except ValueError as error:
        print(library, "|", error)
    del sys.modules[library]
"""


@pytest.mark.slow
def test_a_missing_library_is_found_before_a_study_begins(tmp_path: Path) -> None:
    """The test needs a fresh process without earlier imports."""
    done = subprocess.run([sys.executable, "-c", _HIDDEN, str(tmp_path)], capture_output=True, text=True, timeout=240)
    lines = dict(line.split(" | ", 1) for line in done.stdout.splitlines() if " | " in line)
    extras = {"lm_eval": "evals", "math_verify": "math", "datasets": "data", "zstandard": "data", "pyarrow": "data"}
    for library, extra in (extras | {"huggingface_hub": "hub", "vllm": "vllm"}).items():
        assert f"pip install -e '.[{extra}]'" in lines.get(library, ""), (library, done.stdout, done.stderr[-2000:])


def documents() -> list[Path]:
    repository = ROOT.parent.parent
    return [repository / "README.md", *(repository / "docs").glob("*.md")]


def test_what_the_documents_say_can_be_imported_can_be() -> None:
    found = 0
    for page in documents():
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"^\s*from (foray[\w.]*) import ([\w, ]+)$", text, re.M):
            for name in names.split(","):
                found += 1
                assert name.strip() in vars(importlib.import_module(module)) or importable(f"{module}.{name.strip()}")
        for dotted in re.findall(r"`(foray(?:\.\w+)+)`", text):
            found += 1
            assert importable(dotted), f"{page.name}: {dotted}"
        # `A`, `B` in `foray.x` and in `x/y.py`; test_guide.py has `x/y.py:A`
        for listed, module in re.findall(r"((?:`\w+`,? (?:and )?)+)in `(foray[\w.]*|[a-z_]+/\w+\.py)`", text):
            for name in re.findall(r"`(\w+)`", listed):
                found += 1
                assert importable(f"{as_module(module)}.{name}"), f"{page.name}: {name} in {module}"
    assert found > 10


def as_module(place: str) -> str:
    return "foray." + place.removesuffix(".py").replace("/", ".") if place.endswith(".py") else place


def importable(dotted: str) -> bool:
    module, _, name = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
        return True
    except ImportError:
        return bool(module) and hasattr(importlib.import_module(module), name)


# --- figures --------------------------------------------------------------------------------------------------------


def test_a_broken_figure_is_named_and_the_page_is_there(
    base: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "z1_mine.py"
    file.write_text("NAME, TITLE = 'z1_mine', 'Z1. Mine'\ndef data(results):\n    return {}['gone']\n")
    spec = importlib.util.spec_from_file_location("z1_mine", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("foray.report.discover", lambda: [module])
    table_of(rl_of(), base)
    with pytest.raises(ValueError, match=r"z1_mine.py, line 3: KeyError: 'gone'") as e:
        write_report(base.root / "manifest.json", tmp_path / "report")
    assert one_line(str(e.value))
    assert "z1_mine.py, line 3: KeyError" in (tmp_path / "report" / "index.html").read_text().replace("&#39;", "'")


def test_a_verifier_that_does_not_return_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(text: str) -> Verdict:
        time.sleep(0.02)
        return Verdict(0.0, False, "")

    monkeypatch.setattr("foray.study.contracts._PATIENCE", 0.01)
    check_study(asked_by(verifying(slow)))
    assert "class Verifying: verify() has not returned for 0.01 s; Ctrl-C ends the wait" in capsys.readouterr().err


class Askew(Sums):
    """Sums with something wrong in a later problem."""

    wrong: ClassVar[str] = ""
    value: ClassVar[Any] = None

    def problems(self, split: Any, count: int | None = None) -> Any:
        found = list(super().problems(split, count))
        if self.wrong == "problems":
            return self.value
        return [replace(p, **{self.wrong: self.value}) if place == 2 else p for place, p in enumerate(found)]


def asked_by(task: Any) -> Study:
    made = study()
    return replace(made, evaluation=replace(made.evaluation, task=task))


@pytest.mark.parametrize(
    ("wrong", "value", "message"),
    [
        ("solutions", "a text", "a Problem has a tuple of texts as its solutions, not 'a text'"),
        ("solutions", (1,), "problem .* has 1 where a text belongs"),
        ("tags", (1,), "problem .* has 1 where a text belongs"),
        ("tags", None, "a Problem has a tuple of texts as its tags, not None"),
        ("id", math.nan, "a Problem has a text as its id, not nan"),
        ("question", "\ud83d ?", r"holds half a surrogate pair: '\\ud83d \?'"),
        ("problems", None, r"problems\(\) gives None: return a list"),
    ],
)
def test_a_later_problem_of_ones_own_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch, wrong: str, value: Any, message: str
) -> None:
    monkeypatch.setattr(Askew, "wrong", wrong)
    monkeypatch.setattr(Askew, "value", value)
    with pytest.raises(ValueError, match=message) as e:
        check_counts(asked_by(Askew()))
    assert one_line(str(e.value))


def test_two_problems_of_one_id_are_refused_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Askew, "wrong", "id")
    monkeypatch.setattr(Askew, "value", Sums().problems("test", 1)[0].id)
    with pytest.raises(ValueError, match="two problems have the id"):
        require_problems("twice", Sums().problems("test", 1) * 2)
    with pytest.raises(ValueError, match="gives a list with None in it"):
        require_problems("none", [None])
    with pytest.raises(ValueError, match=r"two problems have the id 'test-0\+2': give each an id of its own"):
        check_counts(asked_by(Askew()))


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (None, r"verify\(\) gives None: return Verdict"),
        (Verdict(0.5, True, ""), "gives the score 0.5"),
        (Verdict(math.nan, True, ""), "gives the score nan"),
        (Verdict(1.0, "yes", ""), "gives 'yes' as formatted: make it True or False"),  # type: ignore[arg-type]
        (Verdict(1.0, True, None), "gives None as the reason: make it a text"),  # type: ignore[arg-type]
        (Verdict(1.0, True, "", 7), "gives 7 as the answer: make it a text"),  # type: ignore[arg-type]
    ],
)
def test_a_verdict_on_a_real_completion_is_looked_at(verdict: Any, message: str) -> None:
    task = verifying(lambda text: verdict)
    with pytest.raises(ValueError, match=message):
        verdict_of(task, task.problems("train", 1)[0], "7")
