"""A prepared corpus: equal for any workers and kills, within its budget, with a message for every bad input."""

from __future__ import annotations

import fcntl
import gzip
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from foray.cli import main
from foray.core.files import SEAL
from foray.core.userfile import bundled
from foray.data import text as module
from foray.data.corpus import Shard
from foray.data.prepare import Mix, OwnTokenizer, load_mix, mixture, prepare
from foray.data.prepared import linked
from foray.data.text import Text, documents, parts
from foray.data.tokenizer import TextTokenizer, load_tokenizer
from foray.study.executors.run_node import run_node
from foray.study.graph import expand
from foray.study.integrity import examine
from foray.study.kinds.tokens import ShardNode, TokenizerNode
from foray.study.store import Store


@pytest.fixture
def corpus(tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> Mix:
    """Sums as JSON Lines in two files, a packed one, Parquet, and prose; parts of a few hundred bytes."""
    monkeypatch.setattr(module, "PART_BYTES", 300)
    (tmp_path / "tok").mkdir()
    tokenizer.save(tmp_path / "tok", 96)
    data = tmp_path / "data"
    data.mkdir()
    for file in range(2):
        lines = [json.dumps({"id": i, "text": f"{file} + {i} = {file + i}"}) for i in range(40)]
        (data / f"sums{file}.jsonl").write_text("\n".join(lines) + "\n" * file)
    with gzip.open(data / "packed.json.gz", "wt") as f:
        f.writelines(json.dumps({"text": f"{i} and {i}"}) + "\n" for i in range(20))
    (data / "one.txt").write_text("Q: 1 + 2 ?\nA: 3\n\n" * 5)
    root = str(data)
    sources = (
        (2.0, Text("sums", "sums*.jsonl", holdout=10, root=root)),
        (1.0, Text("packed", "*.gz", holdout=0, root=root)),
        (1.0, Text("prose", "*.txt", holdout=0, root=root)),
    )
    return Mix("test", str(tmp_path / "tok"), 400, sources)


def tree(folder: Path) -> dict[str, bytes]:
    """The bytes of the index, the tokenizer and the parts that the index names. Other parts may be in any state."""
    index = folder / "index.json"
    parts = [folder / s["name"] / f["stem"] for s in json.loads(index.read_bytes())["sources"] for f in s["files"]]
    files = [p for part in parts for p in part.parent.glob(f"{part.name}.*")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in [index, *(folder / "tokenizer").iterdir(), *files]}


def test_parts_hold_every_document_once_and_in_order(corpus: Mix) -> None:
    for _, source in corpus.sources:
        texts = [text for part in parts(source) for text, _ in documents(source, part)]
        assert len(texts) == len(set(texts)) == {"sums": 80, "packed": 20, "prose": 1}[source.name]
    source = corpus.sources[0][1]
    assert len(list(parts(source))) > 8
    texts = [text for part in parts(source) for text, _ in documents(source, part)]
    assert sorted(texts) == sorted([*source.documents("train"), *source.documents("validation")])
    assert texts[:2] == ["0 + 0 = 0", "0 + 1 = 1"] and texts[-1] == "1 + 39 = 40"


def test_the_corpus_is_within_its_budget_and_the_same_for_any_number_of_workers(corpus: Mix, tmp_path: Path) -> None:
    said: list[str] = []
    one = prepare(corpus, tmp_path / "one", 1, said.append)
    two = prepare(corpus, tmp_path / "two", 2, said.append)
    index = json.loads(one.read_text())
    assert json.loads(two.read_text()) == index
    sums, packed, prose = index["sources"]
    assert sums["tokens"] == 200 and packed["tokens"] == 91 and 32 < prose["tokens"] < 91
    assert sums["validation"] > 0 and packed["validation"] == 0
    assert any("to be repeated" in line for line in said) and any("MB/s" in line for line in said)
    for source in index["sources"]:
        for file in source["files"]:
            tokens = np.fromfile(tmp_path / "one" / source["name"] / f"{file['stem']}.bin", dtype=file["dtype"])
            assert len(tokens) == file["tokens"] >= file["used"]


def test_a_killed_run_goes_on_and_ends_the_same(corpus: Mix, tmp_path: Path, tokenizer: TextTokenizer) -> None:
    prepare(corpus, tmp_path / "whole", 1, lambda _: None)
    whole = tree(tmp_path / "whole")
    prepare(corpus, tmp_path / "again", 1, lambda _: None)
    (tmp_path / "again" / "index.json").unlink()
    (tmp_path / "again" / "sums" / "00001.json").unlink()  # as if killed while its tokens were written
    (tmp_path / "again" / "sums" / "00001.bin").write_bytes(b"half")
    before = (tmp_path / "again" / "sums" / "00000.bin").stat().st_mtime_ns
    prepare(corpus, tmp_path / "again", 2, lambda _: None)
    assert tree(tmp_path / "again") == whole
    assert (tmp_path / "again" / "sums" / "00000.bin").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds another mix \(test\); name another --out"):
        prepare(replace(corpus, tokens=401), tmp_path / "again", 1)


def test_two_runs_do_not_make_one_corpus_together(corpus: Mix, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with open(out / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"another foray prepare is at work in .*out; wait for it or name") as e:
            prepare(corpus, out, 1, lambda _: None)
    assert "\n" not in str(e.value) and not (out / "mix.json").exists()
    prepare(corpus, out, 1, lambda _: None)


def test_a_part_is_gone_on_from_only_where_its_file_is_as_it_was(corpus: Mix, tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"

    def fresh(name: str, rows: int) -> None:
        (folder / name).write_text("".join(json.dumps({"text": f"{name} {i}"}) + "\n" for i in range(rows)))

    for name in ("b.ndjson", "c.ndjson"):
        fresh(name, 5)
    source = Text("own", "*.ndjson", holdout=0, root=str(folder))
    mix = replace(corpus, sources=((1.0, source),), tokens=100_000)
    whole = prepare(mix, out, 2, lambda _: None).read_bytes()
    parts_of_it = sorted((out / "own").glob("*.json"))

    def refused() -> bool:
        with pytest.raises(ValueError, match=r"have changed since this corpus was begun; name another --out, or") as e:
            prepare(mix, out, 1, lambda _: None)
        return "\n" not in str(e.value) and f"delete {out}" in str(e.value)

    fresh("a.ndjson", 5)
    assert refused(), "the first part would be another file's"
    (folder / "a.ndjson").unlink()
    copy = folder / "c.ndjson"
    kept, changed = copy.read_bytes(), copy.stat().st_mtime_ns
    fresh("c.ndjson", 2)
    assert refused()
    copy.write_bytes(kept.replace(b"c", b"d"))
    os.utime(copy, ns=(changed, changed + 1))
    assert refused(), "of the same size"
    copy.write_bytes(kept)
    os.utime(copy, ns=(changed, changed))
    moved = shutil.copytree(folder, tmp_path / "moved")
    mix = replace(mix, sources=((1.0, replace(source, root=str(moved))),))
    assert prepare(mix, out, 1, lambda _: None).read_bytes() == whole, "a copy is the same"
    for said in parts_of_it:  # as an earlier version wrote them
        said.write_text(json.dumps({k: v for k, v in json.loads(said.read_text()).items() if k != "file"}) + "\n")
    assert prepare(mix, out, 1, lambda _: None).read_bytes() == whole
    (moved / "a.ndjson").write_bytes(kept)
    assert refused()
    assert (out / "index.json").read_bytes() == whole and mixture(mix, "out", str(tmp_path))[0][1].index()


def test_a_study_reads_a_prepared_corpus_where_it_lies(corpus: Mix, tmp_path: Path) -> None:
    from test_study import compute, pretrained_to, study

    prepare(corpus, tmp_path / "made", 1, lambda _: None)
    pretrain = pretrained_to(1536)
    text = replace(pretrain.stream.source, mixture=mixture(corpus, "made", str(tmp_path)))
    pretrain = replace(pretrain, stream=replace(pretrain.stream, source=text))
    evaluation = replace(study().evaluation, heldout_tokens=0, contamination=0)
    made, store = study(pretrain=pretrain, recipes=("sft",), evaluation=evaluation), Store(tmp_path / "store")
    compute(made, store)
    node = next(n for n in expand(made).nodes if isinstance(n, ShardNode) and n.source.name == "sums")
    shard, index = node.open_shard(store), json.loads((tmp_path / "made" / "index.json").read_text())
    files = index["sources"][0]["files"]
    whole = [np.fromfile(tmp_path / "made" / "sums" / f"{f['stem']}.bin", f["dtype"])[: f["used"]] for f in files]
    assert shard.size == 200 and len(files) > 2
    assert np.array_equal(shard.read(0, shard.size), np.concatenate(whole))
    assert np.array_equal(shard.window(1, 32), np.concatenate(whole)[32:65])
    assert not (node.folder(store) / "tokens.bin").exists()

    def keys(folder: str) -> set[str]:
        moved = replace(pretrain.stream.source, mixture=mixture(corpus, folder, str(tmp_path)))
        there = replace(made, pretrain=replace(pretrain, stream=replace(pretrain.stream, source=moved)))
        return {n.key for n in expand(there).nodes}

    before = {n.key for n in expand(made).nodes}
    assert keys("made") == before != keys("elsewhere")
    shutil.copytree(tmp_path / "made", tmp_path / "elsewhere")
    assert keys("elsewhere") == before, "the key is of the content, not of the place"
    with pytest.raises(ValueError, match="nowhere holds no prepared corpus; make it with foray prepare"):
        mixture(corpus, "nowhere", str(tmp_path))[0][1].index()


def zeroed(path: Path) -> None:
    """Damage of the kind that a lost write leaves: the size stays."""
    path.write_bytes(bytes(20) + path.read_bytes()[20:])


def test_damaged_parts_are_made_again(corpus: Mix, tmp_path: Path) -> None:
    out, said = tmp_path / "out", list[str]()
    prepare(corpus, out, 1, lambda _: None)
    whole, sums = tree(out), out / "sums"
    intact = (sums / "00002.bin").stat().st_mtime_ns
    os.truncate(sums / "00000.bin", 10)
    zeroed(sums / "00001.bin")
    (out / "packed" / "00000.bin").unlink()
    (sums / "00000.validation.bin").write_bytes(b"more")
    root = Path(corpus.sources[0][1].root)  # type: ignore[attr-defined]
    spelled = str(root / ".." / root.name)  # which the description of a part that is made again does not take over
    mix = replace(corpus, sources=tuple((w, replace(s, root=spelled)) for w, s in corpus.sources))
    prepare(mix, out, 2, said.append)
    assert tree(out) == whole and (sums / "00002.bin").stat().st_mtime_ns == intact
    again = [line for line in said if line.endswith(": made again")]
    assert len(again) == 3 and again[1] == f"{sums / '00001.bin'} is damaged (its checksum has changed): made again"
    assert f"{sums / '00000.bin'} is damaged (it has 10 bytes" in again[0] and "00000.validation.bin is dam" in again[0]
    assert again[2] == f"{out / 'packed' / '00000.bin'} is missing: made again"


def test_a_damaged_part_is_made_again_only_as_it_was(
    corpus: Mix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set on the hub has no time of change."""
    out = tmp_path / "out"
    prepare(corpus, out, 1, lambda _: None)
    zeroed(out / "sums" / "00001.bin")
    monkeypatch.setattr("foray.data.prepare.documents", lambda *_: iter([("another text", False)]))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"00001\.bin is damaged .* made again, it is not what it was: ") as e:
            prepare(corpus, out, 1, lambda _: None)
        assert "\n" not in str(e.value) and f"name another --out, or delete {out}" in str(e.value)


def test_another_tokenizer_in_a_corpus_is_refused(corpus: Mix, tmp_path: Path) -> None:
    out = tmp_path / "made"
    prepare(corpus, out, 1, lambda _: None)
    file = out / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text() + " ")
    node = TokenizerNode(mixture(corpus, "made", str(tmp_path)), 96, 0)
    for refused in (lambda: prepare(corpus, out, 1, lambda _: None), lambda: run_node(node, Store(tmp_path / "store"))):
        with pytest.raises(ValueError, match="is not the tokenizer that the corpus was made with"):
            refused()


def test_what_is_said_of_a_corpus_is_checked_too(corpus: Mix, tmp_path: Path) -> None:
    """A part whose facts have changed is made again; a changed index is refused."""
    out = tmp_path / "made"
    prepare(corpus, out, 1, lambda _: None)
    whole, part, index = tree(out), out / "sums" / "00001.json", out / "index.json"
    first = mixture(corpus, "made", str(tmp_path))[0][1]
    changed = part.read_text().replace('"documents": ', '"documents": 1')
    for content in ("[]", "{}", "x", changed, '{"part": 3, "sha256": 4}'):
        part.write_text(content)
        prepare(corpus, out, 1, lambda _: None)
        assert tree(out) == whole
    for content in ("[]", "{}", index.read_text().replace('"used": ', '"used": 1', 1)):
        index.write_text(content)
        with pytest.raises(ValueError, match=r"index\.json is damaged") as e:
            first.index()
        assert "\n" not in str(e.value)
    (out / "mix.json").write_text("[]")
    with pytest.raises(ValueError, match=r"mix\.json is damaged: it holds no settings"):
        prepare(corpus, out, 1, lambda _: None)


def test_a_study_refuses_a_damaged_corpus(corpus: Mix, tmp_path: Path) -> None:
    """The study checks every byte when it links the text and when a training opens it.

    After a repair the study goes on.
    """
    out = tmp_path / "made"
    prepare(corpus, out, 1, lambda _: None)
    prepared = mixture(corpus, "made", str(tmp_path))
    tokenizer, store = TokenizerNode(prepared, 96, 0), Store(tmp_path / "store")
    run_node(tokenizer, store)
    file, held, other = (out / "sums" / f"{name}.bin" for name in ("00001", "00000.validation", "00003"))
    whole = file.read_bytes()
    nodes = [ShardNode(prepared[0][1], split, tokenizer, 100) for split in ("train", "validation")]

    def refused(what: str) -> None:
        with pytest.raises(ValueError, match=what) as e:
            nodes[0].open_shard(store) if nodes[0].done(store) else run_node(nodes[0], store)
        mend = f"; the command that made it makes it again: foray prepare MIX --out {out}"
        assert str(e.value).startswith(f"{file} ") and str(e.value).endswith(mend)

    zeroed(file)
    zeroed(held)
    zeroed(other)
    refused(r"is damaged \(its checksum has changed\)")
    with pytest.raises(ValueError, match=r"00000\.validation\.bin is damaged"):
        run_node(nodes[1], store)
    file.unlink()
    refused("is missing")
    prepare(corpus, out, 1, lambda _: None)
    zeroed(other)  # which these nodes do not read
    for node in nodes:
        run_node(node, store)
    before = nodes[0].open_shard(store).read(0, 100).tolist()
    for size in (len(whole) + 2, len(whole) - 2):
        os.truncate(file, size)
        refused(rf"is damaged \(it has {size} bytes, and {len(whole)} are wanted\)")
    prepare(corpus, out, 1, lambda _: None)
    zeroed(file)
    refused(r"is damaged \(its checksum has changed\)")
    assert nodes[0].open_shard(store, verified=False).read(0, 100).tolist() != before
    prepare(corpus, out, 1, lambda _: None)
    assert nodes[0].open_shard(store).read(0, 100).tolist() == before
    meta = nodes[0].folder(store) / "meta.json"  # as an earlier version wrote it
    facts = json.loads(meta.read_text())
    old = tmp_path / "old"
    old.mkdir()
    (old / "meta.json").write_text(json.dumps({**facts, "files": [f[:2] for f in facts["files"]]}))
    assert Shard(old, out).read(0, 100).tolist() == before
    os.truncate(file, 2)
    with pytest.raises(ValueError, match=r"00001\.bin is damaged \(it has 2 bytes"):
        Shard(old, out)


def test_check_reads_the_corpus_that_shards_point_to_or_says_that_it_cannot(
    corpus: Mix, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, store = tmp_path / "made", Store(tmp_path / "store")
    prepare(corpus, out, 1, lambda _: None)
    prepared = mixture(corpus, "made", str(tmp_path))
    tokenizer = TokenizerNode(prepared, 96, 0)
    for node in (tokenizer, *(ShardNode(prepared[0][1], "train", tokenizer, count) for count in (100, 150))):
        run_node(node, store)
    folders = [f for f in (store.root / "nodes").rglob("*") if f.is_file() and f.name != SEAL]
    read: list[int] = []
    found = examine(store, 2, read=read.append)
    named = {path for node in store.root.glob("nodes/shard-*") for path in linked(node)[1]}
    assert len(read) == len(folders) + len(named) and sum(read) == found.size and not found.corpora
    zeroed(out / "sums" / "00001.bin")
    assert main(["check", str(store.root), "--repair"]) == 1
    said = capsys.readouterr()
    assert f"{out / 'sums' / '00001.bin'} is damaged" in said.out and "foray prepare MIX --out DIR" in said.err
    assert not list(store.root.glob("nodes/*.damaged")), "the shards themselves are whole"
    out.rename(tmp_path / "elsewhere")
    assert main(["check", str(store.root)]) == 0
    assert capsys.readouterr().out.count(f"files of a prepared corpus that is not at {out}") == 2


def test_endless_text_is_generated_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NUMBERS", 5)
    monkeypatch.setattr(module, "_VALIDATION", 3)
    mix = load_mix("world_1b", ["tokens=6000", "vocab_size=600", "characters=30000", "whole_numbers=20"])
    for _, source in mix.sources:
        held, *some = list(islice(parts(source), 4))
        assert list(documents(source, held)) == [(t, True) for t in islice(source.documents("validation"), 3)]
        texts = [t for part in some for t in documents(source, part)]
        assert texts == [(t, False) for t in islice(source.documents("train"), 15)]
    one, two = (prepare(mix, tmp_path / str(jobs), jobs, lambda _: None) for jobs in (1, 2))
    index = json.loads(one.read_text())
    assert json.loads(two.read_text()) == index and index["tokens"] == pytest.approx(6000, abs=3)
    assert all(s["validation"] > 0 for s in index["sources"])


def test_a_mix_takes_any_source_of_text_and_trains_a_tokenizer_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundled mix of prose and GSM8K: the task's validation questions are the corpus's validation split."""
    pytest.importorskip("datasets")
    for name in ("gsm8k", "prose"):
        (tmp_path / name).mkdir()
    rows = [
        {"question": f"Tom has {i} nuts and finds {j}. How many?", "answer": f"{i} + {j} = {i + j}\n#### {i + j}"}
        for i in range(20)
        for j in range(4)
    ]
    for split, some in (("train", rows), ("test", [{**rows[0], "question": "Why?"}])):
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in some))
    prose = "".join(json.dumps({"text": f"It was chapter {i} of a long story. " * 4}) + "\n" for i in range(60))
    (tmp_path / "prose" / "standardebooks.jsonl").write_text(prose)
    mix = load_mix("gsm8k_small", ["tokens=4000", "vocab_size=300", "characters=20000"], str(tmp_path))
    index = json.loads(prepare(mix, tmp_path / "out", 2, lambda _: None).read_text())
    made = load_tokenizer(tmp_path / "out" / "tokenizer")
    assert isinstance(mix.tokenizer, OwnTokenizer) and made.vocab_size == 300
    told, gsm8k = index["sources"]
    assert 2000 < told["tokens"] <= 2800 and told["validation"] > 0 and gsm8k["tokens"] == 1200
    (held,) = [tmp_path / "out" / "gsm8k" / f"{f['stem']}.validation.bin" for f in gsm8k["files"] if f["validation"]]
    text = made.decode(np.fromfile(held, dtype="uint16").tolist())
    (tmp_path / "out" / "index.json").unlink()  # as if killed before: a tokenizer trained again could be another
    monkeypatch.setattr("foray.data.prepare.train_tokenizer", lambda *_: pytest.fail("trained twice"))
    assert json.loads(prepare(mix, tmp_path / "out", 1, lambda _: None).read_text()) == index
    task = mix.sources[1][1].task  # type: ignore[attr-defined]
    assert all(p.question in text for p in task.problems("validation")) and len(task.problems("validation")) > 3
    assert not any(p.question in text for p in task.problems("train"))


def test_a_study_refuses_a_corpus_of_another_tokenizer(corpus: Mix, tmp_path: Path) -> None:
    prepare(corpus, tmp_path / "one", 1, lambda _: None)
    prepare(replace(corpus, tokenizer=OwnTokenizer(280, 5000)), tmp_path / "two", 1, lambda _: None)
    sources = tuple(
        (1.0, replace(source, folder=folder))
        for folder, (_, source) in zip(("one", "two"), mixture(corpus, "", str(tmp_path)))
    )
    tokenizer, store = TokenizerNode(sources, 300, 0), Store(tmp_path / "store")
    shards = [ShardNode(source, "train", tokenizer, 100) for _, source in sources]
    for node in (tokenizer, shards[0]):
        run_node(node, store)
    with pytest.raises(ValueError, match="two was prepared with another tokenizer than the model has"):
        run_node(shards[1], store)


def test_mistakes_are_named(corpus: Mix, tmp_path: Path) -> None:
    root = tmp_path / "data"
    lines = root / "sums1.jsonl"
    broken = lines.read_text().splitlines()
    broken[30] = '{"text": 5}'
    lines.write_text("\n".join(broken))
    source = replace(corpus.sources[0][1], path="sums1.jsonl")
    only = replace(corpus, sources=((1.0, source),), tokens=10_000)
    with pytest.raises(ValueError, match=r"sums1\.jsonl, line 31: no text in column 'text'"):
        prepare(only, tmp_path / "out", 1, lambda _: None)
    for bad, words in (('{"text": "bad \\ud83d half"}', "the text in column 'text' has half a"), ("[", "not JSON")):
        lines.write_text("\n".join([*broken[:30], bad]))
        with pytest.raises(ValueError, match=rf"sums1\.jsonl, line 31: {words}"):
            prepare(only, tmp_path / words[:3], 1, lambda _: None)
    with pytest.raises(ValueError, match=r"no file matches .*nothing\*"):
        list(parts(replace(source, path="nothing*")))
    (root / "bad.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"bad\.txt: not UTF-8 text"):
        list(documents(source, next(parts(replace(source, path="bad.txt")))))
    (root / "cut.json.gz").write_bytes(gzip.compress(b'{"text": "x"}\n')[:-6])
    with pytest.raises(ValueError, match=r"cut\.json\.gz: damaged"):
        list(documents(source, next(parts(replace(source, path="cut.json.gz")))))
    with pytest.raises(ValueError, match="neither a folder nor to be had from the hub"):
        prepare(replace(corpus, tokenizer="no/such-model"), tmp_path / "none", 1)
    with pytest.raises(ValueError, match="give a path of local files or a hub data set"):
        Text("x")


def test_a_mistake_is_one_line_of_the_command(corpus: Mix, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from foray.data.prepare import Mix\nfrom foray.data.text import Text\n\n\ndef mix():\n"
        f"    return Mix('own', {corpus.tokenizer!r}, 100, ((1.0, Text('own', 'own.jsonl')),))\n"
    )
    (tmp_path / "own.jsonl").write_text('{"text": "a"}\n{}\n')
    settings = [str(tmp_path / "own.py"), "--data-root", str(tmp_path), "--out", str(tmp_path / "out"), "--jobs", "2"]
    done = subprocess.run([sys.executable, "-m", "foray", "prepare", *settings], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"foray: {tmp_path / 'own.jsonl'}, line 2: no text in")
    assert done.stderr.count("\n") == 1, "nor do the workers that it ends say anything"


@contextmanager
def making(corpus: Mix, folder: Path, then: str) -> Iterator[subprocess.Popen[str]]:
    """``foray prepare`` in a process group of its own. Each of its two workers is at a document that does ``then``.

    The output ends with the last process.
    """
    (folder / "own.py").write_text(
        "import os, signal, time\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
        "from foray.data.prepare import Mix\n\n\n@dataclass(frozen=True)\nclass Own:\n    name: str = 'own'\n\n"
        f"    def documents(self, split):\n        yield 'a'\n        Path(split).touch()\n        {then}\n\n\n"
        f"def mix():\n    return Mix('own', {corpus.tokenizer!r}, 100, ((1.0, Own()),))\n"
    )
    words = [sys.executable, "-m", "foray", "prepare", "own.py", "--out", "out", "--jobs", "2"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, cwd=folder, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not ((folder / "train").exists() and (folder / "validation").exists()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_a_killed_worker_is_one_line(corpus: Mix, tmp_path: Path) -> None:
    with making(corpus, tmp_path, "os.kill(os.getpid(), signal.SIGKILL) if split == 'train' else time.sleep(99)") as p:
        said, wrong = p.communicate(timeout=60)
    assert (p.returncode, said) == (1, "") and wrong == (
        "foray: a worker was killed, perhaps for want of memory: try fewer --jobs; the same command goes on from here\n"
    )


@pytest.mark.slow
def test_an_interrupted_prepare_stops_at_once_and_says_so(corpus: Mix, tmp_path: Path) -> None:
    with making(corpus, tmp_path, "time.sleep(99)") as p:
        os.killpg(p.pid, signal.SIGINT)  # what Ctrl-C does
        said, wrong = p.communicate(timeout=60)
    assert (p.returncode, said, wrong) == (130, "", "foray: interrupted; the same command goes on from here\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends after its part")
def test_workers_of_prepare_end_with_it(corpus: Mix, tmp_path: Path) -> None:
    with making(corpus, tmp_path, "time.sleep(99)") as p:
        p.kill()
        assert p.communicate(timeout=60) == ("", "")


def test_an_interruption_waits_for_the_workers_to_be_there(corpus: Mix, tmp_path: Path) -> None:
    """Python drops an exception that is raised between a fork and its end."""
    asked: list[int] = []
    fork = os.fork

    def interrupted_fork() -> int:
        child = fork()
        if child:
            signal.raise_signal(signal.SIGINT)
            asked.append(child)
        return child

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fork", interrupted_fork)
        prepare(corpus, tmp_path / "out", 3, lambda _: None)
    assert len(asked) == 3 and not {p.pid for p in multiprocessing.active_children()} & set(asked)


def test_packed_lines_are_read_whichever_way_they_are_packed(tmp_path: Path, corpus: Mix) -> None:
    zstandard = pytest.importorskip("zstandard")
    lines = "".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(3000)).encode()
    (tmp_path / "data" / "some.jsonl.zst").write_bytes(zstandard.compress(lines))
    source = replace(corpus.sources[0][1], path="*.zst")
    assert [t for p in parts(source) for t, _ in documents(source, p)] == [f"line {i}" for i in range(3000)]
    (tmp_path / "data" / "some.jsonl.zst").write_bytes(lines)
    with pytest.raises(ValueError, match=r"some\.jsonl\.zst: damaged"):
        list(documents(source, next(parts(source))))


def test_parquet_is_read_by_row_groups(tmp_path: Path, corpus: Mix) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "data" / "table.parquet"
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(25)], "n": list(range(25))}), file, row_group_size=10)
    source = replace(corpus.sources[0][1], path="*.parquet")
    assert len(list(parts(source))) == 3
    assert [t for p in parts(source) for t, _ in documents(source, p)] == [f"row {i}" for i in range(25)]
    with pytest.raises(ValueError, match=r"table\.parquet: no column 'body' \(it has text, n\)"):
        list(documents(replace(source, column="body"), next(parts(source))))
    pq.write_table(pa.table({"text": [None if i == 17 else f"row {i}" for i in range(25)]}), file, row_group_size=10)
    with pytest.raises(ValueError, match=r"table\.parquet, row 18: no text in column 'text'"):
        [t for p in parts(source) for t, _ in documents(source, p)]


