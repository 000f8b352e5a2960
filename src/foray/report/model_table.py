"""The numbers of every model on a task, a row a model: for the page's table and for a paper's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from foray.report.columns import SHARE, TOKENS, WORDS, Column
from foray.report.measurements import PassK
from foray.report.printed import Printed
from foray.report.results import (
    ANY_MODEL,
    AVERAGE,
    MAIN_GRID,
    SOUND,
    Results,
    label,
    recipe_rank,
    records,
)
from foray.report.stats import Interval
from foray.report.style import seeds_note

RATES = ("format_rate", "truncated_rate")
_BESIDE = ("variant", "mix", "model_parameters", "split")


def model_rows(results: Results, task: str, beside: bool = False) -> list[dict[str, Any]]:
    """A row for the end of every recipe at every M_t: of the main grid, or of all that is ``beside`` it.

    Intervals by ``pass@k`` (and the largest k of right reasons by ``sound``), ``general_average`` and ``RATES``; means
    over runs. Of models trained on several tasks, those trained on this one.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    found = _scores(results, task, beside)
    for score in records(found.sort_values("task", key=lambda tasks: tasks == AVERAGE, kind="stable")):
        size = 0 if pd.isna(score.model_parameters) else int(score.model_parameters)
        place = (score.split, score.mix, size, score.tokens, recipe_rank(score.recipe), score.variant)
        if score.task == AVERAGE and place not in rows:
            continue  # probes alone: the model has not answered this task
        first = {name: getattr(score, name) for name in ("tokens", "n", "runs", "pretrainings", *_BESIDE)}
        first |= {"ratio": score.tokens_per_parameter, "recipe": label(score.recipe, score.shots)}
        row = rows.setdefault(place, first | {"model_parameters": size or None})
        row[AVERAGE if score.task == AVERAGE else score.metric] = Interval(score.value, score.lo, score.hi, score.n)
    return [row for _, row in sorted(rows.items(), key=lambda item: item[0])]


def _scores(results: Results, task: str, beside: bool) -> pd.DataFrame:
    where = ANY_MODEL if beside else MAIN_GRID
    rows = results.rows(task=(task, AVERAGE), trained_on=results.trained(task), final=True, **where)
    if beside:
        rows = rows.drop(index=rows.index.intersection(results.rows().index))
    names, top = [f"pass@{k}" for k in results.ks], f"pass@{results.ks[-1]}"
    graded = rows[rows["metric"].isin([*names, *RATES, "acc"]) & rows["extraction"].isin([results.extraction, ""])]
    sound = rows[(rows["metric"] == top) & (rows["extraction"] == SOUND)]
    means = [results.average(graded, _BESIDE), results.average(sound, _BESIDE).assign(metric=SOUND)]
    return pd.concat([m for m in means if len(m)] or means[:1], ignore_index=True)


def model_columns(results: Results) -> list[Column]:
    """pass@k and the general average."""
    return [*(Column(f"pass@{k}", f"pass@{k}", SHARE) for k in results.ks), Column("general average", AVERAGE, SHARE)]


def beside_words(row: Mapping[str, Any]) -> str:
    """What tells a model from that of the main grid: its variant, mix, split and size; empty for the main grid's."""
    size = row["model_parameters"]
    words = (row["variant"], row["mix"], row["split"], f"{size:,} parameters" if size else "")
    return ", ".join(word for word in words if word)


def printed_tables(results: Results) -> list[Printed]:
    """At most two tables a task, as a paper prints them: the main grid, and the models beside it.

    Other splits than the evaluation's are left out: they are there to tune, or to compare with training questions.
    """
    found = []
    for task in results.asked:
        for beside in (False, True):
            rows = [r for r in model_rows(results, task, beside) if not r["split"]]
            if rows := [r for r in rows if any(f"pass@{k}" in r for k in results.ks)]:
                where = "the models beside the main grid" if beside else "every recipe"
                name = f"{results.study}-{task}{'-beside' if beside else ''}"
                about = _about(results, task, beside, rows)
                caption = f"Study {results.study}: {where} at every M_t on {task}. {about}"
                found.append(Printed(name, caption, _printed_columns(results, beside, rows), rows))
    return found


def _printed_columns(results: Results, beside: bool, rows: list[dict[str, Any]]) -> list[Column]:
    """Of the measurements, only those that were made."""
    told = [Column("setting", beside_words, WORDS)] if beside else []
    passk = [Column(f"pass@{k}", f"pass@{k}", SHARE) for k in results.ks]
    sound, average = Column(f"pass@{results.ks[-1]}, sound", SOUND, SHARE), Column("average", AVERAGE, SHARE)
    measured = [column for column in (*passk, sound, average) if any(column.value in row for row in rows)]
    return [Column("M_t", "tokens", TOKENS), Column("recipe", "recipe"), *told, *measured]


def _about(results: Results, task: str, beside: bool, rows: list[dict[str, Any]]) -> str:
    """What the numbers are, for a caption."""
    problems = " or ".join(f"{n:,}" for n in sorted({row["n"] for row in rows}))
    trained = [e.seed for e in _ends(results, task, beside) if e.recipe != "base"]
    runs = pd.DataFrame([{"runs": row["runs"], "pretrainings": row["pretrainings"]} for row in rows])
    asked = f"{problems} problems × {samples_words(results, task, beside)} samples"
    text = f"Percent, {results.extraction} grading, {asked}, with 95% intervals over problems; {seeds_note(runs)}"
    if len(set(trained)) == 1:
        text = text.replace("one seed,", f"one seed ({trained[0]}),")
    if any(row["recipe"] == label("primed") for row in rows):
        text += " Primed: the base after a dozen updates of SFT, which teach the form of an answer."
    if any(SOUND in row for row in rows):
        text += " Sound: only right answers behind right computations count."
    if any(AVERAGE in row for row in rows):
        text += " Average: the plain mean of the probes of general abilities."
    return f"{text} {guess_words(results, task)}".strip()


def _ends(results: Results, task: str, beside: bool) -> list[PassK]:
    where = {**ANY_MODEL, "split": ""} if beside else MAIN_GRID
    return [e for e in results.select(PassK, task=task, final=True, **where) if e.off_grid == beside]


def samples_words(results: Results, task: str, beside: bool = False) -> str:
    """The number of samples a problem at the ends of recipes, or each where evaluations differ."""
    counts = [e.counts[results.extraction] for e in _ends(results, task, beside)]
    return " or ".join(str(n) for n in sorted({int(c.samples.min()) for c in counts}))


def guess_words(results: Results, task: str) -> str:
    """What answers reach that do not come from reading the question; empty where nobody has measured it."""
    guess = results.passk_rows(task, results.ks, recipe="base").dropna(subset=["chance"]).drop_duplicates("metric")
    if guess.empty:
        return ""
    known = " / ".join(f"{100 * chance:.1f}" for chance in guess.sort_values("chance")["chance"])
    names = " / ".join(f"pass@{k}" for k in results.ks)
    return f"Answers drawn from the training answers, the question unread, reach {known} ({names})."
