"""Every part of the program in about a minute, for tests: a model that is too small to learn.

Six recipes from two M_t, and from the last M_t the mixtures of RL and SFT, the dial of parallel averaging and the stop
rule.
"""

from __future__ import annotations

from dataclasses import replace

from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import AnyRecipe, Dynamics, Evaluation, Part, Study, Variant


def study() -> Study:
    full = tiny.study()
    corpus = replace(full.pretraining.corpus, batch_size=8, length=256)
    # A model that is never right can learn the form of an answer.
    rollouts = replace(
        full.post.rl.source,
        questions=32,
        prompts=4,
        group_size=4,
        max_new_tokens=24,
        updates_per_draw=1,
        validation=8,
        format_reward=0.1,
    )
    rl = replace(full.post.rl, source=rollouts)
    sft = replace(full.post.sft, source=replace(full.post.sft.source, questions=32, batch_size=8))
    return Study(
        name="smoke",
        model=replace(full.model, width=48, layers=2, heads=2, mlp_width=96, context=320),
        data=replace(full.data, vocab_size=640, tokenizer_characters=300_000),
        pretrain=replace(
            full.pretraining,
            stream=replace(full.pretraining.stream, source=corpus),
            tokens=80_000,
            checkpoints=(40_000, 80_000),
        ),
        post=replace(full.post, rl=rl, sft=sft, rl_steps=3, sft_steps=6, turns=(2, 1), curriculum=(2, 1)),
        recipes=("rl", "sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel"),
        evaluation=Evaluation(
            full.evaluation.task,
            problems=10,
            samples=8,
            k=(1, 4, 8),
            max_new_tokens=24,
            base_shots=(2,),
            heldout_tokens=2_000,
            probes=WorldProbes(questions=10),
            dynamics=Dynamics(80_000, points=2),
            top_p=0.95,
            grading="flexible",
            train_problems=4,
        ),
    )


def parts(main: Study) -> tuple[Part, ...]:
    last = main.pretrain.checkpoints[-1:]
    asked = replace(main.evaluation, dynamics=None)
    recipes: tuple[AnyRecipe, ...] = (*_mixtures(), *_protocol(), "primed")
    return (Part("mixtures", (replace(main, excursions=last, recipes=recipes, evaluation=asked),)),)


def _mixtures() -> tuple[Variant, ...]:
    """RL and SFT together in every way, and three positions of the dial."""
    mixtures = (
        "combined", "combined_gold", "interleaved", "interleaved_gold", "curriculum", "curriculum_gold",
        "parallel_gold",
    )  # fmt: skip
    dial = tuple(Variant("parallel", (f"sft_ratio={ratio:g}",), f"SFT at {ratio:g} × RL's rate") for ratio in (0.1, 10))
    return (*(Variant(m, (), m.replace("_", ", "), "parallel") for m in mixtures), *dial)


def _protocol() -> tuple[Variant, ...]:
    """Settings of the paper's code, and the stop rule. Every score counts as no rise: RL ends at its second update.

    To run that path too, RL samples from likely tokens alone, which the paper's does not.
    """
    rl = ("rl.updates_per_draw=2", "rl.kl=1e-3", "rl.dual_clip=3", "rl.top_p=0.95", "rl.format_reward=0")
    sft = ("sft.normalise=sum", "sft.solutions=first", "sft.validation=4", "sft.max_new_tokens=24")
    stop = ("rl.validate_every=1", "stop.updates=1", "stop.rise=1")
    return Variant("rl", rl, "as the paper's"), Variant("sft", sft, "as the paper's"), Variant("rl", stop, "stopped")
