"""Each kind of extension in one file outside the package. Foray takes a file of ``tests/own/`` like a user's file."""

from __future__ import annotations

import csv
import html
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from foray.cli import main
from foray.core.beside import Uncached
from foray.core.engines import VLLM
from foray.core.files import read_json, read_jsonl
from foray.core.userfile import own_object
from foray.data.tokenizer import TextTokenizer
from foray.evals.own_measure import measured
from foray.model.transformer import Transformer
from foray.report import write_report
from foray.rollout.choose import open_engine
from foray.study.contracts import check_study
from foray.study.graph import expand
from foray.study.kinds.measures import MeasureNode, PassKNode
from foray.study.kinds.training import TrainNode
from foray.study.manifest import report_study
from foray.study.named_studies import load_study
from foray.study.spec import Study
from foray.study.store import Store
from foray.train.checkpoint import save_checkpoint
from test_report import Study as Numbers
from test_study import brief, compute, pretrained_to, study

OWN = Path(__file__).parent / "own"
Said = pytest.CaptureFixture[str]


def refused(capsys: Said, *words: str) -> str:
    assert main(words) == 1
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and "Traceback" not in said
    return said


# --- a task ---------------------------------------------------------------------------------------------------------

TASK = str(OWN / "my_task.py")


@pytest.mark.parametrize(("name", "called"), [("Doubles", "doubles"), ("named", "my_doubles"), ("twice", "twice")])
def test_a_task_evaluates_and_grades(
    capsys: Said, tmp_path: Path, model: Transformer, tokenizer: TextTokenizer, name: str, called: str
) -> None:
    save_checkpoint(tmp_path / "made", model, tokenizer)
    words = ["--problems", "3", "--samples", "2", "--max-new-tokens", "4", "--out", str(tmp_path / "kept")]
    assert main(["eval", str(tmp_path / "made" / "model"), "--task", f"{TASK}:{name}", *words]) == 0
    assert json.loads((tmp_path / "kept" / "settings.json").read_text())["task"]["name"] == called
    graded = tmp_path / "graded.jsonl"
    kept = tmp_path / "kept" / "completions.jsonl"
    assert main(["grade", f"{TASK}:{name}", str(kept), "--out", str(graded)]) == 0
    assert "0 of the 6 stored verdicts have changed" in " ".join(capsys.readouterr().out.split())
    rows = tmp_path / "rows.jsonl"
    graded.unlink()
    rows.write_text('{"gold": "8", "answer": "8"}\n{"gold": "8", "completions": ["7", " 8"]}\n')
    assert main(["grade", f"{TASK}:{name}", str(rows), "--out", str(graded)]) == 0
    assert [json.loads(line)["correct"] for line in graded.read_text().splitlines()] == [True, [False, True]]


NEEDS = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    size: int\n"
RAISES = "from my_task import Doubles\nclass Mine(Doubles):\n    def verify(self, *_):\n        return {}['gone']\n"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "", "name the task too, FILE.py:NAME"),
        ("class Mine: ...\n", ":Mien", "has no 'Mien'; did you mean 'Mine'?"),
        ("class Mine: ...\n", ":Mine", "write @dataclass(frozen=True) above the class"),
        (NEEDS.replace(": int", ": int = 1"), ":Mine", "one has no name"),
        (NEEDS, ":Mine", "TypeError: Mine.__init__() missing 1 required positional argument: 'size'"),
        ("import nothing_there\n", ":Mine", "line 1: ModuleNotFoundError"),
        (RAISES, ":Mine", "mine.py, line 4: Mine.verify: KeyError: 'gone'"),
    ],
)
def test_a_task_that_is_none_is_one_line(
    capsys: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, message: str
) -> None:
    monkeypatch.syspath_prepend(str(OWN))
    file, rows = tmp_path / "mine.py", tmp_path / "rows.jsonl"
    file.write_text(text)
    rows.write_text('{"gold": "8", "answer": "8"}\n')
    (tmp_path / "there").mkdir()
    assert message in refused(capsys, "grade", f"{file}{name}", str(rows), "--out", str(tmp_path / "graded"))
    assert message in refused(capsys, "eval", str(tmp_path / "there"), "--task", f"{file}{name}")
    assert not (tmp_path / "graded").exists()


