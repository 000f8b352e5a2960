"""Ranks: processes that train one model together, and their messages.

Outside a process group the only rank is this process, and nothing here communicates. torch.distributed pickles the
Python objects that travel between ranks. These objects come from this program and never from a disk.
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

_PATIENCE = timedelta(hours=2)  # ranks wait while one rank samples, verifies a checkpoint or writes it


def join(machine: Machine, rank: int, ranks: int, meeting: Path | None = None) -> None:
    """Makes this process one of ``ranks``. The ranks meet in the file ``meeting``, or at torchrun's address if it is
    None.

    On a machine with GPUs, rank i of the machine takes GPU i.
    """
    if meeting is not None:  # all ranks are on this machine
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
    """The number of this process, and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def is_first() -> bool:
    """Whether this process is rank 0, which writes."""
    return rank_and_ranks()[0] == 0


@lru_cache(maxsize=1)
def side_group() -> dist.ProcessGroup:
    """A second group of all ranks, for a background thread: its messages must not mix with those of training."""
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert group is not None
    return group


def from_first(make: Callable[[], T]) -> T:
    """The value that rank 0 makes, on every rank. If ``make`` raises, the other ranks wait until they are stopped."""
    if rank_and_ranks()[1] == 1:
        return make()
    box = [make() if is_first() else None]
    dist.broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]


def all_gather(value: T) -> list[T]:
    """The values of all ranks, by rank, on every rank."""
    ranks = rank_and_ranks()[1]
    if ranks == 1:
        return [value]
    out: list[T] = [value] * ranks
    dist.all_gather_object(out, value)
    return out


def map_over_ranks(count: int, at_once: int, work: Callable[[slice], list[T]]) -> list[T]:
    """The results of ``work`` on ``count`` items, in order, on every rank. The ranks share the work by slices.

    If ``at_once`` items a rank are enough for all items, each rank takes one slice, and computes the common parts of
    its items once. Otherwise a free rank takes the next ``at_once`` items, because the time of a slice is not known
    before.
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
    merged = {number: result for part in all_gather(done) for number, result in part.items()}
    return [item for number in range(len(pieces)) for item in merged[number]]


def numbers_in_turn(count: int) -> Iterator[int]:
    """Numbers below ``count``, each on the rank that asks first. All ranks must begin together."""
    if rank_and_ranks()[1] == 1:
        yield from range(count)
        return
    store = dist.distributed_c10d._get_default_store()
    name = from_first(lambda: f"pieces/{secrets.token_hex(8)}")
    while (number := store.add(name, 1) - 1) < count:
        yield number
