"""What is valid before it is made wrong: a finished store, checkpoints, data files of every format, files to grade."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from safetensors.torch import load_file, save_file

STUDY = """\
from test_study import pretrained_to, study as mini

def study():
    return mini(recipes=("sft",), pretrain=pretrained_to(768))
"""
MIX = """\
from foray.data.prepare import Mix, OwnTokenizer
from foray.data.text import Text

def mix():
    sources = (2.0, Text("mine", "text.*", holdout=4)), (1.0, Text("other", "other.jsonl", holdout=0))
    return Mix("small", OwnTokenizer(300, 2000), 500, sources)
"""
QUESTIONS = [(f"What is {a} + {b}?", str(a + b)) for a in range(4) for b in range(4)]
ANSWERS = [
    "#### 5", "5", "It is 5.", "\\boxed{5}", "\\frac{1}{2}", "$1{,}000", "5 \\text{ cm}", "x^2+1", "(1, 2]",
    "5 million", "",
    "50\\%", "2^{10}", "\\sqrt{2}", "½", "5 ft 11 in", "0.333333", "\\begin{pmatrix}1\\\\2\\end{pmatrix}",
    "\\text{even}", "5x",
]  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """Folders of valid inputs, none of which is written to after it is made."""

    study: Path
    store: Path
    report: dict[str, bytes]  # the tables of the store, which no damage may change in silence
    checkpoints: tuple[Path, ...]
    data: Path  # ``--data-root`` of every task
    text: dict[str, bytes]  # files of documents by their ending
    mix: Path
    prepared: Path
    grading: dict[str, list[Any]]


def make(folder: Path, foray: Callable[[list[str]], None]) -> Corpus:
    """Makes all of it; ``foray`` runs a command that has to work."""
    folder.mkdir(parents=True)
    study, store = folder / "mine.py", folder / "store"
    study.write_text(STUDY)
    foray(["run", str(study), "--store", str(store), "--jobs", "1"])
    shutil.rmtree(store / "claims", ignore_errors=True)
    data = tasks(folder / "data")
    model = sorted(store.glob("nodes/train-*/model"))[0]
    checkpoints = (model, sharded(model, folder / "sharded"))
    text = documents()
    mix = folder / "mixture.py"
    mix.write_text(MIX)
    (folder / "texts").mkdir()
    (folder / "texts" / "text.jsonl").write_bytes(text[".jsonl"])
    (folder / "texts" / "other.jsonl").write_bytes(text[".jsonl"])
    foray(["prepare", str(mix), "--data-root", str(folder / "texts"), "--out", str(folder / "prepared"), "--jobs", "1"])
    tables = {p.name: p.read_bytes() for p in (store / "report").glob("*.csv") if p.name != "ledger.csv"}
    own = [json.loads(line) for line in sorted(store.glob("nodes/passk-*/completions.jsonl"))[0].open()]
    grading = {
        "answers": [{"gold": g, "answer": a} for g in ("5", "#### 5", "\\boxed{\\frac{1}{2}}") for a in ANSWERS],
        "completions": [{"question": q, "gold": a, "completions": ANSWERS[:4]} for q, a in QUESTIONS[:6]],
        "own": own,
    }
    return Corpus(study, store, tables, checkpoints, data, text, mix, folder / "prepared", grading)


def sharded(model: Path, folder: Path) -> Path:
    """The same checkpoint in two files and an index."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number in range(2):
        name = f"model-{number + 1:05d}-of-00002.safetensors"
        part = dict(list(tensors.items())[number::2])
        save_file(part, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def tasks(folder: Path) -> Path:
    """The files that every task reads below its root."""
    gsm8k = [{"question": q, "answer": f"So it is <<{a}={a}>>{a}.\n#### {a}"} for q, a in QUESTIONS]
    math = [
        {"problem": q, "solution": f"It is $\\boxed{{{a}}}$.", "level": "Level 1", "type": "Algebra"}
        for q, a in QUESTIONS
    ]
    open1 = [
        {"question": q, "expected_answer": a, "generated_solution": f"It is \\boxed{{{a}}}.",
        "error_message": "<not_executed>",
         "is_correct": True, "dataset": "gsm8k"} for q, a in QUESTIONS
    ]  # fmt: skip
    open2 = [
        {"problem": q, "expected_answer": a, "generated_solution": f"It is \\boxed{{{a}}}.",
        "problem_source": "math"} for q, a in QUESTIONS
    ]  # fmt: skip
    svamp = [
        {"ID": f"x-{i}", "Body": "We add.", "Question": q, "Equation": f"( {a} + 0 )", "Answer": float(a)}
        for i, (q, a) in enumerate(QUESTIONS)
    ]
    own = [{"question": q, "answer": a, "solutions": [f"It is {a}."]} for q, a in QUESTIONS]
    files = {
        "gsm8k/train.jsonl": gsm8k, "gsm8k/test.jsonl": gsm8k[:5], "math/train.jsonl": math,
        "math/test.jsonl": math[:5],
        "math500/test.jsonl": math[:5], "openmathinstruct1/train.jsonl": open1, "openmathinstruct2/train.jsonl": open2,
        "train.jsonl": own, "test.jsonl": own[:5],
    }  # fmt: skip
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(json_lines(rows))
    (folder / "svamp").mkdir()
    for name in ("train", "test"):
        (folder / "svamp" / f"{name}.json").write_text(json.dumps(svamp[: None if name == "train" else 5]))
    return folder


def documents() -> dict[str, bytes]:
    """Documents in every format that a source of text may have, packed ones too."""
    rows = [{"id": i, "text": f"{q} It is {a}.", "meta": {"lang": "en"}} for i, (q, a) in enumerate(QUESTIONS)]
    made = {
        ".jsonl": json_lines(rows),
        ".json": json.dumps(rows).encode(),
        ".txt": "\n\n".join(r["text"] for r in rows).encode(),
    }
    for ending, comma in ((".csv", ","), (".tsv", "\t")):
        out = io.StringIO()
        writer = csv.writer(out, delimiter=comma)
        writer.writerows([["id", "text"], *([r["id"], r["text"]] for r in rows)])
        made[ending] = out.getvalue().encode()
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table, row_group_size=5)
    made[".parquet"] = table.getvalue()
    packers = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }
    for ending, pack in packers.items():
        for inner in (".jsonl", ".csv", ".txt"):
            made[inner + ending] = pack(made[inner])
    return made
