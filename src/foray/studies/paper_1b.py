"""The paper's study at its own scale and settings: OLMo 2 1B on 50B tokens of DOLMino, nine M_t. For GPUs.

    foray prepare dolmino_50b --out DATA/dolmino_50b
    foray plan paper_1b --set data.root=DATA
    foray run paper_1b --set data.root=DATA

DATA also holds ``openmathinstruct2/train.jsonl``, ``gsm8k/train.jsonl``, ``gsm8k/test.jsonl`` and ``math/test.jsonl``
(docs/tasks.md).

A setting without a comment is ours. *Paper*: the text and figures of arXiv 2606.04272. *Code*: the authors'
repository, github RachitBansal/verl, a snapshot of May 2026, whose scripts show what was last set and not what each
published run used. Where text and code differ, one is the study's version and the other a variant of the part
``disputed``. *OLMo 2*: its report, arXiv 2501.00656. *Ours*: no source was found.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus, Demonstrations, Rollouts, Screen
from foray.core.stage import AdamW, AfterSFT, PostTraining, Stream, Together
from foray.data.prepare import load_mix, mixture
from foray.evals.benchmarks import Benchmarks
from foray.model.config import ModelConfig
from foray.study.spec import AnyRecipe, Data, Dynamics, Evaluation, Part, Pretrain, Published, Study, Variant
from foray.tasks.openmath import OpenMathInstruct

B = 1_000_000_000
ALL = ("rl", "sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel")
# OLMo 2 1B: untied embeddings, vocabulary 100278 padded to 100352, init 0.02 (OLMo 2, table 3).
MODEL = ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100_352, context=4096)
# The finished public model, on which the authors ran the rollout budgets (code).
FINISHED = ("allenai/OLMo-2-0425-1B", "main", 4_001 * B)
QUESTIONS = {"gsm8k": 71_000, "math": 400_000}
ALL_ROWS = 10_000  # of a question, for Gold: more than any has
INSTRUCTION = "Let's think step by step and output the final answer within \\boxed{}."  # code


def pretraining(mix: str, tokens: int, checkpoints: tuple[int, ...]) -> Pretrain:
    """Paper: AdamW, cosine, peak 4e-4, 512 sequences of 4096 tokens. The rest, the final tenth too, is OLMo 2's."""
    # Paper and code name no warm-up. OLMo 2 warms up over 2,000 steps (section 3.2), here of 23,842: M_t at 2B lies in
    # it, M_t at 4B at its end.
    adam = AdamW(lr=4e-4, weight_decay=0.1, warmup=0.084, schedule="cosine", final=0.1)
    corpus = Corpus(mixture(load_mix(mix), mix), batch_size=512, length=4096)
    stream = Stream("pretrain", corpus, CrossEntropy(z_loss=1e-5), adam, precision="bf16")
    return Pretrain(stream, tokens, checkpoints)


def optimizer(lr: float) -> AdamW:
    """Code: betas 0.9 and 0.999, decay 0.01 of every parameter, clip 1, a constant rate without warm-up."""
    return AdamW(lr=lr, betas=(0.9, 0.999), weight_decay=0.01, no_decay=(), clip=1.0)


def asked(like: str) -> OpenMathInstruct:
    """Code: OpenMathInstruct-2, augmented rows too; for GSM8K those of its kind, for MATH the whole set.

    Bases see 8 fixed examples that end in ``####``; trained models the instruction.
    """
    if like == "gsm8k":
        tests, examples = ("gsm8k/test.jsonl",), "gsm8k/train.jsonl"
        return OpenMathInstruct(2, "gsm8k", tests=tests, examples=examples, instruction=INSTRUCTION, solutions=ALL_ROWS)
    # Ours: the examples of MATH are training problems.
    return OpenMathInstruct(2, tests=("math/test.jsonl",), harder=True, instruction=INSTRUCTION, solutions=ALL_ROWS)


