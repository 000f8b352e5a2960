"""How learning rates were chosen: every recipe's trials, and what is doubtful in the choice."""

from __future__ import annotations

from typing import Any

from foray.report.columns import NOTHING, POINTS, RATE, RECIPE, Column, frame_of, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK
from foray.report.results import Results, label
from foray.report.sections import Section
from foray.report.trials import Choice, Trial, choice, trials

NAME, TITLE, PLACE = "tuning", "How learning rates were chosen", 60

_TEXT = (
    "Percent on validation problems; {}. The best has the highest mean of the pass@k columns after the last update. Of "
    "the trials less than one standard error below the best, the one with the highest general average is chosen: it "
    "forgets least. Used: what the study's recipe has. The lead is best minus next, paired by problem."
)


def _mark(row: dict[str, Any]) -> str:
    return ", ".join(word for word in ("chosen", "used", "level") if row[word])


def section(results: Results) -> Section:
    """A row a trial. Shares, not percent."""
    found = trials(results)
    choices = {name: choice(of_recipe) for name, of_recipe in found.items()}
    rows = [_row(t, choices[name]) for name, of_recipe in found.items() for t in of_recipe]
    files = {"tuning": frame_of(rows)}
    if not rows:
        return Section(files=files)
    counts = sorted({len(of_recipe) for of_recipe in found.values()})
    same = f"{counts[0]} trials each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials"
    ks = sorted({k for of_recipe in found.values() for t in of_recipe for k in t.passk})
    columns = [Column("recipe", "recipe", RECIPE)]
    columns += [Column("task", "task")] * (len({row["task"] for row in rows}) > 1)
    columns += [Column("settings", "settings"), Column("mark", _mark)]
    columns += [*(Column(f"pass@{k}", f"pass@{k}", RATE) for k in ks), Column("score", "score", RATE)]
    columns += [Column("general average", "ability", RATE), Column("lead", "lead", POINTS)]
    notes = [parts.note(words) for words in warnings(results, found, choices)]
    shown = table(rows, columns, "Trials of each recipe")
    return Section(joined(*notes, parts.dim(_TEXT.format(same)), shown), files)


def _row(trial: Trial, made: Choice) -> dict[str, Any]:
    passk = {f"pass@{k}": value for k, value in trial.passk.items()}
    lead = made.lead if trial is made.best and made.lead else NOTHING
    return {
        "recipe": trial.recipe, "task": trial.task, "settings": trial.settings, **passk,
        "score": trial.score, "ability": trial.ability, "lead": lead, "chosen": trial is made.chosen,
        "used": trial.used, "level": len(made.level) > 1 and any(trial is t for t in made.level),
    }  # fmt: skip


def warnings(results: Results, found: dict[str, list[Trial]], choices: dict[str, Choice]) -> list[str]:
    """What a reviewer would ask of the choice, a sentence each."""

    def named(recipes: list[str]) -> str:
        return ", ".join(label(r) for r in recipes)

    said = []
    asked = {e.recipe for e in results.select(PassK, final=True)} - {"base"}  # the main grid has no settings of others
    if wrong := [r for r, c in choices.items() if not c.chosen.used and (c.chosen.recipe in asked or not asked)]:
        said.append(f"The study uses other settings than the rule chooses for: {named(wrong)}.")
    if edges := [f"{label(r)} ({', '.join(c.edges)})" for r, c in choices.items() if c.edges]:
        said.append(f"The choice lies at the edge of what was tried, so the grid should go on: {'; '.join(edges)}.")
    if ties := [r for r, c in choices.items() if len(c.level) > 1]:
        said.append(f"Other trials are level with the best, so the choice is a tie: {named(ties)}.")
    runs = {run for of_recipe in found.values() for t in of_recipe for run in t.scores}
    if len({tokens for tokens, _ in runs}) == 1:
        said.append("All trials start from one M_t: another M_t may want other settings.")
    evaluated = {e.pretrain_seed for e in results.select(PassK, final=True)}
    if evaluated & {run.pretrain_seed for _, run in runs}:
        said.append("The trials start from a pre-training that is evaluated too.")
    return said
