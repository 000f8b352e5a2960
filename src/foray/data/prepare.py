"""A pre-training corpus: text, tokenized once and in parallel into shards that studies read without a copy.

A mix is sources with shares of a budget of tokens. Every source is cut into parts: byte ranges of JSON Lines, files,
row groups of Parquet, shards of a data set on the hub. A part becomes one file of tokens. A source is its parts in
order up to its share, so the result does not depend on the number of workers. A killed run goes on after its last whole
part if the files are unchanged. Memory is that of a batch of documents, whatever the size of the corpus.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from foray.core.canonical import check_name, check_vocabulary, content_hash, fill_root, require
from foray.core.cores import cores, use_threads
from foray.core.field_types import require_types
from foray.core.files import alone_in, digest, read_object, replace_folder, require_own, write_atomic, writing
from foray.core.override import override
from foray.core.process import die_with_parent, panics_named, uninterrupted
from foray.core.userfile import load
from foray.data.prepared import Prepared, TokenKind, damage, tokenizer_digest
from foray.data.repository import Repository
from foray.data.rows import Skipped
from foray.data.text import TextPart, documents, origin, parts
from foray.data.text_source import TextSource, all_broken, no_documents, sample_texts, skips
from foray.data.tokenizer import FILES, TextTokenizer, load_tokenizer, train_tokenizer

_DOCUMENTS = 256  # tokenized together


@dataclass(frozen=True)
class OwnTokenizer:
    """A tokenizer of at most ``vocab_size`` entries, trained on about ``characters`` of the mix itself. Numbers up to
    ``whole_numbers`` are single tokens.
    """

    vocab_size: int
    characters: int
    whole_numbers: int = 0

    def __post_init__(self) -> None:
        require_types(self)
        check_vocabulary(self.vocab_size, self.whole_numbers)


@dataclass(frozen=True)
class Mix:
    """Sources by their share of ``tokens``; shares need not sum to 1.

    ``tokenizer`` is a folder, a hub id, or a tokenizer to train. Workers share the parts of a ``Text``. One worker
    reads any other source of a study's text.
    """

    name: str  # the name of the mix
    tokenizer: str | OwnTokenizer
    tokens: int
    sources: tuple[tuple[float, TextSource], ...]  # shares and sources

    def __post_init__(self) -> None:
        require_types(self)
        require(self.tokens > 0, "tokens must be positive")
        require(bool(self.sources), "a mix needs at least one source")
        names = [s.name for _, s in self.sources]
        for name in names:
            check_name(name, "a source of a mix")
        require(len(set(names)) == len(names), f"two sources share a name: {', '.join(names)}")
        require(all(w > 0 for w, _ in self.sources), "shares must be positive")

    def budget(self, name: str) -> int:
        """Tokens of a source."""
        total = sum(w for w, _ in self.sources)
        return round(self.tokens * next(w for w, s in self.sources if s.name == name) / total)


def load_mix(name: str, settings: list[str] | None = None, root: str = "") -> Mix:
    """A bundled mix by name, or the one that a ``.py`` file's ``mix()`` returns, with ``--set`` settings applied.

    ``root``: the folder of the sources' relative paths, unless a source names its own.
    """
    made, _ = load(name, "mix", "mixes", Mix)
    return fill_root(override(made, *(settings or [])), root)


def mixture(mix: Mix, folder: str, root: str = "") -> tuple[tuple[float, Prepared], ...]:
    """The mixture of a study's corpus: the mix, prepared in ``folder``."""
    return tuple((weight, Prepared(source.name, folder, root)) for weight, source in mix.sources)


def prepare(mix: Mix, out: Path, jobs: int, say: Callable[[str], None] = print) -> Path:
    """Makes the corpus, or goes on with an unfinished one. Returns ``out/index.json``, which is written last.

    Parts of an earlier run are read once. A damaged part is made again, and a line says so.

    Raises ValueError if the folder holds another mix, or parts of files that have since changed; if another process is
    at work; if a file cannot be read, naming file and line; and if a worker is killed.
    """
    with alone_in(out, f"another foray prepare is at work in {out}; wait for it or name another --out"):
        return _prepare(mix, out, jobs, say)


