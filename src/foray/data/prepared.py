"""A corpus that ``foray prepare`` made, for studies: the tokens in place, checked against their digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foray.core.canonical import content_hash, require
from foray.core.field_types import require_types
from foray.core.files import digest_of_input, json_text, read_object, write_atomic
from foray.core.untrusted import expect
from foray.data.text_source import TextSplit, no_documents

TokenKind = Literal["tokens", "validation"]  # of a prepared part: for training, and held out
_CHANGED = "is damaged (its checksum has changed)"


@dataclass(frozen=True)
class Prepared:
    """One source of a corpus that ``foray prepare`` made in ``folder``, below ``root``.

    Studies read the tokens in place and copy none. The hash is of the corpus's content if the corpus exists. A study
    can be planned before the corpus exists.
    """

    name: str  # the name of the source in the corpus
    folder: str = field(metadata={"hash": False})
    root: str = field(default="", metadata={"hash": False})

    def __post_init__(self) -> None:
        require_types(self)

    def fingerprint(self) -> str:
        return str(self.index()["fingerprint"]) if (self.place / "index.json").exists() else "not prepared yet"

    @property
    def place(self) -> Path:
        return Path(self.root) / self.folder

    def documents(self, split: TextSplit) -> Iterator[str]:
        raise ValueError(f"{self.name} is a prepared corpus: its text is there as tokens only")

    def index(self) -> dict[str, Any]:
        """The content of index.json. Raises ValueError if the corpus is missing or not whole."""
        file = self.place / "index.json"
        if not file.exists():
            raise ValueError(f"{self.place} holds no prepared corpus; make it with foray prepare MIX --out DIR")
        again = f"put it back, or make it anew: foray prepare MIX --out {self.place}"
        found = read_object(file, again, fingerprint=str, tokenizer=str, sources=list)
        part: dict[str, type] = {"stem": str, "dtype": str, "sha256_tokens": str, "sha256_validation": str}
        part |= dict.fromkeys(("used", "tokens", "validation"), int)
        try:
            for source in found["sources"]:
                for each in expect(source, file, name=str, files=list)["files"]:
                    expect(each, file, **part)
        except ValueError as e:
            raise ValueError(f"{e}; {again}") from None
        said = content_hash({k: v for k, v in found.items() if k != "fingerprint"})
        require(said == found["fingerprint"], f"{file} {_CHANGED}; {again}")
        return found

    def tokenizer(self) -> Path:
        """The folder of the corpus's tokenizer. Raises ValueError if the folder has another tokenizer."""
        folder = self.place / "tokenizer"
        if tokenizer_digest(folder) != self.index()["tokenizer"]:
            raise ValueError(f"{folder} is not the tokenizer that the corpus was made with; put that back")
        return folder


def tokenizer_digest(folder: Path) -> str:
    return content_hash({p.name: digest_of_input(p) for p in sorted(folder.glob("*")) if p.is_file()})


def link_shard(source: Prepared, split: TextSplit, folder: Path, max_tokens: int) -> None:
    """Writes a shard that names the place of a prepared source's tokens: the number wanted, or all tokens.

    Reads the files once, at the speed of the disk, before a study spends hours on them. Raises ValueError naming the
    first damaged file.
    """
    found = next((s for s in source.index()["sources"] if s["name"] == source.name), None)
    if found is None:
        raise ValueError(f"{source.place} has no source {source.name}")
    files, total, digests = [], 0, {}
    kind: TokenKind = "tokens" if split == "train" else "validation"
    for file in found["files"]:
        count = min(file["used"] if split == "train" else file["validation"], max_tokens - total)
        if count > 0:
            name = f"{source.name}/{file['stem']}" + ("" if split == "train" else ".validation") + ".bin"
            if words := damage(source.place / name, file, kind):
                raise _to_mend(source.place, name, words)
            files.append([name, count, file[kind]])
            digests[name] = file[f"sha256_{kind}"]
            total += count
    if total == 0:
        raise ValueError(no_documents(source, split))
    meta = {"source": source.name, "split": split, "tokens": total, "dtype": found["files"][0]["dtype"], "files": files}
    meta |= {"place": str(source.place.resolve()), "sha256": digests}  # for foray check; a study names the place itself
    write_atomic(folder / "meta.json", json_text(meta) + "\n")


def linked(folder: Path) -> tuple[Path | None, dict[str, str]]:
    """The place of a linked shard's tokens, if the shard names it, and SHA-256 by file. Empty for other shards."""
    meta = read_object(folder / "meta.json")
    if "files" not in meta:
        return None, {}
    digests = meta.get("sha256", {name: "" for name, *_ in meta["files"]})
    return Path(meta["place"]) if "place" in meta else None, digests


def verify_linked(folder: Path, place: Path) -> None:
    """Compares the tokens that a linked shard names with their digests, once a process. Raises ValueError."""
    for name, digest in linked(folder)[1].items():
        if digest and (place / name).exists() and digest_of_input(place / name) != digest:
            raise _to_mend(place, name, _CHANGED)


def damage(path: Path, part: Mapping[str, Any], kind: TokenKind) -> str:
    """The damage of a file of tokens, by the size and digest of its part; empty if the file is whole."""
    if words := _wrong_size(path, part[kind] * np.dtype(part["dtype"]).itemsize):
        return words
    return "" if digest_of_input(path) == part[f"sha256_{kind}"] else _CHANGED


def _wrong_size(path: Path, size: int, or_more: bool = False) -> str:
    if not path.exists():
        return "is missing"
    found = path.stat().st_size
    if found == size or (or_more and found > size):
        return ""
    return f"is damaged (it has {found:,} bytes, and {size:,} are wanted)"


def _to_mend(place: Path, name: str, words: str) -> ValueError:
    return ValueError(
        f"{place / name} {words}; the command that made it makes it again: foray prepare MIX --out {place}"
    )


def mapped(base: Path, name: str, dtype: np.dtype[Any], count: int, whole: int = 0) -> NDArray[np.integer[Any]]:
    """The first ``count`` tokens of a file of ``whole`` tokens. Shards of an earlier version do not say ``whole``."""
    if words := _wrong_size(base / name, (whole or count) * dtype.itemsize, or_more=not whole):
        raise _to_mend(base, name, words)
    return np.memmap(base / name, dtype=dtype, mode="r", shape=(count,))
