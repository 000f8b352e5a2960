"""Tasks: problems, a prompt format and a verifier each."""

from __future__ import annotations

from foray.core.task import Task


def named_tasks(data_root: str = "") -> dict[str, Task]:
    """The tasks that ``foray eval --task NAME`` knows; ``data_root`` is where local files lie."""
    from foray.tasks.gsm8k import GSM8K
    from foray.tasks.world import WorldProblems

    tasks: list[Task] = [WorldProblems("easy"), WorldProblems("hard"), GSM8K(data_root)]
    return {task.name: task for task in tasks}
