"""From an engine's name in a setting to the engine."""

from __future__ import annotations

from typing import Literal

from foray.core.engines import VLLM, EngineName
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.engine import Engine
from foray.rollout.torch_engine import TorchEngine


def open_engine(
    name: EngineName, model: Transformer, tokenizer: TextTokenizer, vllm: VLLM, precision: Literal["fp32", "bf16"]
) -> Engine:
    """An engine with the model's weights as they are now; the embedded one samples with the model itself."""
    if name == "embedded":
        return TorchEngine(model.config, tokenizer, model=model)
    from foray.rollout.vllm_engine import VLLMEngine

    engine = VLLMEngine(model.config, tokenizer, vllm, precision)
    engine.sync(model.state_dict(), 0)
    return engine
