"""The display of a running study: a bar for the study, a bar for each node at work, a line for each finished node."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from foray.core.terminal import plain
from foray.study.node import Node
from foray.study.time_left import TimeLeft


def say(console: Console, line: str) -> None:
    """Prints a line as it is, if there is one."""
    if line:
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


HEARTBEAT = 60.0  # seconds without a line, where there is no terminal
EARLY = 10.0  # seconds of work from which nobody can tell how long the rest takes


class Voice:
    """Lines on a console. Without a terminal a ``beat`` is a line too, once a minute has passed without one."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.spoke = time.monotonic()

    def say(self, line: str) -> None:
        say(self.console, line)
        self.spoke = time.monotonic()

    def beat(self, line: Callable[[], str]) -> None:
        if not self.console.is_terminal and time.monotonic() - self.spoke >= HEARTBEAT:
            self.say(f"    {line()}")


@dataclass
class _Bar:
    task: TaskID
    label: str
    begun: float
    share: float = 0.0  # of the node, done since it began here
    before: float = 0.0  # of the node, done by an earlier run; negative where it does another node's part as well
    heard: float = 0.0  # when it said so
    count: str = ""  # ``12 of 48``

    def words(self) -> str:
        return f"{self.label} ({self.count})" if self.count else self.label


class Show:
    """``cost`` weighs nodes in the bar and in the time left. ``workers`` run side by side; 0 where nobody knows.
    ``timed``: a node's seconds are its own, and not those of a queue as well.

    Without a terminal there is a line for each finished node, and each minute without one a line of what is at work.
    """

    def __init__(
        self, bars: Progress, console: Console, nodes: Sequence[Node], cost: Mapping[str, float], workers: int,
        timed: bool = True,
    ) -> None:  # fmt: skip
        self.timed = timed
        self.bars, self.voice, self.cost = bars, Voice(console), cost
        self.ahead = TimeLeft(nodes, cost, workers) if workers else None
        self.finished = set[str]()
        self.took = self.done_cost = 0.0  # of the finished nodes: seconds on their workers, cost of what they did
        self.before = 0.0  # cost of what earlier runs did of the finished nodes
        self.left, self.counted = "", -math.inf  # the time left in words, and when it was worked out
        self.active: dict[str, _Bar] = {}
        self.whole = sum(cost.values())
        self.overall = bars.add_task("study", total=self.whole, detail="")

    def begin(self, node: Node) -> None:
        task = self.bars.add_task(plain(node.label()), total=None, detail="")
        self.active[node.key] = _Bar(task, node.label(), time.monotonic())

    def progress(self, node: Node, values: dict[str, Any]) -> None:
        bar = self.active[node.key]
        done, total, start = values.pop("done", 0), values.pop("total", None), values.pop("start", 0)
        if total:
            own = max(1, total - node.first())
            bar.share, bar.before = max(0.0, done - start) / own, (start - node.first()) / own
            bar.count, bar.heard = _count(done, total), time.monotonic()
        detail = "  ".join(part for part in (bar.count, _detail(values)) if part)
        self.bars.update(bar.task, completed=done, total=total, detail=detail)
        self.beat()

    def beat(self) -> None:
        """Called often, also while no node reports."""
        self._update()
        if self.active:
            self.voice.beat(lambda: f"{self.left or 'at work'}: {'; '.join(b.words() for b in self.active.values())}")

    def end(self, node: Node, flags: Sequence[str] = ()) -> None:
        """``flags``: what looks wrong in the result, a line each."""
        bar = self.active.pop(node.key)
        self.bars.remove_task(bar.task)
        took = time.monotonic() - bar.begun
        self.finished.add(node.key)
        cost = self.cost[node.key]
        self.took, self.before = self.took + took, self.before + bar.before * cost
        self.done_cost += (1 - bar.before) * cost
        line = f"[{len(self.finished)}/{len(self.cost)}] {node.label()}{f': {took:.1f} s' if self.timed else ''}"
        for text in (line, *(f"    ! {flag}" for flag in flags)):
            self.voice.say(text)
        self._update()

    def lost(self, node: Node, how: str) -> None:
        """Says in a line that a node's worker died, and removes the node's bar."""
        self.bars.remove_task(self.active.pop(node.key).task)
        self.voice.say(f"{node.label()}: its worker died ({how}); another takes over")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, the display draws nothing and runs no thread, so that a process may be forked."""
        self.bars.stop()
        yield
        if not self.bars.disable:
            self.bars.start()

    def _done(self) -> float:
        return self.done_cost + sum(b.share * self.cost[key] for key, b in self.active.items())

    def _time_left(self) -> str:
        """Nothing before workers have measured ``EARLY`` seconds of work.

        A node at work goes on at its own pace. Another one takes its cost, times the seconds that a cost took so far.
        """
        now = time.monotonic()
        took, cost = self.took, self._done()
        took += sum(b.heard - b.begun for b in self.active.values() if b.share)
        if self.ahead is None or took <= EARLY or cost <= 0:
            return ""
        at_work = {}
        for key, b in self.active.items():
            whole = (b.heard - b.begun) / b.share if b.share else took / cost * self.cost[key]
            end = b.begun + (1 - b.before) * whole
            at_work[key] = max(0.0, end - now)
        return _left(self.ahead.seconds(self.finished, at_work, took / cost))

    def _update(self) -> None:
        if time.monotonic() - self.counted >= 1.0:  # there may be thousands of nodes, and a step takes milliseconds
            self.left, self.counted = self._time_left(), time.monotonic()
        name = f"node {len(self.finished) + 1} of {len(self.cost)}"
        before = self.before + sum(b.before * self.cost[key] for key, b in self.active.items())
        whole = self.whole - before  # the bar is of this run
        self.bars.update(self.overall, completed=self._done(), total=whole, detail=self.left, description=name)


def _count(done: float, total: float) -> str:
    return f"{done:,} of {total:,}"


def _left(seconds: float) -> str:
    if seconds < 45:
        return "under a minute left"
    return f"about {seconds / 60:.0f} min left" if seconds < 7200 else f"about {seconds / 3600:.1f} h left"


def _detail(values: dict[str, Any]) -> str:
    """Tokens a second, then rewards and losses."""
    parts = []
    tokens, seconds = sum(v for k, v in values.items() if k.endswith("tokens")), values.get("seconds")
    if tokens and seconds:
        parts.append(f"{tokens / seconds:,.0f} tokens/s")
    for name in ("reward", "score", "loss"):
        parts += [f"{k} {v:.3f}" for k, v in values.items() if k.endswith(f"/{name}")]
    return plain("  ".join(parts))


def _bars(console: Console) -> Progress:
    """Bars that go when their work is done. Without a terminal they are not there."""
    share, detail = TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.fields[detail]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), share, TimeElapsedColumn(), detail)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def shown(
    console: Console, nodes: Sequence[Node], cost: Mapping[str, float], workers: int, timed: bool = True
) -> Iterator[Show]:
    """The display of ``nodes``, parents before children; ``workers`` and ``timed`` as ``Show`` has them."""
    with _bars(console) as bars:
        yield Show(bars, console, nodes, cost, workers, timed)


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[..., None]]:
    """A bar for one piece of work, as a function that is called as the ``report`` of a node.

    The function is told ``done`` and ``total``, in the things that ``what`` names, ``start`` (done earlier, by another
    process), and values to show.
    """
    voice, begun = Voice(console), time.monotonic()
    with _bars(console) as bars:
        task = bars.add_task(what, total=None, detail="")

        def report(*, done: int, total: int, start: int = 0, **values: Any) -> None:
            count = _count(done, total)
            spent, share = time.monotonic() - begun, (done - start) / max(1, total - start)
            left = _left(spent * (1 - share) / share) if spent > EARLY and share > 0 else ""
            detail = "  ".join(part for part in (count, left, _detail(values)) if part)
            bars.update(task, completed=done, total=total, detail=detail)
            voice.beat(lambda: f"{left or 'at work'}: {what} ({count})")

        yield report


@contextmanager
def reading(console: Console) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar over bytes, as two functions: one is told the total, the other what has been read since the last call."""
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None)
        yield (
            lambda size: progress.update(task, total=size),
            lambda size: progress.advance(task, size),
        )
