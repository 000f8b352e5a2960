"""The pages for readers of the code are true: the files and names exist, and one GRPO update has the stated shapes."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from conftest import Sums
from foray.cli import build_parser
from foray.core.batch import Batch
from foray.core.objectives import PolicyGradient
from foray.core.sources import Rollouts
from foray.core.stage import AdamW, Stage, Stream
from foray.data.tokenizer import TextTokenizer
from foray.model.config import ModelConfig
from foray.rollout import torch_engine
from foray.study.named_recipes import named_recipes
from foray.study.named_studies import load_study
from foray.train import rollouts, scoring
from test_laws import start, train
from test_layers import LEVELS

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "foray"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"])
# Where a path of a page may begin: at the root, at the package, beside the tests.
BASES = (ROOT, SOURCE, ROOT / "tests", ROOT / "benchmarks")
KINDS = r"py|md|toml|csv|html|yaml|sh|cff"
# A user's files, by the beginnings of their names.
ELSEWHERE = ("my_", "FILE", "MY_")
IN_A_STORE = ("report/own/", "watched.py")
page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


@cache
def defined(path: Path) -> set[str]:
    """The names that a module defines: ``name``, ``Class`` and ``Class.member``, tests and private names too."""
    return set(_names(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from _names(node.body, f"{node.name}.")
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            if isinstance(target, ast.Name):
                yield prefix + target.id


def found(path: str) -> Path | None:
    """The file or folder of the source that a page means. A module's bare name is met once (test_names.py)."""
    places = [base / path for base in BASES]
    if "/" not in path and path.endswith(".py"):
        places += SOURCE.rglob(path)
    return next((place for place in places if place.exists()), None)


def named(text: str) -> Iterator[tuple[str, str]]:
    """(path, name or nothing) of everything in backticks that is a file of the source, or a folder of a package."""
    for path, name in re.findall(rf"`(?:\.\./)*([\w./-]+\.(?:{KINDS}))(?::([\w.]+))?`", text):
        of_a_report = "/" not in path and path.endswith((".csv", ".html"))
        elsewhere = path.rpartition("/")[2].startswith(ELSEWHERE) or path.startswith(("runs/", "DIR/"))
        if not (of_a_report or elsewhere or path in IN_A_STORE):
            yield path, name
    for path in re.findall(r"`([\w./-]+/)`", text):
        if path not in IN_A_STORE and path.partition("/")[0] in (*LEVELS, "src", "tests", "docs", "benchmarks"):
            yield path, ""


def test_the_table_of_figures_names_parts_that_studies_have() -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    last = [row.rpartition("| ")[2] for row in re.findall(r"^\| `[a-z]\d_.*(?= \|$)", text, re.MULTILINE)]
    named = [
        (study, part)
        for places in last
        for studies, parts in re.findall(r"((?:\w+, )*\w+): ((?:`\w+`(?:, )?)+)", places)
        for study in studies.split(", ")
        for part in re.findall(r"`(\w+)`", parts)
    ]
    assert len(named) > 10 and ("desk", "seeds") in named
    known = {study: {part.name for part in load_study(study, []).parts} for study, _ in named}
    assert [place for place in named if place[1] not in known[place[0]]] == []


@page
def test_every_file_and_name_on_a_page_is_in_the_source(page: Path) -> None:
    wrong = []
    for path, name in named(page.read_text(encoding="utf-8")):
        place = found(path)
        if place is None:
            wrong.append(f"{path} is not there")
        elif name and name not in defined(place):
            wrong.append(f"{path} does not define {name}")
    assert not wrong, f"{page.name}: " + "; ".join(wrong)


@page
def test_every_link_of_a_page_leads_to_the_file_that_it_names(page: Path) -> None:
    wrong = []
    for label, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        place = (page.parent / target.partition("#")[0]).resolve()
        if not place.exists():
            wrong.append(f"{target} is not there")
        for path, _ in named(label):
            if (there := found(path)) is None or there.resolve() != place:
                wrong.append(f"{label} leads to {target}")
    assert not wrong, f"{page.name}: " + "; ".join(wrong)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).strip().replace(" ", "-") for line in lines}


@page
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    wrong = []
    for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if "://" not in target and place.suffix == ".md" and anchor not in headings(place):
            wrong.append(target)
    assert not wrong, f"{page.name}: {wrong}"