def _prepare(mix: Mix, out: Path, jobs: int, say: Callable[[str], None]) -> Path:
    wanted = {"mix": content_hash(mix), "name": mix.name}
    names = ("index.json", "tokenizer", "tokenizer.new", *(source.name for _, source in mix.sources))
    require_own(out, (out / "mix.json").exists(), names, "name another --out")
    if (out / "mix.json").exists():
        found = read_object(out / "mix.json", "name another --out", mix=str)
        require(found == wanted, f"{out} holds another mix ({found.get('name')}); name another --out")
    write_atomic(out / "mix.json", json.dumps(wanted, allow_nan=False) + "\n")
    if (out / "tokenizer").exists():  # an earlier run's tokenizer must stay, because tokens of it may exist
        tokenizer = load_tokenizer(out / "tokenizer")
    else:
        tokenizer, fresh = _tokenizer(mix), replace_folder(out / "tokenizer.new")
        tokenizer.save(fresh, 1 << 20)
        fresh.rename(out / "tokenizer")
    if (out / "index.json").exists():
        same = tokenizer_digest(out / "tokenizer") == read_object(out / "index.json", tokenizer=str)["tokenizer"]
        require(same, f"{out / 'tokenizer'} is not the tokenizer that the corpus was made with; put that back")
    sources = []
    most = _most_parts(mix, jobs) if jobs > cores() else jobs
    if most < jobs:
        say(f"{most} of {jobs} workers are started: no source has more parts")
    with _workers(most, tokenizer) as pool:
        for _, source in mix.sources:
            sources.append(_source(source, mix.budget(source.name), out / source.name, pool, say))
    index = {**wanted, "tokens": sum(s["tokens"] for s in sources), "tokenizer": tokenizer_digest(out / "tokenizer")}
    index["sources"] = sources
    index["fingerprint"] = content_hash(index)
    write_atomic(out / "index.json", json.dumps(index, indent=1, allow_nan=False) + "\n")
    return out / "index.json"


def _most_parts(mix: Mix, enough: int) -> int:
    """The number of parts of the source with the most parts, counted up to ``enough``.

    Workers share one source at a time.
    """
    return max(1, *(sum(1 for _ in islice(parts(source), enough)) for _, source in mix.sources))


def _source(
    source: TextSource, budget: int, folder: Path, pool: ProcessPoolExecutor, say: Callable[[str], None]
) -> dict[str, Any]:
    """All parts of one source that its budget needs, in order. Slightly more text is tokenized than used."""
    folder.mkdir(exist_ok=True)
    begun, size, files = time.monotonic(), 0, list[dict[str, Any]]()

    def taken() -> int:
        return sum(f["used"] for f in files)

    work = ((source, part, folder / f"{number:05d}") for number, part in enumerate(parts(source)))
    for done, words in _until(pool, work, lambda: taken() >= budget):
        for line in words:
            say(line)
        files.append({**done, "used": min(done["tokens"], budget - taken())})
        size += done["bytes"]
        rate = size / 1e6 / max(1e-9, time.monotonic() - begun)
        say(f"{source.name}: {taken():,} of {budget:,} tokens, {size / 1e6:,.0f} MB of text, {rate:.1f} MB/s")
    counted = {"skipped": sum(f["skipped"] for f in files)} if skips(source) else {}
    broken = all_broken(Skipped(counted.get("skipped", 0), "see above"))
    require(taken() > 0, f"source {source.name} holds no text{broken}")
    if counted:
        rows = counted["skipped"] + sum(f["documents"] for f in files)
        say(f"{source.name}: {counted['skipped']:,} broken rows of {rows:,} skipped")
    if taken() < budget:
        missing = budget - taken()
        say(f"{source.name}: all of it is {taken():,} tokens, {missing:,} fewer than its share: to be repeated")
    held = sum(f["validation"] for f in files)
    if held == 0:
        say(no_documents(source, "validation"))
    return {"name": source.name, "tokens": taken(), "validation": held, **counted, "files": files}


def _until(pool: ProcessPoolExecutor, work: Iterator[Any], enough: Callable[[], bool]) -> Iterator[_Done]:
    """Results in order. As many parts are in progress as there are workers. No part begins once there is enough."""
    waiting: list[Future[_Done]] = []
    for item in work:
        waiting.append(pool.submit(_tokenize_part, *item))
        if len(waiting) > len(pool._processes):
            yield waiting.pop(0).result()
        if enough():
            break
    while waiting and not enough():
        yield waiting.pop(0).result()


@contextmanager
def _workers(jobs: int, tokenizer: TextTokenizer) -> Iterator[ProcessPoolExecutor]:
    """Processes that tokenize. A kill may end them at any point, because a file on disk is whole or is made again.

    Raises ValueError if somebody else kills a process.
    """
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), _start, (tokenizer,))
    try:
        with uninterrupted():
            pool.submit(os.getpid)  # starts them all
        yield pool
    except BrokenProcessPool as e:
        if e.__cause__ is not None:  # no worker has died, but a worker's result could not be read
            raise
        raise ValueError(
            "a worker was killed, perhaps for want of memory: try fewer --jobs; the same command goes on from here"
        ) from None
    finally:
        for worker in list(pool._processes.values()):
            worker.kill()
        pool.shutdown()


_Done = tuple[dict[str, Any], list[str]]  # the facts of a part, and lines to print about it
_WORKER: dict[str, TextTokenizer] = {}  # the settings of a forked worker


def _start(tokenizer: TextTokenizer) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets the signal too, and ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the pool is the parallelism
    use_threads(1)
    _WORKER["tokenizer"] = tokenizer


