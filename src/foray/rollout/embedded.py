"""Which of the two embedded engines samples from a model: the one that suits its device."""

from __future__ import annotations

from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer
from foray.rollout.engine import Engine


def embedded_engine(model: Transformer, tokenizer: TextTokenizer) -> Engine:
    """Samples with ``model``, which somebody else may keep up to date."""
    if model.device.type == "cuda":
        from foray.rollout.paged_engine import PagedEngine

        return PagedEngine(model, tokenizer)
    from foray.rollout.torch_engine import TorchEngine

    return TorchEngine(model.config, tokenizer, model=model)
