"""The display of a running study."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console

from foray.study import progress
from foray.study.executors.schedule import Event, drive
from foray.study.node import Node
from foray.study.progress import Show, counted, shown
from foray.study.store import Store


@dataclass(frozen=True)
class Work(Node):
    kind: ClassVar[str] = "work"
    name: str
    after: Work | None = None

    def label(self) -> str:
        return self.name

    def run(self, folder: Path, store: Store, report: Any) -> None:
        raise AssertionError("nothing is run here")


A, B = Work("rl to step 8 of 8 (seed 0)"), Work("pass@k [strict] after sft")
COST = {A.key: 3.0, B.key: 1.0}
VALUES = {"done": 4, "total": 8, "start": 0, "rl/tokens": 500.0, "seconds": 0.25, "rl/reward": 0.125, "rl/kl": 1.0}


def screen(width: int = 200) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, force_terminal=True, color_system=None), file


def test_without_a_terminal_each_finished_node_is_one_line() -> None:
    file = io.StringIO()
    with shown(Console(file=file, width=20), [A, B], COST, 1) as show:
        for node in (A, B):
            show.begin(node)
            show.progress(node, dict(VALUES))
            show.end(node)
    lines = file.getvalue().splitlines()
    assert [line.rsplit(":", 1)[0] for line in lines] == [f"[1/2] {A.name}", f"[2/2] {B.name}"]


def test_a_terminal_shows_what_runs_its_speed_and_its_reward() -> None:
    console, file = screen()
    with shown(console, [A, B], COST, 1) as show:
        show.begin(A)
        show.progress(A, dict(VALUES))
        show.bars.refresh()
    text = file.getvalue()
    for part in (A.name, "4 of 8", "node 1 of 2", "2,000 tokens/s", "rl/reward 0.125", "50%"):
        assert part in text


def test_without_a_terminal_a_line_each_minute_says_what_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    with shown(Console(file=file, width=200), [A, B], COST, 1) as show:
        show.begin(A)
        for clock[0] in (30.0, 59.0, 61.0, 90.0, 122.0):
            show.progress(A, dict(VALUES))
    line = f"about {{}} min left: {A.name} (4 of 8)"
    assert [s.strip() for s in file.getvalue().splitlines()] == [line.format(2), line.format(3)]


def test_one_piece_of_work_has_a_bar_that_fits_a_terminal_or_a_line_each_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    (terminal, drawn), log = screen(80), io.StringIO()
    with counted(terminal, "problems") as on_terminal, counted(Console(file=log, width=80), "problems") as on_log:
        for clock[0], done in ((30.0, 250), (60.0, 300), (90.0, 350)):
            for report in (on_terminal, on_log):
                report(done=done, total=1000, start=200, tokens=900, seconds=0.5)
    assert log.getvalue() == "    about 7 min left: problems (300 of 1,000)\n"
    text = drawn.getvalue()
    assert "350 of 1,000  about 6 min left  1,800 tokens/s" in text and "…" not in text


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A display whose clock is set by hand."""
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    console, _ = screen()
    with shown(console, [A, B], COST, 1) as display:
        yield display, clock


def left(display: Show) -> str:
    return str(display.bars.tasks[0].fields["detail"])


def test_time_left_counts_work_and_not_nodes(show: Any) -> None:
    display, clock = show
    display.begin(A)
    clock[0] = 9.0
    display.progress(A, dict(VALUES))
    assert left(display) == "", "too early to tell"
    clock[0] = 120.0  # half of A's three quarters is done: 3/8 in 2 minutes leaves 5/8
    display.progress(A, dict(VALUES))
    assert left(display) == "about 3 min left"
    clock[0] = 240.0  # three quarters in 4 minutes
    display.end(A)
    assert left(display) == "about 1 min left"


