"""`tiny` from five pre-trainings, each with a post-training seed of its own, in one report.

    foray run docs/results/tiny/five.py --store STORE      or a part alone: --part seed-1

One pre-training is one draw. The claims are answered here from the means over five.
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import tiny
from foray.study.spec import Part, Study


def study() -> Study:
    one = tiny.study()
    parts = (
        Part(f"seed-{i}", (replace(one, pretrain=replace(one.pretraining, seeds=(i,)), seeds=(i,)),))
        for i in range(1, 5)
    )
    return replace(one, name="tiny_five", parts=tuple(parts))
