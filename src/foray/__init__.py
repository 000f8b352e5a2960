"""Foray: post-training excursions from pre-training checkpoints, measured with pass@k."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foray.core.foray_version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foray.api import LoadedStudy

__version__ = VERSION
__all__ = ["__version__", "load"]


def load(study: str | Path, store: str | Path | None = None, settings: Sequence[str] = ()) -> LoadedStudy:
    """Opens a study's results: tables, figures, checkpoints, models. Nothing is computed and nothing written.

    ``study``: the folder of a store, which then shows what its last report showed; or the name or file of a study, as
    on the command line, whose store is ``store`` (default: ``runs/STUDY``). ``settings``: as ``--set`` takes them, such
    as ``"seeds=0,1"``. A study's file is run; of a store's folder no code is. Raises ValueError, in one line that says
    what to change, where there is no such study or store.
    """
    from foray.api import LoadedStudy  # pandas takes a second
    from foray.study.study_results import study_results

    return LoadedStudy(*study_results(study, store, settings))
