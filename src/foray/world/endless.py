"""The common half of the world's text sources: documents without end, each a function of (settings, split, number)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import ClassVar

from foray.world.version import WORLD_VERSION

SPLITS = ("train", "validation")


class EndlessWorldText:
    """A subclass has a name, a key and one document."""

    endless: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Short name for mixtures and tables."""
        raise NotImplementedError

    def document_key(self, split: str, number: int) -> int:
        """The key of a document's random numbers."""
        raise NotImplementedError

    def document(self, random: Random, split: str) -> str:
        """One document of a split, by the draws of ``random``."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        return WORLD_VERSION

    def documents(self, split: str, first: int = 0) -> Iterator[str]:
        """Documents without end, from number ``first`` on. Raises ValueError for a split but train and validation."""
        if split not in SPLITS:
            raise ValueError(f"{self.name}: split {split!r} is unknown; the splits are {', '.join(SPLITS)}")
        for number in count(first):
            yield self.document(Random(self.document_key(split, number)), split)
