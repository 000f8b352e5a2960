"""Files that users bring: Foray reads a file as what it is, or refuses the file in one line.

No file silently becomes one document.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foray.core.canonical import content_hash
from foray.data import text as module
from foray.data.corpus import write_shard
from foray.data.prepare import Mix, prepare
from foray.data.rows import Skipped
from foray.data.text import JsonlText, Text, documents, parts
from foray.data.tokenizer import TextTokenizer
from foray.study.kinds.tokens import ShardNode, TokenizerNode
from foray.tasks.jsonl import OwnProblems

TEXTS = ["An Historical Sketch.", 'He said "no",\nand left; naïve 🙂', "  It is a truth\tuniversally acknowledged. "]
ROWS: list[dict[str, Any]] = [
    {"id": f"d{i}", "text": text, "meta": {"text": f"inner {i}", "n": i}} for i, text in enumerate(TEXTS)
]


def lines(rows: list[Any], end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def table(delimiter: str, end: str = "\n") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerows([["id", "text", "meta.text"], *([row["id"], row["text"], row["meta"]["text"]] for row in ROWS)])
    return out.getvalue().encode()


def zst(content: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").compress(content))


PACKING: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst,
}  # fmt: skip


def read(path: Path, **settings: Any) -> list[str]:
    """The texts by ``foray prepare`` and, if the file has columns, by a study's own source. Both must agree."""
    source = Text("own", path.name, holdout=0, root=str(path.parent), **settings)
    found = [text for part in parts(source) for text, _ in documents(source, part)]
    if path.suffix not in (".txt", ".md") and "format" not in settings:
        own = JsonlText("own", path.name, holdout=0, root=str(path.parent), **settings)
        assert list(own.documents("train")) == found
    return found


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(ValueError) as e:
        read(path, **settings)
    assert str(path) in str(e.value) and "\n" not in str(e.value)
    return str(e.value)


