"""Rows of data sets by local path or by Hugging Face hub id, each with words for where it came from.

A source is a file or folder below a task's ``root``, or ``OWNER/NAME``, ``OWNER/NAME:CONFIG``, ``OWNER/NAME@REVISION``
on the hub (``:*`` for all configurations in turn). The library ``datasets`` is imported only where it is needed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from foray.core.files import digest_of_input
from foray.core.libraries import require_installed
from foray.core.rng import key
from foray.core.task import Problem, Split
from foray.core.untrusted import ordinary
from foray.data.corpus import WHERE_DATA_LIES
from foray.data.hub import datasets_library, loaded
from foray.data.rows import flaw, place, rows_of
from foray.data.unpacking import PACKED, kind_of

Row = tuple[str, dict[str, Any]]

_HUB = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<config>[\w.*-]+))?(?:@(?P<revision>[\w./-]+))?")
_TABLES = {".parquet": "parquet", ".arrow": "arrow"}  # which the library reads
_FILES = (".jsonl", ".ndjson", ".json", ".txt", ".csv", ".tsv", *_TABLES, *PACKED)


def rows(root: str, source: str, split: str) -> Iterator[Row]:
    """Every row, in order. ``split`` matters on the hub and in folders that hold several.

    Raises ValueError naming what is missing or broken, with file and line where there are such.
    """
    path = Path(root) / source
    hub = _hub(source)
    if path.is_dir():
        yield from _folder(path, split)
    elif path.exists() or hub is None:
        yield from _file(existing(path))
    else:
        yield from _from_hub(source, hub, split)


def fingerprint(root: str, source: str) -> str:
    """A string that changes when the data does: digests of local files, the commit of a data set on the hub."""
    path = Path(root) / source
    hub = _hub(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        parts = "".join(f"{p.relative_to(path)} {digest_of_input(p)}\n" for p in files)
        return hashlib.sha256(parts.encode()).hexdigest()
    if path.exists() or hub is None:
        return digest_of_input(existing(path))
    return f"{hub['name']}:{hub['config'] or ''}@{_commit(hub['name'], hub['revision'] or 'main')}"


def libraries(root: str, *names: str) -> tuple[str, ...]:
    """What reading the sources needs: nothing beside Foray's own for JSON files."""
    return ("datasets",) if any(_by_datasets(root, source) for source in names) else ()


def _by_datasets(root: str, source: str) -> bool:
    path = Path(root) / source
    if path.is_dir():
        return not any(path.rglob("*.json")) or any(p.suffix in _TABLES for p in path.rglob("*"))
    return path.suffix in _TABLES or (not path.exists() and _hub(source) is not None)


def stamp(root: str, source: str) -> tuple[str, str, int]:
    """What tells whether a source has changed since it was read: for caches, never for results."""
    path = Path(root) / source
    if path.is_dir():
        return root, source, max((p.stat().st_mtime_ns for p in path.rglob("*")), default=0)
    return root, source, path.stat().st_mtime_ns if path.exists() else 0


def existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path} does not exist; {WHERE_DATA_LIES}")
    return path


def text_of(where: str, row: dict[str, Any], *columns: str) -> str:
    """The text of the first of the columns that is there. Raises ValueError naming the row and the columns."""
    for column in columns:
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            if words := flaw(value, column):
                raise ValueError(f"{where}: {words}")
            return value.strip()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    raise ValueError(f"{where}: expected the field {' or '.join(columns)} with text in it")


def plain(question: str) -> str:
    """A question without what does not make it another one: case and spaces."""
    return " ".join(question.split()).casefold()


def held_out(question: str) -> bool:
    """Whether a training question is kept for validation: a tenth, by its text, the same in every data set.

    So a GSM8K question that is validation in ``gsm8k`` is validation in OpenMathInstruct too.
    """
    return key("gsm8k validation", question.strip()) % 10 == 0


