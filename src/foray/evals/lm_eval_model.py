"""Foray's models in EleutherAI's lm-eval: the embedded probes and, under their official names, the real benchmarks.

lm-eval asks a model for log-likelihoods of continuations. One plain function, ``Score``, answers. lm-eval is an
optional extra and slow to import, so the first use imports lm-eval.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from foray.data.hub import datasets_library

TASK_FOLDER = Path(__file__).parent / "probes"

Score = Callable[[list[list[int]], list[int]], list[tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]]]
"""(token rows, n of each row) -> log-probabilities of the row's last n tokens, and whether each is the likeliest."""


class Codec(Protocol):
    """A tokenizer as lm-eval uses one."""

    @property
    def end_id(self) -> int:
        """The token that an empty context becomes."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        ...


@dataclass(frozen=True)
class ProbeResult:
    """The outcome of one task over ``n`` documents: lm-eval's number for every metric, and the values by document.

    ``stderr`` is the standard error of the mean; None if the metric is not a mean over documents. ``facts`` numbers
    what each document asks for, by the row's ``fact`` or else by its context.
    """

    n: int
    metrics: dict[str, float]
    stderr: dict[str, float | None]
    per_doc: dict[str, list[float]]
    facts: list[int]


def split_pairs(
    codec: Codec, pairs: Sequence[tuple[str, str]], start: Sequence[int] = ()
) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) texts as tokens, split as lm-eval's Hugging Face model splits them.

    Trailing spaces of the context move to the continuation. Context and continuation are encoded as one text. The cut
    lies at the number of tokens of the context alone. ``start`` stands before every context. An empty context becomes
    ``start``, or the end token if ``start`` is empty.
    """
    first = list(start) or [codec.end_id]
    contexts, wholes = [], []
    for context, continuation in pairs:
        cut = len(context.rstrip()) if context else 0
        contexts.append(context[:cut])
        wholes.append(context + continuation)
    unique = list(dict.fromkeys(contexts))
    lengths = {text: len(ids) for text, ids in zip(unique, codec.encode_batch(unique))}
    result = []
    for (context, _), bare, ids in zip(pairs, contexts, codec.encode_batch(wholes)):
        if context == "" and ids and ids[0] == codec.end_id:
            result.append((ids[:1], ids[1:]))
        elif context == "" or (start and ids[:1] != [codec.end_id]):
            at = lengths[bare]
            result.append(([*first, *ids[:at]], ids[at:]))
        else:
            result.append((ids[: lengths[bare]], ids[lengths[bare] :]))
    return result


def score_pairs(
    score: Score, pairs: Sequence[tuple[list[int], list[int]]], max_length: int, batch_tokens: int = 16_384
) -> list[tuple[float, bool]]:
    """(context, continuation) tokens -> (log-likelihood of the continuation, whether greedy decoding gives it).

    Rows keep their last ``max_length`` inputs. Batches have about ``batch_tokens`` tokens. The longest rows come first.
    Equal rows are scored once. Raises ValueError for an empty context or continuation, and for a continuation longer
    than ``max_length``.
    """
    rows: dict[tuple[int, ...], int] = {}
    places: list[int] = []
    last: list[int] = []  # the number of tokens asked for at the end of each row
    for context, continuation in pairs:
        if not context or not continuation:
            raise ValueError("a likelihood request needs at least one token of context and one of continuation")
        if len(continuation) > max_length:
            raise ValueError(f"a continuation of {len(continuation)} tokens does not fit the context of {max_length}")
        row = tuple((context + continuation)[-(max_length + 1) :])
        places.append(rows.setdefault(row, len(rows)))
        if places[-1] == len(last):
            last.append(0)
        last[places[-1]] = max(last[places[-1]], len(continuation))
    texts = list(rows)
    order = sorted(range(len(texts)), key=lambda at: (-len(texts[at]), at))
    scored: dict[int, tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]] = {}
    at = 0
    while at < len(order):
        size = max(1, batch_tokens // len(texts[order[at]]))
        batch = order[at : at + size]
        scored.update(zip(batch, score([list(texts[i]) for i in batch], [last[i] for i in batch]), strict=True))
        at += size
    answers = []
    for (_, continuation), place in zip(pairs, places):
        logprobs, greedy = scored[place]
        size = len(continuation)
        answers.append((float(np.sum(logprobs[-size:], dtype=np.float64)), bool(np.all(greedy[-size:]))))
    return answers


def _lm_eval(module: str) -> Any:
    try:
        return importlib.import_module(f"lm_eval.{module}")
    except ImportError as error:
        raise ValueError(f"the probes need lm-eval ({error}); pip install -e '.[evals]' in Foray's folder") from error


@lru_cache(maxsize=1)
def _lm_class() -> type:
    """The lm-eval model class. The first use makes the class, because its base class needs the import."""
    base = _lm_eval("api.model").LM

    class ForayLM(base):  # type: ignore[misc, valid-type]
        """A Foray model as lm-eval sees one. See ``foray_lm`` for the arguments."""

        def __init__(self, codec: Codec, score: Score, max_length: int, start: Sequence[int]) -> None:
            super().__init__()
            self.codec, self.score, self.max_length, self.start = codec, score, max_length, start

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            pairs = split_pairs(self.codec, [request.args for request in requests], self.start)
            return score_pairs(self.score, pairs, self.max_length)

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            raise ValueError("this task scores whole texts; Foray's lm-eval model scores continuations")

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            raise ValueError("this task generates text; Foray's lm-eval model scores continuations")

    return ForayLM


def foray_lm(codec: Codec, score: Score, max_length: int, start: Sequence[int] = ()) -> Any:
    """A Foray model as an ``lm_eval.api.model.LM``. Raises ValueError without lm-eval.

    ``max_length`` is the model's context in tokens. ``start``: the tokens that a document of the model begins with.
    """
    return _lm_class()(codec, score, max_length, start)


@contextmanager
def _lean() -> Iterator[None]:
    """Inside, lm-eval shows no progress bars and no notices, and compiles a template once, not for every document.

    The garbage collector rests: it finds nothing, and its walks through many objects take a sixth of the time.
    """
    task_module, environment = _lm_eval("api.task"), _lm_eval("utils").env
    logger = logging.getLogger("lm_eval")
    level, collecting = logger.level, gc.isenabled()
    logger.setLevel(logging.ERROR)
    gc.disable()
    try:
        with (
            patch.object(task_module, "tqdm", lambda iterable, **_: iterable),
            patch.object(environment, "from_string", lru_cache(maxsize=256)(environment.from_string)),
        ):
            yield
    finally:
        logger.setLevel(level)
        if collecting:
            gc.enable()


def _read_rows(file: str, **_: Any) -> Any:
    """A JSON Lines file as a dataset in memory, under the name of every split. The user's cache stays untouched."""
    datasets = datasets_library()
    with open(file, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    if not rows:
        raise ValueError(f"{file} has no rows")
    table = datasets.Dataset.from_list(rows)
    return datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), table))


