"""What is thrown at what: each target makes a case in a scratch folder and says the command lines to be run there."""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from foray.cli import build_parser
from foray.core.machine import Machine
from foray.core.userfile import bundled, load
from foray.study.spec import Study
from foray.tasks import named_tasks
from fuzzing import mutations
from fuzzing.child import End
from fuzzing.corpus import Corpus, json_lines, tasks


@dataclass
class Case:
    """Command lines to be run one after the other, and what else is asked of their ends."""

    commands: list[list[str]]
    right: Callable[[list[str], End], str] = lambda _words, _end: ""  # why an answer is wrong; empty where it is not
    before: Callable[[], None] = lambda: None  # in the child
    slow: bool = False  # what is asked may take any time: a limit that ends it is no finding
    said: dict[str, Any] = field(default_factory=dict)


Target = Callable[[random.Random, Path, Corpus], Case]


def command_lines(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """Any command with any of its options, in any order, with words that are known and words that are not."""
    commands = _subcommands()
    name = rng.choice(list(commands))
    mine = _copied(scratch, corpus)  # an option may have anything written to, or deleted from, what it names
    files = [*map(str, mine.values()), str(scratch / "new"), str(scratch), str(scratch / "no" / "such")]
    rows = str(mine["data"] / "gsm8k" / "test.jsonl")
    known = {
        "study": [str(mine["study"]), "smoke", "tiny"], "studies": [str(mine["study"]), "smoke"],
        "store": [str(mine["store"]), *files],
        "settings": ["seeds=1", "pretrain.lr=1e-3", "recipes=rl"], "machine_settings": ["device=cpu", "threads=1"],
        "jobs": ["1", "2"],
        "task": list(named_tasks()), "split": ["train", "test"], "x": ["flops", "samples"], "k": ["1", "1,2"],
        "hardware": ["h100x8"],
        "mix": [str(mine["mix"]), "world_1b"], "executor": ["local", "slurm"], "checkpoint": [str(mine["model"])],
        "part": ["x"], "slurm": ["time=3"], "file": [rows], "data_root": [str(mine["data"])],
    }  # fmt: skip
    words, small = (
        [name],
        {"problems": "2", "samples": "2", "max_new_tokens": "4", "step": "1", "seed": "0", "shots": "1"},
    )
    options = [a for a in commands[name]._actions if a.dest != "help"]
    rng.shuffle(options)
    for action in options:
        if (
            action.option_strings
            and not action.required
            and rng.random() < 0.6
            and action.dest not in ("problems", "samples")
        ):
            continue
        if rng.random() < 0.03:
            continue
        values = [
            *known.get(action.dest, []),
            *(action.choices or []),
            *([small[action.dest]] if action.dest in small else []),
        ]
        several = rng.choice([1, 1, 2, 0]) if action.nargs == "+" else 1
        given = [] if action.nargs == 0 else [mutations.word(rng, values or files) for _ in range(several)]
        words += [*action.option_strings[:1], *given]
    if rng.random() < 0.1:
        words.insert(rng.randint(0, len(words)), rng.choice([*mutations.WORDS, "--help", "--version", "--nothing"]))
    words = [str(scratch) + w if w.startswith("/") and not w.startswith(str(scratch)) else w for w in words]
    return Case([_safe(words)], before=_nothing_is_run, slow=True)


def _copied(scratch: Path, corpus: Corpus) -> dict[str, Path]:
    parts = {"study": corpus.study, "mix": corpus.mix, "store": corpus.store, "model": corpus.checkpoints[0]}
    for name, path in (parts | {"data": corpus.data}).items():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, scratch / name)
    for name in ("study", "mix"):
        (scratch / name).rename(scratch / f"{name}.py")
    return {n: scratch / (f"{n}.py" if n in ("study", "mix") else n) for n in (*parts, "data")}


def _safe(words: list[str]) -> list[str]:
    """What no shell could pass is taken out; how many processes are asked for is another test's."""
    words = [
        w.replace("\0", "").encode("utf-8", "surrogateescape" if w.isascii() else "ignore").decode() for w in words
    ]
    for option in ("--jobs",):
        for at, _ in enumerate(words[:-1]):
            if words[at] == option and words[at + 1].strip().isdecimal() and len(words[at + 1]) > 1:
                words[at + 1] = "2"
    return words


def _subcommands() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return next(dict(a.choices) for a in actions if isinstance(a, argparse._SubParsersAction))


