"""Foray from Python: what ``foray.load`` gives. docs/python.md shows every name at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foray.core.canonical import nearest, require, to_json
from foray.core.files import SPEC, read_json, read_jsonl, read_object, sealed
from foray.core.task import Problem, Task
from foray.report import NotDrawable
from foray.report.between_studies import ONLY_OURS, ONLY_THEIRS, between
from foray.report.choose_row import chosen
from foray.report.columns import frame_of
from foray.report.entries import entry_of
from foray.report.gains import MODEL, asked_of, evaluations, gains, model_of
from foray.report.measurements import PassK
from foray.report.reader import results_of
from foray.report.results import ANY, ANY_MODEL, Results, recipe_rank
from foray.study.last_report import saying
from foray.study.spec import Study
from foray.study.store import MANIFEST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from foray.data.tokenizer import TextTokenizer
    from foray.model.transformer import Transformer

_UNITS = {"acc": "share", "format_rate": "share", "truncated_rate": "share", "bits_per_byte": "bits"}
_UNITS |= {"perplexity": "perplexity"}
# Settings of an evaluation that sampling takes too.
_SAMPLED = ("temperature", "max_new_tokens", "precision", "top_p", "top_k", "min_p")


class LoadedStudy:
    """A study and its results, to read. Nothing here writes to the store.

    Models are named by ``tokens`` (of M_t), ``recipe`` and ``seed``, and where a study has several by ``variant``,
    ``mix``, ``model_parameters``, ``trained_on`` and ``pretrain_seed``. What is not named is the study's own: its last
    M_t, its first seed, its end of a recipe, and no variant where a recipe was run without one. A name that the study
    does not have raises ValueError, which lists those that it has.
    """

    def __init__(self, store: Path, manifest: Mapping[str, Any], study: Study | None = None, fuller: str = "") -> None:
        """``study``: the spec, where a study's file or name was loaded; None where a store's folder was.

        ``fuller``: a line that ``missing`` and errors give, where the store's last report shows more than the study.
        """
        self.store, self.study, self._manifest, self._fuller = store, study, manifest, fuller
        self._read  # noqa: B018  (a manifest that cannot be read is an error of load)

    def __repr__(self) -> str:
        tokens = ", ".join(f"{t:,}" for t in sorted(self.checkpoints["tokens"].unique()))
        recipes = ", ".join(self.recipes)
        return f"<study {self.name} in {self.store}: {len(self.checkpoints)} checkpoints; M_t {tokens}; {recipes}>"

    @property
    def name(self) -> str:
        """The study's name."""
        return self._read.study

    @property
    def recipes(self) -> list[str]:
        """Names of the recipes that have a checkpoint, ``base`` (M_t itself) among them, in the report's order."""
        return sorted(self.checkpoints["recipe"].unique(), key=recipe_rank)

    @cached_property
    def _read(self) -> Results:
        return results_of(self._manifest, self.store / MANIFEST)

    # --- numbers ----------------------------------------------------------------------------------------------------

    @property
    def results(self) -> pd.DataFrame:
        """Every number at the end of a recipe, a row each: ``value`` with its 95% interval from ``lo`` to ``hi``.

        ``unit``: ``share`` (0 to 1, not percent), ``perplexity``, ``bits`` (a byte), or empty for a measurement of your
        own. Columns as in ``results.csv`` (docs/statistics.md), and those that tell models beside the main grid apart.
        """
        return self.all_results.loc[lambda rows: rows["final"]].reset_index(drop=True)

    @property
    def all_results(self) -> pd.DataFrame:
        """``results`` with the numbers inside recipes and at other numbers of shots: all rows, not only final ones."""
        rows = self._read.table.copy()
        unit = rows["metric"].map(lambda metric: "share" if "@" in metric else _UNITS.get(metric, ""))
        rows.insert(list(rows).index("value") + 1, "unit", unit)
        return rows

    @property
    def missing(self) -> pd.DataFrame:
        """What the study asks for and has no readable result of: ``what`` and ``why``."""
        rows = [("results of other settings", self._fuller)] if self._fuller else []
        return pd.DataFrame([*rows, *self._read.missing], columns=["what", "why"])

    @property
    def problems(self) -> pd.DataFrame:
        """How often each problem was answered right at the end of each recipe, a row a problem and model.

        ``right`` of ``samples``, by the study's grading. ``study.problems.pivot_table("right", "question", ["tokens",
        "recipe"])`` is a table of a row a problem.
        """
        questions: dict[tuple[str, str, str], str] = {}
        frames = []
        for e in self._read.select(PassK, final=True, **ANY_MODEL):
            counts = e.counts[self._read.extraction]
            if any((e.task, e.split, name) not in questions for name in counts.ids):
                rows = read_jsonl(e.folder / "completions.jsonl")
                questions |= {(e.task, e.split, str(r["id"])): str(r["question"]) for r in rows}
            asked = {"task": e.task, "split": e.split, "problem": list(counts.ids)}
            asked |= {"question": [questions.get((e.task, e.split, name), "") for name in counts.ids]}
            found = {"shots": e.shots, "samples": counts.samples, "right": counts.correct}
            frames.append(pd.DataFrame({**asked, **model_of(e, self._read), **found}))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def completions(
        self, recipe: str = "base", tokens: int | None = None, seed: int | None = None, **which: Any
    ) -> pd.DataFrame:
        """Every sample of a model's evaluation, a row each, in the order of problems and samples.

        ``right`` is the verdict by the study's grading; ``strict``, ``lenient``, ``flexible`` (and ``sound``, where the
        task can tell) are the verdicts by each. ``answer`` is what was found in ``text``, ``gold`` the reference.
        ``stop`` is ``end``, ``stop`` or ``length``: cut off, scores 0. ``which``: more fields of a model, and ``task``,
        ``split``, ``shots``, ``temperature`` and ``step``. The text is what a model wrote: untrusted.
        """
        rows = pd.DataFrame([asked_of(e, self._read) for e in self._evaluations])
        with saying(self._fuller):
            require(len(rows) > 0, f"study {self.name} has no samples yet")
        folder = self._chosen(rows, recipe, tokens, seed, which)["folder"]
        return self._samples(read_jsonl(folder / "completions.jsonl"))

    @cached_property
    def _evaluations(self) -> list[PassK]:
        return evaluations(self._read, final=ANY)

    def _samples(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        names = {"correct": "strict"}
        found = [
            {"problem": row["id"], "question": row["question"], "gold": row["answer"], "sample": i}
            | {names.get(name, name): value for name, value in sample.items()}
            | {"right": sample.get(self._read.verdict_field)}
            for row in rows
            for i, sample in enumerate(row["samples"])
        ]  # fmt: skip
        frame = pd.DataFrame(found)
        first = ["problem", "question", "gold", "sample", "text", "answer", "right"]
        return frame[[name for name in first if name in frame] + [c for c in frame.columns if c not in first]]

    # --- differences ------------------------------------------------------------------------------------------------

    def gains(
        self, recipe: str, over: str = "base", task: str | None = None, tokens: int | None = None,
        seed: int | None = None, variant: str | None = None, over_variant: str | None = None, **which: Any,
    ) -> pd.DataFrame:  # fmt: skip
        """pass@k of a recipe minus that of another, a row an M_t and k: ``value`` with its 95% interval, a share.

        Paired by problem, by the study's grading. Every M_t that both have, and the mean over all seeds, unless
        ``tokens``, ``seed`` or ``pretrain_seed`` names one. ``variant`` and ``step`` are the recipe's,
        ``over_variant`` is the other's: ``gains("rl", over="rl", variant="high_kl")``. ``mix``, ``model_parameters``,
        ``trained_on``, ``split``, ``shots`` and ``temperature`` are of both. What is not named is as in
        ``completions``.
        """
        ours = {**which, "recipe": recipe, "tokens": tokens, "seed": seed, "variant": variant}
        with saying(self._fuller):
            return gains(self._read, ours, {"recipe": over, "variant": over_variant}, self._task_name(task))

    def compare(self, other: LoadedStudy) -> pd.DataFrame:
        """This study minus another in pass@k, model by model: those with one M_t, recipe, variant, mix, split and task.

        ``value`` is the difference with its 95% interval, a share; ``ours`` and ``theirs`` are the two, with theirs.
        ``compared`` says how: paired by problem and seed, by problem alone, or not; ``the same`` where both have one
        and the same evaluation, by its key. Both are graded by this study's grading. Raises ValueError where the
        studies share no model.
        """
        fine = isinstance(other, LoadedStudy)
        require(fine, f"compare takes another study, as foray.load gives it, not {other!r}")
        found = frame_of(between(self._read, other._read)).infer_objects()
        if len(found):
            found = found[found["metric"].str.startswith("pass@") & (found["grading"] == self._read.extraction)]
            found = found[~found["compared"].isin((ONLY_OURS, ONLY_THEIRS))].reset_index(drop=True)
        if found.empty:
            raise ValueError(f"the studies share no model on one task and M_t: {self!r}, {other!r}")
        return found.assign(unit="share")

    # --- figures ----------------------------------------------------------------------------------------------------

    def figure(self, name: str, ax: Axes | Sequence[Axes] | None = None, paper: bool = False) -> Figure:
        """Draws a figure of the report, such as ``f6``, and returns it; ``paper``: with the paper's curves behind ours.

        Without ``ax`` the figure is a new one. One axes of ``plt.subplots()`` gives its place to all panels; as many
        axes as the figure has panels take one panel each. Raises ValueError, and says why, where the study lacks what
        the figure shows.
        """
        from dataclasses import replace

        import matplotlib

        from foray.report import drawn, figure_data, style
        from foray.report.figures import discover
        from foray.report.panels import drawing_on

        known = {figure.NAME: figure for figure in discover()}
        short = {long.partition("_")[0]: long for long in known}
        chosen = short.get(str(name).lower(), str(name).lower())
        require(chosen in known, f"there is no figure {name!r}: the figures are {', '.join(short)}")
        results = replace(self._read, paper=paper)
        try:
            frame = figure_data(known[chosen], results)
        except NotDrawable as e:
            raise ValueError(f"figure {chosen} cannot be drawn: {e}") from None
        given: list[Axes] | None = None if ax is None else np.ravel(np.asarray(ax, dtype=object)).tolist()
        with matplotlib.rc_context(style.RC), drawing_on(given):
            return drawn(known[chosen], results, frame)[0]

    # --- models -----------------------------------------------------------------------------------------------------

    @cached_property
    def checkpoints(self) -> pd.DataFrame:
        """Every finished checkpoint, a row each. ``path``: a folder that ``transformers``, vLLM and lm-eval load.

        ``step`` counts updates since M_t; ``final`` is the end of a recipe.
        """
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for row in self._manifest["entries"]:
            e = entry_of(self.store, row)
            folder = e.checkpoint or (e.folder if e.kind == "train" else None)
            if folder is None or not sealed(folder) or not (folder / "model").is_dir():
                continue
            named = {**model_of(e, self._read), "step": e.stage_step}
            row = found.setdefault(tuple(named.values()), {**named, "final": False, "path": folder / "model"})
            row["final"] |= e.final
        return pd.DataFrame(list(found.values()), columns=[*MODEL, "step", "final", "path"])

    def checkpoint(
        self, recipe: str = "base", tokens: int | None = None, seed: int | None = None, **which: Any
    ) -> Path:
        """The folder of one checkpoint. ``which``: more fields of a model, and ``step``."""
        return Path(self._chosen(self.checkpoints, recipe, tokens, seed, which)["path"])

    def model(
        self, recipe: str = "base", tokens: int | None = None, seed: int | None = None, device: str = "", **which: Any
    ) -> tuple[Transformer, TextTokenizer]:
        """The torch model of a checkpoint, in evaluation mode, and its tokenizer. ``device``: the GPU if there is one.

        ``model.logits(tokens)`` takes token ids (B, T) and gives logits (B, T, V); ``model(tokens)`` gives the last
        hidden states. ``which`` as in ``checkpoint``.
        """
        from foray.core.machine import machine
        from foray.study.kinds.models import open_checkpoint

        folder = self.checkpoint(recipe, tokens, seed, **which)
        return open_checkpoint(folder.parent, machine([f"device={device}"] if device else []))

    def sample(
        self, question: str | Problem, recipe: str = "base", tokens: int | None = None, n: int = 8,
        seed: int | None = None, task: Task | str | None = None, shots: int | None = None,
        temperature: float | None = None, max_new_tokens: int | None = None, draw: int | None = None, **which: Any,
    ) -> pd.DataFrame:  # fmt: skip
        """Asks a model a question ``n`` times: the answers, a row each, graded where the task knows the question.

        ``question``: any text, the id of a problem, or a ``Problem`` with its answer. The model is asked as the study
        evaluates it (``shots`` examples, ``temperature``, at most ``max_new_tokens``), unless those are given.
        ``task``: one of the study's by name, or one of your own. ``draw``: the seed of the answers (default: the
        evaluation's).
        """
        from foray.evals.ask import ask
        from foray.rollout.choose import embedded_engine

        row = self._chosen(self.checkpoints, recipe, tokens, seed, which)
        if isinstance(task, str) or task is None:
            task = self.task(task)
        asked = self._evaluated(row, task.name)
        own = {"temperature": temperature, "max_new_tokens": max_new_tokens}
        settings = {name: asked[name] for name in _SAMPLED if name in asked}
        settings = {"temperature": 0.6, "max_new_tokens": 96} | settings
        settings |= {name: value for name, value in own.items() if value is not None}
        model, tokenizer = self.model(**{name: row[name] for name in (*MODEL, "step")})
        found = ask(
            embedded_engine(model, tokenizer), tokenizer, task, question, n, sampling=settings,
            grading=self._read.extraction, shots=int(asked.get("shots", 0)) if shots is None else shots,
            seed=int(asked.get("seed", 0)) if draw is None else draw,
        )  # fmt: skip
        known = found.problem
        name, gold = (known.id, known.answer) if known else ("", None)
        return self._samples([{"id": name, "question": found.question, "answer": gold, "samples": found.samples}])

    def task(self, name: str | None = None) -> Task:
        """A task of the study, by default its first. Of a store's folder alone, only tasks that Foray brings, with
        their usual settings.

        Raises ValueError where the store does not hold the task.
        """
        asked = self._task_name(name)
        if self.study is not None:
            tasks = (task for _, g in self.study.bound().grids() for task in (g.evaluation.task, g.post.task))
            return next(task for task in tasks if task.name == asked)
        from foray.tasks import named_tasks

        task = named_tasks("").get(asked)
        specs = (read_json(e.folder / SPEC)["task"] for e in self._evaluations if e.task == asked)
        if task is None or any(to_json(task) != spec for spec in specs):
            raise ValueError(
                f"the store holds neither the code of task {asked} nor the place of its files: load the study's "
                f"file, foray.load('FILE.py', store='{self.store}'), or give the task itself"
            )
        return task

    def _task_name(self, name: str | None) -> str:
        known = self._read.asked
        require(bool(known), f"study {self.name} has evaluated no task yet; give the task itself")
        require(name is None or name in known, f"study {self.name} has no task {name!r}{nearest(str(name), known)}")
        return name or known[0]

    def _evaluated(self, row: Mapping[str, Any], task: str) -> dict[str, Any]:
        """The settings of the model's own evaluation on the task, or else of one of its recipe; empty without one."""
        alike = [e for e in self._evaluations if e.task == task and e.recipe == row["recipe"]]
        same = [e for e in alike if all(model_of(e, self._read)[name] == row[name] for name in MODEL)]
        return read_object((same or alike)[0].folder / SPEC) if alike else {}

    def _chosen(
        self, rows: pd.DataFrame, recipe: str, tokens: int | None, seed: int | None, which: Mapping[str, Any]
    ) -> dict[str, Any]:
        asked = {**which, "recipe": recipe, "tokens": tokens, "seed": seed}
        with saying(self._fuller):
            return chosen(rows, self.name, self._read.model_parameters, asked)
