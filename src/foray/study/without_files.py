"""Plans without data: what stands in a study for a task, a text or benchmarks whose files are not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foray.core.canonical import canonical, everywhere
from foray.core.task import Problem, Split
from foray.data.rows import MissingFile
from foray.study.node import Node
from foray.study.spec import Study

QUESTION, SOLUTION = 100, 200  # tokens, about those of GSM8K's questions and of a model's solutions of them
_PROBLEMS = 64  # where all problems of a split are asked for


@dataclass(frozen=True)
class AbsentFiles:
    """In the place of ``of``, all else of which it has. The key has the words of ``of``: there is no digest."""

    of: Any = field(metadata={"hash": False})
    words: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def fingerprint(self) -> str:
        return ""

    def few_shot(self, count: int) -> None:
        """Training problems, which have the assumed lengths."""

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        question, solution = " ".join(["word"] * QUESTION), " ".join(["word"] * SOLUTION)
        return [Problem(str(i), question, "1", (solution,)) for i in range(count or _PROBLEMS)]


def without_files(study: Study) -> tuple[Study, str]:
    """The bound study with stand-ins for what has no files, and words for all that is missing."""
    missing = dict[str, None]()

    def stand_in(spec: Any) -> Any:
        try:
            getattr(spec, "fingerprint", str)()
        except MissingFile as e:
            missing[e.what] = None
            return AbsentFiles(spec, repr(spec))
        return spec

    return everywhere(study.bound(), stand_in), "; ".join(missing)


def readers(nodes: Iterable[Node]) -> set[str]:
    """Keys of the nodes, given parents first, whose real keys need files that are not there."""
    found = set[str]()
    for node in nodes:
        hashed = (getattr(node, f.name) for f in dataclasses.fields(node) if f.metadata.get("hash", True))
        parents = {
            p.key for value in hashed for p in (value if isinstance(value, tuple) else (value,)) if isinstance(p, Node)
        }
        if parents & found or f'"{AbsentFiles.__name__}"' in canonical(node.spec):
            found.add(node.key)
    return found
