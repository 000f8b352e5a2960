"""Checks before anything is trained: of the user's own tasks, text, sources, losses, measurements and engines, of the
number and ids of problems, and of published checkpoints that are at hand.

The tests of Foray's own classes hold those to the same contracts.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from foray.core.canonical import check_name, require
from foray.core.engines import check_engine
from foray.core.objectives import Scored
from foray.core.sources import Corpus, Demonstrations, Rollouts
from foray.core.spelling import in_words
from foray.core.stage import Stage, Stream
from foray.core.task import STORED, Problem, Split, checked_verdict, require_problems
from foray.core.userfile import in_a_line, where_broken
from foray.data.rows import MissingFile
from foray.study.named_recipes import every_stage
from foray.study.published import check_at_hand
from foray.study.spec import Pretrain, Published, Study
from foray.train.checked_draw import registered
from foray.train.draw import unregistered
from foray.train.scoring import contributing, loss_of, metrics_of

_TASK = {  # attributes of a task, and how each is written
    "name": "name, a short text for tables",
    "stop": "stop, a tuple of strings that end a completion",
    "problems": "problems(split, count=None), a list of Problem",
    "prompt": "prompt(question, examples=()), the text given to the model",
    "target": "target(solution), the text that SFT trains on",
    "verify": "verify(problem, completion, extraction='strict'), a Verdict",
}
_GRADES = {  # and of a task that grades files
    "reference": "reference(text), the answer in a bare answer or a full solution",
    "verify_answer": "verify_answer(problem, answer, extraction='strict'), a Verdict on an answer without a format",
}
_SLOW = ("foray.world", "foray.tasks.openmath")  # tasks that take seconds or minutes to make or to read
_PATIENCE = 10.0  # seconds
_COMPLETIONS = ("", "####", " 7", "\\boxed{7}", "naïve 東京 \x00 \ud83d\n\n" * 3)  # a verifier must not raise on these


def check_study(study: Study) -> None:
    """Raises ValueError, in one line that says what to write, where something of the user's own is not what it must
    be, or a published checkpoint at hand has another shape. Nothing is trained, fetched or written for it.
    """
    for file in study.report:
        require(Path(file).is_file(), f"report: there is no file {file}")
    seen: set[int] = set()

    def once(thing: Any, check: Callable[..., None], *more: Any) -> None:
        if id(thing) not in seen and not type(thing).__module__.startswith("foray."):
            seen.add(id(thing))
            _frozen(thing)
            check(thing, *more)

    for _, grid in study.bound().grids():
        for tokens, release in grid.pretrain.releases if isinstance(grid.pretrain, Published) else ():
            if tokens in grid.starts:
                check_at_hand(release, grid.model)
        once(grid.evaluation.task, _check_task)
        if not isinstance(grid.evaluation.engine, str):
            once(grid.evaluation.engine, check_engine)
        for measure in grid.evaluation.measures:
            once(measure, _check_measure)
        for stage, stream in _streams(grid):
            source = stream.source
            once(source, _check_source, f"stage {stage.name}, stream {stream.name}")
            if isinstance(source, Rollouts) and not isinstance(source.engine, str):
                once(source.engine, check_engine)
            if hasattr(source, "task"):
                once(source.task, _check_task)
            for _, text in source.mixture if isinstance(source, Corpus) else ():
                once(text, _check_text)
            once(stream.objective, _check_loss, stream)


def _asked_of(grid: Study) -> Iterator[tuple[str, Any, Split, int]]:
    """(setting, task, split, number of problems) of everything that needs as many problems as it asks for."""
    e = grid.evaluation
    yield "evaluation.problems", e.task, e.split, e.problems
    yield "evaluation.train_problems", e.task, "train", e.train_problems
    for _, stream in _streams(grid):
        if isinstance(source := stream.source, Demonstrations | Rollouts):
            yield f"{stream.name}.questions", source.task, "train", source.questions


def check_counts(study: Study) -> None:
    """Raises ValueError where a task has fewer problems than settings ask for, or two problems of one id. What is not
    on this machine does not matter here: nothing is fetched for a check.
    """
    short: dict[tuple[str, Split, int], dict[str, int]] = {}
    # Grids and recipes ask for the same again and again, and a task of the user's own may take its time.
    every = dict.fromkeys(asked for _, grid in study.bound().grids() for asked in _asked_of(grid))
    for name, task, split, count in every:
        if not count or type(task).__module__.startswith(_SLOW) or getattr(task, "fetched", bool)():
            continue
        try:
            problems = _problems(task, split, count)
        except MissingFile:
            continue
        there = len(problems)
        if there < count:
            short.setdefault((task.name, split, there), {})[name] = count
    said = []
    for (task_name, split, there), asked in short.items():
        words = " and ".join(f"{name} ({count:,})" for name, count in asked.items())
        cure = " ".join(f"--set {name}={there}" for name in asked) if there else "give it some"
        said.append(f"{task_name} has {there:,} {split} problems, and more are asked for by {words}: {cure}")
    require(not said, "; ".join(said))


def check_task(task: Any, grades: bool = False) -> None:
    """Raises ValueError, in one line, where a task of the user's own is not what a task must be.

    ``grades``: the task only grades a file; the data of its problems need not be there.
    """
    _frozen(task)
    if not grades:
        return _check_task(task)
    for name, what in (_TASK | _GRADES).items():
        require(hasattr(task, name), f"{_place(type(task))}: a task that grades has {what}; this one has no {name}")
    _check_verdicts(task, Problem("1", "1 + 6 ?", "7"), _COMPLETIONS)


def _streams(grid: Study) -> Iterator[tuple[Stage, Stream]]:
    stages = [stage for recipe in grid.recipes for stage in every_stage(grid.stages(recipe))]
    for stage in [grid.pretrain.stage, *stages] if isinstance(grid.pretrain, Pretrain) else stages:
        for stream in stage.members():
            yield stage, stream


def _frozen(thing: Any) -> None:
    """Results are kept by the values of a study's parts, so a part must be frozen and hashable."""
    if isinstance(thing, type):
        raise ValueError(f"{_place(thing)}: a class stands in the study: write {thing.__name__}(), an instance of it")
    kind = type(thing)
    fine = is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    require(fine, f"{_place(kind)}: write @dataclass(frozen=True) above the class: results are kept by its values")
    try:
        hash(thing)
    except TypeError as e:
        raise ValueError(f"{_place(kind)}: its values must not change ({e}): use tuples in place of lists") from None


