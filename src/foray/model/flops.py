"""The formulas of the FLOP ledger. No torch here.

A multiply-add is 2 FLOPs. A token costs the layers' matrices. A pair of positions, of which one attends to the other,
costs the two attention products. A scored position costs the output head. A backward pass costs twice its forward pass,
except that frozen weights have no gradient.
The ledger counts the necessary work only: no padding, no finished rows and no rows without signal. It leaves out
embedding look-ups, norms, activations and the optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foray.core.lora import LoRA
from foray.model.config import ModelConfig

BACKWARD = 2.0


def forward(config: ModelConfig, tokens: float, pairs: float, scored: float) -> float:
    """FLOPs of a forward pass, by numbers of tokens, of attending pairs of positions, and of positions with logits."""
    matrices = config.layers * config.layer_matrices
    head = config.vocab_size * config.width
    seen = 2 * config.layers * config.heads * config.head_dim  # grouped queries save memory, not products
    return 2.0 * (tokens * matrices + pairs * seen + scored * head)


def update(config: ModelConfig, tokens: float, pairs: float, scored: float, lora: LoRA | None = None) -> float:
    """FLOPs of a forward and a backward pass, of all weights or of adapters on frozen weights.

    Adapters need no gradient of a frozen matrix, only the gradient of its input.
    """
    if lora is None:
        return (1 + BACKWARD) * forward(config, tokens, pairs, scored)
    frozen = 2 * forward(config, tokens, 0, scored) + (1 + BACKWARD) * forward(config, 0, pairs, 0)
    return frozen + (1 + BACKWARD) * 2.0 * tokens * config.adapter_parameters(lora)


def pairs(first: Any, last: Any) -> Any:
    """The number of positions that tokens ``first`` to ``last`` - 1 attend to in all. Numbers or arrays."""
    return (last * (last + 1) - first * (first + 1)) / 2


def sampling(
    config: ModelConfig, prompts: Sequence[int], lengths: Sequence[Sequence[int]], shared: int
) -> tuple[float, float]:
    """FLOPs of (prefill, decode), by prompt lengths, the completion lengths of each prompt, and the shared prefix's
    length.

    The shared prefix is computed once, each prompt once for its group, and each new token once, except the last token
    of a completion.
    """
    prefill = forward(config, shared, pairs(0, shared), 0)
    decode = 0.0
    for prompt, group in zip(prompts, lengths):
        prefill += forward(config, prompt - shared, pairs(shared, prompt), 1)
        decode += sum(forward(config, n - 1, pairs(prompt, prompt + n - 1), n - 1) for n in group)
    return prefill, decode
