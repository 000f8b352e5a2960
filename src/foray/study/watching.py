"""Checkpoints of a pre-training that somebody else runs: found as they land, and made into a study."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape, glob
from pathlib import Path

from foray.core.canonical import require
from foray.study.named_studies import load_study
from foray.study.published import Release, tokenizer_folder
from foray.study.spec import Published, Study

HUB = "hub:"
_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_UNIT = re.compile(r"([KMBT])(?:T|tok(?:en)?s?)?(?![A-Za-z])", re.IGNORECASE)  # 5M, 10BT, 5Mtok; of 10tokens none
_PLACES = re.compile(r"\{(step|tokens)\}")
_MOST_HEADER = 100_000_000  # bytes, of a safetensors file: the format's own limit

Checkpoint = tuple[str, str, int]  # folder or hub id, revision or nothing, tokens


@dataclass(frozen=True)
class Series:
    """Where checkpoints land: ``FOLDER/step{step}`` or ``hub:ORGANISATION/NAME@stage1-step{step}-tokens{tokens}B``.

    ``{tokens}`` is a number of tokens, with the unit that may stand behind it (K, M, B, T; also as in BT, Btok and
    Btokens). ``{step}`` is a number of updates of ``tokens_per_step`` tokens, and counts where there is no
    ``{tokens}``. A folder is ready when its files are whole and ``settle`` seconds old.
    """

    pattern: str
    tokens_per_step: int = 0
    settle: float = 10.0

    def __post_init__(self) -> None:
        places = _PLACES.findall(self.pattern)
        require(bool(places), f"{self.pattern!r} needs {{step}} or {{tokens}} where the number of a checkpoint stands")
        require(len(set(places)) == len(places), f"{self.pattern!r} has {{{places[0]}}} twice")
        if "tokens" not in places:
            words = "{step} needs --tokens-per-step N: a checkpoint's tokens are its step times N"
            require(self.tokens_per_step > 0, words)
        if self.of_hub:
            require("@" in self.pattern, f"{self.pattern!r}: write hub:ORGANISATION/NAME@REVISION, with {{step}} in it")

    @property
    def of_hub(self) -> bool:
        return self.pattern.startswith(HUB)

    def nothing_yet(self) -> str:
        """What to tell somebody who waits for the first checkpoint."""
        before = os.path.abspath(os.path.expanduser(_pieces(self.pattern)[0]))
        folder = before if self.pattern.partition("{")[0].endswith("/") else os.path.dirname(before)
        missing = not self.of_hub and not os.path.isdir(folder)
        return "no checkpoint matches yet" + (f": there is no folder {folder} yet" if missing else "")

    def found(self) -> list[Checkpoint]:
        """The checkpoints that are ready, by rising tokens. Raises ValueError where the hub cannot be asked."""
        if self.of_hub:
            source = self.pattern.removeprefix(HUB).partition("@")[0]
            named = [(source, name, self._said(source, name)) for name in _revisions(source)]
        else:
            pattern = os.path.abspath(os.path.expanduser(self.pattern))
            names = glob(_PLACES.sub("*", "".join(p if _PLACES.match(p) else escape(p) for p in _pieces(pattern))))
            named = [(name, "", self._said(name, "")) for name in names]
        by_tokens = {c[2]: c for c in sorted(named) if c[2] > 0 and (self.of_hub or ready(Path(c[0]), self.settle))}
        return [by_tokens[tokens] for tokens in sorted(by_tokens)]

    def check(self, known: Sequence[Checkpoint], where: Path) -> None:
        """Raises ValueError where checkpoints that an earlier watch wrote to ``where`` have other tokens by this one.

        One store has one series: its M_t stand on one scale of tokens.
        """
        for folder, revision, tokens in known:
            now = self._said(folder, revision)
            what = f"{where}: {'@'.join(filter(None, (folder, revision)))}"
            require(now > 0, f"{what} is no checkpoint of {self.pattern}: name another --store for another series")
            cure = "give the --tokens-per-step of before, or name another --store"
            require(now == tokens, f"{what} has {tokens:,} tokens there and {now:,} now: {cure}")

    def _said(self, folder: str, revision: str) -> int:
        """The tokens that the names of a checkpoint say; 0 where it is not of this series."""
        if self.of_hub:
            source, _, pattern = self.pattern.removeprefix(HUB).partition("@")
            return self._tokens(pattern, revision) if folder == source else 0
        return self._tokens(os.path.abspath(os.path.expanduser(self.pattern)), folder)

    def _tokens(self, pattern: str, name: str) -> int:
        """The tokens that a name says; 0 where the name does not fit."""
        number = r"\d+(?:\.\d+)?"
        parts = (f"(?P<{p[1:-1]}>{number})" if _PLACES.match(p) else re.escape(p) for p in _pieces(pattern))
        match = re.fullmatch("".join(parts), name)
        if match is None:
            return 0
        said = match.groupdict()
        if "tokens" not in said:
            return round(float(said["step"]) * self.tokens_per_step)
        unit = _UNIT.match(name, match.end("tokens"))
        return round(float(said["tokens"]) * (_UNITS[unit[1].upper()] if unit else 1))


def _pieces(pattern: str) -> list[str]:
    """The text between the places, and the places."""
    return [piece for piece in re.split(r"(\{(?:step|tokens)\})", pattern) if piece]


def _revisions(source: str) -> list[str]:
    from foray.data.repository import client

    try:
        refs = client().list_repo_refs(source)
    except Exception as e:  # no network, no such repository; the client's transport has errors of its own
        raise ValueError(f"the hub does not tell the revisions of {source} ({str(e).splitlines()[0][:120]})") from None
    return [ref.name for kind in ("branches", "tags") for ref in getattr(refs, kind, ())]


def ready(folder: Path, settle: float) -> bool:
    """Whether a checkpoint's files are all there, whole, and not written to within the last ``settle`` seconds."""
    from foray.data.tokenizer import FILES
    from foray.model.hf import weight_files

    try:
        weights = weight_files(folder)
        json.loads((folder / "config.json").read_bytes())
        beside = tokenizer_folder(folder, folder.parent)
        files = [folder / "config.json", *weights, *(f for name in FILES if (f := beside / name).exists())]
        latest = max(file.stat().st_mtime for file in files)
        there = (beside / "tokenizer.json").exists()
        return there and time.time() - latest >= settle and all(map(_whole, weights))
    except (ValueError, OSError):  # half written
        return False


