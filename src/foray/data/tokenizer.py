"""Byte-level BPE tokenizers: trained on a study's own text, saved so that AutoTokenizer loads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|endoftext|>"

# Words and numbers with their leading space; digits in runs of at most three, so that a small number is one token and
# no token mixes digits with anything else.
_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s"


class TextTokenizer:
    """Encodes any text (byte fallback); ``end_id`` separates documents, ends completions and starts every prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # Text that spells the end token out (data and completions are untrusted) is encoded as plain bytes, not as it.
        tokenizer.encode_special_tokens = True
        end = tokenizer.token_to_id(END)
        if end is None:
            raise ValueError(f"the tokenizer has no {END} token")
        self.end_id: int = end

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Token ids without any special token; special tokens spelled out in ``text`` are plain text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def encode_prompt(self, text: str) -> list[int]:
        """The text as the start of a document: what follows the end token in pre-training."""
        return [self.end_id, *self.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def save(self, folder: Path, context: int) -> None:
        self.tokenizer.save(str(folder / "tokenizer.json"))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END,
            "eos_token": END,
            "pad_token": END,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def load_tokenizer(folder: Path) -> TextTokenizer:
    file = folder / "tokenizer.json"
    if not file.exists():
        raise ValueError(f"{folder} has no tokenizer.json")
    try:
        return TextTokenizer(Tokenizer.from_file(str(file)))
    except Exception as e:  # the library raises nothing narrower for a file it cannot read
        raise ValueError(f"{file} is damaged ({e})") from None


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> TextTokenizer:
    """Byte-level BPE of at most ``vocab_size`` entries: 256 bytes, the end token, and merges learned from ``texts``."""
    if vocab_size < 257:
        raise ValueError(f"vocab_size must be at least 257 (256 bytes and the end token), not {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return TextTokenizer(tokenizer)
