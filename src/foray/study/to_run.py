"""The nodes that a command has to run, and the checks that come before the first of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foray.study.contracts import check_counts, check_study
from foray.study.graph import Graph
from foray.study.node import Node
from foray.study.progress import say
from foray.study.spec import Study
from foray.study.store import Store


def to_run(graph: Graph, store: Store, console: Console) -> list[Node]:
    """The nodes that are not done. A node with damaged results is set aside, and a line says so."""
    for node in graph.nodes:
        if damage := node.damage(store):
            say(console, f"{node.label()}: {damage.what}; {store.set_aside(damage.folder)}")
    return [n for n in graph.nodes if not n.done(store)]


def check_before(study: Study, missing: Sequence[Node]) -> None:
    """Raises ValueError for what could only fail later: a mistake in the user's own code, a library that is absent."""
    if not missing:
        return
    check_study(study)
    for node in missing:
        node.check()
    check_counts(study)  # last: problems are read with libraries that a node may lack
