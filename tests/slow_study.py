"""A user's own study file, with training slow enough for a test to disturb it.

``SLOW`` is the least seconds of a step, ``SAVE`` the seconds between rolling checkpoints. ``starts`` in the store notes
the step at which a training node begins. A process that runs the study needs this folder on its path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foray.data.text_source import TextSplit
from foray.study.kinds import training
from test_study import Study, SumsText, brief


@dataclass(frozen=True)
class OwnText:
    """A source of text that only this file knows."""

    name: str = "own"

    def documents(self, split: TextSplit) -> Iterator[str]:
        yield from SumsText("own").documents(split)


def study() -> Study:
    made = brief()
    corpus = replace(made.pretrain.stream.source, mixture=((1.0, OwnText()),))
    return replace(
        made, name="slow", pretrain=replace(made.pretrain, stream=replace(made.pretrain.stream, source=corpus))
    )


def slowly(whole: Any) -> Any:
    def run_stage(stage: Any, run: Any, moments: Any, start: int, until: int, after: Any, folder: Path) -> None:
        with open(folder.parents[1] / "starts", "a") as f:
            f.write(f"{stage.name} {start}\n")

        def after_step(done: int, values: Any) -> None:
            time.sleep(float(os.environ.get("SLOW", "0")))
            after(done, values)

        whole(stage, run, moments, start, until, after_step, folder)

    run_stage.slow = True  # type: ignore[attr-defined]
    return run_stage


if "SAVE" in os.environ:
    training.SAVE_SECONDS = float(os.environ["SAVE"])
if not getattr(training.run_stage, "slow", False):  # the file may be run several times in one process
    training.run_stage = slowly(training.run_stage)
