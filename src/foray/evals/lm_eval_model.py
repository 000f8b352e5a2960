"""Foray's models in EleutherAI's lm-eval: the embedded probes and, by their official names, the real benchmarks.

What lm-eval asks of a model is put onto two plain functions: ``Score`` (log-probabilities of given tokens) and
``Generate`` (text after prompts). lm-eval is an optional extra and slow to import, so it is imported on first use.
"""

from __future__ import annotations

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
"""(token rows, how many last tokens of each) -> those tokens' log-probabilities and whether each is the likeliest."""

Generate = Callable[[list[str], list[str], int, float], list[str]]
"""(prompts, stop strings, most new tokens, temperature) -> one completion for each prompt."""


class Codec(Protocol):
    """The part of a tokenizer that is needed here: ``foray.data.tokenizer.TextTokenizer`` has it."""

    @property
    def end_id(self) -> int:
        """The token that separates documents."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        ...


@dataclass(frozen=True)
class ProbeResult:
    """One task's outcome. ``per_doc`` holds every metric in the order of ``doc_ids``; metrics are what lm-eval reports.

    ``stderr`` is the standard error of the mean for metrics that are means over documents, else None.
    """

    task: str
    metrics: dict[str, float]
    stderr: dict[str, float | None]
    per_doc: dict[str, list[float]]
    doc_ids: list[int]

    @property
    def n(self) -> int:
        """Number of documents."""
        return len(self.doc_ids)


def split_pairs(
    codec: Codec, pairs: Sequence[tuple[str, str]], start: bool | Sequence[int] = False
) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) texts as tokens, split as lm-eval's Hugging Face model does it.

    Trailing spaces of the context move to the continuation; both are encoded as one text and cut where the context's
    own encoding ends; an empty context becomes the end token. With ``start`` it also stands before every context, or
    the tokens do that ``start`` holds.
    """
    first = list(start) if not isinstance(start, bool) and start else [codec.end_id]
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
    """(context, continuation) tokens -> (log-likelihood of the continuation, whether it is what greedy decoding gives).

    Rows are cut from the left to the model's ``max_length`` inputs, and scored longest first in batches of about
    ``batch_tokens`` tokens, equal rows once.
    """
    rows: dict[tuple[int, ...], int] = {}
    places: list[int] = []
    last: list[int] = []  # tokens of a row that somebody asks for
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


def _require(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"the probes need lm-eval ({error}); pip install 'foray[evals]'") from error


@lru_cache(maxsize=1)
def _lm_class() -> type:
    """The lm-eval model class, made on first use because its base class needs the import."""
    template = _require("lm_eval.api.model").TemplateLM
    windows = _require("lm_eval.utils")

    class ForayLM(template):  # type: ignore[misc, valid-type]
        """A Foray model as lm-eval sees it. See ``foray_lm`` for the arguments."""

        def __init__(
            self,
            codec: Codec,
            score: Score,
            max_length: int,
            generate: Generate | None,
            start: bool | Sequence[int],
            batch_tokens: int,
        ) -> None:
            super().__init__()
            self.codec, self.score, self.generate = codec, score, generate
            self.max_length, self.start, self.batch_tokens = max_length, start, batch_tokens

        @property
        def eot_token_id(self) -> int:
            return self.codec.end_id

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            return self.codec.encode_batch([string])[0]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            pairs = split_pairs(self.codec, [request.args for request in requests], self.start)
            return score_pairs(self.score, pairs, self.max_length, self.batch_tokens)

        def _loglikelihood_tokens(
            self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
        ) -> list[tuple[float, bool]]:
            pairs = [(context, continuation) for _, context, continuation in requests]
            return score_pairs(self.score, pairs, self.max_length, self.batch_tokens)

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            pairs, owners = [], []
            for owner, ids in enumerate(self.codec.encode_batch([request.args[0] for request in requests])):
                for window in windows.get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
                    pairs.append(windows.make_disjoint_window(window))
                    owners.append(owner)
            totals = [0.0] * len(requests)
            for owner, (value, _) in zip(owners, score_pairs(self.score, pairs, self.max_length, self.batch_tokens)):
                totals[owner] += value
            return totals

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            if self.generate is None:
                raise ValueError("this task generates text, and the model was given without a generate function")
            groups: dict[str, list[int]] = {}
            for at, request in enumerate(requests):
                groups.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(at)
            texts = [""] * len(requests)
            for members in groups.values():
                until, limit, temperature = _generation_settings(requests[members[0]].args[1])
                prompts = [requests[at].args[0] for at in members]
                for at, text in zip(members, self.generate(prompts, until, limit, temperature), strict=True):
                    texts[at] = cut_at(text, until)
            return texts

    return ForayLM


