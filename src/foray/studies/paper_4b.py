"""The paper's larger model on the same 50B tokens, for the comparison of data mix and model size. For GPUs.

The paper gives the size and no shape. This shape has Qwen3-4B's width, depth and MLP (arXiv 2505.09388) in the
architecture of OLMo 2, without grouped queries. The model has 4.1B parameters with its untied embeddings.
"""

from __future__ import annotations

from dataclasses import replace

from foray.model.config import ModelConfig
from foray.studies import paper_1b
from foray.study.spec import Part, Study

MODEL = ModelConfig(width=2560, layers=36, heads=20, mlp_width=9728, vocab_size=100_352, context=4096)


def study() -> Study:
    """RL, SFT and SFT→RL from four M_t, on GSM8K."""
    b, whole = paper_1b.B, paper_1b.study(MODEL, "paper_4b")
    # The authors ask the 4B base 0-shot, and the 1B bases with 8 examples (code). Both are measured here.
    asked = replace(whole.evaluation, base_shots=(8, 0))
    starts = (10 * b, 20 * b, 28 * b, 44 * b)  # the one M_t that the paper plots on MATH is at 28B
    return replace(whole, excursions=starts, recipes=("rl", "sft", "sft_rl"), evaluation=asked, notes=())


def parts(main: Study) -> tuple[Part, ...]:
    """The same grid on MATH, and that of the smaller model on the math-heavy mix, with which C4 compares."""
    hard = paper_1b.on_math(main, ("rl", "sft", "sft_rl"))
    model = paper_1b.MODEL if main.model == MODEL else main.model  # a study that was shrunk by settings stays so
    smaller = paper_1b.math_heavy(replace(hard, model=model, excursions=()))
    return Part("math", (hard,)), Part("math_heavy", (smaller,))
