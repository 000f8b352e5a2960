"""Provenance: what computed a result, recorded beside the result and never part of a key.

Results of one kind of machine are equal to the last bit.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, NamedTuple

from foray.core.files import read_json
from foray.core.machine import Machine
from foray.core.native import ATTENTION, DECODE_ATTENTION, LAYER, library
from foray.core.processor import answer, cpu_model

PROVENANCE = "provenance.json"  # in a node's folder
ABSENT = "not recorded"
_PACKAGES = ("foray", "torch", "numpy", "tokenizers", "safetensors", "lm-eval", "transformers", "vllm")


class Made(NamedTuple):
    """The kind of machine that made a result, which its rounding depends on. Empty: not recorded by earlier versions.

    ``threads`` are the threads of each of the ``ranks``.
    """

    cpu: str
    threads: str
    ranks: str
    device: str
    torch: str

    @property
    def words(self) -> str:
        threads = f"{self.threads} thread{'s'[: self.threads != '1']}" if self.threads else f"threads {ABSENT}"
        ranks = f" on each of {self.ranks} ranks" if self.ranks not in ("", "1") else ""
        device = f"device {ABSENT}" if not self.device else self.device if self.device != "cpu" else ""
        said = (self.cpu or f"CPU {ABSENT}", threads + ranks, device, f"torch {self.torch or ABSENT}")
        return ", ".join(s for s in said if s)

    def differs(self, other: Made) -> bool:
        """Whether both record an entry that is not the same."""
        return any(a and b and a != b for a, b in zip(self, other))


def made(record: Mapping[str, Any]) -> Made:
    """The kind of machine in a record. Earlier versions recorded less."""
    settings, versions = (record.get(name) for name in ("machine", "versions"))
    settings = settings if isinstance(settings, Mapping) else {}
    threads = str(record.get("threads", ""))
    device = record.get("device", "cpu" if settings.get("device") == "cpu" else "")
    cpu = str(record.get("cpu") or "")
    detail = f" ({record['cpu_detail']})" if cpu and record.get("cpu_detail") else ""
    return Made(
        cpu + detail,
        threads if threads.isdecimal() else "",
        str(record.get("ranks", settings.get("ranks", ""))),
        str(device),
        str(versions.get("torch", "")) if isinstance(versions, Mapping) else "",
    )


def read_made(folder: Path) -> tuple[Made, dict[str, Any]] | None:
    """The kind of machine of a node's folder, and the whole record; None where there is no readable record."""
    try:
        said = read_json(folder / PROVENANCE)
        return made(said), said
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def record(machine: Machine, shared: bool, threads: int = 0) -> dict[str, Any]:
    """The record of a node that this process computes; ``shared``: together with other ranks, if there are any.

    ``machine`` must be decided (``Machine.found``). ``threads`` 0 means the current threads of this process.
    """
    import torch

    ranks, threads = 1, threads or torch.get_num_threads()
    if shared:
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if together else machine.ranks
        threads = max(1, threads // machine.ranks)
    cpu, detail = cpu_model()
    compiled = all(map(library, (LAYER, ATTENTION, DECODE_ATTENTION)))
    without = "" if machine.device != "cpu" or compiled else "nothing in C"  # sums in another order
    detail = ", ".join(d for d in (detail, str(torch.backends.cpu.get_cpu_capability()), without) if d)
    said = {
        "cpu": cpu,
        "cpu_detail": detail,
        "threads": threads,
        "ranks": ranks,
        "device": "cpu" if machine.device == "cpu" else _cards(),
    }
    return {**program(), **said, "machine": asdict(machine)}


@lru_cache(maxsize=1)
def program() -> dict[str, Any]:
    """Commit and versions of the running program, asked once: later changes of files do not change what is loaded.

    A forked process inherits the answer.
    """
    return {"commit": commit(Path(__file__).resolve().parents[1]), "versions": _versions()}


def commit(package: Path) -> str:
    """The commit of Foray's own repository, which holds ``package``, with ``-dirty`` where files have changed since.

    Otherwise the commit that pip installed the package from, or ``unknown``. The package may lie in another repository,
    for example inside an environment; that repository says nothing about Foray.
    """
    root = package.parents[1]
    if not (_git(root, "rev-parse", "--show-prefix") == "" and _is_ours(root, package)):
        return _installed_from(package)
    found = _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    new = _git(root, "ls-files", "--others", "--exclude-standard", "--", "src/foray")
    return f"{found}-dirty" if found and new and not found.endswith("-dirty") else found or "unknown"


def _is_ours(root: Path, package: Path) -> bool:
    """Whether the repository at ``root`` is Foray's own: it tracks this package in its place."""
    tracked = (root / "src" / "foray").resolve() == package.resolve() and all(
        _git(root, "ls-files", "--error-unmatch", "--", name) for name in ("pyproject.toml", "src/foray/__init__.py")
    )
    try:
        with open(root / "pyproject.toml", "rb") as f:
            return tracked and tomllib.load(f)["project"]["name"] == "foray"
    except (OSError, KeyError, TypeError, ValueError):
        return False


def _git(folder: Path, *words: str) -> str | None:
    """The output of git; None where git fails or is missing."""
    # Without GIT_ variables: a hook, for example, exports those of another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        found = subprocess.run(
            ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _installed_from(package: Path) -> str:
    """The commit that pip installed the package from (PEP 610), or ``unknown``."""
    try:
        installed = distribution("foray")
        if Path(str(installed.locate_file("foray"))).resolve() == package.resolve():
            said = json.loads(installed.read_text("direct_url.json") or "{}")
            return str(said["vcs_info"]["commit_id"])[:12]
    except (PackageNotFoundError, KeyError, TypeError, ValueError):
        pass
    return "unknown"


def _versions() -> dict[str, str]:
    out = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            continue
    return out


@lru_cache(maxsize=1)
def _cards() -> str:
    """The names of the cards, from the driver's program: a process that will fork must not touch the cards."""
    names = answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return " + ".join(sorted({n.strip() for n in names})) or "cuda"
