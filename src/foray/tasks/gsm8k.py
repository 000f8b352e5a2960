"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168) from local JSON Lines files in the published schema."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from foray.core.files import digest, read_jsonl
from foray.core.rng import key
from foray.core.task import Extraction, Problem, Split, Verdict, question_answer_prompt
from foray.data.corpus import WHERE_DATA_LIES, TextSplit

MARK = "####"
_NOTE = re.compile(r"<<[^<>]{0,200}>>")  # calculator marks, which are no part of the text
_NUMBER = r"(-?)\$?(-?)((?:\d{1,3}(?:,\d{3}){1,6}(?!\d)|\d{1,18})(?:\.\d{1,12})?|\.\d{1,12})"
_MARKED = re.compile(rf"[ \t]*{_NUMBER}(?![\d,]*\d|\.\d)")
_ANY = re.compile(rf"(?<![\d.,]){_NUMBER}")


@dataclass(frozen=True)
class GSM8K:
    """Grade-school word problems with one solution each.

    ``train`` and ``test`` are paths below ``root`` (an empty root is filled with the study's ``data.root``); a tenth of
    the training questions, chosen by their text, is the validation split. The hash is of the files' contents.
    """

    root: str = field(default="", metadata={"hash": False})
    train: str = "gsm8k/train.jsonl"
    test: str = "gsm8k/test.jsonl"

    @property
    def name(self) -> str:
        return "gsm8k"

    @property
    def stop(self) -> tuple[str, ...]:
        return ("\n\n", "Question:")

    def fingerprint(self) -> str:
        return " ".join(digest(_existing(Path(self.root) / name)) for name in (self.train, self.test))

    def problems(self, split: Split, count: int | None = None) -> Sequence[Problem]:
        """The first ``count`` problems of a split in file order. Raises ValueError naming file and line of bad rows."""
        path = Path(self.root) / (self.test if split == "test" else self.train)
        rows = _rows(_existing(path), path.stat().st_mtime_ns)
        chosen = rows if split == "test" else [p for p in rows if _held_out(p.question) == (split == "validation")]
        return chosen[:count]

    def prompt(self, question: str, examples: Sequence[Problem] = ()) -> str:
        return question_answer_prompt(self, question, examples)

    def target(self, solution: str) -> str:
        return " " + solution

    def verify(self, problem: Problem, completion: str, extraction: Extraction = "strict") -> Verdict:
        """Compares the number after the first ``####``; lenient: without such a number, the last one of the text."""
        at = completion.find(MARK)
        found = _MARKED.match(completion, at + len(MARK)) if at >= 0 else None
        formatted = found is not None
        if found is None and extraction == "lenient":
            found = next(iter(deque(_ANY.finditer(completion), maxlen=1)), None)
        if found is None:
            return Verdict(0.0, False, f"no number after {MARK}" if at >= 0 else f"no {MARK}")
        value = _value(found)
        right = value == Decimal(problem.answer)
        return Verdict(float(right), formatted, "right" if right else f"{value}, should be {problem.answer}")


@dataclass(frozen=True)
class GSM8KText:
    """The training questions and solutions as pre-training text, several to a document, in the task's own format.

    The task's validation questions are this source's validation split, so that neither is trained on.
    """

    name: str = "gsm8k"
    task: GSM8K = GSM8K()
    per_document: int = 4

    def documents(self, split: TextSplit) -> Iterator[str]:
        problems = self.task.problems(split)
        for start in range(0, len(problems), self.per_document):
            blocks = [self.task.prompt(p.question) + self.task.target(p.solutions[0]) for p in
                      problems[start : start + self.per_document]]  # fmt: skip
            yield "\n\n".join(blocks)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path} does not exist; {WHERE_DATA_LIES}")
    return path


@lru_cache(maxsize=8)
def _rows(path: Path, stamp: int) -> tuple[Problem, ...]:
    problems = []
    for number, row in enumerate(read_jsonl(path), 1):
        question, text = (row.get("question"), row.get("answer")) if isinstance(row, dict) else (None, None)
        if not isinstance(question, str) or not isinstance(text, str):
            raise ValueError(f"{path}, row {number}: expected the fields question and answer with text in them")
        solution = _NOTE.sub("", text).strip()
        found = _MARKED.match(solution, solution.find(MARK) + len(MARK)) if MARK in solution else None
        if found is None:
            raise ValueError(f"{path}, row {number}: the answer does not end in '{MARK} <number>'")
        problems.append(Problem(f"{path.stem}-{number}", question.strip(), str(_value(found)), (solution,)))
    return tuple(problems)


def _value(found: re.Match[str]) -> Decimal:
    sign = -1 if "-" in (found.group(1) + found.group(2)) else 1
    return sign * Decimal(found.group(3).replace(",", ""))


def _held_out(question: str) -> bool:
    return key("gsm8k validation", question.strip()) % 10 == 0
