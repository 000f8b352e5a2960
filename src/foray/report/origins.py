"""Where the numbers come from: what computed each node, named by all nodes together and not by who wrote the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from foray.core.provenance import ABSENT, Made, made, read_made
from foray.report.markup import table
from foray.report.measured import Origin
from foray.report.results import Results


def read_origins(root: Path, folders: Iterable[str]) -> tuple[Origin, ...]:
    """Of the nodes that are there, done or begun."""
    return tuple(_origin(root / name) for name in dict.fromkeys(folders) if (root / name).is_dir())


def _origin(folder: Path) -> Origin:
    shared = folder.name.startswith("train-")
    found = read_made(folder)
    if found is None:
        return Origin(made({}), ABSENT, ABSENT, shared)
    of, said = found
    versions = said.get("versions")
    words = ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) if isinstance(versions, Mapping) else ABSENT
    return Origin(of, str(said.get("commit", ABSENT)), words, shared, bool(said.get("earlier")))


def kinds(origins: Sequence[Origin]) -> int:
    """The most kinds of machine, which round differently, that nodes of one sort were made on."""
    return max((len(_apart({o.made for o in origins if o.shared == shared})) for shared in (False, True)), default=0)


def _apart(found: set[Made]) -> list[Made]:
    """Those of which each differs from all others in something that both say."""
    chosen: list[Made] = []
    for one in sorted(found, key=lambda m: (sum(not x for x in m), m)):  # those that say most first
        if all(one.differs(other) for other in chosen):
            chosen.append(one)
    return chosen


def note(results: Results) -> str:
    """A line for the top of the page where results cannot be equal to the last bit to those of any one machine."""
    begun = sum(o.begun for o in results.origins)
    if kinds(results.origins) < 2 and not begun:
        return ""
    words = f" ({begun} nodes were begun on one and ended on another)" if begun else ""
    return (
        f"The nodes of this study were not all made by one program on one kind of machine{words}: see Provenance. "
        "Where processors, threads or versions of torch differ, results differ by rounding, which sampling amplifies."
    )


def section(results: Results) -> str:
    """A row for each commit, machine and set of versions, with its number of nodes; then who wrote the page."""
    groups = Counter((o.commit, o.made, o.versions) for o in results.origins)
    rows = [(count, commit, of.words, versions) for (commit, of, versions), count in groups.most_common()]
    parts = [str(table(["nodes", "commit", "computed on", "versions"], rows, text_columns=4))] if rows else []
    written = [
        (
            key,
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False),
        )
        for key, value in results.provenance.items()
    ]
    if written:
        text = "What wrote this page, which need not be what computed the nodes:"
        parts.append(f'<p class="dim">{escape(text)}</p>' + table(["what", "value"], written, text_columns=2))
    return "\n".join(parts)
