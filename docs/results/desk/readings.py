"""`desk` with questions read as often as in the paper: SFT 61 times, parallel averaging 14 times, RL 8 times.

    foray run docs/results/desk/readings.py --store STORE      its tuning, and the models that are reported

In the main grid SFT and parallel averaging read each of 2,048 questions 12 times. Here there are 512 questions, and RL
has as many updates as there. SFT→RL begins after 13 readings, as in the paper. A study of its own, since the claims
would take its recipes for those of `desk`.
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import desk
from foray.study.spec import AnyRecipe, Part, Study, Variant

QUESTIONS = 512

# The choice of the tuning: (RL, SFT) of a recipe.
CHOSEN: dict[str, tuple[float | None, float | None]] = {
    "rl": (8e-4, None),
    "sft": (None, 3.125e-5),
    "sft_rl": (4e-4, 1e-3),
    "parallel": (8e-4, None),
}

# Tried by it.
SFT_RATES = (1.5625e-5, 3.125e-5, 6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3)
SFT_RL_RATES = (
    *((rl, sft) for sft in (1.25e-4, 1e-3) for rl in (4e-4, 8e-4)),
    *((2e-4, 1e-3), (4e-4, 2e-3), (4e-4, 4e-3)),
)  # of RL and of SFT
PARALLEL_RATES = (4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3)


def updates(readings: int) -> str:
    """The setting of SFT's updates for so many readings of each question."""
    return f"sft_steps={readings * QUESTIONS // 32}"


def study() -> Study:
    main = desk.study()
    few = {name: replace(getattr(main.post, name).source, questions=QUESTIONS) for name in ("rl", "sft")}
    streams = {name: replace(getattr(main.post, name), source=source) for name, source in few.items()}
    own = settings()
    parallel = (*desk.rates(*CHOSEN["parallel"]), *own["parallel"])
    readings = replace(
        main,
        name="desk_readings",
        pretrain=replace(main.pretraining, seeds=desk.SIX),
        post=replace(main.post, **streams),
        excursions=main.pretrain.checkpoints[2:3],
        recipes=(
            *(Variant(recipe, (*desk.rates(*CHOSEN[recipe]), *own[recipe]), "") for recipe in CHOSEN),
            # Reasons that a lead of parallel averaging could have: an early end of SFT, the SFT half alone, no KL term.
            Variant("sft", ("sft.lr=0.001", updates(8)), "8 readings at 1e-3"),
            Variant("sft", ("sft.lr=0.001", updates(13)), "13 readings at 1e-3"),  # where SFT→RL begins
            Variant("parallel", (*parallel, "weights=0,0.5"), "SFT half alone"),
            Variant("rl", (*desk.rates(*CHOSEN["rl"]), "rl.kl=0.0"), "no KL"),
        ),
        evaluation=replace(main.evaluation, temperatures=(1.0, 1.5)),
        parts=(),
    )
    tuning = replace(
        readings,
        pretrain=replace(main.pretraining, seeds=desk.TUNING_SEEDS),
        recipes=trials(),
        evaluation=replace(main.evaluation, split="validation", problems=300, samples=32, heldout_tokens=0),
    )
    return replace(readings, parts=(Part("tuning", (tuning,)),))


def settings() -> dict[str, tuple[str, ...]]:
    """What sets each recipe apart but its rates."""
    rows = f"sft.batch_size={14 * QUESTIONS // desk.RL_STEPS}"  # of SFT beside RL in one update
    return {
        "rl": (),
        "sft": (updates(61),),
        "sft_rl": (*desk.settings("sft_rl"), updates(13)),
        "parallel": (*desk.settings("parallel"), rows),
    }


def trials() -> tuple[AnyRecipe, ...]:
    """Rates of every recipe at these readings."""
    tried: dict[str, list[tuple[float | None, float | None]]] = {
        "rl": [(r, None) for r in desk.RL_RATES],
        "sft": [(None, r) for r in SFT_RATES],
        "sft_rl": [*SFT_RL_RATES],
        "parallel": [(r, None) for r in PARALLEL_RATES],
    }
    own = settings()
    return tuple(Variant(recipe, (*desk.rates(*pair), *own[recipe])) for recipe in tried for pair in tried[recipe])
