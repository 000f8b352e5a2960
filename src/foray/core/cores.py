"""The cores that this process may use, and the threads that it computes with."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """The number of cores that this process may use, at least 1: the scheduler's limit, or the control groups'.

    The machine may have more cores, of which a cluster's scheduler or a container gives a share.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, quota(_GROUPS, _LIMITS))))


def quota(groups: Path, limits: Path) -> float:
    """The number of cores that control groups allow; infinite where they set no limit.

    ``groups``: the file that names the groups of a process (version 1 or 2). ``limits``: the folder of their settings.
    The limits of a parent hold for its groups too.
    """
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        names = [controllers, "cpu"] if "cpu" in controllers.split(",") else [] if controllers else [""]
        for top in (limits / name for name in names):
            place = top / path.lstrip("/")
            while place != top and top in place.parents:
                least, place = min(least, _allowed(place)), place.parent
            least = min(least, _allowed(top))
    return least


def _allowed(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            most, period = (group / "cpu.max").read_text().split()
        else:
            most, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if most == "max" or int(most) < 0 else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def asked_threads() -> int:
    """The value of ``OMP_NUM_THREADS``; 0 where there is none."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # the rest is about nested regions
    return int(first) if first.isdecimal() else 0


def use_threads(count: int) -> None:
    """Sets the threads of this process, of the libraries that it loads, and of the programs that it starts."""
    os.environ |= {"OMP_NUM_THREADS": str(count), "RAYON_NUM_THREADS": str(count)}  # torch and Arrow; tokenizers
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if arrow := sys.modules.get("pyarrow"):
        arrow.set_cpu_count(count)
