"""Every experiment of the paper, with controls, on the embedded world: hours on two CPU cores, in parts.

    foray run desk --part tuning        each part by itself, in any order; shared nodes are computed once
    foray run desk                      all of them

Two pre-trainings, three post-training seeds from each, three M_t of 1.5, 3.7 and 10.6 tokens per parameter. The part
``tuning`` chooses the learning rates by a rule fixed beforehand (``foray.report.trials``). The report names
every recipe whose rates differ from that choice.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from foray.core.objectives import CrossEntropy
from foray.core.sources import Demonstrations, Screen
from foray.core.stage import AdamW, Stream
from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import AnyRecipe, Dynamics, Evaluation, Part, Study, Variant
from foray.world import WorldProblems
from foray.world.mixture import world_mixture

# The learning rates that the tuning tries: of RL, of SFT, and of both in parallel averaging. Parallel averaging halves
# every step, so its rates are doubled.
RL_RATES, SFT_RATES = (1e-4, 2e-4, 4e-4, 8e-4), (5e-4, 1e-3, 2e-3, 4e-3)
PARALLEL_RATES = ((2e-4, 1e-3), (4e-4, 2e-3), (8e-4, 4e-3), (1.6e-3, 8e-3))

# The choice of the tuning, (RL, SFT). A two-stage recipe takes its first stage's rate from the recipe of that stage.
CHOSEN: dict[str, tuple[float | None, float | None]] = {
    "rl": (1e-4, None),
    "sft": (None, 4e-3),
    "sft_gold": (None, 4e-3),
    "sft_rl": (4e-4, 4e-3),
    "sft_gold_rl": (4e-4, 4e-3),
    "parallel": (8e-4, 4e-3),
}


def rates(recipe: str, rl: float | None, sft: float | None) -> tuple[str, ...]:
    """The settings that set a recipe's learning rates."""
    of = "together." if recipe == "parallel" else ""
    named = (("rl.optimizer.lr", rl), ("sft.optimizer.lr", sft))
    return tuple(f"{of}{name}={value:g}" for name, value in named if value is not None)


def own(recipe: str, *settings: str, label: str = "", like: str = "") -> Variant:
    """A recipe with its chosen learning rates, or with those of ``like``. The report compares the recipe with ``like``.

    Without a label the variant is the study's version of the recipe.
    """
    return Variant(recipe, (*rates(like or recipe, *CHOSEN[like or recipe]), *settings), label, like)


def trials() -> tuple[AnyRecipe, ...]:
    """Four trials of every recipe. One of the four is the study's own version, which tells the report the choice."""
    sft, gold = CHOSEN["sft"][1], CHOSEN["sft_gold"][1]
    asked = [
        *(("rl", (r, None)) for r in RL_RATES),
        *(("sft", (None, r)) for r in SFT_RATES),
        *(("sft_gold", (None, r)) for r in SFT_RATES),
        *(("sft_rl", (r, sft)) for r in RL_RATES),
        *(("sft_gold_rl", (r, gold)) for r in RL_RATES),
        *(("parallel", pair) for pair in PARALLEL_RATES),
    ]
    return tuple(Variant(recipe, rates(recipe, *pair)) for recipe, pair in asked)


def study() -> Study:
    """The main grid."""
    base, task = tiny.study(), WorldProblems("easy")
    pretrain = replace(base.pretraining, tokens=8_000_000, checkpoints=(1_000_000, 2_500_000, 7_200_000), seeds=(0, 1))
    text = Stream(
        "text",
        replace(pretrain.corpus, batch_size=2),
        CrossEntropy(z_loss=1e-5),
        AdamW(lr=2e-3, weight_decay=0.03, no_decay=("embed_tokens", "norm"), warmup=0.1),
    )
    evaluation = Evaluation(
        task, problems=200, samples=64, max_new_tokens=80, probes=WorldProbes(), heldout_tokens=12_000,
    )  # fmt: skip
    return Study(
        name="desk",
        model=base.model,
        data=replace(base.data, vocab_size=1792, whole_numbers=200, mixture=pretrain.corpus.mixture),
        pretrain=pretrain,
        post=replace(base.post, rl_steps=64, sft_steps=240, text=text, anneal_steps=150),
        recipes=(own("rl"), own("sft"), own("sft_rl")),
        evaluation=evaluation,
        seeds=(0, 1, 2),
        notes=(
            "Pre-training seeds share their text and differ in initialization and order; post-training seeds share "
            "their questions and differ in order, chosen solutions and rollouts.",
        ),
    )


