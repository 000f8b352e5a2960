"""Specs: canonical JSON, content hash, and overrides typed by a user."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from foray.core.canonical import added, canonical, content_hash, nearest, to_json
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.override import override
from foray.core.stage import AdamW
from foray.core.userfile import load
from foray.evals.abilities import WorldProbes
from foray.study.named_studies import load_study
from foray.study.spec import Dynamics, Study
from foray.world.general.facts import WorldSpec


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-3
    steps: int = 10
    kind: Literal["cosine", "linear"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ("a", "b")
    limit: int | None = None
    verbose: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ValueError(f"lr must be >= 0, not {self.lr}")


@dataclass(frozen=True)
class Middle:
    inner: Inner = field(default_factory=Inner)
    width: int = 8


@dataclass(frozen=True)
class Outer:
    one: Middle = field(default_factory=Middle)
    streams: tuple[tuple[float, Inner], ...] = ((1.0, Inner()), (2.0, Inner()))
    table: dict[str, int] = field(default_factory=lambda: {"x": 1, "y": 2})
    where: str = field(default="here", metadata={"hash": False})


@dataclass(frozen=True)
class Range:
    low: int = 5
    high: int = 10

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must lie below high ({self.high})")


def scaled(by: float) -> Callable[[float], float]:
    def loss(x: float) -> float:
        return by * x

    return loss


def test_canonical_json_is_the_same_for_equal_specs() -> None:
    assert canonical(Outer(table={"x": 1, "y": 2})) == canonical(Outer(table={"y": 2, "x": 1}))
    assert json.loads(canonical(Inner()))["type"] == f"{__name__}:Inner"
    assert json.loads(canonical(CrossEntropy()))["type"] == "CrossEntropy"
    assert canonical((1, 2)) == canonical([1, 2]) == "[1,2]"
    assert to_json(math.sqrt) == "math:sqrt"
    for function in (lambda x: x, scaled(2.0), Outer().__repr__, {}.get):
        with pytest.raises(ValueError, match=r"a spec cannot hold .*: write a function with a name of its own") as e:
            content_hash(function)
        assert "\n" not in str(e.value)
        assert to_json(function, shown=True)


def test_hash_is_golden() -> None:
    """A changed hash would silently abandon every store: change this line only on purpose."""
    assert content_hash({"a": (1, 2.5, None, True), "b": "é"}) == "c66fca9242300f12"
    assert re.fullmatch(r"[0-9a-f]{16}", content_hash(Outer()))


@pytest.mark.parametrize(
    "changed",
    [
        Outer(one=Middle(Inner(lr=1.1e-3))),
        Outer(one=Middle(Inner(limit=0))),
        Outer(streams=((1.0, Inner()), (2.0, Inner(names=("ab",))))),
        Outer(streams=((2.0, Inner()), (1.0, Inner()))),
        Outer(table={"x": 1, "y": 3}),
    ],
)
def test_every_field_is_in_the_hash(changed: Outer) -> None:
    assert content_hash(changed) != content_hash(Outer())


def test_only_fields_that_say_where_are_left_out_of_the_hash() -> None:
    assert content_hash(Outer(where="there")) == content_hash(Outer())


def test_class_names_are_in_the_hash() -> None:
    @dataclass(frozen=True)
    class Other:
        low: int = 5
        high: int = 10

    assert content_hash(Other()) != content_hash(Range())


def test_a_class_of_a_users_own_is_known_by_its_file(tmp_path: Path) -> None:
    """A user's class with the name of a Foray class is another class. The place of the file does not matter."""
    text = """
from dataclasses import dataclass
from foray.core import objectives
@dataclass(frozen=True)
class CrossEntropy(objectives.CrossEntropy):
    def __call__(self, s):
        return -2 * s.logprobs
def study():
    return CrossEntropy()
"""
    keys = []
    for place in ("a/mine.py", "b/mine.py", "a/yours.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
        keys.append(content_hash(load(str(tmp_path / place), "study", "studies", CrossEntropy)[0]))
    assert keys[0] == keys[1] and len({*keys, content_hash(CrossEntropy())}) == 3


def test_a_fingerprint_is_in_the_hash() -> None:
    @dataclass(frozen=True)
    class File:
        content: str = field(default="", metadata={"hash": False})

        def fingerprint(self) -> str:
            return self.content

    assert content_hash(File("a")) != content_hash(File("b"))
    assert content_hash(File("a")) == content_hash(File("a"))


@pytest.mark.parametrize("bad", [{1, 2}, b"bytes", 1j])
def test_values_without_a_json_form_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="a spec cannot hold"):
        content_hash({"a": bad})


