"""The command that runs a study, kept so that other processes and later commands can find the study's nodes again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from socket import gethostname
from typing import Any

from foray.core.files import read_json, write_json
from foray.core.machine import machine_settings
from foray.study.graph import expand
from foray.study.named_studies import load_study
from foray.study.node import Node
from foray.study.store import ASKED


@dataclass(frozen=True)
class StudyCommand:
    """The words of a command that names a study, and where they were typed.

    Other machines get these words and not the nodes. A class of the user's own exists only where the user's file is
    run. A machine whose code or data makes other nodes says so, and computes nothing else.
    """

    study: str
    settings: tuple[str, ...]
    part: str | None
    store: str
    folder: str  # relative paths begin here
    machine: tuple[str, ...] = ()  # how to compute

    @property
    def threads(self) -> int:
        """Threads of a node as --machine says; 0: the node's share of the cores."""
        return machine_settings(list(self.machine)).threads

    def node(self, key: str) -> Node:
        nodes = _nodes(self)
        if key not in nodes:
            raise ValueError(
                f"on {gethostname()} study {self.study} has no node {key}: Foray, the study's file or the data differ "
                "there from what they are on the machine of the command"
            )
        return nodes[key]


@lru_cache(maxsize=1)
def _nodes(command: StudyCommand) -> dict[str, Node]:
    study = load_study(command.study, list(command.settings))
    return {n.key: n for n in expand(study, command.part).nodes}


def remember(command: StudyCommand, root: Path) -> None:
    """Notes in a store that the command ran there, so that the store's nodes can be made anew."""
    there = remembered(root)
    if command not in there:
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / ASKED, [asdict(c) for c in (*there, command)], indent=1)


def remembered(root: Path) -> list[StudyCommand]:
    """The commands that ran in a store, the earliest first. A file that cannot be read counts as empty."""

    def command(row: dict[str, Any]) -> StudyCommand:
        fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in row.items()}
        return StudyCommand(**fields)

    try:
        return [command(row) for row in read_json(root / ASKED)]
    except (OSError, ValueError, TypeError, AttributeError):
        return []