@pytest.mark.parametrize(
    ("workers", "words"), [(0, ""), (1, "about 5 min left"), (2, "about 3 min left"), (8, "about 2 min left")]
)
def test_time_left_counts_the_workers_that_can_be_busy(
    monkeypatch: pytest.MonkeyPatch, workers: int, words: str
) -> None:
    """Four nodes wait for a first one, half of which took a minute. Each of them is half of the first one's work."""
    clock, first = [0.0], Work("M_t")
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    nodes = [first, *(Work(name, first) for name in "abcd")]
    with shown(screen()[0], nodes, {n.key: 4.0 if n is first else 2.0 for n in nodes}, workers) as display:
        display.begin(first)
        clock[0] = 60.0
        display.progress(first, dict(VALUES))
        assert left(display) == words


def test_a_node_at_work_goes_on_at_its_own_pace(show: Any) -> None:
    display, clock = show
    display.begin(A)
    clock[0] = 60.0
    display.end(A)  # 20 seconds a unit, so B takes 20
    assert left(display) == "under a minute left"
    display.begin(B)
    clock[0] = 90.0
    display.progress(B, {"done": 1, "total": 5})
    assert left(display) == "about 2 min left"
    clock[0] = 180.0
    display.progress(B, {"done": 4, "total": 5})
    assert left(display) == "under a minute left"


def test_what_was_done_before_a_resumed_node_does_not_count(show: Any) -> None:
    display, clock = show
    display.begin(A)
    clock[0] = 60.0
    display.progress(A, {"done": 6, "total": 8, "start": 4})
    assert display.bars.tasks[0].completed == pytest.approx(0.75), "a quarter of three"
    assert display.bars.tasks[0].total == pytest.approx(2.5), "half of A was there before"
    # A quarter of A took a minute, the last one takes as long, and B 80 seconds.
    assert left(display) == "about 2 min left"
    clock[0] = 120.0
    display.end(A)  # 1.5 of its 3 in two minutes
    assert left(display) == "about 1 min left" and display.took / display.done_cost == 80.0
    assert display.bars.tasks[0].completed == pytest.approx(1.5)


@dataclass(frozen=True)
class Later(Work):
    """It goes on from the fourth step of another node's."""

    kind: ClassVar[str] = "later"

    def first(self) -> int:
        return 4


@pytest.mark.parametrize(("start", "done"), [(4, 6), (6, 7), (0, 4)])
def test_what_another_node_does_is_no_part_of_a_nodes_cost(start: int, done: int) -> None:
    """A cost of 3 is that of 4 steps. Where the other node's state is gone, its steps are done again."""
    node = Later(A.name)
    with shown(screen()[0], [node, B], {node.key: 3.0, B.key: 1.0}, 1) as display:
        display.begin(node)
        display.progress(node, {"done": done, "total": 8, "start": start})
    assert display.bars.tasks[0].completed == pytest.approx(0.75 * (done - start))
    assert display.bars.tasks[0].total == pytest.approx(4 - 0.75 * (start - 4))


def test_a_queue_is_no_part_of_a_nodes_time() -> None:
    file = io.StringIO()
    with shown(Console(file=file, width=200), [A], COST, 0, timed=False) as display:
        display.begin(A)
        display.end(A)
    assert file.getvalue() == f"[1/2] {A.name}\n"


class _Quiet:
    """A pool in which a node works for two minutes and reports nothing."""

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.node = clock, A

    def room(self) -> bool:
        return self.clock[0] == 0.0

    def start(self, node: Node, show: Show) -> None:
        self.clock[0] = 1.0

    def events(self) -> list[Event]:
        self.clock[0] += 5.0
        return [Event(self.node, "done", [])] if self.clock[0] > 125.0 else []


def test_a_line_each_minute_comes_also_where_no_node_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    file = io.StringIO()
    with shown(Console(file=file, width=200), [A], {A.key: 3.0}, 1) as display:
        drive([A], {A.key: 3.0}, _Quiet(clock), display)
    *beats, end = file.getvalue().splitlines()
    assert beats == [f"    at work: {A.name}"] * 2 and end.startswith(f"[1/1] {A.name}: ")