def posttraining(like: str) -> PostTraining:
    """Code, unless a comment says else. One "step" of the authors is a draw of 512 prompts × 32 rollouts."""
    # About 79,900 questions of GSM8K's kind, 1,000 more held out. Foray holds out a tenth, by the question's text.
    task, questions = asked(like), QUESTIONS[like]
    # Four updates a draw of 128 prompts each; k3 as a loss at 1e-3; dual clip 3; token mean; advantage / std. A format
    # reward of 0.1 stands on the command line and never reaches the reward: none here. A completion that is cut off has
    # the reward of its text. Prompts: up to 1,024 tokens.
    direct = Rollouts(
        task, questions, prompts=512, group_size=32, max_new_tokens=2048, updates_per_draw=4,
        validation=256, validate_every=10, cut_off="graded",
    )  # fmt: skip
    rl = Stream("rl", direct, PolicyGradient(dual_clip=3.0, kl=1e-3), optimizer(1e-6), precision="bf16")
    # The other recipes: one update a draw, no KL term, 512 new tokens.
    once = replace(direct, updates_per_draw=1, max_new_tokens=512)
    plain = replace(rl, source=once, objective=PolicyGradient(dual_clip=3.0))
    # The loss is the token sum, so the clip at 1 binds on nearly every step. MATH has a higher rate.
    one = Demonstrations(task, questions, solutions="first", batch_size=512, normalise="sum", max_new_tokens=512)
    sft = Stream("sft", one, CrossEntropy(), optimizer(4e-5 if like == "gsm8k" else 5e-4), precision="bf16")
    return PostTraining(
        rl,
        sft,
        # 400 draws at 2B, 600 to 1,560 elsewhere, one number a seed and M_t: 1,000 is ours, within them.
        rl_steps=4 * 1000,
        sft_steps=9_500,  # 61 epochs of the authors' questions, 68 of these
        # RL after SFT starts at SFT step 2,000, after SFT-Gold at 9,500; 600 steps or more; by the script at 4e-5.
        after_sft=AfterSFT(replace(plain, optimizer=optimizer(4e-5)), 600, 2_000, 9_500),
        # Published: RL 1e-6 and SFT 1e-6, 512 × 32 rollouts beside 512 rows, 2,200 steps.
        together=Together(plain, replace(sft, optimizer=optimizer(1e-6)), 2_200),
        # By script defaults: 20 SFT steps then 1 RL step; rounds of 200−k SFT and 1+k RL steps.
        turns=(20, 1),
        curriculum=(200, 1),
    )


def evaluation(like: str) -> Evaluation:
    """Paper: 32 samples at temperature 0.6. Code: top-p 0.95, 1,024 new tokens, flexible grading of GSM8K (bases and
    trained models alike), the first 1,000 documents of each benchmark, likelihood by length.
    """
    probes = Benchmarks(limit=1000, metric="acc_norm")
    return Evaluation(
        asked(like), problems=1319, samples=32, max_new_tokens=1024, base_shots=(8,), probes=probes, precision="bf16",
        top_p=0.95, grading="flexible", cut_off="graded",
    )  # fmt: skip


def study(model: ModelConfig = MODEL, name: str = "paper_1b") -> Study:
    """The main grid: GSM8K from nine M_t (paper)."""
    return Study(
        name=name,
        model=model,
        data=Data(vocab_size=100_352),
        pretrain=pretraining("dolmino_50b", 50 * B, tuple(t * B for t in (2, 4, 6, 10, 12, 14, 20, 28, 44))),
        post=posttraining("gsm8k"),
        recipes=ALL,
        evaluation=evaluation("gsm8k"),
        notes=(
            "The authors' jobs asked for about 192 H100 hours for one run of parallel averaging (code).",
            "M_t at 2B and 4B lie within the warm-up, whose length is OLMo 2's: the paper names none.",
        ),
    )


