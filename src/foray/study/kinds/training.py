"""The node that trains: from the furthest whole state that it finds, with a rolling checkpoint."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from foray.core import rng
from foray.core.canonical import everywhere
from foray.core.engines import VLLM
from foray.core.files import (
    TRAINING_FILES,
    kept,
    read_jsonl,
    read_numbers,
    verify,
)
from foray.core.health import training_flags
from foray.core.sources import Corpus, Demonstrations, Rollouts, Source
from foray.core.spelling import LABELS, in_tokens
from foray.core.stage import Stage
from foray.data.tokenizer import TextTokenizer
from foray.model.adapters import adapted
from foray.model.config import ModelConfig
from foray.model.transformer import Transformer, initialize
from foray.rollout.choose import open_engine
from foray.rollout.engine import Engine
from foray.study.kinds.models import open_checkpoint
from foray.study.kinds.tokens import SealedText, ShardNode
from foray.study.node import CheckpointNode, Node, Report, TokenizerOwner
from foray.study.preemption import Preempted
from foray.study.store import Store
from foray.train.activations import activation_bytes
from foray.train.checkpoint import Resume, has_model, load_state, save_checkpoint, save_state, step_of
from foray.train.draw import Training
from foray.train.loop import Metrics, Moments, run_stage
from foray.train.ranks import all_gather, from_first, is_first, rank_and_ranks
from foray.train.sharding import blank, fill
from foray.train.stage_logs import stage_logs

SAVE_SECONDS = 30.0  # between rolling checkpoints: what a kill can cost
_QUICK_SECONDS = 1.5  # a longer save, of a large model, comes less often in proportion


@dataclass(frozen=True)
class TrainNode(CheckpointNode):
    """The state after ``step`` updates of a stage that starts from ``parent``'s weights (or from initialization).

    The key does not hold which other steps of the stage are kept, because the state does not depend on them (law 4).
    ``after`` is the nearest earlier kept step, and saves the repetition of its work. ``checks`` run before the node.
    """

    kind: ClassVar[str] = "train"
    reported: ClassVar[tuple[str, ...]] = TRAINING_FILES
    on_card: ClassVar[bool] = True
    on_ranks: ClassVar[bool] = True
    model: ModelConfig
    tokenizer: TokenizerOwner
    stage: Stage
    step: int
    seed: int
    parent: CheckpointNode | None = None
    shards: tuple[ShardNode, ...] = ()
    screen: Node | None = None  # the base's own answers to the training questions, where RL chooses among them
    after: TrainNode | None = field(default=None, metadata={"hash": False})
    tokens: int = field(default=0, metadata={"hash": False})  # of an M_t, as the study says: its step is rounded
    checks: tuple[Node, ...] = field(default=(), metadata={"hash": False})
    beside: str = field(default="", metadata={"hash": False})  # the study's name for its mix or variant, for people

    @property
    def samples(self) -> bool:
        """Whether the stage may sample completions: for RL, to validate SFT, or in a source of the user's own."""
        return any(_samples(s.source) for s in self.stage.members())

    def label(self) -> str:
        """``M_t at 1.5M, seed 0``; ``SFT→RL from 1.5M, seed 0``, of an earlier step with ``, update 32 of 64``.

        A variant stands behind its recipe, ``RL (rl.lr=0.0004) from 1.5M``, and a mix behind M_t.
        """
        names: list[str] = []  # of the stages since M_t
        start: CheckpointNode = self
        while isinstance(start, TrainNode) and start.parent is not None:
            names.insert(0, LABELS.get(start.stage.name, start.stage.name))
            start = start.parent
        if not names:
            return f"M_t at {self.place()}, seed {self.seed}"
        seeds = f" of seed {start.seed}" if isinstance(start, TrainNode) and start.seed != self.seed else ""
        part = f", update {self.step:,} of {self.stage.steps:,}" if self.step < self.stage.steps else ""
        variant = f" ({self.beside})" if self.beside else ""
        return f"{'→'.join(names)}{variant} from {start.place()}{seeds}, seed {self.seed}{part}"

    def place(self) -> str:
        """Where an M_t lies in its pre-training."""
        mix = f" of {self.beside}" if self.beside else ""
        return (in_tokens(self.tokens) if self.tokens else f"update {self.step:,}") + mix

    def asked(self) -> Self:
        return replace(self, stage=everywhere(self.stage, _sealed))

    def first(self) -> int:
        return self.after.step if self.after is not None else 0

    def run(self, folder: Path, store: Store, report: Report) -> None:
        run_training(self, folder, store, report)

    def flags(self, folder: Path) -> list[str]:
        found = training_flags(read_numbers(folder / "metrics.jsonl"))
        for shard in self.shards if self.after is None else ():  # of several M_t the first says it
            place = folder.with_name(f"{shard.kind}-{shard.key}")
            found += [f"{shard.source.name}: {flag}" for flag in shard.flags(place)] if place.is_dir() else []
        return found

    def check(self) -> None:
        super().check()
        for source in (s.source for s in self.stage.members()):
            if isinstance(source, Rollouts) and source.engine == "vllm":
                source.vllm.check()


