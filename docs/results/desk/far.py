"""`desk` with 256 samples a problem, for the far end of the curves of pass@k (figure R2), from three pre-trainings.

    foray run docs/results/desk/far.py --store STORE      the store of `desk`: models are not trained again

A study of its own, since a report has one number of samples a model.
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import desk
from foray.study.spec import Study


def study() -> Study:
    main = desk.study()
    far = replace(main.evaluation, samples=256, k=(1, 8, 32, 64, 128, 256), probes=None, heldout_tokens=0)
    return replace(
        main,
        name="desk_far",
        pretrain=replace(main.pretraining, seeds=desk.SEEDS[:3]),
        excursions=main.pretrain.checkpoints[2:3],
        recipes=tuple(desk.own(r) for r in ("rl", "sft", "sft_rl", "parallel")),
        evaluation=far,
        parts=(),
    )
