"""The main experiment on two CPU cores: four M_t of one pre-training, four recipes from each."""

from __future__ import annotations

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.evals.abilities import WorldProbes
from foray.model.config import ModelConfig
from foray.study.spec import Data, Dynamics, Evaluation, Pretrain, Study
from foray.world import WorldProblems
from foray.world.mixture import world_mixture


def study() -> Study:
    task = WorldProblems("easy")
    # More math than DOLMino's 21%: four million tokens must hold enough of it to learn from.
    pretrain = Stream(
        "pretrain",
        Corpus(world_mixture(math_share=0.47, hard_share=0.1), batch_size=2, length=608),
        CrossEntropy(z_loss=1e-5),
        AdamW(lr=7e-3, weight_decay=0.03, no_decay=("embed_tokens", "norm"), warmup=0.03, schedule="cosine", final=0.1),
    )
    # Each stream's learning rate is the best of a grid of factor 2 (RL 2e-4 to 1.6e-3, SFT 5e-4 to 4e-3). The criterion
    # is the mean of pass@1, 8 and 32 on 100 validation problems, after `rl` and `sft` from two M_t. The other recipes
    # inherit both rates.
    rl = Stream(
        "rl",
        Rollouts(task, questions=3000, prompts=32, group_size=8, max_new_tokens=80),
        PolicyGradient(),
        AdamW(lr=2e-4, warmup=0.1),
    )
    sft_source = Demonstrations(task, questions=3000, batch_size=32)
    sft = Stream("sft", sft_source, CrossEntropy(), AdamW(lr=2e-3, warmup=0.1))
    return Study(
        name="tiny",
        # Post-norm does not scale the embeddings. At this width they start at 1, the scale of the layers' outputs.
        # The rotary wavelengths fit 608 positions, not 4096.
        model=ModelConfig(
            width=96, layers=3, heads=3, mlp_width=256, context=704, rope_theta=1e4, init_std=0.1, embed_std=1.0
        ),
        data=Data(vocab_size=1792, whole_numbers=200),
        pretrain=Pretrain(pretrain, tokens=4_500_000, checkpoints=(700_000, 1_500_000, 3_000_000, 4_000_000)),
        post=PostTraining(rl, sft, rl_steps=48, sft_steps=240),
        recipes=("rl", "sft", "sft_rl", "parallel"),
        evaluation=Evaluation(
            task, probes=WorldProbes(), max_new_tokens=80, heldout_tokens=12_000, dynamics=Dynamics(3_000_000, points=2)
        ),
    )
