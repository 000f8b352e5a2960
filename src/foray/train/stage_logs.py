"""The logs of a stage: ``metrics.jsonl``, a row a step, and ``rollouts.jsonl``, the groups that RL keeps to be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from foray.core.files import json_text, write_atomic, writing
from foray.train.ranks import is_first

METRICS, ROLLOUTS = "metrics.jsonl", "rollouts.jsonl"


class StageLogs:
    """The open logs. ``rollouts.jsonl`` begins with the first group that is kept."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder, self._files = folder, files
        self._metrics = self._opened(METRICS)
        self._rollouts: TextIO | None = None

    def _opened(self, name: str) -> TextIO:
        self._files.enter_context(writing(self._folder / name))
        return self._files.enter_context(open(self._folder / name, "a", encoding="utf-8"))

    def write(self, step: int, values: Mapping[str, float], groups: Sequence[Mapping[str, Any]]) -> None:
        """The numbers of the update that ends at ``step``, and the groups that its draw kept."""
        if groups:
            self._rollouts = self._rollouts or self._opened(ROLLOUTS)
            self._rollouts.write("".join(json_text({"step": step, **group}) + "\n" for group in groups))
            self._rollouts.flush()
        self._metrics.write(json_text({"step": step, **values}) + "\n")
        self._metrics.flush()


@contextmanager
def stage_logs(folder: Path, source: Path | None, start: int) -> Iterator[StageLogs | None]:
    """The logs up to the step that training goes on from, here or in ``source``. Only rank 0 has them."""
    if not is_first():
        yield None
        return
    for name in (METRICS, ROLLOUTS):
        file = folder / name
        # Every kept step of a stage has the whole log. A rolling checkpoint has none: the log lies here.
        if source is not None and source.parent != folder:
            file.unlink(missing_ok=True)
            if (source / name).exists():
                write_atomic(file, (source / name).read_bytes())
        _rewind(file, start)
    with ExitStack() as files:
        yield StageLogs(folder, files)


def _rewind(log: Path, step: int) -> None:
    """Drops a killed run's lines beyond the step that training goes on from, and a line cut short."""
    if not log.exists():
        return
    kept = []
    for line in log.read_bytes().split(b"\n"):  # a text may hold any other line end
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError):
            break
    write_atomic(log, b"".join(kept))
