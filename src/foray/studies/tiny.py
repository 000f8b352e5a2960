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
    rl = Stream(
        "rl", Rollouts(task, questions=2000, prompts=32, group_size=8), PolicyGradient(), AdamW(lr=2e-4, warmup=0.1)
    )
    sft_source = Demonstrations(task, questions=2000, batch_size=32)
    sft = Stream("sft", sft_source, CrossEntropy(), AdamW(lr=3e-4, warmup=0.1))
    return Study(
        name="tiny",
        model=ModelConfig(width=96, layers=3, heads=3, mlp_width=256, context=640, init_std=0.1),
        data=Data(vocab_size=1792, whole_numbers=200),
        pretrain=Pretrain(pretrain, tokens=6_000_000, checkpoints=(1_000_000, 2_000_000, 4_000_000, 6_000_000)),
        post=PostTraining(rl, sft, rl_steps=50, sft_steps=160),
        recipes=("rl", "sft", "sft_rl", "parallel"),
        evaluation=Evaluation(task, probes=WorldProbes(), dynamics=Dynamics(4_000_000)),
    )
