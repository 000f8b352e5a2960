"""How many cores this process may use, and the threads that it computes with."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_GROUPS, _LIMITS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Those that this process may run on, and no more than its control groups pay for; 1 at least.

    A machine has more where a cluster's scheduler or a container gives a share of it.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(allowed, quota(_GROUPS, _LIMITS))))


def quota(groups: Path, limits: Path) -> float:
    """Cores' worth of time that control groups allow, infinite where they do not say.

    ``groups``: the file that names a process's groups, of version 1 or 2; ``limits``: the folder of their settings. A
    group is held to its parents' limits too.
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
    """What ``OMP_NUM_THREADS`` says; 0 where it says nothing."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # the others are of nested regions
    return int(first) if first.isdecimal() else 0


def use_threads(count: int) -> None:
    """Threads of this process, of the libraries that it loads, and of the programs that it starts."""
    os.environ |= {"OMP_NUM_THREADS": str(count), "RAYON_NUM_THREADS": str(count)}  # of torch and Arrow; of tokenizers
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if arrow := sys.modules.get("pyarrow"):
        arrow.set_cpu_count(count)