def parts(main: Study) -> tuple[Part, ...]:
    """Grids made from the main grid, with its settings."""
    _, middle, late = main.pretrain.checkpoints
    task, hard = WorldProblems("easy"), WorldProblems("hard")
    at_end = replace(main, excursions=(late,), seeds=main.seeds[:2])  # here RL has a signal from the first step
    inside = replace(main.evaluation, dynamics=Dynamics(middle, points=4))
    watched = replace(main, excursions=(middle,), recipes=(own("rl"), own("sft_rl")), evaluation=inside)
    return (
        Part("tuning", (_tuning(main),)),
        Part("dynamics", (watched,)),
        Part("parallel", (replace(main, recipes=(own("parallel"),)),)),
        Part("gold", (replace(main, recipes=(own("sft_gold"), own("sft_gold_rl"))),)),
        Part("gold_epochs", (_gold_by_epochs(at_end),)),
        Part("hard", (_on(main, hard, (middle, late), ("rl", "sft", "sft_rl")),)),
        Part("mix", _rl_at_the_end(_math_heavy(main), (task, hard))),
        Part("size", _rl_at_the_end(_larger(main), (task, hard))),
        Part("controls", (_parallel_controls(at_end),)),
        Part("with_text", (_text_controls(at_end),)),
        # n = 5 needs 64 / 5 times as many updates as n = 64 for the same number of rollouts.
        Part("rollout_budget", _rollouts(main, {5: (192, 384, 576), 64: (15, 30, 45)})),
        Part("rollouts_longer", _rollouts(main, {64: (90, 135)}, ", three times the updates")),
        Part("longer", (_longer(at_end),)),
        Part("rates", (_other_rates(at_end),)),
        Part("formats", _formats(main)),
    )


def _tuning(main: Study) -> Study:
    """The trials from the middle M_t of the first pre-training, on validation problems."""
    evaluation = replace(main.evaluation, split="validation", problems=100, samples=32, probes=None, heldout_tokens=0)
    pretrain = replace(main.pretraining, seeds=(0,))
    start = (main.pretrain.checkpoints[1],)
    return replace(main, pretrain=pretrain, excursions=start, seeds=(0,), recipes=trials(), evaluation=evaluation)


def _gold_by_epochs(at_end: Study) -> Study:
    """SFT-Gold with as many epochs over all solutions as SFT has over one solution a question."""
    solutions = WorldProblems("easy").solutions_per_problem
    steps = f"sft_steps={at_end.post.sft_steps * solutions}"
    recipes = tuple(own(r, steps, label="as many epochs as SFT") for r in ("sft_gold", "sft_gold_rl"))
    return replace(at_end, seeds=(0,), recipes=recipes)


def _on(main: Study, task: WorldProblems, excursions: tuple[int, ...], recipes: tuple[str, ...]) -> Study:
    """The grid with another task for post-training and evaluation."""
    new = 80 if task.tier == "easy" else 120
    # Eight examples of hard problems would be longer than a pre-training window.
    shots = (8,) if task.tier == "easy" else (4,)
    return replace(
        main,
        excursions=excursions,
        post=main.post.asking(task, max_new_tokens=new),
        recipes=tuple(own(r) for r in recipes),
        evaluation=replace(main.evaluation, task=task, max_new_tokens=new, base_shots=shots),
    )


def _math_heavy(main: Study) -> Study:
    pretrain = main.pretraining
    source = replace(pretrain.corpus, mixture=world_mixture(math_share=0.75, hard_share=0.4))
    return replace(
        main,
        pretrain=replace(pretrain, stream=replace(pretrain.stream, source=source), mix="math-heavy", math_heavy=True),
    )


def _larger(main: Study) -> Study:
    return replace(main, model=replace(main.model, width=160, layers=4, heads=5, mlp_width=427))


def _rl_at_the_end(main: Study, tiers: tuple[WorldProblems, ...]) -> tuple[Study, ...]:
    """RL on every tier from the last M_t, one seed."""
    last = main.pretrain.checkpoints[-1:]
    return tuple(_on(replace(main, seeds=(0,)), tier, last, ("rl",)) for tier in tiers)


