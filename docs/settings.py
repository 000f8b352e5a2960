"""Writes docs/settings.md: every setting of every class that a study is made of.

``PYTHONPATH=src python docs/settings.py`` writes the page anew. ``tests/test_settings_page.py`` holds page and code
together.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foray.core import engines, lora, objectives, schedules, sources, stage
from foray.core.override import written
from foray.data import prepare, prepared, text
from foray.evals import abilities, benchmarks
from foray.model import config
from foray.study import spec, variants
from foray.study.setting_words import meanings
from foray.tasks import gsm8k, jsonl, math, openmath, svamp
from foray.world.general import facts, prose
from foray.world.math import drills, math_text, problems

PAGE = Path(__file__).parent / "settings.md"
SECTIONS: dict[str, tuple[type, ...]] = {
    "The study": (
        spec.Study, spec.Data, spec.Pretrain, spec.Published, spec.Evaluation, spec.Dynamics, spec.Part,
        variants.Variant,
    ),
    "The model": (config.ModelConfig,),
    "Post-training": (stage.PostTraining, stage.Together, stage.AfterSFT, stage.Plateau, lora.LoRA),
    "Streams and stages": (stage.Stream, stage.AdamW, stage.Joint, stage.Stage, stage.Merge),
    "Weights that change": (schedules.Ramp, schedules.Turns, schedules.Shift, schedules.Follow),
    "Sources of batches": (sources.Corpus, sources.Demonstrations, sources.Rollouts, sources.Screen),
    "Losses": (objectives.CrossEntropy, objectives.PolicyGradient),
    "Engines": (engines.VLLM,),
    "Tasks": (
        problems.WorldProblems, gsm8k.GSM8K, math.MATH, openmath.OpenMathInstruct, svamp.SVAMP, jsonl.OwnProblems,
    ),
    "Text": (
        math_text.StoryMath, drills.Drills, prose.Web, prose.Wiki, prose.Flan, text.Text, text.JsonlText,
        prepared.Prepared, gsm8k.GSM8KText,
    ),
    "General abilities": (abilities.WorldProbes, facts.WorldSpec, benchmarks.Benchmarks),
    "Mixes of foray prepare": (prepare.Mix, prepare.OwnTokenizer),
}  # fmt: skip
_RULES = {"require_positive": "> 0", "require_not_negative": "≥ 0"}
_HEAD = """# Every setting

`foray settings STUDY` prints the settings of one study, by the keys that `--set` takes. This page has the settings of
every class that a study is made of. [studies.md](studies.md) says how to write a study. Settings marked \\* are part of
no key: a result is used again where only these differ. `python docs/settings.py` writes this page from the code.
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for heading, kinds in SECTIONS.items():
        lines.append(f"## {heading}\n")
        for kind in kinds:
            lines += [f"### {kind.__name__}\n", f"{_escaped(inspect.getdoc(kind) or '')}\n", *_table(kind), ""]
    return "\n".join(lines)


def _table(kind: type) -> Iterator[str]:
    yield "| setting | type | default | valid | meaning |"
    yield "|---|---|---|---|---|"
    known, valid, fields = meanings(kind), _valid(kind), dataclasses.fields(kind)  # type: ignore[arg-type]
    for f in fields:
        if f.init:
            star = "" if f.metadata.get("hash", True) else " \\*"
            cells = (_type(kind, f), _default(f), valid.get(f.name, ""), _escaped(known.get(f.name, "")))
            yield " | ".join((f"| `{f.name}`{star}", *cells)) + " |"


def _escaped(words: str) -> str:
    return words.replace("``", "`").replace("|", "\\|").replace("<", "&lt;")


def _type(kind: type, f: dataclasses.Field[Any]) -> str:
    if _words(typing.get_type_hints(kind)[f.name]):
        return "one of"
    return "`" + str(f.type).replace("|", "\\|") + "`"


def _words(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _default(f: dataclasses.Field[Any]) -> str:
    value = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value):
        return f"`{type(value).__name__}()`"
    return "empty" if value in ("", ()) else f"`{value if isinstance(value, str) else written(value)}`"


def _valid(kind: type) -> dict[str, str]:
    """What the class's own checks and annotations say of the values of its settings."""
    found = {name: ", ".join(f"`{w!r}`" for w in _words(hint)) for name, hint in typing.get_type_hints(kind).items()}
    for cls in reversed(kind.__mro__):
        if "__post_init__" not in vars(cls):
            continue
        for call in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(vars(cls)["__post_init__"])))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            given = [a.value for a in call.args if isinstance(a, ast.Constant)]
            if call.func.id in _RULES:
                found |= dict.fromkeys(map(str, given), _RULES[call.func.id])
            elif call.func.id == "require_between":
                found |= dict.fromkeys(map(str, given[2:]), f"{given[0]} to {given[1]}")
            elif call.func.id == "check_truncation":
                found |= {"top_p": "> 0, ≤ 1", "top_k": "≥ 0", "min_p": "≥ 0, &lt; 1"}
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
