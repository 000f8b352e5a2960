"""The ends of completions: end tokens and stop strings, the same for every engine. V vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from foray.data.tokenizer import TextTokenizer
from foray.rollout.engine import Completion, StopReason

_PART = "\ufffd"  # the decoding of a token that holds some bytes of a character


class Endings:
    """Finds ends of completions from the spelling of tokens."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        pieces = tokenizer.pieces()
        # The vocabulary of the model may be padded, or smaller than that of the tokenizer.
        self._pieces = (pieces + [""] * (vocab_size - len(pieces)))[:vocab_size]
        self._closings: dict[tuple[str, ...], Tensor] = {}
        self.end_ids = frozenset(tokenizer.end_ids)
        self._ends = torch.tensor([i in self.end_ids for i in range(vocab_size)])

    def ends(self, device: torch.device) -> Tensor:
        """Whether each token (V,) is an end token."""
        self._ends = self._ends.to(device)
        return self._ends

    def stopped(self, rows: list[list[int]], stop: tuple[str, ...]) -> list[bool]:
        """Whether a stop string stands in the text of each row."""
        # Joining pieces is faster than decoding, but loses a character whose bytes lie in several pieces.
        if self.tokenizer.joins_in_pieces and all(s.isascii() for s in stop):
            texts = ["".join(self._pieces[i] for i in ids) for ids in rows]
        else:
            texts = self.tokenizer.tokenizer.decode_batch(rows, skip_special_tokens=False)
        return [any(s in text for s in stop) for text in texts]

    def closing(self, stop: tuple[str, ...], device: torch.device) -> Tensor:
        """Whether each token (V,) can complete a stop string, with (part of) the string's last character."""
        if stop not in self._closings:
            ends = {s[-1] for s in stop}
            if not all(c.isascii() for c in ends):
                ends.add(_PART)
            holds = [not ends.isdisjoint(piece) for piece in self._pieces]
            self._closings[stop] = torch.tensor(holds, device=device)
        return self._closings[stop]

    def completions(
        self, tokens: Sequence[list[int]], logprobs: Sequence[list[float]], n: int, stop: tuple[str, ...], version: int
    ) -> list[list[Completion]]:
        """The completions of every prompt, ``n`` each, from the tokens of every row, including the end token."""
        ended = [ids[-1] in self.end_ids for ids in tokens]
        texts = [ids[:-1] if end else ids for ids, end in zip(tokens, ended)]
        decoded = self.tokenizer.tokenizer.decode_batch(texts, skip_special_tokens=False)
        out: list[Completion] = []
        for ids, values, end, text in zip(tokens, logprobs, ended, decoded):
            cut = min((at for s in stop if (at := text.find(s)) >= 0), default=None)
            reason: StopReason = "stop" if cut is not None else "end" if end else "length"
            out.append(Completion(ids, values, text[:cut], reason, version))
        return [out[i : i + n] for i in range(0, len(out), n)]