def _nothing_is_run() -> None:
    """In place of a run, which would take minutes where nothing is wrong: all that is asked before it."""
    from foray.commands import on_studies

    def planned(
        study: Study, store: Any, console: Any, executor: Any = None, part: str | None = None, command: Any = None
    ) -> Path:
        on_studies.check_study(study)
        on_studies.expand(study, part)
        return Path(store.root) / "report" / "index.html"

    for name in ("on_studies", "watch"):  # the package's own "watch" is its function
        vars(import_module(f"foray.commands.{name}"))["run_study"] = planned


def paths_of(spec: Any, way: str = "") -> list[tuple[str, Any]]:
    """Every setting of a spec by its full path, with its value."""
    items: list[tuple[str, Any]] = []
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        items = [(f.name, getattr(spec, f.name)) for f in dataclasses.fields(spec)]
    elif isinstance(spec, tuple | list):
        items = [(str(i), v) for i, v in enumerate(spec)]
    elif isinstance(spec, dict):
        items = [(str(k), v) for k, v in spec.items()]
    found = [(way, spec)] if way else []
    for name, value in items:
        found += paths_of(value, f"{way}.{name}" if way else name)
    return found


def setting(rng: random.Random, paths: list[tuple[str, Any]]) -> str:
    """A setting with another value, of its own kind or of any."""
    way, value = rng.choice(paths)
    if rng.random() < 0.2 and "." in way:  # levels may be left out
        parts = way.split(".")
        way = ".".join(p for p in parts[:-1] if rng.random() < 0.5) + "." + parts[-1]
        way = way.removeprefix(".")
    if rng.random() < 0.05:
        way = mutations.text(rng, way)
    kind = rng.random()
    if kind < 0.3 and isinstance(value, int | float):
        new = repr(
            rng.choice([0, 1, -value, value + 1, value * 2, value / 2, value * 10**6, 10**9, 10**18, 1e-30, 0.5])
        )
    elif kind < 0.4:
        other = rng.choice(paths)[1]
        new = json.dumps(other, default=str)
    else:
        new = mutations.word(rng, [json.dumps(value, default=str), str(value)])
    return f"{way}={new}"


