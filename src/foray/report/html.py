"""The report as one HTML page. Everything that comes from data is untrusted and escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from foray.report import contamination, ledger, origins, readiness, settings, stats
from foray.report.markup import in_tokens, label, percent, table
from foray.report.measured import Evaluation
from foray.report.results import AVERAGE, Results, recipe_rank, records

PROBLEMS_SHOWN = 2
SAMPLES_SHOWN = 2
MISSING_SHOWN = 12  # for one reason
TEXT_SHOWN = 1500  # characters of one completion

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #222; background: #fff;
  max-width: 1120px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; border-bottom: 1px solid #ddd; padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
a { color: #0b62a4; }
nav { font-size: .88rem; }
nav a { margin-right: .9rem; white-space: nowrap; }
.note { background: #fff8e6; border-left: 4px solid #e69f00; padding: .5rem .9rem; margin: .8rem 0; }
.dim, figcaption { color: #666; font-size: .88rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th { text-align: left; font-weight: 600; border-bottom: 2px solid #bbb; }
th, td { padding: .25rem .7rem; vertical-align: top; }
td { border-bottom: 1px solid #eee; }
td.number, th.number { text-align: right; white-space: nowrap; }
td .range { display: block; color: #777; font-size: .8em; }
td .example { display: block; white-space: normal; min-width: 14rem; text-align: left; color: #666; }
tr.rule td { border-top: 2px solid #bbb; }
.answer { display: inline-block; padding: 0 .5rem; border-radius: .6rem; white-space: nowrap; background: #eee; }
.for { background: #d3efe4; }
.against { background: #fbdcc8; }
details { margin: .4rem 0; }
summary { cursor: pointer; color: #0b62a4; }
figure { margin: .5rem 0 1rem; }
figure img { max-width: 100%; height: auto; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f7f8; border: 1px solid #e4e4e4;
  padding: .5rem .7rem; margin: .3rem 0; font-size: .82rem; }
.right { border-left: 4px solid #009e73; }
.wrong { border-left: 4px solid #d55e00; }
"""


class Shown(NamedTuple):
    """A figure as the page shows it: file stem, heading, and its caption or, when it is absent, the reason."""

    name: str
    title: str
    caption: str
    absent: bool


def page(
    results: Results, figures: Sequence[Shown], judged: Sequence[tuple[str, str, str]] = (), not_ready: str = ""
) -> str:
    """The whole page, with links relative to its own folder.

    ``judged``: sections (name, heading, HTML) put first; ``not_ready``: why that of readiness is not among them.
    """
    sections = [
        *judged,
        ("health", "What looks wrong", _health(results)),
        ("results", "Results", _main_tables(results)),
        ("contamination", "Overlap between training and evaluation text", contamination.section(results)),
    ]
    sections += [(f.name, f.title, _figure(f)) for f in figures if not f.absent]
    sections += [
        ("training", "RL training", _training(results)),
        ("ledger", "What it cost", _ledger(results)),
        ("perplexity", "Held-out perplexity", _perplexity(results)),
        ("samples", "Sample completions", _samples(results)),
        ("left-out", "What is not here", _absent(results, figures, not_ready)),
        ("settings", "Settings", settings.section(results)),
        ("provenance", "Provenance", origins.section(results)),
    ]
    sections = [s for s in sections if s[2]]
    title = f"Foray: study {results.study}"
    links = " ".join(f'<a href="#{escape(name)}">{escape(heading.split(". ")[0])}</a>' for name, heading, _ in sections)
    shown = [n for n in (*results.notes, origins.note(results)) if n]
    notes = "".join(f'<div class="note">{escape(note)}</div>' for note in shown)
    body = "\n".join(
        f'<h2 id="{escape(name)}">{escape(heading)}</h2>\n{content}' for name, heading, content in sections
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_CSS}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links}</nav>\n{_summary(results)}\n{notes}\n{body}\n</body>\n</html>\n"
    )


def _summary(results: Results) -> str:
    measured = results.table
    checkpoints, seeds = measured["tokens"].nunique(), measured["seed"].nunique()
    return (
        f'<p class="dim">{results.model_parameters:,} parameters; {checkpoints} checkpoints M_t; '
        f"{seeds} seed{'s'[: seeds != 1]}; "
        f"{len(results.evaluations)} pass@k evaluations. All numbers: "
        '<a href="results.csv">results.csv</a>. Ranges are 95% intervals.</p>'
    )


def _main_tables(results: Results) -> str:
    if not results.evaluations:
        return '<p class="dim">No pass@k evaluation has finished yet.</p>'
    parts = []
    for task in results.tasks:
        heading = f"<h3>{escape(task)}</h3>" if len(results.tasks) > 1 else ""
        parts.append(heading + _main_table(results, task))
    return "\n".join(parts)


