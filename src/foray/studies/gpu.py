"""The experiment on one GPU: 49M parameters, a billion tokens of the embedded world, problems of both tiers.

    foray prepare world_1b --out DATA/world_1b                  generated and tokenized once, in parallel
    foray plan gpu --set data.root=DATA --hardware h200x1
    timeout 480 foray run gpu --set data.root=DATA              runs for eight minutes; the same command goes on

An interrupted run loses the work since its last rolling checkpoint, and never a finished node. A rolling checkpoint
comes every half minute, or after twenty times the time of a save. Learning rates are not tuned. The rates of
pre-training and SFT are of the order of public recipes at this size. The rate of RL is between tiny's and paper_1b's.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.data.prepare import load_mix, mixture
from foray.evals.abilities import WorldProbes
from foray.model.config import ModelConfig
from foray.study.spec import Data, Dynamics, Evaluation, Part, Pretrain, Study, Variant
from foray.world import WorldProblems

M = 1_000_000
MIX = load_mix("world_1b")


def study() -> Study:
    task = WorldProblems("easy")
    corpus = Corpus(mixture(MIX, "world_1b"), batch_size=256, length=1024)
    adam = AdamW(lr=2e-3, weight_decay=0.1, warmup=0.02, schedule="cosine", final=0.1)
    pretrain = Stream("pretrain", corpus, CrossEntropy(z_loss=1e-5), adam, precision="bf16")
    rl = Stream(
        "rl",
        Rollouts(task, questions=6000, prompts=64, group_size=8, max_new_tokens=96),
        PolicyGradient(kl=1e-3),
        AdamW(lr=2e-5, warmup=0.05),
        precision="bf16",
    )
    sft_source = Demonstrations(task, questions=6000, batch_size=64)
    sft = Stream("sft", sft_source, CrossEntropy(), AdamW(lr=2e-4, warmup=0.05), precision="bf16")
    return Study(
        name="gpu",
        # 41M in the layers, 2 x 4.2M in the embeddings; M_t from 1 to 20 tokens per parameter.
        model=ModelConfig(
            width=512, layers=12, heads=8, mlp_width=1536, vocab_size=8192, context=1280, rope_theta=1e4, embed_std=1.0
        ),
        data=Data(vocab_size=8192, whole_numbers=200),
        pretrain=Pretrain(pretrain, 1000 * M, tuple(n * M for n in (50, 100, 200, 350, 500, 700, 1000))),
        post=PostTraining(rl, sft, rl_steps=300, sft_steps=470),
        # As the authors ran them: only RL from the base has a KL term.
        recipes=(
            "rl", "sft", "sft_gold", *(Variant(r, ("rl.kl=0.0",), "") for r in ("sft_rl", "sft_gold_rl", "parallel")),
        ),
        evaluation=Evaluation(
            task, problems=500, samples=64, k=(1, 8, 32, 64), max_new_tokens=96, probes=WorldProbes(),
            heldout_tokens=100_000, dynamics=Dynamics(500 * M, points=6), precision="bf16",
            grading="flexible",
        ),
    )  # fmt: skip


def parts(main: Study) -> tuple[Part, ...]:
    """Hard problems from three M_t, and four seeds of RL from the earliest two."""
    starts = main.pretrain.checkpoints
    hard = WorldProblems("hard")
    # Eight examples of hard problems would be longer than a pre-training window.
    asked = replace(main.evaluation, task=hard, base_shots=(4,), max_new_tokens=160, dynamics=None)
    on_hard = replace(main, excursions=starts[2::2], evaluation=asked, post=main.post.asking(hard, max_new_tokens=160))
    seeds = replace(
        main, excursions=starts[:2], seeds=(0, 1, 2, 3), recipes=("rl",),
        evaluation=replace(main.evaluation, dynamics=None),
    )  # fmt: skip
    return Part("hard", (on_hard,)), Part("seeds", (seeds,))