def _sealed(spec: Any) -> Any:
    """A stream without its text's files: the text lies in shards. A source of the user's own may read files itself."""
    source = getattr(spec, "source", None)
    if not isinstance(source, Corpus):
        return spec
    return replace(spec, source=replace(source, mixture=tuple((w, SealedText(s.name)) for w, s in source.mixture)))


def _samples(source: Source) -> bool:
    """For training or for validation. A source of the user's own may."""
    return not isinstance(source, Corpus | Demonstrations) or getattr(source, "validation", 0) > 0


def run_training(node: TrainNode, folder: Path, store: Store, report: Report) -> None:
    """Fills ``folder`` with ``model/``, ``state/`` (unless the stage is over) and the logs of ``stage_logs``.

    The stage is over after its last step, or where its stop rule says.

    Many ranks call this function together. Only rank 0 reports, and rank 0 writes everything but the other ranks'
    slices of the state. If ``report`` raises Preempted, the function saves its state before it ends.
    """
    tokenizer = node.tokenizer.open_tokenizer(store)
    stage = node.stage
    resume = Resume(folder)
    source = from_first(lambda: _furthest(resume, node, store))
    run = _opened(node, store, tokenizer, source)
    moments = {stream.name: Moments(run.model, stream.optimizer) for _, stream in stage.streams}
    start = load_state(source, run, moments) if source is not None else 0
    saved_at, save_took, done_so_far = time.monotonic(), 0.0, start
    with stage_logs(folder, source, start) as logs:
        scores = from_first(lambda: _scores(stage, folder / "metrics.jsonl"))

        def after_step(done: int, values: Metrics) -> bool:
            nonlocal saved_at, save_took, done_so_far
            stop: int | None = None
            done_so_far = done
            if stage.watched in values:
                scores.append((done, values[stage.watched]))
            kept = run.kept
            run.kept = []
            if logs is not None:
                logs.write(done, values, kept)
                try:
                    report(done=done, total=node.step, start=start, **values)
                except Preempted as e:
                    stop = e.args[0]
            now = time.monotonic()
            due = now - saved_at > SAVE_SECONDS * max(1.0, save_took / _QUICK_SECONDS)
            stop, due = from_first(lambda: (stop, due and not resume.busy()))
            over = _over(stage, scores, done)
            # After the last step the final save follows at once.
            if done < node.step and not over and (stop is not None or due):
                resume.finish()
                resume.save(run, moments, done)
                saved_at = time.monotonic()
                save_took = saved_at - now
                if stop is not None:
                    resume.finish()
                    all_gather(None)  # no rank ends first: the end of one rank may end the others
                    raise Preempted(stop)
            return over

        if not _over(stage, scores, start):
            run_stage(stage, run, moments, start, node.step, after_step, folder)
    try:
        resume.finish()
        save_checkpoint(folder, run.model, tokenizer)
        if node.step < stage.steps:
            save_state(folder, run, moments, done_so_far)
    except OSError as e:
        raise OSError(f"the result cannot be saved: {e}; {resume.what_is_kept()}") from None


def _opened(node: TrainNode, store: Store, tokenizer: TextTokenizer, source: Path | None) -> Training:
    """The stage with its models, its text and the answers to its questions."""
    model, engine, reference = _models(node, store, tokenizer, source)
    return Training(
        seed=node.seed,
        stage=node.stage.name,
        tokenizer=tokenizer,
        model=model,
        engine=engine,
        reference=reference,
        shards={s.source.name: s.open_shard(store) for s in node.shards},
        screened=_screened(node, store),
    )


def _scores(stage: Stage, metrics: Path) -> list[tuple[int, float]]:
    """(update, score) of what the stop rule has watched so far. Empty without a rule."""
    if stage.stop is None or not metrics.exists():
        return []
    rows = [(row["step"], row.get(stage.watched)) for row in read_jsonl(metrics)]
    return [(step, score) for step, score in rows if score is not None]


def _over(stage: Stage, scores: list[tuple[int, float]], done: int) -> bool:
    """Whether the stop rule ends the stage after update ``done``."""
    return stage.stop is not None and bool(scores) and scores[-1][0] == done and stage.stop.over(scores)