@panics_named()
def _tokenize_part(source: TextSource, part: TextPart, stem: Path) -> _Done:
    """One part's tokens in ``stem.bin`` and ``stem.validation.bin``; ``stem.json``, written last, describes them."""
    said = stem.with_suffix(".json")
    kinds: dict[TokenKind, str] = {"tokens": ".bin", "validation": ".validation.bin"}
    paths = {kind: stem.with_suffix(ending) for kind, ending in kinds.items()}
    name, file = origin(source, part)
    skipped = Skipped()
    facts = _finished(said, name, file, part) if said.exists() else None
    if facts is None:
        facts = {"stem": stem.name, "part": list(part[:4]), **_written(source, part, paths, skipped)}
        checked = {"file": file, "sha256": content_hash(facts)}
        write_atomic(said, json.dumps(facts | checked, allow_nan=False) + "\n")
        words = f"{source.name}: broken rows skipped: {skipped.count:,}, the first: {skipped.first}"
        return facts, [words] if skipped.count else []
    wrong = " and ".join(f"{path} {words}" for kind, path in paths.items() if (words := damage(path, facts, kind)))
    # The facts of a part stay, because the index holds them, and keys of studies hold the index.
    if wrong and not facts.items() >= _written(source, part, paths, skipped).items():
        raise ValueError(
            f"{wrong}; made again, it is not what it was: the sources, or the tokenizers library, have changed since "
            f"this corpus was begun; name another --out, or delete {said.parent.parent}"
        )
    return facts, [f"{wrong}: made again"] if wrong else []


def _written(source: TextSource, part: TextPart, paths: dict[TokenKind, Path], skipped: Skipped) -> dict[str, Any]:
    """Writes a part's tokens and returns the facts of them."""
    tokenizer = _WORKER["tokenizer"]
    dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    counts = {"tokens": 0, "validation": 0, "documents": 0, "bytes": 0}
    texts = documents(source, part, skipped)
    for path in paths.values():
        path.unlink(missing_ok=True)  # deleted and not shortened, because a study may have mapped the file
    with (
        writing(paths["tokens"]),
        open(paths["tokens"], "wb") as train,
        open(paths["validation"], "wb") as held,
    ):
        while batch := list(islice(texts, _DOCUMENTS)):
            for (text, kept), ids in zip(batch, tokenizer.encode_batch([text for text, _ in batch])):
                counts["documents"] += 1
                counts["bytes"] += len(text.encode())
                row = np.array([*tokenizer.separator, *ids], dtype=dtype)
                (held if kept else train).write(row.tobytes())
                counts["validation" if kept else "tokens"] += len(row)
    if skips(source):  # other sources have no count, so their facts stay unchanged
        counts["skipped"] = skipped.count
    digests = {f"sha256_{kind}": digest(path) for kind, path in paths.items()}
    return {"dtype": np.dtype(dtype).name, **counts, **digests}


def _finished(said: Path, name: str, file: list[int], part: TextPart) -> dict[str, Any] | None:
    """The facts of a part by an earlier run; None if they are damaged.

    Raises ValueError if the part's sources have since changed.
    """
    kinds: dict[str, type] = dict.fromkeys(("tokens", "validation", "documents", "bytes"), int)
    kinds |= dict.fromkeys(("dtype", "sha256_tokens", "sha256_validation"), str) | {"part": list}
    try:
        facts = read_object(said, **kinds)
    except ValueError:
        return None
    # The index holds the content alone. Parts of an earlier version lack the file's size and time, and a checksum.
    before, checksum = facts.pop("file", file), facts.pop("sha256", None)
    whole = len(facts["part"]) == 4 and facts["dtype"] in ("uint16", "uint32")
    if not whole or (checksum is not None and content_hash(facts) != checksum):
        return None
    kind, place, start, end = facts["part"]
    # The root may now have another spelling, or be another copy.
    if (kind, start, end, before) != (part.kind, part.start, part.end, file) or not f"/{place}".endswith(f"/{name}"):
        raise ValueError(
            f"{part.place} is not what {said} was made from ({place}, as it was then): the sources have changed since "
            f"this corpus was begun; name another --out, or delete {said.parent.parent}"
        )
    return facts


def _tokenizer(mix: Mix) -> TextTokenizer:
    """A tokenizer trained on the mix, that of a local folder, or that of a model on the hub."""
    name = mix.tokenizer
    if isinstance(name, OwnTokenizer):
        texts = sample_texts(mix.sources, name.characters, name.whole_numbers)
        return train_tokenizer(texts, name.vocab_size)
    if Path(name).is_dir():
        return load_tokenizer(Path(name))
    try:
        with Repository(name, "main").opened((*FILES, "config.json", "generation_config.json")) as folder:
            return load_tokenizer(folder)
    except ValueError as e:
        raise ValueError(f"tokenizer {name}: neither a folder nor to be had from the hub ({e})") from None
