"""Where the numbers come from: what computed each node, named by all nodes together and not by who wrote the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from foray.core.provenance import Made
from foray.report.columns import Column, table
from foray.report.markup import joined
from foray.report.measurements import NodeOrigin
from foray.report.results import Results
from foray.report.sections import Section

NAME, TITLE, PLACE = "provenance", "Provenance", 180

NODES = (
    Column("nodes", "nodes"),
    Column("commit", "commit"),
    Column("computed on", "machine"),
    Column("versions", "versions"),
)
PAGE = (Column("what", "what"), Column("value", "value"))


def kinds(origins: Sequence[NodeOrigin]) -> int:
    """The most kinds of machine, which round differently, that nodes of one sort were made on."""
    return max((len(_apart({o.made for o in origins if o.shared == shared})) for shared in (False, True)), default=0)


def _apart(found: set[Made]) -> list[Made]:
    """Machines of which each differs from all others in something that both say."""
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


def section(results: Results) -> Section:
    """A row for each commit, machine and set of versions, with its number of nodes; then who wrote the page."""
    groups = Counter((o.commit, o.made, o.versions) for o in results.origins)
    rows = [
        {"nodes": count, "commit": commit, "machine": of.words, "versions": versions}
        for (commit, of, versions), count in groups.most_common()
    ]
    pieces = [table(rows, NODES, "What computed the nodes", rules=False)] if rows else []
    if written := [{"what": name, "value": _text(value)} for name, value in results.provenance.items()]:
        caption = "What wrote this page, which need not be what computed the nodes"
        pieces.append(table(written, PAGE, caption, rules=False))
    return Section(joined(*pieces))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
