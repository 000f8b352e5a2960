"""Where the results of a study lie, and what they are: from the study's name, its file, or a store's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from foray.core.canonical import nearest, require
from foray.core.files import read_object
from foray.core.userfile import bundled
from foray.study.graph import expand
from foray.study.last_report import fuller_report
from foray.study.manifest import manifest_of
from foray.study.named_studies import load_study
from foray.study.spec import Study
from foray.study.store import MANIFEST


class StudyResults(NamedTuple):
    """A store's folder and the manifest of one study there. ``study``: None where the folder alone was named.

    ``fuller``: a line where the store's last report shows more than the study, as it is now, has there.
    """

    store: Path
    manifest: Mapping[str, Any]
    study: Study | None = None
    fuller: str = ""


def is_store(name: str | Path) -> bool:
    """Whether ``name`` is a folder, and not a study's name: ``./tiny`` is a folder, ``tiny`` the study."""
    return Path(name).is_dir() and str(name) not in bundled("studies")


def check_named(name: str) -> None:
    """Raises ValueError, in words for both, where ``name`` is neither a store's folder nor a study."""
    known = bundled("studies")
    fine = is_store(name) or name in known or name.endswith(".py")  # whose own errors say more
    words = f"there is no store's folder {name}, and no study of that name{nearest(name, known)}"
    require(fine, f"{words}; a study of your own is a FILE.py")


def study_results(study: str | Path, store: str | Path | None = None, settings: Sequence[str] = ()) -> StudyResults:
    """Finds a study's results. Nothing is written.

    ``study``: a study's name or file, with its ``store`` (default: ``runs/NAME``) and ``settings`` as ``--set`` takes
    them; or a store's folder, for what its last report shows. Raises ValueError where there is no such store.
    """
    name = str(study)
    if is_store(name):
        file = Path(name) / MANIFEST
        require(file.is_file(), f"{name} holds no {MANIFEST}: foray report STUDY --store {name} writes one")
        whole = store is None and not list(settings)
        require(whole, f"{name} is a store: name the study's file to load it with other settings or another store")
        return StudyResults(Path(name), read_object(file, "run the study again"))
    check_named(name)
    spec = load_study(name, list(settings))
    root = Path("runs") / spec.name if store is None else Path(store)
    require(root.is_dir(), f"there is no store {root}; run the study first or name its store")
    manifest = manifest_of(spec, expand(spec))
    return StudyResults(root, manifest, spec, fuller_report(root, manifest))
