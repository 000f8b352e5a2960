"""A pre-training corpus made ready: text tokenised once, in parallel, into shards that studies read as they are.

A mix is sources with shares of a budget of tokens. Every source is cut into parts (byte ranges of JSON Lines, files,
row groups of Parquet, shards of a data set on the hub), a part becomes one file of tokens, and a source is its parts
in order up to its share. So the result does not depend on the number of workers, a killed run goes on behind its last
whole part, and memory is that of a batch of documents however large the corpus.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import io
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from foray.core.files import digest, read_json, write_atomic
from foray.core.spec import content_hash, nearest, override, require
from foray.data.corpus import Prepared
from foray.data.hub import datasets_library, loaded
from foray.data.tokenizer import TextTokenizer, load_tokenizer

PART_BYTES = 64 << 20  # of text a part, about
_DOCUMENTS = 256  # tokenised together
_LINES = (".jsonl", ".ndjson")
_PACKED = (".gz", ".zst")  # of JSON Lines, whatever stands before: .json.gz, .jsonl.zst


@dataclass(frozen=True)
class Text:
    """Documents in one ``column``: files below ``root`` that match ``path``, a glob (JSON Lines, also compressed;
    Parquet; plain text, a document a file), or a data set on the hub (``hub``, ``config``, ``revision``, files that
    match ``path``).

    Every ``holdout``-th document is kept for validation (0: none).
    """

    name: str
    path: str = ""
    hub: str = ""
    config: str = ""
    revision: str = "main"
    split: str = "train"
    column: str = "text"
    holdout: int = 1000
    root: str = field(default="", metadata={"hash": False})

    def __post_init__(self) -> None:
        require(bool(self.path or self.hub), f"source {self.name}: give a path of local files or a hub data set")
        require(self.holdout == 0 or self.holdout > 1, f"source {self.name}: holdout must be 0 or at least 2")


@dataclass(frozen=True)
class Mix:
    """Sources by their share of ``tokens``; shares need not sum to 1. ``tokenizer`` is a folder or a hub id."""

    name: str
    tokenizer: str
    tokens: int
    sources: tuple[tuple[float, Text], ...]

    def __post_init__(self) -> None:
        require(self.tokens > 0, "tokens must be positive")
        require(bool(self.sources), "a mix needs at least one source")
        names = [s.name for _, s in self.sources]
        require(len(set(names)) == len(names), f"two sources share a name: {', '.join(names)}")
        require(all(w > 0 for w, _ in self.sources), "shares must be positive")

    def budget(self, name: str) -> int:
        """Tokens of a source."""
        total = sum(w for w, _ in self.sources)
        return round(self.tokens * next(w for w, s in self.sources if s.name == name) / total)


class Part(NamedTuple):
    """A piece of a source that one worker tokenises: ``start`` to ``end`` in bytes, row groups or hub shards."""

    kind: str  # lines, table, document, hub
    place: str
    start: int
    end: int


def bundled_mixes() -> list[str]:
    folder = Path(__file__).parent.parent / "mixes"
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def load_mix(name: str, settings: list[str] | None = None) -> Mix:
    """A bundled mix by name, or the one that a ``.py`` file's ``mix()`` returns, with ``--set`` settings applied."""
    if name.endswith(".py") or "/" in name:
        require(Path(name).exists(), f"there is no mix file {name}")
        spec = importlib.util.spec_from_file_location(f"foray_mix_{Path(name).stem}", name)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        require(name in bundled_mixes(), f"there is no mix {name!r}{nearest(name, bundled_mixes())}")
        module = importlib.import_module(f"foray.mixes.{name}")
    make = getattr(module, "mix", None)
    made = make() if callable(make) else None
    if not isinstance(made, Mix):
        raise ValueError(f"{name}: a mix file defines a function mix() that returns a foray.data.prepare.Mix")
    return override(made, *(settings or []))


def mixture(mix: Mix, folder: str, root: str = "") -> tuple[tuple[float, Prepared], ...]:
    """What a study's corpus draws from: the mix, prepared in ``folder``."""
    return tuple((weight, Prepared(source.name, folder, root)) for weight, source in mix.sources)


