"""The study `gpu` at a size that travels between lent cards: 3.3M parameters, 36M tokens of the embedded world.

Why no larger: what goes to a card with the program and the wheels is 40 MiB, and comes back 64 MiB a command. The
weights of one M_t at 49M parameters are 170 MB packed; here they are 11 MB, so that three M_t with open excursions go
at once. Learning rates are not tuned.
"""

from __future__ import annotations

from dataclasses import replace

from foray.evals.abilities import WorldProbes
from foray.model.config import ModelConfig
from foray.studies import gpu
from foray.study.spec import Data, Study
from foray.world.mixture import world_mixture

M = 1_000_000


def study() -> Study:
    base = gpu.study()
    corpus = replace(
        base.pretrain.stream.source, mixture=world_mixture(math_share=0.3, hard_share=0.1), batch_size=64
    )  # fmt: skip
    stream = replace(base.pretrain.stream, source=corpus)
    return replace(
        base,
        name="gpu_carried",
        model=ModelConfig(
            width=160, layers=6, heads=5, mlp_width=480, vocab_size=4096, context=1280, rope_theta=1e4, embed_std=1.0
        ),
        data=Data(vocab_size=4096, whole_numbers=200),
        pretrain=replace(
            base.pretrain, stream=stream, tokens=36 * M, checkpoints=tuple(n * M for n in (3, 7, 14, 24, 36))
        ),
        recipes=("rl", "sft", "sft_rl", "parallel"),
        evaluation=replace(base.evaluation, probes=WorldProbes(), dynamics=None),
    )  # fmt: skip