def _main_table(results: Results, task: str) -> str:
    metrics = [f"pass@{k}" for k in results.ks] + ["format_rate", "truncated_rate"]
    places: dict[tuple[int, float, str], dict[str, Any]] = {}
    for frame in (results.curve(metrics, [task]), results.curve(["acc"], [AVERAGE])):
        for row in records(frame):
            metric = "average" if row.task == AVERAGE else str(row.metric)
            places.setdefault((int(row.tokens), float(row.tokens_per_parameter), str(row.recipe)), {})[metric] = row
    rows, problems = [], set()
    for (tokens, ratio, recipe), found in sorted(places.items(), key=lambda p: (p[0][0], recipe_rank(p[0][2]))):
        first = next((found[m] for m in metrics if m in found), None)
        if first is not None:
            problems.add(int(first.n))
            cells = [percent(found.get(f"pass@{k}")) for k in results.ks] + [percent(found.get("average"))]
            cells += [percent(found.get(m), interval=False) for m in metrics[-2:]]
            rows.append((f"{in_tokens(tokens)} ({ratio:.2g})", label(recipe, first.shots), *cells, first.n, first.runs))
    headers = ["tokens (per parameter)", "recipe", *(f"pass@{k}" for k in results.ks), "general average"]
    samples = sorted(
        {int(e.graded[results.extraction].samples.min()) for e in results.evaluations if e.entry.task == task}
    )
    text = (
        f"Percent on {task}, {results.extraction} extraction, from {' or '.join(map(str, samples))} samples a problem. "
        "n counts problems; the general average is the plain mean of the probes."
    )
    shown = table([*headers, "formatted", "truncated", "n", "runs"], rows, text_columns=2, rules=True)
    return f'<p class="dim">{escape(text)}</p>{shown}'


def _figure(figure: Shown) -> str:
    stem = f"figures/{escape(figure.name)}"
    return (
        f'<figure><a href="{stem}.pdf"><img src="{stem}.png" alt="{escape(figure.title)}"></a>\n'
        f"<figcaption>{escape(figure.caption)}"
        f' <a href="{stem}.pdf">PDF</a> · <a href="{stem}.csv">CSV</a></figcaption></figure>'
    )


def _training(results: Results) -> str:
    rows = []
    for run in results.rl_runs():
        log, entry = run.metrics, run.entry
        reward = stats.trend(run.of("rollouts", "reward").dropna().to_numpy(float))
        ends = [_ends(run.of("rollouts", name)) for name in ("format", "entropy", "truncated", "signal")]
        change = f"{reward.last - reward.first:+.3f}"
        place = (label(entry.recipe), in_tokens(entry.tokens), reward.verdict)
        seeds = f"{entry.pretrain_seed}/{entry.seed}"
        rows.append((*place, f"{reward.first:.3f}", f"{reward.last:.3f}", change, *ends, len(log), seeds))
    if not rows:
        return ""
    headers = ["recipe", "tokens", "reward", "first 5", "last 5", "change", "format", "entropy", "truncated", "signal"]
    text = (
        "Mean reward of the first and the last five steps; it “rose” or “fell” where the difference exceeds its 95% "
        "t-interval with steps taken as independent. The other columns: first five → last five steps; "
        "signal is the share of groups whose rewards differ; seeds are of pre-training and of RL."
    )
    return f'<p class="dim">{text}</p>{table([*headers, "steps", "seed"], rows, text_columns=3, rules=True)}'


def _ends(column: pd.Series[Any]) -> str:
    values = column.dropna().to_numpy(float)
    return f"{np.mean(values[:5]):.2f} → {np.mean(values[-5:]):.2f}" if values.size else "–"


def _ledger(results: Results) -> str:
    frame = ledger.table(results)
    rows = []
    for row in records(frame):
        parts = [_giga(getattr(row, f"flops_{phase}")) for phase in ledger.PHASES]
        seconds = "–" if pd.isna(row.seconds) else f"{row.seconds:.0f}"
        name = label(row.recipe) + (f" ({row.trained_on})" if row.trained_on != results.trained_on() else "")
        place = (in_tokens(row.tokens), label(row.recipe) if row.recipe == "base" else name, row.stage_step)
        rows.append((*place, f"{row.samples:,.0f}", *parts, _giga(row.total_flops), seconds))
    if not rows:
        return ""
    text = (
        "Since M_t, in GFLOP by phase (formulas: docs/statistics.md); the total includes pre-training up to M_t. "
        "Samples are rollouts and demonstrations; seconds are those of the training steps, as logged. "
    )
    if results.evaluation_flops:
        spent = ", ".join(f"{kind} {_giga(n)}" for kind, n in sorted(results.evaluation_flops.items()))
        text += f"All evaluations together: {spent} GFLOP. "
    headers = ["tokens", "recipe", "updates", "samples", *ledger.PHASES, "total", "seconds"]
    files = '<p class="dim"><a href="ledger.csv">ledger.csv</a></p>'
    return f'<p class="dim">{text}</p>{table(headers, rows, text_columns=2, rules=True)}{files}'


