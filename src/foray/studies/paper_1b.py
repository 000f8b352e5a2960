"""The paper's study at its own scale: OLMo 2 1B on 50B tokens of DOLMino, excursions from nine M_t. For GPUs.

    foray prepare dolmino_50b --out DATA/dolmino_50b
    foray plan paper_1b --set data.root=DATA
    foray run paper_1b --set data.root=DATA

DATA also holds ``openmathinstruct2/train.jsonl``, ``gsm8k/test.jsonl`` and ``math/test.jsonl`` (README, tasks).
Pre-training and M_t are the paper's. A comment gives the source of every pre-training value that the paper lacks.
Grading and post-training's rates, batches and lengths are our choice. The authors' code differs (docs/claims.md, last
section).
"""

from __future__ import annotations

from dataclasses import replace

from foray.core.objectives import CrossEntropy, PolicyGradient
from foray.core.sources import Corpus, Demonstrations, Rollouts, Screen
from foray.core.stage import AdamW, PostTraining, Stream
from foray.data.prepare import load_mix, mixture
from foray.evals.benchmarks import Benchmarks
from foray.model.config import ModelConfig
from foray.study.spec import Data, Dynamics, Evaluation, Part, Pretrain, Study, Variant
from foray.tasks.openmath import OpenMathInstruct

B = 1_000_000_000
ALL = ("rl", "sft", "sft_gold", "sft_rl", "sft_gold_rl", "parallel")
# OLMo 2 1B: untied embeddings, vocabulary 100278 padded to 100352, init 0.02 (OLMo 2 report, table 3).
MODEL = ModelConfig(width=2048, layers=16, heads=16, mlp_width=8192, vocab_size=100_352, context=4096)


def pretraining(mix: str, tokens: int, checkpoints: tuple[int, ...]) -> Pretrain:
    """From the paper: AdamW, cosine to a tenth, peak 4e-4, 512 sequences of 4096 tokens. The rest is from OLMo 2."""
    # We found no warm-up in the paper. OLMo 2 warms up over 2,000 steps (its report, section 3.2), here of 23,842.
    adam = AdamW(lr=4e-4, weight_decay=0.1, warmup=0.084, schedule="cosine", final=0.1)
    corpus = Corpus(mixture(load_mix(mix), mix), batch_size=512, length=4096)
    stream = Stream("pretrain", corpus, CrossEntropy(z_loss=1e-5), adam, precision="bf16")
    return Pretrain(stream, tokens, checkpoints)


def posttraining(like: str) -> PostTraining:
    """Post-training on one kind of OpenMathInstruct-2's questions. Version 2 has the 23 solutions a question."""
    task = OpenMathInstruct(2, "gsm8k" if like == "gsm8k" else "math", tests=(f"{like}/test.jsonl",), augmented=False)
    questions = 6000
    # 64 prompts x 8 rollouts, 1e-6, no KL, clip 0.2, temperature 1: the middle of public GRPO recipes for 1B models
    # (5e-7 to 2e-6, 512 to 1,024 rollouts a step); about 1,000 steps. The paper's: 512 x 32, KL, four updates a draw.
    rollouts = Rollouts(task, questions, prompts=64, group_size=8, max_new_tokens=512)
    rl = Stream("rl", rollouts, PolicyGradient(), AdamW(lr=1e-6, warmup=0.03), precision="bf16")
    # Five epochs in batches of 64; the rate is of the order of public SFT recipes for 1B models. The paper's: 4e-5 and
    # about 61 epochs.
    adam = AdamW(lr=2e-5, warmup=0.03, schedule="linear", final=0.0)
    sft = Stream("sft", Demonstrations(task, questions, batch_size=64), CrossEntropy(), adam, precision="bf16")
    return PostTraining(rl, sft, rl_steps=1000, sft_steps=round(5 * questions / 64))


def evaluation(like: str) -> Evaluation:
    """All test problems x 32 samples at temperature 0.6, and six benchmarks. Bases 8-shot, trained models 0-shot."""
    task = posttraining(like).task
    return Evaluation(
        task, problems=1319, samples=32, max_new_tokens=512, base_shots=(8,), probes=Benchmarks(), precision="bf16"
    )


