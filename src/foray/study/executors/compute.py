"""The missing nodes of a graph, computed by an executor."""

from __future__ import annotations

from rich.console import Console

from foray.core.made_from import named, other_weights
from foray.core.provenance import program
from foray.core.userfile import own_code_named
from foray.study.executors.schedule import Executor
from foray.study.graph import Graph
from foray.study.node import Node
from foray.study.other_machines import made_here, made_so_far, other_machines
from foray.study.price.cards import processors
from foray.study.price.placement import place
from foray.study.progress import say
from foray.study.store import Store

_NOMINAL = processors(5e10)  # to weigh nodes against each other


def compute(missing: list[Node], graph: Graph, store: Store, console: Console, executor: Executor) -> None:
    """Runs the missing nodes of a graph, whose other nodes are done.

    A line says where the new results round otherwise than the old ones, because their machines differ. It comes before
    the nodes that run on this machine, and after nodes that run elsewhere. Another line names nodes that were made from
    other weights than their parents have now.
    """
    if not missing:
        return
    with own_code_named():
        cost = {n.key: place(n, _NOMINAL).wall for n in missing}
    program()  # as it is now, for all workers: files may change while they run
    before, threads = made_so_far(graph.nodes, store), executor.threads_here(store)
    if threads:
        say(console, other_machines(graph.nodes, before, made_here(missing, store, threads)))
    executor.run(missing, store, console, cost)
    if not threads:
        say(console, other_machines(graph.nodes, before, made_so_far(missing, store)))
    say(console, named(other_weights(n.folder(store) for n in graph.nodes)))
