"""A decoder-only Transformer: OLMo 2 and, by flags, Llama and Qwen. Parameter names are Hugging Face's.

Shapes: B batch, T time, D width, H heads, K heads of keys and values, d head width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foray.core import rng
from foray.core.lora import LoRA
from foray.core.machine import Machine
from foray.model.config import ModelConfig
from foray.model.operators import attention, cast_for, gated, norm_and_rotate, rms_norm

_VARIANTS = 64  # compiled variants of a function in a process


class Attend(Protocol):
    """An attention: (layer, q (B, H, T, d), k, v (B, K, T, d)) -> (B, H, T, d). Key/value caches implement it."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


def causal_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every position attends to itself and to earlier positions."""
    return attention(q, k, v)


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        return rms_norm(x, self.weight, self.eps, add)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, d, bias = config.width, config.head_dim, config.qkv_bias
        queries, keys = config.heads * d, config.groups * d
        self.head_dim, self.qk_norm, self.eps = d, config.qk_norm, config.norm_eps
        self.q_proj, self.k_proj = nn.Linear(D, queries, bias=bias), nn.Linear(D, keys, bias=bias)
        self.v_proj, self.o_proj = nn.Linear(D, keys, bias=bias), nn.Linear(queries, D, bias=False)
        if self.qk_norm == "full":
            self.q_norm, self.k_norm = RMSNorm(queries, config.norm_eps), RMSNorm(keys, config.norm_eps)
        elif self.qk_norm == "head":
            self.q_norm, self.k_norm = RMSNorm(d, config.norm_eps), RMSNorm(d, config.norm_eps)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, H, d), keys and values (B, T, K, d) of x (B, T, D); queries and keys are rotated."""
        for_q, for_k, for_v = cast_for(x, 3)
        weights = (self.q_norm.weight, self.k_norm.weight) if self.qk_norm != "none" else (None, None)
        q, k = (
            norm_and_rotate(product, weight, self.eps, cos, sin, self.head_dim)
            for product, weight in zip((self.q_proj(for_q), self.k_proj(for_k)), weights)
        )
        return q, k, self.v_proj(for_v).view(*x.shape[:2], -1, self.head_dim)

    def joined(self, out: Tensor) -> Tensor:
        """The output projection: (B, H, T, d) -> (B, T, D)."""
        return self.o_proj(out.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, M = config.width, config.mlp_width
        self.gate_proj, self.up_proj = nn.Linear(D, M, bias=False), nn.Linear(D, M, bias=False)
        self.down_proj = nn.Linear(M, D, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for_gate, for_up = cast_for(x, 2)
        return self.down_proj(gated(self.gate_proj(for_gate), self.up_proj(for_up)))


class Layer(nn.Module):
    """A layer in two parts, before and after attention, that can be compiled. The caller gives the attention.

    Norms are on the outputs of attention and MLP, before the residual additions.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(config), MLP(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.width, config.norm_eps)

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.self_attn.heads(x, cos, sin)

    def after(self, x: Tensor, out: Tensor) -> Tensor:
        x = self.post_attention_layernorm(self.self_attn.joined(out), x)
        return self.post_feedforward_layernorm(self.mlp(x), x)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend, layer: int) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in self.before(x, cos, sin))
        return self.after(x, attend(layer, q, k, v))


class PreNormLayer(Layer):
    """Norms are on the inputs of attention and MLP. Checkpoints call the MLP's norm post-attention."""

    def __init__(self, config: ModelConfig) -> None:
        nn.Module.__init__(self)
        self.self_attn, self.mlp = Attention(config), MLP(config)
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)

    def before(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.self_attn.heads(self.input_layernorm(x), cos, sin)

    def after(self, x: Tensor, out: Tensor) -> Tensor:
        x = x + self.self_attn.joined(out)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Everything but the output head. The attributes have the names that checkpoints use."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        kind = Layer if config.norm == "post" else PreNormLayer
        self.layers = nn.ModuleList(kind(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.norm_eps)


class Transformer(nn.Module):
    """``forward`` gives hidden states. ``lm_head`` gives the logits of those that a loss needs.

    ``machine`` says how passes are computed.
    """

    cos: Tensor
    sin: Tensor
    machine = Machine("cpu").found()
    sharded = False  # whether each rank holds a slice of every parameter (train/sharding.py)
    lora: LoRA | None = None  # of the adapters on frozen weights (model/adapters.py)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor, positions: Tensor | None = None, attend: Attend = causal_attention) -> Tensor:
        """Hidden states (B, T, D) of ``tokens`` (B, T). ``positions`` (B, T) defaults to 0 ... T-1.

        Raises ValueError for a text that is longer than the context, where no positions are given.
        """
        x = self.model.embed_tokens(tokens)
        if positions is None:
            T, context = tokens.shape[1], len(self.cos)
            if context < T:
                raise ValueError(f"a text of {T} tokens is longer than the model's context of {context}")
            cos, sin = (table[:T, None] for table in (self.cos, self.sin))  # (T, 1, d)
        else:
            cos, sin = (table[positions].unsqueeze(2) for table in (self.cos, self.sin))  # (B, T, 1, d)
        for i, layer in enumerate(self.model.layers):
            if self.machine.recompute and torch.is_grad_enabled():
                # On a GPU another thread with its own settings computes the layer again.
                x = checkpoint(
                    _with_variants, layer, x, cos, sin, attend, i, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = layer(x, cos, sin, attend, i)
        return self.model.norm(x)

    def move(self, machine: Machine) -> Transformer:
        """Moves the model to the machine's device, and computes as the machine says. A moved model cannot be copied."""
        self.compute_as(machine)
        return self.to(self.machine.torch_device)

    def compute_as(self, machine: Machine) -> None:
        self.machine = machine.found()
        if self.machine.device == "cuda":
            torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN takes about a second for every new shape
        if self.machine.compile == "on":
            _allow_variants()
            for layer in self.model.layers:  # layers share code, so compiling takes the time of one layer
                assert isinstance(layer, Layer)
                layer.before, layer.after = torch.compile(layer.before), torch.compile(layer.after)  # type: ignore[method-assign]

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, V), for tests. A loss should compute logits only for the positions that it scores."""
        return self.lm_head(self(tokens))

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name: all, or those of adapters."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device


def _allow_variants() -> None:
    """Lets this thread compile up to 64 variants of a function, because a process trains, evaluates and samples, in two
    precisions. Functions beyond torch's own limit would run uncompiled.
    """
    if torch._dynamo.config.recompile_limit < _VARIANTS:
        torch._dynamo.config.recompile_limit = _VARIANTS


def _with_variants(layer: nn.Module, x: Tensor, *rest: object) -> Tensor:
    _allow_variants()
    return layer(x, *rest)


def rope_table(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """cos and sin (context, d) in fp32 for ``rotate``, equal to transformers' to the last bit."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    inverse = 1.0 / (config.rope_theta**exponent)
    if config.rope_scaling:
        inverse = _stretched(inverse, *config.rope_scaling)
    angles = torch.arange(config.context).float()[:, None] * inverse[None, :]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def _stretched(inverse: Tensor, factor: float, low: float, high: float, first: float) -> Tensor:
    """Frequencies (d/2,) stretched as in Llama 3.1, in transformers' order of operations.

    Wavelengths above ``first / low`` positions are stretched by ``factor``, wavelengths below ``first / high`` not at
    all, wavelengths in between in part.
    """
    wavelength = 2 * math.pi / inverse
    out = torch.where(wavelength > first / low, inverse / factor, inverse)
    smooth = (first / wavelength - low) / (high - low)
    between = ~(wavelength < first / high) * ~(wavelength > first / low)
    return torch.where(between, (1 - smooth) * out / factor + smooth * out, out)


def initialize(config: ModelConfig, seed: int) -> Transformer:
    """A model with weights from a normal truncated at 3 sigma (``init_std``, ``embed_std``) and biases 0.

    Seed and shape fix the weights.
    """
    model = Transformer(config)
    for name, p in model.named_parameters():
        if p.dim() > 1:
            generator = torch.Generator().manual_seed(rng.key(seed, "init", name))
            std = config.embed_std if "embed_tokens" in name else config.init_std
            if std:
                nn.init.trunc_normal_(p.data, std=std, a=-3 * std, b=3 * std, generator=generator)
            else:  # torch divides by std
                nn.init.zeros_(p.data)
        elif name.endswith("bias"):
            nn.init.zeros_(p.data)
    return model
