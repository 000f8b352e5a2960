"""Checkpoints that somebody else trained, as M_t: from the Hugging Face hub, or from folders in its format.

torch and transformers are imported only where a checkpoint is read, because studies are data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foray.core.canonical import nearest, require
from foray.core.files import digest_of_input
from foray.model.config import ModelConfig

if TYPE_CHECKING:
    from foray.data.repository import Repository
    from foray.data.tokenizer import TextTokenizer

_PROBE = "Question: naïve 東京 is 3 + 4 = 7?\n\nAnswer: don't"
_NOT_IN_FILES = ("init_std", "embed_std")  # of the shape's fields; how the weights began is history


@dataclass(frozen=True)
class Release:
    """A checkpoint: ``source`` is a hub id where there is a ``revision``, else a folder.

    Behind a hub id may stand a folder inside the repository, ORGANISATION/NAME/FOLDER. A relative folder lies below
    ``root``, which the study fills in from its ``data.root`` when empty. The hash is of the folder's content, or of id
    and revision; a name that moves, as ``main`` does, is taken for one and the same.
    """

    source: str = field(metadata={"hash": False})
    revision: str = field(default="", metadata={"hash": False})
    root: str = field(default="", metadata={"hash": False})

    @property
    def name(self) -> str:
        from foray.data.repository import Repository

        return Repository(self.source, self.revision).name if self.revision else self.source

    def libraries(self) -> tuple[str, ...]:
        return ("huggingface_hub",) if self.revision else ()

    def fingerprint(self) -> str:
        if self.revision:
            return f"{self.source}@{self.revision}"
        from foray.data.tokenizer import FILES
        from foray.model.hf import weight_files

        folder = self._local()
        beside = tokenizer_folder(folder, folder.parent)
        own = (folder / "config.json", folder / "generation_config.json")
        named = [f for f in (*own, *(beside / name for name in FILES)) if f.exists()]
        parts = [f"{f.name} {digest_of_input(f)}" for f in [*named, *weight_files(folder)]]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def shape(self) -> ModelConfig:
        """What a study's ``model`` must be; reads or fetches ``config.json`` alone."""
        from foray.model.hf_config import config_from_hf

        with self.opened("config.json") as (folder, _):
            return config_from_hf(folder)

    def at_hand(self) -> Path | None:
        """The folder of the checkpoint's ``config.json``; None where the file would have to be fetched."""
        if not self.revision:
            return self._local()
        from foray.data.repository import Repository

        return Repository(self.source, self.revision).cached("config.json")

    @contextmanager
    def opened(self, *only: str) -> Iterator[tuple[Path, Path]]:
        """The folders where the checkpoint's files and its tokenizer's lie, all or ``only`` some fetched if need be.

        A checkpoint without a tokenizer has the one of the folder above: a series may share one. Raises ValueError
        where files cannot be had; what is raised inside names a hub's revision, not where its files lie.
        """
        if not self.revision:
            folder = self._local()
            yield folder, tokenizer_folder(folder, folder.parent)
            return
        from foray.data.repository import Repository

        repository = Repository(self.source, self.revision)
        with repository.opened(only) if only else repository.opened() as folder:
            _check_config(folder, repository.name, lambda: repository.listing(folder)[0])
            if not only:
                _check_weights(repository, folder)
            yield folder, tokenizer_folder(folder, repository.top(folder))

    def _local(self) -> Path:
        folder = Path(self.root) / Path(self.source).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"there is no folder {folder}; a model of the hub is named with a revision, such as "
                f'("{self.source}", "main", tokens)'
            )
        _check_config(folder, str(folder), lambda: [f"{p.parent.name}/{p.name}" for p in folder.glob("*/*")])
        return folder


def tokenizer_folder(folder: Path, top: Path) -> Path:
    """The nearest folder with a tokenizer's files, from ``folder`` up to ``top``; ``folder`` itself where none has."""
    from foray.data.tokenizer import FILES

    ways = [folder, *(p for p in folder.parents if p.is_relative_to(top))]
    return next((p for p in ways if any((p / name).exists() for name in FILES)), folder)


