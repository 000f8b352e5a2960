"""Imports point one way, spec code runs without torch, and files and functions stay short."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import foray

ROOT = Path(foray.__file__).parent

# A package imports itself and lower levels.
LEVELS = {
    "core": 0,
    "report": 1,  # further held to core below
    "model": 1,
    "data": 1,
    "answers": 1,
    "world": 2,
    "rollout": 2,
    "tasks": 3,
    "train": 3,
    "evals": 4,
    "mixes": 4,
    "study": 5,
    "studies": 6,
    "commands": 6,
    "api": 6,
    "cli": 7,
    "__main__": 8,
}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 350, 60  # at most, docstrings and comments too


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module of foray) of every import, also inside functions. Imports only for type checkers do not count."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import"
            module = node.module or ""
            names = (
                [f"{module}.{a.name}" for a in node.names]
                if (ROOT.parent / module.replace(".", "/")).is_dir()
                else [module]
            )
        for name in names:
            parts = name.split(".")
            if parts[0] == "foray" and len(parts) > 1 and parts[1] != "__version__":
                yield node.lineno, name


def edges() -> list[tuple[str, str, str]]:
    """(place, importing package, imported package) over the whole source."""
    out = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT)
        package = place.parts[0].removesuffix(".py")
        out += [
            (f"{place}:{line}", package, name.split(".")[1]) for line, name in imports(path) if package != "__init__"
        ]
    return out


def test_every_package_has_a_level() -> None:
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    modules = {p.stem for p in ROOT.glob("*.py")} - {"__init__"}
    assert packages | modules == set(LEVELS)


def test_imports_point_one_way() -> None:
    wrong = [
        f"{place}: {package} imports {target}"
        for place, package, target in edges()
        if package != target and LEVELS[target] >= LEVELS[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_one_another() -> None:
    files = {
        ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p
        for p in ROOT.rglob("*.py")
    }

    def read(name: str) -> set[str]:
        """The files that a file imports. A name in a package counts as its file, or as the package's own file."""
        named = {target if target in files else target.rpartition(".")[0] for _, target in imports(files[name])}
        return (named & files.keys()) - {name}

    left = {name: read(name) for name in files}
    while free := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in free}
    assert not left, "\n".join(
        f"{name} imports {', '.join(sorted(needs & left.keys()))}" for name, needs in left.items()
    )


def test_files_and_functions_stay_short() -> None:
    long = []
    for path in sorted(ROOT.rglob("*.py")):
        place, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > LINES_OF_A_FILE:
            long.append(f"{place} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if (lines := node.end_lineno - node.lineno + 1) > LINES_OF_A_FUNCTION:
                    long.append(f"{place}: {node.name} has {lines} lines")
    assert not long, "\n".join(long)


def test_report_reads_only_core() -> None:
    wrong = [place for place, package, target in edges() if package == "report" and target not in ("report", "core")]
    assert not wrong


def test_nothing_imports_the_command_line() -> None:
    wrong = [place for place, package, target in edges() if target == "cli" and package not in ("__main__", "cli")]
    assert not wrong


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_spec_code_imports_no_torch() -> None:
    modules = ["canonical", "stage", "task", "rng", "objectives", "passk", "files"]
    lines = "; ".join(f"import foray.core.{m}" for m in modules)
    heavy = "{'torch', 'transformers', 'lm_eval', 'tokenizers', 'pandas', 'matplotlib'}"
    assert run_python(f"import sys; {lines}; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_an_update_imports_no_compiler() -> None:
    """``torch._dynamo`` and what it imports take three seconds. torch's optimizer classes import it."""
    lines = """
import sys, torch
from foray.core.stage import AdamW
from foray.model.config import ModelConfig
from foray.model.transformer import initialize
from foray.train.loop import Moments
model = initialize(ModelConfig(width=8, layers=1, heads=1, mlp_width=8, vocab_size=16, context=8), seed=0)
Moments(model, AdamW()).step({name: torch.ones_like(p) for name, p in model.named_parameters()}, 0.1)
print("torch._dynamo" in sys.modules)"""
    assert run_python(lines) == "False"


def test_tasks_and_model_configuration_import_no_torch() -> None:
    lines = "import foray.world, foray.tasks.gsm8k, foray.model.config, foray.train.recipes"
    assert run_python(f"import sys; {lines}; print('torch' in sys.modules)") == "False"


def test_what_stands_beside_the_package_imports_what_is_there() -> None:
    """Nothing runs the benchmarks for a card until a card is at hand."""
    top, wrong = ROOT.parent.parent, []
    for path in sorted(p for folder in ("benchmarks", "docs", "examples") for p in (top / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "foray":
                module = importlib.import_module(node.module)
                for name in (a.name for a in node.names if not hasattr(module, a.name)):
                    if not hasattr(module, "__path__") or importlib.util.find_spec(f"{node.module}.{name}") is None:
                        wrong.append(f"{path.relative_to(top)}: {node.module} has no {name}")
    assert not wrong, "\n".join(wrong)