def carved(train: Sequence[Problem], test: Sequence[Problem], split: Split) -> list[Problem]:
    """The training questions that are not held out, or those that are. None that the test has is among either.

    Two spellings of a question (spaces, capitals) fall on the same side.
    """
    tested = {plain(p.question) for p in test}
    side: dict[str, bool] = {}
    chosen = []
    for p in train:
        name = plain(p.question)
        if name not in tested and side.setdefault(name, held_out(p.question)) == (split == "validation"):
            chosen.append(p)
    return chosen


def once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The first problem of every question."""
    first: dict[str, Problem] = {}
    for p in problems:
        first.setdefault(plain(p.question), p)
    return tuple(first.values())


def _hub(source: str) -> re.Match[str] | None:
    return None if source.endswith(_FILES) else _HUB.fullmatch(source)


def _file(path: Path) -> Iterator[Row]:
    ordinary(path)
    if path.suffix in _TABLES:
        library = datasets_library()
        kind, settings = _TABLES[path.suffix], {"data_files": str(path), "split": "train", "streaming": True}
        read = loaded(str(path), library.load_dataset, kind, **settings)
        yield from _numbered(f"{path}, row", _guarded(str(path), read))
    else:
        kind = kind_of(path, otherwise="jsonl")
        for number, row, wrong in rows_of(path, kind):
            where = place(path, kind, number)
            if wrong:
                raise ValueError(f"{where}: {wrong}")
            yield _row(where, row)


def _folder(path: Path, split: str) -> Iterator[Row]:
    """A folder of one JSON file a problem (as MATH was published), one saved by ``datasets``, or one as on the hub."""
    saved = [path / name for name in ("dataset_dict.json", "state.json") if (path / name).exists()]
    files = sorted(path.rglob("*.json"), key=_natural)
    others = [p for p in path.rglob("*") if p.is_file() and p.suffix in (".jsonl", ".csv", ".tsv", *_TABLES)]
    if files and not saved and not others:
        for file in files:
            yield from _file(file)
        return
    library = datasets_library()
    if saved:
        read = loaded(str(path), library.load_from_disk, str(path))
        if saved[0].name == "dataset_dict.json":
            if split not in read:
                raise ValueError(f"{path} has no split {split!r} (it has {', '.join(read)})")
            read = read[split]
    else:
        read = loaded(str(path), library.load_dataset, str(path), split=split)
    yield from _numbered(f"{path}, row", read)


def _from_hub(source: str, hub: re.Match[str], split: str) -> Iterator[Row]:
    library = datasets_library()
    name, revision = hub["name"], hub["revision"]
    configs = [hub["config"]]
    if hub["config"] == "*":
        configs = sorted(loaded(source, library.get_dataset_config_names, name, revision=revision))
    for config in configs:
        read = loaded(source, library.load_dataset, name, config, split=split, revision=revision)
        yield from _numbered(f"{name}{f':{config}' if config else ''} on the hub, split {split}, row", read)


def _guarded(source: str, read: Any) -> Iterator[Any]:
    iterator = iter(read)
    while True:
        row = loaded(source, next, iterator, None)
        if row is None:
            return
        yield row


def _numbered(where: str, read: Any) -> Iterator[Row]:
    for number, row in enumerate(read, 1):
        yield _row(f"{where} {number}", row)


def _row(where: str, row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected an object with named fields")
    return where, row


@lru_cache(maxsize=64)
def _commit(name: str, revision: str) -> str:
    """The commit that a revision of a data set stands for: asked of the hub, else of what was downloaded before."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    require_installed(("huggingface_hub",), f"{name} on the hub")
    from huggingface_hub import HfApi, constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
    try:
        return str(loaded(name, HfApi().dataset_info, name, revision=revision).sha)
    except ValueError:
        if (folder / revision).is_file():
            return (folder / revision).read_text(encoding="ascii").strip()
        raise


def _natural(path: Path) -> list[Any]:
    """Files in the order of their numbers: 2.json before 10.json."""
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.split(r"(\d+)", str(path)) if p]