def study(model: ModelConfig = MODEL, name: str = "paper_1b") -> Study:
    """The main grid: GSM8K from nine M_t."""
    return Study(
        name=name,
        model=model,
        data=Data(vocab_size=100_352),
        pretrain=pretraining("dolmino_50b", 50 * B, tuple(t * B for t in (2, 4, 6, 10, 12, 14, 20, 28, 44))),
        post=posttraining("gsm8k"),
        recipes=ALL,
        evaluation=evaluation("gsm8k"),
    )


def parts(main: Study) -> tuple[Part, ...]:
    """The other experiments. The second to fourth of the nine M_t are at 4, 6 and 10B tokens, the seventh is at 20B."""
    starts = main.pretrain.checkpoints
    early, late = starts[1:4], starts[6:7] or starts[-1:]
    seeds = replace(main, excursions=early, seeds=(0, 1, 2, 3), recipes=("rl",))
    inside = replace(main.evaluation, dynamics=Dynamics(late[0], points=6))
    dynamics = replace(main, excursions=late, recipes=("rl", "sft_rl"), evaluation=inside)
    shots = replace(main, recipes=(), evaluation=replace(main.evaluation, base_shots=(8, 0, 1)))
    ten = Variant("sft", (f"sft_steps={2 * main.post.sft_steps}",), "10 epochs")
    hard = on_math(main, ("rl", "sft", "sft_rl"))
    return (
        Part("math", (hard,)),
        Part("seeds", (seeds,)),
        Part("dynamics", (dynamics,)),
        Part("shots", (shots,)),
        Part("epochs", (replace(main, excursions=late, recipes=(ten,)),)),
        Part("rollout_budget", rollout_budget(main, late[0])),
        Part("math_heavy", (math_heavy(hard),)),
    )


def on_math(main: Study, recipes: tuple[str, ...]) -> Study:
    """The grid on MATH: the same data set's MATH-like questions, and all 5,000 test problems."""
    task = posttraining("math").task
    problems = main.evaluation.problems if main.evaluation.problems < 1319 else 5000
    asked = replace(main.evaluation, task=task, problems=problems)
    return replace(main, post=main.post.asking(task), evaluation=asked, recipes=recipes)


def math_heavy(hard: Study) -> Study:
    """The same model on 60B tokens of a math-heavier mix, evaluated on MATH at its last M_t."""
    tokens = hard.pretrain.tokens * 6 // 5
    last = round(tokens * hard.pretrain.checkpoints[-1] / hard.pretrain.tokens)
    corpus = replace(hard.pretraining.corpus, mixture=mixture(load_mix("dolmino_math_60b"), "dolmino_math_60b"))
    stream = replace(hard.pretraining.stream, source=corpus)
    return replace(
        hard,
        pretrain=replace(
            hard.pretraining, stream=stream, tokens=tokens, checkpoints=(last,), mix="math-heavy", math_heavy=True
        ),
    )


def rollout_budget(main: Study, start: int) -> tuple[Study, ...]:
    """n = 5 and 64 on easy and on hard questions. Easy: 16 to 64 of the base's 64 samples right. Hard: at most 8."""
    grids = []
    for word, screen in (("Easy", Screen(16, 64)), ("Hard", Screen(0, 8))):
        rl = replace(main.post.rl, source=replace(main.post.rl.source, screen=screen))
        # Examples are equal at 75 to 300 updates. Rollouts are equal when n = 5 has 64 / 5 times as many updates.
        many, few = (75, 150, 300, 600), (75, 150, 300, 960, 1920, 3840)
        recipes = tuple(
            Variant("rl", (f"rl.source.group_size={n}", f"rl_steps={steps[-1]}"), f"{word}, n={n}")
            for n, steps in ((5, few), (64, many))
        )
        watched = Dynamics(start, ("rl",), steps=tuple(sorted({*many, *few})))
        asked = replace(main.evaluation, probes=None, dynamics=watched)
        post = replace(main.post, rl=rl)
        grids.append(replace(main, excursions=(start,), post=post, recipes=recipes, evaluation=asked))
    return tuple(grids)