def held_out(source: Text) -> list[str]:
    held = list(source.documents("validation"))
    assert not set(held) & set(source.documents("train"))
    backwards = [(t, kept) for p in reversed(list(parts(source))) for t, kept in documents(source, p)]
    assert sorted(t for t, kept in backwards if kept) == sorted(held), "in whichever order the parts are read"
    return held


def test_validation_is_chosen_whatever_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if every part (file of text, row group, piece of JSON Lines) has fewer documents than ``holdout``."""
    monkeypatch.setattr(module, "PART_BYTES", 1000)
    for i in range(20):
        (tmp_path / f"{i:02d}.txt").write_text(f"text {i}")
    assert held_out(Text("own", "*.txt", holdout=5, root=str(tmp_path))) == [f"text {i}" for i in (4, 9, 14, 19)]
    rows = [f"row {i} " + "x" * 80 for i in range(2000)]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    source = Text("own", "long.jsonl", holdout=20, root=str(tmp_path))
    assert len(list(parts(source))) > 190 and 70 < len(held_out(source)) < 130
    monkeypatch.setattr(module, "PART_BYTES", 64 << 20)
    assert held_out(source) == rows[19::20], "a file in one piece is counted through"
    assert not held_out(replace(source, holdout=0))


def test_validation_is_chosen_by_the_row_of_a_table(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [f"row {i}" for i in range(50)]
    for size in (4, 7, 50):
        pq.write_table(pa.table({"text": rows}), tmp_path / "t.parquet", row_group_size=size)
        assert held_out(Text("own", "t.parquet", holdout=10, root=str(tmp_path))) == rows[9::10]


def test_the_bundled_mixes_are_those_of_the_paper() -> None:
    assert bundled("mixes") == ["dolmino_50b", "dolmino_math_60b", "gsm8k_small", "world_1b"]
    made, rich = load_mix("dolmino_50b"), load_mix("dolmino_math_60b")
    math = {"tinygsm_mind", "mathcoder2", "tulu_math", "metamath", "synth_math", "gsm8k_train", "codesearchnet"}
    share = {m.name: sum(w for w, s in m.sources if s.name in math) for m in (made, rich)}
    assert share["dolmino_50b"] == pytest.approx(20.8, abs=0.01) and share["dolmino_math_60b"] == pytest.approx(
        41.6, abs=0.01
    )
    assert sum(w for w, _ in made.sources) == pytest.approx(100, abs=0.01)
    assert made.budget("tinygsm_mind") == pytest.approx(6.3e9, rel=0.01) and made.budget("dclm") == pytest.approx(
        23.6e9, rel=0.01
    )
    with pytest.raises(ValueError, match="did you mean 'dolmino_50b'"):
        load_mix("dolmino_50")
    assert load_mix("dolmino_50b", ["tokens=1000"]).tokens == 1000
