"""The Hugging Face hub: its client, the library ``datasets`` and data sets by their ids.

Both libraries are imported only where they are needed. Every failure is one line.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from foray.core.files import write_atomic
from foray.core.libraries import require_installed

_ID = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<config>[\w.*-]+))?(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def client() -> Any:
    """The library ``huggingface_hub``, quiet. Raises ValueError naming the extra that has it."""
    try:
        import huggingface_hub
        from huggingface_hub.utils import disable_progress_bars  # the package's import does not bring it
    except ImportError:
        raise ValueError("models of the hub need the hub's client: pip install -e '.[hub]' in Foray's folder") from None
    disable_progress_bars()
    return huggingface_hub


def datasets_library() -> Any:
    """The library ``datasets``, quiet. Raises ValueError naming the extra that has it."""
    if importlib.util.find_spec("datasets") is None:
        raise ValueError("reading this needs the library datasets: pip install -e '.[data]' in Foray's folder")
    import datasets

    datasets.disable_progress_bars()  # the library's bars would run across Foray's
    datasets.logging.set_verbosity_error()  # a warning before an error would be a second line
    return datasets


def loaded(source: str, load: Any, *arguments: Any, **settings: Any) -> Any:
    """The library's answer. Raises ValueError if anything is wrong with an id, the network, a token or a file."""
    try:
        return load(*arguments, **settings)
    except Exception as e:  # the library and its dependencies raise many kinds of exceptions
        words = " ".join(str(e).split())[:200] or type(e).__name__
        raise ValueError(
            f"{source}: the data set could not be loaded ({type(e).__name__}: {words}); check the name, the network "
            "and, for gated data, `hf auth login`, or give the path of a local copy"
        ) from None


@dataclass(frozen=True)
class DataSet:
    """A data set on the hub. ``id`` is OWNER/NAME. The configuration ``*`` stands for all of them in turn."""

    id: str
    config: str = ""
    revision: str = ""

    @classmethod
    def named(cls, text: str) -> DataSet | None:
        """OWNER/NAME, OWNER/NAME:CONFIG or OWNER/NAME@REVISION; None for any other text."""
        found = _ID.fullmatch(text)
        return found and cls(found["name"], found["config"] or "", found["revision"] or "")

    def configs(self, who: str) -> Sequence[str]:
        """The configurations by name. ``who`` asks: a word for errors."""
        if self.config != "*":
            return (self.config,)
        return sorted(loaded(who, datasets_library().get_dataset_config_names, self.id, revision=self.commit()))

    def rows(self, who: str, config: str, split: str, **settings: Any) -> Any:
        """The rows of a split, as the library gives them, of the commit that ``commit`` names: keys hold that one.

        Raises ValueError where the library, without a network, takes rows of another commit from its cache.
        """
        library, commit = datasets_library(), self.commit()
        asked = {"split": split, "revision": commit, **settings}
        read = loaded(who, library.load_dataset, self.id, config or None, **asked)
        for other in _commits_of(read) - {commit}:
            raise ValueError(
                f"{who}: the local cache has the rows of commit {other[:12]}, and {self.revision or 'main'} of "
                f"{self.id} is commit {commit[:12]}: run once with a network, or ask for the revision {other}"
            )
        self._note(commit)
        return read

    def _note(self, commit: str) -> None:
        """Keeps the commit of a branch, for ``commit`` without a network.

        The library keeps it where it is asked for the branch, and here it is asked for the commit. Its own ``refs``
        stay as they are: they name what it has files of.
        """
        if commit == self.revision:
            return
        with contextlib.suppress(OSError):  # a cache that is read only
            noted, _ = _known(self.id, self.revision or "main")
            noted.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(noted, commit)

    def commit(self) -> str:
        """The commit that the revision stands for, by the hub, or else by an earlier download."""
        return _commit(self.id, self.revision or "main")


@lru_cache(maxsize=64)
def _commit(name: str, revision: str) -> str:
    if _COMMIT.fullmatch(revision):
        return revision
    require_installed(("huggingface_hub",), f"{name} on the hub")
    from huggingface_hub import HfApi

    try:
        return str(loaded(name, HfApi().dataset_info, name, revision=revision).sha)
    except ValueError:
        known = [file for file in _known(name, revision) if file.is_file()]
        if not known:
            raise
        return max(known, key=lambda file: file.stat().st_mtime_ns).read_text(encoding="ascii").strip()


def _known(name: str, revision: str) -> tuple[Path, Path]:
    """The files that say which commit a branch was when it was last read: Foray's note, and that of the hub's cache."""
    from huggingface_hub import constants

    cache, folder = Path(constants.HF_HUB_CACHE), f"datasets--{name.replace('/', '--')}"
    return cache.parent / "foray" / folder / revision, cache / folder / "refs" / revision


def _commits_of(read: Any) -> set[str]:
    """The commits that rows in the library's cache are of: their folders are named so. Empty for a stream."""
    folders = (Path(file["filename"]).parent.name for file in getattr(read, "cache_files", ()))
    return {folder for folder in folders if _COMMIT.fullmatch(folder)}
