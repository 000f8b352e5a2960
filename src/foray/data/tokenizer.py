"""Tokenizers: byte-level BPE trained on a study's own text, or a published model's tokenizer, unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from foray.core.canonical import check_vocabulary, require
from foray.core.files import read_object, write_atomic
from foray.core.untrusted import encodable, ordinary
from foray.data.ends import ModelEnds, read_ends

END = "<|endoftext|>"

# Words and numbers with their leading space; digits in runs of at most three, so that a small number is one token and
# no token mixes digits with anything else.
_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s"


# Settings that AutoTokenizer reads beside the tokenizer.json of a tokenizer trained here.
_OWN = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": END,
    "eos_token": END,
    "pad_token": END,
    "clean_up_tokenization_spaces": False,
}
# All files that a published model's tokenizer may have.
FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip

_MAKE_ONE = (
    ", only {}: let transformers make one (AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)), put the config "
    "and the weights beside it, and name that folder"
)


_HIGHEST = 1 << 24  # of a token's id; models of more entries are refused too
_ANCHORS = ("\n", ":", "a")  # a continuation is encoded behind one of these texts


class TextTokenizer:
    """Encodes any text.

    ``end_id`` separates documents and ends demonstrations. A completion ends at any of ``end_ids``. The files of a
    tokenizer's ``model`` may name several. ``start`` stands before every document. The ``start`` of a tokenizer trained
    here is the end token. A published tokenizer keeps its ``files`` unchanged, and its ``start`` is the token, if any,
    that the tokenizer itself puts before a text.
    """

    def __init__(
        self, tokenizer: Tokenizer, files: Mapping[str, bytes] | None = None, model: ModelEnds | None = None
    ) -> None:
        self.tokenizer, self.files, self.model = tokenizer, files, model
        # Data and completions are untrusted: text that spells a special token out is encoded as plain text.
        tokenizer.encode_special_tokens = True
        # A published file may hold its maker's last settings of truncation and padding. AutoTokenizer ignores both.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        settings = _OWN if files is None else _settings(files)
        _as_llama(tokenizer, settings)
        name = _token(settings.get("eos_token"))
        self.own_end: int | None = tokenizer.token_to_id(name)  # the model's files may leave this token out
        end = self.own_end if model is None or (name and self.own_end is None) else model.trained(self.own_end)
        if end is None:
            raise ValueError(
                f"the tokenizer has no {name or 'end'} token, which must end documents and completions; name one of "
                "its entries as eos_token in tokenizer_config.json"
            )
        self.end_id: int = end
        self.bos_id: int | None = tokenizer.token_to_id(_token(settings.get("bos_token")))
        self.start: list[int] = [end] if files is None else self._before_text()
        # Some tokenizers put a space before a text (Llama 2). A continuation must not get this space.
        line = self.encode("\n")
        prefixed = self.encode("a") != self.encode("\na")[len(line) :]
        self._anchors = {text: self.encode(text) for text in _ANCHORS} if prefixed else {}

    def _before_text(self) -> list[int]:
        bare, whole = (self.tokenizer.encode("a", add_special_tokens=more).ids for more in (False, True))
        for at in range(len(whole) - len(bare) + 1):
            if whole[at : at + len(bare)] == bare:
                return whole[:at]
        raise ValueError("the tokenizer encodes a text in another way where it adds special tokens")

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every token that ends a completion, ``end_id`` first."""
        own = () if self.model is None or self.own_end is None else (self.own_end,)
        return tuple(dict.fromkeys((self.end_id, *own, *(self.model.ends if self.model else ()))))

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return 1 + max(self.tokenizer.get_vocab().values()) if self.files else self.tokenizer.get_vocab_size()

    @property
    def reach(self) -> int:
        """One more than the highest id in any text, its beginning or its end: a model must know all of these ids.

        A special token that is no piece of text does not count; some tokenizers have such ids beyond the model's
        vocabulary.
        """
        return 1 + max(self._reached().values())

    def _reached(self) -> dict[str, int]:
        added = self.tokenizer.get_added_tokens_decoder()
        # A special token spelled out in a text is plain text (above). An added token that is not special is matched.
        alone = {i for i, token in added.items() if token.special} - self._pieces() - {*self.end_ids, *self.start}
        return {token: i for token, i in self.tokenizer.get_vocab().items() if i not in alone}

    def _pieces(self) -> set[int]:
        """Ids that the tokenizer's algorithm may make of plain text. For BPE, the ids that merges lead to."""
        vocab = self.tokenizer.get_vocab(with_added_tokens=False)
        model = json.loads(self.tokenizer.to_str())["model"]
        if model["type"] != "BPE" or any(model.get(n) for n in ("ignore_merges", "end_of_word_suffix")):
            return set(vocab.values())
        made = {"".join(pair) for pair in model["merges"]} | {model.get("unk_token")}
        return {i for token, i in vocab.items() if token in made or len(token) == 1 or token.startswith("<0x")}

    def check_fits(self, vocab_size: int, name: str) -> None:
        """Raises ValueError if a text could become an id beyond a model's vocabulary of this size."""
        reached = self._reached() if self.vocab_size > vocab_size else {}
        beyond = {i: token for token, i in reached.items() if i >= vocab_size}
        if beyond:
            first = min(beyond)
            raise ValueError(
                f"{name}: its tokenizer makes ids up to {max(beyond)} of a text, more than the model's {vocab_size} "
                f"(the first is {first}, {beyond[first]!r}): take the tokenizer that the model was trained with, or "
                "give the model rows for them (resize_token_embeddings in transformers)"
            )

    @property
    def separator(self) -> list[int]:
        """The tokens before every document of a corpus: the end token first."""
        return self.start if self.end_id in self.start else [self.end_id, *self.start]

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens. Special tokens spelled out in ``text`` are plain text."""
        require(encodable(text), f"a text holds half a surrogate pair, which no tokenizer takes: {text!a:.60}")
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        # Fast: the call keeps no places of tokens in the text. The ids are the same.
        return [e.ids for e in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def encode_prompt(self, text: str) -> list[int]:
        """The text as the start of a document, after ``start`` as in pre-training."""
        return [*self.start, *self.encode(text)]

    def encode_continuation(self, text: str) -> list[int]:
        """The text as the continuation of a prompt."""
        for before, anchor in self._anchors.items():  # the first anchor that does not merge with the text
            ids = self.encode(before + text)
            if ids[: len(anchor)] == anchor:
                return ids[len(anchor) :]
        return self.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    @property
    def joins_in_pieces(self) -> bool:
        """Whether a text is the texts of its tokens in a row."""
        return not self._anchors

    def pieces(self) -> list[str]:
        """The text that each token adds, special tokens spelled out. (vocab_size,)"""
        before = self.encode("a") if self._anchors else []
        rows = [[*before, i] for i in range(self.vocab_size)]
        texts: list[str] = self.tokenizer.decode_batch(rows, skip_special_tokens=False)
        return [text[1:] for text in texts] if before else texts

    def same(self, other: TextTokenizer) -> bool:
        """Whether both tokenizers make the same tokens of every text."""
        return self.tokenizer.to_str() == other.tokenizer.to_str() and self.separator == other.separator

    def save(self, folder: Path, context: int) -> None:
        of_model = folder / "config.json"
        if self.end_id != self.own_end and not of_model.exists():  # a prepared text's tokenizer has no model
            write_atomic(of_model, json.dumps({"eos_token_id": self.end_id}, allow_nan=False) + "\n")
        if self.files is not None:
            for name, content in self.files.items():
                write_atomic(folder / name, content)
            return
        # The library's own save raises an exception without a type of its own on a full disk.
        write_atomic(folder / "tokenizer.json", self.tokenizer.to_str(pretty=True))
        config = {**_OWN, "model_max_length": context}
        write_atomic(folder / "tokenizer_config.json", json.dumps(config, indent=1, allow_nan=False) + "\n")


def _as_llama(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> None:
    """Changes a tokenizer of the class ``LlamaTokenizer`` as ``transformers`` does: vocabulary and merges are the
    file's, spaces are the class's. A text that begins with a space gets no second space.
    """
    if str(settings.get("tokenizer_class")).removesuffix("Fast") != "LlamaTokenizer":
        return
    spelled = json.loads(tokenizer.to_str())
    if spelled["model"].get("type") != "BPE" or "ByteLevel" in str(spelled["pre_tokenizer"]):  # Llama 3's, misnamed
        return
    spaced = settings.get("add_prefix_space") is not False
    scheme = "never" if not spaced else "always" if settings.get("legacy") else "first"
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split=False)
    whole = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*whole, decoders.Strip(" ", 1, 0)] if spaced else whole)


def load_tokenizer(folder: Path, beside: Path | None = None) -> TextTokenizer:
    """The tokenizer of a folder, trained here or published. Its files may lie in the folder ``beside``.

    Raises ValueError without a tokenizer, or without an end token.
    """
    beside = beside or folder
    file = beside / "tokenizer.json"
    if not file.exists():
        other = [name for name in ("tokenizer.model", "vocab.json", "vocab.txt") if (beside / name).exists()]
        raise ValueError(f"{folder} has no tokenizer.json{_MAKE_ONE.format(other[0]) if other else ''}")
    try:
        tokenizer = Tokenizer.from_file(str(ordinary(file)))
    except OSError:
        raise
    except Exception as e:  # the library raises nothing narrower for an unreadable file
        raise ValueError(f"{file} is damaged ({e})") from None
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest > _HIGHEST:
        raise ValueError(f"{file} is damaged (a token has the id {highest}, more than any vocabulary holds)")
    own, model = _is_own(beside), read_ends(folder)
    try:
        if own and model is not None and set(model.ends) <= {tokenizer.token_to_id(END)}:
            model = None  # Foray's own checkpoint
        return TextTokenizer(tokenizer, None if own else _files(beside), model)
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from None


def _is_own(folder: Path) -> bool:
    """Whether a tokenizer was trained here. If so, documents begin with the end token, although no file says so."""
    settings = folder / "tokenizer_config.json"
    if not settings.exists():
        return False
    found = read_object(settings, "replace it")
    return {name: found.get(name) for name in _OWN} == _OWN and "added_tokens_decoder" not in found


def _files(folder: Path) -> dict[str, bytes]:
    return {name: ordinary(folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def _settings(files: Mapping[str, bytes]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            # A setting that is null in one file may have a value in the other.
            found = json.loads(files.get(name, b"{}"))
            out |= {key: value for key, value in found.items() if value is not None}
        except (ValueError, RecursionError, AttributeError) as e:
            raise ValueError(f"{name} beside it is damaged ({type(e).__name__}: {str(e)[:200]})") from None
    return out


def _token(setting: Any) -> str:
    """A special token's text in tokenizer_config.json, which has the text alone or with settings of the match."""
    text = setting.get("content") if isinstance(setting, dict) else setting
    return text if isinstance(text, str) else ""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> TextTokenizer:
    """Byte-level BPE of at most ``vocab_size`` entries: 256 bytes, the end token, and merges learned from ``texts``."""
    check_vocabulary(vocab_size)
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