def _parallel_controls(at_end: Study) -> Study:
    """Which part of parallel averaging matters: the halved steps, the weights, the schedule, the two optimizers?"""

    def weighted(rl: float, sft: float, label: str) -> Variant:
        return own("parallel", f"weights={rl:g},{sft:g}", label=label)

    recipes = (
        weighted(0.5, 0, "RL half (½, 0)"),
        weighted(0, 0.5, "SFT half (0, ½)"),
        weighted(1, 1, "sum (1, 1)"),
        weighted(0.25, 0.75, "(¼, ¾)"),
        weighted(0.75, 0.25, "(¾, ¼)"),
        own("parallel_ramp", label="from SFT to RL", like="parallel"),
        own("parallel_adaptive", label="by the share of groups with signal", like="parallel"),
        own("combined", label="one optimizer", like="parallel"),
        own("alternating", label="in turn", like="parallel"),
        own("interpolated", label="after the fact", like="parallel"),
    )
    return replace(at_end, recipes=recipes)


def _text_controls(at_end: Study) -> Study:
    """Pre-training beside RL, and RL from an annealed M_t."""
    recipes = {
        "anneal": "annealed Mₜ",
        "anneal_rl": "annealed Mₜ, then RL",
        "anchored": "RL with pre-training text",
        "rl_and_text": "RL and pre-training in turn",
    }
    return replace(at_end, recipes=tuple(own(r, label=words, like="rl") for r, words in recipes.items()))


def _longer(at_end: Study) -> Study:
    """Three times the updates of RL: had the recipes converged when they were compared?"""
    steps = f"rl_steps={3 * at_end.post.rl_steps}"
    return replace(at_end, recipes=tuple(own(r, steps, label="3 × as many updates of RL") for r in ("rl", "sft_rl")))


def _other_rates(at_end: Study) -> Study:
    """RL with the learning rates that the tuning did not choose: does a rate change the findings at the last M_t?"""
    recipes = tuple(
        Variant(recipe, rates(recipe, lr, CHOSEN[recipe][1]), f"RL at {lr:g}")
        for recipe in ("rl", "sft_rl")
        for lr in RL_RATES
        if lr != CHOSEN[recipe][0]
    )
    return replace(at_end, recipes=recipes)


def _rollouts(main: Study, updates: dict[int, tuple[int, ...]], words: str = "") -> tuple[Study, ...]:
    """Few and many rollouts a prompt, on questions that the base finds easy or hard (the paper's split).

    ``updates``: for each number of rollouts a prompt, the updates to evaluate after. Every recipe is evaluated after
    the updates of both numbers, so at equal counts of examples and of rollouts. The screen grades the base leniently:
    a fifth of the base's answers have the right format. Graded strictly, one of the two bases answers only one question
    in a thousand often enough for Easy.
    """
    post = main.post
    sft = replace(post.sft, source=replace(post.sft.source, questions=1000))
    easy, hard = Screen(16, 64, extraction="lenient"), Screen(0, 8, extraction="lenient")
    grids = []
    for name, screen in (("Easy", easy), ("Hard", hard)):
        rl = replace(post.rl, source=replace(post.rl.source, questions=1000, screen=screen))
        recipes = tuple(
            own("rl", f"rl.source.group_size={n}", f"rl_steps={steps[-1]}", label=f"{name}, n={n}{words}")
            for n, steps in updates.items()
        )
        watched = Dynamics(main.pretrain.checkpoints[-1], recipes=("rl",), steps=tuple(chain(*updates.values())))
        evaluation = replace(main.evaluation, probes=None, heldout_tokens=0, dynamics=watched)
        grid = replace(main, excursions=main.pretrain.checkpoints[-1:], seeds=(0,), post=replace(post, rl=rl, sft=sft))
        grids.append(replace(grid, recipes=recipes, evaluation=evaluation))
    return tuple(grids)


def _formats(main: Study) -> tuple[Study, ...]:
    """Other numbers of shots (did training teach only the format?), and SFT for up to ten epochs."""
    one_seed = replace(main, seeds=(0,))
    crossed = replace(main.evaluation, base_shots=(8, 0), trained_shots=(0, 8))
    shots = replace(main.evaluation, base_shots=(8, 0, 1, 2, 4))
    middle, sft = main.pretrain.checkpoints[1], main.post.sft.source
    assert isinstance(sft, Demonstrations)
    epoch = sft.questions / sft.batch_size  # updates
    longer = own("sft", f"sft_steps={round(10 * epoch)}", label="10 epochs")
    steps = tuple(round(n * epoch) for n in (1, 2.5, 5))
    epochs = replace(main.evaluation, dynamics=Dynamics(middle, recipes=("sft",), steps=steps))
    return (
        replace(one_seed, recipes=tuple(own(r) for r in ("rl", "sft", "sft_rl", "parallel")), evaluation=crossed),
        replace(one_seed, recipes=(), evaluation=shots),
        replace(one_seed, excursions=(middle,), recipes=(longer,), evaluation=epochs),
    )
