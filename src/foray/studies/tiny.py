"""The main experiment on two CPU cores: four M_t of one pre-training, four recipes from each."""

from __future__ import annotations

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.stage import AdamW, Corpus, Demonstrations, PostTraining, Rollouts, Stream
from foray.evals.general import WorldProbes
from foray.model.config import ModelConfig
from foray.study.spec import Data, Dynamics, Evaluation, Pretrain, Study
from foray.tasks.world import WorldProblems, math_sources
from foray.tasks.world.prose import general_sources


def mixture() -> tuple[tuple[float, object], ...]:
    """Shaped like DOLMino (web 47%, FLAN 17%, math 21%, encyclopaedic and scientific 15%), with more math."""
    general, math = general_sources(), math_sources(hard_share=0.1)
    return (
        (0.26, general["web"]),
        (0.14, general["flan"]),
        (0.13, general["wiki"]),
        (0.35, math["stories"]),
        (0.12, math["drills"]),
    )


def study() -> Study:
    task = WorldProblems("easy")
    pretrain = Stream(
        "pretrain",
        Corpus(mixture(), batch_size=4, length=576),
        CrossEntropy(z_loss=1e-5),
        AdamW(lr=1e-2, weight_decay=0.03, no_decay=("embed_tokens", "norm"), warmup=0.03, schedule="cosine", final=0.1),
    )
    # Each stream's learning rate is the best of three (RL 3e-4, 6e-4, 1.2e-3; SFT 5e-4, 1e-3, 2e-3) by the mean of
    # pass@1, 8 and 32 on 100 validation problems after `rl` and `sft` from one M_t; the other recipes inherit them.
    rl = Stream(
        "rl",
        Rollouts(task, questions=1000, prompts=32, group_size=8, max_new_tokens=80),
        PolicyGradient(),
        AdamW(lr=6e-4, warmup=0.1),
    )
    sft_source = Demonstrations(task, questions=1000, batch_size=32)
    sft = Stream("sft", sft_source, CrossEntropy(), AdamW(lr=1e-3, warmup=0.1))
    return Study(
        name="tiny",
        # Post-norm leaves the embeddings as they are, so at this width they start at 1, the scale of what is added to
        # them; and rotary wavelengths fit 576 positions, not 4096.
        model=ModelConfig(
            width=96, layers=3, heads=3, mlp_width=256, context=640, rope_theta=1e4, init_std=0.1, embed_std=1.0
        ),
        data=Data(vocab_size=1792, whole_numbers=200),
        pretrain=Pretrain(pretrain, tokens=4_500_000, checkpoints=(700_000, 1_500_000, 3_000_000, 4_500_000)),
        post=PostTraining(rl, sft, rl_steps=40, sft_steps=160),
        recipes=("rl", "sft", "sft_rl", "parallel"),
        evaluation=Evaluation(
            task, probes=WorldProbes(), max_new_tokens=80, heldout_tokens=12_000, dynamics=Dynamics(3_000_000, points=2)
        ),
    )
