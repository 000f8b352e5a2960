"""The paper's general benchmarks by lm-eval's definitions, from the hub or from local files in their first format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foray.core.canonical import nearest, require, require_positive
from foray.core.field_types import require_types
from foray.core.files import digest_of_input, read_jsonl, write_atomic
from foray.data.rows import MissingFile

Row = dict[str, Any]


@dataclass(frozen=True)
class Benchmarks:
    """Benchmarks, by lm-eval's ``names``.

    With a ``folder`` (below ``root``) the rows come from files there, without the network. Otherwise lm-eval loads them
    from the Hugging Face cache or the hub. The key then names no commit: give a folder where rows must stay the same.
    A file ``NAME.jsonl`` goes before other files. Among other files, the split that lm-eval scores counts: test for
    LAMBADA, ARC and OpenBookQA (validation without a test file), validation for HellaSwag and PIQA, whose test labels
    are not public.

    ``limit`` takes the first rows of each benchmark. ``metric`` is ``acc`` or ``acc_norm``, the likelihood by length
    (LAMBADA has only ``acc``).
    """

    names: tuple[str, ...] = ("lambada_openai", "hellaswag", "arc_easy", "arc_challenge", "piqa", "openbookqa")
    folder: str = ""
    limit: int | None = None
    metric: str = "acc"
    root: str = field(default="", metadata={"hash": False})

    def __post_init__(self) -> None:
        require_types(self)
        for name in self.names:
            require(name in SETS, f"there is no benchmark {name!r}{nearest(name, SETS)}")
        require(self.metric in ("acc", "acc_norm"), f"metric must be acc or acc_norm, not {self.metric!r}")
        require_positive(self, "limit")

    def fingerprint(self) -> str:
        """The digests of the files. The place of the files does not matter."""
        return (
            " ".join(digest_of_input(path) for name in self.names for path in self._files(name)) if self.folder else ""
        )

    @property
    def questions(self) -> int:
        """The approximate number of a benchmark's questions, for the plan."""
        return self.limit or 2000

    def chance(self, name: str) -> float:
        """Accuracy of guessing."""
        if not self.folder:
            return SETS[name].chance
        choices = [SETS[name].choices(row) for row in self.rows(name)]
        return sum(1.0 / n if n else 0.0 for n in choices) / len(choices)

    def prepare(self, scratch: Path) -> dict[str, Path]:
        """A file for each local benchmark. The rows have the form of the official definition."""
        if not self.folder:
            return {}
        made = {}
        for name in self.names:
            made[name] = scratch / f"{name}.jsonl"
            rows = (json.dumps(row, allow_nan=False) + "\n" for row in self.rows(name))
            write_atomic(made[name], "".join(rows))
        return made

    def rows(self, name: str) -> list[Row]:
        """A benchmark's rows in the hub's schema. Raises ValueError naming file and row if a row is broken."""
        file, *more = self._files(name)
        given, found = read_jsonl(file), []
        require(bool(given), f"{file} has no rows")
        if more:  # labels in a second file
            labels = more[0].read_text(encoding="utf-8").split()
            require(
                len(labels) == len(given), f"{more[0]} has {len(labels)} labels for the {len(given)} rows of {file}"
            )
        for number, row in enumerate(given, 1):
            try:
                found.append(SETS[name].convert(row | {"label": labels[number - 1]} if more else row))
            except (KeyError, TypeError, ValueError, AttributeError) as e:
                raise ValueError(f"{file}, row {number}: not a row of {name} ({type(e).__name__}: {e})") from None
        return found[: self.limit]

    def _files(self, name: str) -> list[Path]:
        folder = Path(self.root) / self.folder
        for names in ((f"{name}.jsonl",), *SETS[name].files):
            paths = [folder / n for n in names]
            if all(p.exists() for p in paths):
                return paths
        known = ", ".join(" with ".join(names) for names in ((f"{name}.jsonl",), *SETS[name].files))
        raise MissingFile(f"benchmark {name}: {folder} has none of {known}", "say where the data lies with data.root")


