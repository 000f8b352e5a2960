"""The tokens that end a text. A published model names them in three files, which need not agree.

``tokenizer_config.json`` names one token, ``config.json`` and ``generation_config.json`` one id or a list of ids. A
text ends at any of these tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foray.core.canonical import require
from foray.core.files import read_object
from foray.core.untrusted import ordinary

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class ModelEnds:
    """The end tokens that a model's own files name. An export keeps ``ids`` and ``generation``.

    ``ids``: special tokens as they stand in ``config.json``. ``generation``: the bytes of ``generation_config.json``,
    None without that file.
    """

    ids: Mapping[str, Any]
    generation: bytes | None
    config_ends: tuple[int, ...]
    generation_ends: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, ...]:
        return (*self.config_ends, *self.generation_ends)

    def trained(self, own: int | None) -> int | None:
        """The end token that Foray writes, behind a demonstration and between documents. ``own``: the tokenizer's.

        Whoever pre-trains a model writes ``config.json``, so the ids in this file end the documents of pre-training. A
        chat model with another end of turns may share the tokenizer. So the tokenizer's end token counts only if the
        model's files name it too, or name no end token.
        """
        for ids in (self.config_ends, self.generation_ends):
            if ids:
                return own if own in ids else ids[0]
        return own


def read_ends(folder: Path) -> ModelEnds | None:
    """The ends that a model's folder names; None for a tokenizer alone. Raises ValueError for a bad token id."""
    config, generation = folder / "config.json", folder / "generation_config.json"
    if not config.exists() and not generation.exists():
        return None
    raw = _settings(config)
    size = raw.get("vocab_size")
    named = [_end_ids(file, settings, size) for file, settings in ((config, raw), (generation, _settings(generation)))]
    ids = {name: raw[name] for name in _IDS if name in raw}
    if not any(named):
        ids.pop("eos_token_id", None)  # then an export names the tokenizer's end token
    return ModelEnds(ids, ordinary(generation).read_bytes() if generation.exists() else None, *named)


def _settings(file: Path) -> dict[str, Any]:
    return read_object(file, "replace it") if file.exists() else {}


def _end_ids(file: Path, settings: Mapping[str, Any], size: Any) -> tuple[int, ...]:
    """The end ids of one file, which may have an id, a list of ids, or null."""
    found = settings.get("eos_token_id")
    ids = found if isinstance(found, list) else [] if found is None else [found]
    for i in ids:
        what = f"{file}: eos_token_id {i!r} is"
        require(type(i) is int and i >= 0, f"{what} no token id: a number from 0, a list of such, or null is needed")
        require(
            type(size) is not int or i < size, f"{what} beyond the model's vocabulary of {size}: take it out of there"
        )
    return tuple(dict.fromkeys(ids))
