"""Opens the engine that a setting names, or one of the user's own."""

from __future__ import annotations

from foray.core.canonical import require
from foray.core.engines import VLLM, AnyEngine, OwnEngine
from foray.core.spelling import in_words
from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.engine import Engine, Precision


def open_engine(
    chosen: AnyEngine,
    model: Transformer,
    tokenizer: TextTokenizer,
    vllm: VLLM,
    precision: Precision,
    reserve: float = 0.0,
) -> Engine:
    """An engine with the current weights of the model. An embedded engine samples with the model itself.

    ``reserve``: bytes of a GPU's memory that an embedded engine leaves to training.
    """
    if not isinstance(chosen, str):
        return _opened(chosen, model, tokenizer, precision)
    if chosen == "vllm":
        from foray.rollout.vllm_engine import VLLMEngine

        engine = VLLMEngine(model.config, tokenizer, vllm, precision)
        engine.sync(model.state_dict(), 0)
        return engine
    return embedded_engine(model, tokenizer, reserve)


def _opened(own: OwnEngine, model: Transformer, tokenizer: TextTokenizer, precision: Precision) -> Engine:
    """Raises ValueError if an engine of the user's own lacks an attribute of an engine."""
    engine = own.open(model, tokenizer, precision)
    lacks = [name for name in ("config", "max_rows", "sync", "generate") if not hasattr(engine, name)]
    made = f"{type(own).__name__}.open() returns {in_words(engine)}"
    require(not lacks, f"{made}, which has no {' and no '.join(lacks)}: see foray.rollout.engine.Engine")
    engine.sync(model.state_dict(), 0)
    opened: Engine = engine
    return opened


def embedded_engine(model: Transformer, tokenizer: TextTokenizer, reserve: float = 0.0) -> Engine:
    """The embedded engine for the model's device."""
    if model.device.type == "cuda":
        from foray.rollout.paged_engine import PagedEngine

        return PagedEngine(model, tokenizer, reserve=reserve)
    from foray.rollout.torch_engine import TorchEngine

    return TorchEngine(model.config, tokenizer, model=model)