@dataclass(frozen=True)
class _Set:
    """A benchmark: the names of its files, preferred names first; the conversion of a row to the hub's schema; the
    number of choices of a row (0: open); the accuracy of guessing.
    """

    files: tuple[tuple[str, ...], ...]
    convert: Callable[[Row], Row]
    choices: Callable[[Row], int]
    chance: float


def _lambada(row: Row) -> Row:
    text = str(row["text"])
    if len(text.split(" ")) < 2:
        raise ValueError("a text of less than two words")
    return {"text": text}


def _hellaswag(row: Row) -> Row:
    endings = [str(e) for e in row["endings"]]
    label = int(row["label"])
    if not 0 <= label < len(endings):
        raise ValueError(f"label {label} of {len(endings)} endings")
    names = ("activity_label", "ctx_a", "ctx_b")
    return {**{name: str(row[name]) for name in names}, "endings": endings, "label": str(label)}


def _piqa(row: Row) -> Row:
    label = str(row["label"])
    if label not in ("0", "1"):  # -1: a label that is not public
        raise ValueError(f"label {label} is neither 0 nor 1")
    return {name: str(row[name]) for name in ("goal", "sol1", "sol2")} | {"label": int(label)}


def _question(stem: str) -> Callable[[Row], Row]:
    """Rows of ARC and OpenBookQA. The hub calls the question ``stem``. The first publication has one object."""

    def convert(row: Row) -> Row:
        nested = isinstance(row.get("question"), Mapping)
        question, choices = (row["question"]["stem"], row["question"]["choices"]) if nested else (
            row[stem], row["choices"]
        )  # fmt: skip
        pairs = list(_pairs(choices))
        labels, key = [label for _, label in pairs], str(row["answerKey"]).strip()
        if key not in labels:
            raise ValueError(f"answerKey {key} is none of {', '.join(labels)}")
        texts = [text for text, _ in pairs]
        return {
            "id": str(row["id"]),
            stem: str(question),
            "choices": {"text": texts, "label": labels},
            "answerKey": key,
        }

    return convert


def _pairs(choices: Any) -> Iterator[tuple[str, str]]:
    if isinstance(choices, Mapping):
        return zip(map(str, choices["text"]), map(str, choices["label"]), strict=True)
    return ((str(c["text"]), str(c["label"])) for c in choices)


SETS: Mapping[str, _Set] = {
    "lambada_openai": _Set((("lambada_test.jsonl",),), _lambada, lambda row: 0, 0.0),
    "hellaswag": _Set((("hellaswag_val.jsonl",),), _hellaswag, lambda row: len(row["endings"]), 0.25),
    "arc_easy": _Set(
        (("arc_easy_test.jsonl",), ("ARC-Easy-Test.jsonl",), ("arc_easy_validation.jsonl",), ("ARC-Easy-Dev.jsonl",)),
        _question("question"), lambda row: len(row["choices"]["text"]), 0.25,
    ),
    "arc_challenge": _Set(
        (("arc_challenge_test.jsonl",), ("ARC-Challenge-Test.jsonl",),
         ("arc_challenge_validation.jsonl",), ("ARC-Challenge-Dev.jsonl",)),
        _question("question"), lambda row: len(row["choices"]["text"]), 0.25,
    ),
    "piqa": _Set((("piqa_valid.jsonl", "piqa_valid-labels.lst"), ("valid.jsonl", "valid-labels.lst")), _piqa,
                 lambda row: 2, 0.5),
    "openbookqa": _Set(
        (("openbookqa_test.jsonl",), ("test.jsonl",), ("openbookqa_validation.jsonl",), ("dev.jsonl",)),
        _question("question_stem"), lambda row: len(row["choices"]["text"]), 0.25,
    ),
}  # fmt: skip