def prepare(mix: Mix, out: Path, jobs: int, say: Callable[[str], None] = print) -> Path:
    """Makes the corpus, or goes on making it; returns ``out/index.json``, written last.

    Raises ValueError for a folder that holds another mix, and naming file and line for what cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    wanted = {"mix": content_hash(mix), "name": mix.name}
    if (out / "mix.json").exists():
        found = read_json(out / "mix.json")
        require(found == wanted, f"{out} holds another mix ({found.get('name')}); name another --out")
    write_atomic(out / "mix.json", json.dumps(wanted) + "\n")
    tokenizer = _tokenizer(mix.tokenizer)
    (out / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(out / "tokenizer", 1 << 20)
    context = multiprocessing.get_context("fork")
    sources = []
    with context.Pool(jobs, _start, (tokenizer,)) as pool:
        for _, source in mix.sources:
            sources.append(_source(source, mix.budget(source.name), out / source.name, pool, say))
    index = {**wanted, "tokens": sum(s["tokens"] for s in sources), "tokenizer": _fingerprint(out / "tokenizer")}
    index["sources"] = sources
    index["fingerprint"] = content_hash(index)
    write_atomic(out / "index.json", json.dumps(index, indent=1) + "\n")
    return out / "index.json"


def _source(source: Text, budget: int, folder: Path, pool: Any, say: Callable[[str], None]) -> dict[str, Any]:
    """All parts of one source that its budget needs, in order; a little more is tokenised than is used."""
    folder.mkdir(exist_ok=True)
    begun, size, files = time.monotonic(), 0, list[dict[str, Any]]()

    def taken() -> int:
        return sum(f["used"] for f in files)

    work = ((source, part, folder / f"{number:05d}") for number, part in enumerate(parts(source)))
    for done in _until(pool, work, lambda: taken() >= budget):
        files.append({**done, "used": min(done["tokens"], budget - taken())})
        size += done["bytes"]
        rate = size / 1e6 / max(1e-9, time.monotonic() - begun)
        say(f"{source.name}: {taken():,} of {budget:,} tokens, {size / 1e6:,.0f} MB of text, {rate:.1f} MB/s")
    require(taken() > 0, f"source {source.name} holds no text")
    if taken() < budget:
        missing = budget - taken()
        say(f"{source.name}: all of it is {taken():,} tokens, {missing:,} fewer than its share: to be repeated")
    return {"name": source.name, "tokens": taken(), "validation": sum(f["validation"] for f in files), "files": files}


def _until(pool: Any, work: Iterator[Any], enough: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Results in order; as many are under way as there are workers, and none is begun when there is enough."""
    waiting: list[Any] = []
    for item in work:
        waiting.append(pool.apply_async(_tokenise, item))
        if len(waiting) > pool._processes:
            yield waiting.pop(0).get()
        if enough():
            break
    while waiting and not enough():
        yield waiting.pop(0).get()


_WORKER: dict[str, TextTokenizer] = {}  # what a forked worker was started with


def _start(tokenizer: TextTokenizer) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the pool is the parallelism
    _WORKER["tokenizer"] = tokenizer


def _tokenise(source: Text, part: Part, stem: Path) -> dict[str, Any]:
    """One part's tokens in ``stem.bin`` and ``stem.validation.bin``; ``stem.json``, written last, describes them."""
    said = stem.with_suffix(".json")
    if said.exists():
        return read_json(said)
    tokenizer = _WORKER["tokenizer"]
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    counts = {"tokens": 0, "validation": 0, "documents": 0, "bytes": 0}
    paths = {"tokens": stem.with_suffix(".bin"), "validation": stem.with_suffix(".validation.bin")}
    texts = documents(source, part)
    with open(paths["tokens"], "wb") as train, open(paths["validation"], "wb") as held:
        while batch := list(islice(texts, _DOCUMENTS)):
            for text, ids in zip(batch, tokenizer.encode_batch(batch)):
                counts["documents"] += 1
                counts["bytes"] += len(text.encode())
                kept = bool(source.holdout) and counts["documents"] % source.holdout == 0
                row = np.array([*tokenizer.separator, *ids], dtype=dtype)
                (held if kept else train).write(row.tobytes())
                counts["validation" if kept else "tokens"] += len(row)
    facts = {"stem": stem.name, "part": list(part), "dtype": np.dtype(dtype).name, **counts}
    facts |= {f"sha256_{name}": digest(path) for name, path in paths.items()}
    write_atomic(said, json.dumps(facts) + "\n")
    return facts


