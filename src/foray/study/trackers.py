"""Experiment trackers: TensorBoard, W&B, Trackio, MLflow and the user's own. A library is imported when it is used.

A tracker opens a run for each training of a study. The name of a run may change; its key never does.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol

from foray.core.canonical import nearest, require
from foray.core.libraries import require_installed
from foray.core.userfile import is_own_file, own_object

Table = Sequence[Mapping[str, str]]  # rows by column, at least one; every row has the same columns


@dataclass(frozen=True)
class RunFacts:
    """What a tracker is told of a training: ``key`` names it for ever, ``after`` is the last step logged already."""

    key: str
    name: str
    study: str
    settings: Mapping[str, Any]
    folder: Path  # the tracker's own, for local data
    after: int


class TrackedRun(Protocol):
    """An open run of a tracker. Every method may raise: the mirror ends, the study does not."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None: ...

    def flags(self, step: int, lines: Sequence[str]) -> None: ...

    def completions(self, step: int, title: str, rows: Table) -> None:
        """The rows hold untrusted text, to be shown as text. A title may come again at a later step."""

    def close(self) -> None: ...


class Tracker(Protocol):
    """Makes runs. ``open`` goes on with the run of the same key where there is one."""

    def open(self, facts: RunFacts) -> TrackedRun: ...


def markdown(rows: Table) -> str:
    """A table in Markdown, with everything escaped that Markdown or HTML would take for markup."""

    def cell(text: str) -> str:
        return re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", escape(" ".join(text.split())))

    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(cell, row.values())) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class _TensorBoardRun:
    def __init__(self, facts: RunFacts) -> None:
        from torch.utils.tensorboard import SummaryWriter

        words = re.sub(r"[^\w.]+", "-", facts.name).strip("-")[:80]
        # What a killed mirror wrote beyond the noted step does not count twice.
        self._writer: Any = SummaryWriter(str(facts.folder / f"{words}-{facts.key}"), purge_step=facts.after + 1)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # what the mirror notes is in the file

    def flags(self, step: int, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, 1):
            self._writer.add_text(f"flags/{number}", escape(line), step)

    def completions(self, step: int, title: str, rows: Table) -> None:
        self._writer.add_text(f"completions/{title}", markdown(rows), step)

    def close(self) -> None:
        self._writer.close()


class _WandBRun:
    def __init__(self, facts: RunFacts) -> None:
        import wandb

        facts.folder.mkdir(parents=True, exist_ok=True)
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            id=facts.key, resume="allow", project=facts.study, name=facts.name, config=dict(facts.settings),
            dir=str(facts.folder), reinit="create_new",
        )  # fmt: skip
        self._run.define_metric("step")
        # W&B's own count of steps only rises, and refuses an evaluation that comes late.
        self._run.define_metric("*", step_metric="step")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def flags(self, step: int, lines: Sequence[str]) -> None:
        self._run.summary["flags"] = list(lines)

    def completions(self, step: int, title: str, rows: Table) -> None:
        table = self._wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self._run.log({f"completions/{title}": table, "step": step})

    def close(self) -> None:
        self._run.finish()


class _MLflowRun:
    def __init__(self, facts: RunFacts) -> None:
        from mlflow.tracking import MlflowClient

        facts.folder.mkdir(parents=True, exist_ok=True)
        folder, server = facts.folder.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
        self._client: Any = MlflowClient(server or f"sqlite:///{folder / 'mlflow.db'}")
        known = self._client.get_experiment_by_name(facts.study)
        # Left to itself, MLflow puts the files of a local database into the current folder.
        files = None if server else (folder / "artifacts").as_uri()
        experiment = known.experiment_id if known else self._client.create_experiment(facts.study, files)
        found = self._client.search_runs([experiment], f"tags.foray_key = '{facts.key}'")
        tags = {"foray_key": facts.key}
        run = found[0] if found else self._client.create_run(experiment, run_name=facts.name, tags=tags)
        self._id = run.info.run_id
        if not found:
            self._client.log_dict(self._id, dict(facts.settings), "settings.json")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        named = [(re.sub(r"[^\w./ -]", "-", name), value) for name, value in values.items()]
        # In one transaction: a row is there as a whole, and the ten numbers of a row take the time of one.
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in named])

    def flags(self, step: int, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, 1):
            self._client.set_tag(self._id, f"flag_{number}", line)

    def completions(self, step: int, title: str, rows: Table) -> None:
        name = re.sub(r"[^\w.]+", "-", title).strip("-")
        self._client.log_text(self._id, markdown(rows), f"completions/{name}/step-{step}.md")

    def close(self) -> None:
        self._client.set_terminated(self._id)


class _TrackioRun:
    def __init__(self, facts: RunFacts) -> None:
        import trackio

        self._trackio: Any = trackio
        name = f"{facts.name} [{facts.key}]"  # Trackio resumes by name
        self._run: Any = trackio.init(project=facts.study, name=name, config=dict(facts.settings), resume="allow")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def flags(self, step: int, lines: Sequence[str]) -> None:
        self._run.log({f"flags/{number}": line for number, line in enumerate(lines, 1)}, step=step)

    def completions(self, step: int, title: str, rows: Table) -> None:
        import pandas as pd

        table = self._trackio.Table(dataframe=pd.DataFrame(list(rows)))
        self._run.log({f"completions/{title}": table}, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[RunFacts], TrackedRun]] = {  # each needs the library of its name
    "tensorboard": _TensorBoardRun,
    "wandb": _WandBRun,
    "mlflow": _MLflowRun,
    "trackio": _TrackioRun,
}


@dataclass(frozen=True)
class _Bundled:
    """A tracker of Foray's own."""

    open: Callable[[RunFacts], TrackedRun]


def check_tracker(name: str) -> None:
    """Raises ValueError where there is no such tracker, or its library is not installed."""
    if is_own_file(name):
        open_tracker(name)
        return
    require(name in TRACKERS, f"there is no tracker {name!r}{nearest(name, TRACKERS)}; your own: FILE.py:NAME")
    require_installed([name], f"tracker {name}")


def open_tracker(name: str) -> Tracker:
    """A tracker by its name, or the user's own, ``FILE.py:NAME``."""
    if not is_own_file(name):
        return _Bundled(TRACKERS[name])
    own: Tracker = own_object(name, "tracker")
    require(callable(getattr(own, "open", None)), f"{name} has no method open(facts), which a tracker needs")
    return own
