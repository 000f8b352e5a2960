"""Two model sizes in one store: tiny's model, and one of twice the width as a part of its own.

foray run examples/model_size.py, or one part of it with --part wide
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import tiny
from foray.study.spec import Part, Study


def study() -> Study:
    return replace(tiny.study(), name="model_size", recipes=("rl", "sft", "sft_rl"))


def parts(main: Study) -> tuple[Part, ...]:
    """The parts are made from the study with its settings, so --set holds in all."""
    return (Part("wide", (replace(main, model=replace(main.model, width=192, heads=6, mlp_width=512)),)),)
