"""The FLOP ledger's formulas: what passes over given tokens cost, whoever computes them.

2 a multiply-add. A token costs the layers' matrices; a pair of a position and one that it attends to costs the two
attention products; a scored position costs the output head. Embedding look-ups, norms, activations and the optimizer
are left out, and so are padding and rows that are finished or without signal: what is counted is the work that had to
be done. A backward pass costs twice its forward pass. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foray.model.config import ModelConfig

BACKWARD = 2.0


def forward(config: ModelConfig, tokens: float, pairs: float, scored: float) -> float:
    """FLOPs of a forward pass over ``tokens`` that attend to ``pairs`` positions in all, with logits for ``scored``."""
    matrices = config.layers * config.layer_matrices
    head = config.vocab_size * config.width
    seen = 2 * config.layers * config.heads * config.head_dim  # sharing keys and values saves memory, not products
    return 2.0 * (tokens * matrices + pairs * seen + scored * head)


def pairs(first: Any, last: Any) -> Any:
    """Positions attended to by tokens at positions ``first`` up to (not including) ``last``, each seeing itself too.

    Numbers or arrays.
    """
    return (last * (last + 1) - first * (first + 1)) / 2


def sampling(
    config: ModelConfig, prompts: Sequence[int], lengths: Sequence[Sequence[int]], shared: int
) -> tuple[float, float]:
    """FLOPs of (prefill, decode): prompt lengths, the lengths of each prompt's completions, tokens all prompts share.

    The shared prefix is computed once, each prompt once for its group, each new token once; a completion's last token
    is never read.
    """
    prefill = forward(config, shared, pairs(0, shared), 0)
    decode = 0.0
    for prompt, group in zip(prompts, lengths):
        prefill += forward(config, prompt - shared, pairs(shared, prompt), 1)
        decode += sum(forward(config, n - 1, pairs(prompt, prompt + n - 1), n - 1) for n in group)
    return prefill, decode
