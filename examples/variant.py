"""One recipe with settings of its own beside the study's: RL at half its rate, and RL without a KL term.

foray run examples/variant.py
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import tiny
from foray.study.spec import Study, Variant


def study() -> Study:
    variants = Variant("rl", ("rl.lr=4e-4",), "half the rate"), Variant("rl", ("rl.kl=0",), "no KL")
    return replace(tiny.study(), name="variant", recipes=("rl", "sft_rl", *variants))
