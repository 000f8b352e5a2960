"""The nodes that turn text into tokens: a tokenizer, and the tokenized shard of one text source."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from foray.core.canonical import require
from foray.core.files import read_object, verify
from foray.data.corpus import Shard, write_shard
from foray.data.prepared import Prepared, link_shard, verify_linked
from foray.data.rows import Skipped
from foray.data.text_source import TextSource, TextSplit, documents_of, no_documents, sample_texts
from foray.data.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer
from foray.study.node import Node, Report, TokenizerOwner
from foray.study.store import Store

SPARE = 65_536  # tokens of a training shard beyond a source's share
MOST_READINGS = 4  # of one text: up to so many are about as good as new text (Muennighoff et al. 2023)


@dataclass(frozen=True)
class SealedText:
    """In the place of a text source whose tokens a node has in shards: the source's own files are not asked."""

    name: str


@dataclass(frozen=True)
class TokenizerNode(TokenizerOwner):
    """A BPE tokenizer, trained on a sample of every source in the mixture's shares, or taken from a prepared corpus.

    Numbers from 0 to ``whole_numbers`` become single tokens, however rare they are. Otherwise some numbers would be
    whole and others in pieces, and arithmetic would be needlessly irregular for a small model.
    """

    kind: ClassVar[str] = "tokenizer"
    sources: tuple[tuple[float, TextSource], ...]
    vocab_size: int
    characters: int
    whole_numbers: int = 0

    def label(self) -> str:
        return f"tokenizer ({self.vocab_size} entries)"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        prepared = [source for _, source in self.sources if isinstance(source, Prepared)]
        if prepared:  # its tokens are those of its own tokenizer
            shutil.copytree(prepared[0].tokenizer(), folder, dirs_exist_ok=True)
            return
        texts = sample_texts(self.sources, self.characters, self.whole_numbers)
        train_tokenizer(texts, self.vocab_size).save(folder, 1 << 20)

    def open_tokenizer(self, store: Store) -> TextTokenizer:
        verify(self.folder(store))
        return load_tokenizer(self.folder(store))


@dataclass(frozen=True)
class ShardNode(Node):
    """The tokens of one text source."""

    kind: ClassVar[str] = "shard"
    source: TextSource
    split: TextSplit
    tokenizer: TokenizerOwner
    max_tokens: int

    def label(self) -> str:
        return f"tokenize {self.source.name} ({self.split})"

    def run(self, folder: Path, store: Store, report: Report) -> None:
        tokenizer = self.tokenizer.open_tokenizer(store)
        if isinstance(self.source, Prepared):
            if not load_tokenizer(self.source.place / "tokenizer").same(tokenizer):
                raise ValueError(f"{self.source.place} was prepared with another tokenizer than the model has")
            link_shard(self.source, self.split, folder, self.max_tokens)
        else:
            write_shard(self.source, self.split, tokenizer, folder, self.max_tokens)

    def flags(self, folder: Path) -> list[str]:
        facts = read_object(folder / "meta.json")
        count, tokens = facts.get("skipped", 0), facts["tokens"]
        found = [f"{count:,} broken rows were skipped, the first: {facts['first skipped']}"] if count else []
        readings = (self.max_tokens - SPARE) / tokens
        if self.split == "train" and readings > MOST_READINGS:
            found.append(f"training reads its {tokens:,} tokens about {readings:.0f} times")
        return found

    def check(self) -> None:
        super().check()
        if self.split == "validation":  # its readers come after all training: so long nobody should wait for this
            self._require_documents()

    def _require_documents(self) -> None:
        source = self.source
        if isinstance(source, Prepared):
            own = [s for s in source.index()["sources"] if s["name"] == source.name]
            there = any(file["validation"] for s in own for file in s["files"])
        else:
            there = next(documents_of(source, self.split, Skipped()), None) is not None
        require(there, no_documents(source, self.split))

    def open_shard(self, store: Store, verified: bool = True) -> Shard:
        """The tokens. Unless ``verified``, those of a prepared corpus are not compared with their digests first."""
        folder = self.folder(store)
        verify(folder)
        if not isinstance(self.source, Prepared):
            return Shard(folder)
        shard = Shard(folder, self.source.place)
        if verified:
            verify_linked(folder, self.source.place)
        return shard
