"""`desk`'s part `rollout_budget` with one learning rate for every n and no warm-up, as in the paper.

    foray run docs/results/desk/one_rate_of_n.py --store STORE      the store of `desk`: M_t are not trained again

A study of its own, since C10 would take its runs for those of the part.
"""

from __future__ import annotations

from dataclasses import replace

from foray.studies import desk
from foray.study.spec import Part, Study, Variant

PAPERS = ("rl.lr=8e-4", "rl.optimizer.warmup=0.0")  # the rate of n = 5, level with 1.6e-3 for n = 64 in the tuning


def study() -> Study:
    main = desk.study()
    seeds = desk.SEEDS[:2]
    bare = replace(main.evaluation, probes=None, heldout_tokens=0)
    return replace(
        main,
        name="desk_one_rate_of_n",
        pretrain=replace(main.pretraining, seeds=seeds),
        excursions=main.pretrain.checkpoints[-1:],
        recipes=(),
        evaluation=bare,
    )


def parts(main: Study) -> tuple[Part, ...]:
    (part,) = (p for p in desk.parts(desk.study()) if p.name == "rollout_budget")
    return (Part("rollouts", tuple(replace(grid, recipes=_at_one_rate(grid)) for grid in part.grids)),)


def _at_one_rate(grid: Study) -> tuple[Variant, ...]:
    return tuple(replace(v, settings=(*v.settings, *PAPERS)) for v in grid.recipes if isinstance(v, Variant))
