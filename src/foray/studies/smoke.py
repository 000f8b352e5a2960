"""Every part of the program in under a minute: six recipes from two M_t of a model too small to learn. For tests."""

from __future__ import annotations

from dataclasses import replace

from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import Dynamics, Evaluation, Study


def study() -> Study:
    full = tiny.study()
    corpus = replace(full.pretraining.corpus, batch_size=8, length=256)
    rl = replace(
        full.post.rl,
        source=replace(full.post.rl.source, questions=32, prompts=4, group_size=4, max_new_tokens=24, validation=8),
    )
    sft = replace(full.post.sft, source=replace(full.post.sft.source, questions=32, batch_size=8))
    return Study(
        name="smoke",
        model=replace(full.model, width=48, layers=2, heads=2, mlp_width=96, context=320),
        data=replace(full.data, vocab_size=640, tokenizer_characters=300_000),
        pretrain=replace(
            full.pretraining,
            stream=replace(full.pretraining.stream, source=corpus),
            tokens=80_000,
            checkpoints=(40_000, 80_000),
        ),
        post=replace(full.post, rl=rl, sft=sft, rl_steps=3, sft_steps=6),
        recipes=("rl", "sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel"),
        evaluation=Evaluation(
            full.evaluation.task,
            problems=10,
            samples=8,
            k=(1, 4, 8),
            max_new_tokens=24,
            base_shots=(2,),
            heldout_tokens=2_000,
            probes=WorldProbes(questions=10),
            dynamics=Dynamics(80_000, points=2),
        ),
    )