@page
def test_every_command_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w. -]+):", makefile, re.M))
    made = {name for names in targets for name in names.split()}
    typed = {name for name in re.findall(r"(?:^|`)make ([a-z]\w*(?:-\w+)*)", text, re.M) if name not in made}
    parser = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    typed |= {name for name in re.findall(r"(?:^|`)foray ([a-z]+)", text, re.M) if name not in parser.choices}
    assert not typed, f"{page.name}: {', '.join(sorted(typed))}"


def test_the_picture_of_the_packages_has_the_levels_of_the_layers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = {int(line[0]): line[1:] for line in text.split("```")[1].splitlines() if re.match(r"\d  ", line)}
    shown = {
        name.strip("/").removesuffix(".py"): level
        for level, line in picture.items()
        for name in re.findall(r"\w+/|\w+\.py", line)
    }
    assert shown == LEVELS


def test_one_grpo_update_has_the_shapes_of_the_page(
    config: ModelConfig, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    P, G = 6, 4
    source = Rollouts(Sums(), 20, prompts=P, group_size=G, max_new_tokens=8, format_reward=0.5, validation=0)
    stream = Stream("rl", source, PolicyGradient(), AdamW())
    run = start(config, tokenizer)
    seen: dict[str, Any] = {}

    def watch(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            out = list(out) if name == "pack" else out
            seen.setdefault(name, out)
            return out

        monkeypatch.setattr(module, name, watched)

    for name in ("_questions", "answers", "group_advantages", "_to_batch"):
        watch(rollouts, name)
    for name in ("uniforms", "read_prompts", "sample"):
        watch(torch_engine, name)
    for name in ("pack", "_scored_states", "_logprobs", "loss_of"):
        watch(scoring, name)
    train(run, Stage("rl", ((1.0, stream),), 1))

    text = (ROOT / "docs" / "one_grpo_update.md").read_text(encoding="utf-8")

    def row(name: str) -> str:
        rows = [line for line in text.splitlines() if re.match(rf"\| \[`[\w/]+\.py:{name}`\]", line)]
        assert len(rows) == 1, f"{name} has {len(rows)} rows"
        return rows[0]

    batch, [packed] = seen["_to_batch"], seen["pack"]
    assert isinstance(batch, Batch)
    sizes = {
        "P": P, "G": G, "B": P * G, "T": batch.tokens.shape[1], "D": config.width,
        "M": packed.tokens.shape[1], "N": len(packed.place), "1": 1,
        "S": P * G, "max_new_tokens": source.max_new_tokens,
    }  # fmt: skip

    def check(name: str, shape: str, *tensors: Any) -> None:
        assert shape in row(name), row(name)
        wanted = tuple(sizes[letter] for letter in re.findall(r"\w+", shape))
        assert [tuple(t.shape) for t in tensors] == [wanted] * len(tensors), name

    assert "P problems" in row("_questions") and len(seen["_questions"]) == P
    assert "P groups, each of G completions" in row("answers")
    assert [(len(completions), len(marks)) for _, completions, marks in seen["answers"]] == [(G, G)] * P
    check("uniforms", "(S, max_new_tokens)", seen["uniforms"])
    assert "states (P, longest prompt, D)" in row("read_prompts")
    longest = max(len(prompt) for prompt, _, _ in seen["answers"])
    assert tuple(seen["read_prompts"][0].shape) == (P, longest, config.width)
    check("sample", "(S,)", *seen["sample"])
    check("group_advantages", "(P, G)", seen["group_advantages"])
    check("_to_batch", "(B, T)", batch.tokens, batch.targets, batch.weight, batch.advantage, batch.behaviour)
    check("_to_batch", "(B,)", batch.group, batch.shared)
    check("pack", "(1, M)", packed.tokens)
    check("pack", "(N,)", packed.row, packed.time, packed.place)
    hidden, targets = seen["_scored_states"]
    check("_scored_states", "(N, D)", hidden)
    check("_scored_states", "(N,)", targets)
    check("_logprobs", "(N,)", *seen["_logprobs"])
    check("loss_of", "(N,)", seen["loss_of"])
    assert isinstance(hidden, Tensor) and 0 < sizes["N"] < int((batch.weight != 0).sum()), "some groups have no signal"


def test_every_recipe_stands_in_the_guide_to_studies() -> None:
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    lacking = [name for name in named_recipes() if f"`{name.removesuffix('_gold')}`" not in text]
    assert not lacking