def test_non_finite_numbers_have_no_hash() -> None:
    with pytest.raises(ValueError):
        content_hash(Inner(lr=math.inf))


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("one.inner.lr=0.5", "one.inner.lr", 0.5),
        ("one.lr=0.5", "one.inner.lr", 0.5),  # a level left out
        ("one.inner.lr=1e-4", "one.inner.lr", 1e-4),
        ("one.inner.lr=3", "one.inner.lr", 3.0),
        ("one.steps=2e3", "one.inner.steps", 2000),
        ("width=16", "one.width", 16),
        ("one.kind=linear", "one.inner.kind", "linear"),
        ("one.betas=0.8,0.9", "one.inner.betas", (0.8, 0.9)),
        ("one.betas=[0.8, 0.9]", "one.inner.betas", (0.8, 0.9)),
        ("one.names=c", "one.inner.names", ("c",)),
        ("one.names=", "one.inner.names", ()),
        ("one.limit=4", "one.inner.limit", 4),
        ("one.limit=null", "one.inner.limit", None),
        ("one.limit=none", "one.inner.limit", None),
        ("one.verbose=true", "one.inner.verbose", True),
        ("one.note=123", "one.inner.note", "123"),
        ("one.note=none", "one.inner.note", "none"),
        ("one.note=a=b", "one.inner.note", "a=b"),
        (" where = there ", "where", "there"),
    ],
)
def test_overrides(text: str, path: str, expected: Any) -> None:
    value: Any = override(Outer(), text)
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected and type(value) is type(expected)


def test_an_override_of_an_integer_setting_keeps_its_hash_type() -> None:
    """``lr=1`` and ``lr=1.0`` are one setting, so they are one key."""
    assert content_hash(override(Outer(), "one.lr=1")) == content_hash(override(Outer(), "one.lr=1.0"))


