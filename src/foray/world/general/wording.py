"""The words, templates and odds of the general half: TOML files beside this module, each read once."""

from __future__ import annotations

import tomllib
from bisect import bisect
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any

Words = tuple[str, ...]


@cache
def read(name: str) -> dict[str, Any]:
    """The content of ``name``.toml, with tuples for arrays."""
    content: dict[str, Any] = _frozen(tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text("utf-8")))
    return content


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value


def _split(words: Any) -> Words:
    return tuple(words.split()) if isinstance(words, str) else words


@cache
def words(name: str) -> Words:
    """A list of words.toml."""
    return _split(read("words")[name])


@cache
def word_table(name: str) -> dict[str, Words]:
    """A table of words.toml: a list of words for each of its rows."""
    return {row: _split(found) for row, found in read("words")[name].items()}


def templates(name: str) -> Any:
    """A part of passages.toml."""
    return read("passages")[name]


def say(name: str, random: Random, /, **slots: str) -> str:
    """One of the sentences ``name`` of passages.toml."""
    return str(random.choice(templates(name))).format(**slots)


def ask(name: str, random: Random, /, **slots: str) -> tuple[str, str]:
    """One of the questions ``name`` of passages.toml, and its answer."""
    question, answer = random.choice(templates(name))
    return question.format(**slots), answer.format(**slots)


@cache
def _cumulative(name: str) -> tuple[Words, list[float]]:
    shares = read("odds")[name]
    return tuple(shares), [round(total, 9) for total in accumulate(shares.values())]


def drawn(name: str, random: Random) -> str:
    """A row of the table ``name`` of odds.toml, drawn by the shares. Takes one random number."""
    names, cumulative = _cumulative(name)
    return names[bisect(cumulative, random.random())]