def parts(source: Text) -> Iterator[Part]:
    """The pieces of a source, always the same and in the same order."""
    if source.hub:
        for number in range(_hub(source).num_shards):
            yield Part("hub", source.hub, number, number + 1)
        return
    root = Path(source.root)
    files = sorted(p for p in root.glob(source.path) if p.is_file()) if not Path(source.path).is_absolute() else [
        Path(source.path)
    ]  # fmt: skip
    require(bool(files) and files[0].exists(), f"source {source.name}: no file matches {root / source.path}")
    for file in files:
        if file.suffix in _LINES:
            size = file.stat().st_size
            for start in range(0, size, PART_BYTES):
                yield Part("lines", str(file), start, min(start + PART_BYTES, size))
        elif file.suffix in _PACKED:
            yield Part("lines", str(file), 0, 1 << 62)  # cannot be entered in the middle
        elif file.suffix == ".parquet":
            groups = _parquet(file).num_row_groups
            for group in range(groups):
                yield Part("table", str(file), group, group + 1)
        else:
            yield Part("document", str(file), 0, file.stat().st_size)


def documents(source: Text, part: Part) -> Iterator[str]:
    """The texts of a part. Raises ValueError naming the file and the line, or row, that has none."""
    if part.kind == "document":
        try:
            yield Path(part.place).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{part.place}: not UTF-8 text") from None
    elif part.kind == "lines":
        yield from _lines(source, part)
    elif part.kind == "table":
        table = _parquet(Path(part.place))
        if source.column not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names)
            raise ValueError(f"{part.place}: no column {source.column!r} (it has {names})")
        for batch in table.iter_batches(_DOCUMENTS, [part.start], [source.column]):
            yield from (text for text in batch.column(0).to_pylist() if isinstance(text, str))
    else:
        for row in _hub(source).shard(num_shards=_hub(source).num_shards, index=part.start):
            if not isinstance(row.get(source.column), str):
                raise ValueError(f"{source.hub}: no text in column {source.column!r} (it has {', '.join(row)})")
            yield row[source.column]


def _lines(source: Text, part: Part) -> Iterator[str]:
    """Of the lines that begin within the part's bytes."""
    with _opened(Path(part.place)) as f:
        if part.start:
            f.seek(part.start - 1)
            f.readline()  # the rest of a line that began before, or the line end just before this part
        while (at := f.tell()) < part.end and (line := f.readline()):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                text = row[source.column] if isinstance(row, dict) else None
            except (ValueError, KeyError, RecursionError):
                text = None
            if not isinstance(text, str):
                number = _line_number(part.place, at)
                raise ValueError(f"{part.place}, line {number}: no JSON object with text in column {source.column!r}")
            yield text


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file of lines, unpacked as it is read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                yield packed  # type: ignore[misc]
        elif path.suffix == ".zst":
            try:
                zstandard = importlib.import_module("zstandard")
            except ImportError:
                raise ValueError(f"{path}: reading .zst needs the library zstandard: pip install zstandard") from None
            with zstandard.open(path, "rb") as packed:
                yield io.BufferedReader(packed)
        else:
            with open(path, "rb") as plain:
                yield plain
    except (gzip.BadGzipFile, EOFError) as e:
        raise ValueError(f"{path}: damaged ({e})") from None


def _line_number(path: str, offset: int) -> int:
    with _opened(Path(path)) as f:
        number = 1
        while offset > 0 and (block := f.read(min(offset, 1 << 20))):
            number += block.count(b"\n")
            offset -= len(block)
    return number


def _parquet(path: Path) -> Any:
    try:
        pq = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError("reading Parquet needs pyarrow: pip install 'foray[evals]'") from None
    try:
        return pq.ParquetFile(path)
    except Exception as e:  # pyarrow's own kinds, none of them narrower than this
        raise ValueError(f"{path}: not a Parquet file ({e})") from None


def _hub(source: Text) -> Any:
    """The data set as a stream, opened anew in every worker."""
    files = {"data_files": source.path} if source.path else {}
    return loaded(
        f"source {source.name} ({source.hub})", datasets_library().load_dataset, source.hub, source.config or None,
        split=source.split, revision=source.revision, streaming=True, **files,
    )  # fmt: skip


def _tokenizer(name: str) -> TextTokenizer:
    """Of a local folder, or of a model on the hub."""
    if Path(name).is_dir():
        return load_tokenizer(Path(name))
    try:
        hub = importlib.import_module("huggingface_hub")
        files = ["*token*", "*.model", "vocab*", "merges*"]
        return load_tokenizer(Path(hub.snapshot_download(name, allow_patterns=files)))
    except ValueError:
        raise
    except Exception as e:
        words = " ".join(str(e).split())[:200] or type(e).__name__
        raise ValueError(f"tokenizer {name}: neither a folder nor to be had from the hub ({words})") from None


def _fingerprint(folder: Path) -> str:
    return content_hash({p.name: digest(p) for p in sorted(folder.iterdir()) if p.is_file()})
