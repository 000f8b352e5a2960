"""One meaning a word: no two files have one name, and no two public classes. A section has the name of its file."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import foray
from foray.report import sections

ROOT = Path(foray.__file__).parent

# Every package has an __init__, and a mix has the name of the study that reads it.
SHARED = ("__init__", "gsm8k_small")


def met_twice(found: dict[str, list[str]]) -> str:
    return "\n".join(f"{name}: {', '.join(where)}" for name, where in found.items() if len(where) > 1)


def test_no_two_files_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        if path.stem not in SHARED:
            found[path.stem].append(str(path.relative_to(ROOT)))
    assert not met_twice(found)


def test_no_two_public_classes_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert not met_twice(found)


def test_a_section_has_the_name_of_its_file_unless_another_file_has_that_name() -> None:
    taken = {path.stem for path in ROOT.rglob("*.py") if path.parent.name != "sections"}
    files = {section.NAME: vars(section)["__name__"].rpartition(".")[2] for section in sections.discover()}
    wrong = [f"{file}.py: {name}" for name, file in files.items() if file != name and name not in taken]
    assert files and not wrong, ", ".join(wrong)