def _check_task(task: Any) -> None:
    kind = type(task)
    for name, what in _TASK.items():
        require(hasattr(task, name), f"{_place(kind)}: a task has {what}; this one has no {name}")
    check_name(task.name, f"{_place(kind)}: a task")
    fine = isinstance(task.stop, tuple) and all(isinstance(s, str) and s for s in task.stop)
    require(fine, f"{_place(kind)}: stop is {task.stop!r}: make it a tuple of strings, none of them empty")
    for problem in _problems(task, "train", 2):
        text = _asked(task, "prompt", problem.question)
        require(isinstance(text, str), f"{_place(kind)}: prompt() gives {in_words(text)}: return a text")
        targets = [_asked(task, "target", solution) for solution in problem.solutions[:1]]
        for text in targets:
            require(isinstance(text, str), f"{_place(kind)}: target() gives {in_words(text)}: return a text")
        _check_verdicts(task, problem, (*_COMPLETIONS, *targets))
        _check_sound(task, problem, (*_COMPLETIONS, *targets))


def _problems(task: Any, split: Split, count: int) -> Sequence[Problem]:
    """The first problems of a split."""
    problems: Sequence[Problem] = _asked(task, "problems", split, count)
    require_problems(_place(type(task)), problems)
    return problems


def _check_verdicts(task: Any, problem: Problem, completions: Sequence[str]) -> None:
    for completion in completions:
        for extraction in STORED:
            try:
                checked_verdict(_asked(task, "verify", problem, completion, extraction), _place(type(task)))
            except ValueError as e:
                hint = "; it was asked for flexible grading: without a rule for it, return the lenient verdict"
                raise ValueError(f"{e}{hint if extraction == 'flexible' else ''}") from e