# --- a figure and a section -----------------------------------------------------------------------------------------

FIGURE, SECTION = (str(OWN / f"my_{kind}.py") for kind in ("figure", "section"))


def with_report(root: Path, *files: str) -> Study:
    """A study in its own file, with other files beside it."""
    lines = ["from dataclasses import replace", "from test_study import brief", "def study():"]
    (root / "own_study.py").write_text("\n".join([*lines, f"    return replace(brief(), report={files!r})"]))
    return load_study(str(root / "own_study.py"))


def test_a_figure_and_a_section_are_in_the_report_and_in_no_key(tmp_path: Path) -> None:
    shutil.copy(FIGURE, tmp_path / "mine.py")
    made, store = with_report(tmp_path, "mine.py", SECTION), Store(tmp_path / "store")
    assert made.report == (str(tmp_path / "mine.py"), SECTION)
    assert [n.key for n in expand(made).nodes] == [n.key for n in expand(brief()).nodes]
    store.root.mkdir()
    out = report_study(made, store).parent
    assert "my_section" not in (store.root / "manifest.json").read_text(), "a store names no code"
    page = (out / "index.html").read_text()
    assert "0 numbers.</p>" in page and (out / "own" / "my_counts.csv").exists()
    assert 'href="own/my_counts.csv"' in page
    assert "no pass@1 has been measured" in page, "nothing has been run"
    numbers = Numbers(tmp_path / "numbers")
    numbers.passk("base", 0.5, problems=5, tokens=900_000, stage_step=0, task="world_easy", shots=8)
    page = write_report(numbers.write(), tmp_path / "drawn", own=[Path(FIGURE), Path(SECTION)]).read_text()
    assert "Mine: pass@1 of each checkpoint" in page and "Mine: how many numbers" in page
    for kind in ("csv", "png", "pdf"):
        assert (tmp_path / "drawn" / "figures" / f"my_figure.{kind}").stat().st_size > 0
    before = (out / "index.html").stat().st_mtime_ns
    report_study(made, store, redraw=False)
    assert (out / "index.html").stat().st_mtime_ns == before
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("no pass@1", "no such pass@1"))
    report_study(made, store, redraw=False)
    assert "no such pass@1" in (out / "index.html").read_text(), "an edited file is drawn again"
    report_study(replace(made, report=()), store, redraw=False)
    assert "no such pass@1" not in (out / "index.html").read_text(), "a file that is named no more is left out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no figure file"),
        ("NAME = 'x'\n", "x.py: a figure has NAME, TITLE, data, draw, caption; this one has no TITLE and no data"),
        ("def section(results): ...\n", "a section has NAME, TITLE, PLACE, section; this one has no NAME and no TITLE"),
        ("NAME, TITLE = 'f1_overview', ''\ndata = draw = caption = print\n", "'f1_overview' already; rename it"),
        ("NAME, TITLE = '../x', ''\ndata = draw = caption = print\n", "a figure cannot be called '../x'"),
        ("NAME, TITLE = 'x', ''\ndata = draw = caption = print\n", "x.py: TypeError: data() returns None"),
        (
            "import pandas as pd\nfrom foray.report.sections import Section\nNAME, TITLE, PLACE = 'x', '', 9\n"
            "def section(results):\n    return Section('x', {'../../evil': pd.DataFrame({'a': [1]})})\n",
            "a CSV file of section x cannot be called '../../evil'",
        ),
        ("import sys\nsys.exit(3)\n", "line 2: it ends the program"),
        ("NAME, TITLE, PLACE = 'x', '', 9\ndef section(results):\n    raise ValueError('odd')\n", "x.py, line 3: odd"),
    ],
)
def test_a_broken_file_of_a_report_is_named_and_the_rest_is_drawn(
    tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "x.py").write_text(text)
    manifest = Numbers(tmp_path).write()
    with pytest.raises(ValueError, match=re.escape(message)) as e:
        write_report(manifest, tmp_path / "out", own=[tmp_path / "x.py", Path(SECTION)])
    assert "\n" not in str(e.value)
    page = html.unescape((tmp_path / "out" / "index.html").read_text())
    assert message in page and "0 numbers.</p>" in page


