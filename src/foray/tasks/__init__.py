"""Tasks: problems, a prompt format and a verifier each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from foray.core.task import Task
from foray.tasks.gsm8k import GSM8K, GSM8KText
from foray.tasks.jsonl import OwnProblems
from foray.tasks.math import MATH
from foray.tasks.openmath import OpenMathInstruct
from foray.tasks.svamp import SVAMP
from foray.world import WorldProblems

__all__ = [
    "GSM8K",
    "HUB",
    "MATH",
    "SVAMP",
    "GSM8KText",
    "OpenMathInstruct",
    "OwnProblems",
    "WorldProblems",
    "named_tasks",
]

HUB = "hub"  # in place of a folder: data sets come from the Hugging Face hub


def task_of(spec: dict[str, Any]) -> Task:
    """The task of a JSON that ``to_json`` made, without a root. Raises ValueError for a task of somebody else."""
    kind = str(spec.get("type"))
    classes = {type(task).__name__: type(task) for task in named_tasks().values()}
    if kind not in classes:
        raise ValueError(f"{kind.rpartition(':')[2]} is not among Foray's own tasks")
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items() if k not in ("type", "fingerprint")}
    try:
        task: Task = classes[kind](**given)
    except TypeError:
        raise ValueError(f"the settings {', '.join(given)} are not those of the task {kind}") from None
    return task


def _own_problems(root: str) -> OwnProblems:
    """Of the files below ``root``: those who only measure need no training problems."""
    task = OwnProblems(root=root)
    alone = (Path(root) / task.test).exists() and not (Path(root) / task.train).exists()
    return replace(task, train="") if alone else task


def named_tasks(data_root: str = "") -> dict[str, Task]:
    """The tasks that ``foray eval --task NAME`` knows. ``data_root``: the folder of local files, or ``hub``."""
    hub = data_root == HUB
    root = "" if hub else data_root
    gsm8k = ("openai/gsm8k:main",) * 2 if hub else ("gsm8k/train.jsonl", "gsm8k/test.jsonl")
    math = ("EleutherAI/hendrycks_math:*",) * 2 if hub else ("math/train.jsonl", "math/test.jsonl")
    math500 = "HuggingFaceH4/MATH-500" if hub else "math500/test.jsonl"
    svamp = ("ChilleD/SVAMP",) * 2 if hub else ("svamp/train.json", "svamp/test.json")
    tests = {"": (gsm8k[1], math[1]), "gsm8k": (gsm8k[1],), "math": (math[1],)}
    tasks: list[Task] = [
        WorldProblems("easy"),
        WorldProblems("hard"),
        GSM8K(root, *gsm8k),
        GSM8K(root, *gsm8k, box=True),
        MATH(root, *math),
        MATH(root, math[0], math500, name="math500"),
        *(
            OpenMathInstruct(
                version, like, root, f"nvidia/OpenMathInstruct-{version}" if hub else "", tests=tests[like]
            )
            for version in (1, 2)
            for like in ("", "gsm8k", "math")
        ),
        SVAMP(root, *svamp),
        _own_problems(root),
    ]
    return {task.name: task for task in tasks}