def test_overrides_reach_into_tuples_and_dicts() -> None:
    out = override(Outer(), "streams.1.1.lr=0.25")
    assert [s.lr for _, s in out.streams] == [1e-3, 0.25]
    assert override(Outer(), "streams.0.0=3").streams[0][0] == 3.0
    whole = override(Outer(streams=((1, Inner()),)), "streams.0.0=0.5")  # an int where the annotation says float
    assert whole.streams[0][0] == 0.5
    assert override(Outer(), "table.x=7").table == {"x": 7, "y": 2}
    assert Outer().table == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one.inner.lrr=1", "did you mean 'lr'"),
        ("wdth=1", "did you mean 'width'"),
        ("one.iner.lr=1", "did you mean 'inner'"),
        ("one.betta=1,2", "did you mean 'betas'"),
        ("table.z=1", "no setting 'z'"),
        ("streams.5.1.lr=1", "no setting '5'"),
        ("lr", "key=value"),
        ("=3", "key=value"),
        ("streams.lr=1", "ambiguous"),
        ("one.width.more=1", "no setting 'more'"),
        ("one.steps=1.5", "expected a whole number"),
        ("one.steps=many", "expected a whole number"),
        ("one.steps=true", "expected a whole number"),
        ("one.lr=fast", "expected a finite number"),
        ("one.lr=", "expected a finite number"),
        ("one.lr=none", "expected a finite number"),
        ("one.lr=NaN", "expected a finite number"),
        ("one.lr=-Infinity", "expected a finite number"),
        ("one.lr=1e999", "expected a finite number"),
        ("one.steps=Infinity", "expected a whole number"),
        ("one.verbose=1", "expected true or false"),
        ("one.kind=square", "cosine"),
        ("one.betas=0.9", "betas"),
        ("one.betas=a,b", "betas"),
        ("one.betas=(0.9, 0.99)", r"expected 2 numbers separated by commas, for example 0.9,0.95$"),
        ("one.betas=(0.9, 0.99)", r"expected 2 numbers separated by commas, for example 0.9,0.95$"),
        ("one.betas=0.9,NaN", r"expected 2 numbers separated by commas"),
        ("one.inner=3", "Inner"),
        ("one.lr=-1", r"--set one.lr=-1: lr must be >= 0"),
    ],
)
def test_bad_overrides_say_what_to_change(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        override(Outer(), text)
    said = str(error.value)
    assert said.startswith("--set") and "\n" not in said


def test_overrides_do_not_depend_on_their_order() -> None:
    """Lowering both ends passes through an impossible spec in one order; both orders work and agree."""
    for settings in itertools.permutations(["low=1", "high=3"]):
        assert override(Range(), *settings) == Range(1, 3)
    for settings in itertools.permutations(["low=20", "high=30"]):
        assert override(Range(), *settings) == Range(20, 30)


def test_an_impossible_pair_of_overrides_names_the_trouble() -> None:
    with pytest.raises(ValueError, match="must lie below"):
        override(Range(), "low=30", "high=20")
    with pytest.raises(ValueError, match="no setting 'hihg' here; did you mean 'high'"):
        override(Range(), "low=1", "hihg=20")


def test_the_innermost_trouble_is_named_first() -> None:
    """An error in one value comes before an error between values."""

    @dataclass(frozen=True)
    class Both:
        inner: Inner = field(default_factory=Inner)
        most: float = 1.0

        def __post_init__(self) -> None:
            if abs(self.inner.lr) > self.most:
                raise ValueError("too much")

    with pytest.raises(ValueError, match=r"--set inner\.lr=2: too much"):
        override(Both(), "inner.lr=2")
    with pytest.raises(ValueError, match="lr must be >= 0"):
        override(Both(), "inner.lr=-2")
    assert override(Both(), "inner.lr=2", "most=3").inner.lr == 2.0


def test_the_later_of_two_overrides_of_one_setting_counts() -> None:
    assert override(Range(), "high=20", "high=30").high == 30


def test_nearest() -> None:
    assert "'sft_gold'" in nearest("sftgold", ["rl", "sft_gold", "sft"]).split("(")[0]
    assert nearest("zzz", ["rl", "sft"]) == " (valid: rl, sft)"


@pytest.fixture(scope="module")
def tiny() -> Study:
    """Watched on the way, so that every kind of setting is there."""
    made = load_study("tiny")
    return replace(made, evaluation=replace(made.evaluation, dynamics=Dynamics(2_100_000, points=2)))


def test_a_field_added_later_leaves_earlier_keys_alone() -> None:
    @dataclass(frozen=True)
    class Thing:
        a: int = 1

    before = content_hash(Thing())

    @dataclass(frozen=True)
    class Thing:  # type: ignore[no-redef]
        a: int = 1
        b: int = added(5)

    assert content_hash(Thing()) == before != content_hash(Thing(b=6))  # type: ignore[call-arg]


def test_results_that_are_kept_keep_their_keys() -> None:
    """Golden keys: a study finds its store of `desk` again.

    These keys may change if the study's settings change on purpose.
    """
    from foray.study.graph import expand

    first: dict[str, str] = {}
    for node in expand(load_study("desk")).nodes:
        first.setdefault(node.kind, node.key)
    assert (first["train"], first["passk"]) == ("9a9b039474bada99", "f2f8c0ae8e5b8a9a")


def test_overrides_of_a_real_study(tiny: Study) -> None:
    assert override(tiny, "pretrain.lr=1e-3").pretrain.stream.optimizer.lr == 1e-3
    assert override(tiny, "post.rl.lr=1e-5").post.rl.optimizer.lr == 1e-5
    assert override(tiny, "seeds=0,1").seeds == (0, 1)
    assert override(tiny, "seeds=3").seeds == (3,)
    alone = override(tiny, "recipes=rl,sft_gold", "evaluation.dynamics=none")
    assert alone.recipes == ("rl", "sft_gold") and alone.evaluation.dynamics is None
    assert override(tiny, "evaluation.probes=none").evaluation.probes is None
    assert override(tiny, "model.width=48").model.width == 48
    small = ["pretrain.tokens=100000", "pretrain.checkpoints=50000,100000", "evaluation.dynamics.tokens=50000"]
    for settings in itertools.permutations(small):
        assert override(tiny, *settings).pretrain.checkpoints == (50_000, 100_000)


@dataclass(frozen=True)
class Optional:
    """Every way in which a setting may be left out."""

    number: float | None = 1.0
    words: str | None = "x"
    several: tuple[int, ...] | None = (1, 2)
    inner: Any = None
    anything: Any = None
    needed: str = "x"
    needed_several: tuple[str, ...] = ("x",)


def test_what_may_be_left_out_is_set_to_none() -> None:
    full = Optional(inner=Optional(), anything=(1, 2))
    for name in ("number", "words", "several", "inner", "anything"):
        for none in ("none", "None", "null"):
            assert getattr(override(full, f"{name}={none}"), name) is None
    assert override(full, "needed=none").needed == "none" and override(full, "needed_several=none").needed_several


def test_settings_of_a_study_that_do_not_go_together_wait_for_set(tmp_path: Path) -> None:
    """A file that replaces what another setting names can still be given that setting."""
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import replace\nfrom foray.studies import smoke\n\n\ndef study():\n    made = smoke.study()\n"
        "    return replace(made, pretrain=replace(made.pretrain, checkpoints=(20000,)), excursions=(40000,))\n"
    )
    with pytest.raises(ValueError, match=r"own\.py: excursions: 40000 is not one of the checkpoints"):
        load_study(str(file))
    with pytest.raises(ValueError, match=r"dynamics\.tokens \(80000\) must be one of the checkpoints \(20000,\)"):
        load_study(str(file), ["excursions="])
    made = load_study(str(file), ["excursions=", "evaluation.dynamics=none"])
    assert made.starts == (20_000,) and made.evaluation.dynamics is None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pretrain.lr=-1", "lr must be"),
        ("pretrain=null", "a Pretrain stands here, with settings of its own"),
        ("sft.objective=5", "a CrossEntropy stands here"),
        ("post.rl.source=none", "a Rollouts stands here"),
        ("evaluation.max_new_tokens=0", "max_new_tokens must be positive"),
        ("evaluation.dynamics.points=1000000000", "between 1 and 1000"),
        ("pretrain.lr=NaN", "lr=NaN: expected a finite number"),
        ("pretrain.lrr=1", "did you mean 'lr'"),
        ("evaluation.k=1,64", "needs at least 64 samples"),
        ("evaluation.samples=4", "needs at least 32 samples"),
        ("data.vocab_size=100", "at least 257"),
        ("model.width=97", "multiple of heads"),
        ("model.vocab_size=-1", "vocab_size must be >= 0"),
        ("model.init_std=-0.1", "init_std must be >= 0"),
        ("model.embed_std=-0.1", "embed_std must be >= 0"),
        ("model.norm_eps=0", "norm_eps must be positive"),
        ("model.rope_theta=-1", "rope_theta must be positive"),
        ("pretrain.batch_size=0", "batch_size must be positive, not 0"),
        ("pretrain.length=0", "length must be positive, not 0"),
        ("pretrain.length=-4", "length must be positive, not -4"),
        ("pretrain.eps=0", "eps must be positive"),
        ("recipes=interpolated,rl,sft_rl post.weights=0,0", "interpolated divides by the sum of post.weights"),
        ("post.rl.final=-0.1", "final must be >= 0"),
        ("post.sft.weight_decay=-0.1", "weight_decay must be >= 0"),
        ("model.context=100", "longer than the model's context"),
        ("post.rl.group_size=1", "group_size must be at least 2"),
        ("post.rl.updates_per_draw=3", "multiple of updates_per_draw"),
        ("post.rl.questions=5", "same questions"),
        ("pretrain.checkpoints=7000000", "checkpoints must lie"),
        ("pretrain.checkpoints=2000000,1000000", "rising order"),
        ("seeds=0,0", "distinct"),
        ("post.rl_steps=0", "positive"),
        ("post.weights=-1,0.5", "must be finite and >= 0"),
        ("post.weights=NaN,0.5", r"expected 2 numbers separated by commas"),
        ("post.weights=0.5", "weights"),
        ("evaluation.temperature=Infinity", "temperature"),
        ("pretrain.weight_decay=NaN", "weight_decay"),
        ("post.rl.format_reward=NaN", "format_reward"),
        ("evaluation.probes=world", "a WorldProbes stands here"),
        ("evaluation.dynamics.points=0", "dynamics.points must lie between 1 and 1000"),
        ("evaluation.dynamics.tokens=5", r"dynamics.tokens \(5\) must be one of the checkpoints"),
        ("evaluation.dynamics.recipes=sftrl", r"'sftrl', .*\.recipes=sft_rl$"),
        ("recipes=rl", r"'sft_rl', which is no recipe of the study: set evaluation.dynamics=None, or \S+\.recipes=rl$"),
        ("recipes=sft", r"dynamics watches 'rl', .* or evaluation\.dynamics\.recipes=sft$"),
    ],
)
def test_impossible_values_are_refused_where_they_are_set(tiny: Study, setting: str, message: str) -> None:
    """In one line that names the setting, before anything runs, and not by a crash in the middle of a study."""
    with pytest.raises(ValueError, match=message) as error:
        study = override(tiny, *setting.split())
        for recipe in study.recipes:
            study.stages(recipe)
        content_hash(replace(study, notes=()))
    assert "\n" not in str(error.value)