def test_a_file_of_a_report_that_is_not_there_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"report: there is no file .*/nowhere\.py"):
        check_study(with_report(tmp_path, "nowhere.py"))
    with pytest.raises(ValueError, match=r"report is 'mine.py': write a tuple, \('mine.py',\)"):
        replace(brief(), report="mine.py")  # type: ignore[arg-type]


# --- an engine ------------------------------------------------------------------------------------------------------


def with_engine(engine: Any) -> Study:
    made = study(recipes=("rl",), pretrain=pretrained_to(768))
    source = replace(made.post.rl.source, engine=engine)
    asked = replace(made.evaluation, engine=engine)
    return replace(made, post=replace(made.post, rl=replace(made.post.rl, source=source)), evaluation=asked)


def test_an_engine_trains_and_evaluates(tmp_path: Path) -> None:
    kind = own_object(f"{OWN / 'my_engine.py'}:Copies", "engine")
    made, store = with_engine(kind), Store(tmp_path)
    check_study(made)
    compute(made, store)
    rows = [read_jsonl(n.folder(store) / "completions.jsonl") for n in expand(made).nodes if isinstance(n, PassKNode)]
    for row in (row for node in rows for row in node):
        texts = [sample["text"] for sample in row["samples"]]
        assert texts[::2] == texts[1::2]
    keys = [
        {n.key for n in expand(m).nodes} for m in (made, with_engine(replace(kind, copies=3)), with_engine("embedded"))
    ]
    assert keys[0] != keys[1] and keys[2] == {
        n.key for n in expand(study(recipes=("rl",), pretrain=pretrained_to(768))).nodes
    }
    assert any("my_engine:Copies" in json.dumps(n.spec) for n in expand(made).nodes)


def test_an_engine_that_is_none_is_one_line(model: Transformer, tokenizer: TextTokenizer) -> None:
    none = own_object(f"{OWN / 'my_engine.py'}:NoEngine", "engine")
    with pytest.raises(ValueError, match=r"NoEngine.open\(\) returns None, which has no config and no max_rows"):
        open_engine(none, model, tokenizer, VLLM(), "fp32")
    for engine, message in (("vlm", "engine is 'vlm'; did you mean 'vllm'"), (SimpleNamespace(), r"with open\(model")):
        with pytest.raises(ValueError, match=message):
            with_engine(engine)
    with pytest.raises(ValueError, match="frozen=True"):
        check_study(with_engine(SimpleNamespace(open=print)))


# --- a measurement, which is a node of its own kind ------------------------------------------------------------------


def with_measures(*measures: Any) -> Study:
    made = study(recipes=("sft",), pretrain=pretrained_to(768))
    return replace(made, evaluation=replace(made.evaluation, measures=measures))


@dataclass(frozen=True)
class Guess:
    """It draws a number."""

    name: str = "guess"

    def measure(self, model: Any, tokenizer: Any) -> dict[str, float]:
        return {"drawn": float(torch.rand(()))}


def test_a_measurement_draws_by_the_seed_and_not_by_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = with_measures(Guess()), Store(tmp_path)
    compute(made, store)
    base, sft = (n for n in expand(made).nodes if isinstance(n, MeasureNode))
    drawn = [read_json(n.folder(store) / "measure.json") for n in (base, sft)]
    assert drawn[0] == drawn[1], "models that differ in one thing share random numbers"
    facts = base.spec["version"], *drawn[0]["drawn"]
    assert facts == (2, pytest.approx(0.3726916)), "who changes what is drawn raises the version"
    assert isinstance(sft.checkpoint, TrainNode)
    same, other = sft.checkpoint.folder(store), replace(sft, checkpoint=replace(sft.checkpoint, seed=1))
    monkeypatch.setattr(TrainNode, "folder", lambda *_: same)
    other.run(tmp_path, store, lambda **_: None)
    assert read_json(tmp_path / "measure.json") != drawn[0]


