"""The shape of a decoder-only Transformer of the OLMo 2 family. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from foray.core.spec import require


@dataclass(frozen=True)
class ModelConfig:
    """OLMo 2 (arXiv 2501.00656): RMSNorm on the outputs of attention and MLP, QK-norm over the full width, rotary
    positions, SwiGLU, no biases, untied embeddings. ``vocab_size`` 0 means: as many as the tokenizer has.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    mlp_width: int = 512
    vocab_size: int = 0
    context: int = 512
    rope_theta: float = 500_000.0
    norm_eps: float = 1e-6
    init_std: float = 0.02
    embed_std: float = 0.02  # of the input embeddings, which no norm rescales

    def __post_init__(self) -> None:
        require(
            min(self.width, self.layers, self.heads, self.mlp_width, self.context) > 0, "model sizes must be positive"
        )
        require(self.width % self.heads == 0, f"width ({self.width}) must be a multiple of heads ({self.heads})")
        require(self.head_dim % 2 == 0, f"width / heads ({self.head_dim}) must be even for rotary positions")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """All parameters, both embeddings included."""
        matrices = 4 * self.width**2 + 3 * self.width * self.mlp_width
        return self.layers * (matrices + 4 * self.width) + self.width + 2 * self.vocab_size * self.width