def _check_config(folder: Path, name: str, listing: Callable[[], list[str]]) -> None:
    """Raises ValueError where there is no config.json; names the folders inside that have one."""
    if not (folder / "config.json").exists():
        inside = sorted(n.removesuffix("/config.json") for n in listing() if n.endswith("/config.json"))
        if inside:
            raise ValueError(f"{name} has no config.json, its folders have: write one behind it{nearest('', inside)}")


def _check_weights(repository: Repository, folder: Path) -> None:
    """Raises ValueError where no weights can be read. File names come from the hub, or from the local cache."""
    from foray.model.formats import other_format

    if any(folder.glob("*.safetensors")):
        return
    names, asked = repository.listing(folder)
    if other := other_format(n for n in names if "/" not in n) or other_format(names):
        raise ValueError(f"{repository.name} {other}")
    if not asked:
        raise ValueError(
            f"of {repository.name} the local cache has no weights (*.safetensors), and they cannot be fetched: is "
            "there a network, and is HF_HUB_OFFLINE unset?"
        )
    raise ValueError(f"{repository.name} has no weights (*.safetensors)")


def check_at_hand(release: Release, model: ModelConfig) -> None:
    """Raises ValueError as ``import_checkpoint`` does for another shape, if it is at hand. Nothing is fetched."""
    from foray.model.hf_config import config_from_hf

    folder = release.at_hand()
    if folder is None:
        return
    try:
        _check_shape(config_from_hf(folder), model, release)
    except ValueError as e:
        if release.revision and str(folder) in str(e):
            return  # a file of the cache cannot be read: the import says what fetches it again
        raise ValueError(f"import {release.name}: {e}") from None


def import_checkpoint(release: Release, model: ModelConfig, target: Path) -> None:
    """Writes ``target/model`` with the release's weights in fp32 and its tokenizer as it is.

    Raises ValueError where the release has another shape than ``model``, or a tokenizer that Foray cannot use.
    """
    from foray.data.tokenizer import load_tokenizer
    from foray.model import hf
    from foray.model.hf_config import config_from_hf
    from foray.train.checkpoint import save_checkpoint

    with release.opened() as (folder, beside):
        found = config_from_hf(folder)
        tokenizer = load_tokenizer(folder, beside)
        _check_shape(found, model, release)
        tokenizer.check_fits(found.vocab_size, release.name)
        _check_tokenizer(tokenizer, beside, release)
        loaded = hf.load_model(folder)
    loaded.config = replace(loaded.config, context=model.context)
    save_checkpoint(target, loaded, tokenizer)


def _check_shape(found: ModelConfig, model: ModelConfig, release: Release) -> None:
    require(
        model.context <= found.context,
        f"{release.name} was trained for {found.context} positions; the study's model.context is {model.context}",
    )
    names = [f.name for f in fields(ModelConfig) if f.name not in (*_NOT_IN_FILES, "context")]
    different = [
        f"{name} {getattr(found, name)!r}, not {getattr(model, name)!r}"
        for name in names
        if getattr(found, name) != getattr(model, name)
    ]
    if different:
        how = f'Release("{release.source}"' + (f', "{release.revision}"' if release.revision else "") + ").shape()"
        raise ValueError(f"{release.name} has {', '.join(different)} as the study's model says; write model={how}")


def _check_tokenizer(tokenizer: TextTokenizer, folder: Path, release: Release) -> None:
    """Raises ValueError where transformers makes other tokens of a prompt, if transformers is installed."""
    if tokenizer.files is None:
        return  # trained by Foray
    try:
        from transformers import AutoTokenizer

        theirs: list[int] = AutoTokenizer.from_pretrained(folder)(_PROBE)["input_ids"]
    except Exception:  # not installed, or it cannot load this one: then tokenizer.json is all there is to go by
        return
    ours = tokenizer.encode_prompt(_PROBE)
    if theirs[: len(ours)] == ours:
        return
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    raise ValueError(
        f"{release.name}: its tokenizer.json makes other tokens of a text than transformers does, first at token {at}: "
        f"{_spelled(tokenizer, ours[at : at + 3])}, and by transformers {_spelled(tokenizer, theirs[at : at + 3])}; "
        "save the tokenizer with transformers (AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)) and use that"
    )


def _spelled(tokenizer: TextTokenizer, ids: list[int]) -> str:
    return ", ".join(f"{i} {tokenizer.tokenizer.id_to_token(i)!r}" for i in ids) or "nothing more"