def _giga(flops: float) -> str:
    return "–" if pd.isna(flops) or not flops else f"{flops / 1e9:,.0f}"


def _health(results: Results) -> str:
    if not results.flags:
        return ""
    text = "Flags by fixed rules (docs/statistics.md): a reason to look, not a verdict."
    return f'<p class="dim">{text}</p>' + table(["where", "what"], results.flags, text_columns=2)


def _perplexity(results: Results) -> str:
    sources = sorted(results.table.loc[results.table["metric"] == "perplexity", "task"].unique())
    if not sources:
        return ""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for row in records(results.curve(["perplexity"], sources)):
        text = f"{row.value:.2f}" if row.value < 1e4 else f"{row.value:.2g}"
        found.setdefault((row.recipe, row.tokens), {})[row.task] = text
    order = sorted(found, key=lambda place: (place[1], recipe_rank(place[0])))
    rows = [(in_tokens(t), label(r), *(found[r, t].get(s, "–") for s in sources)) for r, t in order]
    return '<p class="dim">Per token, by source.</p>' + table(
        ["tokens", "recipe", *sources], rows, text_columns=2, rules=True
    )


def _samples(results: Results) -> str:
    """Two problems × two samples of every recipe at the last checkpoint that keeps completions."""
    if not results.tasks:
        return ""
    task = results.tasks[0]
    kept: dict[int, list[tuple[str, list[Any]]]] = {}
    for recipe in results.recipes(task):
        for (tokens, _), evaluation in sorted(results.finals(recipe, task).items(), reverse=True):
            rows = _completions(evaluation)
            if rows:
                name = label(recipe, evaluation.entry.shots)
                at = [heading for heading, _ in kept.setdefault(tokens, [])]
                if name not in at:
                    kept[tokens].append((name, rows))
    if not kept:
        return ""
    tokens = max(kept)
    parts = [
        f'<p class="dim">{escape(task)}, M_t of {in_tokens(tokens)} tokens; one right, one wrong where both exist.</p>'
    ]
    for name, rows in kept[tokens]:
        parts.append(f"<h3>{escape(name)}</h3>" + "".join(_problem(row) for row in rows))
    return "\n".join(parts)


def _completions(evaluation: Evaluation) -> list[Any]:
    path = evaluation.entry.folder / "completions.jsonl"
    if not path.exists():
        return []
    with open(path, encoding="utf-8", errors="replace") as f:
        lines = [line for line in islice(f, PROBLEMS_SHOWN) if line.strip()]
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError:
        return []  # still being written


def _problem(row: Mapping[str, Any]) -> str:
    samples = list(row.get("samples", ()))
    right = [s for s in samples if s.get("correct")]
    wrong = [s for s in samples if not s.get("correct")]
    # One of each where there are both, otherwise the first two.
    shown = [*right[:1], *wrong[:1]] if right and wrong else samples[:SAMPLES_SHOWN]
    question, answer = escape(_short(row.get("question", ""))), escape(_short(row.get("answer", "")))
    head = f'<p class="dim">{len(right)} of {len(samples)} samples right; answer {answer}</p><pre>{question}</pre>'
    return head + "".join(
        f'<pre class="{"right" if s.get("correct") else "wrong"}">{escape(_short(s.get("text", "")))}</pre>'
        for s in shown
    )


def _short(text: Any) -> str:
    text = str(text)
    return text if len(text) <= TEXT_SHOWN else text[:TEXT_SHOWN] + " […]"


def _absent(results: Results, figures: Sequence[Shown], not_ready: str) -> str:
    parts = []
    if not_ready:
        parts.append(table(["section", "why it is not there"], [(readiness.TITLE, not_ready)], text_columns=2))
    absent = [(f.title, f.caption) for f in figures if f.absent]
    if absent:
        parts.append(table(["figure", "why it is not drawn"], absent, text_columns=2))
    if results.missing:
        parts.append(table(["measurement", "why it is missing"], _grouped(results.missing), text_columns=2))
    return "\n".join(parts)


def _grouped(missing: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """One line for many that are missing for one reason, as when parts of a study have not been run."""
    reasons: dict[str, list[str]] = {}
    for what, why in missing:
        reasons.setdefault(why, []).append(what)
    rows = []
    for why, names in reasons.items():
        few = names if len(names) <= MISSING_SHOWN else [f"{names[0]}, and {len(names) - 1} more"]
        rows += [(name, why) for name in few]
    return rows