def parts(main: Study) -> tuple[Part, ...]:
    """The other experiments. Of the nine M_t the second to fourth are at 4, 6 and 10B tokens, the sixth is at 14B,
    the seventh at 20B."""
    starts = main.pretrain.checkpoints
    early, middle, late = starts[1:4], starts[5:6] or starts[-1:], starts[6:7] or starts[-1:]
    inside = replace(main.evaluation, dynamics=Dynamics(middle[0], points=6))
    dynamics = replace(main, excursions=middle, recipes=("rl", "sft_rl"), evaluation=inside)  # paper: from 14B
    shots = replace(main, recipes=(), evaluation=replace(main.evaluation, base_shots=(8, 0, 1)))
    hard = on_math(main, ("rl", "sft", "sft_rl"))
    # Ours: on the embedded world the order at pass@32 hangs on the temperature.
    hotter = replace(main.evaluation, temperatures=(0.3, 1.0, 1.5))
    asked_again = replace(main, excursions=late, recipes=("rl", "sft", "sft_rl", "parallel"), evaluation=hotter)
    return (
        Part("math", (hard,)),
        Part("seeds", _seeds(main, early)),
        Part("dynamics", (dynamics,)),
        Part("shots", (shots,)),
        Part("temperatures", (asked_again,)),
        Part("epochs", (_epochs(main, late),)),
        Part("dial", (_dial(main, late),)),
        Part("mixtures", _mixtures(main, starts[:1] + late, starts[5:6])),
        Part("disputed", _disputed(main, late)),
        Part("primed", (replace(main, recipes=("primed",), excursions=starts[:4]),)),
        Part("rollout_budget", rollout_budget(main)),
        Part("math_heavy", (math_heavy(hard),)),
    )


def _seeds(main: Study, early: tuple[int, ...]) -> tuple[Study, ...]:
    """Code: three seeds at 4B, four at 6B, three at 10B."""
    counts = (3, 4, 3)
    return tuple(
        replace(main, excursions=(tokens,), seeds=tuple(range(count)), recipes=("rl",))
        for tokens, count in zip(early, counts)
    )


def _epochs(main: Study, late: tuple[int, ...]) -> Study:
    """SFT inside its epochs."""
    steps = tuple(round(main.post.sft_steps * share) for share in (0.1, 0.25, 0.5))
    watched = Dynamics(late[0], ("sft",), steps=tuple(sorted({max(1, s) for s in steps})))
    return replace(main, excursions=late, recipes=("sft",), evaluation=replace(main.evaluation, dynamics=watched))


def _dial(main: Study, late: tuple[int, ...]) -> Study:
    """Code: parallel averaging from 20B at SFT's own rate, which the authors call failing, and at a tenth of RL's."""
    recipes = tuple(
        Variant("parallel", (f"together.sft.optimizer.lr={rate:g}", f"together.steps={steps}"), f"SFT at {rate:g}")
        for rate, steps in ((4e-5, _share(main, 1000)), (1e-7, _share(main, 1800)))
    )
    return replace(main, excursions=late, recipes=recipes)


def _share(main: Study, steps: int) -> int:
    """Of the 2,200 steps of parallel averaging, in a study that was shrunk by settings too."""
    return max(1, round(steps * main.post.side_by_side().steps / 2200))


def _mixtures(main: Study, starts: tuple[int, ...], between: tuple[int, ...]) -> tuple[Study, ...]:
    """Code: one optimizer at 4e-5 for both losses, on Gold and on one solution; tried and not published.

    The authors' numbers are from 2B and 20B, those of interleaving on Gold from 2B and 14B.
    """
    rate = ("together.rl.optimizer.lr=4e-5", "together.sft.optimizer.lr=4e-5")
    # Ours: interleaving ends after 475 rounds, 9,500 updates of SFT. `combined` has the updates of parallel
    # averaging, `curriculum` as many of RL (13,266 in all).
    rounds = (*rate, f"together.steps={_share(main, 475)}")
    settings = {"combined": rate, "interleaved": rounds, "curriculum": rate}
    # Parallel averaging on Gold gives the mixtures a partner on equal data.
    recipes: tuple[AnyRecipe, ...] = (
        *(Variant(n, how, n, "parallel") for n, how in settings.items()),
        *(Variant(f"{n}_gold", how, f"{n}, Gold", "parallel") for n, how in settings.items()),
        "parallel_gold",
    )
    grids = [replace(main, excursions=starts, recipes=recipes)]
    if between:
        in_turn = Variant("interleaved_gold", rounds, "interleaved, Gold", "parallel")
        grids.append(replace(main, excursions=between, recipes=(in_turn, "parallel_gold")))
    return tuple(grids)


