"""The display of a running study: a bar for the study, a bar for each node at work, a line for each finished node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from foray.core.terminal import plain
from foray.study.node import Node


def say(console: Console, line: str) -> None:
    """Prints a line as it is, if there is one."""
    if line:
        console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


HEARTBEAT = 60.0  # seconds without a line, where there is no terminal


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
    share: float = 0.0
    count: str = ""  # ``12 of 48``

    def words(self) -> str:
        return f"{self.label} ({self.count})" if self.count else self.label


class Show:
    """``cost`` weighs nodes in the bar and in the time left.

    Without a terminal there is a line for each finished node, and each minute without one a line of what is at work.
    """

    def __init__(self, progress: Progress, console: Console, cost: Mapping[str, float]) -> None:
        self.bars, self.voice, self.cost = progress, Voice(console), cost
        self.begun = time.monotonic()
        self.finished = 0
        self.done_cost = 0.0
        self.active: dict[str, _Bar] = {}
        self.overall = progress.add_task("study", total=sum(cost.values()), detail="")

    def begin(self, node: Node) -> None:
        task = self.bars.add_task(plain(node.label()), total=None, detail="")
        self.active[node.key] = _Bar(task, node.label(), time.monotonic())

    def progress(self, node: Node, values: dict[str, Any]) -> None:
        bar = self.active[node.key]
        done, total, start = values.pop("done", 0), values.pop("total", None), values.pop("start", 0)
        if total:
            bar.share = max(0.0, done - start) / max(1e-9, total - start)
            bar.count = _count(done, total)
        detail = "  ".join(part for part in (bar.count, _detail(values)) if part)
        self.bars.update(bar.task, completed=done, total=total, detail=detail)
        self._update()
        self.voice.beat(lambda: f"{self._left() or 'at work'}: {'; '.join(b.words() for b in self.active.values())}")

    def end(self, node: Node, flags: Sequence[str] = ()) -> None:
        """``flags``: what looks wrong in the result, a line each."""
        bar = self.active.pop(node.key)
        self.bars.remove_task(bar.task)
        self.finished += 1
        self.done_cost += self.cost[node.key]
        line = f"[{self.finished}/{len(self.cost)}] {node.label()}: {time.monotonic() - bar.begun:.1f} s"
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

    def _left(self) -> str:
        """The time left, as long as the workers go on as fast as they went together until now."""
        return _left(time.monotonic() - self.begun, self._done(), sum(self.cost.values()))

    def _update(self) -> None:
        name = f"node {self.finished + 1} of {len(self.cost)}"
        self.bars.update(self.overall, completed=self._done(), detail=self._left(), description=name)


def _count(done: float, total: float) -> str:
    return f"{done:,} of {total:,}"


def _left(elapsed: float, done: float, total: float) -> str:
    """The time left of work of which ``done`` took ``elapsed`` seconds; nothing while it is too early to tell."""
    if elapsed <= 10 or done <= 0:
        return ""
    return f"about {elapsed / done * (total - done) / 60:.0f} min left"


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
def shown(console: Console, cost: Mapping[str, float]) -> Iterator[Show]:
    with _bars(console) as bars:
        yield Show(bars, console, cost)


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
            left = _left(time.monotonic() - begun, done - start, total - start)
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