def _check_sound(task: Any, problem: Problem, completions: Sequence[str]) -> None:
    for completion in completions if hasattr(task, "sound") else ():
        found = _asked(task, "sound", problem, completion)
        require(isinstance(found, bool), f"{_place(type(task))}: sound() gives {in_words(found)}: return True or False")


def _check_source(source: Any, where: str) -> None:
    require(registered(source), f"{where}: {_place(type(source))}: {unregistered(type(source))}")


def _check_text(text: Any) -> None:
    for name in ("name", "documents"):
        require(hasattr(text, name), f"{_place(type(text))}: a text source has a name and documents(split); no {name}")


def _check_measure(own: Any) -> None:
    for name, what in {"name": "a name for tables", "measure": "measure(model, tokenizer), numbers by metric"}.items():
        require(hasattr(own, name), f"{_place(type(own))}: a measurement has {what}; this one has no {name}")
    check_name(own.name, f"{_place(type(own))}: a measurement")


def _check_loss(loss: Any, stream: Stream) -> None:
    kind = type(loss)
    require(callable(loss), f"{_place(kind)}: a loss has __call__(scored), a loss a token; this one has none")
    what = "contributes(weight, advantage), which positions can have a gradient"
    require(hasattr(loss, "contributes"), f"{_place(kind)}: a loss has {what}; this one has no contributes")
    sampled = isinstance(stream.source, Rollouts) or not type(stream.source).__module__.startswith("foray.")
    scored = _scored(4, sampled and getattr(loss, "needs_reference", False))
    _called(kind, "__call__", lambda: loss_of(loss, scored))
    _called(kind, "contributes", lambda: contributing(loss, torch.ones(2, 3), torch.tensor([[1.0, 0.0, -1.0]] * 2)))
    for n in (4, 0):  # none where no token of an update can have a gradient
        _called(kind, "metrics", lambda n=n: metrics_of(loss, _scored(n, scored.first is not None)))  # type: ignore[misc]


def _scored(n: int, first: bool) -> Scored:
    logprobs = torch.linspace(-2.0, -0.1, n).requires_grad_()
    behaviour, zeros = torch.linspace(-1.5, -0.3, n), torch.zeros(n)
    return Scored(logprobs, zeros, torch.linspace(-1.0, 1.0, n), behaviour, behaviour if first else None, behaviour)


def _asked(task: Any, method: str, *arguments: Any) -> Any:
    return _called(type(task), method, lambda: getattr(task, method)(*arguments))


def _called(kind: type, method: str, call: Callable[[], Any]) -> Any:
    try:
        with _waiting(kind, method):
            return call()
    except MissingFile:  # it says what to do
        raise
    except ValueError as e:
        if kind.__module__.startswith("foray.") and not where_broken(e):  # so does a task of Foray's own
            raise
        raise ValueError(f"{where_broken(e) or _file(kind)}: {kind.__name__}.{method}: {in_a_line(e)}") from e
    except Exception as e:  # whatever the user's own code raises
        raise ValueError(f"{where_broken(e) or _file(kind)}: {kind.__name__}.{method}: {in_a_line(e)}") from e


@contextmanager
def _waiting(kind: type, method: str) -> Iterator[None]:
    """Says what is waited for where the user's own code takes long: it may never end."""
    words = f"{_place(kind)}: {method}() has not returned for {_PATIENCE:g} s; Ctrl-C ends the wait"
    teller = threading.Timer(_PATIENCE, _once, (words,))
    teller.daemon = True
    teller.start()
    try:
        yield
    finally:
        teller.cancel()
        teller.join()  # no thread is left where a process forks


@lru_cache(maxsize=64)  # the same is said once
def _once(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _place(kind: type) -> str:
    """``FILE, line N, class NAME``"""
    return f"{_file(kind)}, class {kind.__name__}"


@lru_cache(maxsize=64)  # the whole file is read for it
def _file(kind: type) -> str:
    try:
        file, line = Path(inspect.getfile(kind)).name, inspect.getsourcelines(kind)[1]
    except (OSError, TypeError):
        return str(kind.__module__)
    return f"{file}, line {line}"
