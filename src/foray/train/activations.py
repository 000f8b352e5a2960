"""Memory of a training pass, by formula."""

from __future__ import annotations

from foray.model.config import ModelConfig
from foray.train.scoring import LOGITS


def activation_bytes(model: ModelConfig, tokens: int, mlp_value: int = 4, recompute: bool = False) -> float:
    """Bytes that a forward pass over ``tokens`` keeps for its backward pass, including the logits.

    A value in the MLPs has ``mlp_value`` bytes, any other value 4. With ``recompute`` the pass keeps the inputs of all
    layers, and all values of one layer.
    """
    layer = 14 * model.width * 4 + 4 * model.mlp_width * mlp_value
    kept = model.layers * model.width * 4 + layer if recompute else model.layers * layer
    return tokens * kept + logit_bytes(model, tokens)


def logit_bytes(model: ModelConfig, tokens: int) -> float:
    """Bytes of the fp32 logits of ``tokens``, of their softmax and of the softmax's gradient."""
    return 3.0 * 4 * min(tokens * model.vocab_size, LOGITS)
