"""What every point cost, since M_t by phase and from the first token on."""

from __future__ import annotations

from typing import Any

from foray.report.columns import COUNT, GIGA, TOKENS, Column, Kind, frame_of, table
from foray.report.markup import joined, parts
from foray.report.measurements import PassK, TrainingLog
from foray.report.results import AXES, Results, label, recipe_rank
from foray.report.sections import Section
from foray.report.spending import PHASES, axes_of, place_of, since_start

NAME, TITLE, PLACE = "ledger", "What it cost", 130

_TEXT = (
    "Since M_t, in GFLOP by phase (formulas: docs/statistics.md); the total includes pre-training up to M_t. "
    "Samples are rollouts and demonstrations; seconds are those of the training steps, as logged. Seeds are those of "
    "the pre-training and of what came after. "
)
CSV = (
    "pretrain_seed", "tokens", "recipe", "trained_on", "stage_step", "seed", "samples", "seconds",
    *(f"flops_{phase}" for phase in PHASES), "flops", *(f"total_{axis}" for axis in AXES[1:]), "final",
)  # fmt: skip


def rows(results: Results) -> list[dict[str, Any]]:
    """One a point. ``final`` are the ends of recipes; the cost of a point inside a recipe is part of the end's."""
    ends = {place_of(m) for m in (*results.select(TrainingLog), *results.select(PassK)) if m.final}
    found = []
    for place, (own, total) in since_start(results).items():
        if place.recipe == "base" or place.step:
            row = {"pretrain_seed": place.run.pretrain_seed, "tokens": place.tokens, "recipe": place.recipe}
            row |= {"trained_on": place.trained_on, "stage_step": place.step, "seed": place.run.seed}
            row |= {"samples": own.samples, "seconds": own.seconds}
            row |= {f"flops_{phase}": work for phase, work in zip(PHASES, own.work)} | {"flops": own.flops}
            found.append(row | {f"total_{k}": v for k, v in axes_of(total).items()} | {"final": place in ends})
    order = ("tokens", "recipe", "trained_on", "stage_step", "pretrain_seed", "seed")
    return sorted(found, key=lambda r: [recipe_rank(r[name]) if name == "recipe" else r[name] for name in order])


def section(results: Results) -> Section:
    found = rows(results)
    files = {"ledger": frame_of(found, CSV)}
    if not found:
        return Section(files=files)
    main = results.trained()

    def name(row: dict[str, Any]) -> str:
        return label(row["recipe"]) + ("" if row["trained_on"] in main else f" ({row['trained_on']})")

    several = len({(row["pretrain_seed"], row["seed"]) for row in found}) > 1
    columns = [
        Column("tokens", "tokens", TOKENS),
        Column("recipe", name),
        *([Column("seeds", lambda row: f"{row['pretrain_seed']} / {row['seed']}")] if several else []),
        Column("updates", "stage_step", COUNT),
        Column("samples", "samples", Kind("{:,.0f}".format)),
        *(Column(phase, f"flops_{phase}", GIGA) for phase in PHASES),
        Column("total", "total_flops", GIGA),
        Column("seconds", "seconds", Kind("{:.0f}".format)),
    ]
    spent = ", ".join(f"{kind} {GIGA.show(n)}" for kind, n in sorted(results.evaluation_flops.items()))
    text = _TEXT + (f"All evaluations together: {spent} GFLOP. " if spent else "")
    shown = table(found, columns, "Samples, GFLOP and seconds of each recipe")
    return Section(joined(parts.dim(text), shown), files)
