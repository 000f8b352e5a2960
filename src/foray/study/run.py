"""A study from its nodes to its report."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from foray.core.userfile import own_code_named
from foray.study.executors.compute import compute
from foray.study.executors.local import LocalExecutor
from foray.study.executors.schedule import Executor
from foray.study.executors.torchrun import run_together
from foray.study.graph import expand
from foray.study.manifest import manifest_of, report_study
from foray.study.spec import Study
from foray.study.store import Store
from foray.study.study_command import StudyCommand, remember
from foray.study.to_run import check_before, to_run


def run_study(
    study: Study,
    store: Store,
    console: Console,
    executor: Executor | None = None,
    part: str | None = None,
    command: StudyCommand | None = None,
) -> Path:
    """Computes every missing node and writes the report; returns its ``index.html``.

    Without an ``executor`` one worker process of this machine computes. With a ``part`` only that part's nodes are
    computed; the report shows everything that is finished. The store remembers the ``command``.

    Raises ValueError with the node's own message when a node fails. Finished nodes stay finished.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return run_together(study, store, console, part, command)
    with store.lock():
        if command is not None:
            remember(command, store.root)
        with own_code_named():
            graph = expand(study, part)
            missing = to_run(graph, store, console)
            console.print(f"{len(graph.nodes)} nodes, {len(graph.nodes) - len(missing)} done, {len(missing)} to run")
            check_before(study, missing)
            # By the files as the nodes are asked for: a file may change once its tokens are sealed.
            content = manifest_of(study, graph if part is None else expand(study))
        compute(missing, graph, store, console, executor or LocalExecutor(1))
        return report_study(study, store, redraw=bool(missing), content=content)
