"""What each step of the GPU's half hour runs, in order of worth, and how long it may take."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

TESTS = ("tests/test_gpu.py", "tests/test_engine.py")


@dataclass(frozen=True)
class Part:
    """A process with a limit in seconds. With fewer than ``least`` left the process is not begun."""

    name: str
    seconds: float
    words: tuple[str, ...]
    least: float = 20.0
    keep_words: int = 0  # characters of what it says that belong to its results
    results: bool = True  # whether it takes --out
    always: bool = False  # also where it is done already

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower())

    def command(self, out: Path, kept: Path) -> list[str]:
        words = [w.replace("{kept}", str(kept)) for w in self.words]
        return [sys.executable, *words, *(("--out", str(out)) if self.results else ())]


@dataclass(frozen=True)
class Step:
    number: int
    title: str
    minutes: float
    parts: tuple[Part, ...]

    def within(self, minutes: float) -> Step:
        return replace(self, minutes=minutes)


def steps(rehearse: bool) -> tuple[Step, ...]:
    shape = ("--shape", "tiny" if rehearse else "1b")

    def part(name: str, seconds: float, least: float = 30.0) -> Part:
        rates = () if name == "card" else ("--rates", "{kept}/.card.json")
        words = ("benchmarks/gpu.py", name, *shape, *rates)
        return Part(name, seconds, words, 1.0 if rehearse else least, always=name == "card")

    card = part("card", 90, 10)
    return (
        Step(1, "tests on the card", 4, (card, *_tests(rehearse))),
        Step(2, "pre-training, 1B at 4096", 8, (
            card, part("pretrain", 130), part("pretrain transformers", 90), part("pretrain profiled", 110),
            part("pretrain recompute", 80), part("pretrain eager", 60),
            *(() if rehearse else (part("pretrain transformers compiled", 110, 60),)),  # a CPU compiles for minutes
        )),
        Step(3, "decoding, 512 + 512 tokens", 8, (
            card, part("decode paged", 220), part("decode torch", 110), part("decode generate", 120),
        )),
        Step(4, "a GRPO step, 1B", 6, (
            card, part("grpo 64x8", 160), part("grpo 16x32", 110, 60), part("grpo 64x8 recompute", 110, 60),
            part("scoring", 60),
        )),
        Step(5, "a piece of the study", 8, _piece(rehearse, card)),
    )  # fmt: skip


def _tests(rehearse: bool) -> tuple[Part, ...]:
    """Side by side: a card holds many small tests, and most of their time is compiling."""
    options = "-m gpu -v -rP --show-capture=stdout -o addopts= -p no:cacheprovider --tb=short --durations=15"
    words = ("-m", "pytest", *options.split())
    if rehearse:
        quick = (*words, "tests/test_gpu.py", "-k", "law_3 or moments")
        return (Part("tests", 215, quick, 1.0, 20_000, results=False),)
    return (Part("tests", 215, (*words, "-n", "8", "--dist", "worksteal", *TESTS), 30.0, 60_000, results=False),)


def _piece(rehearse: bool, card: Part) -> tuple[Part, ...]:
    """A piece of the study, then what is new of its store in a form that travels."""
    options: tuple[str, ...] = ()
    if rehearse:
        options = ("--study", "smoke", "--machine", "device=cpu", "--jobs", "1")
        options = (*options, "--store", "{kept}/store", "--there", "{kept}/there")
    run, back = (("benchmarks/gpu_pieces.py", act, *options) for act in ("run", "back"))
    least = 1.0 if rehearse else 60.0
    return (
        card,
        Part("study", 340, run, least, keep_words=4000, always=True),
        Part("back", 90, back, 1.0, always=True),
    )
