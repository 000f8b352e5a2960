"""Checkpoints that somebody else trained, as M_t: from the Hugging Face hub, or from folders in its format.

``huggingface_hub`` and, for a check of the tokenizer, transformers are imported only when a checkpoint is fetched, and
torch only when one is read: a study is plain data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foray.core.files import digest_of_input
from foray.core.spec import nearest, require
from foray.model.config import ModelConfig

if TYPE_CHECKING:
    from foray.data.tokenizer import TextTokenizer

_WANTED = ["*.json", "*.safetensors", "*.model", "merges.txt", "*.jinja"]
_PROBE = "Question: naïve 東京 is 3 + 4 = 7?\n\nAnswer: don't"
_NOT_IN_FILES = ("init_std", "embed_std")  # of the shape's fields; how the weights began is history


@dataclass(frozen=True)
class Release:
    """A checkpoint: ``source`` is a hub id where there is a ``revision``, else a folder.

    A relative folder lies below ``root``, which the study fills in from its ``data.root`` when empty. The hash is of
    the folder's content, or of id and revision; a name that moves, as ``main`` does, is taken for one and the same.
    """

    source: str = field(metadata={"hash": False})
    revision: str = field(default="", metadata={"hash": False})
    root: str = field(default="", metadata={"hash": False})

    @property
    def name(self) -> str:
        return f"{self.source} at {self.revision}" if self.revision else self.source

    def libraries(self) -> tuple[str, ...]:
        return ("huggingface_hub",) if self.revision else ()

    def fingerprint(self) -> str:
        if self.revision:
            return f"{self.source}@{self.revision}"
        from foray.data.tokenizer import FILES
        from foray.model.hf import weight_files

        folder = self._local()
        named = [folder / name for name in ("config.json", *FILES) if (folder / name).exists()]
        parts = [f"{f.name} {digest_of_input(f)}" for f in [*named, *weight_files(folder)]]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def shape(self) -> ModelConfig:
        """What a study's ``model`` must be; reads or fetches ``config.json`` alone."""
        from foray.model.hf import config_from_hf

        only = ["config.json"]
        return config_from_hf(_fetched(self.source, self.revision, only) if self.revision else self._local())

    def folder(self) -> Path:
        """Where all files of the checkpoint lie, fetched if need be. Raises ValueError where they cannot be had."""
        return _fetched(self.source, self.revision, _WANTED) if self.revision else self._local()

    def _local(self) -> Path:
        folder = Path(self.root) / Path(self.source).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"there is no folder {folder}; a model of the hub is named with a revision, such as "
                f'("{self.source}", "main", tokens)'
            )
        return folder


def import_checkpoint(release: Release, model: ModelConfig, target: Path) -> None:
    """Writes ``target/model`` with the release's weights in fp32 and its tokenizer as it is.

    Raises ValueError where the release has another shape than ``model``, or a tokenizer that Foray cannot use.
    """
    from foray.data.tokenizer import load_tokenizer
    from foray.model import hf
    from foray.train.checkpoint import save_checkpoint

    folder = release.folder()
    tokenizer = load_tokenizer(folder)
    found = hf.config_from_hf(folder)
    _check_shape(found, model, release)
    require(
        tokenizer.vocab_size <= found.vocab_size,
        f"{release.name}: its tokenizer has {tokenizer.vocab_size} entries, more than the model's {found.vocab_size}",
    )
    _check_tokenizer(tokenizer, folder, release)
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
    """A prompt must be what the model's own tokenizer makes of it, where transformers is there to ask."""
    if tokenizer.files is None:
        return  # trained by Foray
    try:
        from transformers import AutoTokenizer

        theirs: list[int] = AutoTokenizer.from_pretrained(folder)(_PROBE)["input_ids"]
    except Exception:  # not installed, or it cannot load this one: then tokenizer.json is all there is to go by
        return
    ours = tokenizer.encode_prompt(_PROBE)
    require(
        theirs[: len(ours)] == ours,
        f"{release.name}: its tokenizer.json makes other tokens of a text than transformers does "
        f"(first ones {ours[:3]} and {theirs[:3]})",
    )


def _fetched(source: str, revision: str, patterns: list[str]) -> Path:
    """The folder of a hub revision's files in the local cache, downloaded where they are missing."""
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError:
        raise ValueError(f"{source} is to come from the hub, which needs pip install 'foray[hub]'") from None
    hub.utils.disable_progress_bars()
    try:
        # Folders inside hold the same weights for other programs.
        return Path(hub.snapshot_download(source, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"]))
    except errors.HFValidationError:
        raise ValueError(f"{source!r} is no hub id: write ORGANISATION/NAME, or a folder and no revision") from None
    except errors.GatedRepoError:
        page = f"https://huggingface.co/{source}"
        raise ValueError(f"{source} is gated: accept its terms at {page}, then log in with `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"{source} has no revision {revision!r}{_nearest_revision(hub, source, revision)}") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(f"the hub has no model {source} that you may see; if it is private, `hf auth login`") from None
    except Exception as e:  # what the client uses for transport has errors of its own, by version
        why = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ValueError(
            f"{source} at {revision} is not in the local cache and cannot be fetched: is there a network, and is "
            f"HF_HUB_OFFLINE unset? ({why})"
        ) from None


def _nearest_revision(hub: Any, source: str, revision: str) -> str:
    try:
        names = [ref.name for ref in hub.list_repo_refs(source).branches]
    except Exception:  # as above; the names would only have been a help
        return ""
    return nearest(revision, names)