def foray_lm(
    codec: Codec,
    score: Score,
    max_length: int,
    generate: Generate | None = None,
    start: bool | Sequence[int] = False,
    batch_tokens: int = 16_384,
) -> Any:
    """A Foray model as an ``lm_eval.api.model.TemplateLM``.

    ``max_length`` is the model's context in tokens. ``start`` puts the end token before every context, as lm-eval's
    ``add_bos_token`` does: right for a model that saw it before every document. Tokens in its place are put there
    instead. Raises ValueError without lm-eval.
    """
    return _lm_class()(codec, score, max_length, generate, start, batch_tokens)


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the stop strings."""
    ends = [text.find(stop) for stop in stops if stop]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def _generation_settings(settings: Mapping[str, Any]) -> tuple[list[str], int, float]:
    until = settings.get("until") or []
    limit = settings.get("max_gen_toks", settings.get("max_new_tokens", settings.get("max_tokens", 256)))
    sampled = settings.get("do_sample", float(settings.get("temperature", 0.0)) > 0.0)
    temperature = float(settings.get("temperature", 1.0)) if sampled else 0.0
    return ([until] if isinstance(until, str) else list(until)), int(limit), temperature


@contextmanager
def _lean() -> Iterator[None]:
    """No progress bars and no notices of lm-eval, and its few templates compiled once and not for every document."""
    task_module, environment = _require("lm_eval.api.task"), _require("lm_eval.utils").env
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            patch.object(task_module, "tqdm", lambda iterable, **_: iterable),
            patch.object(environment, "from_string", lru_cache(maxsize=256)(environment.from_string)),
        ):
            yield
    finally:
        logger.setLevel(level)


def _read_rows(file: str, **_: Any) -> Any:
    """A JSON Lines file as lm-eval's dataset, under every split's name, in memory: the user's cache stays untouched."""
    datasets = datasets_library()
    with open(file, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    if not rows:
        raise ValueError(f"{file} has no rows")
    table = datasets.Dataset.from_list(rows)
    return datasets.DatasetDict(dict.fromkeys(("train", "validation", "test"), table))


@lru_cache(maxsize=8)
def _manager(include_path: str) -> Any:
    return _require("lm_eval.tasks").TaskManager(include_path=include_path, include_defaults=False)


@lru_cache(maxsize=16)
def _official(name: str) -> Any:
    """The index of the tasks that come with lm-eval: of the one folder with a file of that name, else of all (slow)."""
    module = _require("lm_eval.tasks")
    for file in sorted(Path(module.__file__).parent.glob(f"**/{escape(name)}.yaml")):
        manager = _manager(str(file.parent))
        if name in manager.all_subtasks:
            return manager
    return module.TaskManager()


@lru_cache(maxsize=64)
def _task(name: str, file: str, stamp: int, include_path: str) -> Any:
    """A task object, kept for the next checkpoint. ``stamp`` is the file's time of change."""
    manager = _manager(include_path)
    if name not in manager.all_subtasks:
        manager = _official(name)
    if name not in manager.all_subtasks:
        near = get_close_matches(name, [*_manager(include_path).all_subtasks, *manager.all_subtasks], n=1, cutoff=0.0)
        raise ValueError(f"unknown task {name!r}; the nearest one is {near[0]}")
    config: dict[str, Any] = {"task": name}
    if file:
        config |= {"custom_dataset": _read_rows, "dataset_kwargs": {"file": file}, "metadata": None}
    # Settings reach a registered task only through a group that lists it: a bare dict would define a new one.
    try:
        return manager.load([{"group": "foray", "task": [config]}])["tasks"][name]
    except (OSError, ValueError) as e:  # what datasets raises without a network, for gated or absent data
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise ValueError(f"the data of {name} cannot be had ({reason}); give a folder with its files") from None


def run_probes(
    lm: Any,
    names: Sequence[str],
    data: Path | Mapping[str, Path] | None = None,
    limit: int | None = None,
    include_path: Path = TASK_FOLDER,
) -> dict[str, ProbeResult]:
    """Evaluates an lm-eval model on tasks, 0-shot as their definitions say, without touching the network.

    ``data`` is a folder with ``<task>.jsonl``, or a file for each task. A task without a file is loaded as lm-eval
    itself does it (a real benchmark under its official name, from the Hugging Face cache or the network). ``limit``
    takes the first documents only. Raises ValueError for unknown tasks, local tasks without data, and without lm-eval.
    """
    evaluate = _require("lm_eval.evaluator").evaluate
    with _lean():
        tasks = {name: _load(name, data, include_path) for name in names}
        outcome = evaluate(lm, {"tasks": tasks}, limit=limit, bootstrap_iters=0, log_samples=True)
    return {name: _result(name, outcome["results"][name], outcome["samples"][name]) for name in names}


def _load(name: str, data: Path | Mapping[str, Path] | None, include_path: Path) -> Any:
    if isinstance(data, Mapping):
        file = data.get(name)
    else:
        file = data / f"{name}.jsonl" if data is not None and (data / f"{name}.jsonl").exists() else None
    if file is None and name in _manager(str(include_path)).all_subtasks:
        raise ValueError(f"task {name} needs its rows: a file {name}.jsonl in the data folder")
    stamp = file.stat().st_mtime_ns if file is not None else 0
    return _task(name, str(file or ""), stamp, str(include_path))


def _result(name: str, results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> ProbeResult:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    metrics, stderr, per_doc = {}, {}, {}
    for label, value in results.items():
        metric = label.split(",")[0]
        if "," not in label or metric.endswith("_stderr") or not isinstance(value, (int, float)):
            continue
        metrics[metric] = float(value)
        per_doc[metric] = [float(sample[metric]) for sample in ordered]
        stderr[metric] = _standard_error(per_doc[metric], metrics[metric])
    return ProbeResult(name, metrics, stderr, per_doc, [int(sample["doc_id"]) for sample in ordered])


def _standard_error(values: Sequence[float], reported: float) -> float | None:
    """Of the mean; None where the reported value is not the mean of the values (perplexity)."""
    if len(values) < 2 or not math.isclose(float(np.mean(values)), reported, rel_tol=1e-9, abs_tol=1e-12):
        return None
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
