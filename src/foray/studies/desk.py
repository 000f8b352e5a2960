"""The experiments behind the paper's ten claims, with controls, on the embedded world: hours on two cores, in parts.

    foray run desk --part tuning                          each part by itself, in any order; shared nodes are run once
    foray run desk --part main --set pretrain.seeds=0     a part of one pre-training alone

``docs/results/desk/DESIGN.md`` says what each part asks, which rule answers it, and why the settings are as they are.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Demonstrations, Rollouts, Screen
from foray.core.stage import AdamW, PostTraining, Stream
from foray.evals.abilities import WorldProbes
from foray.studies import tiny
from foray.study.spec import AnyRecipe, Dynamics, Evaluation, Part, Study, Variant
from foray.world import WorldProblems
from foray.world.mixture import world_mixture

# RL reads each question 2 times and SFT 12 times; in the paper 3 to 10 and 61. SFT has three rows for four rollouts of
# RL, as in the paper at 2B; at its later M_t two to five rollouts for a row.
QUESTIONS = 2048
RL_STEPS, SFT_STEPS = 128, 768
ROWS = 32 * SFT_STEPS // RL_STEPS  # of SFT beside RL in one update: as many in all as SFT has

# The pre-trainings that are reported, and those of the tuning, which are not. WHOLE: those whose M_t the main grid
# shares with the parts that are compared with it. The weights of 2 to 5 were lost between the two.
SEEDS, TUNING_SEEDS = (0, 1, 2, 3, 4, 5, 6, 7), (100, 101)
SIX, WHOLE = SEEDS[:6], (0, 1, 6, 7)

# The learning rates that the tuning tries: of RL from the base, after SFT and together with SFT, and of SFT. As in the
# paper RL and SFT have one rate where they train together.
RL_RATES, AFTER_RATES, TOGETHER_RATES = (4e-4, 8e-4, 1.6e-3), (2e-4, 4e-4, 8e-4), (4e-4, 8e-4, 1.6e-3, 3.2e-3)
PARALLEL_RATES = (*TOGETHER_RATES, 6.4e-3, 1.28e-2)  # each of its steps counts half
SFT_RATES, GOLD_RATES = (5e-4, 1e-3, 2e-3), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
HARD_SFT_RATES, HARD_AFTER_RATES = (*SFT_RATES, 4e-3, 8e-3), (1e-4, *AFTER_RATES, 1.6e-3)
PAPER_RECIPES = ("rl", "sft", "sft_rl", "sft_gold", "sft_gold_rl", "parallel")
MIXTURES = {"combined": "one loss, one optimizer", "interleaved": "in turn", "curriculum": "from SFT to RL"}
MIXTURE_RATES: dict[str, tuple[float, ...]] = dict.fromkeys(("combined", "interleaved"), (*TOGETHER_RATES, 6.4e-3))
MIXTURE_RATES["curriculum"] = TOGETHER_RATES

# The choice of the tuning: (RL, SFT) of a recipe.
CHOSEN: dict[str, tuple[float | None, float | None]] = {
    "rl": (8e-4, None),
    "sft": (None, 1e-3),
    "sft_gold": (None, 8e-3),
    "sft_rl": (4e-4, 1e-3),
    "sft_gold_rl": (4e-4, 8e-3),
    "parallel": (6.4e-3, None),
    "combined": (6.4e-3, None),
    "interleaved": (6.4e-3, None),
    "curriculum": (1.6e-3, None),
}

# The same on hard problems.
CHOSEN_HARD: dict[str, tuple[float | None, float | None]] = {
    "rl": (4e-4, None),
    "sft": (None, 8e-3),
    "sft_rl": (1.6e-3, 8e-3),
}

RATE_OF_N = {5: 8e-4, 64: 1.6e-3}  # of RL with so many rollouts a prompt


def rates(rl: float | None, sft: float | None) -> tuple[str, ...]:
    """The settings that set learning rates."""
    return tuple(f"{name}={value:g}" for name, value in (("rl.lr", rl), ("sft.lr", sft)) if value is not None)


def settings(recipe: str) -> tuple[str, ...]:
    """What sets a recipe apart but its rates.

    As the authors ran them, only RL from the base has a KL term. Recipes of RL and SFT together have the rollouts of RL
    and the rows of SFT.
    """
    together = {
        "parallel": (f"sft.batch_size={ROWS}",),
        "combined": (f"sft.batch_size={ROWS}",),
        "interleaved": ("turns=6,1",),
        "curriculum": ("curriculum=56,1",),
    }
    kl = () if recipe in ("rl", "sft", "sft_gold") else ("rl.kl=0.0",)
    return kl + together.get(recipe, ())


def own(recipe: str, *others: str, label: str = "", against: str = "", hard: bool = False) -> Variant:
    """A recipe with its chosen learning rates. Without a label it is the study's version of the recipe."""
    chosen = CHOSEN_HARD[recipe] if hard else CHOSEN[recipe]
    return Variant(recipe, (*rates(*chosen), *settings(recipe), *others), label, against)


