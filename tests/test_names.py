"""One meaning a word: no two files have one name, and no two public classes."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import foray

ROOT = Path(foray.__file__).parent

# A mix may have its study's name. The others wait for the packages named behind them.
FILES = {"__init__": "every package has one", "gsm8k_small": "a study and its mix", "sources": "tasks"}
CLASSES = {"Story": "world", "Part": "data", "Evaluation": "report"}


def met_twice(found: dict[str, list[str]], allowed: dict[str, str]) -> str:
    return "\n".join(
        f"{name}: {', '.join(where)}" for name, where in found.items() if len(where) > 1 and name not in allowed
    )


def test_no_two_files_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        found[path.stem].append(str(path.relative_to(ROOT)))
    assert not met_twice(found, FILES)


def test_no_two_public_classes_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert not met_twice(found, CLASSES)
