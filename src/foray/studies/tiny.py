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

# Each question is read as often as in the paper: by SFT 61 times, by SFT before RL 13 times, by parallel averaging 14
# times, by RL 9 times (3 to 10 there).
QUESTIONS = 384
RL_STEPS = 112  # draws of 32 questions


def updates(readings: int) -> int:
    """Of SFT in batches of 32 solutions."""
    return readings * QUESTIONS // 32


def _adam(lr: float) -> AdamW:
    """The optimizer of the authors' post-training: a constant rate without warm-up."""
    return AdamW(lr=lr, betas=(0.9, 0.999), weight_decay=0.01, no_decay=())


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
    # Rates by trials on validation problems: docs/results/pilots.
    rl = Stream(
        "rl",
        Rollouts(
            task, questions=QUESTIONS, prompts=32, group_size=8, max_new_tokens=80, updates_per_draw=4, cut_off="graded"
        ),
        PolicyGradient(kl=1e-3),
        _adam(2e-4),
    )
    sft = Stream("sft", Demonstrations(task, questions=QUESTIONS, batch_size=32), CrossEntropy(), _adam(3.125e-5))
    primed = Variant("primed", ("sft.lr=1e-3",), "")  # a dozen updates must teach the form
    # As the authors ran them: only RL without SFT has a KL term, and four updates of each draw.
    with_sft = ("rl.kl=0.0", "rl.updates_per_draw=1")
    first = (f"sft_steps={updates(13)}", "sft.lr=1.25e-4")
    sft_rl = Variant("sft_rl", (*with_sft, f"rl_steps={RL_STEPS}", *first), "")
    # The rollouts of RL and 14 readings of SFT; one rate for both, as in the paper.
    rows = 14 * QUESTIONS // RL_STEPS
    parallel = Variant("parallel", (*with_sft, "rl.lr=8e-4", f"rl_steps={RL_STEPS}", f"sft.batch_size={rows}"), "")
    return Study(
        name="tiny",
        # Post-norm does not scale the embeddings. At this width they start at 1, the scale of the layers' outputs.
        # The rotary wavelengths fit 608 positions, not 4096.
        model=ModelConfig(
            width=96, layers=3, heads=3, mlp_width=256, context=704, rope_theta=1e4, init_std=0.1, embed_std=1.0
        ),
        data=Data(vocab_size=1600, whole_numbers=60),
        pretrain=Pretrain(pretrain, tokens=4_500_000, checkpoints=(1_800_000, 2_100_000)),
        post=PostTraining(rl, sft, 4 * RL_STEPS, updates(61)),
        recipes=(primed, "rl", "sft", sft_rl, parallel),
        evaluation=Evaluation(
            task, problems=800, probes=WorldProbes(questions=1200), max_new_tokens=80, heldout_tokens=12_000,
            grading="flexible", top_p=0.95, cut_off="graded",
        ),
    )  # fmt: skip
