"""Contamination: the share of a set of questions that a text already holds.

Words are lower-case runs of letters or digits; punctuation and case do not count. Three measures tell the overlap. No
measure alone is enough for text from templates:

- a *whole question*: all words of the question, one after another, somewhere in the text;
- an *n-gram*: n words one after another (13 in GPT-3's report, arXiv 2005.14165, appendix C). Templates share n-grams
  without sharing a problem, so this measure also counts wordings;
- *the same numbers*: a question of the text has the same sequence of numbers, whatever its words. A question of a
  text is a line that ends in a question mark, without a label such as ``Q:`` or ``Problem 3.``.

Memory holds the n-grams and numbers of the questions only, as 64-bit hashes. The text is read once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foray.core import rng

_WORD = re.compile(r"[^\W_]+")
# The embedded world decides its splits by the numbers up to ``twice``. More words would only match less.
_NUMBER = re.compile(r"[0-9]+|half|third|quarter|twice|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen)\b")
_LABEL = re.compile(r"[^\W\d_]+(?: [0-9]+)?[:.] ")
_HEAD = 8  # a whole question is looked up by these words before the comparison
_BATCH = 1 << 15  # words that are looked up together
_FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


def overlaps(
    texts: Mapping[str, Iterable[str]],
    trained: Sequence[str],
    checked: Sequence[str],
    asked: Sequence[str],
    split: str,
    n: int,
) -> list[dict[str, Any]]:
    """A row for every pair of a training text and a set of questions.

    ``texts``: the sources of pre-training. ``trained`` and ``checked``: training and validation questions of
    post-training. ``asked``: questions of the evaluation, from ``split``.
    """
    rows = []

    def row(seen: str, of: str, overlap: Overlap) -> None:
        rows.append({"text": seen, "of": of, **overlap.result()})

    training, evaluation = "training questions", f"{split} questions"
    for name, documents in texts.items():
        pair = Overlap(asked, n), Overlap(trained, n)
        stream = iter(documents)
        while part := [parsed(text) for text in itertools.islice(stream, 256)]:
            for overlap in pair:
                overlap.read(part)
        row(name, evaluation, pair[0])
        row(name, training, pair[1])
    for seen, questions in ((training, trained), ("validation questions", checked)):
        if questions:
            overlap = Overlap(asked, n)
            overlap.read(Parsed(words(q), [numbers(q)]) for q in questions)
            row(seen, evaluation, overlap)
    return rows


def words(text: str) -> list[str]:
    """Lower-case words and numbers, without punctuation. ``1,200`` is one number."""
    return _WORD.findall(re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", text.lower()))


def numbers(question: str) -> tuple[str, ...]:
    return tuple(_NUMBER.findall(question.lower()))


def asked(text: str) -> Iterator[str]:
    """The questions of a text: lines that end in a question mark, without their label."""
    for line in text.splitlines():
        if line.rstrip().endswith("?"):
            yield _LABEL.sub("", line, count=1) if _LABEL.match(line) else line


class Parsed(NamedTuple):
    """The words of a text, and the numbers of every question in the text."""

    words: list[str]
    numbers: list[tuple[str, ...]]


def parsed(text: str) -> Parsed:
    return Parsed(words(text), [numbers(question) for question in asked(text)])


class Overlap:
    """The overlap of ``questions`` with the texts given to ``read``.

    Shapes: V distinct words of the questions, G distinct n-grams, Q questions.
    """

    def __init__(self, questions: Sequence[str], n: int) -> None:
        if n < 1:
            raise ValueError(f"n-grams need n of at least 1, not {n}")
        self.questions, self.n = list(questions), n
        split = [words(q) for q in self.questions]
        self._ids = {word: i for i, word in enumerate(dict.fromkeys(w for ws in split for w in ws), 1)}
        # A random number for each word of the questions. Entry 0 stands for all other words. (V + 1,)
        self._random = _random(len(self._ids) + 1)
        self._split = [np.array([self._ids[w] for w in ws], dtype=np.int64) for ws in split]
        grams = [self._grams(ids, n) for ids in self._split]
        self._known = np.unique(np.concatenate([np.zeros(0, np.uint64), *grams]))  # (G,)
        self._of = [np.searchsorted(self._known, g) for g in grams]
        self._found = np.zeros(len(self._known), dtype=bool)  # (G,)
        self._whole = np.zeros(len(self.questions), dtype=bool)  # (Q,)
        self._same = np.zeros(len(self.questions), dtype=bool)  # (Q,)
        self._by_numbers: dict[tuple[str, ...], list[int]] = {}
        self._by_head: dict[int, dict[int, list[int]]] = {}  # length of the head -> its hash -> questions
        for q, ids in enumerate(self._split):
            if len(ids):
                size = min(_HEAD, len(ids))
                head = int(self._grams(ids[:size], size)[0])
                self._by_head.setdefault(size, {}).setdefault(head, []).append(q)
            if found := numbers(self.questions[q]):
                self._by_numbers.setdefault(found, []).append(q)
        self._heads = {size: np.array(sorted(at), dtype=np.uint64) for size, at in self._by_head.items()}
        self._example = self._example_gram = ""

    def read(self, texts: Iterable[Parsed]) -> None:
        """Looks the questions up in texts."""
        batch: list[int] = []
        for text in texts:
            for found in text.numbers:
                for q in self._by_numbers.get(found, ()):
                    self._same[q] = True
            batch += [self._ids.get(w, 0) for w in text.words]
            batch.append(0)  # no n-gram spans two texts
            if len(batch) >= _BATCH:
                self._look_up(np.array(batch))
                batch = []
        self._look_up(np.array(batch, dtype=np.int64))

    def result(self) -> dict[str, Any]:
        """Shares of the questions and of their distinct n-grams, and an example: a whole question or an n-gram."""
        count, with_numbers = len(self.questions), sum(map(len, self._by_numbers.values()))
        touched = [bool(self._found[of].any()) for of in self._of]
        return {
            "questions": count,
            "whole": _share(int(self._whole.sum()), count),
            "any_ngram": _share(sum(touched), count),
            "ngrams": _share(int(self._found.sum()), len(self._known)),
            "same_numbers": _share(int(self._same.sum()), with_numbers),
            "example": self._example or self._example_gram,
        }

    def _grams(self, ids: NDArray[np.int64], n: int) -> Hashes:
        """A hash of every n words in a row: a polynomial in a fixed odd number, modulo 2^64."""
        values = self._random[ids]
        count = max(0, len(ids) - n + 1)
        out = np.zeros(count, dtype=np.uint64)
        for j in range(n):
            out = out * _FACTOR + values[j : j + count]
        return out

    def _look_up(self, ids: NDArray[np.int64]) -> None:
        at, place = _hits(self._grams(ids, self.n), self._known)
        self._found[place] = True
        if len(at) and not self._example_gram:
            self._example_gram = self._text(ids[at[0] : at[0] + self.n])
        for size, heads in self._heads.items():
            at, place = _hits(self._grams(ids, size), heads)
            for start, head in zip(at.tolist(), heads[place].tolist()):
                for q in self._by_head[size][head]:
                    mine = self._split[q]
                    if not self._whole[q] and np.array_equal(ids[start : start + len(mine)], mine):
                        self._whole[q] = True
                        self._example = self._example or self.questions[q]

    def _text(self, ids: NDArray[np.int64]) -> str:
        names = list(self._ids)
        return " ".join(names[i - 1] for i in ids.tolist())


def _random(count: int) -> Hashes:
    return np.random.Generator(np.random.Philox(key=rng.key("contamination"))).integers(
        0, 1 << 64, count, dtype=np.uint64
    )


def _hits(hashes: Hashes, known: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of known hashes, and the index of each in ``known``."""
    if not len(known):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    at = np.flatnonzero(known[place] == hashes)
    return at, place[at]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
