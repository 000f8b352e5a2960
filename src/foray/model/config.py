"""The shape of a decoder-only Transformer and its family. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from foray.core.canonical import added, require, require_not_negative, require_positive
from foray.core.field_types import require_types
from foray.core.lora import LoRA

Norm = Literal["post", "pre"]
QKNorm = Literal["full", "head", "none"]


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only Transformer with RMSNorm, rotary positions and SwiGLU.

    The defaults are OLMo 2 (arXiv 2501.00656): norms on the outputs of attention and MLP, QK-norm over the full width,
    no biases, untied embeddings. Llama has ``norm="pre"`` and ``qk_norm="none"``; Qwen 2 and 2.5 also have
    ``qkv_bias``; Qwen 3 has ``norm="pre"`` and ``qk_norm="head"``. Other combinations are refused, so that every
    checkpoint loads in transformers. ``vocab_size`` 0 means the size of the tokenizer.
    """

    width: int = 128  # of the residual stream
    layers: int = 4  # blocks of attention and MLP
    heads: int = 4  # of attention
    mlp_width: int = 512  # of SwiGLU
    vocab_size: int = 0
    context: int = 512  # the most tokens of a sequence
    rope_theta: float = 500_000.0  # the base of the rotary frequencies
    norm_eps: float = 1e-6  # of RMSNorm
    init_std: float = 0.02  # of the matrices before training
    embed_std: float = 0.02  # of the input embeddings, which no norm rescales
    kv_heads: int = added(0)  # heads / kv_heads queries share a key and a value; 0: as many as heads
    head_width: int = added(0)  # 0: width / heads
    norm: Norm = added("post")  # norms on the outputs of attention and MLP, or on their inputs
    qk_norm: QKNorm = added("full")  # a norm over all heads at once, or over each head
    qkv_bias: bool = added(False)  # biases of queries, keys and values, as in Qwen 2 and 2.5
    tied: bool = added(False)  # the output head is the embedding matrix
    rope_scaling: tuple[float, ...] = added(())  # of Llama 3.1: factor, low and high frequency factor, first context

    def __post_init__(self) -> None:
        require_types(self)
        for name, most in _MOST.items():
            value = getattr(self, name)
            require(value <= most, f"{name} must be at most {most:,}, more than any model has: {value}")
        require_positive(self, "width", "layers", "heads", "mlp_width", "context", "norm_eps", "rope_theta")
        require_not_negative(self, "vocab_size", "init_std", "embed_std", "kv_heads", "head_width")
        require(
            self.head_width > 0 or self.width % self.heads == 0,
            f"width ({self.width}) must be a multiple of heads ({self.heads})",
        )
        require(self.head_dim % 2 == 0, f"width / heads ({self.head_dim}) must be even for rotary positions")
        require(
            self.heads % self.groups == 0,
            f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})",
        )
        require(
            self.family in FAMILIES,
            f"no family has norm {self.norm}, qk_norm {self.qk_norm} and qkv_bias {self.qkv_bias} together; "
            f"use those of one of {', '.join(FAMILIES)}",
        )
        require(
            len(self.rope_scaling) in (0, 4) and all(x > 0 for x in self.rope_scaling),
            "rope_scaling needs four positive numbers: factor, low and high frequency factor, first context",
        )

    def sized(self, vocab_size: int) -> Self:
        """The same, with a tokenizer's number of entries where its own is open."""
        return self if self.vocab_size else replace(self, vocab_size=vocab_size)

    @property
    def head_dim(self) -> int:
        return self.head_width or self.width // self.heads

    @property
    def groups(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def family(self) -> str:
        """The Hugging Face ``model_type`` of the flags; empty if no family has these flags."""
        own = self.norm, self.qk_norm, self.qkv_bias
        return next((name for name, flags in FAMILIES.items() if flags == own), "")

    @property
    def layer_matrices(self) -> int:
        """The number of entries of one layer's matrices, without norms and biases."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.groups)  # queries and output, keys and values
        return attention + 3 * self.width * self.mlp_width

    def adapter_parameters(self, lora: LoRA) -> int:
        """The number of parameters of low-rank adapters."""
        width, mlp = self.width, self.mlp_width
        queries, keys = self.heads * self.head_dim, self.groups * self.head_dim
        sides = {
            "q_proj": width + queries, "k_proj": width + keys, "v_proj": width + keys, "o_proj": queries + width,
            "gate_proj": width + mlp, "up_proj": width + mlp, "down_proj": mlp + width,
        }  # fmt: skip
        return self.layers * lora.rank * sum(sides[name] for name in lora.targets)

    @property
    def parameters(self) -> int:
        """The number of parameters, with both embeddings (tied embeddings count once)."""
        queries, keys = self.heads * self.head_dim, self.groups * self.head_dim
        norms = 2 * self.width + {"full": queries + keys, "head": 2 * self.head_dim, "none": 0}[self.qk_norm]
        biases = (queries + 2 * keys) * self.qkv_bias
        embeddings = (1 if self.tied else 2) * self.vocab_size * self.width
        return self.layers * (self.layer_matrices + norms + biases) + self.width + embeddings


_MOST = {
    "width": 1 << 20, "layers": 10_000, "heads": 1 << 16, "mlp_width": 1 << 22, "vocab_size": 1 << 24,
    "context": 1 << 24, "kv_heads": 1 << 16, "head_width": 1 << 16,
}  # fmt: skip

# model_type of transformers -> (norm, qk_norm, qkv_bias)
FAMILIES: dict[str, tuple[Norm, QKNorm, bool]] = {
    "olmo2": ("post", "full", False),
    "llama": ("pre", "none", False),
    "qwen2": ("pre", "none", True),
    "qwen3": ("pre", "head", False),
}
