"""A model's files on the Hugging Face hub, in the local cache. Every failure is one line that names the model.

``huggingface_hub`` is imported only when something is fetched.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from foray.core.canonical import nearest, require
from foray.data.hub import client
from foray.data.tokenizer import FILES

_WANTED = ("*.json", "*.safetensors", "*.model", "merges.txt", "*.jinja")


@dataclass(frozen=True)
class Repository:
    """``path`` is a hub id, ORGANISATION/NAME, or a folder inside that repository, ORGANISATION/NAME/FOLDER."""

    path: str
    revision: str

    @property
    def id(self) -> str:
        return "/".join(self._parts[:2])

    @property
    def inside(self) -> str:
        """The folder inside the repository, or an empty text."""
        return "/".join(self._parts[2:])

    @property
    def _parts(self) -> list[str]:
        return [part for part in self.path.split("/") if part]

    @property
    def root(self) -> str:
        return f"{self.id}@{self.revision}"

    @property
    def name(self) -> str:
        return f"{self.root}/{self.inside}" if self.inside else self.root

    @contextmanager
    def opened(self, wanted: Sequence[str] = _WANTED) -> Iterator[Path]:
        """The folder with its files, and with the tokenizers of the folders above. Missing files are fetched.

        Raises ValueError if files cannot be fetched. An error raised inside the context names the model and not the
        cache.
        """
        snapshot = self._fetched(wanted)
        try:
            folder = snapshot / self.inside
            if not folder.is_dir():
                names, asked = Repository(self.id, self.revision).listing(snapshot)
                there = dict.fromkeys(str(p) for n in names for p in PurePosixPath(n).parents if p.name)
                where = "" if asked else " in the local cache, and the hub cannot be asked"
                raise ValueError(f"{self.root} has no folder {self.inside!r}{where}{nearest(self.inside, there)}")
            yield folder
        except (ValueError, OSError) as e:
            if str(snapshot) not in str(e):
                raise
            raise ValueError(self._in_words(str(e).replace(str(snapshot), self.root))) from None

    def top(self, folder: Path) -> Path:
        """The folder of the whole snapshot that the opened ``folder`` lies in."""
        return [folder, *folder.parents][len(self._parts[2:])]

    def cached(self, name: str) -> Path | None:
        """The folder in the local cache that holds the file ``name``; None where it is not there. Asks no hub."""
        try:
            file = str(PurePosixPath(self.inside) / name)
            found = client().try_to_load_from_cache(self.id, file, revision=self.revision)
        except ValueError:  # no client, or no hub id: whoever fetches says so
            return None
        return Path(found).parent if isinstance(found, str) else None

    def listing(self, folder: Path) -> tuple[list[str], bool]:
        """Paths in the opened folder, and whether they are from the hub: else they are from the local cache."""
        try:
            names, asked = client().list_repo_files(self.id, revision=self.revision), True
        except Exception:  # mostly no network; the client's transport has errors of its own
            names = [p.relative_to(self.top(folder)).as_posix() for p in sorted(self.top(folder).rglob("*"))]
            asked = False
        begin = f"{self.inside}/" if self.inside else ""
        return [n.removeprefix(begin) for n in names if n.startswith(begin)], asked

    def _in_words(self, text: str) -> str:
        again = f"`hf download {self.id} --revision {self.revision} --force-download` fetches it again"
        return f"{text}; {again}" if "is damaged" in text or "is missing" in text else text

    def _patterns(self, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
        """Patterns to fetch and patterns to leave out.

        Folders below hold the same weights for other programs, or other models.
        """
        if not self.inside:
            return list(wanted), ["*/*"]
        parts = PurePosixPath(glob.escape(self.inside))
        above = [p / name for p in parts.parents for name in FILES]
        return [str(parts / w) for w in wanted] + [str(a) for a in above], [str(parts / "*" / "*")]

    def _fetched(self, wanted: Sequence[str]) -> Path:
        """The folder of the revision's snapshot in the local cache."""
        hub = client()
        from huggingface_hub import errors

        require(not {".", ".."} & set(self._parts), f"{self.path!r} is no hub id, nor a folder inside a repository")
        page = f"https://huggingface.co/{self.id}"
        allowed, ignored = self._patterns(wanted)
        try:
            return Path(
                hub.snapshot_download(self.id, revision=self.revision, allow_patterns=allowed, ignore_patterns=ignored)
            )
        except errors.HFValidationError:
            raise ValueError(
                f"{self.path!r} is no hub id: write ORGANISATION/NAME, or a folder and no revision"
            ) from None
        except errors.GatedRepoError:
            raise ValueError(
                f"{self.name} is gated: accept its terms at {page}, then log in with `hf auth login`"
            ) from None
        except errors.RevisionNotFoundError:
            raise ValueError(
                f"{self.id} has no revision {self.revision!r}{self._nearest_revision()} ({self.name}: it may have been "
                "renamed or deleted)"
            ) from None
        except errors.RepositoryNotFoundError:
            raise ValueError(
                f"the hub has no model {self.id} that you may see ({self.name}): it may have been renamed or deleted; "
                f"if it is private, `hf auth login`"
            ) from None
        except Exception as e:  # the client's transport has errors of its own, by version
            raise ValueError(self._unreachable(e, errors.HfHubHTTPError, page)) from None

    def _unreachable(self, error: Exception, answered: type[Exception], page: str) -> str:
        text = _first_line(error)
        for e in (error, error.__cause__):
            if isinstance(e, answered):
                return (
                    f"{self.name} is not in the local cache and cannot be fetched: the hub refuses ({_first_line(e)}); "
                    f"see {page} for whether it was moved or closed"
                )
        return (
            f"{self.name} is not in the local cache and cannot be fetched: is there a network, and is "
            f"HF_HUB_OFFLINE unset? ({text})"
        )

    def _nearest_revision(self) -> str:
        try:
            refs = client().list_repo_refs(self.id)
            names = [ref.name for kind in ("branches", "tags") for ref in getattr(refs, kind, ())]
        except Exception:  # as above; the names would only help the user
            return ""
        return nearest(self.revision, names)


def _first_line(error: Exception) -> str:
    """The first line of an error, without the place of the cache."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    from huggingface_hub import constants

    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].replace(str(constants.HF_HUB_CACHE), "the hub's cache")