def _whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says."""
    with open(file, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        if not 0 < size <= _MOST_HEADER:
            return False
        header = json.loads(f.read(size))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return file.stat().st_size == 8 + size + max(ends, default=0)


def watched(study: str, settings: Sequence[str], checkpoints: Sequence[Checkpoint]) -> Study:
    """The named study, with published checkpoints in place of its pre-training, and without parts and dynamics."""
    base = load_study(study, list(settings))
    before = base.pretrain if isinstance(base.pretrain, Published) else None
    models = tuple(checkpoints)
    return replace(
        base,
        model=base.model if before else Release(*models[0][:2]).shape(),
        pretrain=replace(before, models=models) if before else Published(models),
        excursions=(),
        evaluation=replace(base.evaluation, dynamics=None),
        parts=(),
    )


def study_text(study: str, settings: Sequence[str], checkpoints: Sequence[Checkpoint]) -> str:
    """The text of a study file that says what was found. Every command takes the file."""
    name = str(Path(study).resolve()) if study.endswith(".py") else study
    lines = "".join(f"    {checkpoint!r},\n" for checkpoint in checkpoints)
    return (
        '"""The checkpoints that `foray watch` has found. `foray watch` writes this file."""\n\n'
        f"from foray.study.watching import watched\n\nCHECKPOINTS = (\n{lines})\n\n\n"
        f"def study():\n    return watched({name!r}, {tuple(settings)!r}, CHECKPOINTS)\n"
    )
