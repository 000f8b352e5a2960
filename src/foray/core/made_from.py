"""From which weights a node was made: weights that are trained again are others where sums are rounded otherwise.

The key of a node names its parents' settings. So it stays the same where the weights of a parent were lost and trained
again on another machine, or by another version, and nothing but this record tells the two models apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from foray.core.canonical import content_hash
from foray.core.files import SEAL, read_json, sealed_files
from foray.core.provenance import read_made

MADE_FROM = "made_from"  # in a node's provenance: the digest of the weights of each parent, by the parent's folder


def weights(folder: Path) -> str:
    """A digest of the model that a finished folder was sealed with; empty where there is none (any more)."""
    try:
        files = sealed_files(folder)
    except (OSError, ValueError):
        return ""
    found = {n: d for n, d in files.items() if n.startswith("model/") and n.endswith(".safetensors")}
    return content_hash(found) if found else ""


def weights_of(parents: Iterable[Path]) -> dict[str, str]:
    """The record for a node made from the models in the folders ``parents``."""
    return {folder.name: digest for folder in parents if (digest := weights(folder))}


def other_weights(folders: Iterable[Path]) -> dict[Path, Path]:
    """Which of the ``folders`` were made from other weights than their parent has now, and that parent.

    Where the parent's weights are gone, those count that most of its children were made from. A node below a node with
    other weights has them too. Nodes of earlier versions recorded nothing and are never found.
    """
    made = {folder: _recorded(folder) for folder in folders}
    digests: dict[Path, Counter[str]] = {}
    for folder, record in made.items():
        for name, digest in record.items():
            digests.setdefault(folder.with_name(name), Counter())[digest] += 1
    valid = {parent: weights(parent) or _most(found) for parent, found in digests.items()}
    out: dict[Path, Path] = {}
    for folder, record in made.items():
        for name, digest in record.items():
            if digest != valid[folder.with_name(name)]:
                out[folder] = folder.with_name(name)
    while below := {f: p for f, record in made.items() if f not in out for p in map(f.with_name, record) if p in out}:
        out |= {folder: out[parent] for folder, parent in below.items()}
    return out


def named(found: Mapping[Path, Path]) -> str:
    """A sentence on what ``other_weights`` found; empty where that is nothing."""
    if not found:
        return ""
    first, *rest = sorted({_label(parent) for parent in found.values()})
    more = f" and {len(rest)} more" if rest else ""
    some = f"{len(found)} node{'s were' if len(found) > 1 else ' was'}"
    return (
        f"{some} made from other weights than those of the same key now: {first}{more}, trained again with other "
        "rounding. Do not compare these nodes with later ones; `foray check STORE --repair` makes them again"
    )


def _most(found: Counter[str]) -> str:
    return max(sorted(found), key=lambda digest: found[digest])


def _recorded(folder: Path) -> dict[str, str]:
    read = read_made(folder)
    record = read[1].get(MADE_FROM) if read else None
    return {str(k): str(v) for k, v in record.items()} if isinstance(record, Mapping) else {}


def _label(folder: Path) -> str:
    try:
        return str(read_json(folder / SEAL)["label"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name