@lru_cache(maxsize=1)
def _own() -> Any:
    """The index of Foray's own tasks."""
    return _lm_eval("tasks").TaskManager(include_path=str(TASK_FOLDER), include_defaults=False)


@lru_cache(maxsize=16)
def _official(name: str) -> Any:
    """The index of lm-eval's tasks: of the folder with a file of that name, or else of all folders (slow)."""
    module = _lm_eval("tasks")
    for file in sorted(Path(module.__file__).parent.glob(f"**/{escape(name)}.yaml")):
        manager = module.TaskManager(include_path=str(file.parent), include_defaults=False)
        if name in manager.all_subtasks:
            return manager
    return module.TaskManager()


@lru_cache(maxsize=64)
def _task(name: str, file: str, stamp: int) -> Any:
    """A task object, kept for the next checkpoint. ``stamp``: when the file was last changed."""
    manager = _own() if name in _own().all_subtasks else _official(name)
    if name not in manager.all_subtasks:
        near = get_close_matches(name, [*_own().all_subtasks, *manager.all_subtasks], n=1, cutoff=0.0)
        raise ValueError(f"unknown task {name!r}; the nearest one is {near[0]}")
    config: dict[str, Any] = {"task": name}
    if file:
        config |= {"custom_dataset": _read_rows, "dataset_kwargs": {"file": file}, "metadata": None}
    # Settings reach a registered task only through a group that lists the task. A bare dict would define a new task.
    try:
        return _asks_once(manager.load([{"group": "foray", "task": [config]}])["tasks"][name])
    except (OSError, ValueError) as e:  # datasets raises these errors without a network, and for gated or absent data
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ValueError(f"the data of {name} cannot be had ({reason}); give a folder with its files") from None


def _asks_once(task: Any) -> Any:
    """The task, which now builds its requests for the first checkpoint and gives the same ones to the next."""
    build, built = task.build_all_requests, list[int | None]()

    def build_once(*, limit: int | None = None, **settings: Any) -> None:
        if built != [limit]:
            build(limit=limit, **settings)
            built[:] = [limit]
        for request in task.instances:
            request.resps, request.filtered_resps = [], {}

    task.build_all_requests = build_once
    return task


def run_probes(
    lm: Any, names: Sequence[str], files: Mapping[str, Path], limit: int | None = None
) -> dict[str, ProbeResult]:
    """Evaluates an lm-eval model on tasks, 0-shot as the tasks are defined.

    ``files`` holds the rows of tasks, in JSON Lines. lm-eval loads the rows of any other task by its official name,
    from the Hugging Face cache or the hub. ``limit`` takes the first documents only. Raises ValueError for unknown
    tasks, for Foray's own tasks without a file, and without lm-eval.
    """
    evaluate = _lm_eval("evaluator").evaluate
    with _lean():
        tasks = {name: _load(name, files.get(name)) for name in names}
        outcome = evaluate(lm, {"tasks": tasks}, limit=limit, bootstrap_iters=0, log_samples=True)
    return {name: _result(outcome["results"][name], outcome["samples"][name]) for name in names}


def _load(name: str, file: Path | None) -> Any:
    if file is None and name in _own().all_subtasks:
        raise ValueError(f"task {name} needs a file with its rows")
    return _task(name, str(file or ""), 0 if file is None else file.stat().st_mtime_ns)


def _result(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> ProbeResult:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    metrics, stderr, per_doc = {}, {}, {}
    for label, value in results.items():
        metric = label.split(",")[0]
        if "," not in label or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        metrics[metric] = float(value)
        per_doc[metric] = [float(sample[metric]) for sample in ordered]
        stderr[metric] = _standard_error(per_doc[metric], metrics[metric])
    numbers: dict[str, int] = {}
    asked = (str(s["doc"].get("fact") or s["arguments"][0][0]) for s in ordered)  # or the first choice's context
    facts = [numbers.setdefault(fact, len(numbers)) for fact in asked]
    return ProbeResult(len(ordered), metrics, stderr, per_doc, facts)


def _standard_error(values: Sequence[float], reported: float) -> float | None:
    """The standard error of the mean; None where the reported value is not the mean (perplexity)."""
    if len(values) < 2 or not math.isclose(float(np.mean(values)), reported, rel_tol=1e-9, abs_tol=1e-12):
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