SHAPES = {
    "dolma.json": lines(ROWS),
    "one_row.json": json.dumps(ROWS[0]).encode(),
    "bom.jsonl": codecs.BOM_UTF8 + lines(ROWS),
    "bom.json": codecs.BOM_UTF8 + json.dumps(ROWS).encode(),
    "crlf.jsonl": lines(ROWS, "\r\n"),
    "crlf.json": lines(ROWS, "\r\n"),
    "LOUD.JSONL": lines(ROWS),
    "nd.ndjson": lines(ROWS),
    "array.json": json.dumps(ROWS).encode(),
    "pretty.json": json.dumps(ROWS, indent=2).encode(),
    "array.jsonl": json.dumps(ROWS).encode(),
    "pretty.jsonl": json.dumps(ROWS, indent=1).encode(),
    "rows_in_array.json": b"[\n" + b",\n".join(json.dumps(r).encode() for r in ROWS) + b"\n]\n",
    "within.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "within_pretty.json": json.dumps({"version": 1, "data": ROWS}, indent=2).encode(),
    "comma.csv": table(","),
    "excel.csv": codecs.BOM_UTF8 + table(",", "\r\n"),
    "tab.tsv": table("\t"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_read_in_whichever_shape_they_come(tmp_path: Path, name: str) -> None:
    wanted = TEXTS[:1] if name == "one_row.json" else TEXTS
    (tmp_path / name).write_bytes(SHAPES[name])
    assert read(tmp_path / name) == wanted
    inner = [f"inner {i}" for i in range(len(wanted))]
    assert read(tmp_path / name, column="meta.text") == inner, "a column within a column, or of that name"
    for ending, pack in PACKING.items():
        (tmp_path / f"{name}{ending}").write_bytes(pack(SHAPES[name]))
        assert read(tmp_path / f"{name}{ending}") == wanted, ending


def test_a_part_without_an_ending_is_lines_where_it_is_packed(tmp_path: Path) -> None:
    (tmp_path / "part-00001.gz").write_bytes(gzip.compress(lines(ROWS)))
    assert read(tmp_path / "part-00001.gz") == TEXTS


def test_unpacked_lines_named_json_are_cut_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 100)
    (tmp_path / "many.json").write_bytes(lines([{"text": f"number {i}"} for i in range(50)]))
    assert len(list(parts(Text("own", "many.json", root=str(tmp_path))))) > 5
    assert read(tmp_path / "many.json") == [f"number {i}" for i in range(50)]


STRANGE = {
    "lines.txt": (lines(ROWS), "JSON Lines; name it so, or set format"),
    "lines.md": (lines(ROWS, "\n\n"), "JSON Lines"),
    "array.txt": (json.dumps(ROWS, indent=2).encode(), "is JSON"),
    "one.txt": (json.dumps(ROWS[0]).encode(), "is JSON"),
    "table.txt": (table(","), "is CSV"),
    "tabs.txt": (table("\t"), "is TSV"),
    "packed.txt.gz": (gzip.compress(lines(ROWS)), "JSON Lines"),
    "data.dat": (lines(ROWS), r"what is in a file \.dat\? Name it"),
    "_SUCCESS": (b"", "what is in a file without an ending"),
    "page.html": (b"<p>", r"what is in a file \.html"),
    "hidden.jsonl": (gzip.compress(lines(ROWS)), "what is in it is gzip, which its name does not say"),
    "hidden.txt": (bz2.compress(lines(ROWS)), "is bzip2"),
    "plain.jsonl.gz": (lines(ROWS), "damaged, or not packed with gzip"),
    "sheet.csv": (b"PK\x03\x04" + bytes(40), "is zip"),
    "utf16.jsonl": (lines(ROWS).decode().encode("utf-16"), "not UTF-8 text but UTF-16; make it UTF-8"),
    "utf16.json": (json.dumps(ROWS).encode("utf-16"), "not UTF-8 text but UTF-16"),
    "utf16.csv": (table(",").decode().encode("utf-16"), "UTF-16"),
    "utf16.txt": ("Plain.".encode("utf-16"), "UTF-16"),
    "utf32.txt": ("Plain.".encode("utf-32"), "UTF-32"),
    "no_bom.txt": ("Plain.".encode("utf-16-le"), "zero bytes in it, as in UTF-16"),
    "no_bom.jsonl": (lines(ROWS).decode().encode("utf-16-le"), "zero bytes"),
    "utf16.jsonl.gz": (gzip.compress(lines(ROWS).decode().encode("utf-16")), "UTF-16"),
    "two.json": (json.dumps(ROWS[0], indent=1).encode() * 2, "line 8: not JSON .a second value begins here"),
    "cut.json": (json.dumps(ROWS, indent=1).encode()[:-9], "line 23: not JSON"),
    "texts.json": (json.dumps(TEXTS).encode(), "row 1: no text in column 'text': not a JSON object"),
    "splits.json": (json.dumps({"train": ROWS, "test": ROWS}).encode(), "row 1: .*the row has train, test"),
    "columns.json": (json.dumps({"text": TEXTS}).encode(), "row 1: no text in column 'text'"),
    "semicolons.csv": (table(";"), "line 2: "),
    "ragged.csv": (b"id,text\n1,a,b\n", "line 2: 3 fields, where the first line names 2"),
    "quotes.csv": (b'id,text\n1,"a\n2,b\n', "line 2: a quote that is opened here is not closed"),
    "twice.csv": (b"text,text\n1,a\n", "line 1: two columns have one name"),
    "blank.csv": (b"id,text\n1,a\n2,\n", r"line 3: no text in column 'text' \(it is empty\)"),
    "latin.csv": (table(",").decode().replace("🙂", "").encode("latin-1"), "line 3: not UTF-8 text .byte 0xef"),
    "latin.jsonl": (b'{"text": "a"}\n\n{"text": "caf\xe9"}\n', r"line 3: not UTF-8 text \(byte 0xe9 at 13\)"),
    "latin.json": (b'[{"text": "a"},\n{"text": "caf\xe9"}]', r"line 2: not UTF-8 text \(byte 0xe9 at 29\)"),
    "latin.txt": (b"One.\nCaf\xe9.\n", r"line 2: not UTF-8 text \(byte 0xe9 at 8\)"),
    "no.parquet": (lines(ROWS), "not a Parquet file"),
    "a.parquet.gz": (gzip.compress(b"PAR1"), "Parquet is packed within; unpack"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_what_its_name_says_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, words = STRANGE[name]
    (tmp_path / name).write_bytes(content)
    if "arquet" in name:
        pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=words) as e:
        source = Text("own", name, holdout=0, root=str(tmp_path))
        [text for part in parts(source) for text, _ in documents(source, part)]
    assert str(tmp_path / name) in str(e.value) and "\n" not in str(e.value)


def test_parquet_is_known_by_its_content(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist([{**row, "other.text": "plain"} for row in ROWS]), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == TEXTS
    assert read(tmp_path / "rows.parquet", column="meta.text") == ["inner 0", "inner 1", "inner 2"]
    assert read(tmp_path / "rows.parquet", column="other.text") == ["plain"] * 3
    pq.write_table(pa.Table.from_pylist([{**row, "meta.text": "plain"} for row in ROWS]), tmp_path / "both.parquet")
    assert read(tmp_path / "both.parquet", column="meta.text") == ["plain"] * 3, "a column of that very name wins"
    assert "no column 'body.text'" in refused(tmp_path / "rows.parquet", column="body.text")
    (tmp_path / "rows.parquet").rename(tmp_path / "rows.jsonl")
    assert "what is in it is Parquet" in refused(tmp_path / "rows.jsonl")


def test_a_column_of_that_very_name_wins(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(
        lines([{"meta.text": "plain", "meta": {"text": "inner"}}, {"meta": {"text": 5}}])
    )
    assert "line 2: no text in column 'meta.text'" in refused(tmp_path / "x.jsonl", column="meta.text")
    assert read(tmp_path / "x.jsonl", column="meta.text", skip_broken=True) == ["plain"]


@pytest.mark.parametrize(
    "text", ["A {brace} and [a list].\n[1] Smith.", "[Smith, 2020] says", "text, as it is\nmore", "a"]
)
def test_prose_stays_one_document(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode())
    assert read(tmp_path / "a.txt") == [text] == read(tmp_path / "a.txt", format="text")


def test_the_format_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_bytes(lines(ROWS))
    (tmp_path / "rows.dat").write_bytes(lines(ROWS))
    assert read(tmp_path / "package.json", format="text") == [lines(ROWS).decode()]
    assert read(tmp_path / "rows.dat", format="jsonl") == TEXTS
    with pytest.raises(ValueError, match="format is 'jsonlines'; did you mean 'jsonl'"):
        Text("own", "x", format="jsonlines")  # type: ignore[arg-type]
    plain, said = Text("own", "x"), Text("own", "x", format="text")
    assert content_hash(plain) != content_hash(said) and content_hash(plain) == content_hash(replace(said, format=""))


@pytest.mark.parametrize("ending", PACKING)
def test_a_file_cut_short_is_named_and_not_taken_for_whole(tmp_path: Path, ending: str) -> None:
    content = lines([{"text": f"{i} " + "".join(chr(97 + i * j % 26) for j in range(i % 500))} for i in range(600)])
    whole = PACKING[ending](content)
    for size in (len(whole) // 2, len(whole) - 1):
        (tmp_path / f"x.jsonl{ending}").write_bytes(whole[:size])
        assert "damaged: it is cut short within its" in refused(tmp_path / f"x.jsonl{ending}", skip_broken=True)
    torn = whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 + 64 :]
    (tmp_path / f"x.jsonl{ending}").write_bytes(torn)
    assert ": damaged" in refused(tmp_path / f"x.jsonl{ending}", skip_broken=True), "not a broken row"
    (tmp_path / f"x.jsonl{ending}").write_bytes(whole * 2)
    assert len(read(tmp_path / f"x.jsonl{ending}")) == 1200, "files put together are read to the end"


def test_every_frame_of_zstandard_is_read(tmp_path: Path) -> None:
    beside = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"other"  # as parallel programs write
    frames = beside + b"".join(zst(lines([row])) + beside for row in ROWS)
    (tmp_path / "x.jsonl.zst").write_bytes(frames)
    assert read(tmp_path / "x.jsonl.zst") == TEXTS


# --- broken rows ----------------------------------------------------------------------------------------------------


BROKEN = [
    b'{"text": "cut',
    b'{"txt": 1}',
    b'{"text": 5}',
    b"[]",
    b'{"text": "caf\xe9"}',
    b'{"text": "\\ud83d"}',
    b"{" * 9,
]


def mixed(good: int) -> bytes:
    """Good rows with every kind of broken row between them."""
    rows = [json.dumps({"text": f"{i} + {i} = {2 * i}"}).encode() for i in range(good)]
    for at, row in enumerate(BROKEN):
        rows.insert(3 + 5 * at, row)
    return b"\n".join(rows) + b"\n"


def test_broken_rows_are_passed_over_and_counted_only_when_asked(
    tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_BYTES", 300)
    (tmp_path / "tok").mkdir()
    tokenizer.save(tmp_path / "tok", 96)
    (tmp_path / "x.jsonl").write_bytes(mixed(60))
    source = Text("own", "x.jsonl", holdout=10, root=str(tmp_path))
    asked = replace(source, skip_broken=True)
    assert "line 4: not JSON" in refused(tmp_path / "x.jsonl")
    assert len(read(tmp_path / "x.jsonl", skip_broken=True)) == 60
    assert content_hash(source) != content_hash(asked)
    mix = Mix("own", str(tmp_path / "tok"), 10_000, ((1.0, asked),))
    said: list[str] = []
    made = [prepare(mix, tmp_path / f"out{jobs}", jobs, said.append).read_bytes() for jobs in (1, 2)]
    index = json.loads(made[0])
    assert made[0] == made[1] and index["sources"][0]["skipped"] == len(BROKEN) > 6
    assert (
        sum(f["skipped"] for f in index["sources"][0]["files"]) == len(BROKEN) and len(index["sources"][0]["files"]) > 3
    )
    assert said.count("own: 7 broken rows of 67 skipped") == 2
    assert any(line.startswith("own: broken rows skipped: ") and "x.jsonl, line 4: not JSON" in line for line in said)
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(BROKEN))
    with pytest.raises(ValueError, match="source own holds no text: 7 broken rows were skipped"):
        prepare(mix, tmp_path / "none", 1, said.append)
    (tmp_path / "x.jsonl").write_bytes(mixed(60))
    with pytest.raises(ValueError, match="line 4: not JSON"):
        prepare(replace(mix, sources=((1.0, source),)), tmp_path / "strict", 1, said.append)


def test_a_study_counts_the_rows_that_it_passes_over(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    (tmp_path / "x.jsonl").write_bytes(mixed(60))
    source = JsonlText("own", "x.jsonl", holdout=10, root=str(tmp_path), skip_broken=True)
    counts = []
    for split in ("train", "validation"):
        skipped = Skipped()
        assert all("=" in text for text in source.documents(split, skipped))  # type: ignore[arg-type]
        folder = tmp_path / split
        folder.mkdir()
        write_shard(source, split, tokenizer, folder, 100_000)  # type: ignore[arg-type]
        assert json.loads((folder / "meta.json").read_text())["skipped"] == skipped.count
        counts.append(skipped.count)
    assert sum(counts) == len(BROKEN), "each once, in the split where its row would be"
    node = ShardNode(source, "train", TokenizerNode(((1.0, source),), 300, 0), 1000)
    (flag,) = node.flags(tmp_path / "train")
    assert flag.startswith(f"{counts[0]} broken rows were skipped, the first: {tmp_path / 'x.jsonl'}, line 4: not JSON")
    strict = replace(source, skip_broken=False)
    assert content_hash(strict) != content_hash(source)
    (tmp_path / "y.jsonl").write_bytes(b'{"text": "a"}\n')
    fine = tmp_path / "fine"
    fine.mkdir()
    write_shard(replace(strict, path="y.jsonl"), "train", tokenizer, fine, 100)
    assert "skipped" not in json.loads((fine / "meta.json").read_text()) and not node.flags(fine)


def test_broken_rows_of_a_table_are_passed_over_too(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b'id,text\n1,a\n2\n3,"b" c\n4,caf\xe9\n5,\n\n6,"d\ne"\n7,f\n')
    assert read(tmp_path / "x.csv", skip_broken=True) == ["a", "d\ne", "f"]
    (tmp_path / "x.json").write_text(json.dumps([ROWS[0], 5, {"text": None}, ROWS[1]]))
    assert read(tmp_path / "x.json", skip_broken=True) == TEXTS[:2]
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": [None if i % 7 == 3 else f"{i}" for i in range(20)]}), tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet", skip_broken=True) == [str(i) for i in range(20) if i % 7 != 3]


# --- one's own problems ---------------------------------------------------------------------------------------------


PROBLEMS = [{"question": f'Halve "{i}",\nplease: é', "answer": f"{i}/2"} for i in range(12)]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.json", "l.json", "a.jsonl", "p.jsonl.gz", "p.csv.xz", "p.txt"])
def test_own_problems_come_in_every_shape(tmp_path: Path, name: str) -> None:
    kind = name.split(".")[1]
    if kind in ("csv", "tsv"):
        out = io.StringIO()
        writer = csv.DictWriter(out, ["question", "answer", "solutions"], delimiter="," if kind == "csv" else "\t")
        writer.writeheader()
        writer.writerows(PROBLEMS)
        content = out.getvalue().encode()
    else:
        content = json.dumps(PROBLEMS, indent=1).encode() if name in ("p.json", "a.jsonl") else lines(PROBLEMS)
    packing = PACKING.get(Path(name).suffix)
    (tmp_path / name).write_bytes(packing(content) if packing else content)
    read = OwnProblems(test=name, root=str(tmp_path)).problems("test")
    assert [(p.question, p.answer, p.solutions) for p in read] == [(p["question"], p["answer"], ()) for p in PROBLEMS]


def test_own_problems_of_no_known_shape_are_refused_in_one_line(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.jsonl", lines(PROBLEMS).decode().encode("utf-16"), "UTF-16"),
        ("b.jsonl.gz", gzip.compress(lines(PROBLEMS))[:-9], "cut short"),
        ("c.csv", b"question,answer\nWhy?\n", "line 2: 1 fields"),
        ("d.jsonl", b'{"question": "caf\xe9", "answer": "1"}\n', r"line 1: not UTF-8 text \(byte 0xe9"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words) as e:
            OwnProblems(test=name, root=str(tmp_path)).problems("test")
        assert str(tmp_path / name) in str(e.value) and "\n" not in str(e.value)
