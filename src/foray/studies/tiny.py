"""The main experiment on two CPU cores: two M_t of one pre-training, and every recipe of one solution from each."""

from __future__ import annotations

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.evals.abilities import WorldProbes
from foray.model.config import ModelConfig
from foray.study.spec import Data, Evaluation, Pretrain, Study, Variant
from foray.world import WorldProblems
from foray.world.mixture import world_mixture

# RL meets no question twice, SFT some.
QUESTIONS = 8000
RL_STEPS, SFT_STEPS = 112, 280


def study() -> Study:
    task = WorldProblems("easy")
    # More math than DOLMino's 21%: two million tokens must hold enough of it to learn from.
    pretrain = Stream(
        "pretrain",
        # Documents apart: a question stands at the beginning, as in the prompts of RL and of trained models.
        Corpus(world_mixture(math_share=0.55, hard_share=0.0), batch_size=2, length=608, separate=True),
        CrossEntropy(z_loss=1e-5),
        AdamW(lr=7e-3, weight_decay=0.03, no_decay=("embed_tokens", "norm"), warmup=0.03, schedule="cosine", final=0.1),
    )
    # Rates and lengths by pilots on validation problems: docs/results/pilots.
    rl = Stream(
        "rl",
        Rollouts(task, questions=QUESTIONS, prompts=32, group_size=8, max_new_tokens=80),
        PolicyGradient(kl=0.05),
        AdamW(lr=8e-4, warmup=0.1),
    )
    sft_source = Demonstrations(task, questions=QUESTIONS, batch_size=32)
    sft = Stream("sft", sft_source, CrossEntropy(), AdamW(lr=1e-3, warmup=0.1))
    # As the authors ran them: only RL from the base has a KL term.
    sft_rl = Variant("sft_rl", ("rl.kl=0.0",), "")
    # The rollouts of RL and the rows of SFT; one rate for both, as in the paper.
    rows = sft_source.batch_size * SFT_STEPS // RL_STEPS
    parallel = Variant("parallel", ("rl.kl=0.0", f"sft.batch_size={rows}"), "")
    return Study(
        name="tiny",
        # Post-norm does not scale the embeddings. At this width they start at 1, the scale of the layers' outputs.
        # The rotary wavelengths fit 608 positions, not 4096.
        model=ModelConfig(
            width=96, layers=3, heads=3, mlp_width=256, context=704, rope_theta=1e4, init_std=0.1, embed_std=1.0
        ),
        data=Data(vocab_size=1600, whole_numbers=60),
        pretrain=Pretrain(pretrain, tokens=4_500_000, checkpoints=(1_800_000, 2_100_000)),
        post=PostTraining(rl, sft, RL_STEPS, SFT_STEPS),
        recipes=("primed", "rl", "sft", sft_rl, parallel),
        evaluation=Evaluation(
            task, problems=800, probes=WorldProbes(questions=1200), max_new_tokens=80, heldout_tokens=12_000,
            grading="flexible",
        ),
    )  # fmt: skip