def _models(
    node: TrainNode, store: Store, tokenizer: TextTokenizer, source: Path | None
) -> tuple[Transformer, Engine | None, Transformer | None]:
    """The model to train, the engine, and for rollouts the stage's first weights."""
    machine, lora = store.machine, node.stage.lora
    rollouts = any(isinstance(s.source, Rollouts) for s in node.stage.members())
    # The weights to go on from, unless these are read into the model afterwards: slices or adapters.
    weights = source if source is not None and lora is None and has_model(source, None) else None
    if rank_and_ranks()[1] == 1:
        first = _first_weights(node, store, tokenizer)
        if lora is not None:
            model = adapted(first, lora, _adapters_key(node)).move(machine)
            # The engine samples with merged weights, in a copy of its own.
            engine = _engine(node.stage, blank(first.config, machine), tokenizer) if node.samples else None
            return model, engine, first.eval().move(machine) if rollouts else None
        model = (deepcopy(first) if weights is None else open_checkpoint(weights)[0]).move(machine)
        return model, _engine(node.stage, model, tokenizer), first.eval().move(machine) if rollouts else None
    # Only rank 0's memory holds whole weights, and only until the ranks have their slices.
    begun = _first_weights(node, store, tokenizer) if is_first() else None
    config = from_first(lambda: None if begun is None else begun.config)
    assert config is not None
    bf16 = all(s.precision == "bf16" for s in node.stage.members())
    sampler = _engine(node.stage, blank(config, machine), tokenizer) if node.samples else None
    reference = fill(blank(config, machine, bf16), begun).eval() if rollouts else None
    if begun is not None and lora is not None:
        begun = adapted(begun, lora, _adapters_key(node))
    elif begun is not None and weights is not None:
        begun = open_checkpoint(weights)[0]
    model = blank(config, machine, bf16, lora)
    if source is None or weights is not None or lora is not None:
        fill(model, begun)
    return model, sampler, reference


def _adapters_key(node: TrainNode) -> int:
    return rng.key(node.seed, "adapters", node.stage.name)


def _engine(stage: Stage, model: Transformer, tokenizer: TextTokenizer) -> Engine:
    """The engine of the stage's rollouts."""
    chosen = {(s.source.engine, s.source.vllm, s.precision) for s in stage.members() if isinstance(s.source, Rollouts)}
    if len(chosen) > 1 and any(name != "embedded" for name, _, _ in chosen):
        raise ValueError(f"stage {stage.name}: its streams of rollouts must use one engine in one precision")
    # SFT is validated with the engine of the stage's rollouts, or else with the embedded one.
    precisions = [s.precision for s in stage.members() if _samples(s.source)] or ["fp32"]
    name, vllm, precision = next(iter(chosen), ("embedded", VLLM(), precisions[0]))
    machine, streams = model.machine, len(stage.streams)
    value = 2 if precision == "bf16" else 4
    reserve = activation_bytes(model.config, machine.microbatch_tokens, value, machine.recompute)
    trained = model.config.parameters if stage.lora is None else model.config.adapter_parameters(stage.lora)
    reserve += 4.0 * trained * (streams + 2 * streams) / rank_and_ranks()[1]  # gradients and moments
    return open_engine(name, model, tokenizer, vllm, precision, reserve)


def _first_weights(node: TrainNode, store: Store, tokenizer: TextTokenizer) -> Transformer:
    """The weights that the stage starts from: the parent's, or initialization by the seed."""
    if node.parent is not None:
        return open_checkpoint(node.parent.folder(store))[0]
    shape = node.model.sized(tokenizer.vocab_size)
    if shape.vocab_size < tokenizer.reach:
        raise ValueError(f"model.vocab_size ({shape.vocab_size}) is smaller than the tokenizer's ({tokenizer.reach})")
    return initialize(shape, node.seed)


def _screened(node: TrainNode, store: Store) -> dict[str, dict[str, int]]:
    """Correct answers of the base to each training question that was screened, by the question's id and the grading."""
    if node.screen is None:
        return {}
    folder = node.screen.folder(store)
    verify(folder)
    return {row["id"]: row["correct"] for row in read_jsonl(folder / "problems.jsonl")}


def _furthest(resume: Resume, node: TrainNode, store: Store) -> Path | None:
    """The whole state with the most updates: this node's rolling checkpoint, or an earlier kept step."""
    rolling, earlier = resume.newest(), _earlier_step(node, store)
    if earlier is None or (rolling is not None and step_of(rolling) >= earlier.step):
        return rolling
    verify(earlier.folder(store))
    return earlier.folder(store)


def _earlier_step(node: TrainNode, store: Store) -> TrainNode | None:
    """The nearest earlier kept step of the stage with its state in the store. None only costs time."""
    earlier = node.after
    while earlier is not None and not (earlier.done(store) and kept(earlier.folder(store), "state/")):
        earlier = earlier.after
    return earlier
