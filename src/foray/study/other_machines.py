"""A warning where a study goes on with a machine that rounds differently from those that made its first nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from foray.core.provenance import Made, made, read_made, record
from foray.study.node import Node
from foray.study.store import Store


def made_so_far(nodes: Iterable[Node], store: Store) -> dict[str, Made]:
    """The provenance of the nodes that are done or begun, by key."""
    read = ((node.key, read_made(node.folder(store))) for node in nodes)
    return {key: found[0] for key, found in read if found is not None}


def made_here(nodes: Iterable[Node], store: Store, threads: int) -> dict[str, Made]:
    """The provenance that this machine will give to nodes with ``threads`` each, by key."""
    machine = store.machine.found()
    kinds = {shared: made(record(machine, shared, threads)) for shared in (False, True)}
    return {node.key: kinds[node.on_ranks] for node in nodes}


def other_machines(nodes: Iterable[Node], before: Mapping[str, Made], now: Mapping[str, Made]) -> str:
    """A line where the machines of ``before`` and ``now`` round differently; else nothing."""
    # One command gives nodes that ranks compute together other numbers of threads than the rest.
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