def trials(*recipes: str, hard: bool = False) -> tuple[AnyRecipe, ...]:
    """Three to six trials of every recipe. One is the study's own version, which tells the report the choice."""
    first, sft_rates, after = (
        (CHOSEN_HARD, HARD_SFT_RATES, HARD_AFTER_RATES) if hard else (CHOSEN, SFT_RATES, AFTER_RATES)
    )
    tried: dict[str, list[tuple[float | None, float | None]]] = {
        "rl": [(r, None) for r in RL_RATES],
        "sft": [(None, r) for r in sft_rates],
        "sft_gold": [(None, r) for r in GOLD_RATES],
        "sft_rl": [(r, first["sft"][1]) for r in after],
        "sft_gold_rl": [(r, CHOSEN["sft_gold"][1]) for r in AFTER_RATES],
        "parallel": [(r, None) for r in PARALLEL_RATES],
        **{recipe: [(r, None) for r in MIXTURE_RATES[recipe]] for recipe in MIXTURES},
    }
    return tuple(Variant(r, (*rates(*pair), *settings(r))) for r in recipes for pair in tried[r])


def study() -> Study:
    """The main grid."""
    base, task = tiny.study(), WorldProblems("easy")
    corpus = replace(base.pretraining.corpus, mixture=world_mixture(math_share=0.3, hard_share=0.2))
    pretrain = replace(
        base.pretraining,
        stream=replace(base.pretraining.stream, source=corpus),
        tokens=14_500_000,
        checkpoints=(1_300_000, 3_200_000, 6_400_000, 12_800_000),  # 2, 5, 10 and 20 tokens a parameter
        seeds=SEEDS,
    )
    rl = Stream(
        "rl",
        Rollouts(task, questions=QUESTIONS, prompts=32, group_size=8, max_new_tokens=80),
        PolicyGradient(kl=0.05),
        AdamW(lr=8e-4, warmup=0.1),
    )
    demonstrations = Demonstrations(task, questions=QUESTIONS, batch_size=32)
    sft = Stream("sft", demonstrations, CrossEntropy(), AdamW(lr=1e-3, warmup=0.1))
    return Study(
        name="desk",
        model=base.model,
        # Hard problems have numbers up to 300. All mixes have one tokenizer.
        data=replace(base.data, vocab_size=1792, whole_numbers=200, mixture=corpus.mixture),
        pretrain=pretrain,
        post=PostTraining(rl, sft, RL_STEPS, SFT_STEPS),
        recipes=("primed", *(own(r) for r in PAPER_RECIPES)),
        evaluation=Evaluation(
            task, problems=400, samples=64, max_new_tokens=80, probes=WorldProbes(questions=800), heldout_tokens=12_000,
            grading="flexible", top_p=0.95,
        ),
        notes=("Pre-trainings differ in initialization and order. They share text and the random numbers after it.",),
    )  # fmt: skip


