"""Trials of rates for `tiny` at settings that are nearer to the paper's: on validation problems, one pre-training.

    foray run docs/results/pilots/paper_settings.py --store STORE --jobs 2

Each recipe reads the questions as often as in the paper: SFT 61 times, RL after 13 readings of SFT, parallel averaging
14 times, RL 9 times. No warm-up, top-p 0.95, and the text of a sample that is cut off is graded. The pre-training is
none of those that `tiny` reports.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Demonstrations, Rollouts
from foray.core.stage import AdamW, PostTraining, Stream
from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import AnyRecipe, Study, Variant
from foray.world import WorldProblems

QUESTIONS = 384
RL_STEPS = 112  # of 32 prompts: 9.3 readings
RATES_OF_SFT = (1.5625e-5, 3.125e-5, 6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)
ROWS = 14 * QUESTIONS // RL_STEPS  # of SFT beside RL in one update


def updates(readings: int) -> int:
    """Of SFT in batches of 32."""
    return readings * QUESTIONS // 32


def _adam(lr: float) -> AdamW:
    """As the authors': a constant rate without warm-up, betas 0.9 and 0.999, weight decay 0.01."""
    return AdamW(lr=lr, betas=(0.9, 0.999), weight_decay=0.01, no_decay=())


def _rl(name: str, *rates: float, more: tuple[str, ...] = ()) -> tuple[AnyRecipe, ...]:
    return tuple(Variant(name, (f"rl.lr={r:g}", *more)) for r in rates)


def study() -> Study:
    base, task = tiny.study(), WorldProblems("easy")
    rollouts = Rollouts(task, questions=QUESTIONS, prompts=32, group_size=8, max_new_tokens=80, cut_off="graded")
    rl = Stream("rl", rollouts, PolicyGradient(kl=0.05), _adam(8e-4))
    sft = Stream("sft", Demonstrations(task, questions=QUESTIONS, batch_size=32), CrossEntropy(), _adam(1e-3))
    four = ("rl.updates_per_draw=4", f"rl_steps={4 * RL_STEPS}", "rl.kl=0.001")  # the authors' RL from the base
    first = ("rl.kl=0.0", f"sft_steps={updates(13)}")
    return replace(
        base,
        name="paper_settings",
        pretrain=replace(base.pretraining, seeds=(100,)),
        post=PostTraining(rl, sft, RL_STEPS, updates(61)),
        recipes=(
            *_rl("rl", 1e-4, 2e-4, 4e-4, 8e-4, more=four),
            *_rl("rl", 2e-4, 4e-4, 8e-4, 1.6e-3, more=("rl.kl=0.001",)),
            *_rl("rl", 2e-4, 4e-4, 8e-4, 1.6e-3),
            *(Variant("sft", (f"sft.lr={r:g}",)) for r in RATES_OF_SFT),
            *_rl("sft_rl", 2e-4, 4e-4, 8e-4, 1.6e-3, more=first),
            *_rl("sft_rl", 1e-4, 2e-4, 4e-4, 8e-4, more=("sft.lr=0.000125", *first)),
            *_rl("sft_rl", 1e-4, 2e-4, 4e-4, more=("sft.lr=3.125e-05", *first)),
            *_rl("parallel", 4e-4, 8e-4, 1.6e-3, 3.2e-3, more=("rl.kl=0.0", f"sft.batch_size={ROWS}")),
        ),
        evaluation=replace(
            base.evaluation, split="validation", problems=500, probes=WorldProbes(questions=400), heldout_tokens=0,
            top_p=0.95, cut_off="graded",
        ),
    )  # fmt: skip