def test_a_measurement_is_a_node_and_its_numbers_are_in_the_report(tmp_path: Path) -> None:
    own = own_object(f"{OWN / 'my_measure.py'}:Surprise", "measure")
    made, store = with_measures(own), Store(tmp_path)
    check_study(made)
    compute(made, store)
    nodes = [n for n in expand(made).nodes if isinstance(n, MeasureNode)]
    assert [n.label() for n in nodes] == [
        "surprise: M_t at 768, seed 0",
        "surprise: SFT from 768, seed 0",
    ]
    index = report_study(made, store)
    rows = [row for row in results_of(tmp_path) if row["task"] == "surprise"]
    assert [(r["recipe"], r["metric"], r["n"]) for r in rows] == [
        (recipe, metric, n) for recipe in ("base", "sft") for metric, n in (("nats", "3"), ("weight_norm", "1"))
    ]
    for row in rows:
        several = row["metric"] == "nats"
        assert (row["lo"] < row["value"] < row["hi"]) if several else (row["lo"] == row["hi"] == "")
        assert float(row["value"]) > 1, "no share"
    page = index.read_text()
    assert "Your own measurements" in page and "<th>weight_norm" in re.sub("<th[^>]*>", "<th>", page)
    plain = {n.key for n in expand(with_measures()).nodes}
    assert {n.key for n in expand(made).nodes if n not in nodes} == plain, "the other keys stay"
    assert not any(n.key in plain for n in nodes) and all("my_measure:Surprise" in json.dumps(n.spec) for n in nodes)


@dataclass(frozen=True)
class Gives:
    """A measurement that gives ``numbers``: tuples of a metric and its value."""

    numbers: Any = ()
    name: str = "gives"

    def measure(self, model: Any, tokenizer: Any) -> Any:
        return dict(self.numbers) if isinstance(self.numbers, tuple) else self.numbers