def parts(main: Study) -> tuple[Part, ...]:
    """Grids made from the main grid, with its settings. ``late``: the M_t of 10 and of 20 tokens a parameter."""
    late, hard = main.pretrain.checkpoints[-2:], WorldProblems("hard")
    two, three, six, whole = (_of(main, seeds) for seeds in (SEEDS[:2], SEEDS[:3], SIX, WHOLE))
    tuning = _tuning(main)
    return (
        Part("tuning", (replace(tuning, recipes=trials(*PAPER_RECIPES)),)),
        Part("tuning_mixtures", (replace(tuning, recipes=trials(*MIXTURES)),)),
        Part("tuning_hard", (replace(_on(tuning, hard), recipes=trials("rl", "sft", "sft_rl", hard=True)),)),
        Part("tuning_n5", (replace(tuning, recipes=_rates_of_n(5, 192)),)),
        Part("tuning_n64", (replace(tuning, recipes=_rates_of_n(64, 15)),)),
        Part("mixtures", (replace(whole, excursions=late, recipes=(*_dial(), *_mixtures())),)),
        Part("hard", (replace(_on(six, hard), excursions=late, recipes=_own("rl", "sft", "sft_rl", hard=True)),)),
        Part("mix", _rl_at_the_end(_math_heavy(three))),
        Part("size", _rl_at_the_end(_larger(three))),
        Part("longer", (replace(whole, excursions=late, recipes=_longer()),)),
        Part("one_rate", (replace(main, excursions=late[1:], recipes=(_at_the_rate_after_sft(),)),)),
        Part("controls", (replace(three, excursions=late[:1], recipes=_controls()),)),
        Part("seeds", (replace(two, excursions=late[:1], seeds=(0, 1, 2, 3), recipes=_own("rl")),)),
        # n = 5 needs 64 / 5 times as many updates as n = 64 for the same number of rollouts.
        Part("rollout_budget", _rollouts(two, {5: (192, 384, 576), 64: (15, 30, 45)})),
        Part("temperatures", (_hotter(_of(main, WHOLE[2:]), late),)),
        Part("formats", (_crossed(replace(whole, excursions=late[:1])),)),
    )


def _own(*recipes: str, hard: bool = False) -> tuple[AnyRecipe, ...]:
    return tuple(own(r, hard=hard) for r in recipes)


def _of(main: Study, seeds: tuple[int, ...]) -> Study:
    """The grid of those pre-trainings that it has of ``seeds``: ``--set pretrain.seeds`` may have left out some."""
    kept = tuple(s for s in main.pretraining.seeds if s in seeds) or main.pretraining.seeds[:1]
    return replace(main, pretrain=replace(main.pretraining, seeds=kept))


def _tuning(main: Study) -> Study:
    """From the M_t of 10 tokens a parameter of pre-trainings that are not reported, on validation problems."""
    return replace(
        main,
        pretrain=replace(main.pretraining, seeds=TUNING_SEEDS),
        excursions=main.pretrain.checkpoints[2:3],
        evaluation=replace(main.evaluation, split="validation", problems=300, samples=32, heldout_tokens=0),
    )


def _rates_of_n(n: int, steps: int) -> tuple[AnyRecipe, ...]:
    """Trials of RL with ``n`` rollouts a prompt."""
    same = (f"rl.group_size={n}", f"rl_steps={steps}")
    return tuple(Variant("rl", (*rates(r, None), *same)) for r in (2e-4, *RL_RATES))


def _at_the_rate_after_sft() -> Variant:
    """RL at the rate that it has in SFT→RL: C2 asks for the two at one rate."""
    rate, _ = CHOSEN["sft_rl"]
    return own("rl", f"rl.lr={rate:g}", label="at SFT→RL's rate")


def _dial() -> tuple[AnyRecipe, ...]:
    """Parallel averaging at other rates of SFT."""
    return tuple(own("parallel", f"sft_ratio={r:g}", label=f"SFT at {r:g} × RL's rate") for r in (0.1, 0.3, 3, 10))


def _mixtures() -> tuple[AnyRecipe, ...]:
    return tuple(own(recipe, label=words, against="parallel") for recipe, words in MIXTURES.items())


def _controls() -> tuple[AnyRecipe, ...]:
    """Which part of parallel averaging matters: the halved steps, the two optimizers, or that both train at once?"""
    return (
        own("parallel", "weights=0.5,0", label="RL half (½, 0)"),
        own("parallel", "weights=0,0.5", label="SFT half (0, ½)"),
        Variant("alternating", own("parallel").settings, "in turn, each its own optimizer", "parallel"),
        Variant("interpolated", own("parallel").settings, "after the fact", "parallel"),
    )