def _disputed(main: Study, late: tuple[int, ...]) -> tuple[Study, ...]:
    """Where paper and code differ, or the code left a doubt: the other reading."""
    # The paper compares starting points at one algorithm; the scripts give RL after SFT 40 times the rate. C2 asks for
    # one rate at the last M_t.
    own_rate = Variant("sft_rl", ("after_sft.rl.optimizer.lr=1e-6",), "RL after SFT at RL's own rate")
    doubts = (
        Variant("sft_rl", (f"after_sft.sft_steps={main.post.sft_steps}",), "RL after the plotted SFT"),
        # The command line has a format reward of 0.1.
        Variant("rl", ("rl.source.format_reward=0.1",), "with the format reward"),
        # The paper trains until convergence; the scripts have fixed numbers of steps.
        Variant("rl", ("stop.updates=400", "stop.rise=0.005"), "until its validation rises no more"),
    )
    starts = tuple(sorted({*late, main.pretrain.checkpoints[-1]}))
    return (
        replace(main, excursions=starts, recipes=(own_rate,)),
        replace(main, excursions=late, recipes=doubts),
    )


def on_math(main: Study, recipes: tuple[str, ...]) -> Study:
    """The grid on MATH: the whole data set, and all 5,000 test problems. Graded by the last box (code)."""
    whole = posttraining("math")
    shrunk = main.post.questions != QUESTIONS["gsm8k"]  # by settings
    post = main.post.asking(whole.task, main.post.questions if shrunk else QUESTIONS["math"])
    rate = replace(post.sft.optimizer, lr=whole.sft.optimizer.lr)
    problems = main.evaluation.problems if main.evaluation.problems < 1319 else 5000
    graded = replace(main.evaluation, task=whole.task, problems=problems)
    return replace(main, post=replace(post, sft=replace(post.sft, optimizer=rate)), evaluation=graded, recipes=recipes)


def math_heavy(hard: Study) -> Study:
    """The same model on 60B tokens of a math-heavier mix, evaluated on MATH at its last M_t."""
    tokens = hard.pretrain.tokens * 6 // 5
    last = tokens * 14 // 15  # the numbers of this mix are those at 56B
    corpus = replace(hard.pretraining.corpus, mixture=mixture(load_mix("dolmino_math_60b"), "dolmino_math_60b"))
    stream = replace(hard.pretraining.stream, source=corpus)
    return replace(
        hard,
        pretrain=replace(
            hard.pretraining, stream=stream, tokens=tokens, checkpoints=(last,), mix="math-heavy", math_heavy=True
        ),
    )


def rollout_budget(main: Study) -> tuple[Study, ...]:
    """n = 5 and 64 on easy and on hard questions, from the finished public model (code).

    About 10,000 questions a split. Easy: 16 to 64 of the base's 64 samples right. Hard: 8 or fewer. 64 prompts a step,
    1e-6, KL 1e-3. Ours: the questions are the first that pass, of all.
    """
    grids = []
    questions = main.post.questions
    published = Published((FINISHED,), mix="OLMo-2-0425-1B")
    for word, screen in (
        ("Easy", Screen(16, 64, extraction="flexible", most=10_000)),
        ("Hard", Screen(0, 8, extraction="flexible", most=10_000)),
    ):
        prompts = min(64, getattr(main.post.rl.source, "prompts", 64))
        asking = main.post.asking(main.post.task, questions, screen=screen, prompts=prompts, updates_per_draw=1)
        post = replace(asking, together=None, after_sft=None)
        # Examples are equal at 75 to 600 updates. Rollouts are equal when n = 5 has 64 / 5 times as many updates.
        many, few = (75, 150, 300, 600), (75, 150, 300, 960, 1920, 3840)
        recipes = tuple(
            Variant("rl", (f"rl.source.group_size={n}", f"rl_steps={steps[-1]}"), f"{word}, n={n}")
            for n, steps in ((5, few), (64, many))
        )
        watched = Dynamics(FINISHED[2], ("rl",), steps=tuple(sorted({*many, *few})))
        seen = replace(main.evaluation, probes=None, dynamics=watched)
        grids.append(replace(main, pretrain=published, excursions=(), post=post, recipes=recipes, evaluation=seen))
    return tuple(grids)
