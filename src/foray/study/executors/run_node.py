"""One node from an empty folder to a sealed one."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from foray.core.files import SLOTS, Damaged, remove, seal, write_json, writing
from foray.core.machine import free_memory
from foray.study.changed_input import changed_input
from foray.study.executors.forked_ranks import run_on_ranks
from foray.study.node import HEALTH, Node, Report, carry_out
from foray.study.store import Store


def run_node(node: Node, store: Store, report: Report = lambda **_: None, patience: float = 10.0) -> Path:
    """Runs one node whose parents are done, and seals its folder. Returns the folder.

    A damaged parent is set aside: ValueError says so, and the same command makes it anew. Where another process works
    on the node, waits ``patience`` seconds for its end. A node that is done by now is left as it is.

    Nothing is sealed where a file that the node reads changed under way: ValueError says so. The unfinished folder is
    set aside, since a later run would go on from rows of the other input.
    """
    with store.claim(node.key, patience):
        if node.done(store):  # by another process, before this one had the claim
            return node.folder(store)
        if changed := changed_input(node):
            raise ValueError(changed)
        parents = [p.folder(store) for p in node.parents(hashed=True)]
        folder = store.open(node.kind, node.key, node.spec, node.on_ranks, parents)
        begun = time.monotonic()
        try:
            if store.machine.ranks > 1:
                run_on_ranks(node, folder, store, report)
            else:
                with writing(folder):
                    carry_out(node, folder, store, report)
        except Damaged as e:
            raise ValueError(f"{e.what}; {store.set_aside(e.folder)}") from None
        except torch.OutOfMemoryError as e:
            tokens = store.machine.found().microbatch_tokens
            raise ValueError(
                f"the GPU's memory is full; set --machine microbatch_tokens=N lower (it is {tokens}), "
                f"or --machine recompute=true ({e})"
            ) from None
        finally:
            free_memory()
        if changed := changed_input(node, over=True):
            store.set_aside(folder)
            raise ValueError(changed)
        write_json(folder / HEALTH, node.flags(folder))
        seal(folder, label=node.label(), seconds=round(time.monotonic() - begun, 3))
        for slot in SLOTS:
            if (folder / slot).exists():
                remove(folder / slot)
        return folder