def settings(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """Settings of every bundled study, from their own trees, planned; of the machine and of hardware too."""
    name = rng.choice([*bundled("studies"), str(corpus.study), str(corpus.study)])
    made, _ = load(name, "study", "studies", Study)
    paths, machines = paths_of(made), paths_of(Machine("cpu"))
    words = ["plan", name, "--store", str(scratch / "store"), "--jobs", "1"]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        words += ["--set", setting(rng, paths)]
    if rng.random() < 0.2:
        words += ["--machine", setting(rng, machines)]
    if rng.random() < 0.2:
        words += ["--hardware", mutations.word(rng, ["h100x8", "a100x1", "h200x64", "h100", "b200x0"])]
    return Case([_safe(words)], slow=True)


def runs(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """Settings of a small study that is then run, as far as it comes in ten seconds."""
    paths = paths_of(load(str(corpus.study), "study", "studies", Study)[0])
    words = ["run", str(corpus.study), "--store", str(scratch / "store"), "--jobs", "1"]
    shutil.copytree(corpus.store, scratch / "store")
    for _ in range(rng.choice([1, 1, 2])):
        words += ["--set", setting(rng, paths)]
    return Case([_safe(words)], slow=True)


_SAMPLE = ["--problems", "3", "--samples", "2", "--max-new-tokens", "4", "--k", "1,2"]


def checkpoints(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """A checkpoint's config, weights, index and tokenizer, evaluated."""
    folder = scratch / "model"
    shutil.copytree(rng.choice(corpus.checkpoints), folder)
    for path in rng.choices(sorted(folder.iterdir()), k=rng.choice([1, 1, 2])):
        if path.is_file():
            mutations.file(rng, path)
    return Case([["eval", str(folder), "--task", "gsm8k", "--data-root", str(corpus.data), *_SAMPLE]])


def tokenizers(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """A tokenizer's two files, in a checkpoint that is evaluated or in a folder that a mix names."""
    folder = scratch / "model"
    shutil.copytree(corpus.checkpoints[0], folder)
    mutations.file(rng, folder / rng.choice(["tokenizer.json", "tokenizer.json", "tokenizer_config.json"]))
    words = ["eval", str(folder), "--task", "gsm8k", "--data-root", str(corpus.data), *_SAMPLE]
    if rng.random() < 0.5:
        root, out = str(corpus.prepared.parent / "texts"), str(scratch / "out")
        words = [
            "prepare",
            str(corpus.mix),
            "--data-root",
            root,
            "--out",
            out,
            "--jobs",
            "1",
            "--set",
            f"tokenizer={folder}",
        ]
    return Case([words])


def texts(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """A file of documents of any format and packing, prepared."""
    root = scratch / "data"
    root.mkdir()
    (root / "other.jsonl").write_bytes(corpus.text[".jsonl"])
    ending = rng.choice(list(corpus.text))
    path = root / f"text{ending}"
    path.write_bytes(corpus.text[ending])
    inner = ending.partition(".")[2].partition(".")
    if inner[1] and rng.random() < 0.6:  # what is packed is wrong, and packed well
        path.write_bytes(_packed(ending, _edited(rng, f".{inner[0]}", corpus.text[f".{inner[0]}"])))
    else:
        mutations.file(rng, path)
    words = ["prepare", str(corpus.mix), "--data-root", str(root), "--out", str(scratch / "out"), "--jobs", "1"]
    if rng.random() < 0.3:
        words += ["--set", f"sources.0.1.skip_broken={rng.choice(['true', 'false'])}"]
    if rng.random() < 0.2:
        words += [
            "--set",
            f"sources.0.1.format={mutations.word(rng, ['jsonl', 'json', 'csv', 'tsv', 'parquet', 'text'])}",
        ]
    if rng.random() < 0.2:
        words += ["--set", f"sources.0.1.column={mutations.word(rng, ['text', 'meta.lang', 'id', 'meta'])}"]
    return Case([_safe(words)])


def _edited(rng: random.Random, ending: str, content: bytes) -> bytes:
    return mutations.lines(rng, content) if ending == ".jsonl" else mutations.data(rng, content)


def _packed(ending: str, content: bytes) -> bytes:
    import bz2
    import gzip
    import lzma

    import zstandard

    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}
    return pack[ending.rpartition(".")[2]](content)


def task_files(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """The files of every task, in JSON Lines and other formats, evaluated on its splits."""
    root = tasks(scratch / "data")
    name = rng.choice([n for n in named_tasks() if not n.startswith("world")])
    first = {"gsm8k_boxed": "gsm8k", "jsonl": "t"}.get(
        name, name.replace("openmath", "openmathinstruct").partition("_")[0]
    )
    files = [p for p in sorted(root.rglob("*.json*")) if str(p.relative_to(root)).startswith(first)]
    for path in rng.choices(files, k=rng.choice([1, 1, 2])):
        if path.is_file():
            mutations.file(rng, path)
    words = ["eval", str(corpus.checkpoints[0]), "--task", name, "--data-root", str(root), *_SAMPLE]
    words += ["--split", rng.choice(["train", "validation", "test"]), "--shots", rng.choice(["0", "0", "1", "2"])]
    return Case([words])


def grading(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """Files to grade: other rows, other shapes, answers that are no answers, settings beside them."""
    kind = rng.choice(list(corpus.grading))
    path = scratch / ("completions.jsonl" if kind == "own" else "in.jsonl")
    rows = rng.sample(corpus.grading[kind], min(6, len(corpus.grading[kind])))
    for row in rows:
        if "answer" in row and rng.random() < 0.5:
            row = row | {"answer": mutations.text(rng, row["answer"])}
    path.write_bytes(json_lines(rows))
    if rng.random() < 0.8:
        mutations.file(rng, path)
    task = mutations.word(rng, ["gsm8k", "gsm8k", "gsm8k_boxed", "svamp", "world_easy", "math", "jsonl"])
    if kind == "own" and rng.random() < 0.7:
        spec = scratch / rng.choice(["spec.json", "settings.json"])
        spec.write_text(json.dumps({"task": {"type": "GSM8K", "train": "a", "test": "b", "box": False}}))
        task = rng.choice(["-", "-", "gsm8k"])
        if rng.random() < 0.6:
            mutations.file(rng, spec)
    words = ["grade", task, str(path), "--out", str(scratch / "graded.jsonl")]
    words += rng.choice([[], ["--lenient"], ["--flexible"]])
    words += rng.choice([[], ["--k", mutations.word(rng, ["1", "1,2"])], ["--suffix", mutations.word(rng, ["_2"])]])
    return Case([_safe(words)])


def stores(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """Files of a finished store, then the commands that read it: no number of the report may change in silence."""
    store = scratch / "store"
    shutil.copytree(corpus.store, store)
    files = sorted(p for p in store.rglob("*") if p.is_file() and "figures" not in p.parts)
    by_name: dict[str, list[Path]] = {}
    for p in files:
        by_name.setdefault(f"{p.parent.name.rpartition('-')[0]}/{p.name}", []).append(p)
    for name in rng.choices(sorted(by_name), k=rng.choice([1, 1, 1, 2, 3])):
        path = rng.choice(by_name[name])
        if path.is_file():
            mutations.file(rng, path)
    study, at = str(corpus.study), ["--store", str(store)]
    commands = [
        ["report", study, *at], ["check", str(store), "--jobs", "1"], ["ls", study, *at], ["gc", study, *at], ["plan",
        study, *at],
        ["data", "show", study, *at, "--step", "1"], ["gc", study, *at, "--delete"], ["run", study, *at, "--jobs", "1"],
        ["check", str(store), "--repair", "--jobs", "1"], ["run", study, *at, "--jobs", "1"],
    ]  # fmt: skip
    chosen = sorted(rng.sample(range(len(commands)), rng.choice([1, 2, 3])))

    def right(words: list[str], end: End) -> str:
        if words[0] not in ("report", "run") or end.code:
            return ""
        for name, content in corpus.report.items():
            there = store / "report" / name
            made = there.read_bytes() if there.exists() else b""  # of what is left out there may be no table
            if name in ("results.csv", "contamination.csv", "transitions.csv") and made != content:
                lines = set(content.splitlines())
                lost = [line for line in made.splitlines() if line not in lines]
                if lost or words[0] == "run":
                    return f"another {name}: {lost[:1]}"
        return ""

    return Case([commands[i] for i in chosen], right, slow=True)


def mixes(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """Settings of mixes, and the files of a corpus that is there already, prepared again and planned with."""
    from foray.data.prepare import Mix

    out = scratch / "out"
    root = str(corpus.prepared.parent / "texts")
    words = ["prepare", str(corpus.mix), "--data-root", root, "--out", str(out), "--jobs", "1"]
    if rng.random() < 0.4:
        made, _ = load(str(corpus.mix), "mix", "mixes", Mix)
        for _ in range(rng.choice([1, 1, 2])):
            words += ["--set", setting(rng, paths_of(made))]
        return Case([_safe(words)], slow=True)
    shutil.copytree(corpus.prepared, out)
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != ".lock")
    for path in rng.choices(files, k=rng.choice([1, 1, 2])):
        if path.is_file():
            mutations.file(rng, path)
    (scratch / "study.py").write_text(
        "from dataclasses import replace\nfrom test_study import study as mini\n"
        "from foray.data.prepared import Prepared\n\n"
        "def study():\n    made = mini(recipes=('sft',))\n    source = made.pretrain.stream.source\n"
        f"    mixture = ((0.5, Prepared('mine', {str(out)!r})), (0.5, Prepared('other', {str(out)!r})))\n"
        "    stream = replace(made.pretrain.stream, source=replace(source, mixture=mixture))\n"
        "    return replace(made, pretrain=replace(made.pretrain, stream=stream))\n"
    )
    plan = [
        "plan",
        str(scratch / "study.py"),
        "--store",
        str(scratch / "store"),
        "--set",
        f"data.tokenizer={out / 'tokenizer'}",
    ]
    return Case(rng.choice([[words], [plan], [plan, words]]))


def evaluations(rng: random.Random, scratch: Path, corpus: Corpus) -> Case:
    """The folder of an earlier ``foray eval --out``, which is gone on with."""
    out = scratch / "out"
    words = [
        "eval",
        str(corpus.checkpoints[0]),
        "--task",
        "gsm8k",
        "--data-root",
        str(corpus.data),
        *_SAMPLE,
        "--out",
        str(out),
    ]
    numbers: dict[str, str] = {}

    def right(_words: list[str], end: End) -> str:
        if end.code:
            return ""
        if not numbers:
            numbers["first"] = end.out
            for path in rng.choices(sorted(p for p in out.iterdir() if p.is_file()), k=rng.choice([1, 1, 2])):
                if path.is_file():
                    mutations.file(rng, path)
        elif end.out != numbers["first"]:
            return "other numbers than before"
        return ""

    return Case([words, words], right)


TARGETS: dict[str, Target] = {
    "command lines": command_lines, "settings": settings, "runs": runs, "checkpoints": checkpoints,
    "tokenizers": tokenizers,
    "texts": texts, "task files": task_files, "grading": grading, "stores": stores, "mixes": mixes,
    "evaluations": evaluations,
}  # fmt: skip
