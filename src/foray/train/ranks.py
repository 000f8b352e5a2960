"""Processes that compute one training run together: who this one is, and what they tell each other.

Outside a process group there is one rank, and nothing here communicates. What travels between ranks as Python objects
is pickled by torch.distributed: it comes from this very program and is never read from disk.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from foray.core.machine import Machine

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)  # for ranks that wait while one samples, verifies a checkpoint or writes it


def join(machine: Machine, rank: int, ranks: int, meeting: Path | None = None) -> None:
    """Makes this process one of ``ranks``, which meet in the file ``meeting`` or, without one, where torchrun says.

    On GPUs a rank takes that of its number on its machine.
    """
    if meeting is not None:  # all are on this machine
        os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(ranks)}
    backend = "gloo"
    if machine.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    if meeting is None:
        dist.init_process_group(backend, timeout=_PATIENCE)
    else:
        store = dist.FileStore(str(meeting), ranks)
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=_PATIENCE)


def rank_and_ranks() -> tuple[int, int]:
    """This process's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank_and_ranks()[0] == 0


@lru_cache(maxsize=1)
def side_group() -> dist.ProcessGroup:
    """All ranks once more, for what a background thread exchanges: its messages must not mix with the training's."""
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert group is not None
    return group


def from_first(make: Callable[[], T]) -> T:
    """What rank 0 makes, on every rank. Where it raises there, the others wait until they are stopped."""
    if rank_and_ranks()[1] == 1:
        return make()
    box = [make() if is_first() else None]
    dist.broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]


def exchanged(value: T) -> list[T]:
    """Every rank's value, by rank, on every rank."""
    ranks = rank_and_ranks()[1]
    if ranks == 1:
        return [value]
    out: list[T] = [value] * ranks
    dist.all_gather_object(out, value)
    return out


def shared_out(count: int, at_once: int, work: Callable[[slice], list[T]]) -> list[T]:
    """``work`` on all of ``count`` items, a piece at a time on whatever rank; all results, in order, on every rank.

    Where ranks can hold all items at once, ``at_once`` each, each has one piece, so that what items share is computed
    once a rank. Else whoever is free takes the next ``at_once``: how long a piece takes is not known before.
    """
    rank, ranks = rank_and_ranks()
    if ranks == 1:
        return work(slice(0, count))
    if count <= at_once * ranks:
        pieces = [slice(count * r // ranks, count * (r + 1) // ranks) for r in range(ranks)]
        mine = iter([rank])
    else:
        pieces = [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]
        mine = numbers_in_turn(len(pieces))
    done = {number: work(pieces[number]) if pieces[number].start < pieces[number].stop else [] for number in mine}
    merged = {number: result for part in exchanged(done) for number, result in part.items()}
    return [item for number in range(len(pieces)) for item in merged[number]]


def numbers_in_turn(count: int) -> Iterator[int]:
    """Numbers below ``count``, each on the one rank that asks first. All ranks begin with this together."""
    if rank_and_ranks()[1] == 1:
        yield from range(count)
        return
    store = dist.distributed_c10d._get_default_store()
    name = from_first(lambda: f"pieces/{secrets.token_hex(8)}")
    while (number := store.add(name, 1) - 1) < count:
        yield number
