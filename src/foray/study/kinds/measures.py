"""The nodes that measure: pass@k, probes, perplexity, a measurement of the user's own, shared text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from foray.core import rng
from foray.core.canonical import added
from foray.core.engines import VLLM, AnyEngine
from foray.core.files import read_jsonl, write_json
from foray.core.health import sampling_flags
from foray.core.libraries import require_installed
from foray.core.task import CutOff, Split, Task, verifier_of
from foray.data.tokenizer import TextTokenizer
from foray.evals.own_measure import OwnMeasure
from foray.evals.probe_set import ProbeSet
from foray.model.transformer import Transformer
from foray.rollout.engine import Precision
from foray.study.kinds.models import open_checkpoint
from foray.study.kinds.tokens import ShardNode
from foray.study.node import CheckpointNode, Node, Report
from foray.study.store import Store


@dataclass(frozen=True)
class OfCheckpoint(Node):
    """A measurement of a checkpoint."""

    reported: ClassVar[tuple[str, ...]] = ("",)
    on_card: ClassVar[bool] = True
    checkpoint: CheckpointNode

    def opened(self, store: Store) -> tuple[Transformer, TextTokenizer]:
        return open_checkpoint(self.checkpoint.folder(store), store.machine)


@dataclass(frozen=True)
class PassKNode(OfCheckpoint):
    """Graded samples of a checkpoint on a task."""

    kind: ClassVar[str] = "passk"
    version: ClassVar[int] = 2  # since 2 results hold flexible grading and votes
    task: Task
    split: Split
    problems: int
    shots: int
    samples: int
    temperature: float
    max_new_tokens: int
    seed: int
    precision: Precision = added("fp32")
    engine: AnyEngine = added("embedded")
    vllm: VLLM = field(default=VLLM(), metadata={"hash": False})
    top_p: float = added(1.0)
    top_k: int = added(0)
    min_p: float = added(0.0)
    cut_off: CutOff = added("wrong")

    @cached_property
    def spec(self) -> dict[str, Any]:
        verifier = verifier_of(self.task)
        return super().spec | ({"verifier": verifier} if verifier else {})

    def label(self) -> str:
        which = "training questions of " if self.split == "train" else ""
        return f"pass@k on {which}{self.task.name}, {self.shots}-shot: {self.checkpoint.label()}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.evals.sampling import evaluate
        from foray.rollout.choose import open_engine

        model, tokenizer = self.opened(store)
        engine = open_engine(self.engine, model, tokenizer, self.vllm, self.precision)
        evaluate(
            engine, tokenizer, self.task, folder,
            split=self.split, problems=self.problems, shots=self.shots, samples=self.samples,
            temperature=self.temperature, max_new_tokens=self.max_new_tokens, seed=self.seed, precision=self.precision,
            top_p=self.top_p, top_k=self.top_k, min_p=self.min_p, cut_off=self.cut_off, report=report,
        )  # fmt: skip

    def flags(self, folder: Path) -> list[str]:
        rows = read_jsonl(folder / "problems.jsonl")
        return sampling_flags(sum(r["samples"] for r in rows), sum(r["truncated"] for r in rows))

    def check(self) -> None:
        super().check()
        if self.engine == "vllm":
            self.vllm.check()


@dataclass(frozen=True)
class ProbesNode(OfCheckpoint):
    """The general-ability probes of a checkpoint, through lm-eval."""

    kind: ClassVar[str] = "probes"
    probes: ProbeSet

    def label(self) -> str:
        return f"probes: {self.checkpoint.label()}"

    def check(self) -> None:
        super().check()
        require_installed(("lm_eval", "datasets"), self.label())

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.evals.abilities import evaluate_probes

        model, tokenizer = self.opened(store)
        results, work = evaluate_probes(self.probes, model, tokenizer, folder)
        _write_ledger(folder, work)
        write_json(folder / "probes.json", results, indent=1)


@dataclass(frozen=True)
class PerplexityNode(OfCheckpoint):
    """Held-out perplexity and bits per byte of a checkpoint on every text source."""

    kind: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 2  # since 2 results hold bits per byte
    shards: tuple[ShardNode, ...]
    length: int

    def label(self) -> str:
        return f"perplexity: {self.checkpoint.label()}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.evals.perplexity import perplexity

        model, tokenizer = self.opened(store)
        out, total = {}, 0.0
        for node in self.shards:
            loss = perplexity(model, tokenizer, node.open_shard(store), self.length)
            total += loss.flops
            out[node.source.name] = loss.row()
        _write_ledger(folder, total)
        write_json(folder / "perplexity.json", out, indent=1)


@dataclass(frozen=True)
class TaskTextNode(OfCheckpoint):
    """The same on the task's own text: question and first solution of its problems. Empty where none has a solution.

    It is no part of ``PerplexityNode``: grids with different tasks share that one. Its source has the split in its
    name, as a text source may have the task's name.
    """

    kind: ClassVar[str] = "task_text"
    task: Task
    split: Split
    problems: int

    def label(self) -> str:
        return f"perplexity on {self.task.name}'s text: {self.checkpoint.label()}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.evals.perplexity import task_perplexity

        model, tokenizer = self.opened(store)
        loss = task_perplexity(model, tokenizer, self.task, self.split, self.problems)
        _write_ledger(folder, loss.flops if loss else 0.0)
        name = f"{self.task.name} {self.split}"
        write_json(folder / "perplexity.json", {name: loss.row()} if loss else {}, indent=1)


@dataclass(frozen=True)
class MeasureNode(OfCheckpoint):
    """The user's own measurement of a checkpoint."""

    kind: ClassVar[str] = "measure"
    version: ClassVar[int] = 2  # since 2 draws go by the checkpoint's seed and not by its key
    measure: OwnMeasure

    def label(self) -> str:
        return f"{self.measure.name}: {self.checkpoint.label()}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.evals.own_measure import measured

        model, tokenizer = self.opened(store)
        seed = rng.key(getattr(self.checkpoint, "seed", 0), "measure", self.measure.name)
        write_json(folder / "measure.json", measured(self.measure, model, tokenizer, seed))


