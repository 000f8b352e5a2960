"""What RL drew while it trained: a few groups of completions along the run, each with its reward and advantage."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from markupsafe import Markup

from foray.core.spelling import in_tokens
from foray.report.columns import COUNT, Column, table
from foray.report.markup import joined, parts, shortened
from foray.report.measurements import TrainingLog
from foray.report.results import Results, label
from foray.report.sample_data import rows_with_samples
from foray.report.sections import Section

NAME, TITLE, PLACE = "rollouts", "Training rollouts", 121

ROWS_READ = 200  # of one run
TEXT_SHOWN = 600  # characters of one completion
SUMMARY_SHOWN = 90  # characters of the question, in the line that opens a group
_TEXT = (
    "Groups that RL drew at the latest M_t, with what each completion was worth: RL makes a completion with a positive "
    "advantage likelier. The setting rl.keep_groups chooses how many groups of a draw are kept, rl.keep_every of which "
    "draws."
)
COLUMNS = (
    Column("reward", lambda s: f"{_number(s, 'reward'):g}", COUNT),
    Column("advantage", lambda s: f"{_number(s, 'advantage'):+.2f}", COUNT),
    Column("completion", lambda s: shortened(s.get("text", ""), TEXT_SHOWN)),
)


def section(results: Results) -> Section:
    """The first seed's run of every recipe with RL."""
    runs: dict[str, TrainingLog] = {}
    for run in sorted(results.rl_runs(), key=lambda r: (-r.tokens, r.run)):
        runs.setdefault(run.recipe, run)
    pieces = []
    for recipe, run in runs.items():
        if groups := list(islice(rows_with_samples(run.folder / "rollouts.jsonl"), ROWS_READ)):
            pieces.append(parts.heading(f"{label(recipe)} from {in_tokens(run.tokens)}"))
            pieces += [_group(g) for g in groups]
    return Section(joined(parts.dim(_TEXT), *pieces)) if pieces else Section()


def _group(row: Mapping[str, Any]) -> Markup:
    samples = sorted((s for s in row["samples"] if isinstance(s, dict)), key=lambda s: -_number(s, "advantage"))
    mean = sum(_number(s, "reward") for s in samples) / max(1, len(samples))
    asked = shortened(row.get("question", ""), TEXT_SHOWN)
    words = f"mean reward {mean:.2f}, {len(samples)} completions; {shortened(asked, SUMMARY_SHOWN, '…')}"
    summary = f"update {row.get('step', '?')}: {words}"
    question = f"{asked} — {shortened(row.get('answer', ''), TEXT_SHOWN)}"
    shown = table(samples, COLUMNS, "Completions of the group", rules=False)
    return Markup(parts.folded(summary, joined(parts.dim(question), shown)))


def _number(sample: Mapping[str, Any], name: str) -> float:
    value = sample.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
