"""Sources of text: frozen dataclasses with a ``name`` and an iterator of documents, which may be endless."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Protocol, TypeGuard, runtime_checkable

from foray.data.rows import Skipped

TextSplit = Literal["train", "validation"]


class TextSource(Protocol):
    @property
    def name(self) -> str: ...

    def documents(self, split: TextSplit) -> Iterator[str]: ...


@runtime_checkable
class EndlessText(Protocol):
    """A source without end. Document number i is a function of (settings, split, i), so reading can begin anywhere."""

    endless: ClassVar[bool]

    @property
    def name(self) -> str: ...

    def documents(self, split: TextSplit, first: int = 0) -> Iterator[str]: ...


@runtime_checkable
class Skipping(Protocol):
    """A source that can count broken rows and pass them over."""

    skip_broken: bool

    def documents(self, split: TextSplit, skipped: Skipped | None = None) -> Iterator[str]: ...


def documents_of(source: TextSource, split: TextSplit, skipped: Skipped) -> Iterator[str]:
    """A source's documents. ``skipped`` counts the broken rows of a source that passes them over."""
    return source.documents(split, skipped) if skips(source) else source.documents(split)


def skips(source: TextSource) -> TypeGuard[Skipping]:
    return isinstance(source, Skipping) and source.skip_broken


def no_documents(source: TextSource, split: TextSplit, skipped: Skipped | None = None) -> str:
    """Words for a source without documents of a split, and what helps."""
    words = f"text source {source.name} has no {split} documents{all_broken(skipped or Skipped())}"
    if split == "train":
        return words
    every = getattr(source, "holdout", 0)
    kept = f": one in {every:,} is held out" if every else ""
    return f"{words}{kept}; give it a smaller holdout of 2 or more, or set evaluation.heldout_tokens=0"


def all_broken(skipped: Skipped) -> str:
    """Words for the broken rows that were passed over; they follow the words for a source without documents."""
    return f": {skipped.count:,} broken rows were skipped, the first: {skipped.first}" if skipped.count else ""


def sample_texts(mixture: Sequence[tuple[float, TextSource]], characters: int, whole_numbers: int = 0) -> list[str]:
    """Texts for training a tokenizer: the first training documents of every source, about ``characters`` in all, shared
    out by the weights. Every number up to ``whole_numbers`` occurs often enough to become one token.
    """
    total = sum(w for w, _ in mixture)
    texts: list[str] = []
    for weight, source in mixture:
        budget = characters * weight / total
        for text in source.documents("train"):
            if budget <= 0:
                break
            texts.append(text)
            budget -= len(text)
    if whole_numbers:
        texts += [f" {number}" * (characters // 1000) for number in range(whole_numbers + 1)]
    return texts
