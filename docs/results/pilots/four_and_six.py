"""Trials of rates for `tiny` from M_t at 4 and 6 tokens a parameter: on validation problems, one pre-training.

    foray run docs/results/pilots/four_and_six.py --store STORE --jobs 2

All but the rates is `tiny`'s. The pre-training is none of those that `tiny` reports.
"""

from __future__ import annotations

from dataclasses import replace

from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import Study, Variant

AS_PARALLEL = ("rl.kl=0.0", "rl.updates_per_draw=1", f"rl_steps={tiny.RL_STEPS}")
ROWS = 14 * tiny.QUESTIONS // tiny.RL_STEPS  # of SFT beside RL in one update


def study() -> Study:
    base = tiny.study()
    first = (*AS_PARALLEL, f"sft_steps={tiny.updates(13)}")
    beside = (*AS_PARALLEL, f"sft.batch_size={ROWS}")
    return replace(
        base,
        name="four_and_six",
        pretrain=replace(base.pretraining, seeds=(100,)),
        recipes=(
            *(Variant("rl", (f"rl.lr={r:g}",)) for r in (1e-4, 2e-4, 4e-4)),
            *(Variant("sft", (f"sft.lr={r:g}",)) for r in (7.8125e-6, 1.5625e-5, 3.125e-5, 6.25e-5, 1.25e-4, 2.5e-4, 5e-4)),
            *(
                Variant("sft_rl", (f"rl.lr={rl:g}", *first, f"sft.lr={sft}"))
                for sft in ("0.000125", "3.125e-05")
                for rl in (1e-4, 2e-4, 4e-4)
            ),
            *(Variant("parallel", (f"rl.lr={r:g}", *beside)) for r in (2e-4, 4e-4, 8e-4, 1.6e-3)),
        ),
        evaluation=replace(
            base.evaluation, split="validation", problems=500, probes=WorldProbes(questions=400), heldout_tokens=0
        ),
    )
