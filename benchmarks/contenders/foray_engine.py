"""Foray: its training step, its embedded engine, its GRPO step. Variants: ``fp32`` and ``bf16``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from cases import Case, Groups, Prepared
from parts import Endless, Words

from foray.core.batch import Batch
from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.process import keep_freed_memory
from foray.core.sources import Rollouts
from foray.core.stage import AdamW, Stage, Stream
from foray.data.tokenizer import load_tokenizer
from foray.model.hf import load_model
from foray.rollout.engine import Sampling
from foray.rollout.torch_engine import TorchEngine
from foray.studies import tiny
from foray.train.draw import Training
from foray.train.loop import Moments, run_stage
from foray.train.scoring import backward


def prepare(case: Case, folder: Path, variant: str) -> Prepared:
    keep_freed_memory()  # as every worker of a study does
    return {"pretrain": _pretrain, "sample": _sample, "grpo": _grpo, "study": _study}[case.kind](case, folder, variant)


def _pretrain(case: Case, folder: Path, variant: str) -> Prepared:
    model = load_model(folder)
    rows = torch.randint(1, model.config.vocab_size, (case.rows, case.length + 1))
    one = torch.ones(case.rows, case.length)
    batch = Batch(rows[:, :-1], rows[:, 1:], one, one, one, float(one.numel()))
    stream = Stream("bench", object(), CrossEntropy(), AdamW(lr=1e-4), precision=variant)
    moments = Moments(model, stream.optimizer)

    def run() -> int:
        model.zero_grad()
        backward(model, stream, batch)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        moments.step({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, 1e-4)
        return one.numel()

    return Prepared(run)


def _sample(case: Case, folder: Path, variant: str) -> Prepared:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    tokenizer.end_id = -1  # nobody may stop early; the engine asks for it once, here
    engine = TorchEngine(model.config, tokenizer, model=model)
    prompts = case.token_prompts()
    sampling = Sampling(1.0, case.new_tokens, precision=variant)
    weights = {name: w.clone() for name, w in model.state_dict().items()}

    def run() -> Groups:
        groups = engine.generate(prompts, case.samples, sampling, list(range(len(prompts))))
        return [[list(c.tokens) for c in g] for g in groups]

    return Prepared(run, lambda: engine.sync(weights, 1))


def _grpo(case: Case, folder: Path, variant: str) -> Prepared:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    endless = load_tokenizer(folder)
    endless.end_id = -1  # nobody may stop early
    engine = Endless(TorchEngine(model.config, endless, model=model))
    task = Words(tuple(map(tuple, case.token_prompts())))
    source = Rollouts(
        task, questions=case.prompts, prompts=case.prompts, group_size=case.samples,
        max_new_tokens=case.new_tokens, format_reward=0.0,
    )  # fmt: skip
    stream = Stream("rl", source, PolicyGradient(), AdamW(lr=1e-6), precision=variant)
    step = _steps(Training(0, "rl", tokenizer, model, engine), stream)

    def run() -> int:
        step()
        return case.prompts * case.samples * case.new_tokens

    return Prepared(run)


def _study(case: Case, folder: Path, variant: str) -> Prepared:
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    # Without the KL term, whose reference TRL's step does not have either.
    stream = replace(tiny.study().post.rl, objective=PolicyGradient(), precision=variant)
    assert (stream.source.prompts, stream.source.group_size) == (case.prompts, case.samples)
    step = _steps(Training(0, "rl", tokenizer, model, TorchEngine(model.config, tokenizer, model=model)), stream)
    return Prepared(lambda: round(step()["rl/tokens"]))


def _steps(run: Training, stream: Stream) -> Callable[[], dict[str, float]]:
    """One update for every call; returns what it logged."""
    stage = Stage("rl", ((1.0, stream),), 1_000_000)
    moments = {"rl": Moments(run.model, stream.optimizer)}
    logged: list[dict[str, float]] = []

    def step() -> dict[str, float]:
        run_stage(stage, run, moments, len(logged), len(logged) + 1, lambda _, values: logged.append(values))
        return logged[-1]

    return step
