"""What is timed: model shapes, prompts and lengths, the same for every contender. No Foray and no torch in here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """An OLMo 2 model. ``tiny`` is the study's, with 0.7M parameters; ``mid`` has 10M."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    vocab_size: int
    context: int


SHAPES = {
    "tiny": Shape(96, 3, 3, 256, 1792, 704),
    "mid": Shape(320, 6, 5, 896, 4096, 704),
    "50M": Shape(576, 10, 9, 1536, 8192, 704),
    "150M": Shape(896, 12, 14, 2432, 16384, 704),
}


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

    def token_prompts(self, seed: int = 0) -> list[list[int]]:
        """Random token ids, never the end token (0)."""
        rng = random.Random(seed)
        vocab = SHAPES[self.shape].vocab_size
        shared = [rng.randrange(1, vocab) for _ in range(self.shared_tokens)]
        return [shared + [rng.randrange(1, vocab) for _ in range(self.prompt_tokens)] for _ in range(self.prompts)]


def _cases(shape: str) -> dict[str, Case]:
    """A round of the larger shapes has fewer rows, so that it ends in about as many seconds as one of ``mid``."""
    rows, sampled, few_shot, trained = {"50M": (8, 16, 4, 4), "150M": (4, 8, 2, 2)}.get(shape, (8, 64, 16, 16))
    return {
        "pretrain": Case("pretrain", shape, rows=rows, length=512),
        f"sample {sampled}x8": Case("sample", shape, prompts=sampled, samples=8, prompt_tokens=64, new_tokens=64),
        "sample 8-shot x 32": Case(
            "sample", shape, prompts=few_shot, samples=32, prompt_tokens=64, shared_tokens=480, new_tokens=64
        ),
        f"grpo {trained}x8": Case("grpo", shape, prompts=trained, samples=8, prompt_tokens=64, new_tokens=64),
    }


CASES = {f"{name}/{shape}": case for shape in SHAPES for name, case in _cases(shape).items()}

# GRPO as the tiny study does it, 32 prompts x 8 with the real rewards, from the checkpoint given with --checkpoint.
CASES["grpo of the study"] = Case("study", "tiny", prompts=32, samples=8, new_tokens=80)


# What runs if no case is named. Those of the larger shapes take as long again.
DEFAULT = [name for name, case in CASES.items() if case.shape in ("tiny", "mid")]

Groups = list[list[list[int]]]  # the samples of every prompt, as token ids


@dataclass(frozen=True)
class Prepared:
    """A contender that is ready for its case: ``run`` returns the samples, or how many tokens it trained on.

    ``new_weights`` has weights of the same shape, in fp32 and in memory, take the place of those that are used. It
    returns when sampling can begin.
    """

    run: Callable[[], int | Groups]
    new_weights: Callable[[], None] | None = None

    def checked(self, case: Case, out: int | Groups) -> int:
        """The tokens of a run. Raises ValueError if it sampled anything else than the case asks for."""
        if isinstance(out, int):
            return out
        if len(out) != case.prompts or any(len(samples) != case.samples for samples in out):
            raise ValueError(
                f"{[len(samples) for samples in out]} samples, not {case.samples} of {case.prompts} prompts"
            )
        if lengths := {len(ids) for samples in out for ids in samples} - {case.new_tokens}:
            raise ValueError(f"samples of {lengths} tokens, not {case.new_tokens}")
        vocab = SHAPES[case.shape].vocab_size
        if not all(0 <= token < vocab for samples in out for ids in samples for token in ids):
            raise ValueError(f"tokens outside of the vocabulary of {vocab}")
        if len({tuple(ids) for samples in out for ids in samples}) < case.prompts * case.samples:
            raise ValueError("equal samples: nothing was drawn")
        return case.prompts * case.samples * case.new_tokens


def reward(completion: list[int]) -> float:
    """0 or 1, as good as random: nearly every group of 8 carries a gradient."""
    return float(sum(completion) % 2)
