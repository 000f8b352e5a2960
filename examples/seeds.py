"""Two pre-trainings, and two post-training seeds from each. Intervals then hold for other post-training seeds from
these two; of other pre-trainings they speak from four on.

foray run examples/seeds.py. On the command line: foray run tiny --set pretrain.seeds=0,1 --set seeds=0,1
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import tiny
from foray.study.spec import Study


def study() -> Study:
    made = tiny.study()
    return replace(made, name="seeds", pretrain=replace(made.pretraining, seeds=(0, 1)), seeds=(0, 1))