def _on(main: Study, task: WorldProblems) -> Study:
    """The grid with another task for post-training and evaluation."""
    new = 80 if task.tier == "easy" else 120
    # Eight examples of hard problems would be longer than a pre-training window.
    shots = (8,) if task.tier == "easy" else (4,)
    return replace(
        main,
        post=main.post.asking(task, max_new_tokens=new),
        evaluation=replace(main.evaluation, task=task, max_new_tokens=new, base_shots=shots),
    )


def _math_heavy(main: Study) -> Study:
    """Twice as much math, as hard as in the main mix."""
    pretrain = main.pretraining
    source = replace(pretrain.corpus, mixture=world_mixture(math_share=0.6, hard_share=0.2))
    return replace(
        main,
        pretrain=replace(pretrain, stream=replace(pretrain.stream, source=source), mix="math-heavy", math_heavy=True),
    )


def _larger(main: Study) -> Study:
    """Three times the parameters: on as many tokens, three times the FLOPs."""
    return replace(main, model=replace(main.model, width=160, layers=4, heads=5, mlp_width=427))


def _hotter(main: Study, starts: tuple[int, ...]) -> Study:
    """The recipes of C6 and C8 at other temperatures: of the last pre-trainings, whose weights were there."""
    evaluation = replace(main.evaluation, temperatures=(0.3, 1.0, 1.5))
    return replace(main, excursions=starts, recipes=_own("rl", "sft", "sft_rl", "parallel"), evaluation=evaluation)


def _rl_at_the_end(main: Study) -> tuple[Study, ...]:
    """RL on every tier from the last M_t."""
    last = replace(main, excursions=main.pretrain.checkpoints[-1:])
    return tuple(
        replace(_on(last, WorldProblems(tier)), recipes=_own("rl", hard=tier == "hard")) for tier in ("easy", "hard")
    )


def _longer() -> tuple[AnyRecipe, ...]:
    """Twice the updates: had the recipes converged when they were compared?"""
    steps = (f"rl_steps={2 * RL_STEPS}", f"sft_steps={2 * SFT_STEPS}")
    return tuple(own(r, *steps, label="twice the updates") for r in ("rl", "sft", "sft_rl", "parallel"))


def _rollouts(main: Study, updates: dict[int, tuple[int, ...]]) -> tuple[Study, ...]:
    """Few and many rollouts a prompt, on questions that the base finds easy or hard (the paper's split).

    ``updates``: for each number of rollouts a prompt, the updates to evaluate after. Every recipe is evaluated after
    the updates of both numbers, so at equal counts of examples and of rollouts.
    """
    post, last = main.post, main.pretrain.checkpoints[-1]
    grids = []
    for name, screen in (
        ("Easy", Screen(16, 64, extraction="flexible")),
        ("Hard", Screen(0, 8, extraction="flexible")),
    ):
        rl = replace(post.rl, source=replace(post.rl.source, screen=screen))
        recipes = tuple(
            own("rl", f"rl.lr={RATE_OF_N[n]:g}", f"rl.group_size={n}", f"rl_steps={steps[-1]}", label=f"{name}, n={n}")
            for n, steps in updates.items()
        )
        watched = Dynamics(last, recipes=("rl",), steps=tuple(chain(*updates.values())))
        evaluation = replace(main.evaluation, probes=None, heldout_tokens=0, dynamics=watched)
        asked = replace(post, rl=rl)
        grids.append(replace(main, excursions=(last,), post=asked, recipes=recipes, evaluation=evaluation))
    return tuple(grids)


def _crossed(main: Study) -> Study:
    """Bases with 0 to 8 examples, trained models with 8: did training teach only the form?"""
    crossed = replace(main.evaluation, base_shots=(8, 0, 1, 2, 4), trained_shots=(0, 8))
    return replace(main, recipes=_own("rl", "sft", "sft_rl", "parallel"), evaluation=crossed)
