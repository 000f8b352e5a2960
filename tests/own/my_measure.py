"""A measurement in a file of the user's own: `Evaluation(..., measures=(Surprise(),))`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from foray.data.tokenizer import TextTokenizer
from foray.model.transformer import Transformer


@dataclass(frozen=True)
class Surprise:
    """Nats of each text's next tokens, and how large the weights are."""

    name: str = "surprise"
    texts: tuple[str, ...] = ("2 + 3 = 5", "Ann has 7 apples.", "The cat sat on the mat.")

    def measure(self, model: Transformer, tokenizer: TextTokenizer) -> Mapping[str, float | Sequence[float]]:
        return {
            "nats": [self.nats(model, tokenizer.encode(text)) for text in self.texts],
            "weight_norm": float(torch.cat([p.flatten() for p in model.parameters()]).norm()),
        }

    def nats(self, model: Transformer, ids: Sequence[int]) -> float:
        row = torch.tensor([ids], device=model.device)
        logprobs = model.logits(row[:, :-1]).log_softmax(-1)
        return -float(logprobs.gather(-1, row[:, 1:, None]).mean())
