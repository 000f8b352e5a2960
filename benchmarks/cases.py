"""What is timed: model shapes, prompts and lengths, the same for every contender. No Foray and no torch in here."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """An OLMo 2 model. ``tiny`` is the study's; ``mid`` has about 10M parameters."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    vocab_size: int
    context: int


SHAPES = {"tiny": Shape(96, 3, 3, 256, 1792, 704), "mid": Shape(320, 6, 5, 896, 4096, 704)}


@dataclass(frozen=True)
class Case:
    """``rows`` x ``length`` tokens to train on, or ``prompts`` x ``samples`` completions of ``new_tokens`` each.

    A prompt has ``prompt_tokens`` tokens of its own behind ``shared_tokens`` that all prompts begin with.
    """

    kind: str  # pretrain, sample, grpo or study
    shape: str
    rows: int = 0
    length: int = 0
    prompts: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    shared_tokens: int = 0
    new_tokens: int = 0

    def token_prompts(self) -> list[list[int]]:
        """Random token ids, never the end token (0)."""
        rng = random.Random(0)
        vocab = SHAPES[self.shape].vocab_size
        shared = [rng.randrange(1, vocab) for _ in range(self.shared_tokens)]
        return [shared + [rng.randrange(1, vocab) for _ in range(self.prompt_tokens)] for _ in range(self.prompts)]


CASES = {
    f"{name}/{shape}": case
    for shape in SHAPES
    for name, case in {
        "pretrain": Case("pretrain", shape, rows=8, length=512),
        "sample 64x8": Case("sample", shape, prompts=64, samples=8, prompt_tokens=64, new_tokens=64),
        "sample 8-shot x 32": Case(
            "sample", shape, prompts=16, samples=32, prompt_tokens=64, shared_tokens=480, new_tokens=64
        ),
        "grpo 16x8": Case("grpo", shape, prompts=16, samples=8, prompt_tokens=64, new_tokens=64),
    }.items()
}

# GRPO as the tiny study does it, 32 prompts x 8 with the real rewards, from the checkpoint given with --checkpoint.
CASES["grpo of the study"] = Case("study", "tiny", prompts=32, samples=8, new_tokens=80)


def reward(completion: list[int]) -> float:
    """0 or 1, as good as random: nearly every group of 8 carries a gradient."""
    return float(sum(completion) % 2)
