"""Opens the engine that a setting names."""

from __future__ import annotations

from foray.core.engines import VLLM, EngineName
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.engine import Engine, Precision


def open_engine(
    name: EngineName,
    model: Transformer,
    tokenizer: TextTokenizer,
    vllm: VLLM,
    precision: Precision,
    reserve: float = 0.0,
) -> Engine:
    """An engine with the current weights of the model. An embedded engine samples with the model itself.

    ``reserve``: bytes of a GPU's memory that an embedded engine leaves to training.
    """
    if name == "vllm":
        from foray.rollout.vllm_engine import VLLMEngine

        engine = VLLMEngine(model.config, tokenizer, vllm, precision)
        engine.sync(model.state_dict(), 0)
        return engine
    return embedded_engine(model, tokenizer, reserve)


def embedded_engine(model: Transformer, tokenizer: TextTokenizer, reserve: float = 0.0) -> Engine:
    """The embedded engine for the model's device."""
    if model.device.type == "cuda":
        from foray.rollout.paged_engine import PagedEngine

        return PagedEngine(model, tokenizer, reserve=reserve)
    from foray.rollout.torch_engine import TorchEngine

    return TorchEngine(model.config, tokenizer, model=model)
