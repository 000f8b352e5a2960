"""A study in which everything is the user's own: `foray run my_study.py --store DIR`. Its other files lie beside it."""

from __future__ import annotations

from dataclasses import replace

from my_engine import Copies
from my_loss import Reinforce
from my_measure import Surprise
from my_recipe import echo_then_rl
from my_task import Doubles

from foray.studies import smoke
from foray.study.spec import Study


def study() -> Study:
    base = smoke.study()
    rl = replace(base.post.rl.source, task=Doubles(), engine=Copies(2))
    sft = replace(base.post.sft.source, task=Doubles())
    post = replace(
        base.post,
        rl=replace(base.post.rl, objective=Reinforce(), source=rl),
        sft=replace(base.post.sft, source=sft),
        rl_steps=2,
    )
    evaluation = replace(base.evaluation, task=Doubles(), measures=(Surprise(),), probes=None, dynamics=None)
    return replace(
        base,
        name="my_study",
        pretrain=replace(base.pretraining, tokens=20_000, checkpoints=(20_000,)),
        post=post,
        recipes=(echo_then_rl,),
        evaluation=evaluation,
        report=("my_figure.py", "my_section.py"),
    )
