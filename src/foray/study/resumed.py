"""Whether a store's nodes were made on machines that round alike, asked when a study goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from foray.core.provenance import Made, made, read_made, record
from foray.study.node import Node
from foray.study.store import Store


def made_so_far(nodes: Iterable[Node], store: Store) -> dict[str, Made]:
    """By key, of the nodes that are done or begun."""
    read = ((node.key, read_made(node.folder(store))) for node in nodes)
    return {key: found[0] for key, found in read if found is not None}


def made_here(nodes: Iterable[Node], store: Store, threads: int) -> dict[str, Made]:
    """The same of nodes that this machine will compute with ``threads`` each."""
    machine = store.machine.found()
    kinds = {shared: made(record(machine, shared, threads)) for shared in (False, True)}
    return {node.key: kinds[node.on_ranks] for node in nodes}


def other_machines(nodes: Iterable[Node], before: Mapping[str, Made], now: Mapping[str, Made]) -> str:
    """A line where what was there ``before`` and what is made ``now`` are of machines that round differently."""
    # Of nodes that ranks compute together and of others: one command gives them other numbers of threads.
    trained = {node.key for node in nodes if node.on_ranks}
    of = {shared: Counter(m for k, m in now.items() if (k in trained) == shared) for shared in (False, True)}
    apart: Counter[tuple[Made, Made]] = Counter()
    for key, was in before.items():
        other = next((m for m, _ in of[key in trained].most_common() if was.differs(m)), None)
        if other is not None:
            apart[was, other] += 1
    if not apart:
        return ""
    (was, is_), count = apart.most_common(1)[0]
    rest = apart.total() - count
    more = f" (and {rest} on others)" if rest else ""
    some = f"{count} node{'s' * (count > 1)}"
    return (
        f"{some} of this store had been made on {was.words}{more}, what is run now on {is_.words}: results are "
        "equal to the last bit only on one kind of machine (docs/scaling.md)"
    )