@dataclass(frozen=True)
class Named:
    name: str = "named"


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (None, "Gives.measure() gives None: return a dict of numbers by metric"),
        ((), "Gives.measure() gives {}: return a dict"),
        ((("pass@1", 0.5),), "'pass@1' is a metric of Foray's; rename yours"),
        ((("acc", 0.5),), "'acc' is a metric of Foray's"),
        (((7, 0.5),), "a metric cannot be called 7"),
        ((("x", "much"),), "Gives.measure(), x: 'much' is neither a finite number nor a list of such numbers"),
        ((("x", (1.0, float("nan"))),), "x: (1.0, nan) is neither"),
        ((("x", ()),), "x: () is neither"),
    ],
)
def test_what_is_no_number_is_one_line(
    model: Transformer, tokenizer: TextTokenizer, numbers: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        measured(Gives(numbers), model, tokenizer, 0)


def test_a_measurement_draws_the_same_numbers_and_leaves_the_others_chance_alone(
    model: Transformer, tokenizer: TextTokenizer
) -> None:
    drawn = SimpleNamespace(measure=lambda *_: {"x": torch.rand(3), "grad": float(torch.is_grad_enabled())})
    before = torch.get_rng_state()
    first, second, other = (measured(drawn, model, tokenizer, seed) for seed in (1, 1, 2))
    assert first == second != other and first["grad"] == [0.0]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ((Gives(name="a/b"),), "a measurement cannot be called 'a/b'"),
        ((SimpleNamespace(name="x"),), "frozen=True"),
        ((Named(),), "class Named: a measurement has measure.model, tokenizer., numbers by metric; this one has no"),
    ],
)
def test_a_measurement_that_is_none_is_found_before_anything_runs(measures: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_study(with_measures(*measures))


def test_two_measurements_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two measures share a name: gives, gives"):
        with_measures(Gives(1), Gives(2))
    with pytest.raises(ValueError, match="write a tuple, in round brackets"):
        replace(study().evaluation, measures=[Gives()])


# --- all of them in one study ----------------------------------------------------------------------------------------


def test_a_study_of_files_of_ones_own_runs_by_one_command(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only()
    assert main(["run", str(OWN / "my_study.py"), "--store", str(tmp_path), "--jobs", "1"]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    for words in ("Your own measurements", "Mine: pass@1 of each checkpoint", "Mine: how many numbers", "echo_then_rl"):
        assert words in page
    (log,) = (p for p in tmp_path.glob("nodes/train-*/metrics.jsonl") if "rl/surprise" in p.read_text())
    (spec,) = (p for p in tmp_path.glob("nodes/train-*/spec.json") if '"echo"' in p.read_text())
    assert "my_loss:Reinforce" in (log.parent / "spec.json").read_text() and "my_source:Echoes" in spec.read_text()
    assert {row["task"] for row in results_of(tmp_path)} >= {"doubles", "surprise"}


def results_of(store: Path) -> list[dict[str, str]]:
    with (store / "report" / "results.csv").open() as file:
        return list(csv.DictReader(file))


# --- a file and the modules beside it -------------------------------------------------------------------------------

HELPED = """
from dataclasses import replace
from foray.studies import smoke
from common_settings import SEEDS

def study():
    import common_notes.why
    return replace(smoke.study(), name="helped", seeds=SEEDS, notes=(common_notes.why.NOTE,))
"""


def test_each_study_file_has_the_modules_of_its_own_folder(tmp_path: Path) -> None:
    for name, seeds in (("a", (0,)), ("b", (1, 2))):
        (tmp_path / name / "common_notes").mkdir(parents=True)
        (tmp_path / name / "my.py").write_text(HELPED)
        (tmp_path / name / "common_settings.py").write_text(f"SEEDS = {seeds}")
        (tmp_path / name / "common_notes" / "__init__.py").touch()
        (tmp_path / name / "common_notes" / "why.py").write_text(f"NOTE = {name!r}")
        (tmp_path / name / "tokenizers.py").write_text("raise OSError")  # hides no library
    for name, seeds in (("a", (0,)), ("b", (1, 2)), ("a", (0,))):
        made = load_study(str(tmp_path / name / "my.py"))
        assert (made.seeds, made.notes) == (seeds, (name,))
    assert importlib.util.find_spec("tokenizers").origin.endswith("__init__.py")  # type: ignore[union-attr]


def test_a_file_that_is_rewritten_at_once_runs_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "my.py"
    for seed in (1, 2):
        file.write_text(
            "from dataclasses import replace\nfrom foray.studies import smoke\n"
            f"def study():\n    return replace(smoke.study(), name='x', seeds=({seed},))\n"
        )
        os.utime(file, (1, 1))  # bytecode goes by the second and the size
        assert load_study(str(file)).seeds == (seed,)
    assert [p.name for p in tmp_path.iterdir()] == ["my.py"]


def test_a_library_below_a_study_files_folder_stays_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an environment in a project's folder: its bytecode is used, or a command takes seconds to start."""
    package = tmp_path / "env" / "a_library"
    package.mkdir(parents=True)
    for name in ("__init__", "inner"):
        (package / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "env"))
    (tmp_path / "my.py").write_text("import a_library.inner\nfrom foray.studies.smoke import study")
    load_study(str(tmp_path / "my.py"))
    loaders = [type(sys.modules[name].__loader__) for name in ("foray_study_my", "a_library", "a_library.inner")]
    assert loaders == [Uncached, SourceFileLoader, SourceFileLoader]


def test_a_file_named_like_a_module_built_into_python_hides_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "of_no_file", ModuleType("of_no_file"))
    for name in ("time", "gc", "errno"):
        (tmp_path / f"{name}.py").write_text("raise OSError")
    (tmp_path / "of_no_file.py").write_text("SEED = 3")
    (tmp_path / "my.py").write_text(
        "import time\nfrom dataclasses import replace\nfrom of_no_file import SEED\nfrom foray.studies import smoke\n"
        "def study():\n    return replace(smoke.study(), seeds=(SEED * (time.time() > 0),))\n"
    )
    before = {name: sys.modules[name] for name in ("time", "gc", "errno")}
    assert load_study(str(tmp_path / "my.py")).seeds == (3,)
    assert {name: sys.modules[name] for name in before} == before
