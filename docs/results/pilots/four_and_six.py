"""Trials of rates for `tiny` from M_t at 4 and 6 tokens a parameter: on validation problems, one pre-training.

    foray run docs/results/pilots/four_and_six.py --store STORE --jobs 2

SFT reads each of 320 questions 61 times, RL 8 times, parallel averaging 14 times; SFT→RL begins after 13 readings. All
else but the rates is `tiny`'s. The pre-training is none of those that `tiny` reports.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.stage import PostTraining
from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import Study, Variant

QUESTIONS = 320
RL_STEPS = 80  # draws of 32 questions
ROWS = 14 * QUESTIONS // RL_STEPS  # of SFT beside RL in one update
RATES_OF_SFT = (7.8125e-6, 1.5625e-5, 3.125e-5, 6.25e-5, 1.25e-4, 2.5e-4, 5e-4)


def updates(readings: int) -> int:
    """Of SFT in batches of 32."""
    return readings * QUESTIONS // 32


def study() -> Study:
    base = tiny.study()
    few = [replace(s, source=replace(s.source, questions=QUESTIONS)) for s in (base.post.rl, base.post.sft)]
    beside_sft = ("rl.kl=0.0", "rl.updates_per_draw=1", f"rl_steps={RL_STEPS}")
    first = (*beside_sft, f"sft_steps={updates(13)}")
    return replace(
        base,
        name="four_and_six",
        pretrain=replace(base.pretraining, checkpoints=(2_560_000, 3_840_000), seeds=(100,)),
        post=PostTraining(*few, 4 * RL_STEPS, updates(61)),
        recipes=(
            *(Variant("rl", (f"rl.lr={r:g}",)) for r in (1e-4, 2e-4, 4e-4)),
            *(Variant("sft", (f"sft.lr={r:g}",)) for r in RATES_OF_SFT),
            *(
                Variant("sft_rl", (f"rl.lr={rl:g}", *first, f"sft.lr={sft}"))
                for sft in ("0.000125", "3.125e-05")
                for rl in (1e-4, 2e-4, 4e-4)
            ),
            *(
                Variant("parallel", (f"rl.lr={r:g}", *beside_sft, f"sft.batch_size={ROWS}"))
                for r in (2e-4, 4e-4, 8e-4, 1.6e-3)
            ),
        ),
        evaluation=replace(
            base.evaluation, split="validation", problems=500, probes=WorldProbes(questions=400), heldout_tokens=0
        ),
    )