def test_a_setting_inside_of_what_is_not_there_says_so() -> None:
    words = r"^--set evaluation\.dynamics\.tokens: evaluation\.dynamics is none here, without settings"
    with pytest.raises(ValueError, match=words):
        override(load_study("tiny"), "evaluation.dynamics.tokens=5")


def test_what_was_wrong_before_a_setting_is_not_laid_to_it(tiny: Study) -> None:
    with pytest.raises(ValueError, match=r"^evaluation\.dynamics watches 'sft_rl'"):
        override(replace(tiny, recipes=("rl",)), "post.lora.rank=8")
    assert override(replace(tiny, recipes=("rl",)), "evaluation.dynamics.recipes=rl").recipes == ("rl",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdamW(schedule="cosin"), "schedule is 'cosin'; did you mean 'cosine'"),  # type: ignore[arg-type]
        (lambda: AdamW(lr="fast"), "lr is 'fast': write a finite number"),  # type: ignore[arg-type]
        (lambda: AdamW(lr=math.nan), "lr is nan: write a finite number"),
        (lambda: AdamW(clip=math.inf), "clip is inf: write a finite number"),
        (lambda: AdamW(eps=0.0), "eps must be positive, not 0.0"),
        (lambda: AdamW(weight_decay=-1), "weight_decay must be >= 0, not -1"),
        (lambda: PolicyGradient(clip_low=2.0), "clip_low must lie between 0 and 1, not 2.0"),
    ],
)
def test_impossible_values_are_refused_where_specs_are_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_users_subclass_annotates_its_own_fields_as_it_likes() -> None:
    own = [("power", "Tensor", None), ("kl", "no type", 0.5)]
    made = make_dataclass("Mine", own, bases=(PolicyGradient,), frozen=True)
    assert made(power="x", clip_low=0.1).kl == 0.5
    with pytest.raises(ValueError, match="clip_low is 'x': write a finite number"):
        made(power="x", clip_low="x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: smoke_with("evaluation", probes=WorldProbes), "a class stands there: write WorldProbes(), an"),
        (lambda: smoke_with(pretrain=AdamW()), "pretrain is an AdamW: write Pretrain(...) or Published(...)"),
        (lambda: AdamW(no_decay="norm"), "no_decay is 'norm': write a tuple, ('norm',)"),
        (lambda: AdamW(betas=(0.9, 0.95, 0.99)), "betas is (0.9, 0.95, 0.99): write a tuple of 2 values (a finite"),
        (lambda: AdamW(betas=(0.9, None)), "betas[1] is None: write a finite number"),
        (lambda: smoke_with(seeds=0), "seeds is 0: write a tuple, (0,)"),
        (lambda: smoke_with(seeds=[0, 1]), "seeds is [0, 1]: write a tuple, in round brackets"),
        (lambda: smoke_with(seeds=(np.int64(0),)), "seeds[0] is np.int64(0): write int() around it"),
        (lambda: smoke_with("data", root=Path("x")), "root is PosixPath('x'): write str() around it"),
        (lambda: AdamW(lr=np.float32(0.1)), "lr is np.float32(0.1): write float() around it"),  # type: ignore[arg-type]
        (lambda: smoke_with(seeds=("0",)), "seeds[0] is '0': write a whole number"),
        (lambda: smoke_with(model="gpt2"), "model is 'gpt2': write a ModelConfig"),
        (lambda: smoke_with(data=None), "data is None: write a Data"),
        (lambda: smoke_with(notes=3), "notes is 3: write a tuple of texts"),
        (lambda: smoke_with(recipes=(AdamW(),)), "recipes[0] is an AdamW: write a text or a function or a Variant"),
        (lambda: smoke_with("post", rl_steps=2.5), "rl_steps is 2.5: write a whole number"),
        (lambda: smoke_with("post", rl_steps=True), "rl_steps is True: write a whole number"),
        (lambda: smoke_with("post", stop=3), "stop is 3: write a Plateau or None"),
        (lambda: smoke_with("post", weights=(0.5, math.nan)), "weights[1] is nan: write a finite number"),
        (lambda: smoke_with("evaluation", samples=8.0), "samples is 8.0: write a whole number"),
        (lambda: smoke_with("evaluation", k=(1.5, 8)), "k[0] is 1.5: write a whole number"),
        (lambda: smoke_with("evaluation", task="gsm8k"), "task is 'gsm8k': write a task, such as GSM8K()"),
        (lambda: smoke_with("evaluation", engine="vlm"), "engine is 'vlm'; did you mean 'vllm'? (valid: embedded,"),
        (lambda: smoke_with("evaluation", split=1), "split is 1 (valid: validation, test)"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_with_what_to_write(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as e:
        make()
    assert message in str(e.value) and "\n" not in str(e.value)


def smoke_with(part: str = "", **changes: Any) -> Study:
    study = load_study("smoke")
    return replace(study, **({part: replace(getattr(study, part), **changes)} if part else changes))


def _specs() -> set[type]:
    """Every dataclass that a study or a mix of the user's own may hold."""
    modules = [
        importlib.import_module(m.name)
        for package in (
            "foray.core",
            "foray.data",
            "foray.tasks",
            "foray.evals",
            "foray.model",
            "foray.study",
            "foray.world",
        )
        for m in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        if m.name.rpartition(".")[2] in _OF_SPECS
    ]
    kinds = {k for m in modules for k in vars(m).values() if isinstance(k, type) and k.__module__ == m.__name__}
    frozen = {k for k in kinds if is_dataclass(k) and k.__dataclass_params__.frozen and k.__name__[0] != "_"}  # type: ignore[attr-defined]
    return {k for k in frozen if fields(k)}


_OF_SPECS = (
    "engines", "lora", "machine", "schedules", "sources", "stage", "prepared", "prepare", "text", "gsm8k", "jsonl",
    "math", "openmath", "svamp", "abilities", "benchmarks", "config", "spec", "variants", "drills", "math_text",
    "problems", "prose",
)  # fmt: skip


@pytest.mark.parametrize("kind", sorted(_specs() | {WorldSpec, PolicyGradient, CrossEntropy}, key=lambda k: k.__name__))
def test_every_spec_looks_at_the_types_of_its_values(kind: type) -> None:
    spec = object.__new__(kind)
    names = [f.name for f in fields(kind)]
    for name in names:
        object.__setattr__(spec, name, 1j)
    with pytest.raises(ValueError, match=f"^({'|'.join(names)}) is 1j"):
        spec.__post_init__()


def test_a_number_beyond_all_floats_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="problems must be at most"):
        override(load_study("smoke"), f"evaluation.problems={10**400}")