@dataclass(frozen=True)
class ContaminationNode(Node):
    """The word sequences that the evaluation's questions share with the training text and with the other splits.

    ``shards`` are the text of pre-training, read back from the tokens. ``trained`` is the task of post-training, with
    ``questions`` training questions. RL looks at ``validation`` validation problems of this task.
    """

    kind: ClassVar[str] = "contamination"
    reported: ClassVar[tuple[str, ...]] = ("",)
    shards: tuple[ShardNode, ...]
    trained: Task
    questions: int
    validation: int
    task: Task
    split: Split
    problems: int
    n: int

    def label(self) -> str:
        return f"overlap of text and questions with {self.split} questions of {self.task.name}"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        from foray.evals.overlap import overlaps

        asked = [p.question for p in self.task.problems(self.split, self.problems)]
        trained = [p.question for p in self.trained.problems("train", self.questions)]
        checked = [p.question for p in self.trained.problems("validation", self.validation)] if self.validation else []
        if (self.split, self.task) == ("validation", self.trained):
            checked = []  # a split does not contaminate itself
        texts = {s.source.name: _read_back(s, store) for s in self.shards}
        rows = overlaps(texts, trained, checked, asked, self.split, self.n)
        write_json(folder / "contamination.json", {"n": self.n, "rows": rows}, indent=1)


def _read_back(node: ShardNode, store: Store) -> Iterator[str]:
    """The documents of a shard, decoded from the tokens that training reads. Memory: a million tokens."""
    tokenizer, shard = node.tokenizer.open_tokenizer(store), node.open_shard(store)
    for document in shard.documents(tokenizer.end_id):
        yield tokenizer.decode(document)


def _write_ledger(folder: Path, scoring: float) -> None:
    write_json(folder / "ledger.json", {"flops/score": scoring})
