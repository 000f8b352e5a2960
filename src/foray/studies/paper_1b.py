"""The paper's study at its own scale: OLMo 2 1B on 50B tokens of DOLMino, excursions from nine M_t. For GPUs.

    foray prepare dolmino_50b --out DATA/dolmino_50b
    foray plan paper_1b --set data.root=DATA
    foray run paper_1b --set data.root=DATA

DATA also holds ``openmathinstruct2/train.jsonl``, ``gsm8k/test.jsonl`` and ``math/test.jsonl`` (README, tasks).
Settings are those of PAPER.md ("Protocol"); what the paper does not give is marked and has its source beside it.
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.stage import AdamW, Corpus, Demonstrations, PostTraining, Rollouts, Screen, Stream
from foray.data.prepare import load_mix, mixture
from foray.evals.benchmarks import Benchmarks
from foray.model.config import ModelConfig
from foray.study.spec import Data, Dynamics, Evaluation, Part, Pretrain, Study, Variant
from foray.tasks.openmath import OpenMathInstruct

B = 1_000_000_000
ALL = ("rl", "sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel")
# OLMo 2 1B: untied embeddings, vocabulary 100278 padded to 100352, init 0.02 (OLMo 2 report, table 3; PAPER.md).
MODEL = ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100_352, context=4096)


def pretraining(mix: str, tokens: int, checkpoints: tuple[int, ...], name: str = "") -> Pretrain:
    """AdamW, cosine to a tenth, peak 4e-4, 512 sequences of 4096 tokens (the paper); the rest is OLMo 2's."""
    # Warm-up was not found in the paper; OLMo 2 warms up over 2,000 steps (its report, section 3.2), here of 23,842.
    adam = AdamW(lr=4e-4, weight_decay=0.1, warmup=0.084, schedule="cosine", final=0.1)
    corpus = Corpus(mixture(load_mix(mix), mix), batch_size=512, length=4096)
    stream = Stream("pretrain", corpus, CrossEntropy(z_loss=1e-5), adam, precision="bf16")
    return Pretrain(stream, tokens, checkpoints, mix=name)


def posttraining(like: str) -> PostTraining:
    """On OpenMathInstruct-2's questions of one kind: its 23 solutions a question are version 2's (PAPER.md)."""
    task = OpenMathInstruct(2, "gsm8k" if like == "gsm8k" else "math", tests=(f"{like}/test.jsonl",), augmented=False)
    questions = 6000
    # 64 prompts x 8 rollouts, 1e-6, no KL, clip 0.2, temperature 1: the middle of public GRPO recipes for 1B models
    # (PAPER.md, "Recipes from each M_t": 5e-7 to 2e-6, 512 to 1,024 rollouts a step); about 1,000 steps.
    rollouts = Rollouts(task, questions, prompts=64, group_size=8, max_new_tokens=512)
    rl = Stream("rl", rollouts, PolicyGradient(), AdamW(lr=1e-6, warmup=0.03), precision="bf16")
    # Five epochs (the paper) of 64; the rate is of the order of public SFT recipes for 1B models.
    adam = AdamW(lr=2e-5, warmup=0.03, schedule="linear", final=0.0)
    sft = Stream("sft", Demonstrations(task, questions, batch_size=64), CrossEntropy(), adam, precision="bf16")
    return PostTraining(rl, sft, rl_steps=1000, sft_steps=round(5 * questions / 64))


def evaluation(like: str, dynamics: Dynamics | None = None) -> Evaluation:
    """All test problems x 32 samples at temperature 0.6; bases 8-shot, trained models 0-shot; six benchmarks."""
    post = posttraining(like).rl.source.task
    problems = 1319 if like == "gsm8k" else 5000
    return Evaluation(
        post, problems=problems, samples=32, k=(1, 8, 32), max_new_tokens=512, base_shots=(8,), probes=Benchmarks(),
        dynamics=dynamics,
    )  # fmt: skip


def study(model: ModelConfig = MODEL, name: str = "paper_1b") -> Study:
    main = Study(
        name=name,
        model=model,
        data=Data(vocab_size=100_352),
        pretrain=pretraining("dolmino_50b", 50 * B, tuple(t * B for t in (2, 4, 6, 10, 12, 14, 20, 28, 44))),
        post=posttraining("gsm8k"),
        recipes=ALL,
        evaluation=evaluation("gsm8k"),
    )
    early = replace(main, excursions=(4 * B, 6 * B, 10 * B), seeds=(0, 1, 2, 3), recipes=("rl",))
    inside = replace(
        main, excursions=(20 * B,), recipes=("rl", "sft_rl"),
        evaluation=replace(main.evaluation, dynamics=Dynamics(20 * B, points=6)),
    )  # fmt: skip
    shots = replace(main, recipes=(), evaluation=replace(main.evaluation, base_shots=(8, 0, 1)))
    ten = Variant("sft", (f"sft_steps={2 * main.post.sft_steps}",), "10 epochs")
    hard = replace(main, post=posttraining("math"), evaluation=evaluation("math"), recipes=("rl", "sft", "sft_rl"))
    return replace(
        main,
        parts=(
            Part("math", (hard,)),
            Part("seeds", (early,)),
            Part("dynamics", (inside,)),
            Part("shots", (shots,)),
            Part("epochs", (replace(main, excursions=(20 * B,), recipes=(ten,)),)),
            Part("rollout_budget", rollout_budget(main)),
            Part("math_heavy", (math_heavy(hard),)),
        ),
    )


def math_heavy(hard: Study) -> Study:
    """The same model on 60B tokens of a math-heavier mix, asked MATH at its last M_t."""
    rich = pretraining("dolmino_math_60b", 60 * B, (54 * B,), name="math-heavy")
    return replace(hard, pretrain=rich, recipes=("rl", "sft", "sft_rl"))


def rollout_budget(main: Study) -> tuple[Study, ...]:
    """n = 5 and 64 on questions that the base finds easy or hard: 16 to 64, or at most 8, of its 64 samples right."""
    start, grids = 20 * B, []
    for word, screen in (("Easy", Screen(16, 64)), ("Hard", Screen(0, 8))):
        rl = replace(main.post.rl, source=replace(main.post.rl.source, screen=screen))
        many, few = (75, 150, 300, 600), (75, 150, 300, 960, 1920, 3840)  # 64 / 5 = 12.8
        recipes = tuple(
            Variant("rl", (f"rl.source.group_size={n}", f"rl_steps={steps[-1]}"), f"{word}, n={n}")
            for n, steps in ((5, few), (64, many))
        )
        watched = Dynamics(start, ("rl",), steps=tuple(sorted({*many, *few})))
        asked = replace(main.evaluation, probes=None, dynamics=watched)
        post = replace(main.post, rl=rl)
        grids.append(replace(main, excursions=(start,), post=post, recipes=recipes, evaluation=asked))
    return tuple(grids)
